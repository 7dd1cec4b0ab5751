//! Other servers of a cluster, in this process: engines of their own behind real gRPC over loopback.

use std::sync::Arc;

use lodge_query::{Cluster, Engine, EngineLimits, Peer, channels};
use lodge_store::Store;
use tonic::transport::server::TcpIncoming;
use url::Url;

/// A server that does the tasks it is sent.
pub struct Server {
    pub engine: Arc<Engine>,
    pub url: Url,
    serving: tokio::task::JoinHandle<()>,
}

impl Server {
    pub async fn start(store: &Arc<Store>) -> Self {
        let limits = EngineLimits { threads: 2, ..EngineLimits::default() };
        let engine = Engine::new(store.clone(), limits);
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // Small answers wait for nothing.
        let incoming = incoming.with_nodelay(Some(true));
        let url = Url::parse(&format!("http://{}/", incoming.local_addr().unwrap())).unwrap();
        let service = engine.worker().into_worker_server();
        let serving = tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self { engine, url, serving }
    }

    /// Ends it at once, with what it does.
    pub fn kill(&self) {
        self.serving.abort();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The servers as the one that is asked sees them.
pub fn peers_of(servers: &[Server]) -> Vec<Peer> {
    let peer = |(place, server): (usize, &Server)| Peer {
        name: format!("other-{place}"),
        url: server.url.clone(),
        key: "open sesame".to_owned(),
    };
    servers.iter().enumerate().map(peer).collect()
}

/// A cluster in which every query, however small, is spread.
pub fn cluster_of(servers: &[Server]) -> Cluster {
    let open = |server: &Server| (server.url.to_string(), channels::open(&server.url).unwrap());
    Cluster {
        name: "asked".to_owned(),
        peers: peers_of(servers),
        channels: Arc::new(channels::Channels::new(servers.iter().map(open).collect())),
        rows_min: 1,
    }
}
