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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.judgement;
        let recovery = format!(
            "{:.1} / {:.1} s",
            self.recovery_median().as_secs_f64(),
            self.recovery_max().as_secs_f64()
        );
        let cells: [(&str, String); 9] = [
            ("acknowledged", found.acknowledged.to_string()),
            ("lost", found.lost.to_string()),
            ("invented", found.invented.to_string()),
            ("corrupted", found.corrupted.to_string()),
            ("doubled", found.doubled.to_string()),
            ("torn", found.torn.to_string()),
            ("retries seen", self.retries.to_string()),
            ("recovery median / max", recovery),
            ("faults", self.faults.to_string()),
        ];
        let width = |(name, value): &(&str, String)| name.len().max(value.len());
        let mut lines = [String::new(), String::new(), String::new()];
        for cell in &cells {
            let width = width(cell);
            lines[0].push_str(&format!("| {:>width$} ", cell.0));
            lines[1].push_str(&format!("|-{:->width$}:", ""));
            lines[2].push_str(&format!("| {:>width$} ", cell.1));
        }
        for line in &lines {
            writeln!(f, "{line}|")?;
        }
        for example in &found.examples {
            writeln!(f, "  {example}")?;
        }
        Ok(())
    }
}
