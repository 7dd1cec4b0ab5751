//! Sums up matching records by group, without putting a record together.
//!
//! ```text
//!  per block: codes of each key ─► one number per row ─► counts, DataFusion's accumulators
//!  at the end: parts merged by their keys' values ─► one row per group
//! ```
//!
//! Texts are looked at once per block and different value, never per row. What the functions compute
//! is DataFusion's own work, so an answer is the same as that of its plan.
//!
//! Invariant: without keys there is one group, with records or without.

mod histogram;
mod keys;
mod parts;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, StringArray, UInt32Array, new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{cast, filter, filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use lodge_record::schema;
use lodge_store::Groups;

use super::reader::{Columns, Detail, Found, Sum, TextOf, Wanted, arrow_error};
use super::shape::Shape;
use crate::error::QueryError;
use keys::{Different, NONE, Numbers, Pairs, Texts, Times};

pub(crate) use keys::bucket_floor;

/// How records are grouped, and what is computed of each group.
#[derive(Debug)]
pub(crate) struct Grouping {
    /// What has one value per group.
    pub(crate) keys: Vec<Key>,
    /// What the functions look at, computed from the columns of `shape`.
    pub(crate) arguments: Vec<Arc<dyn PhysicalExpr>>,
    /// What is computed.
    pub(crate) functions: Vec<Function>,
    /// The columns that the arguments need, if they need any.
    pub(crate) shape: Option<Shape>,
    /// A record with none of these columns changes no function.
    pub(crate) skips_nulls: bool,
}

/// What records are grouped by.
#[derive(Debug, Clone)]
pub(crate) enum Key {
    /// `_time`, rounded down.
    Bucket { step_ns: i64, offset_ns: i64 },
    /// A field's text, or a text that is made from it.
    Text { of: TextOf, through: Option<Through> },
    /// The same text for all.
    Constant(Option<String>),
}

/// A text that depends on one field alone.
#[derive(Debug, Clone)]
pub(crate) struct Through {
    /// The field's type where the text is made.
    pub(crate) data_type: DataType,
    /// Makes the text from a column 0 of that type.
    pub(crate) expression: Arc<dyn PhysicalExpr>,
}

/// What is computed of each group.
#[derive(Debug, Clone)]
pub(crate) enum Function {
    /// The number of records.
    Rows,
    /// The number of different texts; that a field is absent counts for nothing, and that it is empty
    /// only if `empty`.
    Distinct { of: TextOf, through: Option<Through>, empty: bool },
    /// A function of the arguments with these numbers, of the records for which another holds.
    Of { aggregate: Arc<AggregateFunctionExpr>, arguments: Vec<usize>, filter: Option<usize> },
}

impl Grouping {
    /// Counts records by `keys`.
    pub(crate) fn counting(keys: Vec<Key>) -> Self {
        Self {
            keys,
            arguments: Vec::new(),
            functions: vec![Function::Rows],
            shape: None,
            skips_nulls: false,
        }
    }

    /// What it needs of matching records.
    pub(crate) fn wanted(&self) -> Wanted {
        let columns = match &self.shape {
            Some(shape) => Columns::Of(shape.clone()),
            None => Columns::Named(Vec::new()),
        };
        let mut wanted = Wanted::of(columns);
        wanted.times = self.keys.iter().any(|key| matches!(key, Key::Bucket { .. }));
        let keys = self.keys.iter().filter_map(|key| match key {
            Key::Text { of, .. } => Some(of),
            Key::Bucket { .. } | Key::Constant(_) => None,
        });
        let functions = self.functions.iter().filter_map(|function| match function {
            Function::Distinct { of, .. } => Some(of),
            Function::Rows | Function::Of { .. } => None,
        });
        for of in keys.chain(functions) {
            if !wanted.groups.contains(of) {
                wanted.groups.push(of.clone());
            }
        }
        wanted.detail = self.detail();
        wanted.valued = self.is_by_value() && wanted.detail == Detail::Counts;
        wanted
    }
}

impl Grouping {
    /// How texts are wanted: not that of each record where their sums are enough.
    fn detail(&self) -> Detail {
        match self.keys.as_slice() {
            // Without keys there is no record's group to be told.
            [] => Detail::Different,
            [Key::Text { .. }] if self.counts_only() || self.is_by_value() => Detail::Counts,
            _ => Detail::Each,
        }
    }

