//! Fields out of texts: JSON, syslog, words, arrays.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use lodge_record::overflow::push_json_string;
use lodge_segment::predicate::is_word_char;
use serde_json::value::RawValue;

/// Objects in objects beyond this stay text: each level is read once more for those above it.
const DEPTH_MAX: usize = 32;
/// Items that an array is taken for; what comes after them is not seen.
const ITEMS_MAX: usize = 1_000_000;

type Object<'t> = BTreeMap<String, &'t RawValue>;

/// Calls `each(name, value)` for the fields of the JSON object `text`: objects in it give `outer.inner`,
/// arrays stay text, nulls give the empty value. Nothing if it is no such object.
pub(super) fn json(text: &str, each: &mut dyn FnMut(&str, &str)) {
    let text = text.trim_start();
    if text.starts_with('{') {
        object(text, "", DEPTH_MAX, each);
    }
}

/// Tells whether `text` is an object.
fn object(text: &str, prefix: &str, depth: usize, each: &mut dyn FnMut(&str, &str)) -> bool {
    let Ok(fields) = serde_json::from_str::<Object<'_>>(text) else { return false };
    for (name, value) in fields {
        let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        let raw = value.get();
        match raw.bytes().next() {
            Some(b'{') if depth > 0 && object(raw, &name, depth - 1, each) => {}
            _ => each(&name, &plain(raw)),
        }
    }
    true
}

/// The text form of a JSON value.
fn plain(raw: &str) -> String {
    match raw.bytes().next() {
        Some(b'"') => serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned()),
        Some(b'n') => String::new(),
        _ => raw.to_owned(),
    }
}

/// The items of a JSON array as text; none if it is no array.
pub(super) fn items(text: &str) -> Vec<String> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Vec::new();
    }
    let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
    items.into_iter().take(ITEMS_MAX).map(|item| plain(item.get())).collect()
}

/// The words of a text as a JSON array.
pub(super) fn words(text: &str, is_unique: bool) -> String {
    let mut seen = BTreeSet::new();
    let mut out = String::from("[");
    let all = text.split(|c: char| !is_word_char(c)).filter(|word| !word.is_empty());
    for word in all.filter(|word| !is_unique || seen.insert(*word)) {
        if out.len() > 1 {
            out.push(',');
        }
        push_json_string(&mut out, word);
    }
    out.push(']');
    out
}

/// Calls `each(name, value)` for the parts of a syslog message of RFC 5424 or RFC 3164. `offset_ns`:
/// what its local times are ahead of UTC; `now_ns`: the moment that a time without a year is near to.
pub(super) fn syslog(
    text: &str,
    offset_ns: i64,
    now_ns: i64,
    mut each: impl FnMut(&str, &str),
) {
    super::syslog::each(text, offset_ns, now_ns, &mut each);
}
