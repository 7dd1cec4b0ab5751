//! SQL conditions as predicates of the leaf.
//!
//! Invariant: a condition is translated only if the predicate is true for exactly the rows for which
//! the condition is true. SQL's "unknown" counts as not true, so a negation is only translated of what is
//! never unknown.

use std::collections::BTreeSet;

use crate::plan::matched;
use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{InList, Like, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use lodge_record::{field, schema};
use lodge_segment::predicate::{FieldTest, NumberRange, Pattern, Predicate};

/// The predicate that is true exactly where `condition` is, if there is one.
pub(crate) fn predicate(condition: &Expr, schema: &Schema) -> Option<Predicate> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            Some(Predicate::and([predicate(left, schema)?, predicate(right, schema)?]))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            Some(any_of([predicate(left, schema)?, predicate(right, schema)?]))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::RegexMatch, right }) => {
            let (Expr::Column(column), Expr::Literal(value, _)) = (&**left, &**right) else {
                return None;
            };
            let test = FieldTest::Regex(regex(value.try_as_str()??)?);
            is_text(column.name(), schema).then(|| Predicate::field(column.name(), test))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (&**left, &**right) {
            (Expr::Column(column), Expr::Literal(value, _)) => {
                comparison(column.name(), *op, value, schema)
            }
            (Expr::Literal(value, _), Expr::Column(column)) => {
                comparison(column.name(), op.swap()?, value, schema)
            }
            _ => None,
        },
        Expr::Between(between) if !between.negated => {
            match (&*between.expr, &*between.low, &*between.high) {
                (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) => {
                    let name = column.name();
                    Some(Predicate::and([
                        comparison(name, Operator::GtEq, low, schema)?,
                        comparison(name, Operator::LtEq, high, schema)?,
                    ]))
                }
                _ => None,
            }
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let Expr::Column(column) = &**expr else { return None };
            let parts = list.iter().map(|item| match item {
                Expr::Literal(value, _) => comparison(column.name(), Operator::Eq, value, schema),
                _ => None,
            });
            Some(any_of(parts.collect::<Option<Vec<_>>>()?))
        }
        Expr::Like(like) => like_pattern(like, schema),
        Expr::ScalarFunction(call) => matched(call).or_else(|| text_function(call, schema)),
        // These are never unknown.
        Expr::Not(inner) => match &**inner {
            Expr::ScalarFunction(call) => matched(call).map(Predicate::not),
            _ => None,
        },
        _ => None,
    }
}

/// The predicate that is true exactly where all `conditions` are, if there is one. Two bounds of a
/// field become one range: it is looked at once.
pub(crate) fn conjunction(conditions: &[Expr], schema: &Schema) -> Option<Predicate> {
    let translated = conditions.iter().map(|condition| predicate(condition, schema));
    let mut parts = match Predicate::and(translated.collect::<Option<Vec<_>>>()?) {
        Predicate::And(parts) => parts,
        part => return Some(part),
    };
    while let Some((lower, upper, range)) = pair_of_bounds(&parts) {
        parts.swap_remove(lower.max(upper));
        parts.swap_remove(lower.min(upper));
        parts.push(range);
    }
    Some(Predicate::and(parts))
}

/// Any of `parts`. The texts that a field may be become one list, so that its column is looked at once:
/// a short `IN` comes here as one equation after the other.
fn any_of(parts: impl IntoIterator<Item = Predicate>) -> Predicate {
    let parts = match Predicate::or(parts) {
        Predicate::Or(parts) => parts,
        part => return part,
    };
    let mut lists: Vec<(String, BTreeSet<String>)> = Vec::new();
    let mut others = Vec::new();
    for part in parts {
        let (name, texts) = match part {
            Predicate::Field { name, test: FieldTest::Exact(text) } => (name, [text].into()),
            Predicate::Field { name, test: FieldTest::In(texts) } => (name, texts),
            other => {
                others.push(other);
                continue;
            }
        };
        match lists.iter_mut().find(|(known, _)| *known == name) {
            Some((_, list)) => list.extend(texts),
            None => lists.push((name, texts)),
        }
    }
    let lists = lists.into_iter().map(|(name, mut texts)| {
        let test = match texts.len() {
            1 => texts.pop_first().map_or(FieldTest::In(texts), FieldTest::Exact),
            _ => FieldTest::In(texts),
        };
        Predicate::Field { name, test }
    });
    Predicate::or(others.into_iter().chain(lists))
}

