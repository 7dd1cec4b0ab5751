//! Requests that come twice: clients that retry after a lost answer are stored once, if they say
//! which request it is (`Idempotency-Key`), or if equal requests are taken for repeats on their
//! listener (`suppress_repeats`).
//!
//! A request is a producer of its own, and its pieces are the producer's batches: the same
//! transaction that stores a piece remembers it, so that a repeat is recognised by whichever server
//! and after whatever crash. It is best effort all the same: a request is forgotten after
//! [`REMEMBERED`], and beyond [`REQUESTS_MAX`] new ones are not remembered.
//!
//! Invariants: requests of different tenants, routes or clients' keys are never taken for each
//! other; what is suppressed is counted as a duplicate batch.

use std::time::Duration;

use http::HeaderMap;
use http::request::Parts;
use lodge_record::{Batch, Origin, ProducerId};

use crate::answer::ApiError;
use crate::app::{App, now_ns};
use crate::identity::{Identity, Peer};
use crate::metrics::Limit;

/// How long a request is remembered: longer than any client retries that was not restarted.
const REMEMBERED: Duration = Duration::from_secs(3_600);
/// Requests remembered at once, of all tenants: about 100 bytes each in the catalog.
const REQUESTS_MAX: u64 = 2_000_000;
/// Longest key of a client.
const KEY_BYTES_MAX: usize = 255;
const HEADER: &str = "idempotency-key";

/// What makes a request the same as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestId(Option<ProducerId>);

/// How a request may be known again.
#[derive(Debug, Clone)]
pub(crate) enum Repeats {
    /// Each is stored.
    Stored,
    /// By the client's key.
    Keyed(RequestId),
    /// By its content: where it goes, to be completed by what it is.
    Equal(Vec<u8>),
}

impl Repeats {
    /// How the request with this head is known.
    ///
    /// # Errors
    /// If its key is empty, too long or not text.
    pub(crate) fn of(app: &App, head: &Parts, identity: &Identity) -> Result<Self, ApiError> {
        let key = key(&head.headers)?;
        let listener = head.extensions.get::<Peer>().map_or("", |peer| peer.listener);
        let is_suppressed = || app.config.suppress_repeats.iter().any(|name| name == listener);
        if key.is_none() && !is_suppressed() {
            return Ok(Self::Stored);
        }
        if app.store.stats().remembered_requests >= REQUESTS_MAX {
            app.metrics.hit(Limit::Requests);
            return Ok(Self::Stored);
        }
        let tenant = identity.tenant().as_str().as_bytes();
        let path = head.uri.path().as_bytes();
        Ok(match key {
            Some(key) => {
                let id = ProducerId::derive(&[b"request", tenant, path, key.as_bytes()]);
                Self::Keyed(RequestId(Some(id)))
            }
            None => {
                let query = head.uri.query().unwrap_or_default().as_bytes();
                let place = ProducerId::derive(&[b"content", tenant, path, query]);
                Self::Equal(place.to_bytes().to_vec())
            }
        })
    }

    /// Whether the content has to be looked at.
    pub(crate) fn needs_content(&self) -> bool {
        matches!(self, Self::Equal(_))
    }

    /// The identity of a request whose content is not held as a whole: only a key tells it.
    pub(crate) fn of_stream(&self) -> RequestId {
        match self {
            Self::Keyed(id) => *id,
            Self::Stored | Self::Equal(_) => RequestId::NONE,
        }
    }

    /// The identity of the request, now that its content is known.
    pub(crate) fn of_content(&self, content: &[u8]) -> RequestId {
        match self {
            Self::Stored => RequestId::NONE,
            Self::Keyed(id) => *id,
            Self::Equal(place) => RequestId(Some(ProducerId::derive(&[place, content]))),
        }
    }
}

impl RequestId {
    /// Of a request that is stored however often it comes.
    pub(crate) const NONE: Self = Self(None);

    /// Marks the piece number `piece` (from 0) of the request.
    pub(crate) fn mark(self, batch: &mut Batch, piece: u64) {
        let Some(producer) = self.0 else { return };
        batch.origin = Some(Origin { producer, epoch: 1, seq: piece.saturating_add(1) });
        let lasts_ms = i64::try_from(REMEMBERED.as_millis()).unwrap_or(i64::MAX);
        batch.forget_ms = Some((now_ns() / 1_000_000).saturating_add(lasts_ms));
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    match value.to_str().map(str::trim) {
        Ok(text) if (1..=KEY_BYTES_MAX).contains(&text.len()) => Ok(Some(text.to_owned())),
        _ => Err(ApiError::bad_request(format!(
            "Idempotency-Key has to be a text of 1 to {KEY_BYTES_MAX} characters"
        ))),
    }
}
