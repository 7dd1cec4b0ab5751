//! Who a client is: what it shows, and which token that is.
//!
//! Invariants:
//! - the tenant and the scopes come from the token, never from a header that names them;
//! - without any token, clients of this machine may do everything, and others nothing;
//! - as soon as there is a token, everybody needs one;
//! - a token that was made or revoked counts within [`RELOAD_EVERY`], in every process over the
//!   same catalog.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::FromRequestParts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use ipnet::IpNet;
use lodge_query::View;
use lodge_record::TenantId;
use lodge_store::token::{Credential, Scope, Scopes, Token, secret_hash};
use lodge_store::{Store, StoreError};

use crate::answer::ApiError;
use crate::app::now_ns;

/// How often the catalog is asked whether the tokens have changed.
pub(crate) const RELOAD_EVERY: Duration = Duration::from_secs(1);
/// Longest credential that is looked at: any secret of ours is far shorter.
const CREDENTIAL_BYTES_MAX: usize = 4_096;

/// The code of an answer to who shows nothing.
pub(crate) const NO_TOKEN: &str = "no_token";

/// Somebody who may do something.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    known: Arc<Holder>,
}

#[derive(Debug)]
struct Holder {
    /// What people call the token; empty for a client that needs none.
    name: String,
    scopes: Scopes,
    view: View,
    expires_ms: Option<i64>,
}

impl Identity {
    /// A client of this machine while there are no tokens.
    fn local() -> Self {
        let known = Holder {
            name: String::new(),
            scopes: Scopes::all(),
            view: View::default(),
            expires_ms: None,
        };
        Self { known: Arc::new(known) }
    }

    /// Somebody of a trusted network.
    fn trusted() -> Self {
        let known = Holder {
            name: String::new(),
            scopes: Scopes::default().with(Scope::Ingest),
            view: View::default().nothing(),
            expires_ms: None,
        };
        Self { known: Arc::new(known) }
    }

    /// The holder of a token. A filter that this version cannot read selects nothing.
    fn of(token: &Token) -> Self {
        let all = View::from(token.tenant.clone());
        let view = match &token.only {
            None => all,
            Some(filter) => all.narrowed(filter, now_ns()).unwrap_or_else(|error| {
                tracing::error!(token = token.id, %error, "a token's filter cannot be read");
                all.nothing()
            }),
        };
        let (name, scopes) = (token.name.clone(), token.scopes);
        Self { known: Arc::new(Holder { name, scopes, view, expires_ms: token.expires_ms }) }
    }

    /// Whose records it sends.
    pub(crate) fn tenant(&self) -> &TenantId {
        &self.known.view.tenant
    }

    /// What it may see.
    pub(crate) fn view(&self) -> &View {
        &self.known.view
    }

    /// What people call its token.
    pub(crate) fn name(&self) -> &str {
        &self.known.name
    }

    /// Whether it may.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.known.scopes.has(scope)
    }

    fn has_ended(&self) -> bool {
        self.known.expires_ms.is_some_and(|end| now_ns() / 1_000_000 >= end)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Identity {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::of_request(&parts.extensions)
    }
}

impl Identity {
    /// The identity that `access` found; a route without it is a bug.
    pub(crate) fn of_request(extensions: &http::Extensions) -> Result<Self, ApiError> {
        let found = extensions.get::<Self>().cloned();
        found.ok_or_else(|| ApiError::internal("a route that nobody guards was asked"))
    }
}

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) ip: IpAddr,
    /// The setting of the listener that it came to.
    pub(crate) listener: &'static str,
    /// The common name of its verified TLS certificate.
    pub(crate) subject: Option<Arc<str>>,
}

/// Why a client is nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It shows nothing.
    Missing,
    /// What it shows is no token, or none any more.
    Unknown,
    /// Its token has ended.
    Ended,
    /// There is no token, and it is on another machine.
    NotLocal,
    /// Its protocol has no credentials, and its network is not trusted.
    NotTrusted,
    /// It is no other server of the cluster.
    NoPeer,
}

