//! Aggregates that keep values or rows: `values`, `uniq_values`, `json_values`, `row_max`, …
//!
//! Invariants:
//! - what a group keeps is bounded by its `limit` where there is one, and counted against the query's
//!   memory in any case;
//! - the result does not depend on how rows were divided, but for the order of `values` and for what
//!   `any`, `row_any` and limits choose.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Float64Array, Int64Array, ListBuilder,
    StringArray,
};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Signature,
    Volatility,
};
use lodge_record::schema;
use serde::{Deserialize, Serialize};

use super::functions::{Spill, each_value, push_object};
use super::kept::{Item, Kept, Moments, Order};
use super::natural;

/// What is kept of a group's rows, and which arguments are looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Gather {
    /// Every value of the arguments; empty ones of those that are marked.
    Values { with_empty: Vec<bool>, limit: Option<usize>, spill: Spill },
    /// The different values of the arguments.
    Uniq { limit: Option<usize>, spill: Spill },
    /// How many different texts the argument has, up to a limit.
    CountUniq { limit: usize },
    /// Rows as JSON objects of the fields `names`, in the order of the first arguments.
    Rows { sort: Vec<Order>, names: Vec<String>, limit: Option<usize>, spill: Spill },
    /// One row as such an object: that with the least or greatest first argument, or any.
    Row { by: Option<Order>, names: Vec<String>, spill: Spill },
    /// The second argument of the row with the least or greatest first one.
    FieldBy { by: Order },
    /// Any value of the arguments that is not empty.
    Any { spill: Spill },
    /// How many numbers there are in each range.
    Histogram,
    /// The standard deviation of all numbers.
    Deviation { spill: Spill },
}

impl Gather {
    /// This aggregate of `arguments`, of which there must be one at least.
    pub(super) fn of(self, arguments: Vec<Expr>) -> Expr {
        self.function().call(arguments)
    }

    /// As DataFusion knows it.
    pub(super) fn function(self) -> AggregateUDF {
        let name = format!("logsql_gather_{self:?}");
        let signature = Signature::variadic_any(Volatility::Immutable);
        AggregateUDF::new_from_impl(Implementation { gather: self, name, signature })
    }

    /// Which of these aggregates `function` is, if it is one.
    pub(super) fn of_function(function: &AggregateUDF) -> Option<&Self> {
        function.inner().downcast_ref::<Implementation>().map(|this| &this.gather)
    }

    fn result_type(&self) -> DataType {
        match self {
            Self::CountUniq { .. } => DataType::Int64,
            Self::Deviation { .. } => DataType::Float64,
            _ => DataType::Utf8,
        }
    }

    /// What a group without rows keeps.
    fn nothing(&self) -> Kept {
        match self {
            Self::Values { .. } | Self::Rows { .. } => Kept::Items(Vec::new()),
            Self::Uniq { .. } | Self::CountUniq { .. } => Kept::Set(Default::default()),
            Self::Row { .. } | Self::FieldBy { .. } | Self::Any { .. } => Kept::One(None),
            Self::Histogram => Kept::Buckets(Default::default()),
            Self::Deviation { .. } => Kept::Moments(Moments::default()),
        }
    }

    /// The orders of an item's keys.
    fn orders(&self) -> &[Order] {
        match self {
            Self::Rows { sort, .. } => sort,
            Self::Row { by, .. } => by.as_slice(),
            Self::FieldBy { by } => std::slice::from_ref(by),
            _ => &[],
        }
    }

    fn limit(&self) -> Option<usize> {
        match self {
            Self::Values { limit, .. } | Self::Uniq { limit, .. } | Self::Rows { limit, .. } => {
                *limit
            }
            Self::CountUniq { limit } => Some(*limit),
            _ => None,
        }
    }

