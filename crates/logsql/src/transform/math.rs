//! Calculations: `round(a / b, 0.1) as ratio`.
//!
//! Operators bind as in most languages: `^` before `*`, `/` and `%`, these before `+` and `-`, then
//! `&`, `xor`, `or` and at last `default`; equals from left to right, `^` from right to left.

use lodge_segment::predicate::{parse_ipv4, parse_number};

use super::super::cursor::{Cursor, shorten};
use super::super::names::name;
use crate::error::SyntaxError;

/// Most results of one pipe.
const RESULTS_MAX: usize = 100;
/// Most operators of one pipe: a calculation is walked through by recursion.
const OPERATORS_MAX: usize = 1_000;

/// A calculation.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// The number that a field's value is.
    Field(String),
    /// A number.
    Number(f64),
    /// One operator over two.
    Binary(Operator, Box<Expression>, Box<Expression>),
    /// A function's result.
    Call(MathFunction, Vec<Expression>),
}

/// An operator of a calculation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
    /// `^`
    Power,
    /// `&`, of whole numbers.
    And,
    /// `or`, of whole numbers.
    Or,
    /// `xor`, of whole numbers.
    Xor,
    /// The second where the first is no number.
    Default,
}

/// A function of a calculation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MathFunction {
    /// Without its sign.
    Abs,
    /// The least whole number that is not less.
    Ceil,
    /// *e* to the power.
    Exp,
    /// The greatest whole number that is not greater.
    Floor,
    /// The natural logarithm.
    Ln,
    /// The greatest.
    Max,
    /// The least.
    Min,
    /// The moment of the query, nanoseconds.
    Now(f64),
    /// A random number from 0, below 1.
    Rand,
    /// The nearest whole number, or multiple of the second argument.
    Round,
    /// The other sign.
    Negate,
}

impl Expression {
    /// Calls `each` for every field in it.
    pub fn each_field(&self, each: &mut impl FnMut(&str)) {
        match self {
            Self::Field(name) => each(name),
            Self::Number(_) => {}
            Self::Binary(_, left, right) => {
                left.each_field(each);
                right.each_field(each);
            }
            Self::Call(_, arguments) => arguments.iter().for_each(|a| a.each_field(each)),
        }
    }
}

/// `a + b as c, round(c) d`.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Vec<(Expression, String)>, SyntaxError> {
    let mut results = Vec::new();
    let mut left = OPERATORS_MAX;
    loop {
        cursor.skip_space();
        let start = cursor.at();
        let expression = binary(cursor, 0, &mut left)?;
        let text = cursor.since(start).trim().to_owned();
        cursor.skip_space();
        let is_named =
            cursor.eat_keyword("as") || !matches!(cursor.peek(), None | Some('|' | ',' | ')'));
        let result = if is_named { name(cursor)? } else { text };
        if results.len() == RESULTS_MAX {
            return Err(cursor.error(format!("`| math` gives more than {RESULTS_MAX} results")));
        }
        results.push((expression, result));
        cursor.skip_space();
        if !cursor.eat(",") {
            return Ok(results);
        }
    }
}

/// How tight an operator binds, from 1, and whether equals go from right to left.
fn strength(operator: Operator) -> (u8, bool) {
    match operator {
        Operator::Default => (1, false),
        Operator::Or => (2, false),
        Operator::Xor => (3, false),
        Operator::And => (4, false),
        Operator::Add | Operator::Subtract => (5, false),
        Operator::Multiply | Operator::Divide | Operator::Remainder => (6, false),
        Operator::Power => (7, true),
    }
}

fn operator(cursor: &mut Cursor<'_>) -> Option<Operator> {
    const SIGNS: [(&str, Operator); 7] = [
        ("+", Operator::Add),
        ("-", Operator::Subtract),
        ("*", Operator::Multiply),
        ("/", Operator::Divide),
        ("%", Operator::Remainder),
        ("^", Operator::Power),
        ("&", Operator::And),
    ];
    const WORDS: [(&str, Operator); 3] =
        [("or", Operator::Or), ("xor", Operator::Xor), ("default", Operator::Default)];
    cursor.skip_space();
    if let Some((_, found)) = SIGNS.into_iter().find(|(sign, _)| cursor.eat(sign)) {
        return Some(found);
    }
    WORDS.into_iter().find(|(word, _)| cursor.eat_keyword(word)).map(|(_, found)| found)
}

/// What is left and right of operators that bind at least as tight as `least`.
fn binary(
    cursor: &mut Cursor<'_>,
    least: u8,
    operators_left: &mut usize,
) -> Result<Expression, SyntaxError> {
    let mut left = cursor.nested(|cursor| operand(cursor, operators_left))?;
    loop {
        let start = cursor.at();
        let Some(operator) = operator(cursor) else { return Ok(left) };
        let (strength, from_right) = strength(operator);
        if strength < least {
            cursor.go_to(start);
            return Ok(left);
        }
        *operators_left = operators_left.checked_sub(1).ok_or_else(|| {
            cursor.error_at(start, format!("`| math` has more than {OPERATORS_MAX} operators"))
        })?;
        let next = if from_right { strength } else { strength + 1 };
        let right = cursor.nested(|cursor| binary(cursor, next, operators_left))?;
        left = Expression::Binary(operator, Box::new(left), Box::new(right));
    }
}

