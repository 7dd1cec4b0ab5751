//! Numbers, durations and addresses in text, as LogsQL reads them.
//!
//! A value is a number if its whole text is one: `12`, `-0.5`, `1_000`, `1e3`, with a short suffix
//! (`10KiB`, `1.5M`) or as a duration (`1m30s`, in nanoseconds). Nothing else compares by value.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Length of the longest text that can be a number; anything longer is text.
const NUMBER_BYTES_MAX: usize = 64;

/// The number that `text` is, if it is one; durations count in nanoseconds. Never NaN or infinite.
pub fn parse_number(text: &str) -> Option<f64> {
    let first = *text.as_bytes().first()?;
    if !(first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.'))
        || text.len() > NUMBER_BYTES_MAX
    {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.')) {
        // By far the most frequent form, without the search for suffixes.
        return text.parse().ok().filter(|value: &f64| value.is_finite());
    }
    let (negative, unsigned) = match first {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (value, suffix) = leading_number(unsigned)?;
    let value = match short_unit(suffix) {
        Some(unit) => value * unit,
        None => duration(unsigned)?,
    };
    let value = if negative { -value } else { value };
    value.is_finite().then_some(value)
}

/// A number for a query's bound: as [`parse_number`], and `inf`, `-inf`, `+inf` in any case, and
/// whole numbers in hexadecimal (`0xff`), octal (`0o17`) or binary (`0b101`) form.
pub fn parse_bound(text: &str) -> Option<f64> {
    if text.len() > NUMBER_BYTES_MAX * 2 {
        return None;
    }
    match text.to_ascii_lowercase().as_str() {
        "inf" | "+inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        lower => parse_number(text).or_else(|| of_radix(lower)),
    }
}

/// A whole number with a prefix that names its radix, in lower case.
fn of_radix(text: &str) -> Option<f64> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match unsigned.split_at_checked(2)? {
        ("0x", digits) => (16, digits),
        ("0o", digits) => (8, digits),
        ("0b", digits) => (2, digits),
        _ => return None,
    };
    let digits = digits.replace('_', "");
    // Signs would be taken as part of the digits.
    digits.starts_with(|c: char| c.is_ascii_hexdigit()).then_some(())?;
    u64::from_str_radix(&digits, radix).ok().map(|number| sign * number as f64)
}

/// The nanoseconds of a duration: `5m`, `1h30m`, `1.5d`, `-4h`. A bare number is none.
pub fn parse_duration_ns(text: &str) -> Option<i64> {
    if text.len() > NUMBER_BYTES_MAX {
        return None;
    }
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let ns = duration(unsigned)?.round();
    // 2^63 as a float: from there on an i64 cannot hold it.
    (ns < 9_223_372_036_854_775_808.0).then_some(if negative { -(ns as i64) } else { ns as i64 })
}

/// The IPv4 address that `text` is, as a number that orders as addresses do.
pub fn parse_ipv4(text: &str) -> Option<u32> {
    text.parse::<Ipv4Addr>().ok().map(u32::from)
}

/// The IPv6 address that `text` is, as a number that orders as addresses do.
pub fn parse_ipv6(text: &str) -> Option<u128> {
    text.parse::<Ipv6Addr>().ok().map(u128::from)
}

/// An unsigned number at the start of `text` (with `_` between digits and an exponent), and what
/// follows it.
fn leading_number(text: &str) -> Option<(f64, &str)> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut end = 0;
    while bytes.get(end).is_some_and(|b| b.is_ascii_digit() || matches!(b, b'_' | b'.')) {
        end += 1;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let signed = matches!(bytes.get(end + 1), Some(b'+' | b'-'));
        let mut at = end + 1 + usize::from(signed);
        if digit(at) {
            while digit(at) {
                at += 1;
            }
            end = at;
        }
    }
    let (number, rest) = text.split_at_checked(end)?;
    if !number.bytes().any(|byte| byte.is_ascii_digit()) || number.starts_with('_') {
        return None;
    }
    let value = if number.contains('_') {
        number.replace('_', "").parse().ok()?
    } else {
        number.parse().ok()?
    };
    Some((value, rest))
}

fn short_unit(suffix: &str) -> Option<f64> {
    Some(match suffix {
        "" => 1.0,
        "B" => 1.0,
        "K" | "KB" => 1e3,
        "M" | "MB" => 1e6,
        "G" | "GB" => 1e9,
        "T" | "TB" => 1e12,
        "Ki" | "KiB" => 1024.0,
        "Mi" | "MiB" => 1_048_576.0,
        "Gi" | "GiB" => 1_073_741_824.0,
        "Ti" | "TiB" => 1_099_511_627_776.0,
        _ => return None,
    })
}

/// The nanoseconds of an unsigned duration.
fn duration(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut ns = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (value, after) = leading_number(rest)?;
        let length = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(length)?;
        ns += value
            * match unit {
                "ns" => 1.0,
                "µs" | "μs" | "us" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3_600e9,
                "d" => 86_400e9,
                "w" => 604_800e9,
                "y" => 31_536_000e9,
                _ => return None,
            };
        rest = next;
    }
    Some(ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_documented_form() {
        let cases = [
            ("12345", 12345.0),
            ("-12345", -12345.0),
            ("0.123", 0.123),
            ("-12.34", -12.34),
            ("1_234_567", 1_234_567.0),
            ("1.234_567", 1.234567),
            ("1e3", 1000.0),
            ("10KB", 10_000.0),
            ("10KiB", 10_240.0),
            ("1.5M", 1_500_000.0),
            ("2Ti", 2_199_023_255_552.0),
            ("1.5s", 1.5e9),
            ("1h33m55s", 5_635e9),
            ("-2ms", -2e6),
            ("1.23µs", 1230.0),
        ];
        for (text, value) in cases {
            assert_eq!(parse_number(text), Some(value), "{text}");
        }
        for text in ["", "-", ".", "abc", "1x", "1 2", "1.2.3.4", "NaN", "inf", "_1", "1m2", "0x1"]
        {
            assert_eq!(parse_number(text), None, "{text}");
        }
        assert_eq!(parse_bound("Inf"), Some(f64::INFINITY));
        assert_eq!(parse_bound("-inf"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_bound("0xff"), Some(255.0));
        assert_eq!(parse_bound("0xAB_CD"), Some(43_981.0));
        assert_eq!(parse_bound("-0b100110"), Some(-38.0));
        assert_eq!(parse_bound("0o17"), Some(15.0));
        for text in ["0x", "0b2", "0x-1", "x1", "0xfg", "0x1.5"] {
            assert_eq!(parse_bound(text), None, "{text}");
        }
    }

    #[test]
    fn durations_in_nanoseconds() {
        assert_eq!(parse_duration_ns("5m"), Some(300_000_000_000));
        assert_eq!(parse_duration_ns("-4h"), Some(-14_400_000_000_000));
        assert_eq!(parse_duration_ns("2.5d15m42.345s"), Some(216_942_345_000_000));
        assert_eq!(parse_duration_ns("1w"), Some(604_800_000_000_000));
        for text in ["", "5", "m", "5 m", "5mm", "1000y"] {
            assert_eq!(parse_duration_ns(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_order_as_numbers() {
        assert!(parse_ipv4("10.0.0.2") < parse_ipv4("10.0.0.10"));
        assert_eq!(parse_ipv4("10.0.0"), None);
        assert!(parse_ipv6("2001:db8::2") < parse_ipv6("2001:db8::10"));
        assert_eq!(parse_ipv6("10.0.0.1"), None);
    }
}