    /// Adds a row; gives how many bytes more are kept.
    fn add(&self, kept: &mut Kept, arguments: &[ArrayRef], row: usize) -> isize {
        let limit = self.limit();
        match self {
            Self::Values { with_empty, spill, .. } => {
                if limit.is_some_and(|limit| kept.len() >= limit) {
                    return 0;
                }
                let (columns, _) = spill.split(arguments);
                let mut grown = 0;
                for (column, with_empty) in columns.iter().zip(with_empty) {
                    let value = schema::value_text(column, row).unwrap_or_default();
                    if *with_empty || !value.is_empty() {
                        grown += kept.push(Item::text(value.into_owned()), &[], limit);
                    }
                }
                if let Some(spilled) = spill.split(arguments).1 {
                    each_value(std::slice::from_ref(spilled), Spill(true), row, |value| {
                        grown += kept.push(Item::text(value.to_owned()), &[], limit);
                    });
                }
                grown
            }
            Self::Uniq { spill, .. } => {
                let mut grown = 0;
                each_value(arguments, *spill, row, |value| grown += kept.insert(value, limit));
                grown
            }
            Self::CountUniq { .. } => {
                let text = arguments.first().and_then(|column| schema::value_text(column, row));
                text.map_or(0, |text| kept.insert(&text, limit))
            }
            Self::Rows { sort, names, spill, .. } => {
                if sort.is_empty() && limit.is_some_and(|limit| kept.len() >= limit) {
                    return 0;
                }
                let (keys, columns) = arguments.split_at(sort.len().min(arguments.len()));
                let keys = keys.iter().map(|column| key(column, row)).collect();
                let mut text = String::new();
                push_object(&mut text, names, columns, *spill, row);
                kept.push(Item { keys, text: or_object(text) }, sort, limit)
            }
            Self::Row { by, names, spill } => {
                let (keys, columns) = arguments.split_at(by.iter().len().min(arguments.len()));
                let object = |row| {
                    let mut text = String::new();
                    push_object(&mut text, names, columns, *spill, row);
                    or_object(text)
                };
                better(kept, *by, keys.first(), row, object)
            }
            Self::FieldBy { by } => {
                let value = |row| {
                    let column = arguments.get(1);
                    let value = column.and_then(|column| schema::value_text(column, row));
                    value.unwrap_or_default().into_owned()
                };
                better(kept, Some(*by), arguments.first(), row, value)
            }
            Self::Any { spill } => {
                let mut grown = 0;
                if kept.len() == 0 {
                    each_value(arguments, *spill, row, |value| {
                        if kept.len() == 0 {
                            grown += kept.replace(Item::text(value.to_owned()));
                        }
                    });
                }
                grown
            }
            // These two are added as numbers.
            Self::Histogram | Self::Deviation { .. } => 0,
        }
    }

    /// The result of what was kept; `None` is the missing value.
    fn text(&self, kept: Kept) -> Option<String> {
        match kept {
            Kept::Items(mut items) => {
                super::kept::arrange(&mut items, self.orders(), self.limit());
                let raw = matches!(self, Self::Rows { .. });
                Some(super::kept::json_array(items.iter().map(|item| item.text.as_str()), raw))
            }
            Kept::Set(set) => {
                let mut texts: Vec<&str> = set.iter().map(AsRef::as_ref).collect();
                texts.sort_by_cached_key(|text| natural::key(text));
                Some(super::kept::json_array(texts, false))
            }
            Kept::One(item) => match (item, self) {
                (Some(item), _) => Some(item.text),
                (None, Self::Row { .. }) => Some("{}".to_owned()),
                (None, _) => None,
            },
            Kept::Buckets(buckets) => Some(super::histogram::json(&buckets)),
            Kept::Moments(_) => None,
        }
    }
}

fn key(column: &ArrayRef, row: usize) -> Vec<u8> {
    natural::key(&schema::value_text(column, row).unwrap_or_default())
}

/// An object without fields has braces, too.
fn or_object(text: String) -> String {
    if text.is_empty() { "{}".to_owned() } else { text }
}

/// Keeps `row` if its key is better than that of the row that is kept; gives how many bytes more are
/// kept. A row without a value for the key is no candidate.
fn better(
    kept: &mut Kept,
    by: Option<Order>,
    column: Option<&ArrayRef>,
    row: usize,
    text: impl FnOnce(usize) -> String,
) -> isize {
    let Some((order, column)) = by.zip(column) else {
        return if kept.len() == 0 { kept.replace(Item::text(text(row))) } else { 0 };
    };
    let value = schema::value_text(column, row).unwrap_or_default();
    if value.is_empty() {
        return 0;
    }
    let keys = vec![natural::key(&value)];
    if kept.is_better(&keys, &[order]) { kept.replace(Item { keys, text: text(row) }) } else { 0 }
}

#[derive(Debug)]
struct Implementation {
    gather: Gather,
    name: String,
    signature: Signature,
}

impl PartialEq for Implementation {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Implementation {}

impl Hash for Implementation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl AggregateUDFImpl for Implementation {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.gather.result_type())
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let item = Field::new_list_field(DataType::Binary, true);
        Ok(vec![Arc::new(Field::new_list(format!("{}[kept]", args.name), item, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(super::single::Single(Groups::new(self.gather.clone(), 1))))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        _: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::new(self.gather.clone(), 0)))
    }
}

