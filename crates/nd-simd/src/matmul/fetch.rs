//! Memory that is read or written soon, asked for while a product computes.
//!
//! In its simple form: every second step of k, a prefetch of one more line. A product of operands that are in the caches has time for that, and
//! what is read next is there when it is; the processor's own prefetching begins when the reading does, and starts anew on every page.
//!
//! Known weakness: what does not fit into the steps of a product is not asked for, and single columns, one or two rows, blocks of fewer than four
//! rows, scalars and processors other than x86-64 ask for nothing.

use std::cell::Cell;

use nd_core::Element;

use super::kernel::{FAR, LINE, prefetch};
use super::view::MatRef;

/// Matrices that one product can ask for.
const MOST: usize = 4;

/// Matrices that are read or written soon, four at most: what [`super::multiply_fetching`] asks the caches for. Only where they lie is kept: to ask for
/// memory that is gone meanwhile does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fetch {
    runs: [Run; MOST],
    count: usize,
}

/// Lines of memory: so many in a row, and so many rows.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: *const u8,
    lines: usize,
    stride: usize,
    rows: usize,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            start: std::ptr::null(),
            lines: 0,
            stride: 0,
            rows: 0,
        }
    }
}

impl Fetch {
    /// This matrix; nothing, if its columns are not neighbours.
    #[must_use]
    pub fn of<T: Element>(matrix: MatRef<'_, T>) -> Self {
        Self::default().then(matrix)
    }

    /// One more matrix, after the others; a fifth one is not asked for.
    #[must_use]
    pub fn then<T: Element>(mut self, matrix: MatRef<'_, T>) -> Self {
        if let Some(run) = Run::of(matrix) {
            self.push(run);
        }
        self
    }