    /// Whether, beside the number of records of each group, only those with a value matter.
    fn is_by_value(&self) -> bool {
        let different = |function: &Function| matches!(function, Function::Distinct { .. });
        self.skips_nulls && !self.arguments.is_empty() && !self.functions.iter().any(different)
    }

    /// Whether nothing but the number of records is wanted of each group.
    fn counts_only(&self) -> bool {
        self.functions.iter().all(|function| matches!(function, Function::Rows))
    }
}

/// Sums of one part of the records.
pub(crate) struct Tally {
    grouping: Arc<Grouping>,
    /// The texts that are read as groups.
    texts: Vec<TextOf>,
    /// Of each key.
    numbers: Vec<Numbers>,
    /// Of each key but the first with those before it.
    pairs: Vec<Pairs>,
    /// Records of each group, if they are counted.
    rows: Option<Vec<u64>>,
    /// Of each function.
    running: Vec<Running>,
    /// Groups of which the functions were given a record, where not all are.
    given: Vec<bool>,
}

/// A function at work.
enum Running {
    /// The number of records is counted aside.
    Rows,
    /// The different texts, and of each group the ones that it has.
    Distinct(Numbers, Pairs),
    /// Without keys, the different texts.
    Different(Different),
    /// Without keys, as DataFusion does it: some functions of many groups are right only for groups
    /// with records.
    One(Box<dyn Accumulator>),
    Groups(Box<dyn GroupsAccumulator>),
}

impl Running {
    fn size(&self) -> usize {
        match self {
            Self::Rows => 0,
            Self::Distinct(texts, pairs) => texts.bytes() + pairs.bytes(),
            Self::Different(different) => different.bytes(),
            Self::One(running) => running.size(),
            Self::Groups(running) => running.size(),
        }
    }

    fn update(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        wanted: Option<&BooleanArray>,
        total: usize,
    ) -> Result<(), QueryError> {
        match (self, wanted) {
            (Self::Rows | Self::Distinct(..) | Self::Different(_), _) => {}
            (Self::One(running), None) => running.update_batch(values)?,
            (Self::One(running), Some(wanted)) => {
                let values: Vec<ArrayRef> = values
                    .iter()
                    .map(|column| filter(column, wanted))
                    .collect::<Result<_, _>>()
                    .map_err(arrow_error)?;
                running.update_batch(&values)?;
            }
            (Self::Groups(running), wanted) => {
                running.update_batch(values, groups, wanted, total)?;
            }
        }
        Ok(())
    }

