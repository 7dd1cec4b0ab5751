//! Secrets are taken out of finished batches.
//!
//! Every text is looked at: messages, fields, labels, `_overflow`, and numbers as their text, which
//! turns the column into text where one is hidden. The value of a field whose name says that it is
//! a secret is hidden as a whole. Names of fields are not looked at. Invariants:
//! - a dictionary's texts are looked at once, and so is `_stream`;
//! - the original bytes of a damaged message are dropped where anything of the record was hidden:
//!   they may spell the secret in a way that only its parser understood.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lodge_record::stream::StreamLabels;
use lodge_record::{field, schema};

use super::columns;
use super::secrets::{self, Finder, Kind};
use super::settings::{Builtin, RedactConfig};
use super::tokens::{self, SecretName, Tokens};
use super::{card, condition};
use crate::config::{ConfigError, value_error};

/// Most rows that a private key takes whose lines came as records of their own.
const KEY_ROWS_MAX: usize = 200;

/// Takes secrets out of batches.
#[derive(Debug)]
pub struct Redactor {
    kinds: Vec<Kind>,
    counts: Vec<(Arc<str>, AtomicU64)>,
    /// Kind that hides values by their field's name.
    tokens: Option<usize>,
    cards: Option<usize>,
    has_patterns: bool,
    /// Original bytes that were dropped.
    raw_dropped: AtomicU64,
}

/// How often one kind of secret was hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedactTotals {
    /// The kind: one built in, a pattern's name, or `raw` for dropped original bytes.
    pub name: Arc<str>,
    /// Places in values, counted in each row.
    pub count: u64,
}

impl Redactor {
    /// A redactor of what is configured; `None` if that is nothing.
    pub fn new(config: &RedactConfig) -> Result<Option<Self>, ConfigError> {
        if config.builtin.is_empty() && config.patterns.is_empty() {
            return Ok(None);
        }
        let mut kinds = Vec::new();
        let mut counts: Vec<(Arc<str>, AtomicU64)> = Vec::new();
        for builtin in &config.builtin {
            let finder = match builtin {
                Builtin::Card => Finder::Cards,
                Builtin::Token => Finder::Tokens(Box::new(Tokens::compile())),
                Builtin::Email => Finder::Emails,
            };
            let name = builtin.name();
            kinds.push(Kind { with: format!("[redacted:{name}]"), finder });
            counts.push((name.into(), AtomicU64::new(0)));
        }
        for pattern in &config.patterns {
            let regex = regex::bytes::RegexBuilder::new(&pattern.regex)
                .size_limit(condition::REGEX_BYTES_MAX)
                .build()
                .map_err(|error| value_error("redact.patterns.regex", error.to_string()))?;
            kinds.push(Kind { with: pattern.with.clone(), finder: Finder::Pattern(regex) });
            counts.push((pattern.name.as_str().into(), AtomicU64::new(0)));
        }
        for (kind, (name, _)) in kinds.iter().zip(&counts) {
            if secrets::hide(&kinds, kind.with.as_bytes()).is_some() {
                let problem = format!("{:?} (of {name}) would be redacted again", kind.with);
                return Err(value_error("redact.patterns.with", problem));
            }
        }
        let place = |wanted: Builtin| config.builtin.iter().position(|builtin| *builtin == wanted);
        Ok(Some(Redactor {
            tokens: place(Builtin::Token),
            cards: place(Builtin::Card),
            has_patterns: !config.patterns.is_empty(),
            kinds,
            counts,
            raw_dropped: AtomicU64::new(0),
        }))
    }

    /// How often each kind was hidden.
    pub fn totals(&self) -> Vec<RedactTotals> {
        let of = |name: &Arc<str>, count: &AtomicU64| RedactTotals {
            name: Arc::clone(name),
            count: count.load(Ordering::Relaxed),
        };
        let kinds = self.counts.iter().map(|(name, count)| of(name, count));
        kinds.chain([of(&"raw".into(), &self.raw_dropped)]).collect()
    }

