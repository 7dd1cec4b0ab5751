//! Request arguments: the URL's query and, for a POST, the form in the body, as one list.
//!
//! Invariants: the body's value wins over the URL's (as VictoriaLogs does it); an empty value is a
//! missing one; a value that does not parse is a 400 that names the argument.

use axum::body::Body;
use axum::extract::{Form, FromRequest, Query};
use axum::response::IntoResponse;
use http::{Method, Request, StatusCode, header};
use std::str::FromStr;

use crate::answer::ApiError;
use crate::times;

/// The arguments of one request.
#[derive(Debug, Default)]
pub(crate) struct Args {
    pairs: Vec<(String, String)>,
}

impl Args {
    /// The arguments in a URL.
    pub(crate) fn of_uri(uri: &http::Uri) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|e| {
            ApiError::bad_request(format!("the URL's arguments cannot be decoded: {e}"))
        })?;
        Ok(Self { pairs })
    }

    /// The first value of `name` that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of `name` that is not empty.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// The value of `name`, or a 400 that says what it is for.
    pub(crate) fn required(&self, name: &str, example: &str) -> Result<&str, ApiError> {
        self.get(name).ok_or_else(|| {
            ApiError::bad_request(format!("the argument `{name}` is missing; try {name}={example}"))
        })
    }

    /// A time argument in nanoseconds.
    pub(crate) fn time_ns(&self, name: &str, now_ns: i64) -> Result<Option<i64>, ApiError> {
        self.parsed(name, |text| times::parse_time_ns(text, now_ns))
    }

    /// A duration argument in nanoseconds.
    pub(crate) fn duration_ns(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.parsed(name, times::parse_duration_ns)
    }

    /// A whole number.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.parsed(name, |text| {
            text.parse().map_err(|_| format!("`{text}` is not a whole number that is in range"))
        })
    }

    /// True for 1, true, yes and on.
    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "true" | "yes" | "on"))
    }

    fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ApiError> {
        self.get(name)
            .map(parse)
            .transpose()
            .map_err(|reason| ApiError::bad_request(format!("the argument `{name}`: {reason}")))
    }
}

impl<S: Send + Sync> FromRequest<S> for Args {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, state: &S) -> Result<Self, ApiError> {
        let of_url = Self::of_uri(request.uri())?;
        if request.method() != Method::POST || !has_form(&request)? {
            return Ok(of_url);
        }
        let form = Form::<Vec<(String, String)>>::from_request(request, state).await;
        let Form(mut pairs) = form.map_err(|e| {
            let message = format!("the form in the body could not be read: {e}");
            ApiError::new(e.into_response().status(), "bad_form", message)
        })?;
        pairs.extend(of_url.pairs);
        Ok(Self { pairs })
    }
}

/// Whether the body is a form; another kind of body is refused rather than overlooked.
fn has_form(request: &Request<Body>) -> Result<bool, ApiError> {
    let Some(kind) = request.headers().get(header::CONTENT_TYPE) else {
        return Ok(false);
    };
    let kind = kind.to_str().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Ok(true);
    }
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "content_type",
        format!(
            "the body is `{essence}`; send the arguments in the URL or as \
             application/x-www-form-urlencoded (curl --data-urlencode)"
        ),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn of(method: Method, uri: &str, body: &str) -> Result<Args, ApiError> {
        let mut request = Request::builder().method(method).uri(uri);
        if !body.is_empty() {
            request =
                request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; x=y");
        }
        Args::from_request(request.body(Body::from(body.to_owned())).unwrap(), &()).await
    }

    #[tokio::test]
    async fn the_body_wins_over_the_url_and_repeats_are_kept() {
        let args = of(Method::POST, "/x?query=url&field=a&empty=", "query=a+b%3D%C3%A9%25&field=b")
            .await
            .unwrap();
        assert_eq!(args.get("query"), Some("a b=é%"));
        assert_eq!(args.all("field").collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(args.get("empty"), None);
    }

    #[tokio::test]
    async fn a_refusal_names_the_argument() {
        let args = of(Method::GET, "/x?limit=-1&start=never&step=5x", "").await.unwrap();
        for error in [
            args.number::<usize>("limit").unwrap_err(),
            args.time_ns("start", 0).unwrap_err(),
            args.duration_ns("step").unwrap_err(),
        ] {
            assert!(error.message().starts_with("the argument `"), "{error:?}");
            assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        }
    }
}
