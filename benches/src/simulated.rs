//! What many machines would be worth: a cost model, not a measurement.
//!
//! In its simple form: a step takes as long as one machine needs for its share of the windows, plus the time that adding up the
//! gradients takes on the network, plus what every machine needs however few its windows are: the optimizer over all parameters, and
//! the weights to be read. Adding up is recursive doubling: `log2 P` exchanges in a fixed order, so that the sum has the same bits in every
//! run,
//!
//! ```text
//! T(P) = W_P t_w + t_0 + 2 ceil(log2 P) latency + 2 (P - 1) / P  4 bytes n / bandwidth
//! ```
//!
//! for `W_P = ceil(W / P)` windows a machine and `n` parameters (reduce-scatter and all-gather: each value crosses the wire twice).
//! Folds and points of a grid are whole fits: `ceil(K / P)` of them one after the other on a machine, after the data were
//! broadcast.
//!
//! A network or a loss that looks at the whole batch (`RowCoupling::BatchWide`, PatchTST) is trained in one process and has no column.
//!
//! Known weakness: a step is a straight line through its times for one window and for a whole batch; machines are equal, never fail and never wait for each other; links are not shared; nothing overlaps.

use std::fmt::Write;

/// What one machine needs for a model; measured, and an input of the model.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// The model.
    pub name: &'static str,
    /// Trainable parameters.
    pub parameters: f64,
    /// Seconds that one machine needs for a further window, forward and backward.
    pub window: f64,
    /// Seconds of a step that do not depend on its windows.
    pub fixed: f64,
}

/// A network between machines.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Its name.
    pub name: &'static str,
    /// Seconds that a message needs however short it is.
    pub latency: f64,
    /// Bytes a second in each direction.
    pub bandwidth: f64,
}

/// Networks of independent rows on two cores of an AMD EPYC (Zen 5): the line through a step of one window and one of 1024 (LSTM: 128), from
/// the table of docs/performance.md that says where the time of a step goes. 0.006 and 0.274 ms for DLinear, 3.2 and 41.2 ms for NHITS, 1.5
/// and 36.3 ms for LSTM.
pub const WORKLOADS: [Workload; 3] = [
    Workload {
        name: "DLinear",
        parameters: 4_656.0,
        window: 2.6e-7,
        fixed: 5.7e-6,
    },
    Workload {
        name: "NHITS",
        parameters: 2_633_034.0,
        window: 3.71e-5,
        fixed: 3.16e-3,
    },
    Workload {
        name: "LSTM",
        parameters: 215_809.0,
        window: 2.74e-4,
        fixed: 1.23e-3,
    },
];

/// Assumed, not measured: what such networks are usually good for.
pub const LINKS: [Link; 2] = [
    Link {
        name: "10 Gbit/s Ethernet, 30 us",
        latency: 30e-6,
        bandwidth: 1.25e9,
    },
    Link {
        name: "100 Gbit/s InfiniBand, 2 us",
        latency: 2e-6,
        bandwidth: 12.5e9,
    },
];

/// The numbers of machines in every table.
pub const NODES: [u32; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000];

/// Bytes of a gradient value on the wire.
const BYTES: f64 = 4.0;

fn rounds(nodes: u32) -> f64 {
    f64::from(nodes.next_power_of_two().trailing_zeros())
}

/// Seconds to add up the gradients of `nodes` machines, so that all have the sum.
#[must_use]
pub fn all_reduce(parameters: f64, nodes: u32, link: Link) -> f64 {
    let p = f64::from(nodes);
    2.0 * rounds(nodes) * link.latency + 2.0 * (p - 1.0) / p * BYTES * parameters / link.bandwidth
}

/// Seconds of a training step of `windows` windows over all machines.
#[must_use]
pub fn step(work: Workload, windows: u32, nodes: u32, link: Link) -> f64 {
    let own = f64::from(windows.div_ceil(nodes));
    own * work.window + work.fixed + all_reduce(work.parameters, nodes, link)
}

/// Seconds of `fits` equal fits, `data` bytes broadcast before and one message back for each.
#[must_use]
pub fn fits(fits: u32, seconds: f64, data: f64, nodes: u32, link: Link) -> f64 {
    let broadcast = rounds(nodes) * (link.latency + data / link.bandwidth);
    f64::from(fits.div_ceil(nodes)) * (seconds + 2.0 * link.latency) + broadcast
}

/// A column: its head, and its text for a number of machines.
type Cell<'a> = (String, Box<dyn Fn(u32) -> String + 'a>);

