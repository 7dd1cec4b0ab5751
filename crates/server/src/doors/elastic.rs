//! Elasticsearch's `_bulk`, and the questions that its clients ask before they send, under
//! `/elasticsearch`.
//!
//! Invariants: every answer names the product, errors too, as official clients refuse the server
//! otherwise; the handshake says nothing of what is stored; templates and policies that clients set
//! up are acknowledged and mean nothing here, as fields need no mapping.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, Request, State};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{any, post};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use lodge_wire::elastic_bulk::{self, Decoder, Detail, RequestError};
use serde_json::{Value, json};

use super::{answer, either, refusal, store, take};
use crate::access::{INGEST, Routes};
use crate::answer::ApiError;
use crate::app::{App, now_ns};
use crate::args::Args;
use crate::metrics::Limit;

const JSON: &str = "application/json";
/// The version of clients that name none.
const VERSION: &str = "8.17.0";
/// Longest text in which a client names its version.
const AGENT_BYTES_MAX: usize = 256;

/// The routes below `root`.
pub(crate) fn routes(root: &str) -> Routes {
    let writes = || post(bulk).put(bulk).fallback(handshake);
    let mut routes = Routes::in_words(|_, error| in_words(error));
    if !root.is_empty() {
        routes = routes.add(INGEST, root, any(handshake));
    }
    // A path of any length would stand in the way of `INDEX/_bulk`; no client asks for a longer one.
    for path in ["/", "/{index}", "/{index}/{what}", "/{index}/{what}/{name}"] {
        routes = routes.add(INGEST, &format!("{root}{path}"), any(handshake));
    }
    routes
        .add(INGEST, &format!("{root}/_bulk"), writes())
        .add(INGEST, &format!("{root}/{{index}}/_bulk"), writes())
        .layer(map_response(name_product))
}

async fn name_product(mut response: Response) -> Response {
    let name = HeaderName::from_static("x-elastic-product");
    response.headers_mut().insert(name, HeaderValue::from_static("Elasticsearch"));
    response
}

/// `_bulk`, and `INDEX/_bulk`.
async fn bulk(
    State(app): State<Arc<App>>,
    index: Option<Path<String>>,
    request: Request,
) -> Response {
    either(take_bulk(&app, index.map(|Path(index)| index), request).await)
}

async fn take_bulk(
    app: &Arc<App>,
    index: Option<String>,
    request: Request,
) -> Result<Response, Response> {
    let begun = Instant::now();
    let (head, body) = request.into_parts();
    let detail = detail(&Args::of_uri(&head.uri).map_err(|error| in_words(&error))?);
    let decoded = take(app, &head, body, move |plain| {
        let options = elastic_bulk::default_options();
        let mut decoder = Decoder::new(&options, index.as_deref(), now_ns());
        let read = decoder.part(plain).and_then(|()| decoder.end());
        if let Err(error) = read {
            return Ok(Err(error));
        }
        let records = decoder.finish().map_err(|error| ApiError::internal(error.to_string()))?;
        Ok(Ok((records.into_iter().collect(), decoder.into_outcomes())))
    });
    let (decoded, taken) = decoded.await.map_err(|error| in_words(&error))?;
    let (records, outcomes) = decoded.map_err(|error| {
        if let RequestError::TooMany { .. } = error {
            app.metrics.hit(Limit::BodyBytes);
        }
        refused(&error)
    })?;
    app.metrics.malformed_lines.inc_by(outcomes.failed() as u64);
    store(app, &taken, records).await.map_err(|error| in_words(&error))?;
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut reply = Vec::new();
    outcomes.write_reply(took_ms, detail, &mut reply);
    Ok(answer(StatusCode::OK, JSON, reply))
}

/// Whether a client asks for the outcomes alone.
fn detail(args: &Args) -> Detail {
    let paths = args.get("filter_path").unwrap_or_default();
    let wanted = |path: &str| matches!(path, "errors" | "items.*.error" | "items.*.status");
    let only_outcomes = !paths.is_empty() && paths.split(',').all(wanted);
    if only_outcomes { Detail::Status } else { Detail::Full }
}

fn refused(error: &RequestError) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut body = Vec::new();
    error.write_reply(&mut body);
    answer(status, JSON, body)
}

