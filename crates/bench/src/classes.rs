//! The classes of queries that are measured, and whether an answer is right.
//!
//! Each target says a class in its own language and brings the answer into one shape: rows of
//! named texts. Invariant: an answer is checked against facts that the generator gathered, never
//! against another run of the same store.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;

use crate::workload::facts::NEWEST;
use crate::workload::{Facts, planted};

/// One row of an answer.
pub type Row = BTreeMap<String, String>;

/// How many hosts are asked for.
pub const TOP_HOSTS: usize = 10;

/// A class of queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// How many records have a word that one record has. Row: `n`.
    NeedleCount,
    /// The one record. Rows: `_msg`.
    NeedleRows,
    /// 100 records that are scattered over everything. Rows: `_msg`.
    ScatteredRows,
    /// The newest 100 of level error with a common word. Rows: `_time`, `_msg`, `level`.
    NewestErrors,
    /// Records per 10 minutes and level. Rows: `time`, `level`, `n`.
    Histogram,
    /// The hosts with the most errors. Rows: `host`, `n`, most first.
    TopHosts,
    /// How many messages match a regular expression without a literal word. Row: `n`.
    Regex,
    /// How many messages contain a piece of a word. Row: `n`.
    Substring,
    /// The records of one trace. Rows: `trace_id`.
    TraceRows,
    /// How many records have a word of every thousandth. Row: `n`.
    PerMilleCount,
    /// How many records have a word of every hundredth. Row: `n`.
    PerCentCount,
    /// How many records there are. Row: `n`.
    CountAll,
    /// Count, sum, mean and 0.99 quantile of a number by service. Rows: `service`, `n`, `sum`,
    /// `avg`, `p99`.
    NumbersByService,
    /// The last hour of one stream. Rows: `pod`.
    StreamHour,
    /// SQL: records by level. Rows: `level`, `n`.
    SqlGroup,
}

impl Class {
    /// All classes, in the order of the report.
    pub const ALL: [Self; 15] = [
        Self::NeedleCount,
        Self::NeedleRows,
        Self::ScatteredRows,
        Self::NewestErrors,
        Self::Histogram,
        Self::TopHosts,
        Self::Regex,
        Self::Substring,
        Self::TraceRows,
        Self::PerMilleCount,
        Self::PerCentCount,
        Self::CountAll,
        Self::NumbersByService,
        Self::StreamHour,
        Self::SqlGroup,
    ];

    /// Its name in reports; never changed, so that reports can be compared.
    pub fn name(self) -> &'static str {
        match self {
            Self::NeedleCount => "needle word, count",
            Self::NeedleRows => "needle word, rows",
            Self::ScatteredRows => "100 scattered rows",
            Self::NewestErrors => "last 100 of level + word",
            Self::Histogram => "10 min x level, everything",
            Self::TopHosts => "top hosts of errors",
            Self::Regex => "regex over all messages",
            Self::Substring => "substring inside a word",
            Self::TraceRows => "trace id, rows",
            Self::PerMilleCount => "0.1 % word, count",
            Self::PerCentCount => "1 % word, count",
            Self::CountAll => "count of everything",
            Self::NumbersByService => "sum, avg, p99 by service",
            Self::StreamHour => "one stream's last hour",
            Self::SqlGroup => "SQL count by level",
        }
    }

    /// Whether `rows` is the right answer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(self, facts: &Facts, rows: &[Row]) -> anyhow::Result<()> {
        match self {
            Self::NeedleCount => count(rows, facts.words[planted::NEEDLE]),
            Self::PerMilleCount => count(rows, facts.words[planted::PER_MILLE]),
            Self::PerCentCount => count(rows, facts.words[planted::PER_CENT]),
            Self::CountAll => count(rows, facts.records),
            Self::Regex => count(rows, facts.regex),
            Self::Substring => count(rows, facts.substring),
            Self::NeedleRows => {
                let wanted = facts.words[planted::NEEDLE];
                records(rows, wanted, "_msg", |text| text.contains(planted::NEEDLE))
            }
            Self::ScatteredRows => {
                let wanted = facts.words[planted::HUNDRED];
                records(rows, wanted, "_msg", |text| text.contains(planted::HUNDRED))
            }
            Self::TraceRows => {
                records(rows, facts.trace.records, "trace_id", |text| text == facts.trace.id)
            }
            Self::StreamHour => {
                let hour = &facts.stream_hour;
                records(rows, hour.records, "pod", |text| text == hour.pod)
            }
            Self::NewestErrors => newest(rows, facts),
            Self::Histogram => histogram(rows, facts),
            Self::TopHosts => top_hosts(rows, facts),
            Self::NumbersByService => numbers(rows, facts),
            Self::SqlGroup => {
                let got = rows.iter().map(|row| Ok((text(row, "level")?, number(row, "n")?)));
                let got: BTreeMap<String, u64> = got.collect::<anyhow::Result<_>>()?;
                ensure!(got == facts.levels, "{got:?} instead of {:?}", facts.levels);
                Ok(())
            }
        }
    }
}

