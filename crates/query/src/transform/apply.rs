//! What each pipe makes of one record.

use std::collections::BTreeMap;

use lodge_record::stream::StreamLabels;
use lodge_record::{field, stream, time};
use regex::{Captures, Regex};

use super::text::Text;
use super::writes::Writes;
use super::{Record, collapse, extract, format, json, logfmt, math, pack, syslog, unpack};
use crate::logsql::{FieldPattern, Transform};

pub(super) fn apply(work: &Transform, record: Record<'_>, writes: &mut Writes) {
    match work {
        Transform::Coalesce { fields, default, to } => {
            writes.set(to, first_value(fields, record).as_deref().unwrap_or(default));
        }
        Transform::CollapseNums { field, prettify } => {
            writes.set(field, &collapse::numbers(&record.value(field), *prettify));
        }
        Transform::Decolorize { field } => {
            writes.set(field, &collapse::without_colours(&record.value(field)));
        }
        Transform::Extract { from, pattern } => {
            extract::by_texts(pattern, &record.value(from), writes);
        }
        Transform::ExtractRegexp { from, pattern } => {
            extract::by_groups(&pattern.0, &record.value(from), writes);
        }
        Transform::Format { template, to } => {
            writes.set_text(to, &format::rendered(template, |name| record.value(name)));
        }
        Transform::Hash { from, to } => {
            let hash = xxhash_rust::xxh3::xxh3_64(record.value(from).as_bytes());
            writes.set(to, &hash.to_string());
        }
        Transform::JsonArrayConcat { delimiter, from, to } => {
            writes.set_text(to, &concatenated(&record.value(from), delimiter));
        }
        Transform::JsonArrayLen { from, to } => {
            writes.set(to, &json::item_count(&record.value(from)).to_string());
        }
        Transform::Len { from, to } => writes.set(to, &record.value(from).len().to_string()),
        Transform::Math(results) => math::results(results, record, writes),
        Transform::Move { pairs, is_copy } => moved(pairs, *is_copy, record, writes),
        Transform::PackJson { fields, to } => writes.set_text(to, &pack::json(fields, record)),
        Transform::PackLogfmt { fields, to } => writes.set_text(to, &pack::logfmt(fields, record)),
        Transform::Replace { old, new, field, limit } => {
            let text = record.value(field);
            writes.set_text(field, &collapse::replaced(&text, old, new, *limit));
        }
        Transform::ReplaceRegexp { old, new, field, limit } => {
            writes.set_text(field, &replaced(&record.value(field), &old.0, new, *limit));
        }
        Transform::SetStreamFields(fields) => set_stream(fields, record, writes),
        Transform::Split { separator, from, to } => {
            writes.set_text(to, &unpack::split(&record.value(from), separator));
        }
        Transform::TimeAdd { field, offset_ns } => {
            // What is no time stays what it is.
            let time_ns = time::parse(&record.value(field));
            if let Some(time_ns) = time_ns.and_then(|time_ns| time_ns.checked_add(*offset_ns)) {
                writes.set(field, &time::format(time_ns));
            }
        }
        Transform::UnpackJson(unpack) => {
            json::object(&record.value(&unpack.from), &mut |name, value| {
                writes.unpacked(unpack, name, value);
            });
            writes.complete(unpack);
        }
        Transform::UnpackLogfmt(unpack) => {
            logfmt::each(&record.value(&unpack.from), |name, value| {
                writes.unpacked(unpack, name, value);
            });
            writes.complete(unpack);
        }
        Transform::UnpackSyslog { unpack, offset_ns, now_ns } => {
            let text = record.value(&unpack.from);
            syslog::each(&text, *offset_ns, *now_ns, |name, value| {
                writes.unpacked(unpack, name, value);
            });
        }
        Transform::UnpackWords { from, to, is_unique } => {
            writes.set_text(to, &unpack::words(&record.value(from), *is_unique));
        }
        // These make more or fewer records, and are seen to there.
        Transform::DropEmptyFields | Transform::Sample(_) | Transform::Unroll(_) => {}
    }
}

