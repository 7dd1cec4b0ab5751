//! The exact quantile of numbers, of many groups at once.
//!
//! All numbers are kept (eight bytes each, under the query's memory budget) and the one that is asked
//! for is selected at the end: dearer in memory than a sketch, cheaper in time, and exact. Between two
//! numbers it is interpolated.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Float64Builder, ListArray, ListBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Signature,
    Volatility,
};

use super::functions::{Spill, each_number, number};
use super::single::Single;

/// The `phi`-quantile of all numbers in `columns`; null if there is no number.
pub(super) fn quantile(phi: f64, columns: Vec<Expr>, spill: Spill) -> Expr {
    function(phi, spill).call(columns)
}

/// As DataFusion knows it.
pub(super) fn function(phi: f64, spill: Spill) -> AggregateUDF {
    let signature = Signature::variadic_any(Volatility::Immutable);
    let name = format!("logsql_quantile_{phi}_{}", spill.0);
    AggregateUDF::new_from_impl(Quantile { phi, spill, name, signature })
}

/// Which quantile `function` is, and of what, if it is one.
pub(super) fn quantile_of(function: &AggregateUDF) -> Option<(f64, Spill)> {
    function.inner().downcast_ref::<Quantile>().map(|this| (this.phi, this.spill))
}

/// Whether it is a quantile of numbers.
pub(super) fn is_quantile(function: &AggregateUDF) -> bool {
    function.inner().downcast_ref::<Quantile>().is_some()
}

#[derive(Debug)]
struct Quantile {
    phi: f64,
    spill: Spill,
    name: String,
    signature: Signature,
}

impl PartialEq for Quantile {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Quantile {}

impl Hash for Quantile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl AggregateUDFImpl for Quantile {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let name = format!("{}[numbers]", args.name);
        Ok(vec![Arc::new(Field::new_list(
            name,
            Field::new_list_field(DataType::Float64, true),
            true,
        ))])
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Single(Kept::new(self.phi, self.spill, 1))))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        _: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Kept::new(self.phi, self.spill, 0)))
    }
}

/// All numbers of each group.
#[derive(Debug)]
struct Kept {
    phi: f64,
    spill: Spill,
    groups: Vec<Vec<f64>>,
    /// Numbers that there is room for in all groups.
    room: usize,
}

impl Kept {
    fn new(phi: f64, spill: Spill, groups: usize) -> Self {
        Self { phi, spill, groups: vec![Vec::new(); groups], room: 0 }
    }

    fn push(&mut self, group: usize, number: f64) {
        if let Some(numbers) = self.groups.get_mut(group) {
            let before = numbers.capacity();
            numbers.push(number);
            self.room += numbers.capacity() - before;
        }
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<Vec<f64>> {
        let taken = emit_to.take_needed(&mut self.groups);
        self.room -= taken.iter().map(Vec::capacity).sum::<usize>().min(self.room);
        taken
    }

    /// Adds the numbers of a list per group.
    fn merge(&mut self, lists: &ArrayRef, group: impl Fn(usize) -> usize) -> Result<()> {
        let lists = lists.as_list_opt::<i32>().ok_or_else(no_numbers)?;
        for row in 0..lists.len() {
            let list = lists.value(row);
            let numbers = list.as_primitive_opt::<Float64Type>().ok_or_else(no_numbers)?;
            numbers.values().iter().for_each(|number| self.push(group(row), *number));
        }
        Ok(())
    }
}

fn no_numbers() -> DataFusionError {
    DataFusionError::Internal("a quantile of something else than numbers".to_owned())
}

/// The element at the rank `phi` of the way from the least to the greatest.
fn select(numbers: &mut [f64], phi: f64) -> Option<f64> {
    let last = numbers.len().checked_sub(1)?;
    let rank = phi.clamp(0.0, 1.0) * last as f64;
    let place = (rank.floor() as usize).min(last);
    let (_, low, above) = numbers.select_nth_unstable_by(place, f64::total_cmp);
    let (low, share) = (*low, rank - place as f64);
    if share == 0.0 {
        return Some(low);
    }
    let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    Some(low + (high - low) * share)
}

fn lists(groups: Vec<Vec<f64>>) -> ListArray {
    let mut lists = ListBuilder::new(Float64Builder::new());
    for numbers in groups {
        lists.values().append_slice(&numbers);
        lists.append(true);
    }
    lists.finish()
}

impl GroupsAccumulator for Kept {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups.resize_with(total_num_groups.max(self.groups.len()), Vec::new);
        let wanted =
            |row: usize| opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let (columns, spilled) = self.spill.split(values);
        for column in columns {
            // One column of numbers is what `Number` gave: there is nothing left to look for.
            let alone = values.len() == 1;
            let known = column.as_primitive_opt::<Float64Type>().filter(|_| alone);
            let numbers = known.cloned().map_or_else(|| number(column), Ok)?;
            for (row, group) in group_indices.iter().enumerate() {
                if numbers.is_valid(row) && wanted(row) {
                    self.push(*group, numbers.value(row));
                }
            }
        }
        if spilled.is_some() {
            for (row, group) in group_indices.iter().enumerate().filter(|(row, _)| wanted(*row)) {
                each_number(spilled, row, |number| self.push(*group, number));
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let phi = self.phi;
        let groups = self.take(emit_to);
        let chosen = groups.into_iter().map(|mut numbers| select(&mut numbers, phi));
        Ok(Arc::new(chosen.collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(lists(self.take(emit_to)))])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups.resize_with(total_num_groups.max(self.groups.len()), Vec::new);
        let group = |row: usize| group_indices.get(row).copied().unwrap_or(usize::MAX);
        self.merge(values.first().ok_or_else(no_numbers)?, group)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |column| column.len());
        let mut each = Self::new(self.phi, self.spill, rows);
        let groups: Vec<usize> = (0..rows).collect();
        each.update_batch(values, &groups, opt_filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        (self.room + self.groups.capacity() * 3) * size_of::<f64>()
    }
}
