//! The journal's export format, as `journalctl -o export` writes it and `systemd-journal-upload`
//! posts it (`application/vnd.fdo.journal`).
//!
//! Specification: <https://systemd.io/JOURNAL_EXPORT_FORMATS/>. Entries are separated by a blank
//! line; a field is `NAME=value\n`, or, where the value is binary,
//! `NAME\n`, its length as 8 bytes little-endian, the value, `\n`.
//!
//! Sans-I/O: bytes are pushed as they come, complete entries are taken out. Invariants: never holds
//! more than [`ENTRY_BYTES_MAX`] of an entry beyond what was pushed, and of a field that is longer
//! than [`FIELD_BYTES_MAX`] only the head; each byte is looked at a bounded number of times,
//! whatever the pieces in which it came.

mod records;

pub use records::{Decoder, EntryRows};

/// Longest field value that is kept; of a longer one the head is kept.
pub const FIELD_BYTES_MAX: usize = lodge_record::limits::LINE_BYTES_MAX;
/// Most bytes of an entry's values that are kept; fields beyond keep no more than their names.
pub const ENTRY_BYTES_MAX: usize = 4 * FIELD_BYTES_MAX;
/// Most fields of an entry that are kept; further ones are counted.
const FIELDS_MAX: usize = 1024;
/// A text value without its end that is longer than this is looked at piece by piece.
const SHORT_TEXT_BYTES: usize = 4 << 10;
/// Longest field name; the journal's own limit is 64.
const NAME_BYTES_MAX: usize = 256;

/// One field of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, such as `_SYSTEMD_UNIT`.
    pub name: String,
    /// Its value: any bytes.
    pub value: Vec<u8>,
    /// Length of the value before it was cut at [`FIELD_BYTES_MAX`] or [`ENTRY_BYTES_MAX`].
    pub original_bytes: u64,
}

/// One journal entry: its fields in order; names may repeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The fields.
    pub fields: Vec<Field>,
    /// Fields that were too many.
    pub dropped_fields: u64,
}

impl Entry {
    /// The first field called `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.name == name).map(|field| field.value.as_slice())
    }

    /// The first field called `name`, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }
}

/// The stream was not in the export format.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExportError {
    /// A field's name had no end.
    #[error("a field name of the journal export is longer than {NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// A binary value was not followed by a line end.
    #[error("the binary field {0} of the journal export does not end in a line end")]
    MissingLineEnd(String),
    /// The stream ended within a field.
    #[error("the journal export ends within a field: its last entry is not whole")]
    Cut,
}

enum State {
    /// At the start of a line.
    Line,
    /// Within a text value that did not come at once.
    LongText { name: String, value: Vec<u8>, seen: u64 },
    /// The name of a binary field was read; its length follows.
    Length { name: String },
    /// Within a binary value.
    Binary { name: String, value: Vec<u8>, left: u64, total: u64 },
}

/// Cuts a stream of bytes into entries.
pub struct Parser {
    buffer: Vec<u8>,
    at: usize,
    state: State,
    entry: Entry,
}

impl Default for Parser {
    fn default() -> Self {
        Parser { buffer: Vec::new(), at: 0, state: State::Line, entry: Entry::default() }
    }
}

