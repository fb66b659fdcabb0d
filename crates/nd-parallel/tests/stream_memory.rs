//! A stream's memory does not grow with its length.

use nd_parallel::{BoxError, CHUNKS_PER_LANE, Parallel, ParallelConfig, Predict};
use nd_testing::alloc::{CountingAllocator, measure};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Bytes of a sample and of a prediction.
const BYTES: usize = 64 << 10;

struct Copies;

impl Predict<Vec<u8>, Vec<u8>> for Copies {
    fn predict(&self, sample: &Vec<u8>) -> Result<Vec<u8>, BoxError> {
        // Some are slow, so that the others run ahead as far as they may.
        if sample[0].is_multiple_of(29) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Ok(sample.clone())
    }
}

#[test]
fn no_more_than_the_chunks_in_flight_are_alive() {
    let (threads, chunk_size) = (2, 4);
    let config = ParallelConfig {
        max_threads: Some(threads),
        chunk_size,
    };
    let run = |samples: usize| {
        let mut bytes = 0;
        let source = (0..samples).map(|i| vec![i as u8; BYTES]);
        let end = Parallel::new(config)
            .stream(&Copies, source, |_, result| {
                bytes += result.expect("a copy").len()
            })
            .expect("a stream");
        assert_eq!((end.samples, bytes), (samples, samples * BYTES));
    };
    // Threads are started once.
    run(16);
    let chunks = CHUNKS_PER_LANE * threads;
    for samples in [200, 2000] {
        let ((), used) = measure(|| run(samples));
        // Inputs and predictions of all chunks in flight, and little else.
        let most = 2 * chunks * chunk_size * BYTES + (64 << 10);
        assert!(
            used.peak_bytes <= most,
            "{} bytes for {samples} samples, expected at most {most}",
            used.peak_bytes
        );
    }
}
