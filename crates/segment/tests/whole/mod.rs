//! A segment read back whole, and records as text.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use lodge_record::{field, overflow, schema};
use lodge_segment::SegmentError;
use lodge_segment::segment::{Segment, ask};

/// All rows of a segment, chunk by chunk.
pub fn read_all(bytes: &Bytes) -> Result<Vec<RecordBatch>, SegmentError> {
    let segment = Segment::open(bytes, bytes.len() as u64)?;
    let schema = segment.schema().clone();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let chunks = 0..segment.chunks().len();
    chunks.map(|chunk| ask(&segment, bytes, |segment| segment.read(chunk, &names, None))).collect()
}

/// A record as text: every field with a value, `_overflow` spread out.
pub type Row = BTreeMap<String, String>;

/// The records of batches.
pub fn rows(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let mut values = Row::new();
            for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
                let Some(text) = schema::value_text(column, row) else { continue };
                if field.name() == field::OVERFLOW {
                    overflow::for_each(&text, |name, value| {
                        values.insert(name.into(), value.into());
                    });
                } else {
                    values.insert(field.name().clone(), text.into_owned());
                }
            }
            rows.push(values);
        }
    }
    rows
}
