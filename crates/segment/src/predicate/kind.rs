//! Kinds of values that `value_type(…)` tells apart.
//!
//! VictoriaLogs asks how a block's column is stored, which depends on its neighbours. Here a value's
//! own text decides, so that an answer does not change when records are merged: a value is of every
//! kind that can hold it and give its text back.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::number::parse_ipv4;

/// What a value can be stored as without a change of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ValueKind {
    /// A whole number from 0 to 255.
    Uint8,
    /// A whole number from 0 to 65,535.
    Uint16,
    /// A whole number from 0 to 2³² - 1.
    Uint32,
    /// A whole number from 0 to 2⁶⁴ - 1.
    Uint64,
    /// A whole number from -2⁶³ to 2⁶³ - 1.
    Int64,
    /// A number, perhaps with decimals or an exponent.
    Float64,
    /// An IPv4 address.
    Ipv4,
    /// A time such as `2026-01-02T03:04:05Z`, with any number of decimals.
    Iso8601,
    /// Any other text that is not empty.
    String,
}

impl ValueKind {
    /// All kinds, by their names in a query.
    pub const ALL: [(&'static str, Self); 9] = [
        ("string", Self::String),
        ("uint8", Self::Uint8),
        ("uint16", Self::Uint16),
        ("uint32", Self::Uint32),
        ("uint64", Self::Uint64),
        ("int64", Self::Int64),
        ("float64", Self::Float64),
        ("ipv4", Self::Ipv4),
        ("iso8601", Self::Iso8601),
    ];

    /// The kind with this name, in any letter case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, kind)| *kind)
    }

    /// The largest whole number of a kind of numbers without a sign.
    pub(crate) fn unsigned_max(self) -> Option<u64> {
        match self {
            Self::Uint8 => Some(u8::MAX.into()),
            Self::Uint16 => Some(u16::MAX.into()),
            Self::Uint32 => Some(u32::MAX.into()),
            Self::Uint64 => Some(u64::MAX),
            _ => None,
        }
    }

    /// Whether `value` is of this kind.
    pub fn holds(self, value: &str) -> bool {
        match self {
            Self::Uint8 | Self::Uint16 | Self::Uint32 | Self::Uint64 => {
                is_whole(value)
                    && value.parse::<u64>().ok().is_some_and(|n| Some(n) <= self.unsigned_max())
            }
            Self::Int64 => {
                let unsigned = value.strip_prefix('-').unwrap_or(value);
                is_whole(unsigned) && value != "-0" && value.parse::<i64>().is_ok()
            }
            Self::Float64 => is_number(value),
            Self::Ipv4 => parse_ipv4(value).is_some(),
            Self::Iso8601 => is_time(value),
            Self::String => {
                !value.is_empty()
                    && !is_number(value)
                    && parse_ipv4(value).is_none()
                    && !is_time(value)
            }
        }
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, kind)| kind == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Digits without a zero in front that says nothing.
fn is_whole(text: &str) -> bool {
    is_digits(text) && (text == "0" || !text.starts_with('0'))
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, decimals) = match mantissa.split_once('.') {
        Some((whole, decimals)) => (whole, Some(decimals)),
        None => (mantissa, None),
    };
    is_whole(whole)
        && decimals.is_none_or(is_digits)
        && exponent
            .is_none_or(|exponent| is_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
        && text.parse::<f64>().is_ok_and(f64::is_finite)
}

fn is_time(text: &str) -> bool {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let Some((clock, rest)) = text.split_at_checked(SHAPE.len()) else {
        return false;
    };
    let shaped = clock.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
        b'd' => byte.is_ascii_digit(),
        sign => byte == *sign,
    });
    let decimals = rest.strip_suffix('Z').map(|rest| rest.strip_prefix('.').unwrap_or(rest));
    let decimals = decimals.is_some_and(|d| is_digits(d) || rest == "Z");
    shaped && decimals && lodge_record::time::parse(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_of_every_kind_that_can_hold_it() {
        let cases = [
            ("", ""),
            ("0", "uint8 uint16 uint32 uint64 int64 float64"),
            ("255", "uint8 uint16 uint32 uint64 int64 float64"),
            ("256", "uint16 uint32 uint64 int64 float64"),
            ("4294967296", "uint64 int64 float64"),
            ("18446744073709551615", "uint64 float64"),
            ("18446744073709551616", "float64"),
            ("-5", "int64 float64"),
            ("-0", "float64"),
            ("007", "string"),
            ("+5", "string"),
            ("1.50", "float64"),
            ("1e21", "float64"),
            ("1.", "string"),
            ("inf", "string"),
            ("10.0.0.1", "ipv4"),
            ("2026-01-02T03:04:05Z", "iso8601"),
            ("2026-01-02T03:04:05.123Z", "iso8601"),
            ("2026-01-02T03:04:05.Z", "string"),
            ("2026-13-02T03:04:05Z", "string"),
            ("2026-01-02", "string"),
            ("error", "string"),
        ];
        for (value, expected) in cases {
            let kinds: Vec<&str> =
                ValueKind::ALL.iter().filter(|(_, k)| k.holds(value)).map(|(n, _)| *n).collect();
            assert_eq!(kinds.join(" "), expected, "{value}");
        }
    }
}
