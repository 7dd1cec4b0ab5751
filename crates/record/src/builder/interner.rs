//! Texts held once each, with a number for each.
//!
//! Invariant: codes count from 0 in the order in which their texts were first seen.

use std::hash::{BuildHasher, Hasher};

use arrow::array::StringArray;
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;
use hashbrown::{DefaultHashBuilder, HashTable};

/// The texts of a column.
#[derive(Debug, Default)]
pub(super) struct Interner {
    entries: HashTable<Entry>,
    bytes: Vec<u8>,
    state: DefaultHashBuilder,
    /// The text asked for last: in many columns it comes again and again.
    last: Option<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u64,
    code: i32,
    from: u32,
    to: u32,
}

impl Interner {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all texts.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    fn hash(&self, text: &str) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write(text.as_bytes());
        hasher.finish()
    }

    /// The code of a text, and whether it is new.
    #[inline]
    pub(super) fn code(&mut self, text: &str) -> (i32, bool) {
        if let Some(Entry { from, to, code, .. }) = self.last
            && self.bytes.get(from as usize..to as usize) == Some(text.as_bytes())
        {
            return (code, false);
        }
        let hash = self.hash(text);
        let bytes = &self.bytes;
        let same = |e: &Entry| {
            e.hash == hash && bytes.get(e.from as usize..e.to as usize) == Some(text.as_bytes())
        };
        if let Some(entry) = self.entries.find(hash, same) {
            self.last = Some(*entry);
            return (entry.code, false);
        }
        (self.add(text, hash), true)
    }

    #[cold]
    fn add(&mut self, text: &str, hash: u64) -> i32 {
        let code = self.entries.len() as i32;
        let from = self.bytes.len() as u32;
        self.bytes.extend_from_slice(text.as_bytes());
        let entry = Entry { hash, code, from, to: self.bytes.len() as u32 };
        self.entries.insert_unique(hash, entry, |e| e.hash);
        self.last = Some(entry);
        code
    }

    /// Takes the text off again that was added last.
    pub(super) fn forget_newest(&mut self) {
        let newest = self.entries.len() as i32 - 1;
        let mut from = self.bytes.len() as u32;
        self.entries.retain(|entry| {
            if entry.code == newest {
                from = entry.from;
            }
            entry.code != newest
        });
        self.bytes.truncate(from as usize);
        self.last = None;
    }

    /// Where the text of each code ends.
    pub(super) fn ends(&self) -> Vec<u32> {
        let mut ends = vec![0; self.entries.len()];
        for entry in &self.entries {
            if let Some(end) = ends.get_mut(entry.code as usize) {
                *end = entry.to;
            }
        }
        ends
    }

    /// All texts, one after the other.
    pub(super) fn text(&self) -> &[u8] {
        &self.bytes
    }

    /// The texts by code; the interner is empty again.
    pub(super) fn finish(&mut self) -> Result<StringArray, ArrowError> {
        let ends = self.ends();
        let offsets: Vec<i32> =
            std::iter::once(0).chain(ends.into_iter().map(|e| e as i32)).collect();
        self.entries.clear();
        self.last = None;
        let bytes = std::mem::take(&mut self.bytes);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        StringArray::try_new(offsets, Buffer::from_vec(bytes), None)
    }
}
