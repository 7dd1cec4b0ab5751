//! What LogsQL does to single values, as DataFusion functions.
//!
//! Every function takes columns of any type of the record shape and works on the values' one text
//! form, so that its result does not depend on how a field happens to be stored.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray,
    StringBuilder, TimestampNanosecondArray, UInt64Array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int32Type, Schema, TimeUnit, TimestampNanosecondType,
};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use lodge_record::{overflow, schema};
use lodge_segment::pattern;
use lodge_segment::predicate::{Predicate, evaluate, parse_number};
use serde::{Deserialize, Serialize};

use super::buckets;
use super::natural;
use crate::logsql::{Bucket, FieldPattern};

/// Whether the last argument holds fields without a column, as the text of an `_overflow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Spill(pub(super) bool);

impl Spill {
    /// The columns, and the texts of the fields that have none.
    pub(super) fn split(self, columns: &[ArrayRef]) -> (&[ArrayRef], Option<&ArrayRef>) {
        match columns.split_last() {
            Some((spilled, columns)) if self.0 => (columns, Some(spilled)),
            _ => (columns, None),
        }
    }
}

/// A function over values.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ValueFunction {
    /// The text form; missing values are empty.
    Text,
    /// The text's pattern; null of the missing value.
    Pattern,
    /// Of an `_overflow` text the fields that match one of these (or, negated, none).
    Spilled { patterns: Vec<FieldPattern>, negated: bool },
    /// The number a value is, null if it is none.
    Number,
    /// The sum of the numbers among the arguments, null if there are none.
    NumberSum(Spill),
    /// How many arguments are numbers, null if none is.
    NumberCount(Spill),
    /// Bytes that order as the value does in LogsQL; missing values are empty.
    SortKey,
    /// The least sort key of the arguments that are not empty, null if all are.
    LeastKey(Spill),
    /// The greatest sort key of the arguments that are not empty, null if all are.
    GreatestKey(Spill),
    /// The text that a sort key was made from.
    KeyText,
    /// The bucket that a value falls in.
    Bucket(Bucket),
    /// Whether any argument is not empty.
    AnyValue(Spill),
    /// One text for the values of all arguments, null if all are empty.
    Tuple,
    /// The fields with these names that are not empty, as a JSON object; null if all are empty.
    Object(Vec<String>, Spill),
    /// A number for a text, the same for the same text and hardly ever for another; null of null.
    Digest,
    /// The length in bytes of all arguments together.
    Length(Spill),
    /// Whether a record of these fields matches.
    Matches(Predicate, Vec<String>),
}

impl ValueFunction {
    /// This function applied to `arguments`.
    pub(crate) fn call(self, arguments: Vec<Expr>) -> Expr {
        self.function().call(arguments)
    }

    /// As DataFusion knows it.
    pub(crate) fn function(self) -> ScalarUDF {
        let identity = match &self {
            Self::Matches(predicate, names) => format!("{predicate} on {names:?}"),
            other => format!("{other:?}"),
        };
        let signature = Signature::one_of(
            vec![TypeSignature::VariadicAny, TypeSignature::Nullary],
            Volatility::Immutable,
        );
        let name = format!("logsql_{}", self.name());
        ScalarUDF::new_from_impl(Implementation { function: self, identity, name, signature })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Pattern => "pattern",
            Self::Spilled { .. } => "spilled",
            Self::Number => "number",
            Self::NumberSum(_) => "number_sum",
            Self::NumberCount(_) => "number_count",
            Self::SortKey => "sort_key",
            Self::LeastKey(_) => "least_key",
            Self::GreatestKey(_) => "greatest_key",
            Self::KeyText => "key_text",
            Self::Bucket(_) => "bucket",
            Self::AnyValue(_) => "any_value",
            Self::Tuple => "tuple",
            Self::Object(..) => "object",
            Self::Digest => "digest",
            Self::Length(_) => "length",
            Self::Matches(..) => "matches",
        }
    }
}

/// The bucket that `function` puts its argument in, if that is what it does.
pub(super) fn bucket_of(function: &ScalarUDF) -> Option<Bucket> {
    match function.inner().downcast_ref::<Implementation>()?.function {
        ValueFunction::Bucket(bucket) => Some(bucket),
        _ => None,
    }
}

