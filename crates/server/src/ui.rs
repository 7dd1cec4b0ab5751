//! The web app, embedded from `ui/dist`.
//!
//! Invariants: files are sent as they were built, with an ETag of their content; names under
//! `assets/` carry a hash and may be kept for ever, everything else is asked for again; only `/`
//! and paths that look like pages fall back to `index.html`, so that a misspelt API path is a 404
//! in JSON and not a page.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};

use crate::answer::ApiError;

#[derive(rust_embed::RustEmbed)]
#[folder = "../../ui/dist"]
#[allow_missing = true]
struct Dist;

const MISSING_PAGE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<title>Lodge</title><body><h1>Lodge is running</h1>\
<p>This binary was built without the web app. Build it with <code>npm ci</code> and \
<code>npm run build</code> in <code>ui/</code>, then build the server again (or use \
<code>make run</code>, which does both).</p>\
<p>The API works: try <a href=\"/api/v1/status\">/api/v1/status</a> or \
<a href=\"/select/logsql/query?query=*&amp;limit=10\">the last ten records</a>.</p></body></html>";

/// First parts of paths that belong to the API.
const API: [&str; 13] = [
    "api",
    "select",
    "insert",
    "health",
    "ready",
    "metrics",
    "internal",
    "elasticsearch",
    "loki",
    "otlp",
    "services",
    "v1",
    "gelf",
];

/// Answers what no other route took.
pub(crate) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    if API.contains(&first) {
        return ApiError::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is no {method} {}; the README lists the endpoints", uri.path()),
        )
        .into_response();
    }
    if method != Method::GET && method != Method::HEAD {
        return ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            format!("{method} is not possible on {}; it is a page", uri.path()),
        )
        .into_response();
    }
    if let Some(file) = Dist::get(path).filter(|_| !path.is_empty()) {
        return asset(path, file, &headers);
    }
    // A name with a dot is a file that is not there; anything else is a page of the app.
    let last = path.rsplit('/').next().unwrap_or_default();
    if last.contains('.') {
        return ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no such file")
            .into_response();
    }
    match Dist::get("index.html") {
        Some(file) => asset("index.html", file, &headers),
        None => {
            let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
            (StatusCode::OK, headers, MISSING_PAGE).into_response()
        }
    }
}

fn asset(path: &str, file: rust_embed::EmbeddedFile, headers: &HeaderMap) -> Response {
    let hash: String =
        file.metadata.sha256_hash().iter().take(12).map(|b| format!("{b:02x}")).collect();
    let etag = format!("\"{hash}\"");
    let mut response = Response::new(Body::empty());
    let out = response.headers_mut();
    let keep = if path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(value) = HeaderValue::from_str(&etag) {
        out.insert(header::ETAG, value);
    }
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    if known.is_some_and(|tags| tags.split(',').any(|t| t.trim().ends_with(etag.as_str()))) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    let mime = file.metadata.mimetype();
    let text = mime.starts_with("text/") || mime.contains("javascript") || mime.contains("json");
    let charset = if mime.starts_with("text/") { "; charset=utf-8" } else { "" };
    if let Ok(value) = HeaderValue::from_str(&format!("{mime}{charset}")) {
        out.insert(header::CONTENT_TYPE, value);
    }
    let accepts_gzip = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|e| e.trim().split(';').next() == Some("gzip")));
    let plain = Bytes::from(file.data.into_owned());
    let body = match gzipped(&hash, &plain).filter(|_| accepts_gzip && text) {
        Some(small) => {
            out.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            small
        }
        None => plain,
    };
    *response.body_mut() = Body::from(body);
    response
}

/// The compressed file, made once per content. The files are those of this binary, so few.
fn gzipped(hash: &str, plain: &Bytes) -> Option<Bytes> {
    static MADE: Mutex<Option<HashMap<String, Bytes>>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let made = made.get_or_insert_default();
    if let Some(small) = made.get(hash) {
        return Some(small.clone());
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).ok()?;
    let small = Bytes::from(encoder.finish().ok()?);
    made.insert(hash.to_owned(), small.clone());
    Some(small)
}

/// Answers a known path that was asked for with another method.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{method} is not possible on {}; the Allow header lists what is", uri.path()),
    )
}