    /// The batch without secrets.
    pub fn apply(&self, records: RecordBatch) -> RecordBatch {
        let rows = records.num_rows();
        let mut columns = columns::take_apart(&records);
        let mut touched = vec![false; rows];
        let mut changed = false;
        for at in 0..columns.len() {
            let key_rows = match columns.get(at) {
                Some((found, _)) if found.name() == field::MSG => self.key_rows(&records),
                _ => Vec::new(),
            };
            let Some((found, column)) = columns.get_mut(at) else { break };
            if let Some(array) = self.redact_column(found.name(), column, &key_rows, &mut touched) {
                *found = columns::retyped(found, &array);
                *column = array;
                changed = true;
            }
        }
        for (found, column) in &mut columns {
            if is_raw(found.name())
                && let Some(array) = self.drop_raw(column, &touched)
            {
                *found = columns::retyped(found, &array);
                *column = array;
                changed = true;
            }
        }
        if changed { columns::assemble(rows, columns) } else { records }
    }

    /// A column without secrets; `None` if it has none. Marks the rows in `touched`.
    fn redact_column(
        &self,
        name: &str,
        column: &ArrayRef,
        key_rows: &[usize],
        touched: &mut [bool],
    ) -> Option<ArrayRef> {
        if name == field::TIME || is_raw(name) {
            return None;
        }
        let secret = self.tokens.and_then(|kind| Some((kind, SecretName::of(name)?)));
        match column.data_type() {
            DataType::Dictionary(..) => self.redact_dictionary(name, column, secret, touched),
            DataType::Utf8 => {
                let texts = column.as_string::<i32>();
                let array = self.redact_texts(name, texts, secret, key_rows, touched)?;
                Some(Arc::new(array))
            }
            DataType::Int64 | DataType::Float64 => {
                let array = self.redact_numbers(column, secret, touched)?;
                Some(Arc::new(array))
            }
            _ => None,
        }
    }

    fn redact_texts(
        &self,
        name: &str,
        texts: &StringArray,
        secret: Option<(usize, SecretName)>,
        key_rows: &[usize],
        touched: &mut [bool],
    ) -> Option<StringArray> {
        let candidates = if secret.is_some() { None } else { self.candidates(texts) };
        let mut hidden: Vec<(usize, Option<String>)> = Vec::new();
        let mut look_at = |row: usize| {
            if texts.is_null(row) {
                return;
            }
            let text = texts.value(row);
            let key = self.tokens.filter(|_| key_rows.binary_search(&row).is_ok());
            let new = match (name, key) {
                (_, Some(kind)) => Some(self.whole(kind, 1)),
                (field::OVERFLOW, _) => match self.redact_overflow(text) {
                    Some(text) => Some(text),
                    None => return,
                },
                _ => self.redact_value(text, secret, false, 1),
            };
            if new.is_some() {
                hidden.push((row, new));
            }
        };
        match candidates {
            Some(mut rows) => {
                rows.extend_from_slice(key_rows);
                rows.sort_unstable();
                rows.dedup();
                rows.into_iter().for_each(&mut look_at);
            }
            None => (0..texts.len()).for_each(&mut look_at),
        }
        if hidden.is_empty() {
            return None;
        }
        let mut hidden = hidden.into_iter().peekable();
        let new = texts.iter().enumerate().map(|(row, text)| {
            match hidden.next_if(|(at, _)| *at == row) {
                Some((_, new)) => {
                    mark(touched, row);
                    new.map(Cow::Owned)
                }
                None => text.map(Cow::Borrowed),
            }
        });
        Some(StringArray::from_iter(new))
    }

