//! Requests to an object store, counted as they go over the wire: those that are tried again count
//! each time, which is what the store's bill says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// Counters of requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub(crate) puts: AtomicU64,
    pub(crate) gets: AtomicU64,
    pub(crate) others: AtomicU64,
    /// Answered with 5xx or 429, or not at all.
    pub(crate) failed: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
}

/// Makes clients that count.
#[derive(Debug)]
pub(super) struct CountingConnector(pub(super) Arc<Requests>);

impl HttpConnector for CountingConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Counting { client, requests: Arc::clone(&self.0) }))
    }
}

#[derive(Debug)]
struct Counting {
    client: HttpClient,
    requests: Arc<Requests>,
}

#[async_trait]
impl HttpService for Counting {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let requests = &self.requests;
        let counter = match request.method().as_str() {
            "PUT" | "POST" => &requests.puts,
            "GET" | "HEAD" => &requests.gets,
            _ => &requests.others,
        };
        counter.fetch_add(1, Relaxed);
        requests.sent_bytes.fetch_add(request.body().content_length() as u64, Relaxed);
        let answer = self.client.execute(request).await;
        let failed = match &answer {
            Ok(answer) => answer.status().is_server_error() || answer.status().as_u16() == 429,
            Err(_) => true,
        };
        requests.failed.fetch_add(u64::from(failed), Relaxed);
        answer
    }
}
