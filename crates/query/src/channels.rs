//! Connections to other servers, over which tasks go.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::error::DataFusionError;
use datafusion_distributed::grpc::{BoxCloneSyncChannel, create_worker_client};
use datafusion_distributed::{ChannelResolver, WorkerChannel};
use http::Uri;
use tonic::transport::Endpoint;
use tower::Service;
use url::Url;

use crate::error::QueryError;

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How often it is asked whether the other side is still there, and how long that may take.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// Bytes of one task that may be on their way.
const TASK_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of all tasks to one server that may be on their way.
const WINDOW_BYTES: u32 = 16 << 20;

/// A connection that is made, and made again, when it is needed.
pub type Channel = BoxCloneSyncChannel;

fn endpoint(url: &Url) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(url.to_string()).map_err(|error| error.to_string())?;
    Ok(endpoint
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(ALIVE_EVERY)
        .keep_alive_timeout(ALIVE_EVERY)
        .initial_stream_window_size(TASK_WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES))
}

/// A connection in the clear.
///
/// # Errors
/// If the URL is none that can be connected to.
pub fn open(url: &Url) -> Result<Channel, String> {
    Ok(BoxCloneSyncChannel::new(endpoint(url)?.connect_lazy()))
}

/// A connection that `connector` makes.
///
/// # Errors
/// As [`open`].
pub fn open_with<C>(url: &Url, connector: C) -> Result<Channel, String>
where
    C: Service<Uri, Error = std::io::Error> + Send + 'static,
    C::Response: hyper::rt::Read + hyper::rt::Write + Send + Unpin,
    C::Future: Send,
{
    Ok(BoxCloneSyncChannel::new(endpoint(url)?.connect_with_connector_lazy(connector)))
}

/// Connections by the URL of the server.
#[derive(Clone)]
pub struct Channels(BTreeMap<String, Channel>);

impl Channels {
    /// These.
    pub fn new(by_url: BTreeMap<String, Channel>) -> Self {
        Self(by_url)
    }
}

#[async_trait]
impl ChannelResolver for Channels {
    async fn get_worker_client_for_url(
        &self,
        url: &Url,
    ) -> Result<Box<dyn WorkerChannel>, DataFusionError> {
        let channel = self.0.get(url.as_str()).cloned();
        let missing = || QueryError::internal(format!("there is no way to {url}"));
        Ok(create_worker_client(channel.ok_or_else(missing)?))
    }
}
