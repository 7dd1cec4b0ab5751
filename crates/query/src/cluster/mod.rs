//! A query over several servers: each reads the segments that are its own, the one that was asked
//! puts together what they give.
//!
//! ```text
//!   asked server                                        every other server with the role
//!   plan ─ leaf ─┬─ own segments: read here
//!                ├─ Task{segments, predicate, what} ─► rebuilt over its own store ─ read
//!                └─ Frame… ◄──────────────────────────── rows │ sums │ newest, how far, the end
//! ```
//!
//! The way is that of `datafusion-distributed`: its worker holds a task, its gRPC service carries
//! Arrow, and a stream that is dropped ends the work. What is sent is a leaf, never a plan: see
//! docs/adr/0011.
//!
//! Invariants:
//! - the answer is that of one server: a part counts only once its [`Frame::End`] came, or, of rows,
//!   exactly as far as they came; what is missing is read here;
//! - a task reads no catalog: which segments, and what the catalog knows of them, travels with it;
//! - who does the work charges nothing to the tenant, who asked charges all of it;
//! - servers of different versions send each other nothing.

mod ask;
mod frames;
mod serve;
mod task;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use datafusion::prelude::SessionConfig;
use datafusion_distributed::{ChannelResolver, DistributedExt};
use lodge_store::SegmentRef;
use url::Url;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::plan::Functions;

pub(crate) use ask::{Failure, Part};
pub(crate) use frames::{Charged, Frame, Origin, WHOLE, bytes_of};
pub(crate) use serve::{Kit, Out, worker};
pub(crate) use task::{GroupsSent, ShapeSent, Work};

/// Records below which a query is answered by one server: to ask others takes some milliseconds.
pub const SPREAD_ROWS_MIN: u64 = 1 << 22;
/// A server that went away is not asked again for so long.
const AWAY: Duration = Duration::from_secs(5);

/// What servers that work on a query together must have in common.
pub fn version() -> String {
    // Raised with any change of what travels; the catalog's list of servers carries it.
    format!("{}/1", env!("CARGO_PKG_VERSION"))
}

/// Another server that works on queries.
#[derive(Clone, PartialEq, Eq)]
pub struct Peer {
    /// What it is known by, as [`Cluster::name`].
    pub name: String,
    /// Where it is reached.
    pub url: Url,
    /// What it wants to be shown as `Authorization: Bearer`.
    pub key: String,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.url)
    }
}

/// The servers that work on queries together.
#[derive(Clone)]
pub struct Cluster {
    /// What this server is known by.
    pub name: String,
    /// The others.
    pub peers: Vec<Peer>,
    /// How they are reached.
    pub channels: Arc<dyn ChannelResolver + Send + Sync>,
    /// Records from which on the others are asked: see [`SPREAD_ROWS_MIN`].
    pub rows_min: u64,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} among {:?}", self.name, self.peers)
    }
}

/// The segments that other servers read.
pub(crate) type Shares = Vec<(Peer, Vec<Arc<SegmentRef>>)>;

/// Servers that went away, and when.
pub(crate) type Away = Arc<Mutex<HashMap<String, Instant>>>;

/// A [`Cluster`] as queries see it.
pub(crate) struct Among {
    cluster: Cluster,
    pub(crate) rows_min: u64,
    away: Away,
    config: SessionConfig,
    pub(crate) functions: Arc<Functions>,
}

impl fmt::Debug for Among {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cluster.fmt(f)
    }
}

impl Among {
    /// `None` without others.
    pub(crate) fn new(
        cluster: Cluster,
        away: Away,
        functions: Arc<Functions>,
    ) -> Option<Arc<Self>> {
        if cluster.peers.is_empty() {
            return None;
        }
        let config = SessionConfig::new()
            .with_distributed_user_codec(serve::Codec::default())
            .with_distributed_channel_resolver(cluster.channels.clone());
        let rows_min = cluster.rows_min.max(1);
        Some(Arc::new(Self { cluster, rows_min, away, config, functions }))
    }

    /// The others that can be asked.
    fn there(&self) -> Vec<&Peer> {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let is_away = |peer: &&Peer| away.get(&peer.name).is_some_and(|at| at.elapsed() < AWAY);
        self.cluster.peers.iter().filter(|peer| !is_away(peer)).collect()
    }

    /// Notes that a server went away.
    fn went(&self, peer: &Peer, why: &str) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.retain(|_, at| at.elapsed() < AWAY);
        if away.insert(peer.name.clone(), Instant::now()).is_none() {
            tracing::warn!(peer = peer.name, url = %peer.url, why, "a server went away from a query");
        }
    }

    /// Whose each segment is: those that are read here, and those of each other server. Which server
    /// that is changes for few segments when one comes or goes, so that what it has in memory serves
    /// the next query.
    pub(crate) fn divide(
        self: &Arc<Self>,
        segments: Vec<Arc<SegmentRef>>,
    ) -> (Vec<Arc<SegmentRef>>, Shares) {
        let mut of_others: Shares =
            self.there().into_iter().map(|peer| (peer.clone(), Vec::new())).collect();
        let mut own = Vec::new();
        for segment in segments {
            let here = weight(&self.cluster.name, &segment);
            let best = of_others
                .iter_mut()
                .map(|(peer, list)| (weight(&peer.name, &segment), list))
                .max_by_key(|(weight, _)| *weight)
                .filter(|(weight, _)| *weight > here);
            match best {
                Some((_, list)) => list.push(segment),
                None => own.push(segment),
            }
        }
        of_others.retain(|(_, list)| !list.is_empty());
        (own, of_others)
    }
}

/// How much a segment belongs to a server, by rendezvous hashing.
fn weight(name: &str, segment: &SegmentRef) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), segment.id.0)
}
