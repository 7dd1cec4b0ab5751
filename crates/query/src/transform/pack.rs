//! Fields of a record as one text.

use super::Record;
use super::text::Text;
use crate::logsql::FieldPattern;

fn each(fields: &[FieldPattern], record: Record<'_>, mut each: impl FnMut(&str, &str)) {
    record.each(|name, value| {
        if fields.is_empty() || fields.iter().any(|pattern| pattern.matches(name)) {
            each(name, value);
        }
    });
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
