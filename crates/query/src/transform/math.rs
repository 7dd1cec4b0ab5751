//! Calculations: `math`.

use lodge_record::{schema, time};
use lodge_segment::predicate::{parse_ipv4, parse_number};

use super::Record;
use super::writes::Writes;
use crate::logsql::{Expression, MathFunction, Operator};

/// Whole numbers up to here are exact as numbers with a fraction.
const EXACT_MAX: f64 = schema::EXACT_INT_MAX as f64;

/// Writes the results; each sees those before it.
pub(super) fn results(results: &[(Expression, String)], record: Record<'_>, writes: &mut Writes) {
    for (expression, name) in results {
        let number = value(expression, record, writes);
        writes.set(name, &text(number));
    }
}

/// The text of a number, of what is none, too.
pub(super) fn text(number: f64) -> String {
    match number {
        number if number.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        // Minus zero is zero.
        number => schema::float_text(number + 0.0),
    }
}

fn value(expression: &Expression, record: Record<'_>, writes: &Writes) -> f64 {
    match expression {
        Expression::Field(name) => match writes.get(name) {
            Some(text) => number(text),
            None => number(&record.value(name)),
        },
        Expression::Number(number) => *number,
        Expression::Binary(operator, left, right) => {
            let left = value(left, record, writes);
            binary(*operator, left, || value(right, record, writes))
        }
        Expression::Call(function, arguments) => {
            call(*function, arguments.iter().map(|argument| value(argument, record, writes)))
        }
    }
}

/// The number that a value is: also a time as nanoseconds, and an address.
fn number(text: &str) -> f64 {
    let other = || match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => None,
    };
    let is_dated = text.as_bytes().get(4) == Some(&b'-');
    parse_number(text)
        .or_else(|| parse_ipv4(text).map(f64::from))
        .or_else(|| time::parse(text).filter(|_| is_dated).map(|time_ns| time_ns as f64))
        .or_else(other)
        .unwrap_or(f64::NAN)
}

fn binary(operator: Operator, left: f64, right: impl FnOnce() -> f64) -> f64 {
    match operator {
        Operator::Add => left + right(),
        Operator::Subtract => left - right(),
        Operator::Multiply => left * right(),
        Operator::Divide => left / right(),
        Operator::Remainder => left % right(),
        Operator::Power => left.powf(right()),
        Operator::And => bits(left, right(), |a, b| a & b),
        Operator::Or => bits(left, right(), |a, b| a | b),
        Operator::Xor => bits(left, right(), |a, b| a ^ b),
        Operator::Default if left.is_nan() => right(),
        Operator::Default => left,
    }
}

/// Bits of whole numbers; of others there are none.
fn bits(left: f64, right: f64, combine: impl FnOnce(u64, u64) -> u64) -> f64 {
    let whole = |number: f64| (0.0..=EXACT_MAX).contains(&number).then_some(number as u64);
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => combine(left, right) as f64,
        _ => f64::NAN,
    }
}

fn call(function: MathFunction, mut arguments: impl Iterator<Item = f64>) -> f64 {
    match function {
        // What is no number is not among those that are compared.
        MathFunction::Max => arguments.fold(f64::NAN, f64::max),
        MathFunction::Min => arguments.fold(f64::NAN, f64::min),
        MathFunction::Now(now_ns) => now_ns,
        MathFunction::Rand => rand::random::<f64>(),
        MathFunction::Round => {
            let number = arguments.next().unwrap_or(f64::NAN);
            rounded(number, arguments.next().unwrap_or(1.0))
        }
        of_one => {
            let number = arguments.next().unwrap_or(f64::NAN);
            match of_one {
                MathFunction::Abs => number.abs(),
                MathFunction::Ceil => number.ceil(),
                MathFunction::Exp => number.exp(),
                MathFunction::Floor => number.floor(),
                MathFunction::Ln => number.ln(),
                _ => -number,
            }
        }
    }
}

/// The multiple of `nearest` that is nearest to `number`.
fn rounded(number: f64, nearest: f64) -> f64 {
    // One over a tenth is whole, a tenth is not: so 0.3 stays 0.3.
    let parts = (1.0 / nearest).round();
    if nearest.abs() < 1.0 && parts.is_finite() && (1.0 / nearest - parts).abs() < 1e-9 {
        return (number * parts).round() / parts;
    }
    (number / nearest).round() * nearest
}
