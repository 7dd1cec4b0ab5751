//! What the fields of a block take, and how they are stored.

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;

use super::{OpenSegment, Source};
use crate::StoreError;

/// What one field takes in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldUse {
    /// How it is stored: as in [`lodge_segment::segment::Layout::kind`], `dict`, `int64`, `float64`,
    /// `bool`, `time` or `string` of an L0, `memory` of one that is in memory.
    pub kind: &'static str,
    /// Bytes of what there is for each value: stored ones, or those in memory.
    pub values_bytes: u64,
    /// Bytes of what tells which values cannot be there.
    pub filter_bytes: u64,
    /// Bytes of the dictionary.
    pub dictionary_bytes: u64,
    /// Different values in the dictionary, which all blocks of a segment have in common.
    pub dictionary_items: u64,
}

impl OpenSegment {
    /// What a field takes in a block; `None` if the segment has no column for it. What blocks have in
    /// common is shared out among them by their rows, so that the blocks of a segment add up to what
    /// the field takes.
    pub async fn field_use(
        &self,
        block: usize,
        name: &str,
    ) -> Result<Option<FieldUse>, StoreError> {
        self.info(block)?;
        let Ok(field) = self.schema.field_with_name(name) else { return Ok(None) };
        let found = match &self.source {
            Source::Hot(blocks) => {
                let batch = blocks.batches.get(block);
                let column = batch.and_then(|batch| batch.column_by_name(name));
                let entries = column.and_then(|c| c.as_any_dictionary_opt());
                let bytes = self.block_bytes(block, std::iter::once(name));
                let own = entries.map_or(0, |c| {
                    c.values().to_data().get_slice_memory_size().unwrap_or_default() as u64
                });
                FieldUse {
                    kind: "memory",
                    values_bytes: bytes.saturating_sub(own),
                    filter_bytes: 0,
                    dictionary_bytes: own.min(bytes),
                    dictionary_items: entries.map_or(0, |c| c.values().len() as u64),
                }
            }
            Source::Table(table, _) => {
                let (bytes, values) = table.dictionary(name);
                FieldUse {
                    kind: kind_of(field.data_type(), values > 0),
                    values_bytes: table.column_bytes(block, name),
                    filter_bytes: 0,
                    dictionary_bytes: self.share(block, bytes),
                    dictionary_items: values,
                }
            }
            Source::Built(built, objects, cache) => {
                let layout = built.ask(objects, cache, |segment| segment.layout(name)).await?;
                let Some(layout) = layout else { return Ok(None) };
                FieldUse {
                    kind: layout.kind,
                    values_bytes: self.share(block, layout.values_bytes),
                    filter_bytes: self.share(block, layout.filter_bytes),
                    dictionary_bytes: self.share(block, layout.dictionary_bytes),
                    dictionary_items: layout.dictionary_items,
                }
            }
        };
        Ok(Some(found))
    }

    /// A block's part of `bytes`, by its rows; the parts of all blocks add up to `bytes`.
    fn share(&self, block: usize, bytes: u64) -> u64 {
        let rows = |blocks: &[super::BlockInfo]| {
            blocks.iter().map(|block| block.rows as u128).sum::<u128>()
        };
        let all = rows(&self.blocks).max(1);
        let until = |end: usize| {
            let rows = rows(self.blocks.get(..end).unwrap_or(&self.blocks));
            u128::from(bytes) * rows / all
        };
        u64::try_from(until(block + 1) - until(block)).unwrap_or(u64::MAX)
    }
}

fn kind_of(data_type: &DataType, has_dictionary: bool) -> &'static str {
    match data_type {
        _ if has_dictionary => "dict",
        DataType::Int64 => "int64",
        DataType::Float64 => "float64",
        DataType::Boolean => "bool",
        DataType::Timestamp(..) => "time",
        _ => "string",
    }
}
