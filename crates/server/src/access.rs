//! Which scope each route needs: routes are added with it, and none can be added without.
//!
//! Invariants: a request reaches a handler only if its identity has the scope of the route; what an
//! identity lacks is said before the body is read; the table of [`Routes`] is the router, so a test
//! over it has seen every route.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, Route};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use lodge_store::token::Scope;
use tower::{Layer, Service};

use crate::answer::ApiError;
use crate::app::App;
use crate::config::Roles;
use crate::identity::{Denied, Identity};

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: whether the server lives, and what says nothing about it.
    Nothing,
    /// The scope.
    Scope(Scope),
    /// To be another server of the cluster, and this one to answer queries.
    Peer,
}

pub(crate) const INGEST: Need = Need::Scope(Scope::Ingest);
pub(crate) const READ: Need = Need::Scope(Scope::Read);
pub(crate) const ADMIN: Need = Need::Scope(Scope::Admin);

/// How the clients of some routes are told that they are refused.
pub(crate) type Words = fn(&HeaderMap, &ApiError) -> Response;

/// Who sent a request, or why nobody did, and what this server does: put there by `guard`.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) identity: Result<Identity, Denied>,
    pub(crate) roles: Roles,
    /// Whether it is another server of the cluster.
    pub(crate) is_peer: bool,
}

/// A router and the table of what its routes need.
pub(crate) struct Routes {
    router: Router<Arc<App>>,
    table: Vec<(String, Need)>,
    words: Words,
}

impl Routes {
    /// No routes yet; refusals are in Lodge's own words.
    pub(crate) fn new() -> Self {
        Self::in_words(|_, error| error.response())
    }

    /// No routes yet; refusals are in a protocol's words.
    pub(crate) fn in_words(words: Words) -> Self {
        Self { router: Router::new(), table: Vec::new(), words }
    }

    /// Adds a route.
    pub(crate) fn add(mut self, need: Need, path: &str, methods: MethodRouter<Arc<App>>) -> Self {
        let guarded = methods.layer(guarding(need, self.words));
        self.router = self.router.route(path, guarded);
        self.table.push((path.to_owned(), need));
        self
    }

    /// Adds other routes, which keep their words.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.table.extend(other.table);
        self
    }

    /// Answers with `handler` whatever no route takes.
    pub(crate) fn fallback<H, T>(mut self, need: Need, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.router = self.router.fallback(handler.layer(guarding(need, self.words)));
        self.table.push(("/anything/else".to_owned(), need));
        self
    }

    /// Changes every answer, refusals too.
    pub(crate) fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Response: IntoResponse + 'static,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        self.router = self.router.layer(layer);
        self
    }

    /// The router.
    pub(crate) fn into_router(self) -> Router<Arc<App>> {
        self.router
    }

    /// Each route with what it needs.
    #[cfg(test)]
    pub(crate) fn table(&self) -> &[(String, Need)] {
        &self.table
    }
}

type Checked = std::pin::Pin<Box<dyn Future<Output = Response> + Send>>;

/// Lets pass who may.
fn guarding<H: 'static>(
    need: Need,
    words: Words,
) -> middleware::FromFnLayer<impl Fn(Request, Next) -> Checked + Clone, (), H> {
    middleware::from_fn(move |mut request: Request, next: Next| -> Checked {
        Box::pin(async move {
            match admit(&request, need) {
                Ok(Some(identity)) => drop(request.extensions_mut().insert(identity)),
                Ok(None) => {}
                Err(error) => return refused(words(request.headers(), &error), &error),
            }
            next.run(request).await
        })
    })
}

fn admit(request: &Request, need: Need) -> Result<Option<Identity>, ApiError> {
    if need == Need::Nothing {
        return Ok(None);
    }
    let found = request.extensions().get::<Found>().cloned();
    let Found { identity, roles, is_peer } =
        found.ok_or_else(|| ApiError::internal("a request came around the guard"))?;
    let Need::Scope(scope) = need else {
        return match is_peer {
            true => has_role(Scope::Read, roles).map(|()| None),
            false => Err(Denied::NoPeer.answer()),
        };
    };
    let identity = identity.map_err(Denied::answer)?;
    if identity.may(scope) {
        return has_role(scope, roles).map(|()| Some(identity));
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "scope",
        format!(
            "the token `{}` lacks the scope `{scope}`; make one that has it with `lodge token \
             create --scope {scope}`",
            identity.name(),
            scope = scope.name()
        ),
    ))
}

/// Whether this server does what the scope is for.
fn has_role(scope: Scope, roles: Roles) -> Result<(), ApiError> {
    let (role, is_there) = match scope {
        Scope::Ingest => ("ingest", roles.ingest),
        Scope::Read => ("query", roles.query),
        Scope::Admin => return Ok(()),
    };
    if is_there {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "role",
        format!(
            "this server has the roles {}; ask one that has the role `{role}`",
            roles.names().join(", ")
        ),
    ))
}

/// Browsers ask their user for a token: any name, the token as the password.
fn refused(mut response: Response, error: &ApiError) -> Response {
    if error.status() == StatusCode::UNAUTHORIZED {
        let value = HeaderValue::from_static("Basic realm=\"Lodge\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    response
}
