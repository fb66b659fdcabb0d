//! What this processor offers, and how wide the kernels run on it.
//!
//! Kernels ask [`SimdLevel`]; this is the longer answer, for reports and for people. Detection reads the processor's own
//! identification once (the standard library keeps it), so it costs nothing to ask again.

use std::fmt;

use crate::dispatch::SimdLevel;
use crate::matmul::Bf16Engine;

/// The instruction sets of this machine that kernels can use.
///
/// ```
/// let features = nd_simd::detect_cpu_features();
/// println!("{features}");
/// assert_eq!(features.level, nd_simd::SimdLevel::best());
/// assert!(features.f32_lanes >= features.f64_lanes);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CpuFeatures {
    /// x86 SSE2: 128 bits. Every x86-64 processor has it, and the compiler uses it at [`SimdLevel::Scalar`] too.
    pub has_sse2: bool,
    /// x86 AVX2: 256 bits.
    pub has_avx2: bool,
    /// x86 FMA3: fused multiply-adds.
    pub has_fma: bool,
    /// The set that [`SimdLevel::Avx512`] needs: AVX-512 F, BW, CD, DQ and VL, 512 bits.
    pub has_avx512: bool,
    /// AVX-512 BF16: dot products of bf16 pairs.
    pub has_avx512_bf16: bool,
    /// AMX with bf16: products of tiles. The processor has it, the system saves the tiles, and this process has its permission, which
    /// Linux gives to those who ask, as the detection does. Products can be told not to use it: [`crate::matmul::Bf16Engine`].
    pub has_amx_bf16: bool,
    /// AVX-512 FP16: arithmetic in f16. No kernel uses it; products of f16 are widened.
    pub has_avx512_fp16: bool,
    /// x86 F16C: conversions between f16 and f32.
    pub has_f16c: bool,
    /// Arm NEON: 128 bits.
    pub has_neon: bool,
    /// The best level that kernels can run at here, whatever the environment asks for.
    pub level: SimdLevel,
    /// The f32 values that one vector of that level holds.
    pub f32_lanes: usize,
    /// The f64 values that one vector of that level holds.
    pub f64_lanes: usize,
}

/// Looks at the processor.
#[must_use]
pub fn detect_cpu_features() -> CpuFeatures {
    let level = SimdLevel::best();
    let bytes = match level {
        SimdLevel::Scalar => 0,
        SimdLevel::Neon => 16,
        SimdLevel::Avx2 => 32,
        SimdLevel::Avx512 => 64,
    };
    macro_rules! x86 {
        ($feature:tt) => {{
            #[cfg(target_arch = "x86_64")]
            let found = std::arch::is_x86_feature_detected!($feature);
            #[cfg(not(target_arch = "x86_64"))]
            let found = false;
            found
        }};
    }
    CpuFeatures {
        has_sse2: x86!("sse2"),
        has_avx2: x86!("avx2"),
        has_fma: x86!("fma"),
        has_avx512: SimdLevel::Avx512.is_supported(),
        has_avx512_bf16: x86!("avx512bf16"),
        has_amx_bf16: Bf16Engine::Amx.is_supported(),
        has_avx512_fp16: x86!("avx512fp16"),
        has_f16c: x86!("f16c"),
        has_neon: SimdLevel::Neon.is_supported(),
        level,
        f32_lanes: (bytes / size_of::<f32>()).max(1),
        f64_lanes: (bytes / size_of::<f64>()).max(1),
    }
}

/// Whether kernels have anything better than [`SimdLevel::Scalar`] here.
#[must_use]
pub fn is_simd_available() -> bool {
    SimdLevel::best() != SimdLevel::Scalar
}

impl fmt::Display for CpuFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            (self.has_sse2, "SSE2"),
            (self.has_avx2, "AVX2"),
            (self.has_fma, "FMA"),
            (self.has_f16c, "F16C"),
            (self.has_avx512, "AVX-512"),
            (self.has_avx512_bf16, "AVX-512 BF16"),
            (self.has_amx_bf16, "AMX BF16"),
            (self.has_avx512_fp16, "AVX-512 FP16"),
            (self.has_neon, "NEON"),
        ];
        write!(
            f,
            "{}: {} x f32, {} x f64 (",
            self.level, self.f32_lanes, self.f64_lanes
        )?;
        let mut names = named
            .iter()
            .filter(|(found, _)| *found)
            .map(|(_, name)| name);
        f.write_str(names.next().unwrap_or(&"no vector instructions"))?;
        names.try_for_each(|name| write!(f, ", {name}"))?;
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Isa, Kernel, Lanes, SimdReal, dispatch::dispatch};

    struct CountLanes<R>(std::marker::PhantomData<R>);

    impl<R: SimdReal> Kernel for CountLanes<R> {
        type Output = usize;
        #[inline(always)]
        fn run<S: Isa>(self, _: S) -> usize {
            Lanes::<S, R>::LEN
        }
    }

    #[test]
    fn the_lanes_are_those_of_the_kernels() {
        let features = detect_cpu_features();
        let lanes = dispatch(features.level, CountLanes::<f32>(std::marker::PhantomData));
        assert_eq!(features.f32_lanes, lanes);
        let lanes = dispatch(features.level, CountLanes::<f64>(std::marker::PhantomData));
        assert_eq!(features.f64_lanes, lanes);
        assert_eq!(is_simd_available(), features.f32_lanes > 1);
        assert_eq!(features.has_sse2, cfg!(target_arch = "x86_64"));
        assert_eq!(features.has_neon, cfg!(target_arch = "aarch64"));
        // The levels need what they say.
        let level = features.level;
        assert!(level != SimdLevel::Avx2 || (features.has_avx2 && features.has_fma));
        assert_eq!(level == SimdLevel::Avx512, features.has_avx512);
        assert!(!features.has_amx_bf16 || features.has_avx512_bf16);
    }

    #[test]
    fn a_report_names_what_there_is() {
        let features = CpuFeatures {
            has_sse2: true,
            has_avx2: true,
            has_fma: true,
            has_avx512: false,
            has_avx512_bf16: false,
            has_amx_bf16: false,
            has_avx512_fp16: false,
            has_f16c: false,
            has_neon: false,
            level: SimdLevel::Avx2,
            f32_lanes: 8,
            f64_lanes: 4,
        };
        assert_eq!(
            features.to_string(),
            "avx2: 8 x f32, 4 x f64 (SSE2, AVX2, FMA)"
        );
        let nothing = CpuFeatures {
            has_sse2: false,
            has_avx2: false,
            has_fma: false,
            level: SimdLevel::Scalar,
            f32_lanes: 1,
            f64_lanes: 1,
            ..features
        };
        assert_eq!(
            nothing.to_string(),
            "scalar: 1 x f32, 1 x f64 (no vector instructions)"
        );
    }
}