impl Denied {
    /// The label of its counter.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::Ended => "ended",
            Self::NotLocal => "not_local",
            Self::NotTrusted => "not_trusted",
            Self::NoPeer => "no_peer",
        }
    }

    /// As an answer.
    pub(crate) fn answer(self) -> ApiError {
        let refused = |code, text: &str| ApiError::new(StatusCode::UNAUTHORIZED, code, text);
        match self {
            Self::Missing => refused(
                NO_TOKEN,
                "this server wants a token: send it as `Authorization: Bearer TOKEN` (or Basic, as \
                 the password); who runs the server makes one with `lodge token create`",
            ),
            Self::Unknown => refused(
                "unknown_token",
                "the token is unknown or was revoked; `lodge token list` shows those there are",
            ),
            Self::Ended => refused(
                "ended_token",
                "the token has ended; make another with `lodge token create`",
            ),
            Self::NotLocal => refused(
                "not_local",
                "there is no token yet, so only this machine is served; make one with `lodge token \
                 create`",
            ),
            Self::NoPeer => {
                refused("no_peer", "only the servers that share this one's catalog may ask that")
            }
            Self::NotTrusted => refused("not_trusted", "its network is not in `trusted_networks`"),
        }
    }
}

/// The tokens, as far as they were read.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    known: RwLock<Arc<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    version: Option<u64>,
    by_hash: HashMap<[u8; 32], Identity>,
    by_subject: HashMap<String, Identity>,
    shared_keys: Vec<(String, Identity)>,
    is_any: bool,
}

impl Known {
    fn new(version: u64, tokens: &[Token]) -> Self {
        let mut known =
            Self { version: Some(version), is_any: !tokens.is_empty(), ..Self::default() };
        for token in tokens {
            let identity = Identity::of(token);
            match &token.credential {
                Credential::Secret(hash) => drop(known.by_hash.insert(*hash, identity)),
                Credential::Subject(name) => drop(known.by_subject.insert(name.clone(), identity)),
                Credential::SharedKey(key) => known.shared_keys.push((key.clone(), identity)),
            }
        }
        known
    }
}

impl Tokens {
    /// Reads them again if they have changed.
    pub(crate) async fn reload(&self, store: &Store) -> Result<(), StoreError> {
        let version = self.known().version;
        if let Some((version, tokens)) = store.tokens(version).await? {
            let known = Arc::new(Known::new(version, &tokens));
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        }
        Ok(())
    }

    fn known(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there is any.
    pub(crate) fn is_any(&self) -> bool {
        self.known().is_any
    }

    /// Who sent a request.
    pub(crate) fn identify(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        path: &str,
    ) -> Result<Identity, Denied> {
        let known = self.known();
        if !known.is_any {
            let is_local = peer.ip.to_canonical().is_loopback();
            return if is_local { Ok(Identity::local()) } else { Err(Denied::NotLocal) };
        }
        let shown = credential(headers, path);
        let found = match &shown {
            Some(secret) => known.by_hash.get(&secret_hash(secret)),
            None => peer.subject.as_deref().and_then(|name| known.by_subject.get(name)),
        };
        let is_nothing_shown = shown.is_none() && peer.subject.is_none();
        let missing = if is_nothing_shown { Denied::Missing } else { Denied::Unknown };
        current(found.ok_or(missing)?)
    }

    /// Who sends over a socket whose protocol has no credentials: who its certificate says, or
    /// somebody of a trusted network, who may send to the first tenant.
    pub(crate) fn of_socket(
        &self,
        ip: IpAddr,
        subject: Option<&str>,
        trusted: &[IpNet],
    ) -> Result<Identity, Denied> {
        let known = self.known();
        if let Some(identity) = subject.and_then(|name| known.by_subject.get(name)) {
            let identity = current(identity)?;
            return if identity.may(Scope::Ingest) { Ok(identity) } else { Err(Denied::Unknown) };
        }
        let ip = ip.to_canonical();
        if trusted.iter().any(|network| network.contains(&ip)) {
            return Ok(Identity::trusted());
        }
        Err(Denied::NotTrusted)
    }

    /// The keys of Fluent Forward's handshake, with their holders.
    pub(crate) fn shared_keys(&self) -> Vec<(String, Identity)> {
        let known = self.known();
        known.shared_keys.iter().filter(|(_, identity)| !identity.has_ended()).cloned().collect()
    }
}

fn current(identity: &Identity) -> Result<Identity, Denied> {
    if identity.has_ended() { Err(Denied::Ended) } else { Ok(identity.clone()) }
}

/// The secret that a request shows, in whichever way its client knows: `Authorization` with
/// `Bearer`, `Basic` (the password, or the name where there is no password), `ApiKey` (plain, or
/// Elasticsearch's base64 of `id:key`), `Splunk`; `DD-API-KEY`; Datadog's older key in the path.
fn credential(headers: &HeaderMap, path: &str) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = text(header::AUTHORIZATION.as_str()).map(str::trim_start);
    let shown = match authorization.and_then(|value| value.split_once(' ')) {
        Some((scheme, rest)) => of_scheme(scheme, rest.trim()),
        // Some clients send the bare token.
        None => authorization.map(str::to_owned),
    };
    let shown = shown
        .or_else(|| text("dd-api-key").map(str::to_owned))
        .or_else(|| path.strip_prefix("/v1/input/").map(str::to_owned))?;
    (!shown.is_empty() && shown.len() <= CREDENTIAL_BYTES_MAX).then_some(shown)
}

