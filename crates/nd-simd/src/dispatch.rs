//! From a [`SimdLevel`] chosen at run time to a kernel compiled for that instruction set.
//!
//! A kernel is a struct that holds its arguments and implements [`Kernel`]: one generic body over the instruction set
//! `S`. [`dispatch`] picks the instruction set's token once per call and runs the body inside a function compiled with
//! that instruction set's features; that costs a few nanoseconds. Everything a kernel's body calls must be
//! `#[inline(always)]`, or the callee is compiled without the features. Closures cannot carry that attribute, which
//! is why the drivers of [`crate::map`] take small structs instead.
//!
//! [`Isa`] is pulp's `Simd` plus the few instructions that pulp's trait lacks: rounding, scaling by a power of two,
//! 64-bit shifts, and a minimum and maximum whose treatment of NaN is stated.
//!
//! The macro `instantiate!` compiles both element types of a kernel once, inside this crate. A plain generic function would be
//! compiled again for three instruction sets in every crate that calls it.
//!
//! Known weakness: kernels for tiny inputs pay the (uninlinable) call; code that runs many tiny kernels should dispatch once and
//! call their bodies from within one kernel.

use std::any::Any;

pub use nd_core::SimdLevel;
use pulp::{NullaryFnOnce, Scalar, Simd};

/// An instruction set: pulp's vector operations and the few that it lacks.
pub trait Isa: Simd {
    /// The level that this token proves available.
    const LEVEL: SimdLevel;

    /// Rounds to the nearest integer, ties to even.
    fn round_f32s(self, x: Self::f32s) -> Self::f32s;
    /// Rounds to the nearest integer, ties to even.
    fn round_f64s(self, x: Self::f64s) -> Self::f64s;

    /// `a > b ? a : b`: the second argument when either is NaN.
    #[inline(always)]
    fn larger_f32s(self, a: Self::f32s, b: Self::f32s) -> Self::f32s {
        self.select_f32s(self.greater_than_f32s(a, b), a, b)
    }
    /// `a > b ? a : b`: the second argument when either is NaN.
    #[inline(always)]
    fn larger_f64s(self, a: Self::f64s, b: Self::f64s) -> Self::f64s {
        self.select_f64s(self.greater_than_f64s(a, b), a, b)
    }
    /// `a < b ? a : b`: the second argument when either is NaN.
    #[inline(always)]
    fn smaller_f32s(self, a: Self::f32s, b: Self::f32s) -> Self::f32s {
        self.select_f32s(self.less_than_f32s(a, b), a, b)
    }
    /// `a < b ? a : b`: the second argument when either is NaN.
    #[inline(always)]
    fn smaller_f64s(self, a: Self::f64s, b: Self::f64s) -> Self::f64s {
        self.select_f64s(self.less_than_f64s(a, b), a, b)
    }

    /// Shifts each 64-bit word left, filling with zeros; `amount < 64`.
    fn shift_left_u64s(self, x: Self::u64s, amount: u32) -> Self::u64s;
    /// Shifts each 64-bit word right, filling with zeros; `amount < 64`.
    fn shift_right_u64s(self, x: Self::u64s, amount: u32) -> Self::u64s;

    /// `2^n` for whole numbers `n` from -126 to 127.
    #[inline(always)]
    fn power_of_two_f32s(self, n: Self::f32s) -> Self::f32s {
        // 1.5 * 2^23 + n has n in its low bits; shifted by 23 they land in the exponent field.
        let bits = self.transmute_u32s_f32s(self.add_f32s(n, self.splat_f32s(12_582_912.0)));
        let exponent = self.wrapping_dyn_shl_u32s(bits, self.splat_u32s(23));
        self.transmute_f32s_u32s(self.add_u32s(exponent, self.splat_u32s(1.0f32.to_bits())))
    }
    /// `2^n` for whole numbers `n` from -1022 to 1023.
    #[inline(always)]
    fn power_of_two_f64s(self, n: Self::f64s) -> Self::f64s {
        // As for f32, with 1.5 * 2^52.
        let magic = self.splat_f64s(6_755_399_441_055_744.0);
        let bits = self.transmute_u64s_f64s(self.add_f64s(n, magic));
        let exponent = self.shift_left_u64s(bits, 52);
        self.transmute_f64s_u64s(self.add_u64s(exponent, self.splat_u64s(1.0f64.to_bits())))
    }

