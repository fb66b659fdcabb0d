//! Tests of what must come to an end.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Long for a busy machine, short beside for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `work` gives, on a thread of its own; fails instead of waiting for ever.
///
/// # Panics
/// When `work` does, with its message, or takes longer than a minute.
pub fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = channel();
    let run = std::thread::spawn(move || {
        let found = work();
        // Whoever waited has given up; the test has failed by then.
        let _ = done.send(());
        found
    });
    let end = wait.recv_timeout(PATIENCE);
    assert!(
        !matches!(end, Err(RecvTimeoutError::Timeout)),
        "still waiting after {PATIENCE:?}"
    );
    run.join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
