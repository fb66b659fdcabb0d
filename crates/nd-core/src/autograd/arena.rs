//! An append-only list whose elements keep their address, so that earlier elements can be read while later ones are
//! added. In its simple form: a list of chunks, each twice as long as the one before, of cells that are set once.

use std::cell::{Cell, OnceCell};

/// The length of the first chunk.
const FIRST: usize = 64;
/// Enough chunks for more elements than memory can hold.
const CHUNKS: usize = 32;

pub(super) struct Arena<T> {
    chunks: [OnceCell<Box<[OnceCell<T>]>>; CHUNKS],
    len: Cell<usize>,
}

/// The chunk of an index and the place in it.
fn place(index: usize) -> (usize, usize) {
    let chunk = ((index + FIRST) / FIRST).ilog2() as usize;
    (chunk, index + FIRST - (FIRST << chunk))
}

impl<T> Arena<T> {
    pub(super) fn new() -> Self {
        Self {
            chunks: [const { OnceCell::new() }; CHUNKS],
            len: Cell::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.get()
    }

    pub(super) fn push(&self, value: T) -> usize {
        let index = self.len.get();
        let (chunk, at) = place(index);
        let cells = self.chunks[chunk]
            .get_or_init(|| (0..FIRST << chunk).map(|_| OnceCell::new()).collect());
        let fresh = cells[at].set(value).is_ok();
        assert!(fresh, "a cell beyond the end of an arena is empty");
        self.len.set(index + 1);
        index
    }

    pub(super) fn get(&self, index: usize) -> &T {
        let (chunk, at) = place(index);
        let cell = self.chunks[chunk].get().and_then(|cells| cells[at].get());
        cell.unwrap_or_else(|| panic!("node {index} does not exist: the tape has {}", self.len()))
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut T {
        let (chunk, at) = place(index);
        let len = self.len();
        let cell = self.chunks[chunk]
            .get_mut()
            .and_then(|cells| cells[at].get_mut());
        cell.unwrap_or_else(|| panic!("node {index} does not exist: the tape has {len}"))
    }

    /// Empties the list, last element first, keeping its memory.
    pub(super) fn drain(&mut self, mut take: impl FnMut(T)) {
        for index in (0..self.len()).rev() {
            let (chunk, at) = place(index);
            let cell = self.chunks[chunk]
                .get_mut()
                .and_then(|cells| cells[at].take());
            self.len.set(index);
            if let Some(value) = cell {
                take(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_consecutive() {
        let mut expected = (0, 0);
        for index in 0..10_000 {
            assert_eq!(place(index), expected);
            expected.1 += 1;
            if expected.1 == FIRST << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
    }

    #[test]
    fn references_survive_growth() {
        let mut arena = Arena::new();
        arena.push(0usize);
        let first = arena.get(0);
        for i in 1..1000 {
            arena.push(i);
        }
        assert_eq!(*first, 0);
        *arena.get_mut(999) += 1;
        assert_eq!(*arena.get(999), 1000);
        let mut seen = 0;
        arena.drain(|_| seen += 1);
        assert_eq!((seen, arena.len()), (1000, 0));
        arena.push(5);
        assert_eq!(*arena.get(0), 5);
    }
}
