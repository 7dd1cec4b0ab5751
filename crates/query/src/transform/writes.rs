//! What a pipe writes into one record.

use crate::logsql::{FieldPattern, Unpack};

/// Most fields that one record gets.
const FIELDS_MAX: usize = 10_000;

/// Fields and their new values, in the order in which they came; the last value of a name counts.
#[derive(Debug, Default)]
pub(super) struct Writes {
    fields: Vec<(String, String)>,
}

impl Writes {
    pub(super) fn clear(&mut self) {
        self.fields.clear();
    }

    /// Writes a value.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        match self.fields.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None if self.fields.len() < FIELDS_MAX => {
                self.fields.push((name.to_owned(), value.to_owned()));
            }
            None => {}
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
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
