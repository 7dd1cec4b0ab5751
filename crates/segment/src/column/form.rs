//! What an integer stands for, as text and as a number.
//!
//! Invariants:
//! - [`Form::parse`] gives an integer only for the very text that [`Form::write`] makes of it;
//! - in a form whose texts are numbers, a greater integer never stands for a smaller number. That
//!   is why every range of numbers is an interval of integers, found by bisection and so exact.

use arrow::datatypes::DataType;
use lodge_record::{schema, time};

use super::test::{How, is_refuted};
use crate::predicate::{FieldTest, NumberRange, Phrase, ValueKind, parse_ipv4, parse_number};

/// Most digits of a decimal: 10^18 still fits into 64 bits.
pub(super) const DECIMAL_DIGITS_MAX: usize = 18;
/// Most decimals of a float column: floats hold the powers of ten up to 10^22 exactly, and nobody
/// measures finer.
const FLOAT_SCALE_MAX: u8 = 15;
/// Largest mantissa of a float column, which a float holds exactly.
const FLOAT_MANTISSA_MAX: i64 = 1 << 53;

/// What the integers of a column stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Integers.
    Int64,
    /// Texts that are integers.
    IntText,
    /// Texts that are IPv4 addresses.
    Ip,
    /// Floats, multiplied by 10^scale.
    Float {
        /// Decimals.
        scale: u8,
    },
    /// Texts that are decimals with exactly so many digits after the point.
    Decimal {
        /// Digits after the point.
        scale: u8,
    },
    /// Times in nanoseconds since 1970.
    Time,
}

