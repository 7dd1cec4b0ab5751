//! Which places of a text are secret: what is built in, and the patterns of the configuration.
//!
//! Invariant: a text is redacted until nothing is found in it, so redacting twice is the same as
//! redacting once. What would go on forever is hidden as a whole.

use std::ops::Range;

use regex::bytes::Regex;

use super::card;
use super::tokens::Tokens;

/// How often a text is looked at again after something was hidden in it.
const PASSES_MAX: usize = 8;

/// What hides a secret, and what is looked for.
#[derive(Debug)]
pub struct Kind {
    /// What stands in its place.
    pub with: String,
    /// What is looked for.
    pub finder: Finder,
}

/// How one kind of secret is found.
#[derive(Debug)]
pub enum Finder {
    /// Numbers of payment cards.
    Cards,
    /// Credentials.
    Tokens(Box<Tokens>),
    /// E-mail addresses.
    Emails,
    /// A pattern of the configuration: its first group if it has one, else the whole match.
    Pattern(Regex),
}

/// A place in a text.
struct Span {
    place: Range<usize>,
    kind: usize,
}

/// A text in which something was hidden.
#[derive(Debug)]
pub struct Hidden {
    /// The text without secrets.
    pub text: Vec<u8>,
    /// The kind of each place, in no order.
    pub kinds: Vec<usize>,
}

impl Finder {
    fn find(&self, text: &[u8], mut each: impl FnMut(Range<usize>)) {
        match self {
            Finder::Cards => card::find(text, each),
            Finder::Tokens(tokens) => tokens.find(text, each),
            Finder::Emails => find_emails(text, each),
            Finder::Pattern(regex) if regex.captures_len() > 1 => {
                for found in regex.captures_iter(text) {
                    if let Some(group) = found.get(1) {
                        each(group.range());
                    }
                }
            }
            Finder::Pattern(regex) => regex.find_iter(text).for_each(|found| each(found.range())),
        }
    }

    /// Whether a text with a candidate is worth a closer look.
    pub fn may_be_in(&self, text: &[u8]) -> bool {
        match self {
            // Dates and times make runs of digits in every line of some programs.
            Finder::Cards => {
                let mut found = false;
                card::find(text, |_| found = true);
                found
            }
            Finder::Tokens(_) | Finder::Emails | Finder::Pattern(_) => true,
        }
    }

    /// Calls `each` with places of which one is within every secret or what shows it; `text` may be
    /// many texts in a row. False if this kind must see each text by itself.
    pub fn for_each_candidate(&self, text: &[u8], mut each: impl FnMut(Range<usize>)) -> bool {
        match self {
            Finder::Cards => card::for_each_run(text, each),
            Finder::Tokens(tokens) => tokens.for_each_candidate(text, |at| each(at..at + 1)),
            Finder::Emails => memchr::memchr_iter(b'@', text).for_each(|at| each(at..at + 1)),
            Finder::Pattern(_) => return false,
        }
        true
    }
}

/// Hides what the finders find in a text; `None` if that is nothing.
pub fn hide(kinds: &[Kind], text: &[u8]) -> Option<Hidden> {
    let mut hidden: Option<Hidden> = None;
    for _ in 0..PASSES_MAX {
        let present = hidden.as_ref().map_or(text, |hidden| hidden.text.as_slice());
        let spans = find(kinds, present);
        if spans.is_empty() {
            return hidden;
        }
        let mut out = Vec::with_capacity(present.len());
        let mut from = 0;
        for span in &spans {
            out.extend_from_slice(present.get(from..span.place.start).unwrap_or_default());
            out.extend_from_slice(kinds.get(span.kind).map_or(b"", |kind| kind.with.as_bytes()));
            from = span.place.end;
        }
        out.extend_from_slice(present.get(from..).unwrap_or_default());
        let mut found = hidden.map(|hidden| hidden.kinds).unwrap_or_default();
        found.extend(spans.iter().map(|span| span.kind));
        hidden = Some(Hidden { text: out, kinds: found });
    }
    // A pattern that finds what it left behind, again and again.
    hidden.map(|hidden| {
        let kind = hidden.kinds.last().copied().unwrap_or(0);
        let text = kinds.get(kind).map_or(Vec::new(), |kind| kind.with.clone().into_bytes());
        Hidden { text, kinds: hidden.kinds }
    })
}

/// The secret places of a text in order; such as overlap are one.
fn find(kinds: &[Kind], text: &[u8]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (kind, Kind { with, finder }) in kinds.iter().enumerate() {
        finder.find(text, |place| {
            let is_hidden = text.get(place.clone()) == Some(with.as_bytes());
            if !place.is_empty() && !is_hidden {
                spans.push(Span { place, kind });
            }
        });
    }
    spans.sort_by_key(|span| (span.place.start, std::cmp::Reverse(span.place.end)));
    spans.dedup_by(|next, span| {
        let overlaps = next.place.start < span.place.end;
        if overlaps {
            span.place.end = span.place.end.max(next.place.end);
        }
        overlaps
    });
    spans
}

/// Calls `each` with the place of every e-mail address: a local part, `@`, and a domain of two
/// names or more of which the last has letters only.
fn find_emails(text: &[u8], mut each: impl FnMut(Range<usize>)) {
    let mut behind = 0;
    for at in memchr::memchr_iter(b'@', text) {
        let before = text.get(behind..at).unwrap_or_default();
        let local = before.iter().rev().take_while(|b| is_local(b)).count();
        let after = text.get(at + 1..).unwrap_or_default();
        let domain = after.iter().take_while(|b| is_domain(b)).count();
        let domain = after.get(..domain).unwrap_or_default();
        let open = domain.iter().rev().take_while(|b| matches!(b, b'.' | b'-')).count();
        let domain = domain.get(..domain.len() - open).unwrap_or_default();
        let mut names = domain.rsplit(|b| *b == b'.');
        let last = names.next().unwrap_or_default();
        let has_letters = last.len() >= 2 && last.iter().all(|b| !b.is_ascii_digit());
        if local > 0 && has_letters && names.next().is_some_and(|name| !name.is_empty()) {
            behind = at + 1 + domain.len();
            each(at - local..behind);
        } else {
            behind = at + 1;
        }
    }
}

/// Bytes of letters beyond ASCII belong to addresses too.
fn is_local(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-' | 0x80..)
}

fn is_domain(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | 0x80..)
}