    /// `x 2^n` for whole numbers `n` of at most 252 in size, rounded once also where the result is denormal, provided that
    /// `x` is in `[2^-40, 2^40]`.
    ///
    /// The power is split in two halves, each a normal number: `n` near -150 alone would have no representation.
    #[inline(always)]
    fn scale_by_power_f32s(self, x: Self::f32s, n: Self::f32s) -> Self::f32s {
        let half = self.round_f32s(self.mul_f32s(n, self.splat_f32s(0.5)));
        let rest = self.sub_f32s(n, half);
        let scaled = self.mul_f32s(x, self.power_of_two_f32s(half));
        self.mul_f32s(scaled, self.power_of_two_f32s(rest))
    }
    /// `x 2^n` for whole numbers `n` of at most 2044 in size, rounded once also where the result is denormal, provided that
    /// `x` is in `[2^-400, 2^400]`.
    #[inline(always)]
    fn scale_by_power_f64s(self, x: Self::f64s, n: Self::f64s) -> Self::f64s {
        let half = self.round_f64s(self.mul_f64s(n, self.splat_f64s(0.5)));
        let rest = self.sub_f64s(n, half);
        let scaled = self.mul_f64s(x, self.power_of_two_f64s(half));
        self.mul_f64s(scaled, self.power_of_two_f64s(rest))
    }
}

impl Isa for Scalar {
    const LEVEL: SimdLevel = SimdLevel::Scalar;

    #[inline(always)]
    fn round_f32s(self, x: f32) -> f32 {
        x.round_ties_even()
    }
    #[inline(always)]
    fn round_f64s(self, x: f64) -> f64 {
        x.round_ties_even()
    }
    #[inline(always)]
    fn larger_f32s(self, a: f32, b: f32) -> f32 {
        if a > b { a } else { b }
    }
    #[inline(always)]
    fn larger_f64s(self, a: f64, b: f64) -> f64 {
        if a > b { a } else { b }
    }
    #[inline(always)]
    fn smaller_f32s(self, a: f32, b: f32) -> f32 {
        if a < b { a } else { b }
    }
    #[inline(always)]
    fn smaller_f64s(self, a: f64, b: f64) -> f64 {
        if a < b { a } else { b }
    }
    #[inline(always)]
    fn shift_left_u64s(self, x: u64, amount: u32) -> u64 {
        x << amount
    }
    #[inline(always)]
    fn shift_right_u64s(self, x: u64, amount: u32) -> u64 {
        x >> amount
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Isa, SimdLevel};
    use pulp::Simd;
    use pulp::x86::{V3, V4};

    impl Isa for V3 {
        const LEVEL: SimdLevel = SimdLevel::Avx2;

        #[inline(always)]
        fn round_f32s(self, x: Self::f32s) -> Self::f32s {
            self.round_f32x8(x)
        }
        #[inline(always)]
        fn round_f64s(self, x: Self::f64s) -> Self::f64s {
            self.round_f64x4(x)
        }
        // One instruction each: `vmaxps` returns its second operand when either is NaN.
        #[inline(always)]
        fn larger_f32s(self, a: Self::f32s, b: Self::f32s) -> Self::f32s {
            self.max_f32s(a, b)
        }
        #[inline(always)]
        fn larger_f64s(self, a: Self::f64s, b: Self::f64s) -> Self::f64s {
            self.max_f64s(a, b)
        }
        #[inline(always)]
        fn smaller_f32s(self, a: Self::f32s, b: Self::f32s) -> Self::f32s {
            self.min_f32s(a, b)
        }
        #[inline(always)]
        fn smaller_f64s(self, a: Self::f64s, b: Self::f64s) -> Self::f64s {
            self.min_f64s(a, b)
        }
        #[inline(always)]
        fn shift_left_u64s(self, x: Self::u64s, amount: u32) -> Self::u64s {
            self.shl_dyn_u64x4(x, self.splat_u64s(u64::from(amount)))
        }
        #[inline(always)]
        fn shift_right_u64s(self, x: Self::u64s, amount: u32) -> Self::u64s {
            self.shr_dyn_u64x4(x, self.splat_u64s(u64::from(amount)))
        }
    }