/// A table with a row for each number of machines, a column for each case.
fn table(title: &str, head: &str, cases: &[Cell<'_>]) -> String {
    let mut text = format!("### Simulated: {title}\n\n| {head} |");
    for (name, _) in cases {
        let _ = write!(text, " {name} |");
    }
    text.push_str(&format!("\n|---|{}\n", "---|".repeat(cases.len())));
    for nodes in NODES {
        let _ = write!(text, "| {nodes} |");
        for (_, cell) in cases {
            let _ = write!(text, " {} |", cell(nodes));
        }
        text.push('\n');
    }
    text
}

/// Every table of docs/scaling.md, as it stands there.
#[must_use]
pub fn tables() -> String {
    let mut parts = Vec::new();
    for link in LINKS {
        let strong = WORKLOADS.iter().map(|&work| -> Cell<'_> {
            let one = step(work, 1024, 1, link);
            let speedup = move |nodes| format!("{:.1}x", one / step(work, 1024, nodes, link));
            (work.name.to_owned(), Box::new(speedup))
        });
        parts.push(table(
            &format!(
                "speed-up of a training step of 1024 windows in all ({})",
                link.name
            ),
            "machines",
            &strong.collect::<Vec<_>>(),
        ));
        let weak = WORKLOADS.iter().map(|&work| -> Cell<'_> {
            let one = step(work, 1024, 1, link);
            let share = move |nodes: u32| {
                format!(
                    "{:.0} %",
                    100.0 * one / step(work, 1024 * nodes, nodes, link)
                )
            };
            (work.name.to_owned(), Box::new(share))
        });
        parts.push(table(
            &format!(
                "efficiency of a training step of 1024 windows on each machine ({})",
                link.name
            ),
            "machines",
            &weak.collect::<Vec<_>>(),
        ));
    }
    let ethernet = LINKS[0];
    // A panel of a million rows of f32 in four columns.
    let data = 16e6;
    let shards = [(5, 60.0), (100, 60.0), (1000, 60.0), (1000, 1.0)];
    let cases = shards.map(|(count, seconds)| -> Cell<'_> {
        let one = fits(count, seconds, data, 1, ethernet);
        let speedup =
            move |nodes| format!("{:.1}x", one / fits(count, seconds, data, nodes, ethernet));
        (format!("{count} fits of {seconds} s"), Box::new(speedup))
    });
    parts.push(table(
        &format!(
            "speed-up of folds and points of a grid, 16 MB of data ({})",
            ethernet.name
        ),
        "machines",
        &cases,
    ));
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_sends_nothing() {
        for link in LINKS {
            assert_eq!(all_reduce(1e6, 1, link), 0.0);
            for work in WORKLOADS {
                let alone = 1024.0 * work.window + work.fixed;
                assert!((step(work, 1024, 1, link) - alone).abs() < 1e-12);
            }
            assert!((fits(7, 3.0, 1e6, 1, link) - 7.0 * (3.0 + 2.0 * link.latency)).abs() < 1e-9);
        }
    }

    #[test]
    fn a_reduction_by_hand() {
        let link = Link {
            name: "",
            latency: 1.0,
            bandwidth: 4.0,
        };
        // Two values of four bytes: 2 (1 - 1/4) 8 bytes at 4 a second, and two rounds there and back.
        assert_eq!(all_reduce(2.0, 4, link), 3.0 + 4.0);
        // Five machines need three rounds.
        assert_eq!(all_reduce(0.0, 5, link), 6.0);
    }

    #[test]
    fn no_speed_up_is_beyond_the_machines() {
        for link in LINKS {
            for nodes in NODES {
                for work in WORKLOADS {
                    let speedup = step(work, 1024, 1, link) / step(work, 1024, nodes, link);
                    assert!(speedup <= f64::from(nodes) + 1e-9);
                }
                let all = fits(1000, 1.0, 1e6, 1, link) / fits(1000, 1.0, 1e6, nodes, link);
                assert!(all <= f64::from(nodes) + 1e-9);
            }
        }
    }

    #[test]
    fn every_table_says_that_it_is_simulated() {
        let text = tables();
        let titles: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(titles.len(), 5);
        assert!(
            titles
                .iter()
                .all(|title| title.starts_with("### Simulated: "))
        );
        let rules = text.lines().filter(|line| line.starts_with("|---|"));
        assert_eq!(rules.count(), 5);
    }
}
