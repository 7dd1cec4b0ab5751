//! Lists of field names in pipes: `a, "b c", prefix*`, with or without parentheses.

use super::cursor::Cursor;
use super::pipe::FieldPattern;
use crate::error::SyntaxError;

/// One field's name.
pub(super) fn name(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    Ok(cursor.expect_word("a field's name")?.text)
}

/// One field's name or a prefix with a star.
pub(super) fn pattern(cursor: &mut Cursor<'_>) -> Result<FieldPattern, SyntaxError> {
    cursor.skip_space();
    if cursor.eat("*") {
        return Ok(FieldPattern::Prefix(String::new()));
    }
    let name = name(cursor)?;
    Ok(if cursor.eat("*") { FieldPattern::Prefix(name) } else { FieldPattern::Name(name) })
}

/// A list without parentheses, at least one item.
pub(super) fn list<T>(
    cursor: &mut Cursor<'_>,
    mut item: impl FnMut(&mut Cursor<'_>) -> Result<T, SyntaxError>,
) -> Result<Vec<T>, SyntaxError> {
    let mut items = Vec::new();
    loop {
        cursor.skip_space();
        items.push(item(cursor)?);
        cursor.skip_space();
        if !cursor.eat(",") {
            return Ok(items);
        }
    }
}

/// A list in parentheses, perhaps empty.
pub(super) fn parenthesised<T>(
    cursor: &mut Cursor<'_>,
    after: &str,
    mut item: impl FnMut(&mut Cursor<'_>) -> Result<T, SyntaxError>,
) -> Result<Vec<T>, SyntaxError> {
    cursor.expect("(", after)?;
    let mut items = Vec::new();
    loop {
        cursor.skip_space();
        if cursor.eat(")") {
            return Ok(items);
        }
        items.push(item(cursor)?);
        cursor.skip_space();
        if !cursor.eat(",") && !cursor.rest().starts_with(')') {
            let found = cursor.describe();
            return Err(cursor.error(format!("expected `,` or `)` in the list, not {found}")));
        }
    }
}

/// `by (a, b)`; `by` may be left out before a parenthesis. At least one item.
pub(super) fn by_list<T>(
    cursor: &mut Cursor<'_>,
    pipe: &str,
    item: impl FnMut(&mut Cursor<'_>) -> Result<T, SyntaxError>,
) -> Result<Vec<T>, SyntaxError> {
    cursor.skip_space();
    cursor.eat_keyword("by");
    cursor.skip_space();
    let start = cursor.at();
    let items = parenthesised(cursor, &format!("`{pipe} by`"), item)?;
    if items.is_empty() {
        return Err(cursor.error_at(start, format!("`{pipe} by (…)` needs at least one field")));
    }
    Ok(items)
}

/// `by (a, b)` or, without parentheses, `by a, b`; `by` may be left out. At least one name.
pub(super) fn by_names(cursor: &mut Cursor<'_>, pipe: &str) -> Result<Vec<String>, SyntaxError> {
    cursor.skip_space();
    let start = cursor.at();
    cursor.eat_keyword("by");
    cursor.skip_space();
    if cursor.rest().starts_with('(') {
        cursor.go_to(start);
        return by_list(cursor, pipe, name);
    }
    list(cursor, name)
}
