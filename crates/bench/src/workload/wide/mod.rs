//! Wide events: about 150 fields in nested objects, as services write them that keep one rich
//! record for each request.
//!
//! `wide.txt` holds the fields. Some of them only a part of the events has. Besides them every
//! event has its time, its level and a message.
//!
//! Invariants: as for all workloads; a fault in `wide.txt` stops the program with its number.

mod questions;

use super::pieces::{Pieces, Scene};
use super::plants::Plants;
use super::stack::Stacks;
use super::variables::{number, padded};
use super::{ClockText, Generator, Level, WorkloadOptions, record_time};
use crate::rng::Rng;

pub use questions::questions;

/// The fields that make a record's stream.
pub const STREAM_FIELDS: &[&str] = &["service", "env", "region"];

const SOURCE: &str = include_str!("wide.txt");
/// What messages say, before the words that are planted.
const MESSAGES: [&str; 5] = [
    "handled {one:request|rpc|job} {h12} in {ms}, {n:0-40} spans",
    "request {h12} of {pool:900:user} finished, {n:1-30} items",
    "job {near:50:h8} step {n:1-9} done in {ms}",
    "{one:cache|queue|pool} warmed for {pool:900:sku} after {n:1-90} ms",
    "request {h12} failed: {one:timeout after|connection refused after|rejected after} {ms}",
];