fn of_scheme(scheme: &str, rest: &str) -> Option<String> {
    let decoded = || String::from_utf8(STANDARD.decode(rest).ok()?).ok();
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" | "splunk" | "token" => Some(rest.to_owned()),
        "basic" => {
            let pair = decoded()?;
            let (name, password) = pair.split_once(':')?;
            Some(if password.is_empty() { name } else { password }.to_owned())
        }
        "apikey" => match decoded().as_deref().and_then(|pair| pair.split_once(':')) {
            Some((_, key)) => Some(key.to_owned()),
            None => Some(rest.to_owned()),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;

    const SECRET: &str = "lodge_0123456789abcdef0123456789abcdef";

    fn shown(name: &'static str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        credential(&headers, "/")
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn every_client_shows_its_token_in_its_own_way() {
        let key = STANDARD.encode(format!("id:{SECRET}"));
        for (name, value) in [
            ("authorization", format!("Bearer {SECRET}")),
            ("authorization", format!("bearer  {SECRET} ")),
            ("authorization", format!("Splunk {SECRET}")),
            ("authorization", format!("ApiKey {SECRET}")),
            ("authorization", format!("ApiKey {key}")),
            ("authorization", basic(&format!("anyone:{SECRET}"))),
            ("authorization", basic(&format!("{SECRET}:"))),
            ("authorization", SECRET.to_owned()),
            ("dd-api-key", SECRET.to_owned()),
        ] {
            assert_eq!(shown(name, &value).as_deref(), Some(SECRET), "{name}: {value}");
        }
        assert_eq!(credential(&HeaderMap::new(), &format!("/v1/input/{SECRET}")).unwrap(), SECRET);
        for nothing in ["Digest x", "Basic !!!", "Basic ", "Bearer "] {
            assert_eq!(shown("authorization", nothing), None, "{nothing}");
        }
        assert_eq!(shown("authorization", &format!("Bearer {}", "x".repeat(5_000))), None);
    }

    fn token(id: &str, credential: Credential, expires_ms: Option<i64>) -> Token {
        Token {
            id: id.to_owned(),
            name: id.to_owned(),
            tenant: "shop".parse().unwrap(),
            scopes: "ingest".parse().unwrap(),
            only: None,
            credential,
            created_ms: 0,
            expires_ms,
        }
    }

    fn tokens(list: &[Token]) -> Tokens {
        Tokens { known: RwLock::new(Arc::new(Known::new(1, list))) }
    }

    fn peer(ip: &str, subject: Option<&str>) -> Peer {
        Peer { ip: ip.parse().unwrap(), listener: "listen", subject: subject.map(Into::into) }
    }

    fn of_peer(tokens: &Tokens, peer: &Peer) -> Result<Identity, Denied> {
        tokens.identify(peer, &HeaderMap::new(), "/")
    }

    #[test]
    fn a_socket_is_for_trusted_networks_and_known_certificates() {
        let trusted = ["127.0.0.0/8".parse().unwrap(), "10.2.0.0/16".parse().unwrap()];
        let list = [token("host", Credential::Subject("host-1".into()), None)];
        let tokens = tokens(&list);
        let who = |ip: &str, subject| tokens.of_socket(ip.parse().unwrap(), subject, &trusted);
        for ip in ["127.0.0.1", "10.2.3.4", "::ffff:10.2.3.4"] {
            let identity = who(ip, None).unwrap();
            assert_eq!(identity.tenant(), &TenantId::default());
            assert!(identity.may(Scope::Ingest) && !identity.may(Scope::Read), "{ip}");
        }
        assert_eq!(who("10.3.0.1", None).unwrap_err(), Denied::NotTrusted);
        assert_eq!(who("10.3.0.1", Some("host-1")).unwrap().tenant().as_str(), "shop");
        assert_eq!(who("10.3.0.1", Some("host-2")).unwrap_err(), Denied::NotTrusted);
    }

    #[test]
    fn without_tokens_only_this_machine_is_somebody() {
        let none = tokens(&[]);
        for here in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            let identity = of_peer(&none, &peer(here, None)).unwrap();
            assert!(Scope::ALL.into_iter().all(|scope| identity.may(scope)), "{here}");
            assert_eq!(identity.tenant(), &TenantId::default());
        }
        for there in ["10.0.0.1", "::", "0.0.0.0", "::ffff:10.0.0.1"] {
            assert_eq!(
                of_peer(&none, &peer(there, None)).unwrap_err(),
                Denied::NotLocal,
                "{there}"
            );
        }
    }

    #[test]
    fn with_tokens_everybody_is_what_the_token_says() {
        let list = [
            token("secret", Credential::Secret(secret_hash(SECRET)), None),
            token("ended", Credential::Secret(secret_hash("old")), Some(1)),
            token("host", Credential::Subject("host-1".into()), None),
            token("key", Credential::SharedKey("key".into()), None),
        ];
        let tokens = tokens(&list);
        let here = peer("127.0.0.1", None);
        let ask = |peer: &Peer, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            tokens.identify(peer, &headers, "/")
        };
        let identity = ask(&here, &format!("Bearer {SECRET}")).unwrap();
        assert_eq!((identity.tenant().as_str(), identity.name()), ("shop", "secret"));
        assert!(identity.may(Scope::Ingest) && !identity.may(Scope::Read));
        assert_eq!(of_peer(&tokens, &here).unwrap_err(), Denied::Missing);
        assert_eq!(ask(&here, "Bearer wrong").unwrap_err(), Denied::Unknown);
        assert_eq!(ask(&here, "Bearer old").unwrap_err(), Denied::Ended);
        assert_eq!(ask(&here, "Bearer key").unwrap_err(), Denied::Unknown);
        let host = peer("10.0.0.1", Some("host-1"));
        assert_eq!(of_peer(&tokens, &host).unwrap().name(), "host");
        assert_eq!(of_peer(&tokens, &peer("::1", Some("host-2"))).unwrap_err(), Denied::Unknown);
        // What is shown counts, not who would also be known by a certificate.
        assert_eq!(ask(&host, "Bearer wrong").unwrap_err(), Denied::Unknown);
        assert_eq!(tokens.shared_keys().len(), 1);
    }

    #[test]
    fn a_filter_that_cannot_be_read_shows_nothing() {
        let mut broken = token("x", Credential::Secret(secret_hash(SECRET)), None);
        broken.only = Some("{".to_owned());
        let identity = Identity::of(&broken);
        assert_eq!(identity.view(), &View::from(identity.tenant().clone()).nothing());
    }
}
