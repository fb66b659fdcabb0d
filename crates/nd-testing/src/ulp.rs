//! Distances in units in the last place.

macro_rules! ulp_distance {
    ($name:ident, $float:ty, $int:ty, $wide:ty) => {
        /// The number of representable values between `a` and `b`; zero for two NaNs, the maximum for a NaN and a number.
        #[must_use]
        pub fn $name(a: $float, b: $float) -> $wide {
            if a.is_nan() || b.is_nan() {
                return if a.is_nan() && b.is_nan() {
                    0
                } else {
                    <$wide>::MAX
                };
            }
            // Maps the floats to integers in their own order, with both zeros at zero.
            let order = |x: $float| {
                let bits = x.to_bits() as $int;
                if bits < 0 {
                    <$int>::MIN.wrapping_sub(bits)
                } else {
                    bits
                }
            };
            order(a).abs_diff(order(b))
        }
    };
}

ulp_distance!(ulp_distance_f32, f32, i32, u32);
ulp_distance!(ulp_distance_f64, f64, i64, u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_apart() {
        assert_eq!(ulp_distance_f32(1.0, 1.0 + f32::EPSILON), 1);
        assert_eq!(ulp_distance_f32(0.0, -0.0), 0);
        assert_eq!(ulp_distance_f32(f32::from_bits(1), -f32::from_bits(1)), 2);
        assert_eq!(ulp_distance_f32(f32::MAX, f32::INFINITY), 1);
        assert_eq!(ulp_distance_f64(f64::NAN, f64::NAN), 0);
        assert_eq!(ulp_distance_f64(f64::NAN, 1.0), u64::MAX);
    }
}
