//! A column's bytes in the directory, both ways.

use std::ops::Range;

use arrow::datatypes::DataType;

use super::{Form, ROWS_MAX, Shape};
use crate::SegmentError;
use crate::sections::SectionNo;

/// Longest text of a column with one value for all: longer ones are a dictionary of one.
pub(super) const CONST_BYTES_MAX: usize = 1 << 10;

/// What the directory says of a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Meta {
    pub(super) len: usize,
    pub(super) sections: Range<SectionNo>,
    pub(super) kind: Kind,
}

/// The kinds of columns, each with its own bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Const { data_type: DataType, text: String },
    Dict,
    Numbers { form: Form, dictionary: bool },
    Scaled,
    Floats,
    Bools,
    Ids { shape: Shape, dictionary: bool },
    Times,
    Raw,
}

impl Kind {
    fn number(&self) -> u8 {
        match self {
            Self::Const { .. } => 1,
            Self::Dict => 2,
            Self::Numbers { .. } => 3,
            Self::Scaled => 4,
            Self::Floats => 5,
            Self::Bools => 6,
            Self::Ids { .. } => 7,
            Self::Times => 8,
            Self::Raw => 9,
        }
    }

    /// How many sections a column of this kind has; any number of at least one if `None`.
    fn sections(&self) -> Option<u32> {
        match self {
            Self::Const { .. } => Some(0),
            Self::Dict => Some(2),
            Self::Numbers { dictionary, .. } | Self::Ids { dictionary, .. } => {
                Some(1 + u32::from(*dictionary))
            }
            Self::Raw => None,
            _ => Some(1),
        }
    }
}

impl Meta {
    /// Appends the bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.kind.number());
        out.extend_from_slice(&(self.len as u32).to_le_bytes());
        out.extend_from_slice(&self.sections.start.to_le_bytes());
        let count = self.sections.end.saturating_sub(self.sections.start);
        out.extend_from_slice(&count.to_le_bytes());
        match &self.kind {
            Kind::Const { data_type, text } => {
                out.push(type_byte(data_type));
                out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            Kind::Numbers { form, dictionary } => {
                let (form, scale) = form.bytes();
                out.extend_from_slice(&[form, scale, u8::from(*dictionary)]);
            }
            Kind::Ids { shape, dictionary } => {
                let flags = u8::from(shape.upper)
                    | u8::from(shape.dashes) << 1
                    | u8::from(*dictionary) << 2;
                out.extend_from_slice(&[shape.digits, flags]);
            }
            _ => {}
        }
    }

    /// Reads the bytes from the front of `from`, and moves it behind them.
    pub(super) fn read(from: &mut &[u8]) -> Result<Self, SegmentError> {
        let damaged = |trouble: &str| SegmentError::damaged("directory: column", trouble);
        let cut = || damaged("is cut short");
        let [kind] = take(from).ok_or_else(cut)?;
        let mut number = || Some(u32::from_le_bytes(take(from)?));
        let (Some(len), Some(first), Some(count)) = (number(), number(), number()) else {
            return Err(cut());
        };
        let len = len as usize;
        if len > ROWS_MAX {
            return Err(damaged("has too many values"));
        }
        let kind = match kind {
            1 => {
                let [data_type] = take(from).ok_or_else(cut)?;
                let bytes = u32::from_le_bytes(take(from).ok_or_else(cut)?) as usize;
                let (text, rest) = from.split_at_checked(bytes).ok_or_else(cut)?;
                *from = rest;
                let text = std::str::from_utf8(text).map_err(|_| damaged("is not UTF-8"))?;
                let data_type = type_of(data_type).ok_or_else(|| damaged("has no such type"))?;
                Kind::Const { data_type, text: text.to_owned() }
            }
            2 => Kind::Dict,
            3 => {
                let [form, scale, dictionary] = take(from).ok_or_else(cut)?;
                let form =
                    Form::from_bytes(form, scale).ok_or_else(|| damaged("has no such form"))?;
                Kind::Numbers { form, dictionary: dictionary == 1 }
            }
            4 => Kind::Scaled,
            5 => Kind::Floats,
            6 => Kind::Bools,
            7 => {
                let [digits, flags] = take(from).ok_or_else(cut)?;
                let shape = Shape { digits, upper: flags & 1 != 0, dashes: flags & 2 != 0 };
                if !shape.is_sound() {
                    return Err(damaged("has no such identifiers"));
                }
                Kind::Ids { shape, dictionary: flags & 4 != 0 }
            }
            8 => Kind::Times,
            9 => Kind::Raw,
            _ => return Err(damaged("is of a kind that this program does not know")),
        };
        let last = first.checked_add(count).ok_or_else(|| damaged("names no section"))?;
        if kind.sections().map_or(count == 0, |expected| expected != count) {
            return Err(damaged("has another number of sections"));
        }
        Ok(Self { len, sections: first..last, kind })
    }
}

/// The first bytes of `from`, which is moved behind them.
pub(super) fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*bytes)
}

fn type_byte(data_type: &DataType) -> u8 {
    match data_type {
        DataType::Int64 => 2,
        DataType::Float64 => 3,
        DataType::Boolean => 4,
        _ => 1,
    }
}

fn type_of(byte: u8) -> Option<DataType> {
    Some(match byte {
        1 => DataType::Utf8,
        2 => DataType::Int64,
        3 => DataType::Float64,
        4 => DataType::Boolean,
        _ => return None,
    })
}