fn operand(cursor: &mut Cursor<'_>, operators_left: &mut usize) -> Result<Expression, SyntaxError> {
    cursor.skip_space();
    if cursor.eat("(") {
        let inner = cursor.nested(|cursor| binary(cursor, 0, operators_left))?;
        cursor.expect(")", "the calculation in parentheses")?;
        return Ok(inner);
    }
    if cursor.eat("-") {
        // `-a^2` is -(a^2).
        let power = strength(Operator::Power).0;
        let inner = cursor.nested(|cursor| binary(cursor, power, operators_left))?;
        return Ok(match inner {
            Expression::Number(number) => Expression::Number(-number),
            inner => Expression::Call(MathFunction::Negate, vec![inner]),
        });
    }
    cursor.eat("+");
    cursor.skip_space();
    if cursor.rest().starts_with(['"', '\'', '`']) {
        let text = cursor.expect_word("a value")?.text;
        return Ok(match constant(&text) {
            Some(number) => Expression::Number(number),
            None => Expression::Field(text),
        });
    }
    let start = cursor.at();
    let text = token(cursor);
    if text.is_empty() {
        let found = cursor.describe();
        return Err(cursor.error(format!("expected a number, a field's name or `(`, not {found}")));
    }
    let after_name = cursor.at();
    cursor.skip_space();
    if cursor.rest().starts_with('(')
        && let Some(function) = function(cursor, text)
    {
        return arguments(cursor, function, (text, start), operators_left);
    }
    cursor.go_to(after_name);
    if text.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return match constant(text) {
            Some(number) => Ok(Expression::Number(number)),
            None => Err(cursor.error_at(
                start,
                format!(
                    "`{}` is not a number; put a field's name in quotes, a time or an address too",
                    shorten(text)
                ),
            )),
        };
    }
    Ok(match text.to_ascii_lowercase().as_str() {
        "nan" => Expression::Number(f64::NAN),
        "inf" => Expression::Number(f64::INFINITY),
        _ => Expression::Field(text.to_owned()),
    })
}

/// A number, a field's bare name or that of a function. Signs end it, so that `a-b` is a difference.
fn token<'t>(cursor: &mut Cursor<'t>) -> &'t str {
    let rest = cursor.rest();
    let is_number = rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let mut length = 0;
    for (at, c) in rest.char_indices() {
        let is_exponents_sign = is_number
            && matches!(c, '+' | '-')
            && rest.get(..at).is_some_and(|head| {
                let mantissa = head.trim_end_matches(['e', 'E']);
                head.len() == mantissa.len() + 1
                    && mantissa.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'_'))
            });
        if !(c.is_alphanumeric() || matches!(c, '_' | '.' | '@' | 'µ') || is_exponents_sign) {
            break;
        }
        length = at + c.len_utf8();
    }
    cursor.advance(length);
    rest.get(..length).unwrap_or_default()
}

fn constant(text: &str) -> Option<f64> {
    let hex = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let number = hex.map(|number| number as f64).or_else(|| parse_number(text));
    number
        .or_else(|| parse_ipv4(text).map(f64::from))
        .or_else(|| lodge_record::time::parse(text).map(|time_ns| time_ns as f64))
}

fn function(cursor: &Cursor<'_>, text: &str) -> Option<MathFunction> {
    Some(match text.to_ascii_lowercase().as_str() {
        "abs" => MathFunction::Abs,
        "ceil" => MathFunction::Ceil,
        "exp" => MathFunction::Exp,
        "floor" => MathFunction::Floor,
        "ln" => MathFunction::Ln,
        "max" => MathFunction::Max,
        "min" => MathFunction::Min,
        "now" => MathFunction::Now(cursor.now_ns as f64),
        "rand" => MathFunction::Rand,
        "round" => MathFunction::Round,
        _ => return None,
    })
}

fn arguments(
    cursor: &mut Cursor<'_>,
    function: MathFunction,
    (text, start): (&str, usize),
    operators_left: &mut usize,
) -> Result<Expression, SyntaxError> {
    cursor.advance(1);
    let mut arguments = Vec::new();
    loop {
        cursor.skip_space();
        if cursor.eat(")") {
            break;
        }
        arguments.push(cursor.nested(|cursor| binary(cursor, 0, operators_left))?);
        cursor.skip_space();
        if !cursor.eat(",") && !cursor.rest().starts_with(')') {
            let found = cursor.describe();
            return Err(cursor.error(format!("expected `,` or `)` in {text}(…), not {found}")));
        }
    }
    let (least, most) = match function {
        MathFunction::Now(_) | MathFunction::Rand => (0, 0),
        MathFunction::Max | MathFunction::Min => (1, usize::MAX),
        MathFunction::Round => (1, 2),
        _ => (1, 1),
    };
    if arguments.len() < least || arguments.len() > most {
        let takes = match (least, most) {
            (0, _) => "no arguments".to_owned(),
            (1, 1) => "1 argument".to_owned(),
            (1, 2) => "1 or 2 arguments".to_owned(),
            _ => "at least 1 argument".to_owned(),
        };
        let problem = format!("{text}(…) takes {takes}, not {}", arguments.len());
        return Err(cursor.error_at(start, problem));
    }
    Ok(Expression::Call(function, arguments))
}