/// The first value that is not empty.
fn first_value(fields: &[FieldPattern], record: Record<'_>) -> Option<String> {
    fields.iter().find_map(|pattern| match pattern {
        FieldPattern::Name(name) => {
            Some(record.value(name).into_owned()).filter(|value| !value.is_empty())
        }
        FieldPattern::Prefix(_) => {
            let mut found = None;
            record.each(|name, value| {
                if found.is_none() && pattern.matches(name) {
                    found = Some(value.to_owned());
                }
            });
            found
        }
    })
}

/// The items of a JSON array with `delimiter` between them.
fn concatenated(text: &str, delimiter: &str) -> Text {
    let mut out = Text::default();
    let mut is_first = true;
    json::each_item(text, |item| {
        if !is_first {
            out.push_str(delimiter);
        }
        out.push_str(&item);
        is_first = false;
    });
    out
}

/// Fields of one prefix under names with another one.
fn moved(
    pairs: &[(FieldPattern, FieldPattern)],
    is_copy: bool,
    record: Record<'_>,
    writes: &mut Writes,
) {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    record.each(|name, value| drop(fields.insert(name.to_owned(), value.to_owned())));
    let before: Vec<String> = fields.keys().cloned().collect();
    for (from, to) in pairs {
        let (old, new) = match (from, to) {
            (FieldPattern::Prefix(old), FieldPattern::Prefix(new)) => (old, new),
            (FieldPattern::Name(old), FieldPattern::Name(new)) => (old, new),
            _ => continue,
        };
        let found: Vec<(String, String)> = fields
            .iter()
            .filter(|(name, _)| from.matches(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !is_copy {
            found.iter().for_each(|(name, _)| drop(fields.remove(name)));
        }
        for (name, value) in found {
            let rest = name.strip_prefix(old.as_str()).unwrap_or_default();
            let moved = format!("{new}{rest}");
            // A field without a name is none.
            fields.insert(if moved.is_empty() { name } else { moved }, value);
        }
    }
    for name in before.iter().filter(|name| !fields.contains_key(*name)) {
        writes.set(name, "");
    }
    fields.iter().for_each(|(name, value)| writes.set(name, value));
}

/// Makes `_stream` of fields that are not empty.
fn set_stream(fields: &[FieldPattern], record: Record<'_>, writes: &mut Writes) {
    let mut labels = StreamLabels::new();
    for pattern in fields {
        match pattern {
            FieldPattern::Name(name) => {
                let value = record.value(name);
                if !value.is_empty() {
                    labels.set(name, &value);
                }
            }
            FieldPattern::Prefix(_) => record.each(|name, value| {
                if pattern.matches(name) && !lodge_record::schema::is_reserved(name) {
                    labels.set(name, value);
                }
            }),
        }
    }
    let canonical = labels.canonical();
    writes.set(field::STREAM, &canonical);
    writes.set(field::STREAM_ID, &stream::stream_id(&canonical));
}

/// `text` with `new` for what `old` finds, at most `limit` times.
fn replaced(text: &str, old: &Regex, new: &str, limit: Option<u64>) -> Text {
    let most = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut out = Text::default();
    let mut end = 0;
    for found in old.captures_iter(text).take(most) {
        let Some(whole) = found.get(0) else { continue };
        out.push_str(text.get(end..whole.start()).unwrap_or_default());
        expand(&mut out, new, &found);
        end = whole.end();
        if out.is_too_long() {
            return out;
        }
    }
    out.push_str(text.get(end..).unwrap_or_default());
    out
}

/// Appends `template` with the groups that `$1`, `$name` and `${name}` stand for; `$$` is a `$`.
fn expand(out: &mut Text, template: &str, found: &Captures<'_>) {
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('$') {
        out.push_str(before);
        if out.is_too_long() {
            return;
        }
        if let Some(after) = behind.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, after) = match behind.strip_prefix('{') {
            Some(inner) => match inner.split_once('}') {
                Some(split) => split,
                None => ("", behind),
            },
            None => {
                let is_in = |c: char| c.is_ascii_alphanumeric() || c == '_';
                behind.split_at(behind.find(|c| !is_in(c)).unwrap_or(behind.len()))
            }
        };
        if name.is_empty() {
            out.push('$');
            rest = behind;
            continue;
        }
        let group = match name.parse::<usize>() {
            Ok(number) => found.get(number),
            Err(_) => found.name(name),
        };
        out.push_str(group.map_or("", |group| group.as_str()));
        rest = after;
    }
    out.push_str(rest);
}
