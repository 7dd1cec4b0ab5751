//! Fields of a record as one text.

use lodge_record::overflow::push_json_string;

use super::Record;
use crate::logsql::FieldPattern;

fn each(fields: &[FieldPattern], record: Record<'_>, mut each: impl FnMut(&str, &str)) {
    record.each(|name, value| {
        if fields.is_empty() || fields.iter().any(|pattern| pattern.matches(name)) {
            each(name, value);
        }
    });
}

/// The fields that are not empty as a JSON object of strings.
pub(super) fn json(fields: &[FieldPattern], record: Record<'_>) -> String {
    let mut out = String::from("{");
    each(fields, record, |name, value| {
        if out.len() > 1 {
            out.push(',');
        }
        push_json_string(&mut out, name);
        out.push(':');
        push_json_string(&mut out, value);
    });
    out.push('}');
    out
}

/// The fields that are not empty as `name=value`, values in quotes where they have to be.
pub(super) fn logfmt(fields: &[FieldPattern], record: Record<'_>) -> String {
    let mut out = String::new();
    each(fields, record, |name, value| {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(name);
        out.push('=');
        let is_plain = !value.contains(|c: char| c.is_control() || matches!(c, ' ' | '"' | '='));
        match is_plain {
            true => out.push_str(value),
            false => push_json_string(&mut out, value),
        }
    });
    out
}
