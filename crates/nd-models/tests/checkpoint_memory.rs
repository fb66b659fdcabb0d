//! A hostile file costs a small multiple of its length in memory. One test: the counter sees the whole process.

use std::path::Path;

use nd_models::checkpoint::RawCheckpoint;
use nd_testing::alloc::{CountingAllocator, measure};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Bytes that reading may take for each byte of the file.
const MULTIPLE: usize = 8;
/// Bytes for messages and what else does not grow.
const CONSTANT: usize = 4096;

#[test]
fn a_hostile_file_costs_a_small_multiple_of_its_length() {
    const N: usize = 20_000;
    let repeated = |item: &dyn Fn(usize) -> String| (0..N).map(item).collect::<Vec<_>>().join(",");
    let metadata = r#""__metadata__":{"neuro_divergent":"1","config":"{}","data_bytes":"0","checksum":"0000000000000000"}"#;
    let empty = r#""dtype":"F32","shape":[0],"data_offsets":[0,0]"#;
    let headers = [
        format!("{{{}}}", repeated(&|i| format!("\"{i}\":{{}}"))),
        format!("{{{}}}", repeated(&|i| format!("\"{i}\":{{{empty}}}"))),
        format!(
            "{{{metadata},{}}}",
            repeated(&|i| format!("\"params.{i}\":{{{empty}}}"))
        ),
        format!(
            "{{{metadata},{}}}",
            repeated(&|_| format!("\"a\":{{{empty}}}"))
        ),
        format!(
            "{{\"__metadata__\":{{{}}}}}",
            repeated(&|i| format!("\"{i}\":\"\""))
        ),
        format!(
            "{{\"a\":{{\"shape\":[{}]}}}}",
            repeated(&|_| "1".to_owned())
        ),
        format!(
            "{{\"a\":{{\"data_offsets\":[{}]}}}}",
            repeated(&|_| "1".to_owned())
        ),
        format!("{{\"a\":{{\"dtype\":\"{}\"}}}}", "F".repeat(N)),
        format!("{{\"{}\":{{}}}}", "a".repeat(N)),
        format!("{{\"a\":{}", "[".repeat(N)),
        format!("{{\"a\":{}", "{\"a\":".repeat(N)),
        format!("{{\"a\":{{\"shape\":[{},{}]}}}}", u64::MAX, u64::MAX),
        "{\"a\":{\"dtype\":\"F64\",\"shape\":[1000000000000],\"data_offsets\":[0,8000000000000]}}"
            .to_owned(),
        format!(
            "{{{metadata},\"params.a\":{{\"dtype\":\"F64\",\"shape\":[1000000000000],\"data_offsets\":[0,8000000000000]}}}}"
        ),
    ];
    for header in &headers {
        for length in [header.len() as u64, 100_000_000, u64::MAX, 1 << 40] {
            let mut file = length.to_le_bytes().to_vec();
            file.extend(header.as_bytes());
            let size = file.len();
            let (result, used) = measure(|| RawCheckpoint::parse(file, Path::new("hostile")));
            let start: String = header.chars().take(60).collect();
            assert!(result.is_err(), "{start}");
            assert!(
                used.peak_bytes <= MULTIPLE * size + CONSTANT,
                "{start}: {} bytes for a file of {size}",
                used.peak_bytes
            );
        }
    }
}
