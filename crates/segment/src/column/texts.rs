//! Texts one after the other, on their way into an Arrow array.

use arrow::array::StringArray;
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};

use crate::SegmentError;

/// Appends texts; the bytes are checked once, at the end.
#[derive(Debug)]
pub(crate) struct Texts {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl Texts {
    /// No texts, with room for so many.
    pub(crate) fn with_capacity(texts: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(texts + 1);
        offsets.push(0);
        Self { offsets, bytes: Vec::with_capacity(bytes) }
    }

    /// Appends a text.
    pub(crate) fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.close();
    }

    /// Appends what `write` appends as one text.
    pub(crate) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.close();
    }

    fn close(&mut self) {
        // Beyond 2 GiB the offset wraps to a negative one, which `finish` sees.
        self.offsets.push(self.bytes.len() as i32);
    }

    /// The texts as an array.
    pub(crate) fn finish(self) -> Result<StringArray, SegmentError> {
        if i32::try_from(self.bytes.len()).is_err() {
            let trouble = "more than 2 GiB of text at once: ask for fewer rows";
            return Err(SegmentError::Encode(trouble.into()));
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        StringArray::try_new(offsets, Buffer::from_vec(self.bytes), None)
            .map_err(|error| SegmentError::damaged("texts", error.to_string()))
    }
}
