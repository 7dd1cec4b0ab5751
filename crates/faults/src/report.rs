//! The report of a run: one table, and the list of what is not as it must be.
//!
//! A run that proves nothing is a failure too: [`Floor`] says how much must have been acknowledged,
//! retried and broken before a clean judgement counts.

use std::fmt;
use std::time::Duration;

use crate::ledger::Judgement;

/// What a run must at least have done for its verdict to mean something.
#[derive(Debug, Clone, Copy)]
pub struct Floor {
    /// Lines acknowledged.
    pub acknowledged_min: u64,
    /// Retries seen.
    pub retries_min: u64,
    /// Faults caused.
    pub faults_min: u64,
}

/// A table of a rig's own.
#[derive(Debug, Default, Clone)]
pub struct Table {
    /// The heads of its columns.
    pub heads: Vec<&'static str>,
    /// Its rows.
    pub rows: Vec<Vec<String>>,
}

/// Everything a run found out.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// The comparison of the books with the far end.
    pub judgement: Judgement,
    /// Retries that really happened (of agents or of writers).
    pub retries: u64,
    /// Faults caused.
    pub faults: u64,
    /// Time from each restart (or SIGCONT) of the server to the next acknowledged request.
    pub recoveries: Vec<Duration>,
    /// The same by its parts, where a rig tells them apart.
    pub parts: Table,
    /// Remarks for a person: figures that are told and not judged.
    pub notes: Vec<String>,
    /// Anything else that is wrong: a panic in a log, a count that went back, rows lost in building.
    pub other: Vec<String>,
}

impl Report {
    /// Everything that is not as it must be; empty for a good run.
    pub fn violations(&self, floor: &Floor) -> Vec<String> {
        let found = &self.judgement;
        let mut violations = self.other.clone();
        for (count, what) in [
            (found.lost, "acknowledged lines are lost"),
            (found.invented, "lines were invented"),
            (found.corrupted, "lines are corrupted"),
            (found.doubled, "lines are doubled"),
            (found.torn, "requests are stored in part"),
        ] {
            if count > 0 {
                violations.push(format!("{count} {what}"));
            }
        }
        for (count, min, what) in [
            (found.acknowledged, floor.acknowledged_min, "lines were acknowledged"),
            (self.retries, floor.retries_min, "retries happened"),
            (self.faults, floor.faults_min, "faults were caused"),
        ] {
            if count < min {
                violations.push(format!("an idle run proves nothing: {count} {what}, not {min}"));
            }
        }
        violations
    }

    /// The longest of the recovery times.
    pub fn recovery_max(&self) -> Duration {
        self.recoveries.iter().copied().max().unwrap_or_default()
    }

    /// The median of the recovery times.
    pub fn recovery_median(&self) -> Duration {
        let mut sorted = self.recoveries.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

/// The heads of a report's cells.
const HEADS: [&str; 9] = [
    "acknowledged",
    "lost",
    "invented",
    "corrupted",
    "doubled",
    "torn",
    "retries seen",
    "recovery median / max",
    "faults",
];

impl Report {
    fn cells(&self) -> [String; 9] {
        let found = &self.judgement;
        let recovery = format!(
            "{:.1} / {:.1} s",
            self.recovery_median().as_secs_f64(),
            self.recovery_max().as_secs_f64()
        );
        [
            found.acknowledged.to_string(),
            found.lost.to_string(),
            found.invented.to_string(),
            found.corrupted.to_string(),
            found.doubled.to_string(),
            found.torn.to_string(),
            self.retries.to_string(),
            recovery,
            self.faults.to_string(),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_table(f, &HEADS, &[self.cells().to_vec()])?;
        if !self.parts.rows.is_empty() {
            writeln!(f)?;
            write_table(f, &self.parts.heads, &self.parts.rows)?;
        }
        for example in &self.judgement.examples {
            writeln!(f, "  {example}")?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        Ok(())
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing wrong.
    Good,
    /// Not run, for want of something on this machine.
    Skipped,
    /// Something is wrong, or the rig could not be carried out.
    Bad,
}

/// One run of one rig, for the table of them all.
#[derive(Debug)]
pub struct Row {
    /// The rig.
    pub rig: &'static str,
    /// The seed of the run.
    pub seed: u64,
    /// What it found, if it could be carried out.
    pub report: Option<Report>,
    /// What that comes to.
    pub verdict: Verdict,
    /// What is wrong, or why it was not run.
    pub why: String,
}

/// The table of many runs.
#[derive(Debug, Default)]
pub struct Summary {
    /// Its rows, in the order they were run.
    pub rows: Vec<Row>,
}

impl Summary {
    /// The worst of all verdicts.
    pub fn verdict(&self) -> Verdict {
        self.rows.iter().map(|row| row.verdict).max().unwrap_or(Verdict::Bad)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut heads = vec!["rig", "seed"];
        heads.extend(HEADS);
        heads.push("verdict");
        let rows: Vec<Vec<String>> = self.rows.iter().map(Row::cells).collect();
        write_table(f, &heads, &rows)?;
        for Row { rig, seed, why, .. } in self.rows.iter().filter(|row| !row.why.is_empty()) {
            writeln!(f, "  {rig}, seed {seed}: {why}")?;
        }
        Ok(())
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.rig.to_owned(), self.seed.to_string()];
        match &self.report {
            Some(report) => cells.extend(report.cells()),
            None => cells.extend(HEADS.map(|_| String::from("–"))),
        }
        let verdict = match self.verdict {
            Verdict::Good => "good",
            Verdict::Skipped => "NOT RUN",
            Verdict::Bad => "BAD",
        };
        cells.push(verdict.to_owned());
        cells
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, heads: &[&str], rows: &[Vec<String>]) -> fmt::Result {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        heads.get(column).map_or(0, |head| head.chars().count()).max(widest)
    };
    for (column, head) in heads.iter().enumerate() {
        write!(f, "| {head:>width$} ", width = width(column))?;
    }
    writeln!(f, "|")?;
    for column in 0..heads.len() {
        write!(f, "|-{:->width$}:", "", width = width(column))?;
    }
    writeln!(f, "|")?;
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            write!(f, "| {cell:>width$} ", width = width(column))?;
        }
        writeln!(f, "|")?;
    }
    Ok(())
}
