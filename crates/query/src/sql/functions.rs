//! What SQL has for logs: functions that test texts, streams and whole records as LogsQL does, and
//! buckets of time.
//!
//! Each becomes, while the plan is made, the very expression that LogsQL's plans have, so that the leaf
//! takes it as a predicate (or as a key) and the index is used.
//!
//! Invariant: a test is true or false, never unknown: a missing field is the empty text.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Column, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use lodge_record::field;
use lodge_segment::predicate::{FieldTest, Pattern, Phrase, Predicate};

use crate::error::QueryError;
use crate::plan::ValueFunction;

/// What makes a predicate of a filter's text, and buckets of a step's: the text of another language,
/// which this module does not know.
#[derive(Clone, Copy)]
pub(crate) struct Words {
    /// The records that a filter selects when the clock shows this many nanoseconds.
    pub(crate) filter: fn(&str, i64) -> Result<Predicate, QueryError>,
    /// The function that rounds times down by a step, shifted by an offset.
    pub(crate) bucket: fn(&str, Option<&str>) -> Result<ValueFunction, QueryError>,
}

/// All functions.
pub(crate) fn all(words: Words) -> Vec<Arc<ScalarUDF>> {
    let of = |call: Call| {
        // A function without a column among its arguments would be taken for a constant.
        let volatility = match call {
            Call::Filter | Call::Stream => Volatility::Volatile,
            _ => Volatility::Immutable,
        };
        let signature = Signature::variadic_any(volatility);
        Arc::new(ScalarUDF::new_from_impl(SqlFunction { call, signature, words }))
    };
    Call::ALL.into_iter().map(of).collect()
}

/// What a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Call {
    /// `match(field, 'a phrase')`.
    Phrase,
    /// `match_prefix(field, 'pre')`.
    Prefix,
    /// `match_i(field, 'A Phrase')`: letter case aside.
    AnyCase,
    /// `match_all(field, 'one', 'two', …)`.
    All,
    /// `match_any(field, 'one', 'two', …)`.
    Any,
    /// `match_substring(field, 'ubst')`.
    Substring,
    /// `match_regexp(field, 'a|b')`.
    Regexp,
    /// `stream('{app="nginx"}')`.
    Stream,
    /// `logsql('level:error "a phrase" -debug')`.
    Filter,
    /// `time_bucket('5m', _time[, '2h'])`.
    Bucket,
}

impl Call {
    const ALL: [Self; 10] = [
        Self::Phrase,
        Self::Prefix,
        Self::AnyCase,
        Self::All,
        Self::Any,
        Self::Substring,
        Self::Regexp,
        Self::Stream,
        Self::Filter,
        Self::Bucket,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Phrase => "match",
            Self::Prefix => "match_prefix",
            Self::AnyCase => "match_i",
            Self::All => "match_all",
            Self::Any => "match_any",
            Self::Substring => "match_substring",
            Self::Regexp => "match_regexp",
            Self::Stream => "stream",
            Self::Filter => "logsql",
            Self::Bucket => "time_bucket",
        }
    }

    /// How it is called, for errors.
    fn usage(self) -> &'static str {
        match self {
            Self::Phrase => "match(field, 'a phrase')",
            Self::Prefix => "match_prefix(field, 'begin')",
            Self::AnyCase => "match_i(field, 'A Phrase')",
            Self::All => "match_all(field, 'one', 'two', …)",
            Self::Any => "match_any(field, 'one', 'two', …)",
            Self::Substring => "match_substring(field, 'part')",
            Self::Regexp => "match_regexp(field, 'a|b')",
            Self::Stream => "stream('{app=\"nginx\"}')",
            Self::Filter => "logsql('level:error \"a phrase\"')",
            Self::Bucket => "time_bucket('5m', _time) or time_bucket('1d', _time, '2h')",
        }
    }
}

struct SqlFunction {
    call: Call,
    signature: Signature,
    words: Words,
}

impl fmt::Debug for SqlFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call.name())
    }
}

impl PartialEq for SqlFunction {
    fn eq(&self, other: &Self) -> bool {
        self.call == other.call
    }
}

impl Eq for SqlFunction {}

impl Hash for SqlFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.call.hash(state);
    }
}

impl ScalarUDFImpl for SqlFunction {
    fn name(&self) -> &str {
        self.call.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        if self.call != Call::Bucket {
            return Ok(DataType::Boolean);
        }
        match arguments {
            [_, time @ DataType::Timestamp(TimeUnit::Nanosecond, _)]
            | [_, time @ DataType::Timestamp(TimeUnit::Nanosecond, _), _] => Ok(time.clone()),
            _ => self.misused("the second argument is a time"),
        }
    }

    fn simplify(&self, arguments: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let made = match self.call {
            Call::Bucket => self.bucket(&arguments, info)?,
            Call::Stream | Call::Filter => self.of_record(&arguments, info)?,
            _ => self.of_field(&arguments)?,
        };
        Ok(ExprSimplifyResult::Simplified(made))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.misused("the texts are constants")
    }
}

