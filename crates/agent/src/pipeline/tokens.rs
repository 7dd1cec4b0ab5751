//! Credentials in text: tokens that are known by their first characters, keys in PEM blocks,
//! passwords in addresses, and values that stand behind a word such as `password=`.
//!
//! A search for the words at which all of these begin comes first; what is more costly looks only
//! at texts that have one, behind it.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use regex::bytes::Regex;

/// Tokens that show what they are. Bytes, not characters: they are searched in damaged text too.
const PREFIXED: &str = r"(?x-u)
    eyJ[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*){2,4}             # JWT, JWE
    | (?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}                      # AWS
    | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_[A-Za-z0-9_]{20,}
    | glpat-[A-Za-z0-9_-]{20,}                                 # GitLab
    | xox[abeoprs]-[A-Za-z0-9-]{10,} | xapp-[A-Za-z0-9-]{10,}  # Slack
    | hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]{10,}
    | [rs]k_(?:live|test)_[A-Za-z0-9]{10,} | whsec_[A-Za-z0-9+/]{16,}=* # Stripe
    | AIza[A-Za-z0-9_-]{35} | ya29\.[A-Za-z0-9_-]{20,}         # Google
    | npm_[A-Za-z0-9]{36,} | pypi-[A-Za-z0-9_-]{50,}
    | SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}               # SendGrid
    | sk-(?:proj|ant|svcacct|admin)-[A-Za-z0-9_-]{20,}
    | hvs\.[A-Za-z0-9_-]{24,}                                  # Vault
    | dop_v1_[a-f0-9]{40,}
    | -----BEGIN[A-Z0-9\x20]{0,40}PRIVATE\x20KEY(?:\x20BLOCK)?-----
      (?s:.)*?(?:-----END[A-Z0-9\x20]{0,40}PRIVATE\x20KEY(?:\x20BLOCK)?-----|\z)
