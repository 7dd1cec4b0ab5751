//! What every request passes before its route: the length of its URL, the site it comes from, and
//! who sent it (see `identity`); and the headers that every answer gets.
//!
//! A web page in the user's own browser must not reach around what protects this server. While there
//! is no token the loopback address is the fence, and two ways lead around it; both end here:
//!
//! - *DNS rebinding*: the page's own name is made to resolve to 127.0.0.1. Its requests then carry
//!   that name in `Host`; only loopback names are served. Once there are tokens any name will do: a
//!   browser does not show the token of one name to another.
//! - *Cross-site requests*: a page posts a form to this address. Browsers say so in `Origin` and
//!   `Sec-Fetch-Site`; what does not come from this very site is refused, reads too.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

use crate::access::Found;
use crate::answer::ApiError;
use crate::app::App;
use crate::identity::Peer;
use crate::limits::URL_BYTES_MAX;
use crate::metrics::Limit;

/// Styles may be inline because the virtualised rows of the UI place themselves; scripts may not.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'";

/// The middleware.
pub(crate) async fn guard(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut response = match check(&request, &app) {
        Ok(found) => {
            request.extensions_mut().insert(found);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    let endpoint = matched.as_deref().unwrap_or("other");
    app.metrics.request(endpoint, response.status().as_u16());
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

fn check(request: &Request, app: &App) -> Result<Found, ApiError> {
    let (uri, headers) = (request.uri(), request.headers());
    let target_bytes = uri.path_and_query().map_or(0, |p| p.as_str().len());
    if target_bytes > URL_BYTES_MAX {
        app.metrics.hit(Limit::UrlBytes);
        return Err(ApiError::new(
            StatusCode::URI_TOO_LONG,
            "url_too_long",
            format!(
                "the URL has {target_bytes} bytes, more than {URL_BYTES_MAX}; send the arguments \
                 as a form in a POST"
            ),
        ));
    }
    let is_foreign = |_: &ApiError| app.metrics.hit(Limit::ForeignSite);
    let site = host(uri, headers);
    if !app.tokens.is_any() && !app.peer_key.is_shown(headers) {
        check_host(&site).inspect_err(is_foreign)?;
    }
    check_origin(request.method(), headers, &site).inspect_err(is_foreign)?;
    check_tenant(headers)?;
    let peer = request.extensions().get::<Peer>();
    let peer = peer.ok_or_else(|| ApiError::internal("a request came without its peer"))?;
    let identity = app.tokens.identify(peer, headers, uri.path());
    let is_peer = app.peer_key.is_shown(headers);
    if let (Err(denied), false) = (&identity, is_peer) {
        app.metrics.denied(denied.name());
    }
    Ok(Found { identity, roles: app.config.roles, is_peer })
}

/// VictoriaLogs takes the tenant from headers. Here it comes from the sign-in only, so a header
/// that asks for another one than the first is refused: it must not reach the wrong logs.
fn check_tenant(headers: &HeaderMap) -> Result<(), ApiError> {
    for name in ["accountid", "projectid"] {
        if headers.get(name).is_some_and(|v| v.as_bytes() != b"0") {
            return Err(ApiError::bad_request(format!(
                "the header `{name}` asks for another tenant; the token says whose logs are meant, \
                 leave it out"
            )));
        }
    }
    Ok(())
}

/// The host and port the request is for.
fn host(uri: &Uri, headers: &HeaderMap) -> String {
    let host = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default(),
    };
    host.to_ascii_lowercase()
}

/// Refuses a host that is no name of this machine for itself.
fn check_host(host: &str) -> Result<(), ApiError> {
    if is_loopback_name(host_without_port(host)) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        "foreign_host",
        format!(
            "the request is for the host {host:?}; without a token this server answers only to \
             localhost, 127.0.0.1 and [::1], so that no web page can reach it through a name of \
             its own"
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
        let host = |h: &'static str| {
            check_host(&super::host(&Uri::from_static("/"), &headers(&[("host", h)])))
        };
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
