//! Copies drawn windows into a batch.

use nd_core::{Batch, BatchMut, Real, WindowSource};

use super::sampler::WindowIndex;

/// Rows that one task gathers: some tens of kilobytes, a few microseconds.
const ROWS_PER_TASK: usize = 64;

/// Gathers windows into the rows of a batch, in their order; over the threads of the current pool when `parallel`.
pub fn gather<R: Real>(
    source: &dyn WindowSource<R>,
    windows: &[WindowIndex],
    batch: &mut Batch<R>,
    parallel: bool,
) {
    if batch.layout() != source.layout() {
        *batch = Batch::new(source.layout());
    }
    batch.resize(windows.len());
    gather_rows(source, windows, batch.view_mut(), parallel);
}

fn gather_rows<R: Real>(
    source: &dyn WindowSource<R>,
    windows: &[WindowIndex],
    mut rows: BatchMut<'_, R>,
    parallel: bool,
) {
    if parallel && windows.len() > ROWS_PER_TASK {
        let half = windows.len() / 2;
        let (left, right) = windows.split_at(half);
        let (left_rows, right_rows) = rows.split_at(half);
        rayon::join(
            || gather_rows(source, left, left_rows, true),
            || gather_rows(source, right, right_rows, true),
        );
        return;
    }
    for (row, index) in windows.iter().enumerate() {
        source.gather(index.group, index.window, rows.row(row));
    }
}