impl Parser {
    /// Adds bytes as they were read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete entry; `None` until more bytes are pushed.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ExportError> {
        loop {
            let state = std::mem::replace(&mut self.state, State::Line);
            let progressed = match state {
                State::Line => match self.line()? {
                    Line::Entry(entry) => return Ok(Some(entry)),
                    Line::Progress => true,
                    Line::Starved => false,
                },
                State::LongText { name, value, seen } => self.long_text(name, value, seen),
                State::Length { name } => self.length(name),
                State::Binary { name, value, left, total } => {
                    self.binary(name, value, left, total)?
                }
            };
            if !progressed {
                return Ok(None);
            }
        }
    }

    /// The entry that the end of the stream, which is here, ends.
    pub fn finish(&mut self) -> Result<Option<Entry>, ExportError> {
        if let Some(entry) = self.next_entry()? {
            return Ok(Some(entry));
        }
        if !self.rest().is_empty() || !matches!(self.state, State::Line) {
            return Err(ExportError::Cut);
        }
        let entry = std::mem::take(self).entry;
        Ok(Some(entry).filter(|entry| !entry.fields.is_empty()))
    }

    /// Bytes that are held of an entry whose end did not come yet; 0 between entries.
    pub fn unfinished_bytes(&self) -> usize {
        let begun = match &self.state {
            State::Line => 0,
            State::Length { name } => name.len(),
            State::LongText { name, value, .. } | State::Binary { name, value, .. } => {
                name.len() + value.len()
            }
        };
        let fields = self.entry.fields.iter();
        let whole: usize = fields.map(|field| field.name.len() + field.value.len()).sum();
        self.rest().len() + begun + whole
    }

    /// How much of the next value is kept.
    fn value_bytes_max(&self) -> usize {
        let kept: usize = self.entry.fields.iter().map(|field| field.value.len()).sum();
        FIELD_BYTES_MAX.min(ENTRY_BYTES_MAX.saturating_sub(kept))
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    fn line(&mut self) -> Result<Line, ExportError> {
        let rest = self.rest();
        let equals = memchr::memchr2(b'=', b'\n', rest);
        let Some(end) = equals else {
            let too_long = rest.len() > NAME_BYTES_MAX;
            return if too_long { Err(ExportError::NameTooLong) } else { Ok(Line::Starved) };
        };
        if end > NAME_BYTES_MAX {
            return Err(ExportError::NameTooLong);
        }
        let name = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
        if rest.get(end) == Some(&b'\n') {
            self.at += end + 1;
            if !name.is_empty() {
                self.state = State::Length { name };
            } else if !self.entry.fields.is_empty() {
                return Ok(Line::Entry(std::mem::take(&mut self.entry)));
            }
            return Ok(Line::Progress);
        }
        let value = rest.get(end + 1..).unwrap_or_default();
        if let Some(newline) = memchr::memchr(b'\n', value) {
            let kept = newline.min(self.value_bytes_max());
            let kept = value.get(..kept).unwrap_or_default().to_vec();
            self.at += end + 1 + newline + 1;
            self.keep(name, kept, newline as u64);
            return Ok(Line::Progress);
        }
        if value.len() > SHORT_TEXT_BYTES {
            self.state = State::LongText { name, value: Vec::new(), seen: 0 };
            self.at += end + 1;
            return Ok(Line::Progress);
        }
        Ok(Line::Starved)
    }

    fn long_text(&mut self, name: String, mut value: Vec<u8>, seen: u64) -> bool {
        let newline = memchr::memchr(b'\n', self.rest());
        let here = newline.unwrap_or(self.rest().len());
        let kept = here.min(self.value_bytes_max().saturating_sub(value.len()));
        value.extend_from_slice(self.rest().get(..kept).unwrap_or_default());
        let seen = seen + here as u64;
        self.at += here;
        if newline.is_some() {
            self.at += 1;
            self.keep(name, value, seen);
            return true;
        }
        self.state = State::LongText { name, value, seen };
        false
    }

    fn length(&mut self, name: String) -> bool {
        let Some(length) = self.rest().first_chunk::<8>() else {
            self.state = State::Length { name };
            return false;
        };
        let total = u64::from_le_bytes(*length);
        self.at += 8;
        self.state = State::Binary { name, value: Vec::new(), left: total, total };
        true
    }

    fn binary(
        &mut self,
        name: String,
        mut value: Vec<u8>,
        mut left: u64,
        total: u64,
    ) -> Result<bool, ExportError> {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.rest().len());
        let kept = here.min(self.value_bytes_max().saturating_sub(value.len()));
        value.extend_from_slice(self.rest().get(..kept).unwrap_or_default());
        self.at += here;
        left -= here as u64;
        if left > 0 || self.rest().is_empty() {
            self.state = State::Binary { name, value, left, total };
            return Ok(false);
        }
        if self.rest().first() != Some(&b'\n') {
            return Err(ExportError::MissingLineEnd(name));
        }
        self.at += 1;
        self.keep(name, value, total);
        Ok(true)
    }

    fn keep(&mut self, name: String, value: Vec<u8>, original_bytes: u64) {
        if self.entry.fields.len() < FIELDS_MAX {
            self.entry.fields.push(Field { name, value, original_bytes });
        } else {
            self.entry.dropped_fields += 1;
        }
    }
}

enum Line {
    Entry(Entry),
    Progress,
    Starved,
}

#[cfg(test)]
mod tests;
