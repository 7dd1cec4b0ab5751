//! The body of `POST /api/v1/agents/{id}`: what an agent has still to read and to deliver. JSON.
//!
//! The ledger holds what is durable; this is the other side of it, as of a moment ago. Sources at
//! rest, read to their end and acknowledged, are not in it. Capped in bytes, sources and texts.

use std::collections::BTreeMap;

use lodge_record::limits::ACCOUNT_TEXT_BYTES_MAX;
use serde::{Deserialize, Serialize};

/// Largest report.
pub const REPORT_BYTES_MAX: usize = 1 << 20;
/// Most sources in a report; the others are counted.
pub const SOURCES_MAX: usize = 1000;
/// Most counters in a report.
const COUNTERS_MAX: usize = 200;

/// What an agent says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The machine.
    pub host: String,
    /// The agent's version.
    pub version: String,
    /// When it started, milliseconds since 1970.
    pub started_ms: i64,
    /// Sources that are not at rest.
    pub sources: Vec<LiveSource>,
    /// Further ones that did not fit.
    pub more_sources: u64,
    /// The agent's counters that are not zero.
    pub counters: BTreeMap<String, u64>,
}

/// A source that is not at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LiveSource {
    /// Its producer, as a UUID; empty while it is not known.
    pub producer: String,
    /// What people call it.
    pub source: String,
    /// Bytes that are there and not read, as far as is known.
    pub unread_bytes: u64,
    /// Records that were read and are not acknowledged.
    pub in_flight_records: u64,
}

/// Bytes are no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No JSON of this shape.
    #[error("not an agent's report: {0}")]
    Json(#[from] serde_json::Error),
    /// Beyond a limit.
    #[error("the report has {count} {what}, the limit is {limit}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// Reads and checks a report.
pub fn decode(bytes: &[u8]) -> Result<Report, ReportError> {
    within("bytes", bytes.len(), REPORT_BYTES_MAX)?;
    let report: Report = serde_json::from_slice(bytes)?;
    within("sources", report.sources.len(), SOURCES_MAX)?;
    within("counters", report.counters.len(), COUNTERS_MAX)?;
    let of_sources = report.sources.iter().flat_map(|s| [s.producer.len(), s.source.len()]);
    let others = [report.host.len(), report.version.len()];
    let names = report.counters.keys().map(String::len);
    let longest = of_sources.chain(others).chain(names).max().unwrap_or(0);
    within("bytes in one text", longest, ACCOUNT_TEXT_BYTES_MAX)?;
    Ok(report)
}

fn within(what: &'static str, count: usize, limit: usize) -> Result<(), ReportError> {
    if count > limit { Err(ReportError::TooLarge { what, count, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_comes_back_and_one_beyond_the_limits_does_not() {
        let source = LiveSource { source: "/var/log/a".into(), unread_bytes: 7, ..<_>::default() };
        let report = Report { host: "h".into(), sources: vec![source], ..Report::default() };
        let bytes = serde_json::to_vec(&report).unwrap();
        assert_eq!(decode(&bytes).unwrap(), report);
        assert_eq!(decode(b"{}").unwrap(), Report::default());
        assert!(decode(b"7").is_err() && decode(&bytes[..bytes.len() - 1]).is_err());
        let many = Report { sources: vec![LiveSource::default(); 1001], ..Report::default() };
        let error = decode(&serde_json::to_vec(&many).unwrap()).unwrap_err();
        assert!(error.to_string().contains("1001 sources, the limit is 1000"), "{error}");
        let long = Report { host: "h".repeat(2000), ..Report::default() };
        assert!(decode(&serde_json::to_vec(&long).unwrap()).is_err());
    }
}