";
/// A word that says that a secret follows, and what stands between.
const KEYED: &str = r#"(?xi-u)
    (?P<word> passw(?:or)?d | passphrase | passcode | \bpwd
        | secret(?:[_.\x20-]?access)?(?:[_.\x20-]?key)?
        | (?:api|access|account|private|encryption|signing|auth)[_.\x20-]?key
        | (?:access|auth|refresh|session|id|api|security|csrf|xsrf|bearer)[_.-]?token
        | (?P<bare> \btoken | [_.-]token )
        | credential | authorization | x-amz-signature | x-amz-security-token )
    (?P<plural> s? ) (?P<quote> \\*["']? ) \]? [\x20\t]{0,8} (?P<sign> =>|:=|==?|:) [\x20\t]{0,8}
"#;
const BEARER: &str = r"(?i-u)\bbearer[\x20=:]{1,4}([A-Za-z0-9._~+/-]{8,}=*)";
const BASIC: &str = r"(?i-u)\bbasic\x20+([A-Za-z0-9+/]{6,}={0,2})";
const USERINFO: &str = r#"(?-u)://[^\s:/?\x23@"'<>]*:([^\s/"'<>]+)@"#;

/// What stands before the credential itself in an `Authorization` header.
const SCHEMES: [&[u8]; 7] =
    [b"bearer", b"basic", b"token", b"digest", b"negotiate", b"apikey", b"aws4-hmac-sha256"];
/// Values that are no secret.
const NO_SECRETS: [&[u8]; 9] =
    [b"", b"null", b"(null)", b"none", b"nil", b"true", b"false", b"undefined", b"-"];
/// Fewest bytes of a value behind the bare word `token`, which has other meanings.
const BARE_TOKEN_BYTES_MIN: usize = 6;
/// How far is looked behind a mark for the name of the next value.
const LOOK_AHEAD_BYTES: usize = 64;
/// Endings of fields' names that hold a secret, in lower case without `_`, `-` and blanks.
const NAMES: [&str; 22] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "secretkey",
    "secretaccesskey",
    "apikey",
    "accesskey",
    "accountkey",
    "privatekey",
    "encryptionkey",
    "signingkey",
    "authkey",
    "accesstoken",
    "authtoken",
    "refreshtoken",
    "sessiontoken",
    "securitytoken",
    "authorization",
    "credential",
    "xamzsignature",
];
/// As [`NAMES`], but also with other meanings in the plural: the last part of the name must be it.
const BARE_NAMES: [&str; 7] =
    ["token", "idtoken", "apitoken", "csrftoken", "xsrftoken", "bearertoken", "usertoken"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Prefixed,
    Keyed,
    Bearer,
    Basic,
    Userinfo,
}

/// Where something may begin, and what.
const WORDS: [(&str, Class); 44] = [
    ("eyJ", Class::Prefixed),
    ("AKIA", Class::Prefixed),
    ("ASIA", Class::Prefixed),
    ("ABIA", Class::Prefixed),
    ("ACCA", Class::Prefixed),
    ("ghp_", Class::Prefixed),
    ("gho_", Class::Prefixed),
    ("ghu_", Class::Prefixed),
    ("ghs_", Class::Prefixed),
    ("ghr_", Class::Prefixed),
    ("github_pat_", Class::Prefixed),
    ("glpat-", Class::Prefixed),
    ("xox", Class::Prefixed),
    ("xapp-", Class::Prefixed),
    ("hooks.slack.com/", Class::Prefixed),
    ("k_live_", Class::Prefixed),
    ("k_test_", Class::Prefixed),
    ("whsec_", Class::Prefixed),
    ("AIza", Class::Prefixed),
    ("ya29.", Class::Prefixed),
    ("npm_", Class::Prefixed),
    ("pypi-", Class::Prefixed),
    ("SG.", Class::Prefixed),
    ("sk-proj-", Class::Prefixed),
    ("sk-ant-", Class::Prefixed),
    ("sk-svcacct-", Class::Prefixed),
    ("sk-admin-", Class::Prefixed),
    ("hvs.", Class::Prefixed),
    ("dop_v1_", Class::Prefixed),
    ("PRIVATE KEY", Class::Prefixed),
    ("password", Class::Keyed),
    ("passwd", Class::Keyed),
    ("passphrase", Class::Keyed),
    ("passcode", Class::Keyed),
    ("pwd", Class::Keyed),
    ("secret", Class::Keyed),
    ("key", Class::Keyed),
    ("token", Class::Keyed),
    ("credential", Class::Keyed),
    ("authorization", Class::Keyed),
    ("x-amz-signature", Class::Keyed),
    ("bearer", Class::Bearer),
    ("basic ", Class::Basic),
    ("://", Class::Userinfo),
];

/// Finds credentials.
#[derive(Debug)]
pub struct Tokens {
    words: AhoCorasick,
    prefixed: Regex,
    keyed: Regex,
    bearer: Regex,
    basic: Regex,
    userinfo: Regex,
}

impl Tokens {
    /// A finder; costs milliseconds.
    pub fn compile() -> Self {
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::DFA))
            .build(WORDS.iter().map(|(word, _)| word))
            .expect("a few words make a small automaton");
        let regex = |text: &str| Regex::new(text).expect("a constant, covered by tests");
        Tokens {
            words,
            prefixed: regex(PREFIXED),
            keyed: regex(KEYED),
            bearer: regex(BEARER),
            basic: regex(BASIC),
            userinfo: regex(USERINFO),
        }
    }

    /// Calls `each` with places of which at least one is within every credential or the word before
    /// it. `text` may be many texts in a row.
    pub fn for_each_candidate(&self, text: &[u8], mut each: impl FnMut(usize)) {
        self.for_each_word(text, |at, _| each(at));
    }

    fn for_each_word(&self, text: &[u8], mut each: impl FnMut(usize, Class)) {
        for found in self.words.find_overlapping_iter(text) {
            let Some((word, class)) = WORDS.get(found.pattern().as_usize()) else { continue };
            let after = text.get(found.end()..).unwrap_or_default();
            let possible = match class {
                // Only the case of these says that they are meant.
                Class::Prefixed => text.get(found.range()) == Some(word.as_bytes()),
                Class::Keyed => is_before_sign(after),
                Class::Userinfo => {
                    let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'/' | b'"');
                    after.iter().take_while(|b| !ends(b)).any(|b| *b == b'@')
                }
                Class::Bearer | Class::Basic => true,
            };
            if possible {
                each(found.start(), *class);
            }
        }
    }

    /// Calls `each` with the place of every credential in `text`; places may overlap.
    pub fn find(&self, text: &[u8], mut each: impl FnMut(Range<usize>)) {
        let mut classes = Vec::new();
        self.for_each_word(text, |_, class| {
            if !classes.contains(&class) {
                classes.push(class);
            }
        });
        for class in classes {
            match class {
                Class::Prefixed => {
                    self.prefixed.find_iter(text).for_each(|found| each(found.range()));
                }
                Class::Keyed => self.find_keyed(text, &mut each),
                Class::Bearer => groups(&self.bearer, text, is_random, &mut each),
                Class::Basic => groups(&self.basic, text, is_user_and_password, &mut each),
                Class::Userinfo => groups(&self.userinfo, text, |_| true, &mut each),
            }
        }
    }

    fn find_keyed(&self, text: &[u8], each: &mut impl FnMut(Range<usize>)) {
        let mut at = 0;
        while let Some(found) = self.keyed.captures_at(text, at) {
            let Some(whole) = found.get(0) else { break };
            at = whole.end();
            let group = |name: &str| found.name(name).map_or(&[][..], |group| group.as_bytes());
            let is_bare = !group("bare").is_empty();
            // `unexpected token: x` and `tokens=5` speak of other tokens, `PWD=/root` of a folder.
            let means_other = is_bare
                && ((group("sign") == b":" && group("quote").is_empty())
                    || !group("plural").is_empty());
            let is_pwd = group("word").eq_ignore_ascii_case(b"pwd");
            if means_other || (is_pwd && is_path(text.get(at..).unwrap_or_default())) {
                continue;
            }
            let value = value_at(text, at);
            let bytes = text.get(value.clone()).unwrap_or_default();
            // `token=Token{a64f992 …` shows an object.
            let is_no_token = is_bare
                && (bytes.len() < BARE_TOKEN_BYTES_MIN
                    || (bytes.contains(&b'{') && bytes.first() != Some(&b'{')));
            if !is_no_token && is_secret(bytes) {
                at = value.end;
                each(value);
            }
        }
    }
}