impl Form {
    /// What it is called where people see it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Int64 | Self::IntText => "int64",
            Self::Ip => "ipv4",
            Self::Float { .. } | Self::Decimal { .. } => "float64",
            Self::Time => "time",
        }
    }

    /// Its number and scale in the directory.
    pub(super) fn bytes(self) -> (u8, u8) {
        match self {
            Self::Int64 => (1, 0),
            Self::IntText => (2, 0),
            Self::Ip => (3, 0),
            Self::Float { scale } => (4, scale),
            Self::Decimal { scale } => (5, scale),
            Self::Time => (6, 0),
        }
    }

    pub(super) fn from_bytes(form: u8, scale: u8) -> Option<Self> {
        Some(match form {
            1 => Self::Int64,
            2 => Self::IntText,
            3 => Self::Ip,
            4 if scale <= FLOAT_SCALE_MAX => Self::Float { scale },
            5 if (1..=DECIMAL_DIGITS_MAX as u8).contains(&scale) => Self::Decimal { scale },
            6 => Self::Time,
            _ => return None,
        })
    }

    /// The type of the values.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Int64 => DataType::Int64,
            Self::Float { .. } => DataType::Float64,
            Self::IntText | Self::Ip | Self::Decimal { .. } => DataType::Utf8,
            Self::Time => schema::time_type(),
        }
    }

    /// Appends the text of a value.
    pub(super) fn write(self, value: i64, out: &mut Vec<u8>) {
        match self {
            Self::Int64 | Self::IntText => write_int(value, out),
            Self::Ip => {
                for (nth, byte) in (value as u32).to_be_bytes().into_iter().enumerate() {
                    if nth > 0 {
                        out.push(b'.');
                    }
                    write_int(i64::from(byte), out);
                }
            }
            Self::Float { scale } => {
                out.extend_from_slice(schema::float_text(float(value, scale)).as_bytes());
            }
            Self::Decimal { scale } => write_decimal(value, scale, out),
            Self::Time => time::write(out, value),
        }
    }

    pub(super) fn text(self, value: i64) -> String {
        let mut out = Vec::with_capacity(24);
        self.write(value, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// The integer that stands for exactly this text.
    pub(super) fn parse(self, text: &str) -> Option<i64> {
        let value = match self {
            Self::Int64 | Self::IntText => return parse_int(text),
            Self::Ip => i64::from(parse_ipv4(text)?),
            Self::Float { scale } => mantissa(text.parse().ok()?, scale)?,
            Self::Decimal { scale } => {
                return parse_decimal(text).filter(|(_, found)| *found == scale).map(|(m, _)| m);
            }
            Self::Time => time::parse(text)?,
        };
        (self.text(value) == text).then_some(value)
    }

    /// The number that a value is, as [`parse_number`] reads its text.
    pub(super) fn number(self, value: i64) -> Option<f64> {
        match self {
            Self::Int64 | Self::IntText => Some(value as f64),
            Self::Float { scale } => Some(float(value, scale)),
            Self::Decimal { scale } => decimal_number(value, scale),
            Self::Ip | Self::Time => None,
        }
    }

    /// The numbers that values stand for.
    pub(super) fn numbers(self, values: &[i64]) -> Vec<f64> {
        match self {
            Self::Float { scale } => {
                let unit = power(scale);
                values.iter().map(|value| *value as f64 / unit).collect()
            }
            _ => values.iter().map(|value| self.number(*value).unwrap_or(f64::NAN)).collect(),
        }
    }

    /// Whether the values are numbers.
    pub(super) fn is_number(self) -> bool {
        !matches!(self, Self::Ip | Self::Time)
    }

    /// The smallest and the largest value.
    fn domain(self) -> (i64, i64) {
        match self {
            Self::Int64 | Self::IntText | Self::Time => (i64::MIN, i64::MAX),
            Self::Ip => (0, i64::from(u32::MAX)),
            Self::Float { .. } => (-FLOAT_MANTISSA_MAX, FLOAT_MANTISSA_MAX),
            Self::Decimal { .. } => {
                let end = 10i64.pow(DECIMAL_DIGITS_MAX as u32);
                (1 - end, end - 1)
            }
        }
    }

    fn alphabet(self, byte: u8) -> bool {
        byte.is_ascii_digit()
            || match self {
                Self::Int64 | Self::IntText => byte == b'-',
                Self::Ip => byte == b'.',
                Self::Float { .. } | Self::Decimal { .. } => matches!(byte, b'-' | b'.'),
                Self::Time => matches!(byte, b'-' | b'.' | b':' | b'T' | b't' | b'Z' | b'z'),
            }
    }

    /// A test as one of integers, where it can be.
    pub(super) fn prepare(self, test: &FieldTest) -> How {
        if is_refuted(test, |byte| self.alphabet(byte)) {
            return How::Fixed(false);
        }
        let parsed = |text: &String| self.parse(text);
        match test {
            FieldTest::Any => How::Fixed(true),
            FieldTest::Empty => How::Fixed(false),
            FieldTest::Exact(text) => How::integers(parsed(text).into_iter().collect()),
            FieldTest::In(texts) => How::integers(texts.iter().filter_map(parsed).collect()),
            FieldTest::Number(_) if !self.is_number() => How::Fixed(false),
            FieldTest::Number(range) => self.interval(range),
            FieldTest::Ipv4 { min, max } if self == Self::Ip => {
                How::interval(i64::from(*min), i64::from(*max))
            }
            FieldTest::Ipv4 { .. } | FieldTest::Ipv6 { .. } | FieldTest::JsonArray(_) => {
                How::Fixed(false)
            }
            FieldTest::Kind(kind) => self.kind(*kind).unwrap_or_else(|| How::Text(test.clone())),
            FieldTest::Contains(phrase) | FieldTest::ContainsAnyCase(phrase) => {
                self.words(phrase).map_or_else(|| How::Text(test.clone()), How::integers)
            }
            FieldTest::ContainsAny(phrases) => {
                let sets: Option<Vec<Vec<i64>>> = phrases.iter().map(|p| self.words(p)).collect();
                sets.map_or_else(|| How::Text(test.clone()), |sets| How::integers(sets.concat()))
            }
            _ => How::Text(test.clone()),
        }
    }

    /// The values of a kind, where the form tells.
    fn kind(self, kind: ValueKind) -> Option<How> {
        match self {
            Self::Int64 | Self::IntText => Some(match (kind, kind.unsigned_max()) {
                (ValueKind::Int64 | ValueKind::Float64, _) => How::Fixed(true),
                (_, None) => How::Fixed(false),
                (_, Some(max)) => How::interval(0, i64::try_from(max).unwrap_or(i64::MAX)),
            }),
            Self::Ip => Some(How::Fixed(kind == ValueKind::Ipv4)),
            _ => None,
        }
    }

    fn interval(self, range: &NumberRange) -> How {
        if range.min.is_nan() || range.max.is_nan() {
            return How::Fixed(false);
        }
        let number = |value: i64| self.number(value).unwrap_or(f64::NAN);
        let above = |v: f64| if range.min_open { v > range.min } else { v >= range.min };
        let beyond = |v: f64| if range.max_open { v >= range.max } else { v > range.max };
        let (first, last) = self.domain();
        let Some(min) = bisect(first, last, |value| above(number(value))) else {
            return How::Fixed(false);
        };
        match bisect(first, last, |value| beyond(number(value))) {
            None => How::interval(min, last),
            Some(end) => {
                end.checked_sub(1).map_or(How::Fixed(false), |max| How::interval(min, max))
            }
        }
    }

    /// The values in which a phrase occurs, if it can only be the whole value, its sign aside.
    fn words(self, phrase: &Phrase) -> Option<Vec<i64>> {
        let text = phrase.text();
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let whole = match self {
            Self::Int64 | Self::IntText => digits(unsigned),
            Self::Float { .. } | Self::Decimal { .. } => {
                unsigned.split_once('.').is_some_and(|(a, b)| digits(a) && digits(b))
            }
            Self::Ip => parse_ipv4(text).is_some(),
            Self::Time => false,
        };
        if !whole || !phrase.ends_at_border() {
            return None;
        }
        Some([self.parse(text), self.parse(&format!("-{text}"))].into_iter().flatten().collect())
    }
}

/// The first integer of a range, both ends included, for which `test` is true; it stays true from
/// there on.
fn bisect(first: i64, last: i64, test: impl Fn(i64) -> bool) -> Option<i64> {
    if !test(last) {
        return None;
    }
    let (mut low, mut high) = (first, last);
    while low < high {
        let middle = low.midpoint(high).min(high - 1);
        if test(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(low)
}

fn write_int(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The integer that `text` is, if it is written as [`write_int`] does.
pub(super) fn parse_int(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    match unsigned.as_bytes() {
        [b'0'] if unsigned.len() == text.len() => Some(0),
        [b'1'..=b'9', ..] if unsigned.len() <= DECIMAL_DIGITS_MAX => {
            let value = digits_value(unsigned)?;
            Some(if unsigned.len() == text.len() { value } else { -value })
        }
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => text.parse().ok(),
        _ => None,
    }
}

/// The number that at most [`DECIMAL_DIGITS_MAX`] digits are.
fn digits_value(text: &str) -> Option<i64> {
    let mut value = 0i64;
    for byte in text.bytes() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(value)
}

/// Appends a decimal with exactly `scale` digits after the point, and no point without any.
pub(super) fn write_decimal(value: i64, scale: u8, out: &mut Vec<u8>) {
    if scale == 0 {
        return write_int(value, out);
    }
    let unit = 10u64.checked_pow(u32::from(scale)).unwrap_or(u64::MAX);
    let size = value.unsigned_abs();
    if value < 0 {
        out.push(b'-');
    }
    write_int((size / unit) as i64, out);
    out.push(b'.');
    let from = out.len();
    let mut rest = size % unit;
    for _ in 0..scale {
        out.push(b'0' + (rest % 10) as u8);
        rest /= 10;
    }
    if let Some(decimals) = out.get_mut(from..) {
        decimals.reverse();
    }
}

/// The digits and the scale of a text that [`write_decimal`] would write so.
pub(super) fn parse_decimal(text: &str) -> Option<(i64, u8)> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, decimals) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if whole.len() + decimals.len() > DECIMAL_DIGITS_MAX
        || (decimals.is_empty() && unsigned.len() != whole.len())
    {
        return None;
    }
    match whole.as_bytes() {
        [b'0'] => {}
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    let shift = 10i64.checked_pow(decimals.len() as u32)?;
    let value = digits_value(whole)? * shift + digits_value(decimals)?;
    let negative = unsigned.len() != text.len();
    if negative && value == 0 {
        return None;
    }
    Some((if negative { -value } else { value }, decimals.len() as u8))
}

/// The number that a decimal is.
pub(super) fn decimal_number(value: i64, scale: u8) -> Option<f64> {
    // Both are exact and the quotient is rounded once: the float nearest to the decimal, which is
    // what parsing gives.
    if value.unsigned_abs() <= FLOAT_MANTISSA_MAX as u64 {
        return Some(float(value, scale));
    }
    let mut text = Vec::with_capacity(24);
    write_decimal(value, scale, &mut text);
    parse_number(std::str::from_utf8(&text).ok()?)
}

fn float(value: i64, scale: u8) -> f64 {
    value as f64 / power(scale)
}

/// A power of ten; a float holds these exactly.
fn power(scale: u8) -> f64 {
    const POWERS: [f64; DECIMAL_DIGITS_MAX + 1] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
        1e17, 1e18,
    ];
    POWERS.get(usize::from(scale)).copied().unwrap_or(1.0)
}

/// The integer that stands for `value` in a float column of this scale.
fn mantissa(value: f64, scale: u8) -> Option<i64> {
    let scaled = (value * power(scale)).round();
    if scaled.is_nan() || scaled.abs() > FLOAT_MANTISSA_MAX as f64 {
        return None;
    }
    let mantissa = scaled as i64;
    (float(mantissa, scale).to_bits() == value.to_bits()).then_some(mantissa)
}

/// Floats as integers of the smallest scale that holds all of them exactly; `None` if none does.
pub(super) fn scale_floats(values: &[f64]) -> Option<(Vec<i64>, u8)> {
    let mut scale = 0;
    let mut out = Vec::new();
    'scales: loop {
        out.clear();
        out.reserve(values.len());
        for value in values {
            match mantissa(*value, scale) {
                Some(mantissa) => out.push(mantissa),
                None => {
                    // The scale of this one is the least that all need.
                    scale =
                        (scale + 1..=FLOAT_SCALE_MAX).find(|s| mantissa(*value, *s).is_some())?;
                    continue 'scales;
                }
            }
        }
        return Some((out, scale));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_is_an_integer_of_a_form_only_if_written_so(
            text in prop_oneof!["-?[0-9]{1,3}", "-?[0-9]{1,20}", "-?[0-9]{0,12}\\.[0-9]{0,8}",
                "[0-9]{1,3}(\\.[0-9]{1,3}){3}", "-?0?\\.?0{0,3}[0-9]?"],
            scale in 1u8..9,
        ) {
            let forms = [Form::IntText, Form::Ip, Form::Float { scale }, Form::Decimal { scale }];
            for form in forms {
                if let Some(value) = form.parse(&text) {
                    prop_assert_eq!(form.text(value), text.clone());
                    prop_assert_eq!(form.number(value), parse_number(&text));
                }
            }
        }

        #[test]
        fn every_value_is_read_back(value in any::<i64>(), scale in 1u8..16) {
            prop_assert_eq!(Form::Int64.parse(&Form::Int64.text(value)), Some(value));
            prop_assert_eq!(Form::Time.parse(&Form::Time.text(value)), Some(value));
            let address = i64::from(value as u32);
            prop_assert_eq!(Form::Ip.parse(&Form::Ip.text(address)), Some(address));
            let decimal = value % 10i64.pow(17);
            let form = Form::Decimal { scale };
            prop_assert_eq!(form.parse(&form.text(decimal)), Some(decimal));
            prop_assert_eq!(form.number(decimal), parse_number(&form.text(decimal)));
        }

        #[test]
        fn floats_come_back_bit_by_bit(values in proptest::collection::vec(
            prop_oneof![any::<f64>(), (-99_999i64..99_999, 0u8..5).prop_map(|(m, s)| float(m, s))],
            0..9,
        )) {
            if let Some((integers, scale)) = scale_floats(&values) {
                let back: Vec<u64> = integers.iter().map(|m| float(*m, scale).to_bits()).collect();
                prop_assert_eq!(back, values.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
            }
        }

        #[test]
        fn an_interval_holds_what_the_range_does(
            value in any::<i64>(),
            low in -1e3..1e3f64,
            high in prop_oneof![-1e3..1e3f64, any::<f64>()],
            open in any::<(bool, bool)>(), shift in 0u32..60, scale in 1u8..9,
        ) {
            let range = NumberRange { min: low, min_open: open.0, max: high, max_open: open.1 };
            for form in [Form::Int64, Form::Float { scale }, Form::Decimal { scale }] {
                let (first, last) = form.domain();
                let value = (value >> shift).clamp(first, last);
                let inside = match form.prepare(&FieldTest::Number(range)) {
                    How::Fixed(all) => all,
                    How::Interval(min, max) => (min..=max).contains(&value),
                    other => panic!("{other:?}"),
                };
                prop_assert_eq!(inside, range.contains(form.number(value).expect("a number")));
            }
        }
    }
}