impl SqlFunction {
    fn misused<T>(&self, rule: &str) -> Result<T> {
        plan_err!("{} is written {}; {rule}", self.call.name(), self.call.usage())
    }

    /// The constant text that an argument is.
    fn text<'e>(&self, argument: Option<&'e Expr>) -> Result<&'e str> {
        match argument {
            Some(Expr::Literal(value, _)) => match value.try_as_str() {
                Some(Some(text)) if !text.is_empty() => Ok(text),
                _ => self.misused("the texts are constants that are not empty"),
            },
            _ => self.misused("the texts are constants"),
        }
    }

    fn of_field(&self, arguments: &[Expr]) -> Result<Expr> {
        let [value, texts @ ..] = arguments else { return self.misused("it needs a field") };
        let is_many = matches!(self.call, Call::All | Call::Any);
        if texts.is_empty() || (texts.len() > 1 && !is_many) {
            return self.misused("look at the number of texts");
        }
        let one = || self.text(texts.first());
        let many = || -> Result<Vec<Phrase>> {
            texts.iter().map(|text| Ok(Phrase::whole(self.text(Some(text))?))).collect()
        };
        let test = match self.call {
            Call::Prefix => FieldTest::Contains(Phrase::prefix(one()?)),
            Call::AnyCase => FieldTest::ContainsAnyCase(Phrase::whole(&one()?.to_lowercase())),
            Call::All => FieldTest::ContainsAll(many()?),
            Call::Any => FieldTest::ContainsAny(many()?),
            Call::Substring => FieldTest::Substring(one()?.to_owned()),
            Call::Regexp => match Pattern::new(one()?) {
                Ok(pattern) => FieldTest::Regex(pattern),
                Err(error) => return plan_err!("{}: {error}", self.call.name()),
            },
            _ => FieldTest::Contains(Phrase::whole(one()?)),
        };
        // Only what is a field as it is stored can be looked up.
        let name = match value {
            Expr::Column(column) => column.name().to_owned(),
            _ => "value".to_owned(),
        };
        let predicate = Predicate::field(&name, test);
        Ok(ValueFunction::Matches(predicate, vec![name]).call(vec![value.clone()]))
    }

    /// A test of all of a record's fields that the filter names.
    fn of_record(&self, arguments: &[Expr], info: &SimplifyContext) -> Result<Expr> {
        let [argument] = arguments else { return self.misused("it takes one text") };
        let text = self.text(Some(argument))?;
        if self.call == Call::Stream && !text.trim_start().starts_with('{') {
            return self.misused("the text is a selector in braces");
        }
        let now = info.query_execution_start_time().and_then(|now| now.timestamp_nanos_opt());
        let predicate = (self.words.filter)(text, now.unwrap_or_default()).map_err(|error| {
            let place = match error.kind() {
                crate::QueryErrorKind::Parse { column } => format!(", character {column}"),
                _ => String::new(),
            };
            let name = self.call.name();
            QueryError::invalid(format!("{name}('…'){place}: {}", error.message()))
        })?;
        let mut wanted = predicate.fields();
        wanted.insert(field::OVERFLOW.to_owned());
        wanted.insert(field::STREAM_ID.to_owned());
        if predicate.reads().is_open() {
            // A filter on any field looks at each that there is.
            wanted.extend(info.schema().fields().iter().map(|field| field.name().clone()));
        }
        let (mut names, mut columns) = (Vec::new(), Vec::new());
        for name in wanted {
            let found = info.schema().qualified_fields_with_unqualified_name(&name);
            match found.as_slice() {
                [] => {}
                [column] => {
                    columns.push(Expr::Column(Column::from(*column)));
                    names.push(name);
                }
                _ => {
                    return plan_err!(
                        "{}('…') cannot tell which `{name}` is meant; test each table in a \
                         subquery of its own: (SELECT * FROM logs WHERE {}('…'))",
                        self.call.name(),
                        self.call.name()
                    );
                }
            }
        }
        Ok(ValueFunction::Matches(predicate, names).call(columns))
    }

    fn bucket(&self, arguments: &[Expr], info: &SimplifyContext) -> Result<Expr> {
        let (step, time, offset) = match arguments {
            [step, time] => (self.text(Some(step))?, time, None),
            [step, time, offset] => (self.text(Some(step))?, time, Some(self.text(Some(offset))?)),
            _ => return self.misused("it takes two or three arguments"),
        };
        let kind = info.get_data_type(time)?;
        if !matches!(kind, DataType::Timestamp(TimeUnit::Nanosecond, _)) {
            return self.misused("the second argument is a time");
        }
        let function = (self.words.bucket)(step, offset).map_err(DataFusionError::from)?;
        Ok(function.call(vec![time.clone()]))
    }
}