fn text(row: &Row, name: &str) -> anyhow::Result<String> {
    row.get(name).cloned().with_context(|| format!("no field {name} in {row:?}"))
}

fn number<T: std::str::FromStr>(row: &Row, name: &str) -> anyhow::Result<T> {
    let text = text(row, name)?;
    text.parse().ok().with_context(|| format!("{name}={text} is no number"))
}

fn count(rows: &[Row], wanted: u64) -> anyhow::Result<()> {
    let [row] = rows else { bail!("{} rows instead of one", rows.len()) };
    let got: u64 = number(row, "n")?;
    ensure!(got == wanted, "{got} instead of {wanted}");
    Ok(())
}

fn records(
    rows: &[Row],
    wanted: u64,
    field: &str,
    fits: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    ensure!(rows.len() as u64 == wanted, "{} records instead of {wanted}", rows.len());
    for row in rows {
        let value = text(row, field)?;
        ensure!(fits(&value), "a record with {field}={value} does not belong to the answer");
    }
    Ok(())
}

fn newest(rows: &[Row], facts: &Facts) -> anyhow::Result<()> {
    let wanted = facts.newest_failures_ns.len().min(NEWEST) as u64;
    records(rows, wanted, "level", |text| text == "error")?;
    let mut times_ns = Vec::with_capacity(rows.len());
    for row in rows {
        let time: Timestamp = text(row, "_time")?.parse().context("_time")?;
        times_ns.push(i64::try_from(time.as_nanosecond()).context("_time")?);
    }
    times_ns.sort_unstable_by(|a, b| b.cmp(a));
    ensure!(times_ns == facts.newest_failures_ns, "these are not the newest");
    Ok(())
}

fn histogram(rows: &[Row], facts: &Facts) -> anyhow::Result<()> {
    let mut got: BTreeMap<i64, BTreeMap<String, u64>> = BTreeMap::new();
    for row in rows {
        let time: Timestamp = text(row, "time")?.parse().context("time")?;
        let bucket = got.entry(i64::try_from(time.as_nanosecond()).context("time")?).or_default();
        let n: u64 = number(row, "n")?;
        if n > 0 {
            *bucket.entry(text(row, "level")?).or_default() += n;
        }
    }
    got.retain(|_, levels| !levels.is_empty());
    let mut wanted: BTreeMap<i64, BTreeMap<String, u64>> = BTreeMap::new();
    for (&bucket_ns, counts) in &facts.histogram {
        let named = crate::workload::Level::ALL.iter().zip(counts).filter(|(_, n)| **n > 0);
        let levels = named.map(|(level, &n)| (level.name().to_owned(), n)).collect();
        wanted.insert(bucket_ns, levels);
    }
    if let Some((bucket_ns, levels)) = wanted.iter().find(|(b, levels)| got.get(b) != Some(*levels))
    {
        bail!("bucket {bucket_ns}: {:?} instead of {levels:?}", got.get(bucket_ns));
    }
    ensure!(got.len() == wanted.len(), "{} buckets instead of {}", got.len(), wanted.len());
    Ok(())
}

fn top_hosts(rows: &[Row], facts: &Facts) -> anyhow::Result<()> {
    let mut wanted: Vec<u64> = facts.errors_by_host.values().copied().collect();
    wanted.sort_unstable_by(|a, b| b.cmp(a));
    wanted.truncate(TOP_HOSTS);
    let mut got = Vec::new();
    for row in rows {
        let (host, n) = (text(row, "host")?, number::<u64>(row, "n")?);
        let fact = facts.errors_by_host.get(&host);
        ensure!(fact == Some(&n), "{host} has {n} instead of {fact:?}");
        got.push(n);
    }
    // Hosts with the same number may come in any order and either may be cut off.
    ensure!(got == wanted, "{got:?} instead of {wanted:?}");
    Ok(())
}