/// Calls `each` with the place of the first group of every match that is accepted.
fn groups(
    regex: &Regex,
    text: &[u8],
    accept: impl Fn(&[u8]) -> bool,
    each: &mut impl FnMut(Range<usize>),
) {
    for found in regex.captures_iter(text) {
        if let Some(group) = found.get(1).filter(|group| accept(group.as_bytes())) {
            each(group.range());
        }
    }
}

/// How surely the name of a field says that its value is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretName {
    /// Whatever the value is.
    Surely,
    /// If the value is no number: tokens are counted too.
    IfText,
    /// Unless the value is a path: `pwd` is a folder elsewhere.
    UnlessPath,
}

impl SecretName {
    /// What the name of a field says; `None` for most.
    pub fn of(name: &str) -> Option<Self> {
        let last = name.rsplit('.').next().unwrap_or(name);
        let last = last.split('#').next().unwrap_or(last).to_ascii_lowercase();
        let plain = last.replace(['_', '-', ' '], "");
        let plain = plain.trim_end_matches(|c: char| c.is_ascii_digit());
        let single = plain.strip_suffix('s').unwrap_or(plain);
        if plain == "pwd" {
            Some(SecretName::UnlessPath)
        } else if NAMES.iter().any(|name| single.ends_with(name)) {
            Some(SecretName::Surely)
        } else if BARE_NAMES.contains(&plain) || last.ends_with("_token") {
            Some(SecretName::IfText)
        } else {
            None
        }
    }

    /// Whether a value of the field is to be hidden.
    pub fn hides(self, value: &str, is_number: bool) -> bool {
        let means_other = match self {
            SecretName::Surely => false,
            SecretName::IfText => is_number,
            SecretName::UnlessPath => is_path(value.as_bytes()),
        };
        !means_other && is_secret(value.as_bytes())
    }
}

fn is_path(value: &[u8]) -> bool {
    matches!(value.first(), Some(b'/' | b'~' | b'\\'))
}

/// Whether a value behind such a name or word is worth hiding.
pub fn is_secret(value: &[u8]) -> bool {
    !NO_SECRETS.iter().any(|no_secret| value.eq_ignore_ascii_case(no_secret))
        && !value.iter().all(|b| *b == b'*')
}

/// Whether a text is one line of a key's body: a full line of base64 and nothing else.
pub fn is_key_line(text: &str) -> bool {
    let text = text.trim().as_bytes();
    let has = |kind: fn(&u8) -> bool| text.iter().any(kind);
    matches!(text.len(), 64 | 76)
        && is_base64(text)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
}

/// Whether a text may stand between the first and the last line of a key.
pub fn may_be_in_key(text: &str) -> bool {
    let text = text.trim();
    is_base64(text.as_bytes()) || text.starts_with("Proc-Type:") || text.starts_with("DEK-Info:")
}

/// Whether a text begins a private key that does not end within it.
pub fn opens_key(text: &str) -> bool {
    text.rfind("-----BEGIN")
        .and_then(|at| text.get(at..))
        .is_some_and(|behind| behind.contains("PRIVATE KEY") && !behind.contains("-----END"))
}