/// Which of these functions `function` is, if it is one.
pub(crate) fn value_function(function: &ScalarUDF) -> Option<&ValueFunction> {
    function.inner().downcast_ref::<Implementation>().map(|this| &this.function)
}

/// Whether `function` gives the pattern of its argument.
pub(super) fn is_pattern(function: &ScalarUDF) -> bool {
    let function = function.inner().downcast_ref::<Implementation>();
    function.is_some_and(|function| matches!(function.function, ValueFunction::Pattern))
}

/// Whether `function` makes one text of its arguments.
pub(super) fn is_tuple(function: &ScalarUDF) -> bool {
    let function = function.inner().downcast_ref::<Implementation>();
    function.is_some_and(|function| matches!(function.function, ValueFunction::Tuple))
}

/// The predicate that `call` tests, if it does so on the fields themselves under their own names.
pub(crate) fn matched(call: &ScalarFunction) -> Option<Predicate> {
    let function = &call.func.inner().downcast_ref::<Implementation>()?.function;
    let ValueFunction::Matches(predicate, names) = function else { return None };
    let own = names
        .iter()
        .zip(&call.args)
        .all(|(name, argument)| matches!(argument, Expr::Column(column) if column.name() == name));
    // Of fields that are not named it is not known which ones a pipe left.
    let all =
        !predicate.reads().is_open() && predicate.fields().iter().all(|name| names.contains(name));
    (own && all && names.len() == call.args.len()).then(|| predicate.clone())
}

#[derive(Debug)]
struct Implementation {
    function: ValueFunction,
    /// Tells two functions with different parameters apart.
    identity: String,
    name: String,
    signature: Signature,
}

impl PartialEq for Implementation {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Implementation {}

impl Hash for Implementation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity.hash(state);
    }
}

impl ScalarUDFImpl for Implementation {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match &self.function {
            ValueFunction::Text | ValueFunction::KeyText => DataType::Utf8,
            ValueFunction::Tuple | ValueFunction::Object(..) => DataType::Utf8,
            ValueFunction::Pattern | ValueFunction::Spilled { .. } => DataType::Utf8,
            ValueFunction::Number | ValueFunction::NumberSum(_) => DataType::Float64,
            ValueFunction::NumberCount(_) | ValueFunction::Length(_) => DataType::Int64,
            ValueFunction::Digest => DataType::UInt64,
            ValueFunction::SortKey | ValueFunction::LeastKey(_) | ValueFunction::GreatestKey(_) => {
                DataType::Binary
            }
            ValueFunction::Bucket(_) => match arguments.first() {
                Some(time @ DataType::Timestamp(TimeUnit::Nanosecond, _)) => time.clone(),
                _ => DataType::Utf8,
            },
            ValueFunction::AnyValue(_) | ValueFunction::Matches(..) => DataType::Boolean,
        })
    }

    // Two calls that differ in their parameters must have different names as columns.
    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        let arguments: Vec<String> =
            arguments.iter().map(|argument| argument.schema_name().to_string()).collect();
        Ok(format!("{}[{}]({})", self.name, self.identity, arguments.join(",")))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let columns: Vec<ArrayRef> =
            arguments.args.iter().map(|argument| argument.to_array(rows)).collect::<Result<_>>()?;
        let result = apply(&self.function, &columns, rows, arguments.return_type())?;
        Ok(ColumnarValue::Array(result))
    }
}