/// A lower and an upper bound of one field, by their places, and the range that they make.
fn pair_of_bounds(parts: &[Predicate]) -> Option<(usize, usize, Predicate)> {
    let bounds = || parts.iter().enumerate().filter_map(|(at, part)| Some((at, bound(part)?)));
    let is_lower = |range: &NumberRange| range.min.is_finite() && range.max == f64::INFINITY;
    let is_upper = |range: &NumberRange| range.max.is_finite() && range.min == f64::NEG_INFINITY;
    for (lower, (name, from)) in bounds().filter(|(_, (_, range))| is_lower(range)) {
        let to = bounds().find(|(_, (other, range))| *other == name && is_upper(range));
        if let Some((upper, (_, to))) = to {
            let range = NumberRange { max: to.max, max_open: to.max_open, ..from };
            return Some((lower, upper, Predicate::field(name, FieldTest::Number(range))));
        }
    }
    None
}

/// The field and the range of a comparison with a number. What a bound of floats takes beyond numbers
/// is on the other side of every number, so that an opposite bound takes it away.
fn bound(part: &Predicate) -> Option<(&str, NumberRange)> {
    let range_of = |part| match part {
        &Predicate::Field { ref name, test: FieldTest::Number(range) } => Some((&**name, range)),
        _ => None,
    };
    match part {
        Predicate::Or(parts) => {
            let [number, Predicate::Field { name: other, test: FieldTest::In(texts) }] = &**parts
            else {
                return None;
            };
            let (name, range) = range_of(number)?;
            let is_beyond = |text: &String| match text.parse::<f64>() {
                Ok(value) if range.max == f64::INFINITY => value.is_nan() || value == range.max,
                Ok(value) => range.min == f64::NEG_INFINITY && value == range.min,
                Err(_) => false,
            };
            (name == other && texts.iter().all(is_beyond)).then_some((name, range))
        }
        part => range_of(part),
    }
}

/// `contains`, `starts_with` and `regexp_like` of a field's text and a constant.
fn text_function(call: &ScalarFunction, schema: &Schema) -> Option<Predicate> {
    let [Expr::Column(column), Expr::Literal(value, _)] = call.args.as_slice() else {
        return None;
    };
    let text = value.try_as_str()??;
    if !is_text(column.name(), schema) || text.is_empty() {
        return None;
    }
    let test = match call.name() {
        "contains" => FieldTest::Substring(text.to_owned()),
        "starts_with" => FieldTest::ExactPrefix(text.to_owned()),
        "regexp_like" => FieldTest::Regex(regex(text)?),
        _ => return None,
    };
    Some(Predicate::field(column.name(), test))
}

/// An expression that does not take the missing value, which is the empty text to the leaf.
fn regex(text: &str) -> Option<Pattern> {
    Pattern::new(text).ok().filter(|pattern| !pattern.is_match(""))
}

fn is_text(name: &str, schema: &Schema) -> bool {
    let field = schema.field_with_name(name);
    field.is_ok_and(|f| matches!(f.data_type(), DataType::Utf8 | DataType::Dictionary(..)))
}

fn comparison(
    name: &str,
    operator: Operator,
    value: &ScalarValue,
    schema: &Schema,
) -> Option<Predicate> {
    let data_type = schema.field_with_name(name).ok()?.data_type();
    match (data_type, value) {
        (DataType::Timestamp(TimeUnit::Nanosecond, _), _) if name == field::TIME => {
            time(operator, nanoseconds(value)?)
        }
        (DataType::Utf8 | DataType::Dictionary(..), _) => {
            let text = value.try_as_str()??;
            // Text fields order and compare as text in SQL; only equality is the same in both
            // languages, and the empty text is not the missing value there.
            (operator == Operator::Eq && !text.is_empty())
                .then(|| Predicate::field(name, FieldTest::exact(text)))
        }
        (DataType::Int64, ScalarValue::Int64(Some(number))) => integer(name, operator, *number),
        (DataType::Float64, ScalarValue::Float64(Some(number))) => float(name, operator, *number),
        (DataType::Boolean, ScalarValue::Boolean(Some(flag))) => {
            (operator == Operator::Eq).then(|| {
                Predicate::field(name, FieldTest::exact(if *flag { "true" } else { "false" }))
            })
        }
        _ => None,
    }
}

/// Nanoseconds since 1970 of a timestamp that is not null.
fn nanoseconds(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampNanosecond(Some(ns), _) => Some(*ns),
        ScalarValue::TimestampMicrosecond(Some(us), _) => us.checked_mul(1_000),
        ScalarValue::TimestampMillisecond(Some(ms), _) => ms.checked_mul(1_000_000),
        ScalarValue::TimestampSecond(Some(s), _) => s.checked_mul(1_000_000_000),
        _ => None,
    }
}