/// A refusal as Elasticsearch words it.
fn in_words(error: &ApiError) -> Response {
    let kind = match error.status() {
        StatusCode::TOO_MANY_REQUESTS => "es_rejected_execution_exception",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable_shards_exception",
        StatusCode::PAYLOAD_TOO_LARGE => "content_too_long_exception",
        StatusCode::INTERNAL_SERVER_ERROR => "exception",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "security_exception",
        _ => "illegal_argument_exception",
    };
    let mut body = Vec::new();
    elastic_bulk::write_error(error.status().as_u16(), kind, error.message(), &mut body);
    refusal(error, JSON, body)
}

/// What clients ask, and set up, before they send.
async fn handshake(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches("/elasticsearch").trim_matches('/');
    let segments: Vec<&str> = path.split('/').collect();
    let first = segments.first().copied().unwrap_or_default();
    let reads = method == Method::GET || method == Method::HEAD;
    let known = match first {
        "" if reads => Some(about(&headers)),
        "_license" if reads => Some(json!({"license": {"status": "active", "type": "basic",
            "uid": "lodge", "mode": "basic"}})),
        "_xpack" if reads => Some(json!({"features": {}, "license": {"type": "basic",
            "mode": "basic", "status": "active"}})),
        "_nodes" if reads => Some(json!({"nodes": {}})),
        "_cluster" if reads => Some(json!({"cluster_name": "lodge", "status": "green",
            "timed_out": false, "number_of_nodes": 1})),
        "_index_template"
        | "_template"
        | "_component_template"
        | "_ilm"
        | "_ingest"
        | "_data_stream"
        | "_alias"
        | "_aliases" => set_up(&method),
        // What a bulk request stored is found as soon as it is answered.
        _ if matches!(*segments, ["_refresh"] | [_, "_refresh"]) => {
            Some(json!({"_shards": {"total": 1, "successful": 1, "failed": 0}}))
        }
        // An index is there as soon as it is written to.
        index if !index.is_empty() && !index.starts_with('_') && !path.contains('/') => {
            set_up(&method)
        }
        _ => None,
    };
    match known {
        Some(body) => answer(StatusCode::OK, JSON, body.to_string()),
        None => {
            let reason = format!("there is no {method} /{path}: this takes _bulk, and no searches");
            let mut body = Vec::new();
            elastic_bulk::write_error(404, "illegal_argument_exception", &reason, &mut body);
            answer(StatusCode::NOT_FOUND, JSON, body)
        }
    }
}

/// What is set up is taken, and is always there.
fn set_up(method: &Method) -> Option<Value> {
    match *method {
        Method::GET | Method::HEAD => Some(json!({})),
        Method::PUT | Method::POST => Some(json!({"acknowledged": true})),
        _ => None,
    }
}

fn about(headers: &HeaderMap) -> Value {
    json!({
        "name": "lodge",
        "cluster_name": "lodge",
        "cluster_uuid": "lodge",
        "version": {
            "number": version_of_client(headers).unwrap_or_else(|| VERSION.to_owned()),
            "build_flavor": "default",
            "build_type": "tar",
            "build_hash": "unknown",
            "build_date": "2026-01-01T00:00:00Z",
            "build_snapshot": false,
            "lucene_version": "9.12.0",
            "minimum_wire_compatibility_version": "7.17.0",
            "minimum_index_compatibility_version": "7.0.0",
        },
        "tagline": "You Know, for Search",
    })
}

/// The version that a client of Elastic's names: clients refuse a server that is older than they.
fn version_of_client(headers: &HeaderMap) -> Option<String> {
    let agent = headers.get(header::USER_AGENT)?.to_str().ok()?;
    let agent = agent.get(..agent.len().min(AGENT_BYTES_MAX))?.to_ascii_lowercase();
    if !["elastic", "beat", "logstash"].iter().any(|name| agent.contains(name)) {
        return None;
    }
    let words = agent.split(|c: char| !c.is_ascii_digit() && c != '.');
    let is_version = |word: &&str| {
        let parts: Vec<&str> = word.split('.').collect();
        parts.len() == 3 && parts.iter().all(|p| (1..=4).contains(&p.len()))
    };
    words.into_iter().find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_its_own_version() {
        let of = |agent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, HeaderValue::from_str(agent).expect("a header"));
            version_of_client(&headers)
        };
        assert_eq!(of("Elastic-filebeat/9.1.2 (linux; amd64)"), Some("9.1.2".into()));
        assert_eq!(of("elasticsearch-py/8.15.0 (Python/3.11.7)"), Some("8.15.0".into()));
        assert_eq!(of("Elastic.d/....../1.2"), None);
        assert_eq!(of("curl/8.5.0"), None);
    }
}