fn apply(
    function: &ValueFunction,
    columns: &[ArrayRef],
    rows: usize,
    wanted: &DataType,
) -> Result<ArrayRef> {
    let first = || {
        columns
            .first()
            .ok_or_else(|| DataFusionError::Internal("a function lacks its column".to_owned()))
    };
    Ok(match function {
        ValueFunction::Text => text(first()?)?,
        ValueFunction::Pattern => {
            let column = first()?;
            let text = |row| Some(pattern::of(&schema::value_text(column, row)?));
            Arc::new((0..rows).map(text).collect::<StringArray>())
        }
        ValueFunction::Spilled { patterns, negated } => spilled(first()?, patterns, *negated),
        ValueFunction::Number => Arc::new(number(first()?)?),
        ValueFunction::NumberSum(spill) => Arc::new(number_sum(columns, *spill, rows)?),
        ValueFunction::NumberCount(spill) => Arc::new(number_count(columns, *spill, rows)?),
        ValueFunction::SortKey => {
            let column = first()?;
            Arc::new(BinaryArray::from_iter_values(
                (0..rows)
                    .map(|row| natural::key(&schema::value_text(column, row).unwrap_or_default())),
            ))
        }
        ValueFunction::LeastKey(spill) => extreme_key(columns, *spill, rows, false),
        ValueFunction::GreatestKey(spill) => extreme_key(columns, *spill, rows, true),
        ValueFunction::KeyText => {
            let keys = first()?.as_binary::<i32>();
            Arc::new(keys.iter().map(|key| key.and_then(natural::text)).collect::<StringArray>())
        }
        ValueFunction::Bucket(bucket) => bucketed(first()?, bucket, wanted)?,
        ValueFunction::AnyValue(spill) => {
            let (columns, spilled) = spill.split(columns);
            let mut any = BooleanBuffer::new_unset(rows);
            for column in columns {
                any = &any | &not_empty(column);
            }
            if let Some(spilled) = spilled {
                any = &any | &any_spilled(spilled);
            }
            Arc::new(BooleanArray::new(any, None))
        }
        ValueFunction::Tuple => tuples(columns, rows),
        ValueFunction::Object(names, spill) => objects(names, columns, *spill, rows),
        ValueFunction::Digest => {
            let column = first()?;
            let digest = |row| Some(digest(&schema::value_text(column, row)?));
            Arc::new((0..rows).map(digest).collect::<UInt64Array>())
        }
        ValueFunction::Length(spill) => {
            let length = |row| {
                let mut length = 0;
                each_value(columns, *spill, row, |value| length += value.len() as i64);
                length
            };
            Arc::new(Int64Array::from_iter_values((0..rows).map(length)))
        }
        ValueFunction::Matches(predicate, names) => {
            Arc::new(matches(predicate, names, columns, rows)?)
        }
    })
}

/// Calls `each` with the text of every value of a row that is not empty.
pub(super) fn each_value(
    columns: &[ArrayRef],
    spill: Spill,
    row: usize,
    mut each: impl FnMut(&str),
) {
    let (columns, spilled) = spill.split(columns);
    values(columns, row).filter(|value| !value.is_empty()).for_each(|value| each(&value));
    if let Some(text) = spilled.and_then(|spilled| schema::value_text(spilled, row)) {
        overflow::for_each(&text, |_, value| {
            if !value.is_empty() {
                each(value);
            }
        });
    }
}

/// The text forms of a row's values; missing values are empty.
fn values(columns: &[ArrayRef], row: usize) -> impl Iterator<Item = Cow<'_, str>> {
    columns.iter().map(move |column| schema::value_text(column, row).unwrap_or_default())
}

fn text(column: &ArrayRef) -> Result<ArrayRef> {
    let plain = match column.data_type() {
        DataType::Utf8 => column.clone(),
        DataType::Dictionary(..) => cast(column, &DataType::Utf8)?,
        _ => {
            let mut out = StringBuilder::with_capacity(column.len(), column.len() * 8);
            for row in 0..column.len() {
                out.append_value(schema::value_text(column, row).unwrap_or_default());
            }
            return Ok(Arc::new(out.finish()));
        }
    };
    if plain.null_count() == 0 {
        return Ok(plain);
    }
    let strings = plain.as_string::<i32>();
    Ok(Arc::new(StringArray::from_iter_values(strings.iter().map(Option::unwrap_or_default))))
}

fn spilled(column: &ArrayRef, patterns: &[FieldPattern], negated: bool) -> ArrayRef {
    let kept = |row: usize| {
        let text = schema::value_text(column, row)?;
        let mut kept = String::new();
        overflow::for_each(&text, |name, value| {
            if patterns.iter().any(|pattern| pattern.matches(name)) != negated {
                overflow::append(&mut kept, name, value);
            }
        });
        overflow::close(&mut kept);
        (!kept.is_empty()).then_some(kept)
    };
    Arc::new((0..column.len()).map(kept).collect::<StringArray>())
}

