//! How many records there are in each of some equal parts of the time, as a JSON list of numbers.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Builder, ListArray, ListBuilder, StringBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimestampNanosecondType};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Signature,
    Volatility,
};
use serde::{Deserialize, Serialize};

use super::single::Single;

/// Counts of `time` per part of the span from its first to its last nanosecond.
pub(super) fn trend(span: (i64, i64), buckets: usize, time: Expr) -> Expr {
    function(Parts::new(span, buckets)).call(vec![time])
}

/// As DataFusion knows it.
pub(super) fn function(parts: Parts) -> AggregateUDF {
    let signature = Signature::any(1, Volatility::Immutable);
    let name = format!("logsql_trend_{}_{}_{}", parts.start_ns, parts.step_ns, parts.count);
    AggregateUDF::new_from_impl(Trend { parts, name, signature })
}

/// The parts that `function` counts by, if that is what it does.
pub(super) fn parts_of(function: &AggregateUDF) -> Option<Parts> {
    function.inner().downcast_ref::<Trend>().map(|this| this.parts)
}

/// Equal parts of a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parts {
    /// Where the first begins.
    pub(crate) start_ns: i64,
    /// How long each is; positive.
    pub(crate) step_ns: i64,
    count: usize,
}

impl Parts {
    pub(crate) fn new((first, last): (i64, i64), count: usize) -> Self {
        let count = count.max(1);
        let length = (i128::from(last) - i128::from(first)).max(0) + 1;
        // Rounded up, so that the last moment is in the last part.
        let step = (length + count as i128 - 1) / count as i128;
        Self { start_ns: first, step_ns: i64::try_from(step).unwrap_or(i64::MAX), count }
    }

    /// Whether it is made of one part at least, as all that are made here are.
    pub(crate) fn is_valid(&self) -> bool {
        self.count > 0 && self.step_ns > 0
    }

    fn of(&self, time_ns: i64) -> usize {
        let since = (i128::from(time_ns) - i128::from(self.start_ns)).max(0);
        let place = usize::try_from(since / i128::from(self.step_ns.max(1))).unwrap_or(usize::MAX);
        place.min(self.count - 1)
    }
}

#[derive(Debug)]
struct Trend {
    parts: Parts,
    name: String,
    signature: Signature,
}

impl PartialEq for Trend {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for Trend {}

impl Hash for Trend {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl AggregateUDFImpl for Trend {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let name = format!("{}[counts]", args.name);
        let item = Field::new_list_field(DataType::Int64, true);
        Ok(vec![Arc::new(Field::new_list(name, item, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Single(Counts { parts: self.parts, counts: vec![0; self.parts.count] })))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        _: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Counts { parts: self.parts, counts: Vec::new() }))
    }
}

/// The counts of all groups, one group after the other.
#[derive(Debug)]
struct Counts {
    parts: Parts,
    counts: Vec<i64>,
}

impl Counts {
    fn grow(&mut self, groups: usize) {
        let length = groups.saturating_mul(self.parts.count);
        self.counts.resize(length.max(self.counts.len()), 0);
    }

    fn add(&mut self, group: usize, part: usize, more: i64) {
        if let Some(count) = self.counts.get_mut(group * self.parts.count + part) {
            *count = count.saturating_add(more);
        }
    }

    /// The counts of the groups that are emitted.
    fn take(&mut self, emit_to: EmitTo) -> Vec<i64> {
        match emit_to {
            EmitTo::All => std::mem::take(&mut self.counts),
            EmitTo::First(groups) => {
                let end = groups.saturating_mul(self.parts.count).min(self.counts.len());
                self.counts.drain(..end).collect()
            }
        }
    }

    fn lists(&mut self, emit_to: EmitTo) -> ListArray {
        let mut lists = ListBuilder::new(Int64Builder::new());
        for counts in self.take(emit_to).chunks(self.parts.count) {
            lists.values().append_slice(counts);
            lists.append(true);
        }
        lists.finish()
    }
}

fn wrong_type() -> DataFusionError {
    DataFusionError::Internal("a trend of something else than times".to_owned())
}

impl GroupsAccumulator for Counts {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let times = values.first().and_then(|v| v.as_primitive_opt::<TimestampNanosecondType>());
        let times = times.ok_or_else(wrong_type)?;
        for (row, group) in group_indices.iter().enumerate() {
            let wanted = opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if wanted && times.is_valid(row) {
                self.add(*group, self.parts.of(times.value(row)), 1);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let mut out = StringBuilder::new();
        for counts in self.take(emit_to).chunks(self.parts.count) {
            let counts: Vec<String> = counts.iter().map(i64::to_string).collect();
            out.append_value(format!("[{}]", counts.join(",")));
        }
        Ok(Arc::new(out.finish()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(self.lists(emit_to))])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let lists = values.first().and_then(|lists| lists.as_list_opt::<i32>());
        let lists = lists.ok_or_else(wrong_type)?;
        for (row, group) in group_indices.iter().enumerate() {
            let list = lists.value(row);
            let counts = list.as_primitive_opt::<Int64Type>().ok_or_else(wrong_type)?;
            for (part, count) in counts.values().iter().take(self.parts.count).enumerate() {
                self.add(*group, part, *count);
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
        let mut each = Self { parts: self.parts, counts: Vec::new() };
        let groups: Vec<usize> = (0..rows).collect();
        each.update_batch(values, &groups, opt_filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }
}
