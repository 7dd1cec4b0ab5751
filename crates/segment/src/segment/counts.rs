//! What a chunk has of a field without a word for each row: how many rows have which text, and which
//! identifiers there are.
//!
//! Invariant: the answers are those that follow from [`Segment::groups`] or the rows themselves.

use arrow::array::{Array, StringArray};
use lodge_record::field;

use super::reader::{Segment, Stored, Values};
use crate::SegmentError;
use crate::bits::Mask;

/// How many rows have each text of a field.
#[derive(Debug, Clone)]
pub struct Counts {
    /// The distinct texts; not all need occur.
    pub values: StringArray,
    /// `(code, rows)` of what occurs, each code once: 0 for no value, else the text's place + 1.
    pub counts: Vec<(u32, u64)>,
}

impl Segment {
    /// How many rows of a chunk, or of those in `rows`, have each text of a field. `None` if that takes
    /// [`Segment::groups`].
    pub fn counts(
        &self,
        chunk: usize,
        name: &str,
        rows: Option<&Mask>,
    ) -> Result<Option<Counts>, SegmentError> {
        let range = self.chunk_rows(chunk)?;
        if name == field::STREAM {
            let values = self.streams()?.texts.clone();
            let counts = self.counts_by_run(chunk, rows, values.len(), |stream| stream + 1)?;
            return Ok(Some(Counts { values, counts }));
        }
        let Some(place) = self.place(name) else { return Ok(None) };
        self.require(&[place])?;
        let Stored { presence, values } = self.stored(place)?;
        let plain = match values {
            Values::Plain(plain) => plain,
            Values::Runs(runs) => {
                let code = |stream: usize| runs.codes.get(stream).map_or(0, |code| *code as usize);
                let counts = self.counts_by_run(chunk, rows, runs.texts.len(), code)?;
                return Ok(Some(Counts { values: runs.texts.clone(), counts }));
            }
            Values::Text(_) => return Ok(None),
        };
        let dense = presence.dense_range(range.clone());
        let picked = rows.map(|rows| presence.gather(range.clone(), rows));
        let present = picked.as_ref().map_or(dense.len(), Mask::count);
        let absent = rows.map_or(range.len(), Mask::count).saturating_sub(present);
        let Some((values, by_place)) = plain.counts(dense, picked.as_ref())? else {
            return Ok(None);
        };
        let absent = std::iter::once((0, absent as u64));
        let counts = absent.chain((1..).zip(by_place)).filter(|(_, rows)| *rows > 0).collect();
        Ok(Some(Counts { values, counts }))
    }

    /// Counts rows by a code of their stream; `codes` is the largest code there is.
    fn counts_by_run(
        &self,
        chunk: usize,
        rows: Option<&Mask>,
        codes: usize,
        code: impl Fn(usize) -> usize,
    ) -> Result<Vec<(u32, u64)>, SegmentError> {
        let range = self.chunk_rows(chunk)?;
        let mut counts = vec![0; codes + 1];
        for (stream, within) in self.streams()?.within(range.clone()) {
            let here = match rows {
                None => within.len(),
                Some(rows) => {
                    rows.count_range(within.start - range.start..within.end - range.start)
                }
            };
            if let Some(count) = counts.get_mut(code(stream)) {
                *count += here as u64;
            }
        }
        Ok((0..).zip(counts).filter(|(_, rows)| *rows > 0).collect())
    }

    /// The rows of a chunk that have at least one of some fields; bit 0 is the chunk's first.
    pub fn present(&self, chunk: usize, names: &[&str]) -> Result<Mask, SegmentError> {
        let range = self.chunk_rows(chunk)?;
        let places: Vec<usize> = names.iter().filter_map(|name| self.place(name)).collect();
        self.require(&places)?;
        let mut mask = Mask::none(range.len());
        for place in places {
            match self.stored(place)? {
                // What follows from the stream, and the stream itself.
                Stored { values: Values::Runs(_), .. } => return Ok(Mask::all(range.len())),
                Stored { presence, .. } => mask.or(&presence.mask(range.clone())),
            }
        }
        Ok(mask)
    }

    /// The identifiers of a field in the rows of a chunk, or in those of `rows`, each of them once or
    /// more. `None` if the field is not stored as identifiers of 32 lower-case hexadecimal digits; rows
    /// without the field are of no account.
    pub fn identifiers(
        &self,
        chunk: usize,
        name: &str,
        rows: Option<&Mask>,
    ) -> Result<Option<Vec<u128>>, SegmentError> {
        let range = self.chunk_rows(chunk)?;
        let Some(place) = self.place(name) else { return Ok(None) };
        self.require(&[place])?;
        let Stored { presence, values: Values::Plain(values) } = self.stored(place)? else {
            return Ok(None);
        };
        let picked = rows.map(|rows| presence.gather(range.clone(), rows));
        values.identifiers(presence.dense_range(range), picked.as_ref())
    }
}
