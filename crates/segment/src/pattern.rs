//! The pattern of a text: what stays when its variables are left out.
//!
//! A token is a maximal run of ASCII letters and digits. A token with a digit is a variable; all other
//! bytes belong to the pattern. So `GET /user/42 took 17ms` is `GET /user/<_> took <_>`.
//!
//! A text that a segment stores as a template has that template as its pattern, in which tokens of
//! letters that differ between its rows, and whole UUIDs, are variables too.

/// What stands for a variable.
pub const VARIABLE: &str = "<_>";

/// Appends the pattern of `text` to `out`.
pub fn push(text: &str, out: &mut String) {
    let bytes = text.as_bytes();
    // Where the part begins that is not written yet.
    let mut from = 0;
    let mut at = 0;
    while let Some(first) = bytes.get(at) {
        if !first.is_ascii_alphanumeric() {
            at += 1;
            continue;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let length = rest.iter().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let token = rest.get(..length).unwrap_or_default();
        if token.iter().any(u8::is_ascii_digit) {
            // The token is ASCII, so both of its ends are character borders.
            out.push_str(text.get(from..at).unwrap_or_default());
            out.push_str(VARIABLE);
            from = at + length;
        }
        at += length;
    }
    out.push_str(text.get(from..).unwrap_or_default());
}

/// The pattern of `text`.
pub fn of(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push(text, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_with_a_digit_are_variables() {
        for (text, pattern) in [
            ("", ""),
            ("no variable at all", "no variable at all"),
            ("GET /user/42 took 17ms", "GET /user/<_> took <_>"),
            ("10.0.0.1:8080", "<_>.<_>.<_>.<_>:<_>"),
            ("a1b2", "<_>"),
            ("é1é", "é<_>é"),
            ("x_1-y", "x_<_>-y"),
            ("id=4f2a ok", "id=<_> ok"),
        ] {
            assert_eq!(of(text), pattern);
        }
    }

    proptest! {
        #[test]
        fn a_pattern_has_no_digit_and_is_its_own_pattern(text in ".*") {
            let pattern = of(&text);
            prop_assert!(!pattern.bytes().any(|byte| byte.is_ascii_digit()));
            prop_assert_eq!(of(&pattern), pattern);
        }
    }
}
