//! What peers reached on another machine: two cores of an AMD EPYC (Zen 4, AVX-512; f32 multiply-adds peak at 106 to 112
//! GFLOP/s a core), one thread, f32. Not measured here: a ratio with them says nothing, but they tell how the peers stand among themselves.

use super::{Pass, SIZES, Size};

/// Recorded times of one case in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// The dimensions.
    pub size: Size,
    /// Whether the mask is causal.
    pub causal: bool,
    /// What was timed.
    pub pass: Pass,
    /// Who, and how long.
    pub times: &'static [(&'static str, f64)],
}

const fn row(
    size: Size,
    causal: bool,
    pass: Pass,
    times: &'static [(&'static str, f64)],
) -> Recorded {
    Recorded {
        size,
        causal,
        pass,
        times,
    }
}

/// All that were recorded: torch 2.15, candle 0.11, burn's flex backend.
pub const RECORDED: [Recorded; 12] = [
    row(
        SIZES[0],
        false,
        Pass::Forward,
        &[
            ("torch flash", 8.5),
            ("torch math", 15.2),
            ("candle", 9.9),
            ("burn-flex", 13.1),
        ],
    ),
    row(
        SIZES[0],
        true,
        Pass::Forward,
        &[
            ("torch flash", 8.3),
            ("torch math", 17.4),
            ("burn-flex", 12.0),
        ],
    ),
    row(
        SIZES[0],
        false,
        Pass::Both,
        &[("torch flash", 30.1), ("torch math", 34.0)],
    ),
    row(
        SIZES[0],
        true,
        Pass::Both,
        &[("torch flash", 28.0), ("torch math", 36.0)],
    ),
    row(
        SIZES[2],
        false,
        Pass::Forward,
        &[
            ("torch flash", 33.2),
            ("torch math", 78.3),
            ("candle", 60.0),
            ("burn-flex", 70.0),
        ],
    ),
    row(
        SIZES[2],
        true,
        Pass::Forward,
        &[
            ("torch flash", 33.6),
            ("torch math", 63.6),
            ("burn-flex", 74.0),
        ],
    ),
    row(
        SIZES[2],
        false,
        Pass::Both,
        &[("torch flash", 105.0), ("torch math", 166.0)],
    ),
    row(
        SIZES[2],
        true,
        Pass::Both,
        &[("torch flash", 107.0), ("torch math", 160.0)],
    ),
    row(
        SIZES[3],
        false,
        Pass::Forward,
        &[
            ("torch flash", 130.0),
            ("torch math", 455.0),
            ("candle", 552.0),
            ("burn-flex", 301.0),
        ],
    ),
    row(
        SIZES[3],
        true,
        Pass::Forward,
        &[
            ("torch flash", 94.0),
            ("torch math", 371.0),
            ("burn-flex", 298.0),
        ],
    ),
    row(
        SIZES[3],
        false,
        Pass::Both,
        &[("torch flash", 502.0), ("torch math", 803.0)],
    ),
    row(
        SIZES[3],
        true,
        Pass::Both,
        &[("torch flash", 360.0), ("torch math", 1020.0)],
    ),
];
