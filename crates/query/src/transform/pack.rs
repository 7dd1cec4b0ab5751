//! Fields of a record as one text.

use super::Record;
use super::text::Text;
use crate::logsql::FieldPattern;

/// Calls `each` for the fields that are not empty: for all of them, or for those that are asked for, in
/// the order in which they are.
fn each(fields: &[FieldPattern], record: Record<'_>, mut each: impl FnMut(&str, &str)) {
    if fields.is_empty() {
        return record.each(each);
    }
    for (at, pattern) in fields.iter().enumerate() {
        let before = fields.get(..at).unwrap_or_default();
        let is_new = |name: &str| !before.iter().any(|pattern| pattern.matches(name));
        match pattern {
            FieldPattern::Name(name) => {
                let value = record.value(name);
                if !value.is_empty() && is_new(name) {
                    each(name, &value);
                }
            }
            FieldPattern::Prefix(_) => record.each(|name, value| {
                if pattern.matches(name) && is_new(name) {
                    each(name, value);
                }
            }),
        }
    }
}

/// The fields that are not empty as a JSON object of strings.
pub(super) fn json(fields: &[FieldPattern], record: Record<'_>) -> Text {
    let mut out = Text::default();
    let mut before = '{';
    each(fields, record, |name, value| {
        out.push(before);
        out.push_quoted(name);
        out.push(':');
        out.push_quoted(value);
        before = ',';
    });
    if out.is_empty() {
        out.push('{');
    }
    out.push('}');
    out
}

/// The fields that are not empty as `name=value`, values in quotes where they have to be.
pub(super) fn logfmt(fields: &[FieldPattern], record: Record<'_>) -> Text {
    let mut out = Text::default();
    each(fields, record, |name, value| {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(name);
        out.push('=');
        let is_plain = !value.contains(|c: char| c.is_control() || matches!(c, ' ' | '"' | '='));
        match is_plain {
            true => out.push_str(value),
            false => out.push_quoted(value),
        }
    });
    out
}