pub(super) fn number(column: &ArrayRef) -> Result<Float64Array> {
    match column.data_type() {
        DataType::Int64 | DataType::UInt64 => {
            Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
        }
        DataType::Float64 => {
            let floats = column.as_primitive::<Float64Type>();
            match floats.values().iter().all(|value| value.is_finite()) {
                true => Ok(floats.clone()),
                false => {
                    Ok(floats.iter().map(|value| value.filter(|value| value.is_finite())).collect())
                }
            }
        }
        DataType::Boolean | DataType::Timestamp(..) => Ok(Float64Array::new_null(column.len())),
        DataType::Dictionary(key, _) if **key == DataType::Int32 => {
            let dictionary = column.as_dictionary::<Int32Type>();
            let numbers: ArrayRef = Arc::new(number(dictionary.values())?);
            Ok(take(&numbers, dictionary.keys(), None)?.as_primitive::<Float64Type>().clone())
        }
        _ => Ok((0..column.len())
            .map(|row| schema::value_text(column, row).and_then(|text| parse_number(&text)))
            .collect()),
    }
}

fn number_sum(columns: &[ArrayRef], spill: Spill, rows: usize) -> Result<Float64Array> {
    let (columns, spilled) = spill.split(columns);
    let numbers: Vec<Float64Array> = columns.iter().map(number).collect::<Result<_>>()?;
    if let ([only], None) = (numbers.as_slice(), spilled) {
        return Ok(only.clone());
    }
    let sum = |row: usize| {
        let present = numbers.iter().filter(|numbers| numbers.is_valid(row));
        let mut sum = present.map(|numbers| numbers.value(row)).reduce(|sum, value| sum + value);
        each_number(spilled, row, |more| sum = Some(sum.unwrap_or(0.0) + more));
        sum
    };
    Ok((0..rows).map(sum).collect())
}

/// Calls `each` with every number among a row's fields without a column.
pub(super) fn each_number(spilled: Option<&ArrayRef>, row: usize, mut each: impl FnMut(f64)) {
    if let Some(text) = spilled.and_then(|spilled| schema::value_text(spilled, row)) {
        overflow::for_each(&text, |_, value| {
            if let Some(number) = parse_number(value) {
                each(number);
            }
        });
    }
}

/// In which rows any field without a column is not empty.
fn any_spilled(spilled: &ArrayRef) -> BooleanBuffer {
    let any = |row: usize| {
        let mut any = false;
        if let Some(text) = schema::value_text(spilled, row) {
            overflow::for_each(&text, |_, value| any |= !value.is_empty());
        }
        any
    };
    BooleanBuffer::collect_bool(spilled.len(), any)
}

/// Which values of a column are not empty.
fn not_empty(column: &ArrayRef) -> BooleanBuffer {
    let by_row = |is: &dyn Fn(usize) -> bool| BooleanBuffer::collect_bool(column.len(), is);
    let valid = || match column.nulls() {
        Some(nulls) => nulls.inner().clone(),
        None => BooleanBuffer::new_set(column.len()),
    };
    match column.data_type() {
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            let lengths = by_row(&|row| texts.value_length(row) > 0);
            &lengths & &valid()
        }
        DataType::Dictionary(key, _) if **key == DataType::Int32 => {
            let dictionary = column.as_dictionary::<Int32Type>();
            let values = not_empty(dictionary.values());
            by_row(&|row| dictionary.key(row).is_some_and(|key| values.value(key)))
        }
        DataType::Int64
        | DataType::UInt64
        | DataType::Float64
        | DataType::Boolean
        | DataType::Timestamp(..) => valid(),
        _ => by_row(&|row| schema::value_text(column, row).is_some_and(|text| !text.is_empty())),
    }
}