fn time(operator: Operator, at: i64) -> Option<Predicate> {
    let range = |min_ns: Option<i64>, max_ns: Option<i64>| match (min_ns, max_ns) {
        (Some(min_ns), Some(max_ns)) => Predicate::Time { min_ns, max_ns },
        _ => Predicate::None,
    };
    Some(match operator {
        Operator::Eq => range(Some(at), Some(at)),
        Operator::Gt => range(at.checked_add(1), Some(i64::MAX)),
        Operator::GtEq => range(Some(at), Some(i64::MAX)),
        Operator::Lt => range(Some(i64::MIN), at.checked_sub(1)),
        Operator::LtEq => range(Some(i64::MIN), Some(at)),
        _ => return None,
    })
}

/// Whole numbers that floats hold exactly compare the same in both languages.
fn integer(name: &str, operator: Operator, number: i64) -> Option<Predicate> {
    if operator == Operator::Eq {
        return Some(Predicate::field(name, FieldTest::exact(&number.to_string())));
    }
    if number.unsigned_abs() > lodge_record::schema::EXACT_INT_MAX / 2 {
        return None;
    }
    let (low, high, at) = (f64::NEG_INFINITY, f64::INFINITY, number as f64);
    let range = |min, min_open, max, max_open| NumberRange { min, min_open, max, max_open };
    let range = match operator {
        Operator::Gt => range(at, true, high, false),
        Operator::GtEq => range(at, false, high, false),
        Operator::Lt => range(low, false, at, true),
        Operator::LtEq => range(low, false, at, false),
        _ => return None,
    };
    Some(Predicate::field(name, FieldTest::Number(range)))
}

/// Finite floats compare the same in both languages, but for the zeros: in SQL alone the negative one
/// is less than the other. NaN is beyond all others there.
fn float(name: &str, operator: Operator, number: f64) -> Option<Predicate> {
    if !number.is_finite() || (number == 0.0 && number.is_sign_negative()) {
        return None;
    }
    let negative_zero = (number == 0.0).then(|| schema::float_text(-0.0));
    let (least, most) = (f64::NEG_INFINITY, f64::INFINITY);
    let range = |min, min_open, max, max_open| {
        let range = FieldTest::Number(NumberRange { min, min_open, max, max_open });
        Predicate::field(name, range)
    };
    let or_text = |range: Predicate, texts: &[f64]| {
        let texts = texts.iter().map(|text| schema::float_text(*text)).collect();
        Predicate::or([range, Predicate::field(name, FieldTest::In(texts))])
    };
    let test = match operator {
        Operator::Eq => range(number, false, number, false),
        Operator::Gt => or_text(range(number, true, most, false), &[most, f64::NAN]),
        Operator::GtEq => or_text(range(number, false, most, false), &[most, f64::NAN]),
        Operator::Lt => or_text(range(least, false, number, true), &[least]),
        Operator::LtEq => or_text(range(least, false, number, false), &[least]),
        _ => return None,
    };
    let negative_zero = negative_zero.map(|text| Predicate::field(name, FieldTest::exact(&text)));
    Some(match (negative_zero, operator) {
        (Some(zero), Operator::Eq | Operator::GtEq) => Predicate::and([test, Predicate::not(zero)]),
        (Some(zero), Operator::Lt) => Predicate::or([test, zero]),
        _ => test,
    })
}

/// `LIKE 'text'`, `'text%'` and `'%text%'`.
fn like_pattern(like: &Like, schema: &Schema) -> Option<Predicate> {
    if like.negated || like.case_insensitive || like.escape_char.is_some() {
        return None;
    }
    let (Expr::Column(column), Expr::Literal(value, _)) = (&*like.expr, &*like.pattern) else {
        return None;
    };
    let is_text = is_text(column.name(), schema);
    let pattern = value.try_as_str()??;
    let (starts, rest) = match pattern.strip_prefix('%') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let (ends, text) = match rest.strip_suffix('%') {
        Some(text) => (true, text),
        None => (false, rest),
    };
    // Anything else in the pattern needs the general matcher.
    if !is_text || text.is_empty() || text.contains(['%', '_', '\\']) {
        return None;
    }
    let test = match (starts, ends) {
        (false, false) => FieldTest::exact(text),
        (false, true) => FieldTest::ExactPrefix(text.to_owned()),
        (true, true) => FieldTest::Substring(text.to_owned()),
        (true, false) => return None,
    };
    Some(Predicate::field(column.name(), test))
}
