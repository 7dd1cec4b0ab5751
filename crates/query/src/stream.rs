//! The rows of an answer, as they are found.
//!
//! Invariant: dropping the stream stops the work behind it; nothing runs on for nobody.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::{Future, Stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::budget::QueryControl;
use crate::engine::AbortOnDrop;
use crate::error::QueryError;

/// What the query's task hands on.
#[derive(Debug)]
pub(crate) enum Step {
    /// More rows, or why there are none.
    Item(Result<RecordBatch, QueryError>),
    /// That was all. A task that goes without a word has not given all.
    End,
}

/// The beginning of an answer: what it looks like, and what there was of it at once. They go together,
/// so that a small answer takes one change of threads.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) schema: SchemaRef,
    pub(crate) steps: VecDeque<Step>,
}

/// A stream of record batches, all of one [schema](QueryStream::schema).
///
/// An error is the last item. Dropping the stream cancels the query.
#[derive(Debug)]
pub struct QueryStream {
    schema: SchemaRef,
    batches: mpsc::Receiver<Step>,
    driver: Option<AbortOnDrop>,
    control: Arc<QueryControl>,
    deadline: Pin<Box<Sleep>>,
    ended: bool,
    /// What is here already, to be given next.
    ahead: VecDeque<Step>,
}

impl QueryStream {
    pub(crate) fn new(
        beginning: Beginning,
        batches: mpsc::Receiver<Step>,
        driver: AbortOnDrop,
        control: Arc<QueryControl>,
    ) -> Self {
        let deadline = Box::pin(sleep_until(Instant::from_std(control.hard_deadline())));
        let Beginning { schema, steps: ahead } = beginning;
        Self { schema, batches, driver: Some(driver), control, deadline, ended: false, ahead }
    }

    /// Columns of every batch.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// After the end: which budget was used up before all was read, if the answer is incomplete.
    pub fn partial(&self) -> Option<QueryError> {
        self.control.partial().cloned()
    }

    /// The error that comes next, if the next thing is an error.
    pub(crate) fn next_error(&self) -> Option<&QueryError> {
        match self.ahead.front() {
            Some(Step::Item(item)) => item.as_ref().err(),
            _ => None,
        }
    }

    /// All rows at once; for answers known to be small.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, QueryError> {
        let mut all = Vec::new();
        while let Some(batch) = futures::StreamExt::next(&mut self).await {
            all.push(batch?);
        }
        Ok(all)
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = match self.ahead.pop_front() {
            Some(step) => Poll::Ready(Some(step)),
            None => self.batches.poll_recv(cx),
        };
        let item = match next {
            Poll::Ready(Some(Step::Item(item))) => Some(item),
            Poll::Ready(Some(Step::End)) => None,
            Poll::Ready(None) => {
                Some(Err(QueryError::internal("the query's task ended without an answer")))
            }
            Poll::Pending => match self.deadline.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => self.control.overdue().map(Err),
            },
        };
        if !matches!(item, Some(Ok(_))) {
            self.ended = true;
            self.driver = None;
        }
        Poll::Ready(item)
    }
}