fn number_count(columns: &[ArrayRef], spill: Spill, rows: usize) -> Result<Int64Array> {
    let (columns, spilled) = spill.split(columns);
    let mut counts = vec![0; rows];
    for column in columns {
        let numbers = number(column)?;
        for (row, count) in counts.iter_mut().enumerate() {
            *count += i64::from(numbers.is_valid(row));
        }
    }
    if spilled.is_some() {
        for (row, count) in counts.iter_mut().enumerate() {
            each_number(spilled, row, |_| *count += 1);
        }
    }
    // A row without a number has nothing to say, not zero to add.
    Ok(counts.into_iter().map(|count| (count > 0).then_some(count)).collect())
}

fn extreme_key(columns: &[ArrayRef], spill: Spill, rows: usize, greatest: bool) -> ArrayRef {
    let keys = (0..rows).map(|row| {
        let mut extreme: Option<Vec<u8>> = None;
        each_value(columns, spill, row, |value| {
            let key = natural::key(value);
            let better = |known: &Vec<u8>| if greatest { key > *known } else { key < *known };
            if extreme.as_ref().is_none_or(better) {
                extreme = Some(key);
            }
        });
        extreme
    });
    Arc::new(BinaryArray::from_iter(keys))
}

fn bucketed(column: &ArrayRef, bucket: &Bucket, wanted: &DataType) -> Result<ArrayRef> {
    if let Some(times) = column.as_primitive_opt::<TimestampNanosecondType>() {
        let starts: TimestampNanosecondArray =
            times.iter().map(|time| time.map(|time| buckets::of_time(bucket, time))).collect();
        return cast(&starts, wanted).map_err(DataFusionError::from);
    }
    let texts = (0..column.len()).map(|row| {
        let text = schema::value_text(column, row).unwrap_or_default();
        buckets::of_text(bucket, &text)
    });
    Ok(Arc::new(StringArray::from_iter_values(texts)))
}

fn tuples(columns: &[ArrayRef], rows: usize) -> ArrayRef {
    let mut out = StringBuilder::new();
    let mut text = String::new();
    for row in 0..rows {
        text.clear();
        let mut any = false;
        for value in values(columns, row) {
            any |= !value.is_empty();
            // Lengths in front keep ("ab", "c") and ("a", "bc") apart.
            if columns.len() > 1 {
                text.push_str(&value.len().to_string());
                text.push(':');
            }
            text.push_str(&value);
        }
        out.append_option(any.then_some(&text));
    }
    Arc::new(out.finish())
}

/// Appends a row's fields that are not empty to `out`, as a JSON object, in the order of their names;
/// nothing if all are empty.
pub(super) fn push_object(
    out: &mut String,
    names: &[String],
    columns: &[ArrayRef],
    spill: Spill,
    row: usize,
) {
    let (columns, spilled) = spill.split(columns);
    let mut fields: Vec<(Cow<'_, str>, Cow<'_, str>)> = names
        .iter()
        .zip(columns)
        .filter_map(|(name, column)| {
            let value = schema::value_text(column, row).filter(|value| !value.is_empty())?;
            Some((Cow::Borrowed(name.as_str()), value))
        })
        .collect();
    if let Some(text) = spilled.and_then(|spilled| schema::value_text(spilled, row)) {
        overflow::for_each(&text, |name, value| {
            if !value.is_empty() {
                fields.push((Cow::Owned(name.to_owned()), Cow::Owned(value.to_owned())));
            }
        });
    }
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    let mut object = String::new();
    fields.iter().for_each(|(name, value)| overflow::append(&mut object, name, value));
    overflow::close(&mut object);
    out.push_str(&object);
}

fn objects(names: &[String], columns: &[ArrayRef], spill: Spill, rows: usize) -> ArrayRef {
    let mut out = StringBuilder::new();
    let mut text = String::new();
    for row in 0..rows {
        text.clear();
        push_object(&mut text, names, columns, spill, row);
        out.append_option((!text.is_empty()).then_some(&text));
    }
    Arc::new(out.finish())
}

/// Of a fixed key: parts of a query, and queries, agree on it.
fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn matches(
    predicate: &Predicate,
    names: &[String],
    columns: &[ArrayRef],
    rows: usize,
) -> Result<BooleanArray> {
    let fields: Vec<Field> = names
        .iter()
        .zip(columns)
        .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new_with_options(schema, columns.to_vec(), &options)?;
    Ok(evaluate(predicate, &batch))
}
