//! A column's bytes in the directory, both ways.

use std::ops::Range;

use arrow::datatypes::DataType;

use super::pieces::Cut;
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
    Const {
        data_type: DataType,
        text: String,
    },
    Dict {
        shift: u8,
    },
    Numbers {
        form: Form,
        dictionary: bool,
        shift: u8,
    },
    Scaled,
    Floats,
    Bools,
    /// `entries`: how the dictionary is cut, if there is one.
    Ids {
        shape: Shape,
        shift: u8,
        entries: Option<Cut>,
    },
    Times {
        shift: u8,
    },
    /// Number of values of each section.
    Raw {
        values: Vec<u32>,
    },
}

impl Kind {
    fn number(&self) -> u8 {
        match self {
            Self::Const { .. } => 1,
            Self::Dict { .. } => 2,
            Self::Numbers { .. } => 3,
            Self::Scaled => 4,
            Self::Floats => 5,
            Self::Bools => 6,
            Self::Ids { .. } => 7,
            Self::Times { .. } => 8,
            Self::Raw { .. } => 9,
        }
    }

    /// How many sections a column of this kind and so many values has, if there can be one.
    fn sections(&self, len: usize) -> Option<u32> {
        let pieces = |shift: u8| Cut { len, shift }.sound().map(Cut::pieces);
        match self {
            Self::Const { .. } => Some(0),
            Self::Dict { shift } => Some(1 + pieces(*shift)?),
            Self::Numbers { dictionary, shift, .. } => {
                Some(u32::from(*dictionary) + pieces(*shift)?)
            }
            Self::Ids { shift, entries: None, .. } => Some(1 + pieces(*shift)?),
            Self::Ids { shift, entries: Some(entries), .. } => {
                Some(1 + entries.sound()?.pieces() + pieces(*shift)?)
            }
            Self::Times { shift } => pieces(*shift),
            Self::Raw { values } => Some(values.len() as u32),
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
            Kind::Dict { shift } | Kind::Times { shift } => out.push(*shift),
            Kind::Numbers { form, dictionary, shift } => {
                let (form, scale) = form.bytes();
                out.extend_from_slice(&[form, scale, u8::from(*dictionary), *shift]);
            }
            Kind::Ids { shape, shift, entries } => {
                let flags = u8::from(shape.upper)
                    | u8::from(shape.dashes) << 1
                    | u8::from(entries.is_some()) << 2;
                out.extend_from_slice(&[shape.digits, flags, *shift]);
                if let Some(entries) = entries {
                    out.extend_from_slice(&(entries.len as u32).to_le_bytes());
                    out.push(entries.shift);
                }
            }
            Kind::Raw { values } => {
                values.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
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
            2 => {
                let [shift] = take(from).ok_or_else(cut)?;
                Kind::Dict { shift }
            }
            3 => {
                let [form, scale, dictionary, shift] = take(from).ok_or_else(cut)?;
                let form =
                    Form::from_bytes(form, scale).ok_or_else(|| damaged("has no such form"))?;
                Kind::Numbers { form, dictionary: dictionary == 1, shift }
            }
            4 => Kind::Scaled,
            5 => Kind::Floats,
            6 => Kind::Bools,
            7 => {
                let [digits, flags, shift] = take(from).ok_or_else(cut)?;
                let shape = Shape { digits, upper: flags & 1 != 0, dashes: flags & 2 != 0 };
                if !shape.is_sound() {
                    return Err(damaged("has no such identifiers"));
                }
                let mut entries = None;
                if flags & 4 != 0 {
                    let len = u32::from_le_bytes(take(from).ok_or_else(cut)?) as usize;
                    let [shift] = take(from).ok_or_else(cut)?;
                    if len > ROWS_MAX {
                        return Err(damaged("has too many entries"));
                    }
                    entries = Some(Cut { len, shift });
                }
                Kind::Ids { shape, shift, entries }
            }
            8 => {
                let [shift] = take(from).ok_or_else(cut)?;
                Kind::Times { shift }
            }
            9 => {
                let bytes = from.split_at_checked((count as usize).saturating_mul(4));
                let (counts, rest) = bytes.ok_or_else(cut)?;
                *from = rest;
                let counts = counts.as_chunks::<4>().0.iter();
                Kind::Raw { values: counts.map(|count| u32::from_le_bytes(*count)).collect() }
            }
            _ => return Err(damaged("is of a kind that this program does not know")),
        };
        let last = first.checked_add(count).ok_or_else(|| damaged("names no section"))?;
        if kind.sections(len) != Some(count) {
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
