//! Words out of texts, and texts put apart.

use std::collections::HashSet;

use lodge_segment::predicate::is_word_char;

use super::text::Text;

/// The words of a text as a JSON array.
pub(super) fn words(text: &str, is_unique: bool) -> Text {
    let mut seen = HashSet::new();
    let all = text.split(|c: char| !is_word_char(c)).filter(|word| !word.is_empty());
    array(all.filter(|word| !is_unique || seen.insert(*word)))
}

/// The parts of a text between separators as a JSON array; without a separator each character.
pub(super) fn split(text: &str, separator: &str) -> Text {
    if text.is_empty() {
        return array(std::iter::empty());
    }
    if separator.is_empty() {
        let mut next = text.char_indices().map(|(at, c)| text.get(at..at + c.len_utf8()));
        return array(std::iter::from_fn(|| next.next().flatten()));
    }
    array(text.split(separator))
}

fn array<'t>(items: impl Iterator<Item = &'t str>) -> Text {
    let mut out = Text::default();
    out.push('[');
    for (at, item) in items.enumerate() {
        if out.is_too_long() {
            break;
        }
        if at > 0 {
            out.push(',');
        }
        out.push_quoted(item);
    }
    out.push(']');
    out
}
