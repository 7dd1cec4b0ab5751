//! Raw log lines of ten kinds of system, each in its own format, some of several lines.
//!
//! `systems.txt` holds the templates: HDFS, Spark, Zookeeper, OpenSSH, nginx, the Linux kernel,
//! Android, PostgreSQL, a Java service and OpenStack. A record is what a shipper makes of a line it
//! does not take apart: the time, where it is from, its level and the whole line as the message,
//! with its own time stamp in it. Variables come from pools as in real systems (the same addresses,
//! users and files again and again), so this compresses far better than the fleet.
//!
//! Invariants: as for all workloads; a fault in `systems.txt` stops the program with the line's
//! number.

mod questions;

use super::pieces::{Pieces, Scene};
use super::plants::Plants;
use super::stack::Stacks;
use super::{ClockText, Generator, Level, WorkloadOptions, record_time};
use crate::rng::Rng;

pub use questions::questions;

/// The fields that make a record's stream.
pub const STREAM_FIELDS: &[&str] = &["system", "host"];

const SOURCE: &str = include_str!("systems.txt");

#[derive(Debug, Default)]
struct System {
    name: &'static str,
    weight: u64,
    hosts: u64,
    head: Pieces,
    templates: Vec<(Level, Pieces)>,
    /// Each template as often as its weight says, so that a choice is one draw.
    table: Vec<u16>,
}

/// The generator.
pub struct Systems {
    options: WorkloadOptions,
    systems: Vec<System>,
    stacks: Stacks,
    rng: Rng,
    index: u64,
    plants: Plants,
    clock: ClockText,
}

impl Systems {
    /// A generator at the first record.
    pub fn new(options: WorkloadOptions) -> Self {
        let mut rng = Rng::new(options.seed ^ 0x5157_e350);
        let plants = Plants::new(options.records, rng.next_u64());
        let (systems, stacks, clock) = (load(), Stacks::new(), ClockText::default());
        Self { options, systems, stacks, rng, index: 0, plants, clock }
    }

    /// The systems' names.
    pub fn names(&self) -> Vec<&'static str> {
        self.systems.iter().map(|system| system.name).collect()
    }
}

impl Generator for Systems {
    fn next_line(&mut self, out: &mut Vec<u8>) -> bool {
        if self.index >= self.options.records {
            return false;
        }
        let index = self.index;
        self.index += 1;
        let rng = &mut self.rng;
        let time_ns = record_time(&self.options, index, rng);
        let weights = self.systems.iter().map(|system| system.weight);
        let mut draw = rng.below(weights.sum());
        let system = self.systems.iter().find(|system| {
            let here = draw < system.weight;
            draw = draw.saturating_sub(system.weight);
            here
        });
        let system = system.expect("a draw below the sum of all weights");
        let choice = system.table[rng.below(system.table.len() as u64) as usize];
        let (level, text) = &system.templates[usize::from(choice)];

        out.extend_from_slice(b"{\"_time\":\"");
        self.clock.write(time_ns, out);
        out.extend_from_slice(b"\",\"system\":\"");
        out.extend_from_slice(system.name.as_bytes());
        out.extend_from_slice(b"\",\"host\":\"");
        out.extend_from_slice(system.name.as_bytes());
        let host = rng.below(system.hosts) + 1;
        out.extend_from_slice(format!("-{host:02}\",\"level\":\"{}", level.name()).as_bytes());
        out.extend_from_slice(b"\",\"message\":\"");
        let scene = Scene { time_ns, index, level: *level, stacks: &self.stacks };
        system.head.write(scene, rng, out);
        text.write(scene, rng, out);
        self.plants.write(index, out);
        out.extend_from_slice(b"\"}\n");
        true
    }
}

fn load() -> Vec<System> {
    let mut systems: Vec<System> = Vec::new();
    for (index, line) in SOURCE.lines().enumerate() {
        let known = line.is_empty() || line.starts_with('#') || read(line, &mut systems).is_some();
        assert!(known, "systems.txt line {}: cannot read {line:?}", index + 1);
    }
    for system in &mut systems {
        assert!(!system.table.is_empty(), "{} has no messages", system.name);
    }
    systems
}

fn read(line: &'static str, systems: &mut Vec<System>) -> Option<()> {
    if let Some(inner) = line.strip_prefix('[') {
        let mut words = inner.strip_suffix(']')?.split(' ');
        let name = words.next()?;
        let (weight, hosts) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        systems.push(System { name, weight, hosts, ..System::default() });
        return Some(());
    }
    let system = systems.last_mut()?;
    if let Some(head) = line.strip_prefix("H ") {
        system.head = Pieces::parse(head)?;
        return Some(());
    }
    let mut words = line.splitn(3, ' ');
    let level = Level::from_letter(words.next()?)?;
    let weight: usize = words.next()?.parse().ok()?;
    let text = Pieces::parse(words.next()?)?;
    let id = system.templates.len() as u16;
    system.templates.push((level, text));
    system.table.extend(std::iter::repeat_n(id, weight));
    Some(())
}