    /// Takes over what `more` has; its groups have the new numbers `groups`.
    fn merge(&mut self, more: &mut Self, groups: &[usize], total: usize) -> Result<(), QueryError> {
        match (self, more) {
            (Self::Distinct(texts, pairs), Self::Distinct(more_texts, more)) => {
                let groups: Vec<u32> = groups.iter().map(|group| *group as u32).collect();
                pairs.merge(more, &groups, &texts.merge(more_texts)?)?;
            }
            (Self::Different(different), Self::Different(more)) => different.merge(more)?,
            (Self::One(running), Self::One(more)) => {
                let state = more.state()?;
                let state: Vec<ArrayRef> =
                    state.iter().map(|value| value.to_array()).collect::<Result<_, _>>()?;
                running.merge_batch(&state)?;
            }
            (Self::Groups(running), Self::Groups(more)) => {
                running.merge_batch(&more.state(EmitTo::All)?, groups, total)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Tally {
    pub(crate) fn new(grouping: &Arc<Grouping>) -> Result<Self, QueryError> {
        let numbers: Vec<Numbers> = grouping
            .keys
            .iter()
            .map(|key| match key {
                Key::Bucket { .. } => Numbers::Times(Times::default()),
                Key::Text { .. } | Key::Constant(_) => Numbers::Texts(Texts::default()),
            })
            .collect();
        let mut running = Vec::with_capacity(grouping.functions.len());
        let mut counts = false;
        for function in &grouping.functions {
            running.push(match function {
                Function::Rows => {
                    counts = true;
                    Running::Rows
                }
                Function::Distinct { .. } if grouping.keys.is_empty() => {
                    Running::Different(Different::default())
                }
                Function::Distinct { .. } => {
                    Running::Distinct(Numbers::Texts(Texts::default()), Pairs::default())
                }
                Function::Of { aggregate, .. } if grouping.keys.is_empty() => {
                    Running::One(aggregate.create_accumulator()?)
                }
                Function::Of { aggregate, .. } => {
                    Running::Groups(aggregate.create_groups_accumulator()?)
                }
            });
        }
        let pairs = numbers.iter().skip(1).map(|_| Pairs::default()).collect();
        let rows = counts.then(Vec::new);
        let texts = grouping.wanted().groups;
        let (grouping, given) = (grouping.clone(), Vec::new());
        Ok(Self { grouping, texts, numbers, pairs, rows, running, given })
    }

    /// How many groups there are.
    pub(crate) fn groups(&self) -> usize {
        match (self.pairs.last(), self.numbers.first()) {
            (Some(pairs), _) => pairs.len(),
            (None, Some(numbers)) => numbers.len(),
            (None, None) => 1,
        }
    }

    /// About the bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        let keys: usize = self.numbers.iter().map(Numbers::bytes).sum();
        let pairs: usize = self.pairs.iter().map(Pairs::bytes).sum();
        let rows = self.rows.as_ref().map_or(0, |rows| rows.capacity() * size_of::<u64>());
        let running: usize = self.running.iter().map(Running::size).sum();
        keys + pairs + rows + running
    }

    /// Adds records.
    pub(crate) fn add(&mut self, found: &Found) -> Result<(), QueryError> {
        let counted = self.count_texts(found)?;
        if counted && (found.groups.is_empty() || found.batch.num_rows() == 0) {
            return Ok(());
        }
        if self.count_buckets(found)? {
            return Ok(());
        }
        let Some(groups) = self.number(found)? else {
            self.collect_different(found)?;
            if let Some(rows) = &mut self.rows {
                rows.resize(1, 0);
                rows.iter_mut().for_each(|rows| *rows += found.rows as u64);
            }
            return self.compute(found, &[]);
        };
        let count = self.groups();
        if let Some(rows) = self.rows.as_mut().filter(|_| !counted) {
            rows.resize(count, 0);
            for group in &groups {
                if let Some(rows) = rows.get_mut(*group as usize) {
                    *rows += 1;
                }
            }
        }
        self.distinguish(found, &groups)?;
        self.compute(found, &groups)
    }

    /// Notes the texts of functions that count different ones, without keys.
    fn collect_different(&mut self, found: &Found) -> Result<(), QueryError> {
        for (function, running) in self.grouping.functions.iter().zip(&mut self.running) {
            let (Function::Distinct { of, through, .. }, Running::Different(different)) =
                (function, running)
            else {
                continue;
            };
            match (sum_of(&self.texts, found, of).ok_or_else(not_read)?, through) {
                (Sum::Counts(read), None) => different.add(&read.groups)?,
                (Sum::Counts(read), Some(through)) => {
                    different.add(&through.apply(&read.groups, &of.field)?)?;
                }
                (Sum::Identifiers(found), None) => different.add_identifiers(found),
                (Sum::Identifiers(found), Some(through)) => {
                    let texts = found.iter().map(|found| format!("{found:032x}"));
                    let values = StringArray::from_iter_values(texts);
                    let codes = (0..values.len() as u32).collect();
                    different.add(&through.apply(&Groups { values, codes }, &of.field)?)?;
                }
            }
        }
        Ok(())
    }

    /// Notes the texts of functions that count different ones.
    fn distinguish(&mut self, found: &Found, groups: &[u32]) -> Result<(), QueryError> {
        let (grouping, total) = (self.grouping.clone(), self.groups());
        for (function, running) in grouping.functions.iter().zip(&mut self.running) {
            let (Function::Distinct { of, through, .. }, Running::Distinct(numbers, pairs)) =
                (function, running)
            else {
                continue;
            };
            let Numbers::Texts(texts) = &mut *numbers else { continue };
            let read = text_of(&self.texts, found, of).ok_or_else(not_read)?;
            let codes = numbered(read, of, through.as_ref(), texts)?;
            let mut left = groups.to_vec();
            pairs.combine(&mut left, total, &codes, numbers)?;
        }
        Ok(())
    }

    /// The group of each row; `None` without keys.
    fn number(&mut self, found: &Found) -> Result<Option<Vec<u32>>, QueryError> {
        let mut left: Option<(Vec<u32>, usize)> = None;
        for (place, key) in self.grouping.keys.iter().enumerate() {
            let Some(numbers) = self.numbers.get_mut(place) else { break };
            let codes = match (key, &mut *numbers) {
                (Key::Bucket { step_ns, offset_ns }, Numbers::Times(times)) => {
                    times.codes(&found.times, *step_ns, *offset_ns)?
                }
                (Key::Text { of, through }, Numbers::Texts(texts)) => {
                    let read = text_of(&self.texts, found, of).ok_or_else(not_read)?;
                    numbered(read, of, through.as_ref(), texts)?
                }
                (Key::Constant(text), Numbers::Texts(texts)) => {
                    vec![texts.number(text.as_deref())?; found.rows]
                }
                _ => return Err(QueryError::internal("a key changed its kind")),
            };
            left = Some(match left.take() {
                None => (codes, numbers.len()),
                Some((mut left, lefts)) => {
                    let Some(pairs) = self.pairs.get_mut(place - 1) else { break };
                    pairs.combine(&mut left, lefts, &codes, numbers)?;
                    (left, pairs.len())
                }
            });
        }
        Ok(left.map(|(groups, _)| groups))
    }

    /// Gives the functions a record without a value of each group that had none with one: a group is
    /// to be known to them even if it has nothing for them.
    fn give_others(&mut self) -> Result<(), QueryError> {
        let Some(shape) = self.grouping.shape.as_ref().filter(|_| self.grouping.skips_nulls) else {
            return Ok(());
        };
        if self.numbers.is_empty() {
            return Ok(());
        }
        self.given.resize(self.groups(), false);
        let groups = self.given.iter().enumerate().filter(|(_, given)| !**given);
        let groups: Vec<usize> = groups.map(|(group, _)| group).collect();
        if groups.is_empty() {
            return Ok(());
        }
        self.given.fill(true);
        let fields = shape.output().fields().iter();
        let (fields, nulls): (Vec<Field>, Vec<ArrayRef>) = fields
            .map(|field| {
                let nulls = new_null_array(field.data_type(), groups.len());
                (field.as_ref().clone().with_nullable(true), nulls)
            })
            .unzip();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), nulls);
        self.give(&batch.map_err(arrow_error)?, &groups)
    }

    /// Gives the functions their arguments.
    fn compute(&mut self, found: &Found, groups: &[u32]) -> Result<(), QueryError> {
        let grouping = self.grouping.clone();
        if grouping.arguments.is_empty() {
            return Ok(());
        }
        let batch = match &grouping.shape {
            Some(shape) => shape.apply(&found.batch)?,
            None => found.batch.clone(),
        };
        let valued = Some(&batch).filter(|_| grouping.skips_nulls).and_then(valued);
        let (batch, groups) = match valued {
            Some(rows) => {
                let group = |row: usize| groups.get(row).map(|group| *group as usize);
                let groups: Vec<usize> = rows.set_indices().filter_map(group).collect();
                let rows = BooleanArray::new(rows, None);
                (filter_record_batch(&batch, &rows).map_err(arrow_error)?, groups)
            }
            None => (batch, groups.iter().map(|group| *group as usize).collect()),
        };
        if grouping.skips_nulls {
            self.given.resize(self.groups(), false);
            for group in groups.chunk_by(|a, b| a == b).filter_map(<[usize]>::first) {
                if let Some(given) = self.given.get_mut(*group) {
                    *given = true;
                }
            }
            // First: of values without a null functions take it that every group has one.
            self.give_others()?;
        }
        self.give(&batch, &groups)
    }

    /// Gives the functions their arguments of the records of a batch.
    fn give(&mut self, batch: &RecordBatch, groups: &[usize]) -> Result<(), QueryError> {
        let grouping = self.grouping.clone();
        let mut arguments = Vec::with_capacity(grouping.arguments.len());
        for argument in &grouping.arguments {
            arguments.push(argument.evaluate(batch)?.into_array(batch.num_rows())?);
        }
        let total = self.groups();
        for (function, running) in grouping.functions.iter().zip(&mut self.running) {
            let Function::Of { arguments: places, filter, .. } = function else { continue };
            let argument = |place: usize| {
                arguments.get(place).ok_or_else(|| QueryError::internal("an argument is missing"))
            };
            let values: Vec<ArrayRef> =
                places.iter().map(|place| argument(*place).cloned()).collect::<Result<_, _>>()?;
            let filter: Option<&BooleanArray> = match filter {
                Some(place) => Some(
                    argument(*place)?
                        .as_boolean_opt()
                        .ok_or_else(|| QueryError::internal("a filter is no condition"))?,
                ),
                None => None,
            };
            running.update(&values, groups, filter, total)?;
        }
        Ok(())
    }

    /// Takes over the sums of another part.
    pub(crate) fn merge(&mut self, mut other: Self) -> Result<(), QueryError> {
        self.give_others()?;
        other.give_others()?;
        let mut groups: Vec<u32> = Vec::new();
        for (place, (numbers, more)) in self.numbers.iter_mut().zip(&other.numbers).enumerate() {
            let right = numbers.merge(more)?;
            let before = place.checked_sub(1);
            groups = match before
                .and_then(|place| Some((self.pairs.get_mut(place)?, other.pairs.get(place)?)))
            {
                None => right,
                Some((pairs, more)) => pairs.merge(more, &groups, &right)?,
            };
        }
        if self.numbers.is_empty() {
            groups = vec![0];
        }
        let total = self.groups();
        if let (Some(rows), Some(more)) = (&mut self.rows, &other.rows) {
            rows.resize(total, 0);
            for (group, more) in groups.iter().zip(more) {
                if let Some(rows) = rows.get_mut(*group as usize) {
                    *rows += more;
                }
            }
        }
        let groups: Vec<usize> = groups.into_iter().map(|group| group as usize).collect();
        for (running, more) in self.running.iter_mut().zip(&mut other.running) {
            running.merge(more, &groups, total)?;
        }
        Ok(())
    }

    /// The keys of each group.
    fn key_columns(&self) -> Vec<ArrayRef> {
        let mut left: Vec<u32> = (0..self.groups() as u32).collect();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.numbers.len());
        for place in (0..self.numbers.len()).rev() {
            let pairs = place.checked_sub(1).and_then(|before| self.pairs.get(before));
            let right = match pairs {
                Some(pairs) => {
                    let (before, right) = pairs.sides(&left);
                    left = before;
                    right
                }
                None => std::mem::take(&mut left),
            };
            columns.extend(self.numbers.get(place).map(|numbers| numbers.array(&right)));
        }
        columns.reverse();
        columns
    }