    fn redact_dictionary(
        &self,
        name: &str,
        column: &ArrayRef,
        secret: Option<(usize, SecretName)>,
        touched: &mut [bool],
    ) -> Option<ArrayRef> {
        let coded = column.as_dictionary_opt::<Int32Type>()?;
        let texts = coded.values().as_string_opt::<i32>()?;
        let mut rows_of = vec![0u64; texts.len()];
        for code in coded.keys_iter().flatten() {
            if let Some(rows) = rows_of.get_mut(code) {
                *rows += 1;
            }
        }
        let redact = |(text, rows): (Option<&str>, &u64)| {
            let text = text.unwrap_or_default();
            match name {
                field::STREAM => self.redact_stream(text, *rows),
                _ => self.redact_value(text, secret, false, *rows),
            }
        };
        let hidden: Vec<Option<String>> = texts.iter().zip(&rows_of).map(redact).collect();
        if hidden.iter().all(Option::is_none) {
            return None;
        }
        let new = coded.keys_iter().enumerate().map(|(row, code)| {
            let code = code?;
            match hidden.get(code)? {
                Some(new) => {
                    mark(touched, row);
                    Some(Cow::Borrowed(new.as_str()))
                }
                None => Some(Cow::Borrowed(texts.value(code))),
            }
        });
        // Two secrets may have become the same text, which is one in the dictionary.
        Some(columns::coded_texts(new))
    }

