//! `/select/logsql/tail`: committed records as they arrive.
//!
//! Invariants: a tail only listens, so it can never hold ingest up; a client that is too slow for
//! the stream of commits skips some, and a row in its answer and a metric say how many; a record is
//! shown when it is durable, never before. The tail ends when the server begins to stop. Of several
//! servers over one catalog each shows what any of them took in.
//!
//! With `start_offset` the newest records of that time come first. The subscription begins before
//! that query, so nothing falls between; what both deliver is shown once, told by its text.
//!
//! With `offset` records are shown so much later than their times, and in the order of these: what comes
//! late, by less than that, finds its place.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, header};
use lodge_ingest::{Commits, CommittedRecords};
use lodge_query::TailQuery;
use lodge_record::{TenantId, field, time};
use tokio::sync::broadcast::error::RecvError;

use crate::answer::ApiError;
use crate::app::{App, OpenTail, now_ns};
use crate::args::Args;
use crate::batches::refused;
use crate::identity::Identity;
use crate::limits::{
    ROWS_PER_PIECE, TAIL_DELAYED_BYTES_MAX, TAIL_HISTORY_ROWS_MAX, TAIL_OFFSET_MAX,
    TAIL_REFRESH_MAX,
};
use crate::metrics::Limit;
use crate::question::Question;

struct Tail {
    app: Arc<App>,
    _open: OpenTail,
    tenant: TenantId,
    filter: Arc<TailQuery>,
    commits: Commits,
    /// Earlier rows, oldest first, to send before anything else.
    history: Vec<Bytes>,
    /// Lines of the history that commits which came meanwhile may bring again.
    seen: HashMap<Vec<u8>, usize>,
    /// How many of the waiting commits may hold such lines.
    overlapping: usize,
    /// The shortest time between two pieces of the answer.
    refresh: Duration,
    /// How much later records are shown.
    delay: Duration,
    delayed: Delayed,
}

/// Lines that wait to be shown, by the moment of that (nanoseconds since 1970) and the order in which
/// they came.
#[derive(Default)]
struct Delayed {
    lines: BTreeMap<(i64, u64), Vec<u8>>,
    bytes: usize,
    came: u64,
}

impl Delayed {
    fn push(&mut self, due_ns: i64, line: Vec<u8>) {
        self.came += 1;
        self.bytes += line.len();
        self.lines.insert((due_ns, self.came), line);
    }

    /// How long until something is to be shown, if anything waits.
    fn wait(&self, now_ns: i64) -> Option<Duration> {
        let ((due_ns, _), _) = self.lines.first_key_value()?;
        let left = due_ns.saturating_sub(now_ns).max(0);
        Some(Duration::from_nanos(left.unsigned_abs()))
    }

    /// Takes out what is due.
    fn take_due(&mut self, now_ns: i64, out: &mut Vec<u8>) {
        while let Some(entry) = self.lines.first_entry().filter(|entry| entry.key().0 <= now_ns) {
            let line = entry.remove();
            self.bytes = self.bytes.saturating_sub(line.len());
            out.extend_from_slice(&line);
        }
    }
}

