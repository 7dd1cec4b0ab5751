//! One dictionary for a text column of a whole table.
//!
//! Invariant: a dictionary holds each of its values once, and no null.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Int32Type};
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::SegmentError;
use crate::chunk::encode_error;

/// Fewer values than this stay plain: a dictionary would only be in the way.
const VALUES_MIN: usize = 64;
/// Most entries of a dictionary.
const ENTRIES_MAX: usize = 1 << 18;
/// Most bytes of text in a dictionary.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// After so many values, and again after each further such number, it is looked whether they
/// repeat.
const PROBE_VALUES: usize = 2_048;

/// A text column of a table: its dictionary, and the codes of each source.
#[derive(Debug)]
pub(crate) struct Dictionary {
    pub(crate) values: StringArray,
    /// By source; `None` where the source does not have the column.
    pub(crate) codes: Vec<Option<Int32Array>>,
}

/// When a column becomes a dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Always: for `_stream`.
    Always,
    /// Where values repeat.
    IfRepeated,
}

/// The dictionary over all `sources` of a column, each `Utf8` or `Dictionary(Int32, Utf8)`; `None`
/// if the column is better stored plain.
pub(crate) fn unite(
    sources: &[Option<ArrayRef>],
    want: Want,
) -> Result<Option<Dictionary>, SegmentError> {
    let values: usize = sources.iter().flatten().map(|s| s.len() - s.null_count()).sum();
    if want == Want::IfRepeated && values < VALUES_MIN {
        return Ok(None);
    }
    let mut interner = Interner::default();
    let mut codes = Vec::with_capacity(sources.len());
    let mut remapped: Option<(ArrayRef, Vec<i32>)> = None;
    for source in sources {
        let Some(source) = source else {
            codes.push(None);
            continue;
        };
        let done = match source.data_type() {
            DataType::Utf8 => interner.intern_all(source.as_string(), want),
            DataType::Dictionary(..) => {
                let dictionary = source.as_dictionary::<Int32Type>();
                let same = |(values, _): &&(ArrayRef, Vec<i32>)| {
                    // The blocks of one table share their dictionary.
                    Arc::ptr_eq(values, dictionary.values())
                };
                if remapped.as_ref().filter(same).is_none() {
                    let texts = dictionary.values().as_string::<i32>();
                    remapped = interner
                        .entry_codes(texts, want)
                        .map(|map| (Arc::clone(dictionary.values()), map));
                }
                remapped.as_ref().map(|(_, map)| remap(dictionary.keys(), map))
            }
            other => return Err(SegmentError::Encode(format!("text column of type {other}"))),
        };
        match done {
            Some(done) => codes.push(Some(done)),
            None => return Ok(None),
        }
    }
    if want == Want::IfRepeated && interner.len() > values / 3 {
        return Ok(None);
    }
    Ok(Some(Dictionary { values: interner.finish()?, codes }))
}

impl Dictionary {
    /// Renumbers the codes so that they are in the order of their texts.
    pub(crate) fn sort(&mut self) -> Result<(), SegmentError> {
        let mut order: Vec<usize> = (0..self.values.len()).collect();
        order.sort_unstable_by_key(|&code| self.values.value(code));
        let mut rank = vec![0i32; order.len()];
        let mut interner = Interner::default();
        for &code in &order {
            let place = interner.push(self.values.value(code));
            if let Some(slot) = rank.get_mut(code) {
                *slot = place;
            }
        }
        self.values = interner.finish()?;
        for codes in self.codes.iter_mut().flatten() {
            *codes = remap(codes, &rank);
        }
        Ok(())
    }
}

fn remap(codes: &Int32Array, map: &[i32]) -> Int32Array {
    // Codes of null rows may be anything.
    let of =
        |code: &i32| usize::try_from(*code).ok().and_then(|c| map.get(c)).copied().unwrap_or(0);
    let mapped: Vec<i32> = codes.values().iter().map(of).collect();
    Int32Array::new(ScalarBuffer::from(mapped), codes.nulls().cloned())
}

#[derive(Default)]
struct Interner {
    entries: HashTable<(u64, i32)>,
    text: Vec<u8>,
    ends: Vec<i32>,
    state: RandomState,
    seen: usize,
}

impl Interner {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn full(&self) -> bool {
        self.ends.len() > ENTRIES_MAX || self.text.len() > TEXT_BYTES_MAX
    }

    fn push(&mut self, value: &str) -> i32 {
        let code = self.ends.len() as i32;
        self.text.extend_from_slice(value.as_bytes());
        self.ends.push(self.text.len() as i32);
        code
    }

    fn code(&mut self, value: &str) -> i32 {
        let mut hasher = self.state.build_hasher();
        hasher.write(value.as_bytes());
        let hash = hasher.finish();
        let (text, ends) = (&self.text, &self.ends);
        let same = |&(other, code): &(u64, i32)| {
            other == hash && slot(text, ends, code) == Some(value.as_bytes())
        };
        if let Some((_, code)) = self.entries.find(hash, same) {
            return *code;
        }
        let code = self.push(value);
        self.entries.insert_unique(hash, (hash, code), |(hash, _)| *hash);
        code
    }

    /// Codes of a plain column; `None` once its values do not repeat enough.
    fn intern_all(&mut self, column: &StringArray, want: Want) -> Option<Int32Array> {
        let mut codes = Vec::with_capacity(column.len());
        let mut before: Option<(&str, i32)> = None;
        for row in 0..column.len() {
            if column.is_null(row) {
                codes.push(0);
                continue;
            }
            let value = column.value(row);
            let code = match before {
                Some((text, code)) if text == value => code,
                _ => self.code(value),
            };
            before = Some((value, code));
            codes.push(code);
            self.seen += 1;
            if want == Want::IfRepeated && self.seen.is_multiple_of(PROBE_VALUES) {
                let repeats = self.len() <= self.seen / 2;
                if !repeats || self.full() {
                    return None;
                }
            }
        }
        Some(Int32Array::new(ScalarBuffer::from(codes), column.nulls().cloned()))
    }

    /// New codes of the entries of another dictionary; `None` once there are too many.
    fn entry_codes(&mut self, entries: &StringArray, want: Want) -> Option<Vec<i32>> {
        let map = (0..entries.len()).map(|i| self.code(entries.value(i))).collect();
        (want == Want::Always || !self.full()).then_some(map)
    }

    fn finish(self) -> Result<StringArray, SegmentError> {
        let offsets: Vec<i32> = std::iter::once(0).chain(self.ends).collect();
        StringArray::try_new(
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            Buffer::from_vec(self.text),
            None,
        )
        .map_err(encode_error)
    }
}

fn slot<'t>(text: &'t [u8], ends: &[i32], code: i32) -> Option<&'t [u8]> {
    let code = usize::try_from(code).ok()?;
    let start = match code.checked_sub(1) {
        Some(before) => usize::try_from(*ends.get(before)?).ok()?,
        None => 0,
    };
    text.get(start..usize::try_from(*ends.get(code)?).ok()?)
}
