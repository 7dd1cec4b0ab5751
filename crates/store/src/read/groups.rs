//! The different texts of a field among some rows, and which row has which.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;
use hashbrown::HashMap;
use lodge_record::{field, overflow, schema, stream};

/// A field's texts among some rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    /// Texts, none of them null; some may belong to no row, and a text may be there twice.
    pub values: StringArray,
    /// Per row the place of its text in `values`, or [`Groups::ABSENT`].
    pub codes: Vec<u32>,
}

/// How many rows have each text of a field.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    /// The texts, each code once.
    pub groups: Groups,
    /// By code the number of rows, at least one.
    pub counts: Vec<u64>,
}

impl From<lodge_segment::segment::Counts> for Counts {
    fn from(counted: lodge_segment::segment::Counts) -> Self {
        let (codes, counts) = counted.counts.into_iter().unzip();
        let groups = lodge_segment::segment::Groups { values: counted.values, codes };
        Self { groups: groups.into(), counts }
    }
}

impl From<Groups> for Counts {
    fn from(groups: Groups) -> Self {
        let absent = groups.values.len();
        if groups.are_few() {
            let mut sorted = groups.codes;
            sorted.sort_unstable();
            let runs = sorted.chunk_by(|a, b| a == b);
            let run = |codes: &[u32]| Some((*codes.first()?, codes.len() as u64));
            let (codes, counts) = runs.filter_map(run).unzip();
            return Self { groups: Groups { values: groups.values, codes }, counts };
        }
        // Rows take turns with two counters: neighbours often have the same text, and adding to one
        // number again and again waits for itself.
        let mut counts = vec![[0u64; 2]; absent + 1];
        for rows in groups.codes.chunks(2) {
            for (turn, code) in rows.iter().enumerate() {
                let place = (*code as usize).min(absent);
                if let Some(count) = counts.get_mut(place).and_then(|counts| counts.get_mut(turn)) {
                    *count += 1;
                }
            }
        }
        let counts = counts.into_iter().map(|[a, b]| a + b).enumerate();
        let code = |place: usize| if place == absent { Groups::ABSENT } else { place as u32 };
        let counts = counts.filter(|(_, count)| *count > 0);
        let (codes, counts) = counts.map(|(place, count)| (code(place), count)).unzip();
        Self { groups: Groups { values: groups.values, codes }, counts }
    }
}

impl Groups {
    /// The code of a row that does not have the field. (The empty text is a value.)
    pub const ABSENT: u32 = u32::MAX;

    /// Whether there are so few rows beside the texts that a table of all texts costs more than it
    /// saves.
    pub fn are_few(&self) -> bool {
        self.codes.len() * 8 < self.values.len()
    }

    /// The texts of `name` in plain columns: its own, `_overflow` or `_stream`.
    pub(super) fn of(batch: &RecordBatch, name: &str) -> Self {
        let column = match name {
            field::STREAM_ID => batch.column_by_name(field::STREAM),
            _ => batch.column_by_name(name),
        };
        let spilled = batch
            .column_by_name(field::OVERFLOW)
            .filter(|spilled| name != field::OVERFLOW && spilled.null_count() < spilled.len())
            .and_then(|spilled| spilled.as_string_opt::<i32>());
        let groups = match (column, spilled) {
            (column, Some(spilled)) => {
                let own = |row| column.and_then(|column| schema::value_text(column, row));
                collect(batch.num_rows(), |row| {
                    let spilled =
                        || overflow::get(spilled.is_valid(row).then(|| spilled.value(row))?, name);
                    own(row).or_else(spilled)
                })
            }
            (Some(column), None) => of_column(column),
            (None, None) => Self {
                values: StringArray::from_iter_values(std::iter::empty::<&str>()),
                codes: vec![Self::ABSENT; batch.num_rows()],
            },
        };
        match name {
            field::STREAM_ID => Self {
                values: StringArray::from_iter_values(
                    groups.values.iter().flatten().map(stream::stream_id),
                ),
                ..groups
            },
            _ => groups,
        }
    }
}

impl From<lodge_segment::segment::Groups> for Groups {
    fn from(groups: lodge_segment::segment::Groups) -> Self {
        // The absent code is the one below the first.
        let codes = groups.codes.into_iter().map(|code| code.wrapping_sub(1)).collect();
        Self { values: groups.values, codes }
    }
}

fn of_column(column: &ArrayRef) -> Groups {
    if let Some(dictionary) = column.as_dictionary_opt::<Int32Type>()
        && let Some(values) = dictionary.values().as_string_opt::<i32>()
        && values.null_count() == 0
        // Of a large dictionary few values may be in these rows.
        && values.len() <= dictionary.len().max(256)
    {
        let code = |key: Option<i32>| {
            let key = key.and_then(|key| u32::try_from(key).ok());
            key.filter(|key| (*key as usize) < values.len()).unwrap_or(Groups::ABSENT)
        };
        let codes = dictionary.keys().iter().map(code).collect();
        return Groups { values: values.clone(), codes };
    }
    collect(column.len(), |row| schema::value_text(column, row))
}

/// Numbers texts in the order in which they come first.
fn collect<'a>(rows: usize, text: impl Fn(usize) -> Option<Cow<'a, str>>) -> Groups {
    let mut known: HashMap<String, u32> = HashMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut codes = Vec::with_capacity(rows);
    for row in 0..rows {
        let Some(text) = text(row) else {
            codes.push(Groups::ABSENT);
            continue;
        };
        let code = match known.get(text.as_ref()) {
            Some(code) => *code,
            None => {
                let code = order.len() as u32;
                order.push(text.clone().into_owned());
                known.insert(text.into_owned(), code);
                code
            }
        };
        codes.push(code);
    }
    Groups { values: StringArray::from_iter_values(order), codes }
}