    impl Isa for V4 {
        const LEVEL: SimdLevel = SimdLevel::Avx512;

        #[inline(always)]
        fn round_f32s(self, x: Self::f32s) -> Self::f32s {
            // Nearest even, exceptions quiet, no fraction bits. (pulp 0.22.3's own `round_f32x16` rounds pairs of
            // lanes as if they were f64.)
            pulp::cast(self.avx512f._mm512_roundscale_ps::<0x08>(pulp::cast(x)))
        }
        #[inline(always)]
        fn round_f64s(self, x: Self::f64s) -> Self::f64s {
            pulp::cast(self.avx512f._mm512_roundscale_pd::<0x08>(pulp::cast(x)))
        }
        #[inline(always)]
        fn larger_f32s(self, a: Self::f32s, b: Self::f32s) -> Self::f32s {
            self.max_f32s(a, b)
        }
        #[inline(always)]
        fn larger_f64s(self, a: Self::f64s, b: Self::f64s) -> Self::f64s {
            self.max_f64s(a, b)
        }
        #[inline(always)]
        fn smaller_f32s(self, a: Self::f32s, b: Self::f32s) -> Self::f32s {
            self.min_f32s(a, b)
        }
        #[inline(always)]
        fn smaller_f64s(self, a: Self::f64s, b: Self::f64s) -> Self::f64s {
            self.min_f64s(a, b)
        }
        #[inline(always)]
        fn shift_left_u64s(self, x: Self::u64s, amount: u32) -> Self::u64s {
            self.shl_dyn_u64x8(x, self.splat_u64s(u64::from(amount)))
        }
        #[inline(always)]
        fn shift_right_u64s(self, x: Self::u64s, amount: u32) -> Self::u64s {
            self.shr_dyn_u64x8(x, self.splat_u64s(u64::from(amount)))
        }
        // One instruction, any exponent.
        #[inline(always)]
        fn power_of_two_f32s(self, n: Self::f32s) -> Self::f32s {
            self.scale_by_power_f32s(self.splat_f32s(1.0), n)
        }
        #[inline(always)]
        fn power_of_two_f64s(self, n: Self::f64s) -> Self::f64s {
            self.scale_by_power_f64s(self.splat_f64s(1.0), n)
        }
        #[inline(always)]
        fn scale_by_power_f32s(self, x: Self::f32s, n: Self::f32s) -> Self::f32s {
            pulp::cast(self.avx512f._mm512_scalef_ps(pulp::cast(x), pulp::cast(n)))
        }
        #[inline(always)]
        fn scale_by_power_f64s(self, x: Self::f64s, n: Self::f64s) -> Self::f64s {
            pulp::cast(self.avx512f._mm512_scalef_pd(pulp::cast(x), pulp::cast(n)))
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::{Isa, SimdLevel};
    use pulp::aarch64::Neon;

    impl Isa for Neon {
        const LEVEL: SimdLevel = SimdLevel::Neon;

        #[inline(always)]
        fn round_f32s(self, x: Self::f32s) -> Self::f32s {
            pulp::cast(self.neon.vrndnq_f32(pulp::cast(x)))
        }
        #[inline(always)]
        fn round_f64s(self, x: Self::f64s) -> Self::f64s {
            pulp::cast(self.neon.vrndnq_f64(pulp::cast(x)))
        }
        #[inline(always)]
        fn shift_left_u64s(self, x: Self::u64s, amount: u32) -> Self::u64s {
            let words: [u64; 2] = pulp::cast(x);
            pulp::cast(words.map(|word| word << amount))
        }
        #[inline(always)]
        fn shift_right_u64s(self, x: Self::u64s, amount: u32) -> Self::u64s {
            let words: [u64; 2] = pulp::cast(x);
            pulp::cast(words.map(|word| word >> amount))
        }
    }
}

/// A computation written once for every instruction set.
///
/// ```
/// use nd_simd::{Isa, Kernel, Lanes, SimdLevel, dispatch};
///
/// struct Double<'a>(&'a mut [f32]);
///
/// impl Kernel for Double<'_> {
///     type Output = ();
///     #[inline(always)]
///     fn run<S: Isa>(self, simd: S) {
///         for chunk in self.0.chunks_mut(Lanes::<S, f32>::LEN) {
///             let x = Lanes::load_partial(simd, chunk);
///             (x + x).store_partial(chunk);
///         }
///     }
/// }
///
/// let mut x = vec![1.5; 37];
/// dispatch(SimdLevel::current(), Double(&mut x));
/// assert_eq!(x, vec![3.0; 37]);
/// ```
pub trait Kernel {
    /// What the computation returns.
    type Output;
    /// The body; must be marked `#[inline(always)]`, as everything it calls.
    fn run<S: Isa>(self, simd: S) -> Self::Output;
}

/// A kernel and its token, in the form that pulp calls.
struct Call<K, S> {
    kernel: K,
    simd: S,
}

impl<K: Kernel, S: Isa> NullaryFnOnce for Call<K, S> {
    type Output = K::Output;

