//! The far end: everything the oracle learns about what is stored, by LogsQL queries alone.
//!
//! Invariant: an answer that was cut short is an error, never "nothing more is there" — or a broken
//! connection would look like lost records.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::http::{self, Trouble};
use crate::mint::{LineId, Mint, Verdict};

/// How long one query may keep us waiting for its next bytes.
const QUERY_WAIT: Duration = Duration::from_secs(60);
/// How long reading all records back may take, of which there are millions after a long run.
const READ_WAIT: Duration = Duration::from_secs(600);
/// The setting that a server needs for it.
pub const READ_SETTING: &str = "query_time_max = \"10m\"\n";

/// How many examples of foreign and corrupted rows are kept.
const EXAMPLES_MAX: usize = 5;

/// Why the far end could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No answer.
    #[error("query {query:?}: {trouble}")]
    Trouble {
        /// The query.
        query: String,
        /// What broke.
        trouble: Trouble,
    },
    /// An answer that is no success.
    #[error("query {query:?} was answered {status}: {text}")]
    Refused {
        /// The query.
        query: String,
        /// The status code.
        status: u16,
        /// The start of the body.
        text: String,
    },
    /// An answer that does not have the documented shape.
    #[error("query {query:?}: {what}")]
    Shape {
        /// The query.
        query: String,
        /// What was unexpected.
        what: String,
    },
}

/// A server to ask.
#[derive(Debug, Clone, Copy)]
pub struct FarEnd {
    addr: SocketAddr,
    only_ours: bool,
}

/// How often each line was found, and what was found that should not be there.
#[derive(Debug, Default, Clone)]
pub struct Found {
    /// Rows read, whatever they hold.
    pub rows: u64,
    /// Rows or lines without a token of this run.
    pub foreign: u64,
    /// Lines with a token whose content is not what was minted.
    pub corrupted: u64,
    /// The first few troubles, for a person.
    pub examples: Vec<String>,
    counts: Vec<Vec<u32>>,
    /// Of each source.
    corrupted_of: Vec<u64>,
}

impl Found {
    /// Takes in one row as the query API gives it: every value is a string.
    pub fn row(&mut self, mint: &Mint, row: &Map<String, Value>) {
        self.rows += 1;
        let text = row.get("_msg").and_then(Value::as_str).unwrap_or("");
        // One row may hold several lines of a file: a stack trace is one record.
        for line in text.split('\n') {
            match mint.judge(line.trim_end_matches('\r')) {
                Verdict::Good(id) if fields_agree(mint, id, row) => self.count(id),
                Verdict::Good(id) | Verdict::Corrupted(id) => {
                    self.corrupted += 1;
                    self.count_corrupted(id);
                    self.example(self.corrupted, || format!("corrupted: {id:?} in {row:?}"));
                    // It is there, if damaged: counting it as lost too would hide which it is.
                    self.count(id);
                }
                Verdict::Foreign => {
                    self.foreign += 1;
                    self.example(self.foreign, || format!("invented: no token of ours in {row:?}"));
                }
            }
        }
    }

    /// Lines of a source whose content is not what was minted.
    pub fn corrupted_of(&self, source: u16) -> u64 {
        self.corrupted_of.get(usize::from(source)).copied().unwrap_or(0)
    }

    /// How often a line was found.
    pub fn copies(&self, id: LineId) -> u64 {
        self.counts
            .get(usize::from(id.source))
            .and_then(|numbers| numbers.get(usize::try_from(id.number).ok()?))
            .map_or(0, |copies| u64::from(*copies))
    }

    /// All numbers of a source that were found, with how often.
    pub fn numbers(&self, source: u16) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.counts
            .get(usize::from(source))
            .into_iter()
            .flatten()
            .enumerate()
            .filter(|(_, copies)| **copies > 0)
            .map(|(number, copies)| (number as u64, u64::from(*copies)))
    }

    /// How many lines belong to sources from `sources` on.
    pub fn copies_outside(&self, sources: usize) -> u64 {
        self.counts.iter().skip(sources).flatten().map(|copies| u64::from(*copies)).sum()
    }

    /// How many lines were found in all, copies included.
    pub fn lines(&self) -> u64 {
        self.copies_outside(0)
    }

    fn count_corrupted(&mut self, id: LineId) {
        let source = usize::from(id.source);
        if self.corrupted_of.len() <= source {
            self.corrupted_of.resize(source + 1, 0);
        }
        self.corrupted_of[source] += 1;
    }

    fn count(&mut self, id: LineId) {
        // A damaged token may claim any number; it must not make us allocate for it.
        const NUMBER_MAX: u64 = 100_000_000;
        if id.number > NUMBER_MAX {
            self.foreign += 1;
            return;
        }
        let source = usize::from(id.source);
        if self.counts.len() <= source {
            self.counts.resize(source + 1, Vec::new());
        }
        let number = id.number as usize;
        let numbers = &mut self.counts[source];
        if numbers.len() <= number {
            numbers.resize(number + 1, 0);
        }
        numbers[number] += 1;
    }

    fn example(&mut self, so_far: u64, text: impl FnOnce() -> String) {
        if so_far <= EXAMPLES_MAX as u64 {
            let mut text = text();
            text.truncate(text.floor_char_boundary(600));
            self.examples.push(text);
        }
    }
}