    /// One row per group: the keys (times without a zone, fields as the `types` of their columns or
    /// else as text), then what was computed.
    pub(crate) fn finish(mut self, types: &[DataType]) -> Result<Vec<ArrayRef>, QueryError> {
        self.give_others()?;
        let count = self.groups();
        let mut columns = self.key_columns();
        for ((key, column), wanted) in self.grouping.keys.iter().zip(&mut columns).zip(types) {
            if let Key::Text { of, through: None } = key {
                *column = typed(column, wanted, &of.field)?;
            }
        }
        for (function, running) in self.grouping.functions.iter().zip(&mut self.running) {
            let with_empty = matches!(function, Function::Distinct { empty: true, .. });
            columns.push(match running {
                Running::Different(different) => {
                    Arc::new(Int64Array::from(vec![different.count(with_empty) as i64]))
                }
                Running::Distinct(texts, pairs) => {
                    let mut counts = vec![0i64; count];
                    let empty = texts.empty().filter(|_| !with_empty);
                    let counted = |text| !texts.is_null(text) && empty != Some(text);
                    for (group, _) in pairs.iter().filter(|(_, text)| counted(*text)) {
                        if let Some(count) = counts.get_mut(group as usize) {
                            *count += 1;
                        }
                    }
                    Arc::new(Int64Array::from(counts))
                }
                Running::One(running) => running.evaluate()?.to_array()?,
                Running::Groups(running) => running.evaluate(EmitTo::All)?,
                Running::Rows => {
                    let mut rows = self.rows.clone().unwrap_or_default();
                    rows.resize(count, 0);
                    let rows = rows.into_iter().map(u64::cast_signed);
                    Arc::new(Int64Array::from_iter_values(rows))
                }
            });
        }
        Ok(columns)
    }
}

/// Which rows have any value at all; `None` if most of them do.
fn valued(batch: &RecordBatch) -> Option<BooleanBuffer> {
    let mut rows: Option<BooleanBuffer> = None;
    for column in batch.columns() {
        let valid = column.nulls()?.inner();
        rows = Some(match rows {
            None => valid.clone(),
            Some(rows) => &rows | valid,
        });
    }
    rows.filter(|rows| rows.count_set_bits() * 4 < rows.len() * 3)
}

/// What was read of a text.
fn text_of<'f>(texts: &[TextOf], found: &'f Found, of: &TextOf) -> Option<&'f Groups> {
    found.groups.get(texts.iter().position(|text| text == of)?)
}