fn numbers(rows: &[Row], facts: &Facts) -> anyhow::Result<()> {
    ensure!(rows.len() == facts.services.len(), "{} services", rows.len());
    for row in rows {
        let service = text(row, "service")?;
        let fact = facts.services.get(&service);
        let fact = fact.with_context(|| format!("there is no service {service}"))?;
        let n: u64 = number(row, "n")?;
        ensure!(n == fact.count, "{service}: count {n} instead of {}", fact.count);
        let sum_ms = fact.duration_us_sum as f64 / 1000.0;
        close(&service, "sum", number(row, "sum")?, sum_ms)?;
        close(&service, "avg", number(row, "avg")?, sum_ms / fact.count.max(1) as f64)?;
        let p99_ms: f64 = number(row, "p99")?;
        let [low, _, high] = fact.duration_us_p99.map(|us| us as f64 / 1000.0);
        ensure!((low..=high).contains(&p99_ms), "{service}: p99 {p99_ms}, not {low} to {high}");
    }
    Ok(())
}

/// Sums of floats depend on their order in the last digits.
fn close(service: &str, what: &str, got: f64, wanted: f64) -> anyhow::Result<()> {
    let near = (got - wanted).abs() <= wanted.abs() * 1e-9;
    ensure!(near, "{service}: {what} {got} instead of {wanted}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(fields: &[(&str, &str)]) -> Row {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn facts() -> Facts {
        let options = crate::workload::WorkloadOptions { records: 20_000, ..Default::default() };
        crate::corpus::write(options, &mut std::io::sink(), |_| ()).unwrap()
    }

    #[test]
    fn a_wrong_count_is_noticed() {
        let facts = facts();
        Class::CountAll.check(&facts, &[row(&[("n", "20000")])]).unwrap();
        let error = Class::CountAll.check(&facts, &[row(&[("n", "19999")])]).unwrap_err();
        assert_eq!(error.to_string(), "19999 instead of 20000");
        assert!(Class::CountAll.check(&facts, &[]).is_err());
    }

    #[test]
    fn rows_must_be_complete_and_belong_to_the_answer() {
        let facts = facts();
        let found = row(&[("trace_id", &facts.trace.id)]);
        let mut rows = vec![found.clone(); facts.trace.records as usize];
        Class::TraceRows.check(&facts, &rows).unwrap();
        rows[0] = row(&[("trace_id", "another")]);
        assert!(Class::TraceRows.check(&facts, &rows).is_err());
        rows.pop();
        assert!(Class::TraceRows.check(&facts, &rows).is_err());
    }

    #[test]
    fn a_histogram_must_match_in_every_bucket() {
        let facts = facts();
        let mut rows = Vec::new();
        for (&bucket_ns, counts) in &facts.histogram {
            let time = Timestamp::from_nanosecond(i128::from(bucket_ns)).unwrap().to_string();
            for (level, n) in crate::workload::Level::ALL.iter().zip(counts) {
                let n = n.to_string();
                rows.push(row(&[("time", &time), ("level", level.name()), ("n", &n)]));
            }
        }
        Class::Histogram.check(&facts, &rows).unwrap();
        let last = rows.last_mut().unwrap();
        last.insert("n".to_owned(), "77".to_owned());
        assert!(Class::Histogram.check(&facts, &rows).is_err());
    }

    #[test]
    fn the_newest_are_checked_by_their_times() {
        let facts = facts();
        let at = |ns: i64| Timestamp::from_nanosecond(i128::from(ns)).unwrap().to_string();
        let times = facts.newest_failures_ns.iter();
        let mut rows: Vec<Row> =
            times.map(|&ns| row(&[("_time", &at(ns)), ("level", "error")])).collect();
        Class::NewestErrors.check(&facts, &rows).unwrap();
        rows[0].insert("_time".to_owned(), at(facts.time_min_ns));
        assert!(Class::NewestErrors.check(&facts, &rows).is_err());
    }
}