    #[inline(always)]
    fn call(self) -> K::Output {
        self.kernel.run(self.simd)
    }
}

/// Runs a kernel with the instruction set of a level.
///
/// # Panics
/// The machine cannot run the level.
#[inline]
#[track_caller]
pub fn dispatch<K: Kernel>(level: SimdLevel, kernel: K) -> K::Output {
    match level {
        SimdLevel::Scalar => kernel.run(Scalar),
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2 => match pulp::x86::V3::try_new() {
            Some(simd) => simd.vectorize(Call { kernel, simd }),
            None => unsupported(level),
        },
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512 => match pulp::x86::V4::try_new() {
            Some(simd) => simd.vectorize(Call { kernel, simd }),
            None => unsupported(level),
        },
        #[cfg(target_arch = "aarch64")]
        SimdLevel::Neon => match pulp::aarch64::Neon::try_new() {
            Some(simd) => simd.vectorize(Call { kernel, simd }),
            None => unsupported(level),
        },
        #[allow(
            unreachable_patterns,
            reason = "which levels are left depends on the architecture"
        )]
        _ => unsupported(level),
    }
}

#[cold]
#[inline(never)]
#[track_caller]
pub(crate) fn unsupported(level: SimdLevel) -> ! {
    panic!(
        "SIMD level {level} was asked for, but this machine runs at most {}; choose one of \
         SimdLevel::supported()",
        SimdLevel::best()
    )
}

/// Picks between the `f32` and the `f64` instance of one function by the type that is wanted.
///
/// The comparison of types is settled at compile time.
///
/// # Panics
/// Neither has the wanted type, which [`instantiate`] cannot produce.
#[inline(always)]
pub(crate) fn instance<F32: Any, F64: Any, Wanted: Any + Copy>(on_f32: F32, on_f64: F64) -> Wanted {
    let on_f32: &dyn Any = &on_f32;
    let on_f64: &dyn Any = &on_f64;
    match on_f32
        .downcast_ref::<Wanted>()
        .or_else(|| on_f64.downcast_ref::<Wanted>())
    {
        Some(&function) => function,
        None => unreachable!("a kernel exists for f32 and f64"),
    }
}