/// The endpoint.
pub(crate) async fn tail(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let question = Question::of(&app, &identity, &args)?;
    let refresh_ns = args.duration_ns("refresh_interval")?.unwrap_or(0).max(0);
    let start_offset_ns = args.duration_ns("start_offset")?.unwrap_or(0).max(0);
    let delay = delay(&args)?;
    let filter = app.engine.tail(&question.view, &question.query, question.now_ns);
    let filter = filter.map_err(|e| app.query_failed(&e))?;
    let open = app.begin_tail()?;
    let commits = app.ingest.subscribe(&question.view.tenant).await;
    let commits = commits.map_err(|e| refused(&app, &e, None))?;
    let mut tail = Tail {
        tenant: question.view.tenant.clone(),
        filter: Arc::new(filter),
        commits,
        history: Vec::new(),
        seen: HashMap::new(),
        overlapping: 0,
        refresh: Duration::from_nanos(refresh_ns.unsigned_abs()).min(TAIL_REFRESH_MAX),
        delay,
        delayed: Delayed::default(),
        _open: open,
        app: app.clone(),
    };
    if start_offset_ns > 0 {
        tail.load_history(question, start_offset_ns).await?;
    }
    let stopping = app.stopping.clone();
    let rows = futures::stream::try_unfold(tail, Tail::step);
    let body = Body::from_stream(rows.take_until(stopping.cancelled_owned()));
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// `offset`: without it nothing is waited for, as records are shown when they are durable.
fn delay(args: &Args) -> Result<Duration, ApiError> {
    let ns = args.duration_ns("offset")?.unwrap_or(0);
    let delay = u64::try_from(ns).ok().map(Duration::from_nanos);
    delay.filter(|delay| *delay <= TAIL_OFFSET_MAX).ok_or_else(|| {
        let most = TAIL_OFFSET_MAX.as_secs();
        ApiError::bad_request(format!("the argument `offset`: it is from 0s to {most}s"))
    })
}

/// The time of a record by its line; without one it comes first.
fn time_of(line: &[u8]) -> i64 {
    #[derive(serde::Deserialize)]
    struct Timed {
        _time: String,
    }
    let timed: Option<Timed> = serde_json::from_slice(line).ok();
    timed.and_then(|timed| time::parse(&timed._time)).unwrap_or(i64::MIN)
}

impl Tail {
    async fn load_history(
        &mut self,
        mut question: Question,
        start_offset_ns: i64,
    ) -> Result<(), ApiError> {
        let _running = self.app.begin_query(&question.view.tenant, "/select/logsql/tail").await?;
        let start_ns = now_ns().saturating_sub(start_offset_ns);
        question.start_ns = Some(question.start_ns.unwrap_or(i64::MIN).max(start_ns));
        let request = question.rows(Some(TAIL_HISTORY_ROWS_MAX), None);
        let failed = |e| self.app.query_failed(&e);
        let mut newest_first = self.app.engine.logsql(request).await.map_err(failed)?;
        let mut lines: Vec<Vec<u8>> = Vec::new();
        while let Some(batch) = newest_first.next().await {
            let mut text = Vec::new();
            lodge_wire::json_rows::write_rows(&batch.map_err(failed)?, &mut text);
            lines.extend(text.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec));
        }
        lines.reverse();
        self.history.push(lines.concat().into());
        for line in lines {
            *self.seen.entry(line).or_default() += 1;
        }
        // Whatever the history has is either shown no more, or waits now.
        let caught_up = self.app.ingest.catch_up(&self.tenant).await;
        caught_up.map_err(|e| refused(&self.app, &e, None))?;
        self.overlapping = self.commits.waiting();
        Ok(())
    }

    /// The next piece of the answer.
    async fn step(mut self) -> io::Result<Option<(Bytes, Self)>> {
        if let Some(history) = self.history.pop().filter(|h| !h.is_empty()) {
            return Ok(Some((history, self)));
        }
        if !self.refresh.is_zero() {
            tokio::time::sleep(self.refresh).await;
        }
        loop {
            let mut out = Vec::new();
            let wait = self.delayed.wait(now_ns());
            tokio::select! {
                commit = self.commits.recv() => match commit {
                    Ok(commit) => self.show(&commit, &mut out).await?,
                    Err(RecvError::Lagged(missed)) => self.tell_lag(missed, &mut out)?,
                    Err(RecvError::Closed) => return Ok(None),
                },
                () = async {
                    match wait {
                        Some(wait) => tokio::time::sleep(wait).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
            self.delayed.take_due(now_ns(), &mut out);
            if !out.is_empty() {
                return Ok(Some((out.into(), self)));
            }
        }
    }

    async fn show(&mut self, commit: &Arc<CommittedRecords>, out: &mut Vec<u8>) -> io::Result<()> {
        let overlaps = self.overlapping > 0;
        self.overlapping = self.overlapping.saturating_sub(1);
        if commit.missed_before > 0 {
            self.tell_missed(commit.missed_before, "records", out)?;
        }
        if commit.tenant == self.tenant {
            for records in &commit.records {
                let text = self.matching(records.clone()).await?;
                match self.delay.is_zero() {
                    true => self.append(&text, overlaps, out),
                    false => {
                        let mut shown = Vec::new();
                        self.append(&text, overlaps, &mut shown);
                        self.delay_lines(&shown, out)?;
                    }
                }
            }
        }
        if self.overlapping == 0 {
            self.seen = HashMap::new();
        }
        Ok(())
    }

    /// The lines of the records that match. A commit can be large: this is work for a thread.
    async fn matching(&self, records: RecordBatch) -> io::Result<Vec<u8>> {
        let filter = self.filter.clone();
        let now_ns = now_ns();
        let work = tokio::task::spawn_blocking(move || {
            let filter = filter.at(now_ns)?;
            let mut text = Vec::new();
            let mut from = 0;
            while from < records.num_rows() {
                let rows = ROWS_PER_PIECE.min(records.num_rows() - from);
                let found = filter.apply(&records.slice(from, rows))?;
                lodge_wire::json_rows::write_rows(&found, &mut text);
                from += rows;
            }
            Ok::<_, lodge_query::QueryError>(text)
        });
        let done = work.await.map_err(io::Error::other)?;
        done.inspect_err(|error| tracing::warn!(%error, "a live tail failed"))
            .map_err(io::Error::other)
    }

    /// Keeps lines until they are to be shown; those that there is no room for are skipped, and a row
    /// says how many.
    fn delay_lines(&mut self, text: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let (now_ns, delay_ns) = (now_ns(), self.delay.as_nanos() as i64);
        let mut missed = 0;
        for line in text.split_inclusive(|b| *b == b'\n') {
            if self.delayed.bytes.saturating_add(line.len()) > TAIL_DELAYED_BYTES_MAX {
                missed += 1;
                continue;
            }
            // A record of the future is not kept until then.
            let due_ns = time_of(line).min(now_ns).saturating_add(delay_ns);
            self.delayed.push(due_ns, line.to_vec());
        }
        if missed > 0 { self.tell_missed(missed, "records", out) } else { Ok(()) }
    }

    fn append(&mut self, text: &[u8], overlaps: bool, out: &mut Vec<u8>) {
        if !overlaps || self.seen.is_empty() {
            out.extend_from_slice(text);
            return;
        }
        for line in text.split_inclusive(|b| *b == b'\n') {
            match self.seen.get_mut(line) {
                Some(times) if *times > 0 => *times -= 1,
                _ => out.extend_from_slice(line),
            }
        }
    }

    fn tell_lag(&mut self, missed: u64, out: &mut Vec<u8>) -> io::Result<()> {
        self.app.metrics.tail_missed.inc_by(missed);
        self.overlapping = self.overlapping.saturating_sub(usize::try_from(missed).unwrap_or(0));
        self.tell_missed(missed, "commits", out)
    }

    /// A row of our own, in the shape of the others.
    fn tell_missed(&self, missed: u64, what: &str, out: &mut Vec<u8>) -> io::Result<()> {
        self.app.metrics.hit(Limit::TailLag);
        let row = serde_json::json!({
            field::TIME: time::format(now_ns()),
            field::STREAM: "{}",
            field::MSG: format!(
                "live tail: {missed} {what} came faster than they could be sent and were \
                 skipped; narrow the query, or read them with /select/logsql/query"
            ),
            "lodge.missed": missed.to_string(),
        });
        serde_json::to_writer(&mut *out, &row)?;
        out.push(b'\n');
        Ok(())
    }
}