/// A value as JSON.
enum Value {
    Text(Pieces),
    Int(u64, u64),
    OneInt(Vec<&'static str>),
    /// From low to high, in thousandths.
    Float(i64, i64),
    Bool(u64),
}

struct Field {
    path: Vec<&'static str>,
    value: Value,
    /// Percent of the events that have it.
    present: u64,
}

/// The generator.
pub struct Wide {
    options: WorkloadOptions,
    fields: Vec<Field>,
    messages: Vec<Pieces>,
    stacks: Stacks,
    rng: Rng,
    index: u64,
    plants: Plants,
    clock: ClockText,
}

impl Wide {
    /// A generator at the first record.
    pub fn new(options: WorkloadOptions) -> Self {
        let mut rng = Rng::new(options.seed ^ 0x0071_de00);
        let plants = Plants::new(options.records, rng.next_u64());
        let messages = MESSAGES.map(|text| Pieces::parse(text).expect("MESSAGES are texts"));
        Self {
            options,
            fields: load(),
            messages: messages.into(),
            stacks: Stacks::new(),
            rng,
            index: 0,
            plants,
            clock: ClockText::default(),
        }
    }
}

/// How many fields an event has that has them all: those of `wide.txt`, time, level and message.
pub fn fields() -> usize {
    load().len() + 3
}

/// The fields of the events' top level besides time, level and message; whether each is an object.
pub(crate) fn top_level() -> Vec<(&'static str, bool)> {
    let mut names: Vec<(&'static str, bool)> = Vec::new();
    for field in load() {
        let Some(&name) = field.path.first() else { continue };
        if names.last().is_none_or(|(last, _)| *last != name) {
            names.push((name, field.path.len() > 1));
        }
    }
    names
}

impl Generator for Wide {
    fn next_line(&mut self, out: &mut Vec<u8>) -> bool {
        if self.index >= self.options.records {
            return false;
        }
        let index = self.index;
        self.index += 1;
        let rng = &mut self.rng;
        let time_ns = record_time(&self.options, index, rng);
        let level = Level::draw(rng);
        let scene = Scene { time_ns, index, level, stacks: &self.stacks };
        out.extend_from_slice(b"{\"_time\":\"");
        self.clock.write(time_ns, out);
        out.extend_from_slice(b"\",\"level\":\"");
        out.extend_from_slice(level.name().as_bytes());
        out.push(b'"');
        let mut open: &[&str] = &[];
        for field in &self.fields {
            if rng.below(100) >= field.present {
                continue;
            }
            let (name, parents) = field.path.split_last().expect("a path has a name");
            move_to(&mut open, parents, out);
            name_field(name, out);
            field.value.write(scene, rng, out);
        }
        move_to(&mut open, &[], out);
        out.extend_from_slice(b",\"message\":\"");
        // The last message is a failure's.
        let calm = self.messages.len() as u64 - 1;
        let which = if level == Level::Error { calm } else { rng.below(calm) };
        self.messages[which as usize].write(scene, rng, out);
        self.plants.write(index, out);
        out.extend_from_slice(b"\"}\n");
        true
    }
}

/// Closes and opens objects until those at `parents` are open.
fn move_to<'f>(open: &mut &'f [&'static str], parents: &'f [&'static str], out: &mut Vec<u8>) {
    let shared = open.iter().zip(parents).take_while(|(a, b)| a == b).count();
    out.extend(std::iter::repeat_n(b'}', open.len() - shared));
    for name in &parents[shared..] {
        name_field(name, out);
        out.push(b'{');
    }
    *open = parents;
}

fn name_field(name: &str, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

impl Value {
    fn parse(kind: &'static str) -> Option<Self> {
        let range = |rest: &str| {
            let (low, high) = rest.split_at_checked(rest.get(1..)?.find('-')? + 1)?;
            Some((low.parse::<i64>().ok()?, high.get(1..)?.parse::<i64>().ok()?))
        };
        if let Some(rest) = kind.strip_prefix("int:") {
            let (low, high) = range(rest)?;
            return Some(Self::Int(low.try_into().ok()?, high.try_into().ok()?));
        }
        if let Some(rest) = kind.strip_prefix("int4:") {
            return Some(Self::OneInt(rest.split('|').collect()));
        }
        if let Some(rest) = kind.strip_prefix("float:") {
            let (low, high) = range(rest)?;
            return Some(Self::Float(low * 1000, high * 1000));
        }
        if let Some(rest) = kind.strip_prefix("bool:") {
            return Some(Self::Bool(rest.parse().ok()?));
        }
        let text = if kind.starts_with("one:") || kind.contains(':') || !kind.contains(' ') {
            Pieces::parse(&format!("{{{kind}}}"))?
        } else {
            return None;
        };
        Some(Self::Text(text))
    }

    fn write(&self, scene: Scene<'_>, rng: &mut Rng, out: &mut Vec<u8>) {
        match self {
            Self::Text(pieces) => {
                out.push(b'"');
                pieces.write(scene, rng, out);
                out.push(b'"');
            }
            // The smaller of two draws: small values are common, as sizes and counts are.
            Self::Int(low, high) => {
                let (a, b) = (rng.between(*low, *high), rng.between(*low, *high));
                number(out, a.min(b));
            }
            Self::OneInt(choices) => out.extend_from_slice(rng.pick(choices).as_bytes()),
            Self::Float(low, high) => {
                let span = high.abs_diff(*low);
                let (a, b) = (rng.below(span), rng.below(span));
                // Never whole: a store must not take it for an integer.
                let thousandths = low.saturating_add_unsigned(a.min(b)) | 1;
                if thousandths < 0 {
                    out.push(b'-');
                }
                number(out, thousandths.unsigned_abs() / 1000);
                out.push(b'.');
                padded(out, thousandths.unsigned_abs() % 1000, 3);
                while out.last() == Some(&b'0') {
                    out.pop();
                }
            }
            Self::Bool(percent) => {
                let value: &[u8] = if rng.below(100) < *percent { b"true" } else { b"false" };
                out.extend_from_slice(value);
            }
        }
    }
}

fn load() -> Vec<Field> {
    let mut fields = Vec::new();
    for (index, line) in SOURCE.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let field = read(line);
        fields.push(field.unwrap_or_else(|| panic!("wide.txt line {}: {line:?}", index + 1)));
    }
    fields
}

fn read(line: &'static str) -> Option<Field> {
    let (path, rest) = line.split_once(' ')?;
    let (kind, present) = match rest.rsplit_once(" ?") {
        Some((kind, percent)) => (kind, percent.parse().ok()?),
        None => (rest, 100),
    };
    Some(Field { path: path.split('.').collect(), value: Value::parse(kind)?, present })
}