/// What was read of the texts of a field in sum.
fn sum_of<'f>(texts: &[TextOf], found: &'f Found, of: &TextOf) -> Option<&'f Sum> {
    found.sums.get(texts.iter().position(|text| text == of)?)
}

fn not_read() -> QueryError {
    QueryError::internal("a text was not read")
}

/// The number of each text that was read, or of what is made from it.
fn numbered(
    read: &Groups,
    of: &TextOf,
    through: Option<&Through>,
    numbers: &mut Texts,
) -> Result<Vec<u32>, QueryError> {
    match through {
        None => numbers.codes(read),
        Some(through) => numbers.codes(&through.apply(read, &of.field)?),
    }
}

/// Texts of `field` as values of a type that writes them exactly so.
fn typed(texts: &ArrayRef, data_type: &DataType, field: &str) -> Result<ArrayRef, QueryError> {
    if texts.data_type() == data_type {
        return Ok(texts.clone());
    }
    let values = cast(texts, data_type).map_err(arrow_error)?;
    let same = |row| schema::value_text(&values, row) == schema::value_text(texts, row);
    match (0..texts.len()).all(same) {
        true => Ok(values),
        false => Err(QueryError::type_clash(field)),
    }
}

impl Through {
    /// The texts made of a field's texts; only of those that are used, since making one may fail.
    fn apply(&self, groups: &Groups, field: &str) -> Result<Groups, QueryError> {
        let absent = groups.values.len();
        let mut places = vec![NONE; absent + 1];
        let mut used: Vec<u32> = Vec::new();
        let mut codes = Vec::with_capacity(groups.codes.len());
        for code in &groups.codes {
            let Some(place) = places.get_mut((*code as usize).min(absent)) else { continue };
            if *place == NONE {
                *place = used.len() as u32;
                used.push(*code);
            }
            codes.push(*place);
        }
        let taken = used.iter().map(|code| (*code != Groups::ABSENT).then_some(*code));
        let taken: UInt32Array = taken.collect();
        let texts: ArrayRef = match absent {
            0 => Arc::new(StringArray::new_null(used.len())),
            _ => take(&groups.values, &taken, None).map_err(arrow_error)?,
        };
        let column = typed(&texts, &self.data_type, field)?;
        let schema = Schema::new(vec![Field::new("value", self.data_type.clone(), true)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![column]).map_err(arrow_error)?;
        let made = self.expression.evaluate(&batch)?.into_array(batch.num_rows())?;
        let made = cast(&made, &DataType::Utf8).map_err(arrow_error)?;
        let made =
            made.as_string_opt::<i32>().ok_or_else(|| QueryError::internal("a key is no text"))?;
        if made.null_count() == 0 {
            return Ok(Groups { values: made.clone(), codes });
        }
        let is_null = |code: u32| made.is_null(code as usize);
        let codes = codes
            .into_iter()
            .map(|code| if is_null(code) { Groups::ABSENT } else { code })
            .collect();
        Ok(Groups { values: made.clone(), codes })
    }
}