    fn redact_numbers(
        &self,
        column: &ArrayRef,
        secret: Option<(usize, SecretName)>,
        touched: &mut [bool],
    ) -> Option<StringArray> {
        let ints = column.as_primitive_opt::<Int64Type>();
        let floats = column.as_primitive_opt::<Float64Type>();
        let mut hidden: Vec<(usize, String)> = Vec::new();
        for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
            let whole = match (ints, floats) {
                (Some(ints), _) => u64::try_from(ints.value(row)).ok(),
                (_, Some(floats)) => {
                    let value = floats.value(row);
                    (value.fract() == 0.0 && (1e12..1e19).contains(&value)).then_some(value as u64)
                }
                _ => None,
            };
            let is_card = self.cards.is_some() && whole.is_some_and(card::is_card_number);
            if (is_card || secret.is_some() || self.has_patterns)
                && let Some(text) = schema::value_text(column, row)
                && let Some(new) = self.redact_value(&text, secret, true, 1)
            {
                hidden.push((row, new));
            }
        }
        if hidden.is_empty() {
            return None;
        }
        let mut hidden = hidden.into_iter().peekable();
        let new = (0..column.len()).map(|row| match hidden.next_if(|(at, _)| *at == row) {
            Some((_, new)) => {
                mark(touched, row);
                Some(Cow::Owned(new))
            }
            None => schema::value_text(column, row),
        });
        Some(StringArray::from_iter(new))
    }

    /// Rows in which something may be found; `None` if each must be looked at.
    fn candidates(&self, texts: &StringArray) -> Option<Vec<usize>> {
        let offsets = texts.value_offsets();
        let first = usize::try_from(*offsets.first()?).ok()?;
        let last = usize::try_from(*offsets.last()?).ok()?;
        let all = texts.value_data().get(first..last)?;
        let row_of = |at: usize| offsets.partition_point(|from| (*from as usize) <= at + first);
        let mut rows = Vec::new();
        for kind in &self.kinds {
            let mut looked_at = None;
            let alone = kind.finder.for_each_candidate(all, |place| {
                let (from, to) = (row_of(place.start), row_of(place.end.saturating_sub(1)));
                for row in from.saturating_sub(1)..to {
                    // Once for all candidates of a row, however many there are.
                    if looked_at != Some(row) {
                        looked_at = Some(row);
                        if kind.finder.may_be_in(texts.value(row).as_bytes()) {
                            rows.push(row);
                        }
                    }
                }
            });
            if !alone {
                return None;
            }
        }
        rows.sort_unstable();
        rows.dedup();
        Some(rows)
    }

    /// A value without secrets; `None` if it has none. It counts for so many rows.
    fn redact_value(
        &self,
        text: &str,
        secret: Option<(usize, SecretName)>,
        is_number: bool,
        rows: u64,
    ) -> Option<String> {
        if let Some((kind, name)) = secret
            && name.hides(text, is_number)
        {
            let is_hidden = self.kinds.get(kind).is_some_and(|kind| kind.with == text);
            return (!is_hidden).then(|| self.whole(kind, rows));
        }
        let hidden = secrets::hide(&self.kinds, text.as_bytes())?;
        for kind in hidden.kinds {
            self.count(kind, rows);
        }
        // Finders keep to the borders of characters, so this changes nothing.
        Some(String::from_utf8_lossy(&hidden.text).into_owned())
    }

    /// What stands in place of a whole value.
    fn whole(&self, kind: usize, rows: u64) -> String {
        self.count(kind, rows);
        self.kinds.get(kind).map(|kind| kind.with.clone()).unwrap_or_default()
    }

    fn count(&self, kind: usize, rows: u64) {
        if let Some((_, count)) = self.counts.get(kind) {
            count.fetch_add(rows, Ordering::Relaxed);
        }
    }

    fn redact_overflow(&self, text: &str) -> Option<String> {
        let mut changed = false;
        let new = columns::map_overflow(text, |name, value| {
            let secret = self.tokens.and_then(|kind| Some((kind, SecretName::of(name)?)));
            let new = self.redact_value(value, secret, false, 1);
            changed |= new.is_some();
            Some(new.unwrap_or_else(|| value.to_owned()))
        });
        if changed { new } else { None }
    }

    fn redact_stream(&self, canonical: &str, rows: u64) -> Option<String> {
        let Some(labels) = StreamLabels::parse(canonical) else {
            return self.redact_value(canonical, None, false, rows);
        };
        let mut new = labels.clone();
        for (name, value) in labels.iter() {
            let secret = self.tokens.and_then(|kind| Some((kind, SecretName::of(name)?)));
            if let Some(value) = self.redact_value(value, secret, false, rows) {
                new.set(name, &value);
            }
        }
        (new != labels).then(|| new.canonical())
    }

    /// Rows of messages that are lines of a private key: lines that look like one, and what stands
    /// behind the first line of one in the same stream.
    fn key_rows(&self, records: &RecordBatch) -> Vec<usize> {
        let messages = records.column_by_name(field::MSG).and_then(|c| c.as_string_opt::<i32>());
        let streams = records.column_by_name(field::STREAM);
        let streams = streams.and_then(|c| c.as_dictionary_opt::<Int32Type>());
        let (Some(messages), Some(streams), Some(_)) = (messages, streams, self.tokens) else {
            return Vec::new();
        };
        let has_key = memchr::memmem::find(messages.value_data(), b"PRIVATE KEY").is_some();
        let mut found = Vec::new();
        let mut open: Option<(Option<usize>, usize)> = None;
        for (row, text) in messages.iter().enumerate() {
            let Some(text) = text else { continue };
            if let Some((stream, left)) = open {
                if stream != streams.key(row) {
                    continue;
                }
                if left > 0 && tokens::may_be_in_key(text) {
                    found.push(row);
                    open = Some((stream, left - 1));
                    continue;
                }
                open = None;
            }
            if tokens::is_key_line(text) {
                found.push(row);
            } else if has_key && tokens::opens_key(text) {
                open = Some((streams.key(row), KEY_ROWS_MAX));
            }
        }
        found.retain(|row| !messages.value(*row).is_empty());
        found
    }

    /// Original bytes without those of rows in which anything was hidden, or that have a secret
    /// themselves; `None` if all stay.
    fn drop_raw(&self, column: &ArrayRef, touched: &[bool]) -> Option<ArrayRef> {
        let drops = |row: usize| {
            let Some(text) = schema::value_text(column, row) else { return false };
            let bytes = STANDARD.decode(text.as_bytes());
            let bytes = bytes.unwrap_or_else(|_| text.as_bytes().to_vec());
            touched.get(row).copied().unwrap_or(true)
                || secrets::hide(&self.kinds, &bytes).is_some()
        };
        let drops: Vec<bool> = (0..column.len()).map(drops).collect();
        let count = drops.iter().filter(|drops| **drops).count() as u64;
        if count == 0 {
            return None;
        }
        self.raw_dropped.fetch_add(count, Ordering::Relaxed);
        let left = drops.iter().enumerate().map(|(row, drops)| match drops {
            true => None,
            false => schema::value_text(column, row),
        });
        Some(columns::texts_of(left))
    }
}

/// Whether a field holds original bytes; of two in a record the second has a number.
fn is_raw(name: &str) -> bool {
    name.split('#').next() == Some(field::RAW_BASE64)
}

fn mark(rows: &mut [bool], row: usize) {
    if let Some(row) = rows.get_mut(row) {
        *row = true;
    }
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
