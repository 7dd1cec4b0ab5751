//! Texts changed in place: numbers, colours, replaced parts.

use std::borrow::Cow;

use lodge_segment::predicate::is_word_char;

use super::text::Text;

const NUMBER: &str = "<N>";

/// `text` with `<N>` for its decimal and hexadecimal numbers, and, if `prettify`, with names for the
/// well-known forms of several of them.
pub(super) fn numbers(text: &str, prettify: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before: Option<char> = None;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let run = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let begins = before.is_none_or(|c| !is_word_char(c) || "TXxvshm".contains(c));
        if run == 0 || !begins {
            out.push(first);
            before = Some(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        }
        let (digits, after) = rest.split_at(run);
        let ends = after.chars().next().is_none_or(|c| !is_word_char(c) || "TZsmhμun".contains(c));
        out.push_str(if ends && is_number(digits) { NUMBER } else { digits });
        before = digits.chars().next_back();
        rest = after;
    }
    if prettify { prettified(&out) } else { out }
}

/// Words such as `be` and `decade` are no numbers though they are hex digits: those with letters
/// count from four digits on, in pairs.
fn is_number(digits: &str) -> bool {
    let is_decimal = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal || (digits.len() >= 4 && digits.len().is_multiple_of(2))
}

fn prettified(text: &str) -> String {
    let fraction = |rest: &str| {
        let has = rest.starts_with(".<N>") || rest.starts_with(",<N>");
        if has { ".<N>".len() } else { 0 }
    };
    let zone = |rest: &str| {
        let has_offset = rest.starts_with("-<N>:<N>") || rest.starts_with("+<N>:<N>");
        match rest.starts_with('Z') {
            true => 1,
            false if has_offset => "+<N>:<N>".len(),
            false => 0,
        }
    };
    let nothing = |_: &str| 0;
    let text = named(text, "<N>-<N>-<N>-<N>-<N>", "<UUID>", nothing);
    let text = named(&text, "<N>.<N>.<N>.<N>", "<IP4>", nothing);
    let text = named(&text, "<N>:<N>:<N>", "<TIME>", fraction);
    let text = named(&text, "<N>-<N>-<N>", "<DATE>", nothing);
    let text = named(&text, "<N>/<N>/<N>", "<DATE>", nothing);
    let text = named(&text, "<DATE>T<TIME>", "<DATETIME>", zone);
    named(&text, "<DATE> <TIME>", "<DATETIME>", zone)
}

/// `text` with `name` for every `form`, and for so many bytes behind it as `more` says.
fn named(text: &str, form: &str, name: &str, more: impl Fn(&str) -> usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once(form) {
        out.push_str(head);
        out.push_str(name);
        rest = tail.get(more(tail)..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// `text` without the escape sequences that set colours: `ESC [ … m`.
pub(super) fn without_colours(text: &str) -> Cow<'_, str> {
    const BEGIN: &str = "\u{1b}[";
    if !text.contains(BEGIN) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once(BEGIN) {
        out.push_str(head);
        let end = tail.find(|c: char| !(c.is_ascii_digit() || c == ';'));
        match end.and_then(|end| tail.get(end..)?.strip_prefix('m')) {
            Some(after) => rest = after,
            None => {
                // Another sequence, which stays.
                out.push_str(BEGIN);
                rest = tail;
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// `text` with `new` for `old`, at most `limit` times.
pub(super) fn replaced(text: &str, old: &str, new: &str, limit: Option<u64>) -> Text {
    let mut left = limit.unwrap_or(u64::MAX);
    let mut out = Text::default();
    let mut rest = text;
    while left > 0
        && !old.is_empty()
        && !out.is_too_long()
        && let Some((before, behind)) = rest.split_once(old)
    {
        out.push_str(before);
        out.push_str(new);
        rest = behind;
        left -= 1;
    }
    out.push_str(rest);
    out
}
