//! What every request passes before its handler: the length of its URL, the Host it asks for and
//! the site it comes from; and the headers that every answer gets.
//!
//! There is no sign-in yet, so the loopback address is the fence. Two ways lead a web page in the
//! user's own browser around it, and both end here:
//!
//! - *DNS rebinding*: the page's own name is made to resolve to 127.0.0.1. Its requests then carry
//!   that name in `Host`; only loopback names are served.
//! - *Cross-site requests*: a page posts a form to this address. Browsers say so in `Origin` and
//!   `Sec-Fetch-Site`; what does not come from this very site is refused, reads too.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

use crate::answer::ApiError;
use crate::limits::URL_BYTES_MAX;
use crate::metrics::{Limit, Metrics};

/// Styles may be inline because the virtualised rows of the UI place themselves; scripts may not.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'";

/// The middleware.
pub(crate) async fn guard(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let endpoint = endpoint(request.uri().path());
    let mut response = match check(&request, &metrics) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    metrics.request(endpoint, response.status().as_u16());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Logs are not for shared or later use; only the UI's assets say otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn check(request: &Request, metrics: &Metrics) -> Result<(), ApiError> {
    let target_bytes = request.uri().path_and_query().map_or(0, |p| p.as_str().len());
    if target_bytes > URL_BYTES_MAX {
        metrics.hit(Limit::UrlBytes);
        return Err(ApiError::new(
            StatusCode::URI_TOO_LONG,
            "url_too_long",
            format!(
                "the URL has {target_bytes} bytes, more than {URL_BYTES_MAX}; send the arguments \
                 as a form in a POST"
            ),
        ));
    }
    let site = check_host(request.uri(), request.headers()).inspect_err(|_| {
        metrics.hit(Limit::ForeignSite);
    })?;
    check_origin(request.method(), request.headers(), &site).inspect_err(|_| {
        metrics.hit(Limit::ForeignSite);
    })?;
    check_tenant(request.headers())
}

/// VictoriaLogs takes the tenant from headers. Here it comes from the sign-in only, so a header
/// that asks for another one than the first is refused: it must not reach the wrong logs.
fn check_tenant(headers: &HeaderMap) -> Result<(), ApiError> {
    for name in ["accountid", "projectid"] {
        if headers.get(name).is_some_and(|v| v.as_bytes() != b"0") {
            return Err(ApiError::bad_request(format!(
                "the header `{name}` asks for another tenant; there is only one, leave it out"
            )));
        }
    }
    Ok(())
}

/// The host and port the request is for, if the host is a name of this machine for itself.
fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<String, ApiError> {
    let host = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default(),
    };
    if is_loopback_name(host_without_port(host)) {
        return Ok(host.to_ascii_lowercase());
    }
    Err(ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        "foreign_host",
        format!(
            "the request is for the host {host:?}; this server answers only to localhost, \
             127.0.0.1 and [::1], so that no web page can reach it through a name of its own"
        ),
    ))
}

fn host_without_port(host: &str) -> &str {
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn is_loopback_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return true;
    }
    name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Refuses what a browser says comes from another site. Programs send none of these headers.
fn check_origin(method: &Method, headers: &HeaderMap, site: &str) -> Result<(), ApiError> {
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("?");
        let same = origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(site));
        if !same {
            return Err(foreign_site(&format!("of {origin:?}")));
        }
    }
    // A link to the UI from elsewhere is fine: it is the user who opens it, in a page of its own.
    let opens_page = *method == Method::GET
        && text(HeaderName::from_static("sec-fetch-mode")) == Some("navigate")
        && text(HeaderName::from_static("sec-fetch-dest")) == Some("document");
    match text(HeaderName::from_static("sec-fetch-site")) {
        Some("cross-site" | "same-site") if !opens_page => Err(foreign_site("of another site")),
        _ => Ok(()),
    }
}

fn foreign_site(who: &str) -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "foreign_origin",
        format!("a web page {who} made this request; only Lodge's own pages may use this server"),
    )
}

/// The route that a path belongs to, as a label with a bounded number of values.
pub(crate) fn endpoint(path: &str) -> &'static str {
    const KNOWN: [&str; 27] = [
        "/loki/api/v1/push",
        "/v1/logs",
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        "/upload",
        "/services/collector",
        "/services/collector/event",
        "/services/collector/raw",
        "/api/v2/logs",
        "/gelf",
        "/insert/jsonline",
        "/api/v1/batches",
        "/api/v1/sql",
        "/api/v1/export",
        "/api/v1/status",
        "/select/logsql/query",
        "/select/logsql/hits",
        "/select/logsql/stats_query",
        "/select/logsql/stats_query_range",
        "/select/logsql/tail",
        "/select/logsql/field_names",
        "/select/logsql/field_values",
        "/select/logsql/patterns",
        "/select/logsql/streams",
        "/health",
        "/ready",
        "/metrics",
        "/",
    ];
    if let Some(known) = KNOWN.iter().find(|k| **k == path) {
        return known;
    }
    if path.starts_with("/api/v1/producers/") {
        return "/api/v1/producers";
    }
    if path.starts_with("/elasticsearch/") {
        return if path.ends_with("/_bulk") { "/elasticsearch/_bulk" } else { "/elasticsearch" };
    }
    if path.starts_with("/assets/") { "/assets" } else { "other" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn only_names_of_this_machine_are_served() {
        let host = |h: &'static str| check_host(&Uri::from_static("/"), &headers(&[("host", h)]));
        for good in
            ["localhost", "LOCALHOST:9420", "127.0.0.1:1", "127.9.9.9", "[::1]:9420", "a.localhost"]
        {
            assert!(host(good).is_ok(), "{good}");
        }
        for bad in
            ["", "evil.example:9420", "10.0.0.1", "localhost.evil.example", "0.0.0.0", "[::]"]
        {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_this_site_may_call() {
        let check = |method: Method, pairs: &[(&'static str, &'static str)]| {
            check_origin(&method, &headers(pairs), "localhost:9420").is_ok()
        };
        assert!(check(Method::POST, &[]));
        assert!(check(Method::POST, &[("origin", "http://localhost:9420")]));
        assert!(check(Method::GET, &[("sec-fetch-site", "same-origin")]));
        assert!(check(
            Method::GET,
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document")
            ]
        ));
        for origin in ["null", "http://evil.example", "http://localhost:8080", "localhost:9420"] {
            assert!(!check(Method::POST, &[("origin", origin)]), "{origin}");
        }
        assert!(!check(
            Method::GET,
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]
        ));
        assert!(!check(
            Method::POST,
            &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate")]
        ));
    }
}
