//! Request bodies on their way in: deadlines, memory, decompression.
//!
//! Invariants: a body that stalls or trickles ends with 408 and does not hold its place; what is
//! held of all bodies together is bounded by `insert_memory_bytes_max` and refused with 429 before
//! it is read; a compressed body is inflated piece by piece and never beyond `insert_bytes_max` or
//! [`EXPANSION_MAX`] times its size, so that a bomb costs what a plain body costs.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use lodge_ingest::{Share, Shares};
use lodge_record::TenantId;
use lodge_wire::encoding::{self, DecompressError, Encoding};
use tokio::sync::mpsc;

use crate::answer::ApiError;
use crate::app::{App, MEMORY_UNIT_BYTES};
use crate::limits::BODY_BYTES_PER_S_MIN;
use crate::metrics::{Limit, Metrics};

/// Most bytes out per byte in, once a body is large: logs compress 10 to 100 times.
const EXPANSION_MAX: u64 = 2_000;
/// Below this size nobody cares how well a body was compressed.
const EXPANSION_FREE_BYTES: u64 = 64 << 20;

/// Why a body could not be read whole.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum BodyError {
    /// Nothing, or next to nothing, came for too long.
    #[error("the body came too slowly: {0} bytes in {1:?}; send it faster or in smaller requests")]
    Slow(u64, Duration),
    /// The client is gone.
    #[error("the connection ended before the body did: {0}")]
    Broken(String),
    /// More than may be in one request.
    #[error(
        "the body is larger than {0} bytes after decompression (`insert_bytes_max`); \
         send it in several requests"
    )]
    TooLarge(u64),
    /// More than may be in a body that is taken whole.
    #[error("the body is larger than {0} bytes; send less in one request")]
    Beyond(u64),
    /// A decompression bomb.
    #[error(
        "the body expands more than {EXPANSION_MAX} times, as no log does; send it uncompressed"
    )]
    Bomb,
    /// The bytes are not what `Content-Encoding` says.
    #[error("the body is not valid {0}: {1}; check Content-Encoding")]
    Corrupt(Encoding, String),
    /// All the memory for inserts is in use.
    #[error(
        "too many inserts at once: their memory (`insert_memory_bytes_max`), or what one tenant may \
         have of it, is used up; try again"
    )]
    Memory,
}

impl BodyError {
    /// As an answer; counts the limit that was hit.
    pub(crate) fn into_answer(self, metrics: &Metrics) -> ApiError {
        let message = self.to_string();
        match self {
            Self::Slow(..) => {
                metrics.hit(Limit::SlowBody);
                ApiError::new(StatusCode::REQUEST_TIMEOUT, "slow_body", message)
            }
            Self::TooLarge(_) | Self::Beyond(_) | Self::Bomb => {
                metrics.hit(Limit::BodyBytes);
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
            }
            Self::Memory => {
                metrics.hit(Limit::InsertMemory);
                ApiError::overloaded(message, 1)
            }
            Self::Broken(_) => ApiError::bad_request(message),
            Self::Corrupt(..) => ApiError::new(StatusCode::BAD_REQUEST, "bad_encoding", message),
        }
    }

    /// The reason behind an I/O error that passed through a decoder.
    pub(crate) fn of_io(error: &io::Error, encoding: Encoding) -> Self {
        let own = error.get_ref().and_then(|e| e.downcast_ref::<Self>());
        own.cloned().unwrap_or_else(|| Self::Corrupt(encoding, error.to_string()))
    }
}

/// What `Content-Encoding` says.
pub(crate) fn encoding_of(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
    let value = value.to_str().unwrap_or("?");
    Encoding::from_header(value).ok_or_else(|| {
        ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content_encoding",
            format!(
                "Content-Encoding `{value}` is not one of gzip, deflate, zstd, snappy, identity"
            ),
        )
    })
}

/// Why a body that was taken whole could not be inflated, as an answer; counts the limit.
pub(crate) fn not_inflated(metrics: &Metrics, error: &DecompressError) -> ApiError {
    let (status, code) = match error {
        DecompressError::TooLarge { .. } => {
            metrics.hit(Limit::BodyBytes);
            (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
        }
        DecompressError::Damaged { .. } => (StatusCode::BAD_REQUEST, "bad_encoding"),
    };
    ApiError::new(status, code, error.to_string())
}

/// A reader of the plain bytes behind `compressed`, which ends with an error at either cap.
pub(crate) fn plain_reader<R: Read + Send + 'static>(
    encoding: Encoding,
    compressed: R,
    bytes_max: u64,
) -> io::Result<Box<dyn Read + Send>> {
    let read = Arc::new(AtomicU64::new(0));
    let compressed = Counted { inner: compressed, read: read.clone() };
    let inner = encoding::reader(encoding, compressed)?;
    Ok(Box::new(Capped { inner, given: 0, read, bytes_max }))
}

