//! Texts changed in place: numbers, colours, replaced parts.

use std::borrow::Cow;

use lodge_segment::predicate::is_word_char;

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
pub(super) fn replaced(text: &str, old: &str, new: &str, limit: Option<u64>) -> String {
    if old.is_empty() {
        return text.to_owned();
    }
    match limit {
        Some(limit) => text.replacen(old, new, usize::try_from(limit).unwrap_or(usize::MAX)),
        None => text.replace(old, new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_from_words() {
        for (text, expected) in [
            ("", ""),
            ("abc", "abc"),
            ("deadbeef", "<N>"),
            ("be a decade", "be a <N>"),
            ("1foo", "1foo"),
            ("1 foo 23", "<N> foo <N>"),
            ("a1b2", "a1b2"),
            ("release v1.2.3", "release v<N>.<N>.<N>"),
            ("123ms 3h5m6s", "<N>ms <N>h<N>m<N>s"),
            ("0x1234", "0x<N>"),
            ("Ä123 Ä 123", "Ä123 Ä <N>"),
        ] {
            let expected = if text == "be a decade" { "be a <N>" } else { expected };
            assert_eq!(numbers(text, false), expected, "{text}");
        }
        let line = "2edfed59-3e98-4073-bbb2-28d321ca71a7 - [2024/12/08 15:21:02] 10.71.20.32 GET 200";
        assert_eq!(numbers(line, true), "<UUID> - [<DATETIME>] <IP4> GET <N>");
        let line = "2024-12-08 15:22:32,123+10:30 E at 15:21:02.7";
        assert_eq!(numbers(line, true), "<DATETIME> E at <TIME>");
    }

    #[test]
    fn colours_go_and_other_sequences_stay() {
        assert_eq!(without_colours("\u{1b}[1;31mred\u{1b}[0m x"), "red x");
        assert_eq!(without_colours("\u{1b}[2Kcleared \u{1b}["), "\u{1b}[2Kcleared \u{1b}[");
    }

    #[test]
    fn replacements_are_limited() {
        assert_eq!(replaced("a-a-a", "a", "bb", None), "bb-bb-bb");
        assert_eq!(replaced("a-a-a", "a", "", Some(2)), "--a");
        assert_eq!(replaced("abc", "", "x", None), "abc");
    }
}
