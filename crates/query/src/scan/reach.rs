//! What a query may read, whatever queries there are within it.
//!
//! Invariant: no part of a query sees a record that its view does not show.

use lodge_segment::predicate::Predicate;

use crate::logsql::{Pipe, Query};

/// The records that a query may read.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Those that its view shows.
    view: Predicate,
    /// First and last moment that the request asks about; `None` if it asks about no time.
    range: Option<(i64, i64)>,
}

impl Reach {
    pub(crate) fn new(view: Predicate, range: Option<(i64, i64)>) -> Self {
        Self { view, range }
    }

    /// What `query` reads, the queries within it aside.
    pub(crate) fn bounded(&self, query: &Query) -> Predicate {
        let seen = || Predicate::and([self.view.clone(), query.predicate.clone()]);
        match self.range {
            _ if query.options.ignore_global_time_filter => seen(),
            Some((first, last)) => seen().within(first, last),
            None => Predicate::None,
        }
    }

    pub(super) fn view(&self) -> &Predicate {
        &self.view
    }

    /// The smallest range of time (both ends included) outside which neither `query` nor a query
    /// within it reads anything.
    pub(crate) fn time_bounds(&self, query: &Query) -> Option<(i64, i64)> {
        let own = self.bounded(query).time_bounds();
        let own = own.map(|(first, last)| match query.pipes.first() {
            Some(Pipe::StreamContext(context)) => {
                let window_ns = context.window_ns;
                (first.saturating_sub(window_ns), last.saturating_add(window_ns))
            }
            _ => (first, last),
        });
        let inner = query.pipes.iter().filter_map(Pipe::inner);
        let bounds = inner.filter_map(|query| self.time_bounds(query)).chain(own);
        bounds.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}
