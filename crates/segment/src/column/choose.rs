//! Which kind of column some values become.
//!
//! A kind is tried only if the first value allows it, and given up with the first value that refutes
//! it: most text columns are decided after a few values.

use arrow::datatypes::DataType;
use lodge_record::schema;

use super::form::{Form, parse_decimal, parse_int, scale_floats};
use super::id::{Shape, encode_coded_ids};
use super::intern::{intern, repeats};
use super::meta::CONST_BYTES_MAX;
use super::{encode_const, encode_dict, encode_floats, encode_ids, encode_numbers, encode_scaled};
use crate::SegmentError;
use crate::predicate::parse_ipv4;
use crate::sections::SectionWriter;

/// So few different texts are a dictionary, whatever their size.
const FEW_TEXTS: usize = 256;
/// So few different identifiers are a dictionary of texts, if they are known as one.
const FEW_IDS: usize = 1024;
/// Most bytes of different texts in a dictionary: each test looks at all of them.
const DICT_BYTES_MAX: usize = 4 << 20;

/// The kind that text values become, with what was learned from them.
#[derive(Debug, PartialEq)]
pub(crate) enum Choice<'t> {
    /// All are this text.
    Const(&'t str),
    /// All are written as this form writes these integers.
    Numbers(Form, Vec<i64>),
    /// All are decimals: their digits, and how many of them are after the point.
    Scaled(Vec<i64>, Vec<u32>),
    /// All are identifiers.
    Ids(Shape, Vec<u128>),
    /// Few differ: the different ones, sorted, and a code for each value.
    Dict(Vec<&'t str>, Vec<u32>),
    /// None of these: a template column, or raw texts.
    Text,
}

impl Choice<'_> {
    /// Writes a column of `len` values as chosen. Gives `false` for [`Choice::Text`], which is not
    /// written here.
    pub(crate) fn encode(
        &self,
        len: usize,
        w: &mut SectionWriter<'_>,
        meta: &mut Vec<u8>,
    ) -> Result<bool, SegmentError> {
        match self {
            Self::Const(text) => return Ok(encode_const(&DataType::Utf8, text, len, w, meta)),
            Self::Numbers(form, values) => encode_numbers(*form, values, w, meta)?,
            Self::Scaled(mantissas, scales) => encode_scaled(mantissas, scales, w, meta)?,
            Self::Ids(shape, values) => encode_ids(*shape, values, w, meta)?,
            Self::Dict(distinct, codes) => encode_dict(distinct, codes, w, meta)?,
            Self::Text => return Ok(false),
        }
        Ok(true)
    }
}

/// Chooses for a text column.
pub(crate) fn choose<'t>(texts: &[&'t str]) -> Choice<'t> {
    let first = texts.first().copied().unwrap_or_default();
    if first.len() <= CONST_BYTES_MAX && texts.iter().all(|text| *text == first) {
        return Choice::Const(first);
    }
    if let Some(values) = all(texts, parse_int) {
        return Choice::Numbers(Form::IntText, values);
    }
    if let Some(values) = all(texts, |text| parse_ipv4(text).map(i64::from)) {
        return Choice::Numbers(Form::Ip, values);
    }
    let decimals = all(texts, parse_decimal);
    if let Some(decimals) = &decimals
        && let Some((_, scale)) = decimals.first()
        && decimals.iter().all(|(_, other)| other == scale)
    {
        let mantissas = decimals.iter().map(|(mantissa, _)| *mantissa).collect();
        return Choice::Numbers(Form::Decimal { scale: *scale }, mantissas);
    }
    if let Some((shape, values)) = all_ids(texts, first) {
        return Choice::Ids(shape, values);
    }
    if let Some((distinct, codes)) = dictionary(texts) {
        return Choice::Dict(distinct, codes);
    }
    match decimals {
        Some(decimals) => {
            let (mantissas, scales): (Vec<i64>, Vec<u8>) = decimals.into_iter().unzip();
            Choice::Scaled(mantissas, scales.into_iter().map(u32::from).collect())
        }
        None => Choice::Text,
    }
}

/// What each text is read as; `None` with the first that cannot be.
fn all<T>(texts: &[&str], read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    read(texts.first()?)?;
    texts.iter().map(|text| read(text)).collect()
}

fn all_ids(texts: &[&str], first: &str) -> Option<(Shape, Vec<u128>)> {
    let shape = Shape::of(first)?;
    // The first text that has a letter says in which case all are.
    let has_letter = |text: &&&str| text.bytes().any(|byte| byte.is_ascii_alphabetic());
    let lettered = texts.iter().find(has_letter).copied().unwrap_or(first);
    let shape = Shape { upper: Shape::of(lettered)?.upper, ..shape };
    Some((shape, all(texts, |text| shape.parse(text))?))
}

/// A dictionary, if it is small beside the texts.
fn dictionary<'t>(texts: &[&'t str]) -> Option<(Vec<&'t str>, Vec<u32>)> {
    let cap = (texts.len() / 4).max(FEW_TEXTS);
    if !repeats(texts, cap) {
        return None;
    }
    let (distinct, codes) = intern(texts, cap)?;
    let bytes: usize = distinct.iter().map(|text| text.len()).sum();
    let width = (usize::BITS - distinct.len().saturating_sub(1).leading_zeros()) as usize;
    let total: usize = texts.iter().map(|text| text.len()).sum();
    // zstd halves the different texts at least; of all texts a template column leaves half at most.
    let pays = bytes / 2 + codes.len() * width / 8 <= total / 2;
    let fits = bytes <= DICT_BYTES_MAX && (pays || distinct.len() <= FEW_TEXTS);
    fits.then_some((distinct, codes))
}

/// Writes a text column that is known as its different texts, sorted, and a code for each value.
pub(crate) fn encode_coded(
    distinct: &[&str],
    codes: &[u32],
    w: &mut SectionWriter<'_>,
    meta: &mut Vec<u8>,
) -> Result<(), SegmentError> {
    // Fewer are grouped by more often than looked for.
    let first = distinct.first().filter(|_| distinct.len() > FEW_IDS);
    match first.and_then(|first| all_ids(distinct, first)) {
        // Of one shape, they are in the order of their texts.
        Some((shape, ids)) => encode_coded_ids(shape, &ids, codes, w, meta),
        None => encode_dict(distinct, codes, w, meta),
    }
}

/// Writes a column of integers, in the kind that suits them.
pub(crate) fn encode_int64(
    values: &[i64],
    w: &mut SectionWriter<'_>,
    meta: &mut Vec<u8>,
) -> Result<(), SegmentError> {
    if let Some(first) = values.first()
        && values.iter().all(|value| value == first)
    {
        encode_const(&DataType::Int64, &first.to_string(), values.len(), w, meta);
        return Ok(());
    }
    encode_numbers(Form::Int64, values, w, meta)
}

/// Writes a column of floats, in the kind that suits them.
pub(crate) fn encode_float64(
    values: &[f64],
    w: &mut SectionWriter<'_>,
    meta: &mut Vec<u8>,
) -> Result<(), SegmentError> {
    if let Some(first) = values.first()
        && first.is_finite()
        && values.iter().all(|value| value.to_bits() == first.to_bits())
    {
        encode_const(&DataType::Float64, &schema::float_text(*first), values.len(), w, meta);
        return Ok(());
    }
    match scale_floats(values) {
        Some((integers, scale)) => encode_numbers(Form::Float { scale }, &integers, w, meta),
        None => encode_floats(values, w, meta),
    }
}