/// Where a row carries the number field beside its message, it must be the minted one.
fn fields_agree(mint: &Mint, id: LineId, row: &Map<String, Value>) -> bool {
    match row.get("oracle.number").and_then(Value::as_str) {
        Some(text) => text == mint.number_field(id).to_string(),
        None => true,
    }
}

impl FarEnd {
    /// The server at this address.
    pub fn new(addr: SocketAddr) -> FarEnd {
        FarEnd { addr, only_ours: false }
    }

    /// Reads back only records with lines of the mint's run, among others that are nobody's.
    pub fn only_ours(self) -> FarEnd {
        FarEnd { only_ours: true, ..self }
    }

    /// The address asked.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Runs a LogsQL query and hands over each row.
    pub fn query(
        &self,
        query: &str,
        on_row: &mut dyn FnMut(Map<String, Value>),
    ) -> Result<u64, ReadError> {
        let seconds = READ_WAIT.as_secs();
        let target =
            format!("/select/logsql/query?timeout={seconds}s&query={}", http::encode(query));
        let mut rows = 0_u64;
        let mut bad = None;
        let answer = http::request_lines(self.addr, &target, READ_WAIT, &mut |line| {
            match serde_json::from_slice(line) {
                // An error that struck after the first rows is a last line of the answer.
                Ok(Value::Object(row)) if row.contains_key("error") && row.contains_key("code") => {
                    bad = Some(format!("{row:?}"));
                }
                Ok(Value::Object(row)) => {
                    rows += 1;
                    on_row(row);
                }
                _ => bad = Some(String::from_utf8_lossy(line).into_owned()),
            }
        })
        .map_err(|trouble| ReadError::Trouble { query: query.to_owned(), trouble })?;
        if !answer.is_success() {
            let text = answer.text().chars().take(500).collect();
            return Err(ReadError::Refused {
                query: query.to_owned(),
                status: answer.status,
                text,
            });
        }
        match bad {
            None => Ok(rows),
            Some(line) => Err(ReadError::Shape {
                query: query.to_owned(),
                what: format!("a line of the answer is no record: {line}"),
            }),
        }
    }

    /// Runs a query and collects its rows.
    pub fn rows(&self, query: &str) -> Result<Vec<Map<String, Value>>, ReadError> {
        let mut rows = Vec::new();
        self.query(query, &mut |row| rows.push(row))?;
        Ok(rows)
    }

    /// The number of records that match a filter (`*` for all).
    pub fn count(&self, filter: &str) -> Result<u64, ReadError> {
        let query = format!("{filter} | stats count() as total");
        let rows = self.rows(&query)?;
        match rows.as_slice() {
            // No rows at all is how a count over nothing may be said.
            [] => Ok(0),
            [row] => row
                .get("total")
                .and_then(Value::as_str)
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| shape(&query, format!("no number `total` in {row:?}"))),
            more => Err(shape(&query, format!("{} rows for one count", more.len()))),
        }
    }

    /// Reads every record back and checks that as many came as the server counts. Records may still
    /// be arriving: the count before and the count after are the bounds.
    pub fn read_all(&self, mint: &Mint) -> Result<Found, ReadError> {
        let mut found = Found::default();
        let filter = if self.only_ours { mint.run_filter() } else { "*".to_owned() };
        let query = &format!("{filter} | fields _time, _msg, oracle.number");
        let before = self.count(&filter)?;
        self.query(query, &mut |row| found.row(mint, &row))?;
        let after = self.count(&filter)?;
        if found.rows < before || found.rows > after {
            let rows = found.rows;
            let what = format!("{rows} rows came back, but count() says {before} to {after}");
            return Err(shape(query, what));
        }
        Ok(found)
    }

    /// Whether `/health` answers 200 within a second.
    pub fn is_healthy(&self) -> bool {
        http::request(self.addr, "GET", "/health", &[], b"", Duration::from_secs(1))
            .is_ok_and(|answer| answer.status == 200)
    }

    /// The status document.
    pub fn status(&self) -> Result<Value, ReadError> {
        let target = "/api/v1/status";
        let answer = http::request(self.addr, "GET", target, &[], b"", QUERY_WAIT)
            .map_err(|trouble| ReadError::Trouble { query: target.to_owned(), trouble })?;
        serde_json::from_slice(&answer.body)
            .map_err(|e| shape(target, format!("answer {}: {e}", answer.status)))
    }

    /// The number of level 0 objects that are not built into segments yet.
    pub fn l0_segments(&self) -> Result<u64, ReadError> {
        let status = self.status()?;
        status
            .pointer("/segments/l0")
            .and_then(Value::as_u64)
            .ok_or_else(|| shape("/api/v1/status", format!("no number segments.l0 in {status}")))
    }

    /// A counter or gauge of `/metrics`: the sum over all label sets whose line contains `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        let answer =
            http::request(self.addr, "GET", "/metrics", &[], b"", Duration::from_secs(5)).ok()?;
        let text = answer.text();
        let values: Vec<f64> = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|line| line.contains(labels))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Waits until the number of records has stopped changing for `still`, at most `limit`.
    pub fn wait_still(&self, still: Duration, limit: Duration) -> Result<u64, ReadError> {
        let started = Instant::now();
        let mut last = self.count("*")?;
        let mut since = Instant::now();
        while since.elapsed() < still && started.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(200));
            let now = self.count("*")?;
            if now != last {
                last = now;
                since = Instant::now();
            }
        }
        Ok(last)
    }
}

fn shape(query: &str, what: String) -> ReadError {
    ReadError::Shape { query: query.to_owned(), what }
}
