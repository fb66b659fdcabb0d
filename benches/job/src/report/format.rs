//! Numbers for people.

/// A whole number with commas between groups of three digits.
#[must_use]
pub fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// From this number on the digits before the point are not written out.
const LARGE: f64 = 1e6;
/// The power of ten below which zeros after the point are not written out.
const SMALL_POWER: i32 = -3;

/// A number with three significant digits, or all digits before the point when there are more; very large and very small ones
/// with an exponent, as `1.00e30`.
#[must_use]
pub fn significant(x: f64) -> String {
    if !x.is_finite() {
        return x.to_string();
    }
    let size = x.abs();
    if size.round() >= LARGE {
        return format!("{x:.2e}");
    }
    if size >= 1000.0 {
        let whole = count(size.round() as usize);
        return if x < 0.0 { format!("-{whole}") } else { whole };
    }
    if size == 0.0 {
        return "0".to_owned();
    }
    // Rounding first, so that 9.996 counts as 10.0.
    let magnitude = format!("{size:.2e}")
        .split_once('e')
        .and_then(|(_, power)| power.parse::<i32>().ok())
        .unwrap_or(0);
    if magnitude < SMALL_POWER {
        return format!("{x:.2e}");
    }
    let decimals = usize::try_from(2 - magnitude).unwrap_or(0);
    format!("{x:.decimals$}")
}

/// A ratio: two decimals where that is three digits or so.
pub(super) fn ratio(x: f64) -> String {
    if x.abs() >= 100.0 || x != 0.0 && x.abs() < 0.01 {
        significant(x)
    } else {
        format!("{x:.2}")
    }
}

/// Text with line breaks between words, so that no line is longer than `width` unless a word is.
#[must_use]
pub fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if column > 0 && column + 1 + len > width {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += len;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        let shown = [0, 999, 1000, 12_345, 2_624_730].map(count);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "2,624,730"]);
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = [
            0.0, 0.012_345, 0.5, 9.996, 12.34, 123.4, 12_345.6, -1.5, -1234.0, 1e-7,
        ]
        .map(significant);
        let wanted = [
            "0", "0.0123", "0.500", "10.0", "12.3", "123", "12,346", "-1.50", "-1,234", "1.00e-7",
        ];
        assert_eq!(shown, wanted);
        assert_eq!(significant(f64::NAN), "NaN");
        let large = [999_999.4, 999_999.6, 1e6, -2.5e30, f64::MAX].map(significant);
        assert_eq!(
            large,
            ["999,999", "1.00e6", "1.00e6", "-2.50e30", "1.80e308"]
        );
        let small = [0.001, 0.000_999_9, -1e-30, 0.0012].map(significant);
        assert_eq!(small, ["0.00100", "0.00100", "-1.00e-30", "0.00120"]);
    }

    #[test]
    fn ratios_have_two_decimals_unless_they_are_far_from_one() {
        let shown = [0.0, 0.331, 1.0, 12.346, 1e29, 1e-9, 345.6].map(ratio);
        assert_eq!(
            shown,
            ["0.00", "0.33", "1.00", "12.35", "1.00e29", "1.00e-9", "346"]
        );
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("one two three", 7), "one two\nthree");
        assert_eq!(wrapped("extraordinary x", 5), "extraordinary\nx");
        assert_eq!(wrapped("", 5), "");
    }
}
