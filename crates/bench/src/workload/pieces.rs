//! Texts with variable parts: `literal {slot} literal`, parsed once, written often.
//!
//! `{kind}` is a fresh random value of a [`Slot`]; the other forms give the entropy that variables
//! of real systems have, which is mostly low:
//!
//! | form | writes |
//! |---|---|
//! | `{pool:N:kind}` | one of `N` values of that kind, the first ones far more often |
//! | `{near:N:kind}` | one of a few values that a stretch of `N` records shares |
//! | `{one:a\|b\|c}` | one of the choices |
//! | `{t:FORMAT}` | the record's time by strftime |
//! | `{epoch}`, `{epochms}` | seconds, milliseconds since 1970 |
//! | `{level:a\|b\|c\|d}` | the choice for debug, info, warn, error |
//! | `{stack}` | a Java stack trace of several lines |
//! | `{(}`, `{)}` | a brace |
//!
//! Invariants: what is written is JSON-escaped already, so it can stand inside a JSON string; the
//! bytes depend on the generator that is given and on the record's index alone.

use super::Level;
use super::stack::Stacks;
use super::variables::{Slot, number};
use crate::rng::Rng;

/// How many values are current in one stretch of a `{near:…}`.
const NEAR_VALUES: u64 = 6;

/// What a piece may look at besides its random generator.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) time_ns: i64,
    pub(super) index: u64,
    pub(super) level: Level,
    pub(super) stacks: &'a Stacks,
}

/// One part of a text.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Literal(Vec<u8>),
    Slot(Slot),
    Pool { values: u64, slot: Slot },
    Near { stretch: u64, slot: Slot },
    One(Vec<Vec<u8>>),
    ByLevel([Vec<u8>; 4]),
    Time(String),
    Epoch { per_s: i64 },
    Stack,
}

/// A text with its variable parts.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces(Vec<Piece>);

impl Pieces {
    /// Reads a text, or returns `None` where it is no such text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, tail)) = rest.split_once('{') {
            let (name, tail) = tail.split_once('}')?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(escape(literal)));
            }
            pieces.push(Piece::parse(name)?);
            rest = tail;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(escape(rest)));
        }
        Some(Self(pieces))
    }

    /// Appends the text with fresh variables.
    #[inline]
    pub(super) fn write(&self, scene: Scene<'_>, rng: &mut Rng, out: &mut Vec<u8>) {
        for piece in &self.0 {
            piece.write(scene, rng, out);
        }
    }
}

impl Piece {
    fn parse(name: &str) -> Option<Self> {
        let numbered = |rest: &str| {
            let (count, kind) = rest.split_once(':')?;
            let count: u64 = count.parse().ok().filter(|&count| count > 0)?;
            Some((count, Slot::parse(kind)?))
        };
        if let Some(rest) = name.strip_prefix("pool:") {
            let (values, slot) = numbered(rest)?;
            return Some(Self::Pool { values, slot });
        }
        if let Some(rest) = name.strip_prefix("near:") {
            let (stretch, slot) = numbered(rest)?;
            return Some(Self::Near { stretch, slot });
        }
        if let Some(rest) = name.strip_prefix("one:") {
            return Some(Self::One(rest.split('|').map(escape).collect()));
        }
        if let Some(rest) = name.strip_prefix("level:") {
            let choices: Vec<Vec<u8>> = rest.split('|').map(escape).collect();
            return Some(Self::ByLevel(choices.try_into().ok()?));
        }
        if let Some(rest) = name.strip_prefix("t:") {
            return Some(Self::Time(rest.to_owned()));
        }
        Some(match name {
            "epoch" => Self::Epoch { per_s: 1 },
            "epochms" => Self::Epoch { per_s: 1000 },
            "stack" => Self::Stack,
            "(" => Self::Literal(b"{".to_vec()),
            ")" => Self::Literal(b"}".to_vec()),
            _ => Self::Slot(Slot::parse(name)?),
        })
    }

    fn write(&self, scene: Scene<'_>, rng: &mut Rng, out: &mut Vec<u8>) {
        match self {
            Self::Literal(bytes) => out.extend_from_slice(bytes),
            Self::Slot(slot) => slot.write(rng, out),
            Self::Pool { values, slot } => {
                let bound = rng.below(*values) + 1;
                let value = rng.below(bound);
                slot.write(&mut Rng::new(value ^ 0x5001_0000_0000), out);
            }
            Self::Near { stretch, slot } => {
                let value = (scene.index / stretch) * NEAR_VALUES + rng.below(NEAR_VALUES);
                slot.write(&mut Rng::new(value ^ 0xea50_0000_0000_0000), out);
            }
            Self::One(choices) => {
                out.extend_from_slice(&choices[rng.below(choices.len() as u64) as usize]);
            }
            Self::ByLevel(choices) => out.extend_from_slice(&choices[scene.level as usize]),
            Self::Time(format) => {
                let time = jiff::Timestamp::from_nanosecond(i128::from(scene.time_ns));
                let text = time.unwrap_or_default().strftime(format).to_string();
                out.extend_from_slice(text.as_bytes());
            }
            Self::Epoch { per_s } => {
                let value = scene.time_ns / (1_000_000_000 / per_s);
                number(out, value.unsigned_abs());
            }
            Self::Stack => scene.stacks.write(rng, out),
        }
    }
}

/// JSON-escapes what occurs in our texts: quotes, backslashes, and `\n` and `\t` as line feed and
/// tab.
pub(super) fn escape(literal: &str) -> Vec<u8> {
    literal
        .replace('\\', "\\\\")
        .replace("\\\\n", "\\n")
        .replace("\\\\t", "\\t")
        .replace('"', "\\\"")
        .into_bytes()
}
