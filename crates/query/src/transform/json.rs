//! JSON in a value: the fields of an object, the items of an array.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{QueryError, QueryErrorKind};

/// Objects in objects beyond this stay text: each level is read once more for those above it.
const DEPTH_MAX: usize = 32;
/// Most items of an array that become records of their own.
const ITEMS_MAX: usize = 1_000_000;

/// Calls `each(name, value)` for the fields of the JSON object `text`: objects in it give
/// `outer.inner`, arrays stay text, nulls give the empty value. Nothing if it is no such object.
pub(super) fn object(text: &str, each: &mut dyn FnMut(&str, &str)) {
    let text = text.trim_ascii();
    // What is no object as a whole gives none of its fields.
    if text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        fields(text, &mut String::new(), DEPTH_MAX, each);
    }
}

/// The fields of the valid object `text`, their names after `prefix`.
fn fields(text: &str, prefix: &mut String, depth: usize, each: &mut dyn FnMut(&str, &str)) {
    let walk = Fields(|name: &str, raw: &str| {
        let before = prefix.len();
        if before > 0 {
            prefix.push('.');
        }
        prefix.push_str(name);
        match raw.bytes().next() {
            Some(b'{') if depth > 0 => fields(raw, prefix, depth - 1, each),
            _ => each(prefix, &plain(raw)),
        }
        prefix.truncate(before);
    });
    // The text is valid: it was read before.
    let _ = serde_json::Deserializer::from_str(text).deserialize_map(walk);
}

struct Fields<F>(F);

impl<'de, F: FnMut(&str, &str)> Visitor<'de> for Fields<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            (self.0)(&name, value.get());
        }
        Ok(())
    }
}

/// The text form of a JSON value.
fn plain(raw: &str) -> Cow<'_, str> {
    match raw.bytes().next() {
        Some(b'"') => match raw.get(1..raw.len() - 1) {
            Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
            // What is no text in Unicode, such as half of a pair, stays as it is written.
            _ => serde_json::from_str(raw).map_or(Cow::Borrowed(raw), Cow::Owned),
        },
        Some(b'n') => Cow::Borrowed(""),
        _ => Cow::Borrowed(raw),
    }
}

/// The items of a JSON array as text; none if it is no array.
pub(super) fn items(text: &str) -> Result<Vec<String>, QueryError> {
    let mut items = Vec::new();
    let mut count = 0;
    each_item(text, |item| {
        count += 1;
        if count <= ITEMS_MAX {
            items.push(item.into_owned());
        }
    });
    if count > ITEMS_MAX {
        return Err(QueryError::new(
            QueryErrorKind::BudgetMemory,
            format!(
                "an array of {count} items would become so many records, the most is {ITEMS_MAX}; \
                 filter such records out before `| unroll`"
            ),
        ));
    }
    Ok(items)
}

/// How many items a JSON array has; none if it is no array.
pub(super) fn item_count(text: &str) -> usize {
    let mut count = 0;
    each_item(text, |_| count += 1);
    count
}

/// Calls `each` for the items of a JSON array as text. Nothing if it is no array.
pub(super) fn each_item(text: &str, each: impl FnMut(Cow<'_, str>)) {
    let text = text.trim_ascii();
    if text.starts_with('[') && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        let _ = serde_json::Deserializer::from_str(text).deserialize_seq(Items(each));
    }
}

struct Items<F>(F);

impl<'de, F: FnMut(Cow<'_, str>)> Visitor<'de> for Items<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<&'de RawValue>()? {
            (self.0)(plain(item.get()));
        }
        Ok(())
    }
}
