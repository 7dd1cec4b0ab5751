//! What the tests of several decoders need: values of a batch, and damage.

use arrow::array::RecordBatch;
use lodge_record::schema::value_text;
use rand::Rng;
use rand::rngs::SmallRng;

/// The value of a field as text.
pub(crate) fn text(records: &RecordBatch, name: &str, row: usize) -> Option<String> {
    value_text(records.column_by_name(name)?, row).map(|value| value.into_owned())
}

/// All values of a field, empty where it has none.
pub(crate) fn column(records: &RecordBatch, name: &str) -> Vec<String> {
    (0..records.num_rows()).map(|row| text(records, name, row).unwrap_or_default()).collect()
}

/// The one batch that there should be.
pub(crate) fn only(batches: &[RecordBatch]) -> &RecordBatch {
    let [only] = batches else { panic!("{} batches", batches.len()) };
    lodge_record::schema::check(only).expect("shape");
    only
}

/// Does damage to bytes.
pub(crate) struct Damage<'r>(pub(crate) &'r mut SmallRng);

impl Damage<'_> {
    /// Changes, adds, takes away or repeats something somewhere.
    pub(crate) fn of(&mut self, bytes: &mut Vec<u8>) {
        const MARKS: &[u8] = b"{}[]\",:\\\n\0\xff9-\x08\x7f\x80";
        if bytes.is_empty() {
            return;
        }
        let random = &mut *self.0;
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..6_u8) {
            0 => bytes[at] = random.random(),
            1 => bytes[at] ^= 1 << random.random_range(0..8_u8),
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, MARKS[random.random_range(0..MARKS.len())]),
            4 => bytes.truncate(at),
            _ => {
                let end = (at + random.random_range(0..40)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.random_range(0..=bytes.len());
                bytes.splice(to..to, piece).for_each(drop);
            }
        }
    }
}
