//! The mint: every line that a rig writes, made from (seed, source, number) alone.
//!
//! A minted text is `#<run>/<source>/<number>/<checksum># <content>`. Invariants:
//! * the same seed, source and number always give the same text, so nothing sent has to be kept;
//! * the checksum is the CRC32C of the content, so that a reader without the seed can check a line;
//! * a text has no line break and no white space at its ends, so that every transport keeps it.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Which line: the source that wrote it, and its number there, counted from 0 without holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineId {
    /// Index of the source in the ledger.
    pub source: u16,
    /// The line's number within the source.
    pub number: u64,
}

/// Makes and recognises lines of one run.
#[derive(Debug, Clone, Copy)]
pub struct Mint {
    run: u64,
}

/// What a text that came back turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Exactly the minted text of this line.
    Good(LineId),
    /// It claims to be this line, but its content is not what was minted.
    Corrupted(LineId),
    /// It carries no token of this run.
    Foreign,
}

const WORDS: &[&str] = &[
    "connection",
    "reset",
    "by",
    "peer",
    "while",
    "reading",
    "upstream",
    "order",
    "accepted",
    "für",
    "kunde",
    "retry",
    "in",
    "ms",
    "\"quoted\"",
    "back\\slash",
    "tab\there",
    "日本語",
    "naïve",
    "🚀",
    "{curly}",
    "[square]",
    "50%",
    "a=b",
    "user:42",
    "<script>alert(1)</script>",
    "null",
    "-1",
    "'",
    "path=/var/lib/x",
    "NaN",
    "#hash",
    "checkout",
    "latency",
    "commit",
    "segment",
    "…",
];

impl Mint {
    /// A mint for the run with this seed.
    pub fn new(seed: u64) -> Mint {
        // The run's mark is in every line, so that lines of another run are never taken for ours.
        Mint { run: seed & 0xffff_ffff }
    }

    /// The text of a line.
    pub fn text(&self, id: LineId) -> String {
        let content = self.content(id);
        let checksum = crc32c::crc32c(content.as_bytes());
        format!("#{:08x}/{}/{}/{checksum:08x}# {content}", self.run, id.source, id.number)
    }

    /// The filter of LogsQL that finds all lines of this run.
    pub fn run_filter(&self) -> String {
        format!("_msg:\"#{:08x}/\"", self.run)
    }

    /// The filter of LogsQL that finds this line.
    pub fn filter(&self, id: LineId) -> String {
        let text = self.text(id);
        format!("_msg:\"{}\"", text.split(' ').next().unwrap_or_default())
    }

    /// Judges a line that came back. What stands before the token (a time, a level) is left to the
    /// program that wrote it; from the token on every byte must be as minted.
    pub fn judge(&self, line: &str) -> Verdict {
        match self.find(line) {
            Some((id, rest)) if rest == self.text(id) => Verdict::Good(id),
            Some((id, _)) => Verdict::Corrupted(id),
            None => Verdict::Foreign,
        }
    }

    /// A small number that belongs to the line, for a numeric field beside the text.
    pub fn number_field(&self, id: LineId) -> i64 {
        self.random(id, 1).random_range(-1_000_000..1_000_000)
    }

    fn content(&self, id: LineId) -> String {
        let mut random = self.random(id, 0);
        // Most lines are short; one in 200 is larger than a page, so that writes and reads tear.
        let words = if random.random_ratio(1, 200) { 1200 } else { random.random_range(3..24) };
        let mut content = format!("line {}", id.number);
        for _ in 0..words {
            content.push(' ');
            match random.random_range(0..4_u8) {
                0 => content.push_str(&random.random::<u32>().to_string()),
                1 => content.push_str(&format!("{:016x}", random.random::<u64>())),
                _ => content.push_str(WORDS[random.random_range(0..WORDS.len())]),
            }
        }
        content
    }

    fn random(&self, id: LineId, purpose: u64) -> SmallRng {
        let mixed = self
            .run
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(u64::from(id.source).wrapping_mul(0xbf58_476d_1ce4_e5b9))
            .wrapping_add(id.number.wrapping_mul(0x94d0_49bb_1331_11eb))
            .wrapping_add(purpose);
        SmallRng::seed_from_u64(mixed)
    }

    fn find<'l>(&self, line: &'l str) -> Option<(LineId, &'l str)> {
        let mark = format!("#{:08x}/", self.run);
        let start = line.find(&mark)?;
        let rest = line.get(start..)?;
        let mut parts = rest.get(mark.len()..)?.splitn(3, '/');
        let source = parts.next()?.parse().ok()?;
        let number = parts.next()?.parse().ok()?;
        Some((LineId { source, number }, rest))
    }
}