/// Declares a public function, generic over the element type, whose body is compiled once for `f32` and once for `f64`
/// inside this crate.
///
/// `pub fn name<R>(level: SimdLevel, x: &[R]) -> R { checks } then { body }`: callers elsewhere compile only the checks (so
/// that a panic names their line) and a direct call.
macro_rules! instantiate {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident<$R:ident>($($arg:ident: $type:ty),* $(,)?) $(-> $output:ty)?
        $check:block
        then $body:block
    ) => {
        $(#[$meta])*
        #[track_caller]
        #[inline]
        #[allow(clippy::too_many_arguments, reason = "a kernel names its slices one by one")]
        $vis fn $name<$R: $crate::lanes::SimdReal>($($arg: $type),*) $(-> $output)? {
            $check
            #[allow(clippy::too_many_arguments, reason = "as above")]
            #[inline(always)]
            fn generic<$R: $crate::lanes::SimdReal>($($arg: $type),*) $(-> $output)? $body
            let on_f32 = {
                type $R = f32;
                #[allow(clippy::too_many_arguments, reason = "as above")]
                #[inline(never)]
                fn concrete($($arg: $type),*) $(-> $output)? {
                    generic::<$R>($($arg),*)
                }
                concrete as fn($($type),*) $(-> $output)?
            };
            let on_f64 = {
                type $R = f64;
                #[allow(clippy::too_many_arguments, reason = "as above")]
                #[inline(never)]
                fn concrete($($arg: $type),*) $(-> $output)? {
                    generic::<$R>($($arg),*)
                }
                concrete as fn($($type),*) $(-> $output)?
            };
            let call: fn($($type),*) $(-> $output)? = $crate::dispatch::instance(on_f32, on_f64);
            call($($arg),*)
        }
    };
}
pub(crate) use instantiate;

/// Asserts that two slices have the same length, naming both.
#[inline]
#[track_caller]
pub(crate) fn same_length(name: &str, len: usize, other: &str, other_len: usize) {
    if len != other_len {
        length_mismatch(name, len, other, other_len);
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn length_mismatch(name: &str, len: usize, other: &str, other_len: usize) -> ! {
    panic!("`{name}` has {len} elements but `{other}` has {other_len}; they must be equal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::{Lanes, SimdReal};

    struct CountLanes<R>(std::marker::PhantomData<R>);

    impl<R: SimdReal> Kernel for CountLanes<R> {
        type Output = (SimdLevel, usize);
        #[inline(always)]
        fn run<S: Isa>(self, _simd: S) -> (SimdLevel, usize) {
            (S::LEVEL, Lanes::<S, R>::LEN)
        }
    }

    #[test]
    fn a_level_reaches_its_token() {
        for level in nd_testing::levels() {
            let (ran, lanes) = dispatch(level, CountLanes::<f32>(std::marker::PhantomData));
            assert_eq!(ran, level);
            let expected = match level {
                SimdLevel::Scalar => 1,
                SimdLevel::Neon => 4,
                SimdLevel::Avx2 => 8,
                SimdLevel::Avx512 => 16,
            };
            assert_eq!(lanes, expected);
            let (_, doubles) = dispatch(level, CountLanes::<f64>(std::marker::PhantomData));
            assert_eq!(doubles, expected.div_ceil(2));
        }
    }

    #[test]
    fn an_unsupported_level_panics_with_its_name() {
        let foreign = if cfg!(target_arch = "aarch64") {
            SimdLevel::Avx2
        } else {
            SimdLevel::Neon
        };
        let error = std::panic::catch_unwind(|| {
            dispatch(foreign, CountLanes::<f32>(std::marker::PhantomData))
        })
        .unwrap_err();
        let message = error.downcast_ref::<String>().unwrap();
        assert!(message.contains(&foreign.to_string()), "{message}");
    }

    instantiate! {
        fn size_of_element<R>(x: &[R]) -> usize
        { same_length("x", x.len(), "x", x.len()); }
        then { size_of_val(x) }
    }

    #[test]
    fn instances_are_picked_by_type() {
        assert_eq!(size_of_element(&[0.0f32; 3]), 12);
        assert_eq!(size_of_element(&[0.0f64; 3]), 24);
    }
}
