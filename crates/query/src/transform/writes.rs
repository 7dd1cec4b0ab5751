//! What a pipe writes into one record.

use std::collections::HashMap;
use std::ops::Range;

use super::text::{Text, VALUE_BYTES_MAX};
use crate::error::{QueryError, QueryErrorKind};
use crate::logsql::{FieldPattern, Unpack};

/// Most fields that one pipe makes of one record.
pub(super) const FIELDS_MAX: usize = 10_000;
/// Most bytes of the names and values that one pipe makes of one record.
pub(super) const RECORD_BYTES_MAX: usize = 32 << 20;
/// So many fields are searched one after the other.
const SEARCHED_MAX: usize = 16;

/// Fields and their new values, in the order in which they came; the last value of a name counts.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Names and values, one after the other.
    text: String,
    fields: Vec<(Range<usize>, Range<usize>)>,
    /// Places in `fields` by name, once there are many.
    places: HashMap<String, usize>,
    refused: Option<Refused>,
}

/// Why not everything was written.
#[derive(Debug, Clone, Copy)]
enum Refused {
    Value,
    Fields,
    Record,
}

impl Writes {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
        self.places.clear();
    }

    /// Writes a value.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        if value.len() > VALUE_BYTES_MAX {
            self.refused = Some(Refused::Value);
            return;
        }
        if self.text.len() + name.len() + value.len() > RECORD_BYTES_MAX {
            self.refused = Some(Refused::Record);
            return;
        }
        if let Some(place) = self.place(name) {
            let value = self.append(value);
            if let Some((_, known)) = self.fields.get_mut(place) {
                *known = value;
            }
            return;
        }
        if self.fields.len() == FIELDS_MAX {
            self.refused = Some(Refused::Fields);
            return;
        }
        if self.fields.len() == SEARCHED_MAX {
            let known = self.fields.iter().enumerate();
            let name = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
            self.places = known.map(|(at, (range, _))| (name(range).to_owned(), at)).collect();
        }
        if self.fields.len() >= SEARCHED_MAX {
            self.places.insert(name.to_owned(), self.fields.len());
        }
        let pair = (self.append(name), self.append(value));
        self.fields.push(pair);
    }

    /// Writes a value that may have grown too long.
    pub(super) fn set_text(&mut self, name: &str, value: &Text) {
        match value.get() {
            Some(value) => self.set(name, value),
            None => self.refused = Some(Refused::Value),
        }
    }

    /// Writes an unpacked value, if its field is wanted.
    pub(super) fn unpacked(&mut self, unpack: &Unpack, name: &str, value: &str) {
        if let Some(name) = unpack.named(name) {
            self.set(&name, value);
        }
    }

    /// Writes the empty value into wanted fields that were not there.
    pub(super) fn complete(&mut self, unpack: &Unpack) {
        for pattern in &unpack.fields {
            if let FieldPattern::Name(name) = pattern
                && let Some(name) = unpack.named(name)
                && self.get(&name).is_none()
            {
                self.set(&name, "");
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.get(self.place(name)?)?;
        self.text.get(value.clone())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        self.fields.iter().map(move |(name, value)| (text(name), text(value)))
    }

    /// Whether all was written that `pipe` wanted to write.
    pub(super) fn check(&self, pipe: &str) -> Result<(), QueryError> {
        let Some(refused) = self.refused else { return Ok(()) };
        let problem = match refused {
            Refused::Value => format!("makes a value of more than {VALUE_BYTES_MAX} bytes"),
            Refused::Fields => format!("makes more than {FIELDS_MAX} fields of one record"),
            Refused::Record => {
                format!("makes fields of more than {RECORD_BYTES_MAX} bytes of one record")
            }
        };
        Err(QueryError::new(
            QueryErrorKind::BudgetMemory,
            format!(
                "`| {pipe}` {problem}, which is the most; filter such records out before it, name \
                 the fields that are wanted, or limit what is replaced"
            ),
        ))
    }

    fn place(&self, name: &str) -> Option<usize> {
        if self.fields.len() > SEARCHED_MAX {
            return self.places.get(name).copied();
        }
        self.fields.iter().position(|(range, _)| self.text.get(range.clone()) == Some(name))
    }

    fn append(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }
}
