//! Sums on their way from one server to another.
//!
//! ```text
//!  one row per group: k0, k1, … (keys) │ rows (records, if they are counted) │ f0_0, f0_1, f1_0, …
//!  f*_*: DataFusion's own state of a function; of different texts a list of them
//! ```
//!
//! Invariant: sums that took the way are those of the same records added here.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, FixedSizeBinaryBuilder, ListBuilder,
    RecordBatchOptions, StringArray, StringBuilder, UInt64Array,
};
use arrow::datatypes::{Field, Schema, TimestampNanosecondType, UInt64Type};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::EmitTo;

use super::keys::{Different, Numbers, Pairs};
use super::{Running, Tally, arrow_error};
use crate::error::QueryError;

/// Groups that travel together.
const GROUPS_TOGETHER: usize = 1 << 16;
/// Bytes of an identifier.
const IDENTIFIER_BYTES: i32 = 16;

/// Columns that are being put together.
#[derive(Default)]
struct Columns {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Columns {
    fn add(&mut self, name: String, column: ArrayRef) {
        self.fields.push(Field::new(name, column.data_type().clone(), true));
        self.columns.push(column);
    }
}

impl Tally {
    /// The sums, as [`Tally::absorb`] takes them; none without groups.
    pub(crate) fn into_parts(mut self) -> Result<Vec<RecordBatch>, QueryError> {
        self.give_others()?;
        let count = self.groups();
        let mut all = Columns::default();
        for (place, column) in self.key_columns().into_iter().enumerate() {
            all.add(format!("k{place}"), column);
        }
        if let Some(mut rows) = self.rows.take() {
            rows.resize(count, 0);
            all.add("rows".to_owned(), Arc::new(UInt64Array::from(rows)));
        }
        for (function, running) in self.running.iter_mut().enumerate() {
            for (place, column) in state(running, count)?.into_iter().enumerate() {
                all.add(format!("f{function}_{place}"), column);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let schema = Arc::new(Schema::new(all.fields));
        let whole = RecordBatch::try_new_with_options(schema, all.columns, &options);
        let whole = whole.map_err(arrow_error)?;
        let starts = (0..count).step_by(GROUPS_TOGETHER);
        Ok(starts.map(|from| whole.slice(from, GROUPS_TOGETHER.min(count - from))).collect())
    }

    /// Takes over sums that were made elsewhere of the same grouping.
    pub(crate) fn absorb(&mut self, part: &RecordBatch) -> Result<(), QueryError> {
        self.give_others()?;
        let column = |name: &str| part.column_by_name(name).ok_or_else(unlike);
        let mut groups: Vec<u32> = Vec::new();
        for (place, numbers) in self.numbers.iter_mut().enumerate() {
            let right = numbered(numbers, column(&format!("k{place}"))?)?;
            groups = match place.checked_sub(1).and_then(|before| self.pairs.get_mut(before)) {
                None => right,
                Some(pairs) => {
                    let both = groups.into_iter().zip(right);
                    both.map(|pair| pairs.number(pair)).collect::<Result<_, _>>()?
                }
            };
        }
        if self.numbers.is_empty() {
            groups = vec![0; part.num_rows().min(1)];
        }
        if groups.len() != part.num_rows() {
            return Err(unlike());
        }
        let total = self.groups();
        if let Some(rows) = &mut self.rows {
            let more = column("rows")?.as_primitive_opt::<UInt64Type>().ok_or_else(unlike)?;
            rows.resize(total, 0);
            for (group, more) in groups.iter().zip(more.values()) {
                if let Some(rows) = rows.get_mut(*group as usize) {
                    *rows += more;
                }
            }
        }
        for (function, running) in self.running.iter_mut().enumerate() {
            let name = |place: usize| format!("f{function}_{place}");
            let columns: Vec<ArrayRef> =
                (0..).map_while(|place| part.column_by_name(&name(place)).cloned()).collect();
            take_over(running, &columns, &groups, total)?;
        }
        Ok(())
    }
}

fn unlike() -> QueryError {
    QueryError::internal("the sums of another server are not of this query")
}

/// The number of each key.
fn numbered(numbers: &mut Numbers, column: &ArrayRef) -> Result<Vec<u32>, QueryError> {
    match numbers {
        Numbers::Texts(texts) => {
            let column = column.as_string_opt::<i32>().ok_or_else(unlike)?;
            column.iter().map(|text| texts.number(text)).collect()
        }
        Numbers::Times(times) => {
            let column = column.as_primitive_opt::<TimestampNanosecondType>().ok_or_else(unlike)?;
            column.values().iter().map(|time| times.number(*time)).collect()
        }
    }
}

fn state(running: &mut Running, count: usize) -> Result<Vec<ArrayRef>, QueryError> {
    Ok(match running {
        Running::Rows => Vec::new(),
        Running::Distinct(texts, pairs) => vec![texts_by_group(texts, pairs, count)],
        Running::Different(different) => different_columns(different)?,
        Running::One(running) => running
            .state()?
            .iter()
            .map(|value| value.to_array().map_err(QueryError::from))
            .collect::<Result<_, _>>()?,
        Running::Groups(running) => running.state(EmitTo::All)?,
    })
}

/// The different texts that each group has.
fn texts_by_group(texts: &Numbers, pairs: &Pairs, count: usize) -> ArrayRef {
    let mut of_groups: Vec<Vec<u32>> = vec![Vec::new(); count];
    for (group, text) in pairs.iter() {
        if let Some(of_group) = of_groups.get_mut(group as usize) {
            of_group.push(text);
        }
    }
    let mut list = ListBuilder::new(StringBuilder::new());
    for of_group in of_groups {
        let of_group = texts.array(&of_group);
        for text in of_group.as_string_opt::<i32>().into_iter().flatten() {
            list.values().append_option(text);
        }
        list.append(true);
    }
    Arc::new(list.finish())
}

fn different_columns(different: &Different) -> Result<Vec<ArrayRef>, QueryError> {
    let mut texts = ListBuilder::new(StringBuilder::new());
    for text in different.texts() {
        texts.values().append_value(text);
    }
    texts.append(true);
    let mut identifiers = ListBuilder::new(FixedSizeBinaryBuilder::new(IDENTIFIER_BYTES));
    for identifier in different.identifiers() {
        identifiers.values().append_value(identifier.to_be_bytes()).map_err(arrow_error)?;
    }
    identifiers.append(true);
    Ok(vec![Arc::new(texts.finish()), Arc::new(identifiers.finish())])
}

fn take_over(
    running: &mut Running,
    columns: &[ArrayRef],
    groups: &[u32],
    total: usize,
) -> Result<(), QueryError> {
    match (running, columns) {
        (Running::Rows, []) => {}
        (Running::Distinct(texts, pairs), [lists]) => {
            let lists = lists.as_list_opt::<i32>().ok_or_else(unlike)?;
            for (group, list) in groups.iter().zip(lists.iter()) {
                let list = list.ok_or_else(unlike)?;
                for number in numbered(texts, &list)? {
                    pairs.number((*group, number))?;
                }
            }
        }
        (Running::Different(different), [texts, identifiers]) => {
            for list in texts.as_list_opt::<i32>().ok_or_else(unlike)?.iter().flatten() {
                let texts: &StringArray = list.as_string_opt().ok_or_else(unlike)?;
                texts.iter().flatten().try_for_each(|text| different.add_text(text))?;
            }
            for list in identifiers.as_list_opt::<i32>().ok_or_else(unlike)?.iter().flatten() {
                let list: &FixedSizeBinaryArray =
                    list.as_fixed_size_binary_opt().ok_or_else(unlike)?;
                let numbers: Vec<u128> = list
                    .iter()
                    .flatten()
                    .filter_map(|bytes| bytes.try_into().ok().map(u128::from_be_bytes))
                    .collect();
                different.add_identifiers(&numbers);
            }
        }
        (Running::One(running), [_, ..]) => running.merge_batch(columns)?,
        (Running::Groups(running), [_, ..]) => {
            let groups: Vec<usize> = groups.iter().map(|group| *group as usize).collect();
            running.merge_batch(columns, &groups, total)?;
        }
        _ => return Err(unlike()),
    }
    Ok(())
}
