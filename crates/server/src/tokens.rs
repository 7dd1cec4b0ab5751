//! Making, listing and revoking API tokens: the rules, and `/api/v1/tokens`.
//!
//! Invariants: the secret is shown once, when it is made; over HTTP an administrator deals with the
//! tokens of its own tenant; what a token allows can be told from the list.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use lodge_query::View;
use lodge_record::{TenantId, time};
use lodge_store::token::{
    Credential, Scope, Scopes, TOKEN_NAME_BYTES_MAX, Token, new_secret, new_token_id, secret_hash,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{self, ApiError};
use crate::app::{App, now_ns};
use crate::identity::Identity;

/// How the holder of a new token will be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// By a secret that is made now.
    Secret,
    /// By the common name of a TLS client certificate.
    Subject(String),
    /// By a key for Fluent Forward that is made now.
    SharedKey,
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What people will call it.
    pub name: String,
    /// Whose records it is about.
    pub tenant: TenantId,
    /// What it allows.
    pub scopes: Scopes,
    /// A filter in LogsQL that bounds what it reads.
    pub only: Option<String>,
    /// When it ends, milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// How its holder will be known.
    pub kind: Kind,
}

/// Why a token cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenError(String);

/// The token, and what its holder must be told: it cannot be found again.
pub fn make(wanted: Wanted) -> Result<(Token, Option<String>), TokenError> {
    let refuse = |problem: &str| Err(TokenError(problem.to_owned()));
    let Wanted { name, tenant, scopes, only, expires_ms, kind } = wanted;
    let is_word = |text: &str| {
        (1..=TOKEN_NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
    };
    if !is_word(&name) {
        return refuse("a name has 1 to 128 bytes and no control characters");
    }
    if scopes.is_empty() {
        return refuse("it needs a scope: ingest, read, admin");
    }
    if let Some(filter) = &only {
        if !scopes.has(Scope::Read) || scopes.has(Scope::Ingest) || scopes.has(Scope::Admin) {
            return refuse(
                "a filter bounds what is read: only a token for `read` alone can have one",
            );
        }
        View::default()
            .narrowed(filter, now_ns())
            .map_err(|error| TokenError(format!("the filter: {}", error.message())))?;
    }
    if expires_ms.is_some_and(|end| end <= now_ns() / 1_000_000) {
        return refuse("it would have ended already");
    }
    let (credential, shown) = match kind {
        Kind::Secret => {
            let secret = new_secret();
            (Credential::Secret(secret_hash(&secret)), Some(secret))
        }
        Kind::Subject(subject) if !is_word(&subject) => {
            return refuse("a certificate's name has 1 to 128 bytes and no control characters");
        }
        Kind::Subject(subject) => (Credential::Subject(subject), None),
        Kind::SharedKey if scopes != Scopes::default().with(Scope::Ingest) => {
            return refuse("a shared key is for Fluent Forward, which only sends: scope `ingest`");
        }
        Kind::SharedKey => {
            let key = new_secret();
            (Credential::SharedKey(key.clone()), Some(key))
        }
    };
    let created_ms = now_ns() / 1_000_000;
    let id = new_token_id();
    Ok((Token { id, name, tenant, scopes, only, credential, created_ms, expires_ms }, shown))
}

/// How long a text such as `30d` says that a token lasts.
///
/// # Errors
/// What is wrong with the text.
pub fn lasts(text: &str) -> Result<std::time::Duration, String> {
    let ns = crate::times::parse_duration_ns(text)?;
    let ns = u64::try_from(ns).map_err(|_| "it is negative".to_owned())?;
    Ok(std::time::Duration::from_nanos(ns))
}

/// A token as a list shows it: without what would let somebody use it.
pub fn shown(token: &Token) -> Value {
    let (kind, subject) = match &token.credential {
        Credential::Secret(_) => ("secret", None),
        Credential::Subject(subject) => ("certificate", Some(subject)),
        Credential::SharedKey(_) => ("forward_key", None),
    };
    let at = |ms: i64| time::format(ms.saturating_mul(1_000_000));
    json!({
        "id": token.id,
        "name": token.name,
        "tenant": token.tenant.as_str(),
        "scopes": token.scopes.to_string(),
        "only": token.only,
        "kind": kind,
        "subject": subject,
        "created": at(token.created_ms),
        "expires": token.expires_ms.map(at),
    })
}

fn failed(error: &lodge_store::StoreError) -> ApiError {
    tracing::error!(%error, "the tokens cannot be read or written");
    ApiError::unavailable("store", format!("the tokens: {error}"), 5)
}

/// `GET /api/v1/tokens`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    identity: Identity,
) -> Result<Response, ApiError> {
    let tokens = app.store.tokens(None).await.map_err(|e| failed(&e))?;
    let (_, tokens) = tokens.unwrap_or_default();
    let own = tokens.iter().filter(|token| token.tenant == *identity.tenant());
    Ok(answer::json(StatusCode::OK, &json!({"tokens": own.map(shown).collect::<Vec<_>>()})))
}

/// What `POST /api/v1/tokens` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    name: String,
    scopes: String,
    only: Option<String>,
    expires_s: Option<i64>,
    subject: Option<String>,
    #[serde(default)]
    forward_key: bool,
}

/// `POST /api/v1/tokens`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    identity: Identity,
    body: Result<Json<Asked>, axum::extract::rejection::JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(asked) = body.map_err(|e| ApiError::new(e.status(), "bad_request", e.body_text()))?;
    let refused = |problem: String| ApiError::bad_request(format!("no token was made: {problem}"));
    let kind = match (asked.subject, asked.forward_key) {
        (Some(_), true) => {
            return Err(refused("`subject` and `forward_key` exclude each other".to_owned()));
        }
        (Some(subject), false) => Kind::Subject(subject),
        (None, true) => Kind::SharedKey,
        (None, false) => Kind::Secret,
    };
    let wanted = Wanted {
        name: asked.name,
        tenant: identity.tenant().clone(),
        scopes: asked.scopes.parse().map_err(|e| refused(format!("{e}")))?,
        only: asked.only,
        expires_ms: asked
            .expires_s
            .map(|s| (now_ns() / 1_000_000).saturating_add(s.saturating_mul(1_000))),
        kind,
    };
    let (token, secret) = make(wanted).map_err(|e| refused(e.to_string()))?;
    let mut body = shown(&token);
    body["secret"] = secret.into();
    let added = app.store.add_token(token).await.map_err(|error| match error {
        lodge_store::StoreError::TooManyTokens => refused(error.to_string()),
        error => failed(&error),
    })?;
    if !added {
        return Err(refused("there is one with that certificate's name already".to_owned()));
    }
    app.tokens.reload(&app.store).await.map_err(|e| failed(&e))?;
    Ok(answer::json(StatusCode::CREATED, &body))
}

/// `DELETE /api/v1/tokens/{id}`
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let tokens = app.store.tokens(None).await.map_err(|e| failed(&e))?;
    let (_, tokens) = tokens.unwrap_or_default();
    let is_own = tokens.iter().any(|t| t.id == id && t.tenant == *identity.tenant());
    if !is_own || !app.store.remove_token(id).await.map_err(|e| failed(&e))? {
        let problem = "there is no such token; GET /api/v1/tokens lists them";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", problem));
    }
    app.tokens.reload(&app.store).await.map_err(|e| failed(&e))?;
    Ok(answer::json(StatusCode::OK, &json!({})))
}
