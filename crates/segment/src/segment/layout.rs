//! What the columns of a segment take, and how they are stored.

use std::ops::Range;

use super::reader::{Codec, Segment, Values};
use crate::SegmentError;
use crate::sections::SectionNo;

/// How a column is stored, and what of it takes how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The name of its kind: `const`, `dict`, `int64`, `float64`, `ipv4`, `bool`, `id`, `time`,
    /// `string`, `template` (texts split by what they have in common) or `stream` (one value for each
    /// stream).
    pub kind: &'static str,
    /// Stored bytes of what there is for each value.
    pub values_bytes: u64,
    /// Stored bytes of the values, templates or streams that values refer to.
    pub dictionary_bytes: u64,
    /// Stored bytes of what only tells which values cannot be there.
    pub filter_bytes: u64,
    /// How many different values, templates or streams values refer to.
    pub dictionary_items: u64,
}

impl Segment {
    /// Stored bytes of a column, all of its sections together; 0 if the segment does not have it.
    pub fn column_bytes(&self, name: &str) -> u64 {
        let Some(column) = self.place(name).and_then(|place| self.columns.get(place)) else {
            return 0;
        };
        let own = match &column.codec {
            Codec::Plain(reader) => reader.sections(),
            Codec::Text(reader) => reader.sections(),
            Codec::Runs(section) => one(*section),
        };
        // What is by stream is nothing without where each stream begins.
        let streams = matches!(column.codec, Codec::Runs(_)).then_some(self.streams_section);
        self.bytes(own.chain(column.presence).chain(streams))
    }

    /// How a column is stored; `None` if the segment does not have it. The bytes add up to
    /// [`Segment::column_bytes`].
    pub fn layout(&self, name: &str) -> Result<Option<Layout>, SegmentError> {
        let Some(place) = self.place(name) else { return Ok(None) };
        let Some(column) = self.columns.get(place) else { return Ok(None) };
        let none = 0..0;
        let (kind, dictionary, filter) = match &column.codec {
            Codec::Plain(reader) => {
                let (kind, dictionary) = reader.layout();
                (kind, dictionary, none)
            }
            Codec::Text(reader) => ("template", reader.templates(), reader.filters()),
            Codec::Runs(_) => ("stream", one(self.streams_section), none),
        };
        let (dictionary_bytes, filter_bytes) = (self.bytes(dictionary), self.bytes(filter));
        let dictionary_items = match &self.stored(place)?.values {
            Values::Plain(values) => values.entries(),
            Values::Text(values) => values.templates(),
            Values::Runs(_) => self.streams()?.len(),
        };
        let all = self.column_bytes(name);
        Ok(Some(Layout {
            kind,
            values_bytes: all.saturating_sub(dictionary_bytes).saturating_sub(filter_bytes),
            dictionary_bytes,
            filter_bytes,
            dictionary_items: dictionary_items as u64,
        }))
    }

    fn bytes(&self, sections: impl Iterator<Item = SectionNo>) -> u64 {
        let ranges = sections.filter_map(|section| self.range(section));
        ranges.map(|range| range.end.saturating_sub(range.start)).sum()
    }
}

fn one(section: SectionNo) -> Range<SectionNo> {
    section..section.saturating_add(1)
}