/// Counts what is read of the compressed bytes.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Ends the plain bytes when they grow beyond their caps.
struct Capped {
    inner: Box<dyn Read + Send>,
    given: u64,
    read: Arc<AtomicU64>,
    bytes_max: u64,
}

impl Read for Capped {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.given += n as u64;
        if self.given > self.bytes_max {
            return Err(io::Error::other(BodyError::TooLarge(self.bytes_max)));
        }
        let read = self.read.load(Ordering::Relaxed);
        if self.given > EXPANSION_FREE_BYTES && self.given / EXPANSION_MAX > read {
            return Err(io::Error::other(BodyError::Bomb));
        }
        Ok(n)
    }
}

/// Frames of a large body that wait for the thread that decodes it.
const FRAMES_AHEAD: usize = 16;

/// Room is made for what a client announces, up to this; for more as it comes.
const ANNOUNCED_BYTES_MAX: usize = 4 << 20;

/// A body as it arrives, under deadlines.
pub(crate) struct Arriving {
    body: Body,
    received: u64,
    started: Instant,
    stall_time_max: Duration,
    ended: bool,
}

/// A client that is refused in the middle of its body often looks for the answer only after it sent
/// the rest: so much of it is taken and thrown away, for so long.
const DISCARDED_BYTES_MAX: usize = 64 << 20;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);

impl Drop for Arriving {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let body = std::mem::take(&mut self.body);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(DISCARD_TIME_MAX, discard(body)));
        }
    }
}

async fn discard(mut body: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > DISCARDED_BYTES_MAX {
            return;
        }
    }
}

impl Arriving {
    /// The body of a request.
    pub(crate) fn new(app: &App, body: Body) -> Self {
        let stall_time_max = app.config.stall_time_max;
        Self { body, received: 0, started: Instant::now(), stall_time_max, ended: false }
    }

    /// The next bytes, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        let elapsed = self.started.elapsed();
        let owed = elapsed.as_secs().saturating_mul(BODY_BYTES_PER_S_MIN);
        if elapsed > self.stall_time_max && self.received < owed {
            return Err(BodyError::Slow(self.received, elapsed));
        }
        self.next_within(self.stall_time_max).await
    }

    /// As [`Arriving::next`], of a body that may trickle and be silent for `time_max`.
    pub(crate) async fn next_within(
        &mut self,
        time_max: Duration,
    ) -> Result<Option<Bytes>, BodyError> {
        loop {
            let frame = tokio::time::timeout(time_max, self.body.frame());
            match frame.await {
                Err(_) => return Err(BodyError::Slow(self.received, self.started.elapsed())),
                Ok(None) => {
                    self.ended = true;
                    return Ok(None);
                }
                Ok(Some(Err(error))) => {
                    self.ended = true;
                    return Err(BodyError::Broken(error.to_string()));
                }
                Ok(Some(Ok(frame))) => {
                    // Trailers carry nothing for us.
                    if let Ok(data) = frame.into_data() {
                        self.received += data.len() as u64;
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Reads up to about `bytes_max`; true if the body ended within.
    pub(crate) async fn head(
        &mut self,
        bytes_max: usize,
        memory: &mut Reserved,
    ) -> Result<(Vec<Bytes>, bool), BodyError> {
        let mut head = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(data) = self.next().await? else { return Ok((head, true)) };
            bytes += data.len();
            memory.grow_to(bytes)?;
            head.push(data);
        }
        Ok((head, false))
    }

    /// A body that is taken whole, of at most `bytes_max`, in a buffer of its own: each frame is
    /// copied as it comes, so that the connection reads the next into the same place.
    pub(crate) async fn whole(
        mut self,
        bytes_max: usize,
        memory: &mut Reserved,
    ) -> Result<Bytes, BodyError> {
        let announced = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
        let mut whole = Vec::with_capacity(announced.min(bytes_max).min(ANNOUNCED_BYTES_MAX));
        while let Some(frame) = self.next().await? {
            if frame.len() > bytes_max - whole.len() {
                return Err(BodyError::Beyond(bytes_max as u64));
            }
            memory.grow_to(whole.len() + frame.len())?;
            whole.extend_from_slice(&frame);
        }
        Ok(whole.into())
    }

    /// The rest as a reader for a thread; the network is read ahead by a few frames.
    pub(crate) fn into_reader(mut self) -> Received {
        let (sender, frames) = mpsc::channel(FRAMES_AHEAD);
        tokio::spawn(async move {
            loop {
                let (frame, last) = match self.next().await {
                    Ok(Some(data)) => (Ok(data), false),
                    Ok(None) => return,
                    Err(error) => (Err(error), true),
                };
                // Nobody reads any more: the request was refused.
                if sender.send(frame).await.is_err() || last {
                    return;
                }
            }
        });
        Received { frames, now: Bytes::new() }
    }
}

/// A body's bytes on the thread that decodes them. Reading waits for the network.
pub(crate) struct Received {
    frames: mpsc::Receiver<Result<Bytes, BodyError>>,
    now: Bytes,
}

impl Received {
    /// Bytes that are there already.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { frames: mpsc::channel(1).1, now: bytes }
    }
}

impl Read for Received {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.frames.blocking_recv() {
                Some(Ok(frame)) => self.now = frame,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(0),
            }
        }
        let n = self.now.len().min(buf.len());
        let taken = self.now.split_to(n);
        buf.get_mut(..n).unwrap_or_default().copy_from_slice(&taken);
        Ok(n)
    }
}