fn is_base64(text: &[u8]) -> bool {
    text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
}

/// Whether what follows a word makes it the name of a value.
fn is_before_sign(after: &[u8]) -> bool {
    let mut rest = after.iter().skip_while(|b| matches!(b, b's' | b'S')).peekable();
    while rest.next_if(|b| matches!(b, b'\\' | b'"' | b'\'' | b']' | b' ' | b'\t')).is_some() {}
    matches!(rest.next(), Some(b':' | b'='))
}

/// The place of the value that begins at `at`: within quotes, within brackets, or up to what
/// separates it from the next.
fn value_at(text: &[u8], at: usize) -> Range<usize> {
    let rest = text.get(at..).unwrap_or_default();
    let escapes = rest.iter().take_while(|b| **b == b'\\').count();
    match rest.get(escapes) {
        Some(quote @ (b'"' | b'\'')) => {
            let start = at + escapes + 1;
            start..end_of_quoted(text, start, *quote, escapes)
        }
        Some(open @ (b'[' | b'{')) if escapes == 0 => at..end_of_brackets(text, at, *open),
        _ => at..end_of_bare(text, at),
    }
}

/// Where the quote closes that was opened behind so many backslashes: at one behind as many, to
/// which those are added that stand for themselves.
fn end_of_quoted(text: &[u8], start: usize, quote: u8, escapes: usize) -> usize {
    let mut run = 0;
    for (at, byte) in text.iter().enumerate().skip(start) {
        match byte {
            b'\\' => run += 1,
            byte if *byte == quote && run % (2 * (escapes + 1)) == escapes => return at - escapes,
            _ => run = 0,
        }
    }
    text.len()
}

fn end_of_brackets(text: &[u8], start: usize, open: u8) -> usize {
    let close = if open == b'[' { b']' } else { b'}' };
    let mut depth = 0usize;
    for (at, byte) in text.iter().enumerate().skip(start) {
        if *byte == open {
            depth += 1;
        } else if *byte == close {
            depth -= 1;
            if depth == 0 {
                return at + 1;
            }
        }
    }
    // What is cut off within brackets may be secret to its end.
    text.len()
}

fn end_of_bare(text: &[u8], start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let rest = rest.get(..LOOK_AHEAD_BYTES).unwrap_or(rest);
    let word = rest.iter().take_while(|b| !b.is_ascii_whitespace()).count();
    let first = rest.get(..word).unwrap_or_default();
    let mut at = start;
    if SCHEMES.iter().any(|scheme| first.eq_ignore_ascii_case(scheme)) {
        let blanks = rest.iter().skip(word).take_while(|b| matches!(b, b' ' | b'\t')).count();
        at += word + blanks;
    }
    while let Some(byte) = text.get(at) {
        let ends = match byte {
            b'"' | b'<' => true,
            b',' | b';' | b'&' | b')' | b'}' | b']' | b'>' | b'|' | b'\'' | b'\\' => {
                is_followed_by_other(text.get(at + 1..).unwrap_or_default())
            }
            byte => byte.is_ascii_whitespace(),
        };
        if ends {
            break;
        }
        at += 1;
    }
    at
}

/// Whether a mark was the end of a value: behind it there is nothing more of the word, or the name
/// of the next value.
fn is_followed_by_other(after: &[u8]) -> bool {
    // Looking further each time would take time that grows with the square of the length.
    let near = after.get(..LOOK_AHEAD_BYTES).unwrap_or(after);
    let closes = |b: &&u8| matches!(b, b',' | b';' | b')' | b'}' | b']' | b'>' | b'|' | b'\'');
    let mut rest = near.iter().skip_while(closes);
    match rest.next() {
        None => near.len() == after.len(),
        Some(b'"' | b'\\' | b' ' | b'\t' | b'\n' | b'\r') => true,
        Some(first) if first.is_ascii_alphabetic() || *first == b'_' => {
            let of_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            matches!(rest.find(|b| !of_name(b)), Some(b'=' | b':'))
        }
        Some(_) => false,
    }
}

/// Whether a word is more likely a token than a word of a language.
fn is_random(word: &[u8]) -> bool {
    word.len() >= 24 || word.iter().any(u8::is_ascii_digit)
}

/// Whether a word is base64 of `user:password`.
fn is_user_and_password(word: &[u8]) -> bool {
    let decoded = STANDARD.decode(word).or_else(|_| STANDARD_NO_PAD.decode(word));
    decoded.is_ok_and(|plain| plain.contains(&b':'))
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
