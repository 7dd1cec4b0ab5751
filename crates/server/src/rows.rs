//! A query's rows as a streamed answer.
//!
//! Invariants: rows are pulled from the query only as fast as the client takes them; dropping the
//! body cancels the query; what fails before the first bytes are sent is a proper error status; what
//! fails later cuts the connection, so that no client can take a broken answer for a whole one
//! (answers in lines get a last line that says why).
//!
//! A small answer that is there at once is sent as one piece with its length.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderName, HeaderValue, header};
use lodge_query::QueryStream;

use crate::answer::ApiError;
use crate::app::{App, Running};
use crate::encode::{EncodeError, Encoder, Format};
use crate::limits::ROWS_PER_PIECE;

/// Header with the time from the query's arrival to the first byte of its answer.
pub(crate) const DURATION_HEADER: HeaderName =
    HeaderName::from_static("vl-request-duration-seconds");

/// Rows, and bytes of a batch, that are encoded where they are.
const INLINE_ROWS_MAX: usize = 256;
const INLINE_BYTES_MAX: usize = 1 << 20;
/// An answer of so many bytes that is there at once is sent as one piece.
const WHOLE_BYTES_MAX: usize = 64 << 10;
/// So long more rows are waited for before the first are sent.
const WHOLE_WAIT: Duration = Duration::from_millis(2);

struct Sending {
    app: Arc<App>,
    running: Running,
    stream: QueryStream,
    format: Format,
    /// Bytes that are encoded already.
    head: Vec<u8>,
    /// Gone once the end is written.
    encoder: Option<Encoder>,
    /// Rows that came from the query and are not sent yet.
    rest: Option<RecordBatch>,
    /// Set when the last line of a failed answer is out: the connection ends next.
    failed: Option<String>,
}

/// Answers with the rows of `stream`; `file` makes a browser save them under that name.
pub(crate) async fn answer(
    app: Arc<App>,
    running: Running,
    stream: QueryStream,
    format: Format,
    file: Option<&str>,
) -> Result<Response, ApiError> {
    let encoder =
        Encoder::new(format, &stream.schema()).map_err(|e| ApiError::bad_request(e.to_string()))?;
    let mut sending = Sending {
        app,
        running,
        stream,
        format,
        head: Vec::new(),
        encoder: Some(encoder),
        rest: None,
        failed: None,
    };
    sending.begin().await?;
    let seconds = sending.running.elapsed().as_secs_f64();
    let body = match &sending.encoder {
        None => Body::from(std::mem::take(&mut sending.head)),
        Some(_) => Body::from_stream(futures::stream::try_unfold(sending, step)),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    if let Ok(value) = HeaderValue::from_str(&format!("{seconds:.6}")) {
        headers.insert(DURATION_HEADER, value);
    }
    if let Some(name) = file {
        let text = format!("attachment; filename=\"{name}.{}\"", format.suffix());
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(header::CONTENT_DISPOSITION, value);
        }
    }
    Ok(response)
}

impl Sending {
    /// After the end: what is said of an answer that a budget cut short.
    fn partial(&self) -> Option<String> {
        self.stream.partial().map(|excess| self.app.partial_answer(&excess))
    }

    /// Encodes what comes at once while it is little; without an encoder afterwards the answer is
    /// whole.
    async fn begin(&mut self) -> Result<(), ApiError> {
        let mut next = self.stream.next().await;
        let mut rows = 0;
        loop {
            let batch = next.transpose().map_err(|e| self.app.query_failed(&e))?;
            let cannot = |error: EncodeError| {
                tracing::error!(%error, "rows could not be encoded");
                ApiError::internal(error.to_string())
            };
            let Some(batch) = batch else {
                let partial = self.partial();
                if let Some(encoder) = self.encoder.take() {
                    encoder.finish(partial.as_deref(), &mut self.head).map_err(cannot)?;
                }
                return Ok(());
            };
            let Some(encoder) = self.encoder.as_mut().filter(|_| is_small(&batch)) else {
                self.rest = Some(batch);
                return Ok(());
            };
            encoder.batch(&batch, &mut self.head).map_err(cannot)?;
            rows += batch.num_rows();
            if self.head.len() > WHOLE_BYTES_MAX || rows > INLINE_ROWS_MAX {
                return Ok(());
            }
            match tokio::time::timeout(WHOLE_WAIT, self.stream.next()).await {
                Ok(more) => next = more,
                // What takes longer is not kept waiting for.
                Err(_) => return Ok(()),
            }
        }
    }
}

