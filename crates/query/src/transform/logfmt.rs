//! logfmt: `name=value other="quoted value" flag`.

use super::extract::unquoted;

/// Calls `each(name, value)` for every pair; a word without `=` is a name without a value. What
/// follows directly on a closing quote is not read.
pub(super) fn each(text: &str, mut each: impl FnMut(&str, &str)) {
    let mut add = |name: &str, value: &str| {
        if !name.is_empty() {
            each(name, value);
        }
    };
    let mut rest = text;
    loop {
        let Some(end) = rest.find(['=', ' ', '\n']) else { return add(rest, "") };
        let (name, behind) = rest.split_at(end);
        let is_pair = behind.starts_with('=');
        let behind = behind.get(1..).unwrap_or_default();
        if !is_pair {
            add(name, "");
            rest = behind;
            continue;
        }
        if let Some((value, length)) = unquoted(behind) {
            add(name, &value);
            match behind.get(length..).and_then(|rest| rest.strip_prefix([' ', '\n'])) {
                Some(next) => rest = next,
                None => return,
            }
            continue;
        }
        let Some((value, next)) = behind.split_once([' ', '\n']) else { return add(name, behind) };
        add(name, value);
        rest = next;
    }
}
