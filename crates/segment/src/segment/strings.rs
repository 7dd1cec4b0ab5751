//! A list of texts: `Codes` of their lengths, then their bytes.

use arrow::array::{Array, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use bytes::Bytes;

use crate::SegmentError;
use crate::bits::Codes;

/// Appends the texts of an array without nulls.
pub(crate) fn encode(texts: &StringArray, out: &mut Vec<u8>) {
    let lengths: Vec<u32> = (0..texts.len()).map(|at| texts.value_length(at) as u32).collect();
    Codes::encode(&lengths, out);
    for at in 0..texts.len() {
        out.extend_from_slice(texts.value(at).as_bytes());
    }
}

/// Reads a list of at most `count_max` texts from the front of `bytes`, and gives what comes after.
pub(crate) fn open(bytes: &Bytes, count_max: usize) -> Result<(StringArray, Bytes), SegmentError> {
    let damaged = |trouble: &str| SegmentError::damaged("a list of texts", trouble);
    let (lengths, rest) = Codes::open(bytes)?;
    if lengths.len() > count_max {
        return Err(damaged("has more texts than there can be"));
    }
    let mut offsets: Vec<i32> = Vec::with_capacity(lengths.len() + 1);
    offsets.push(0);
    let mut end = 0u64;
    lengths.for_each(0..lengths.len(), |_, piece| {
        for length in piece {
            end += u64::from(*length);
            offsets.push(end.min(i32::MAX as u64) as i32);
        }
    });
    let len =
        usize::try_from(end).ok().filter(|len| *len <= rest.len() && *len < i32::MAX as usize);
    let len = len.ok_or_else(|| damaged("is cut short"))?;
    let text = Buffer::from_vec(rest.slice(..len).to_vec());
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    let texts = StringArray::try_new(offsets, text, None).map_err(|e| damaged(&e.to_string()))?;
    Ok((texts, rest.slice(len..)))
}