    /// What another asks for, after this; as much of it as there is room for.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for &run in &other.runs[..other.count] {
            self.push(run);
        }
        self
    }

    /// One more matrix, of so many rows of `row` elements, `stride` elements apart.
    pub(super) fn then_rows<T>(
        mut self,
        start: *const T,
        rows: usize,
        row: usize,
        stride: usize,
    ) -> Self {
        if let Some(run) = Run::rows(start, rows, row, stride) {
            self.push(run);
        }
        self
    }

    /// One more run, if there is room for it.
    fn push(&mut self, run: Run) {
        if let Some(place) = self.runs.get_mut(self.count) {
            *place = run;
            self.count += 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What a product asks for, if there is anything, and if this processor can be asked.
    pub(super) fn stream(self) -> Option<Stream> {
        self.slow_stream(1)
    }

    /// As [`Fetch::stream`], one line in so many steps.
    pub(super) fn slow_stream(self, pace: usize) -> Option<Stream> {
        (cfg!(target_arch = "x86_64") && !self.is_empty()).then(|| Stream::new(self, pace))
    }
}

impl Run {
    fn of<T: Element>(matrix: MatRef<'_, T>) -> Option<Self> {
        if matrix.col_stride() != 1 && matrix.cols() > 1 {
            return None;
        }
        let start = matrix.data().as_ptr();
        Self::rows(start, matrix.rows(), matrix.cols(), matrix.row_stride())
    }

    /// So many rows of `row` elements, `stride` elements apart; nothing, if there are none.
    fn rows<T>(start: *const T, rows: usize, row: usize, stride: usize) -> Option<Self> {
        let size = size_of::<T>();
        // A single row may have any stride.
        let (row, stride) = (row * size, stride.wrapping_mul(size));
        if rows == 0 || row == 0 {
            return None;
        }
        let (rows, row) = match stride == row {
            true => (1, rows * row),
            false => (rows, row),
        };
        let start = start.cast::<u8>();
        let within = start.addr() % LINE;
        // Where rows begin differently within their lines, as many as the worst of them has.
        let most = match rows == 1 || stride.is_multiple_of(LINE) {
            true => within,
            false => LINE - size,
        };
        Some(Self {
            start,
            lines: (most + row).div_ceil(LINE),
            stride,
            rows,
        })
    }
}

/// Where the line of an address begins.
#[inline(always)]
fn line_of(address: *const u8) -> *const u8 {
    address.wrapping_sub(address.addr() % LINE)
}

/// What is left to ask for.
pub(super) struct Stream {
    fetch: Fetch,
    /// Steps for each line, a power of two, less one.
    between: usize,
    /// The run that is asked for.
    run: Cell<usize>,
    /// Its rows that are left, and where the first of these begins.
    rows: Cell<usize>,
    row: Cell<*const u8>,
    /// Lines of that row that are left, zero in the end, and the first of these.
    lines: Cell<usize>,
    next: Cell<*const u8>,
}

impl Stream {
    fn new(fetch: Fetch, pace: usize) -> Self {
        debug_assert!(pace.is_power_of_two(), "one line in {pace} steps");
        let Run {
            start, lines, rows, ..
        } = fetch.runs[0];
        Self {
            fetch,
            between: pace - 1,
            run: Cell::new(0),
            rows: Cell::new(rows),
            row: Cell::new(start),
            lines: Cell::new(lines),
            next: Cell::new(line_of(start)),
        }
    }

    /// Asks for one more line, if it is time to.
    #[inline(always)]
    pub(super) fn step(&self, number: usize) {
        let lines = self.lines.get();
        if lines == 0 || number & self.between != 0 {
            return;
        }
        let next = self.next.get();
        prefetch::<u8, FAR>(next);
        self.next.set(next.wrapping_add(LINE));
        self.lines.set(lines - 1);
        if lines == 1 {
            self.next_row();
        }
    }

    // Inlined: a call in the midst of a kernel would save all of its sums.
    #[inline(always)]
    fn next_row(&self) {
        let mut run = &self.fetch.runs[self.run.get()];
        let rows = self.rows.get() - 1;
        if rows > 0 {
            self.rows.set(rows);
            self.row.set(self.row.get().wrapping_add(run.stride));
        } else if self.run.get() + 1 < MOST {
            self.run.set(self.run.get() + 1);
            // Behind the last one are empty ones.
            run = &self.fetch.runs[self.run.get()];
            self.rows.set(run.rows);
            self.row.set(run.start);
        } else {
            return;
        }
        self.next.set(line_of(self.row.get()));
        self.lines.set(run.lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that are asked for, relative to the first element.
    fn lines(fetch: Fetch, first: *const f32) -> Vec<isize> {
        let fast = lines_at(fetch, first, 1);
        assert_eq!(lines_at(fetch, first, 4), fast);
        fast
    }

    /// The same of a stream with this pace, whose lines come as far apart.
    fn lines_at(fetch: Fetch, first: *const f32, pace: usize) -> Vec<isize> {
        let stream = Stream::new(fetch, pace);
        let mut found = Vec::new();
        while stream.lines.get() > 0 {
            found.push(stream.next.get() as isize - first as isize);
            let state = |stream: &Stream| (stream.next.get(), stream.lines.get());
            let waits = state(&stream);
            for step in 1..pace {
                stream.step(step);
                assert_eq!(state(&stream), waits, "step {step} of {pace}");
            }
            stream.step(pace);
        }
        stream.step(0);
        assert_eq!(stream.lines.get(), 0, "the end");
        found
    }

    #[test]
    fn every_line_is_asked_for() {
        #[repr(align(64))]
        struct Aligned([f32; 400]);
        let data = &Aligned([0.0; 400]).0[..];
        let first = data.as_ptr();
        let gapless = MatRef::row_major(&data[..96], 6, 16);
        assert_eq!(
            lines(Fetch::of(gapless), first),
            [0, 64, 128, 192, 256, 320]
        );
        // Two lines of each row; from the middle of a line on, three.
        let wide = MatRef::strided(data, 3, 20, 64, 1);
        assert_eq!(lines(Fetch::of(wide), first), [0, 64, 256, 320, 512, 576]);
        let within = MatRef::strided(&data[15..], 2, 20, 64, 1);
        assert_eq!(lines(Fetch::of(within), first), [0, 64, 128, 256, 320, 384]);
        let both = Fetch::of(MatRef::strided(data, 1, 20, 64, 1)).then(within);
        assert_eq!(lines(both, first), [0, 64, 0, 64, 128, 256, 320, 384]);
        assert_eq!(lines(Fetch::of(gapless).and(both), first).len(), 6 + 8);
        assert_eq!(lines(Fetch::default().and(both), first), lines(both, first));
        assert_eq!(lines(both.and(Fetch::default()), first), lines(both, first));
        // A fifth matrix finds no room, wherever it comes from.
        let three = both.then(gapless);
        let full = lines(three.and(both), first);
        assert_eq!(
            full,
            lines(three.then(MatRef::strided(data, 1, 20, 64, 1)), first)
        );
        // Rows that begin anywhere within a line: all of theirs, at the price of one too many here and there.
        for from in [0, 15] {
            let odd = MatRef::strided(&data[from..], 3, 12, 24, 1);
            let found = lines(Fetch::of(odd), first);
            for row in 0..3 {
                let begin = 4 * from as isize + 96 * row;
                for byte in begin..begin + 48 {
                    assert!(found.contains(&(byte / 64 * 64)), "{byte}: {found:?}");
                }
            }
        }
        // Nothing, for an empty matrix or one whose columns are far apart.
        let nothing = [
            Fetch::default(),
            Fetch::of(MatRef::row_major(&data[..0], 0, 16)),
            Fetch::of(gapless.t()),
        ];
        for nothing in nothing {
            assert!(nothing.is_empty() && lines(nothing, first).is_empty());
        }
        let second = Fetch::of(gapless.t()).then(wide);
        assert_eq!(lines(second, first).len(), 6);
        let many = [wide; 5].into_iter().fold(second, Fetch::then);
        assert_eq!(lines(many, first).len(), 6 * MOST);
    }
}