/// What every group keeps.
#[derive(Debug)]
struct Groups {
    gather: Gather,
    groups: Vec<Kept>,
    /// Of all groups.
    bytes: usize,
}

impl Groups {
    fn new(gather: Gather, groups: usize) -> Self {
        let mut this = Self { gather, groups: Vec::new(), bytes: 0 };
        this.grow(groups);
        this
    }

    fn grow(&mut self, groups: usize) {
        while self.groups.len() < groups {
            self.groups.push(self.gather.nothing());
        }
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<Kept> {
        let taken = emit_to.take_needed(&mut self.groups);
        let bytes: usize = taken.iter().map(Kept::bytes).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        taken
    }

    fn add(&mut self, group: usize, arguments: &[ArrayRef], row: usize) {
        if let Some(kept) = self.groups.get_mut(group) {
            let grown = self.gather.add(kept, arguments, row);
            self.bytes = self.bytes.saturating_add_signed(grown);
        }
    }

    /// Adds the numbers of rows.
    fn add_numbers(
        &mut self,
        arguments: &[ArrayRef],
        spill: Spill,
        wanted: impl Fn(usize) -> Option<usize>,
        rows: usize,
    ) -> Result<()> {
        let (columns, spilled) = spill.split(arguments);
        let numbers: Vec<Float64Array> =
            columns.iter().map(super::functions::number).collect::<Result<_>>()?;
        for row in 0..rows {
            let Some(kept) = wanted(row).and_then(|group| self.groups.get_mut(group)) else {
                continue;
            };
            let before = kept.bytes();
            for column in numbers.iter().filter(|column| column.is_valid(row)) {
                kept.add_number(column.value(row));
            }
            super::functions::each_number(spilled, row, |number| kept.add_number(number));
            self.bytes += kept.bytes().saturating_sub(before);
        }
        Ok(())
    }
}

fn damaged() -> DataFusionError {
    DataFusionError::Internal("what a part of a query kept cannot be read".to_owned())
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let wanted = |row: usize| {
            let passes = opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            group_indices.get(row).copied().filter(|_| passes)
        };
        let rows = group_indices.len();
        match self.gather {
            Gather::Histogram => self.add_numbers(values, Spill(false), wanted, rows),
            Gather::Deviation { spill } => self.add_numbers(values, spill, wanted, rows),
            _ => {
                for row in 0..rows {
                    if let Some(group) = wanted(row) {
                        self.add(group, values, row);
                    }
                }
                Ok(())
            }
        }
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = self.take(emit_to);
        Ok(match self.gather.result_type() {
            DataType::Int64 => {
                Arc::new(groups.iter().map(|kept| Some(kept.len() as i64)).collect::<Int64Array>())
            }
            DataType::Float64 => {
                let deviation = |kept: &Kept| match kept {
                    Kept::Moments(moments) => moments.deviation(),
                    _ => None,
                };
                Arc::new(groups.iter().map(deviation).collect::<Float64Array>())
            }
            _ => {
                let texts = groups.into_iter().map(|kept| self.gather.text(kept));
                Arc::new(texts.collect::<StringArray>())
            }
        })
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let mut lists = ListBuilder::new(BinaryBuilder::new());
        for kept in self.take(emit_to) {
            kept.each_part(|part| lists.values().append_value(part));
            lists.append(true);
        }
        Ok(vec![Arc::new(lists.finish())])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let lists = values.first().and_then(|lists| lists.as_list_opt::<i32>());
        let lists = lists.ok_or_else(damaged)?;
        let (orders, limit) = (self.gather.orders().to_vec(), self.gather.limit());
        for (row, group) in group_indices.iter().enumerate() {
            if lists.is_null(row) {
                continue;
            }
            let parts = lists.value(row);
            let parts = parts.as_binary_opt::<i32>().ok_or_else(damaged)?;
            let Some(kept) = self.groups.get_mut(*group) else { continue };
            for part in parts.iter().flatten() {
                let grown = kept.merge_part(part, &orders, limit).ok_or_else(damaged)?;
                self.bytes = self.bytes.saturating_add_signed(grown);
            }
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |column| column.len());
        let mut each = Self::new(self.gather.clone(), rows);
        let groups: Vec<usize> = (0..rows).collect();
        each.update_batch(values, &groups, opt_filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.bytes + self.groups.capacity() * size_of::<Kept>()
    }
}