/// A share of the memory for inserts; given back when dropped.
pub(crate) struct Reserved {
    budget: Shares,
    tenant: TenantId,
    held: Option<Share>,
    units: usize,
}

impl Reserved {
    /// Nothing yet, for a tenant.
    pub(crate) fn new(app: &App, tenant: &TenantId) -> Self {
        let budget = app.insert_memory.clone();
        Self { budget, tenant: tenant.clone(), held: None, units: 0 }
    }

    /// As [`Reserved::grow_to`], and waits for others to give back what is missing.
    pub(crate) async fn wait_for(
        &mut self,
        bytes: usize,
        time_max: Duration,
    ) -> Result<(), BodyError> {
        let units = bytes.div_ceil(MEMORY_UNIT_BYTES);
        let waiting = self.budget.take(&self.tenant, units.saturating_sub(self.units));
        let waited = tokio::time::timeout(time_max, waiting).await;
        let share = waited.map_err(|_| BodyError::Memory)?;
        self.hold(share, units);
        Ok(())
    }

    /// What is held, at least.
    pub(crate) fn bytes(&self) -> usize {
        self.units * MEMORY_UNIT_BYTES
    }

    /// Holds at least `bytes`, or says that there are not so many.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), BodyError> {
        let units = bytes.div_ceil(MEMORY_UNIT_BYTES);
        let Some(more) = units.checked_sub(self.units).filter(|more| *more > 0) else {
            return Ok(());
        };
        let share = self.budget.try_take(&self.tenant, more).ok_or(BodyError::Memory)?;
        self.hold(share, units);
        Ok(())
    }

    fn hold(&mut self, share: Share, units: usize) {
        match &mut self.held {
            Some(held) => held.merge(share),
            None => self.held = Some(share),
        }
        self.units = self.units.max(units);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write as _;

    fn read(encoding: Encoding, bytes: Vec<u8>, bytes_max: u64) -> Result<usize, BodyError> {
        let mut reader = plain_reader(encoding, io::Cursor::new(bytes), bytes_max).unwrap();
        let mut sink = io::sink();
        io::copy(&mut reader, &mut sink)
            .map(|n| usize::try_from(n).unwrap())
            .map_err(|e| BodyError::of_io(&e, encoding))
    }

    #[test]
    fn every_encoding_is_read_and_capped() {
        let plain = vec![b'a'; 100_000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&plain).unwrap();
        let mut snappy = snap::write::FrameEncoder::new(Vec::new());
        snappy.write_all(&plain).unwrap();
        for (encoding, bytes) in [
            (Encoding::Identity, plain.clone()),
            (Encoding::Gzip, gzip.finish().unwrap()),
            (Encoding::Deflate, zlib.finish().unwrap()),
            (Encoding::Zstd, zstd::encode_all(plain.as_slice(), 1).unwrap()),
            (Encoding::Snappy, snappy.into_inner().unwrap()),
        ] {
            assert_eq!(read(encoding, bytes.clone(), 100_000).unwrap(), 100_000);
            assert!(matches!(read(encoding, bytes.clone(), 99_999), Err(BodyError::TooLarge(_))));
            if encoding != Encoding::Identity {
                let half = bytes[..bytes.len() / 2].to_vec();
                assert!(matches!(read(encoding, half, 1 << 20), Err(BodyError::Corrupt(..))));
            }
        }
    }

    #[test]
    fn a_bomb_is_told_by_how_it_expands() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        let block = vec![0u8; 1 << 20];
        for _ in 0..200 {
            encoder.write_all(&block).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 100_000, "{}", bomb.len());
        assert!(matches!(read(Encoding::Zstd, bomb, 1 << 40), Err(BodyError::Bomb)));
    }
}
