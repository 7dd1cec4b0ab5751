//! Places for HTTP connections, and who gives one up when there are no more.
//!
//! Invariants: at most `connections_max` are taken. Who comes when all are taken waits only while
//! all of them are at work or just came: else a connection that does nothing has to leave, first of
//! those that never asked for anything the one that has been there longest, then of the others the
//! one that has been silent longest. Who asks again and again keeps its connection, and while those
//! that never asked are many nobody else leaves. A connection is at work from the head of a request
//! to the last byte of its answer.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::metrics::{Limit, Metrics};

/// How long one that was asked to leave may take before another one is asked, too: with more, some
/// that leave slowly and come again would keep all others waiting.
const LEAVE_TIME_MAX: Duration = Duration::from_millis(5);
/// How long a connection is left alone when it does nothing: one that asked before, and one that is
/// new, whose request is on its way.
const SILENT_MIN: Duration = Duration::from_secs(1);
const NEW_MIN: Duration = Duration::from_millis(500);
/// Those that never asked are many when they have more than one of so many places.
const MANY: usize = 4;

/// All places.
pub(crate) struct Places {
    number: usize,
    free: Arc<Semaphore>,
    begun: Instant,
    next_number: AtomicU64,
    taken: Mutex<HashMap<u64, Arc<Guest>>>,
}

/// Who has a place.
struct Guest {
    /// Requests that are at work.
    busy: AtomicUsize,
    /// Whether there was any request.
    is_known: AtomicBool,
    /// Since when it does nothing, in microseconds since the places are there.
    idle_since_us: AtomicU64,
    leave: CancellationToken,
}

impl Places {
    /// So many places.
    pub(crate) fn new(number: usize) -> Arc<Self> {
        Arc::new(Self {
            number,
            free: Arc::new(Semaphore::new(number)),
            begun: Instant::now(),
            next_number: AtomicU64::new(0),
            taken: Mutex::new(HashMap::new()),
        })
    }

    /// Takes a place, somebody else's if it must be.
    pub(crate) async fn take(self: &Arc<Self>, metrics: &Metrics) -> Option<Place> {
        let permit = match self.free.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                metrics.hit(Limit::Connections);
                self.wait().await?
            }
        };
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let guest = Arc::new(Guest {
            busy: AtomicUsize::new(0),
            is_known: AtomicBool::new(false),
            idle_since_us: AtomicU64::new(self.now_us()),
            leave: CancellationToken::new(),
        });
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(number, guest.clone());
        Some(Place { places: self.clone(), guest, number, _permit: permit })
    }

    async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            self.ask_one_to_leave();
            let place = self.free.clone().acquire_owned();
            if let Ok(place) = tokio::time::timeout(LEAVE_TIME_MAX, place).await {
                return place.ok();
            }
        }
    }

    fn ask_one_to_leave(&self) {
        let now_us = self.now_us();
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut new, mut oldest_new, mut most_silent) = (0, None, None);
        for guest in taken.values() {
            if guest.busy.load(Ordering::Acquire) > 0 || guest.leave.is_cancelled() {
                continue;
            }
            let is_known = guest.is_known.load(Ordering::Relaxed);
            new += usize::from(!is_known);
            let (least, longest) = match is_known {
                true => (SILENT_MIN, &mut most_silent),
                false => (NEW_MIN, &mut oldest_new),
            };
            let since_us = guest.idle_since_us.load(Ordering::Relaxed);
            let is_long = u128::from(now_us.saturating_sub(since_us)) >= least.as_micros();
            if is_long && longest.is_none_or(|(known, _)| since_us < known) {
                *longest = Some((since_us, guest));
            }
        }
        let most_silent = most_silent.filter(|_| new * MANY <= self.number);
        if let Some((_, guest)) = oldest_new.or(most_silent) {
            guest.leave.cancel();
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A connection's place; given back when it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    guest: Arc<Guest>,
    number: u64,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Returns when the connection has to leave because others want its place.
    pub(crate) async fn is_wanted(&self) {
        self.guest.leave.cancelled().await;
    }

    /// Whether a request is at work.
    pub(crate) fn is_busy(&self) -> bool {
        self.guest.busy.load(Ordering::Acquire) > 0
    }

    /// Whether there was any request.
    pub(crate) fn is_known(&self) -> bool {
        self.guest.is_known.load(Ordering::Relaxed)
    }

    /// A request begins; it ends when what is given back is dropped.
    pub(crate) fn begin(&self) -> Working {
        self.guest.is_known.store(true, Ordering::Relaxed);
        self.guest.busy.fetch_add(1, Ordering::AcqRel);
        Working { places: self.places.clone(), guest: self.guest.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.number);
    }
}

/// A request at work.
pub(crate) struct Working {
    places: Arc<Places>,
    guest: Arc<Guest>,
}

impl Working {
    /// A body that is at work until it is sent.
    pub(crate) fn until_sent(self, body: Body) -> Body {
        Body::new(Sending { body, _working: self })
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.guest.idle_since_us.store(self.places.now_us(), Ordering::Relaxed);
        self.guest.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The body of an answer on its way.
struct Sending {
    body: Body,
    _working: Working,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_never_asked_leaves_first_and_who_works_stays() {
        let (places, metrics) = (Places::new(4), Metrics::new());
        let take = async || places.take(&metrics).await.expect("a place");
        let (worker, asked_first, asked_last) = (take().await, take().await, take().await);
        let working = worker.begin();
        drop(asked_first.begin());
        tokio::time::sleep(Duration::from_millis(2)).await;
        drop(asked_last.begin());
        let silent = take().await;
        for (number, leaving) in [silent, asked_first, asked_last].into_iter().enumerate() {
            let new = tokio::spawn({
                let (places, metrics) = (places.clone(), Metrics::new());
                async move { places.take(&metrics).await }
            });
            let wanted = tokio::time::timeout(Duration::from_secs(5), leaving.is_wanted()).await;
            assert!(wanted.is_ok(), "{number}");
            drop(leaving);
            // Whoever is new works at once.
            let new = new.await.expect("taken").expect("a place");
            std::mem::forget(new.begin());
            std::mem::forget(new);
        }
        let waits = tokio::time::timeout(SILENT_MIN * 2, places.take(&metrics)).await;
        assert!(waits.is_err(), "all are at work");
        assert!(!worker.guest.leave.is_cancelled());
        drop((working, worker));
        places.take(&metrics).await.expect("a place");
    }
}
