//! Elements picked along the middle of three axes, and added back, by their indices.

/// `y[o, j, i] = x[o, ids[o, j, i], i]` for x `[outer, len, inner]` and ids `[outer, picks, inner]`.
#[must_use]
pub fn take_along(
    (outer, len, inner): (usize, usize, usize),
    picks: usize,
    x: &[f64],
    ids: &[usize],
) -> Vec<f64> {
    let mut y = Vec::with_capacity(ids.len());
    for o in 0..outer {
        for j in 0..picks {
            for i in 0..inner {
                y.push(x[(o * len + ids[(o * picks + j) * inner + i]) * inner + i]);
            }
        }
    }
    y
}

/// The gradient of [`take_along`].
#[must_use]
pub fn take_along_gradient(
    (outer, len, inner): (usize, usize, usize),
    picks: usize,
    dy: &[f64],
    ids: &[usize],
) -> Vec<f64> {
    let mut dx = vec![0.0; outer * len * inner];
    for o in 0..outer {
        for j in 0..picks {
            for i in 0..inner {
                let at = (o * picks + j) * inner + i;
                dx[(o * len + ids[at]) * inner + i] += dy[at];
            }
        }
    }
    dx
}
