//! Which of the records other servers read.
//!
//! Invariant: each segment is read once: here, or by one other server, or here because that one went
//! away.

use std::sync::Arc;

use futures::FutureExt as _;
use lodge_segment::predicate::Verdict;
use lodge_store::{SegmentRef, Snapshot};

use super::Source;
use crate::cluster::{Among, Part};
use crate::error::{QueryError, QueryErrorKind};

/// A source in parts.
#[derive(Debug)]
pub(super) struct Spread {
    /// What is read here.
    pub(super) own: Source,
    /// What others read.
    pub(super) parts: Vec<Part>,
}

impl Source {
    /// The same, of these segments alone, read here alone.
    pub(super) fn only(&self, mut segments: Vec<Arc<SegmentRef>>) -> Self {
        segments.sort_by_key(|segment| segment.id);
        let snapshot = Snapshot::of(self.snapshot.version, self.snapshot.tenant.clone(), segments);
        Self { snapshot: Arc::new(snapshot), among: None, ..self.clone() }
    }

    /// The servers that read it together, if it is worth their while. `counting`: as for
    /// [`Source::divide`].
    fn worth(&self, counting: bool) -> Option<&Arc<Among>> {
        let among = self.among.as_ref()?;
        let is_known = |verdict| counting && verdict == Verdict::All;
        let segments = self.segments();
        let read = segments.iter().filter(|(_, verdict)| !is_known(*verdict));
        let rows: u64 = read.map(|(segment, _)| segment.rows).sum();
        (rows >= among.rows_min).then_some(among)
    }

    /// Its parts by server; `None` where this one reads it alone.
    pub(super) fn spread(&self, counting: bool) -> Option<Spread> {
        let among = self.worth(counting)?;
        let segments = self.segments().into_iter().map(|(segment, _)| segment).collect();
        self.spread_of(among, segments)
    }

    /// How many servers read it, at most.
    pub(super) fn servers(&self, counting: bool) -> u64 {
        self.spread(counting).map_or(1, |spread| 1 + spread.parts.len() as u64)
    }

    fn spread_of(&self, among: &Arc<Among>, segments: Vec<Arc<SegmentRef>>) -> Option<Spread> {
        let (own, of_others) = among.divide(segments);
        let part = |(peer, segments)| {
            let (among, source) = (Arc::clone(among), self.only(segments));
            Part { among, peer, source }
        };
        let parts: Vec<Part> = of_others.into_iter().map(part).collect();
        (!parts.is_empty()).then(|| Spread { own: self.only(own), parts })
    }

    /// Its parts by server, each window of them to be read before the next one, of segments in the
    /// order of the best key that they can have; `None` where this one reads it alone.
    pub(super) fn windows(&self) -> Option<Windows> {
        let among = Arc::clone(self.worth(false)?);
        // What one server reads in the time that it takes to ask another.
        let rows = among.rows_min;
        Some(Windows { among, rows })
    }

    /// Reads what a server that went away should have read, by `again`. Where that fails, too, and the
    /// caller takes a part of an answer, it is marked.
    pub(super) async fn instead<T: Default>(
        &self,
        lost: QueryError,
        again: impl Future<Output = Result<T, QueryError>> + Send,
    ) -> Result<T, QueryError> {
        match again.boxed().await {
            Err(error) if error.kind() == QueryErrorKind::Internal => {
                let why = format!("{}; then here: {}", lost.message(), error.message());
                self.control.end_with(QueryError::internal(why))?;
                Ok(T::default())
            }
            done => done,
        }
    }
}

/// How a search for the first rows goes from window to window.
#[derive(Debug)]
pub(super) struct Windows {
    among: Arc<Among>,
    /// Records of the next window, about.
    rows: u64,
}

impl Windows {
    /// The segments of the next window, from the front of `left`. The first window is small: mostly it
    /// has all that is looked for.
    pub(super) fn take(&mut self, left: &mut Vec<Arc<SegmentRef>>) -> Vec<Arc<SegmentRef>> {
        let mut rows = 0;
        let mut count = 0;
        for segment in left.iter() {
            if count > 0 && rows >= self.rows {
                break;
            }
            rows += segment.rows;
            count += 1;
        }
        self.rows = self.rows.saturating_mul(4);
        left.drain(..count).collect()
    }

    /// The parts of a window by server.
    pub(super) fn spread(&self, source: &Source, window: Vec<Arc<SegmentRef>>) -> Spread {
        let alone = || Spread { own: source.only(window.clone()), parts: Vec::new() };
        let rows: u64 = window.iter().map(|segment| segment.rows).sum();
        if rows < self.among.rows_min {
            return alone();
        }
        source.spread_of(&self.among, window.clone()).unwrap_or_else(alone)
    }
}
