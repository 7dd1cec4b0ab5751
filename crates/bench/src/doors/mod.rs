//! `lodge-bench doors`: what each protocol costs by which logs come in, what becomes of a flood of
//! datagrams, and whether a crowd of idle and slow connections disturbs anybody.
//!
//! ```text
//! records ─ encoded beforehand, as clients do ─► fresh server ─ acknowledged ─ built ─ counted
//! sender on CPU 1 ─ datagrams, faster and faster ─► server on CPU 0: sent = stored + counted drops
//! steady client, alone and beside 5,000 idle and 200 slow connections ─► server
//! ```
//!
//! Invariants: what is sent is made before the clock starts; a figure is given only if a query then
//! counts exactly the records that were sent (of datagrams: less those that the server says it
//! dropped).

mod binary;
mod crowd;
mod datagrams;
mod encode;
mod protocols;
mod record;
mod send;

use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

pub use self::crowd::{Crowd, CrowdOptions};
pub use self::datagrams::{FLOOD_COMMAND, FloodOptions, FloodRate, Floods, flood};
pub use self::protocols::{Prepared, Protocol, ProtocolFigures, prepare};

use crate::report::Machine;

/// How to measure.
#[derive(Clone, Debug)]
pub struct DoorsOptions {
    /// The `lodge` binary.
    pub lodge: PathBuf,
    /// Where the run's folder is made; removed at its end.
    pub dir: PathBuf,
    /// Which protocols; none leaves that part out.
    pub protocols: Vec<Protocol>,
    /// Size of the records as JSON lines.
    pub bytes: u64,
    /// Size of a request as JSON lines.
    pub request_bytes: usize,
    /// Seed of the records.
    pub seed: u64,
    /// Datagrams a second, one run each; none leaves that part out.
    pub rates: Vec<FloodRate>,
    /// How long each flood lasts.
    pub flood_s: u64,
    /// The crowds, one run each; none leaves that part out.
    pub crowds: Vec<CrowdOptions>,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Doors {
    /// What was measured, with its version.
    pub target: String,
    /// Where.
    pub machine: Machine,
    /// Each protocol.
    pub protocols: Vec<ProtocolFigures>,
    /// Datagrams.
    pub floods: Floods,
    /// Crowds.
    pub crowds: Vec<Crowd>,
}

/// Measures all of it; `tell` hears what is going on.
///
/// # Errors
/// When the server fails or a record is missing, too many, or dropped without being counted.
pub async fn measure(options: &DoorsOptions, mut tell: impl FnMut(&str)) -> anyhow::Result<Doors> {
    let dir = tempfile::Builder::new()
        .prefix("lodge-doors-")
        .tempdir_in(&options.dir)
        .with_context(|| format!("cannot make a folder in {}", options.dir.display()))?;
    let protocols = protocols::measure(options, dir.path(), &mut tell).await?;
    let floods = datagrams::measure(options, dir.path(), &mut tell).await?;
    let crowds = crowd::measure(options, dir.path(), &mut tell).await?;
    let target = crate::lodge::version_of(&options.lodge)?;
    Ok(Doors { target, machine: Machine::this(), protocols, floods, crowds })
}

impl Doors {
    /// The tables, in Markdown.
    pub fn table(&self) -> String {
        let mut out = format!("{}, {}\n", self.target, self.machine.text());
        if !self.protocols.is_empty() {
            out.push_str(&format!("\n### Protocols\n\n{}", protocols::table(&self.protocols)));
        }
        if !self.floods.runs.is_empty() {
            out.push_str(&format!("\n### Datagrams\n\n{}", self.floods.table()));
        }
        for crowd in &self.crowds {
            out.push_str(&format!("\n### Crowd\n\n{}", crowd.table()));
        }
        out
    }

    /// What was sent and is neither stored nor counted as dropped, in words; empty if there is none.
    pub fn wrong(&self) -> Vec<String> {
        self.floods.wrong()
    }
}
