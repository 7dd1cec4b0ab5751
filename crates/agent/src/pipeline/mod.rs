//! What happens to records between parsing and shipping: rules drop, thin out and route them, a
//! program changes them, and secrets are taken out.
//!
//! The pipeline works on finished batches, column by column, and gives batches of the same shape
//! back. The order is: labels of the configuration (set where the source is read), [`rules`], the
//! VRL program, and redaction last, so that nothing which came before escapes it. Invariants:
//! - every record that goes in comes out or is counted under the name of the rule that dropped it;
//! - after redaction no secret that it knows stands anywhere in the batch: not in a dictionary, not
//!   in a label, not in the original bytes beside a damaged message;
//! - what a batch becomes follows from its content alone, so reading a source again after a crash
//!   decides the same;
//! - with nothing configured a batch is handed through untouched.

pub mod card;
pub mod columns;
pub mod condition;
pub mod environment;
pub mod redact;
pub mod rules;
pub mod secrets;
pub mod settings;
pub mod tokens;
#[cfg(feature = "vrl")]
mod vrl_program;

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use lodge_record::Account;

use crate::config::ConfigError;
use redact::{RedactTotals, Redactor};
use rules::{RuleTotals, Rules};
pub use settings::PipelineConfig;
#[cfg(feature = "vrl")]
use vrl_program::VrlProgram;

/// The stages, shared by all sources.
#[derive(Debug)]
pub struct Pipeline {
    rules: Rules,
    #[cfg(feature = "vrl")]
    program: Option<VrlProgram>,
    redactor: Option<Redactor>,
}

/// A batch that went through.
#[derive(Debug)]
pub struct Processed {
    /// What is to be shipped; it may have no rows left.
    pub records: RecordBatch,
    /// Who dropped how many records.
    pub dropped: Vec<(Arc<str>, u64)>,
}

/// What the pipeline did since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineTotals {
    /// By rule, in their order.
    pub rules: Vec<RuleTotals>,
    /// By kind of secret.
    pub redacted: Vec<RedactTotals>,
    /// Records on which the VRL program failed; they were kept as they were.
    pub program_failed: u64,
    /// Records that the VRL program dropped.
    pub program_dropped: u64,
}

impl Processed {
    /// Says in `account` which rules dropped how many records.
    pub fn tell(&self, account: &mut Account) {
        for (rule, records) in &self.dropped {
            account.drop_records(&format!("rule {rule}"), *records);
        }
    }

    /// Records that were dropped, by whomever.
    pub fn dropped_records(&self) -> u64 {
        self.dropped.iter().map(|(_, count)| count).sum()
    }
}

impl Pipeline {
    /// A pipeline of the configured stages. The error names what of it cannot be compiled.
    pub fn new(config: &PipelineConfig) -> Result<Self, ConfigError> {
        #[cfg(not(feature = "vrl"))]
        if config.vrl.is_some() {
            let problem = "this agent was built without VRL; build it with \
                           `cargo build --release -p lodge-agent --features vrl`";
            return Err(crate::config::value_error("vrl", problem));
        }
        Ok(Pipeline {
            rules: Rules::new(config.rules.clone()),
            #[cfg(feature = "vrl")]
            program: config.vrl.as_ref().map(VrlProgram::new).transpose()?,
            redactor: Redactor::new(&config.redact)?,
        })
    }

    /// Puts a batch through all stages.
    pub fn apply(&self, mut records: RecordBatch) -> Processed {
        let mut dropped = Vec::new();
        if !self.rules.is_empty() {
            records = self.rules.apply(records, &mut dropped);
        }
        #[cfg(feature = "vrl")]
        if let Some(program) = &self.program {
            records = program.apply(records, &mut dropped);
        }
        if let Some(redactor) = &self.redactor {
            records = redactor.apply(records);
        }
        Processed { records, dropped }
    }

    /// What was done so far.
    pub fn totals(&self) -> PipelineTotals {
        PipelineTotals {
            rules: self.rules.totals(),
            redacted: self.redactor.as_ref().map(Redactor::totals).unwrap_or_default(),
            #[cfg(feature = "vrl")]
            program_failed: self.program.as_ref().map_or(0, VrlProgram::failed),
            #[cfg(feature = "vrl")]
            program_dropped: self.program.as_ref().map_or(0, VrlProgram::dropped),
            #[cfg(not(feature = "vrl"))]
            program_failed: 0,
            #[cfg(not(feature = "vrl"))]
            program_dropped: 0,
        }
    }
}

impl PipelineTotals {
    /// Whether nothing was done.
    pub fn is_nothing(&self) -> bool {
        self.to_string().is_empty()
    }
}

/// As one line for the log; empty where nothing was done.
impl fmt::Display for PipelineTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.rules.iter().filter(|rule| rule.matched > 0);
        let rules =
            rules.map(|r| format!("rule {}: matched={} dropped={}", r.name, r.matched, r.dropped));
        let redacted = self.redacted.iter().filter(|kind| kind.count > 0);
        let redacted = redacted.map(|kind| format!("redacted {}={}", kind.name, kind.count));
        let program = (self.program_failed + self.program_dropped > 0).then(|| {
            format!("vrl: failed={} dropped={}", self.program_failed, self.program_dropped)
        });
        f.write_str(&rules.chain(program).chain(redacted).collect::<Vec<_>>().join("; "))
    }
}