/// Whether a batch is encoded faster than handed to another thread.
fn is_small(batch: &RecordBatch) -> bool {
    batch.num_rows() <= INLINE_ROWS_MAX && batch.get_array_memory_size() <= INLINE_BYTES_MAX
}

/// The next bytes of the answer.
async fn step(mut s: Sending) -> io::Result<Option<(Bytes, Sending)>> {
    if let Some(reason) = s.failed.take() {
        return Err(io::Error::other(reason));
    }
    if !s.head.is_empty() {
        let head = Bytes::from(std::mem::take(&mut s.head));
        return Ok(Some((head, s)));
    }
    loop {
        let Some(encoder) = s.encoder.take() else { return Ok(None) };
        let batch = match s.rest.take() {
            Some(batch) => batch,
            None => match s.stream.next().await {
                Some(Ok(batch)) => batch,
                Some(Err(error)) => {
                    let error = s.app.query_failed(&error);
                    return fail(s, error);
                }
                None => {
                    let partial = s.partial();
                    let bytes = finish(encoder, partial).await?;
                    return Ok(Some((bytes, s)));
                }
            },
        };
        let rows = batch.num_rows().min(ROWS_PER_PIECE);
        if rows < batch.num_rows() {
            s.rest = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        let (encoder, bytes) = encode(encoder, batch.slice(0, rows)).await?;
        s.encoder = Some(encoder);
        // A Parquet row group or an empty batch yields nothing yet.
        if !bytes.is_empty() {
            return Ok(Some((bytes, s)));
        }
    }
}

fn fail(mut s: Sending, error: ApiError) -> io::Result<Option<(Bytes, Sending)>> {
    let reason = error.message().to_owned();
    tracing::warn!(
        error = %reason,
        after_s = s.running.elapsed().as_secs_f64(),
        "a query failed after its first rows were sent; the connection is cut"
    );
    if !s.format.is_lines() {
        return Err(io::Error::other(reason));
    }
    let json = error.json();
    s.failed = Some(reason);
    Ok(Some((Bytes::from(format!("{json}\n")), s)))
}

/// Encoding is work, not waiting: it goes to the threads for that, a piece at a time.
async fn encode(encoder: Encoder, piece: RecordBatch) -> io::Result<(Encoder, Bytes)> {
    let work = tokio::task::spawn_blocking(move || {
        let mut encoder = encoder;
        let mut out = Vec::new();
        encoder.batch(&piece, &mut out).map(|()| (encoder, Bytes::from(out)))
    });
    settle(work.await)
}

async fn finish(encoder: Encoder, partial: Option<String>) -> io::Result<Bytes> {
    let work = tokio::task::spawn_blocking(move || {
        let mut out = Vec::new();
        encoder.finish(partial.as_deref(), &mut out).map(|()| Bytes::from(out))
    });
    settle(work.await)
}

fn settle<T>(done: Result<Result<T, EncodeError>, tokio::task::JoinError>) -> io::Result<T> {
    match done {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::error!(%error, "rows could not be encoded; the connection is cut");
            Err(io::Error::other(error))
        }
        Err(error) => {
            tracing::error!(%error, "the encoding of rows died; the connection is cut");
            Err(io::Error::other(error))
        }
    }
}
