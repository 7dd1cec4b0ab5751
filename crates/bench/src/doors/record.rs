//! A record of the fleet workload, read from its JSON line so that it can be said in other words.

use std::borrow::Cow;
use std::collections::HashMap;

use anyhow::Context;
use serde::Deserialize;

/// One record. Its times and numbers are what its line says.
#[derive(Deserialize)]
pub(super) struct Record<'l> {
    #[serde(borrow, rename = "_time")]
    pub(super) time: Cow<'l, str>,
    /// Nanoseconds since 1970.
    #[serde(skip)]
    pub(super) time_ns: u64,
    #[serde(borrow)]
    pub(super) service: Cow<'l, str>,
    #[serde(borrow)]
    pub(super) namespace: Cow<'l, str>,
    #[serde(borrow)]
    pub(super) host: Cow<'l, str>,
    #[serde(borrow)]
    pub(super) pod: Cow<'l, str>,
    #[serde(borrow)]
    pub(super) version: Cow<'l, str>,
    #[serde(borrow)]
    pub(super) level: Cow<'l, str>,
    /// 32 hex digits.
    #[serde(borrow)]
    pub(super) trace_id: Cow<'l, str>,
    pub(super) status: Option<u16>,
    pub(super) duration_ms: Option<f64>,
    pub(super) bytes: Option<u64>,
    #[serde(borrow)]
    pub(super) message: Cow<'l, str>,
}

impl<'l> Record<'l> {
    /// Reads a line.
    pub(super) fn read(line: &'l [u8]) -> anyhow::Result<Self> {
        let mut record: Self = serde_json::from_slice(line)
            .with_context(|| format!("no record: {}", String::from_utf8_lossy(line)))?;
        let time: jiff::Timestamp = record.time.parse().context("a record's time")?;
        record.time_ns = u64::try_from(time.as_nanosecond()).context("a record's time")?;
        Ok(record)
    }

    /// The severity of syslog.
    pub(super) fn severity(&self) -> u8 {
        match &*self.level {
            "debug" => 7,
            "info" => 6,
            "warn" => 4,
            _ => 3,
        }
    }

    /// OpenTelemetry's number of the level.
    pub(super) fn severity_number(&self) -> u64 {
        match &*self.level {
            "debug" => 5,
            "info" => 9,
            "warn" => 13,
            _ => 17,
        }
    }

    /// The numbers that it has, as text.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let status = self.status.map(|value| ("status", value.to_string()));
        let duration = self.duration_ms.map(|value| ("duration_ms", value.to_string()));
        let bytes = self.bytes.map(|value| ("bytes", value.to_string()));
        [status, duration, bytes].into_iter().flatten()
    }
}

/// Records in groups of one source each, in the order in which the sources first appear: what a
/// client does that batches many sources into one request.
pub(super) fn by_source<'r, 'l>(records: &'r [Record<'l>]) -> Vec<Vec<&'r Record<'l>>> {
    let mut groups: Vec<Vec<&'r Record<'l>>> = Vec::new();
    let mut known = HashMap::new();
    for record in records {
        let group = *known.entry(&*record.pod).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(group) {
            group.push(record);
        }
    }
    groups
}
