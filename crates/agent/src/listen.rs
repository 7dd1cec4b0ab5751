//! Records that are sent to the agent: syslog and lines over UDP, TCP, Unix sockets and stdin.
//!
//! What comes this way cannot be read again, so it goes through a spool on the disk.
//!
//! ```text
//!  socket ─► intake: frame, parse, batch, pipeline ─► spool, synced ─► deliver: one batch in flight ─► server
//! ```
//!
//! Invariants:
//! - a batch is in the spool, synced, before it is sent; its place there is the producer's position,
//!   so it is stored exactly once from there on;
//! - a record that came in is delivered, or counted as dropped with its reason in the ledger;
//! - memory is bounded: a batch is taken in while one waits for the disk, then the senders wait, or
//!   (UDP, or where the source says so) records are dropped and counted.

mod config;
mod deliver;
mod intake;
mod lines;
mod sockets;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lodge_record::ProducerId;
use lodge_spool::{Options, Recovery, Spool, SpoolError};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use sockets::Sockets;

pub use config::{Address, ListenSource, WhenFull};
pub(crate) use config::{LISTEN_KEYS, RawListen};

use crate::config::AgentConfig;
use crate::counters::Counters;
use crate::live::Live;
use crate::parse::RecordParser;
use crate::pipeline::Pipeline;
use crate::ship::Shipper;
use crate::state::{self, StateDir};
use deliver::Deliver;
use intake::Intake;
use sockets::Socket;

/// What the listeners share with the rest of the agent.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) state: Arc<StateDir>,
    pub(crate) shipper: Arc<Shipper>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) live: Arc<Live>,
}

/// A listener cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Its socket.
    #[error("cannot listen on {address}: {error}; see which program has it, or name another")]
    Socket {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// Its spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The file that names its producer.
    #[error("cannot use {path}: {error}")]
    Producer {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
}

/// The disk queue of one listener, and a bell for when there is something new in it.
#[derive(Debug)]
pub(crate) struct Queue {
    spool: Mutex<Spool>,
    grown: Notify,
}

impl Queue {
    /// Runs `work` on the spool, on a thread that may wait for the disk.
    async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Spool) -> T + Send + 'static,
    ) -> T {
        let queue = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut queue.spool.lock().unwrap_or_else(PoisonError::into_inner))
        });
        done.await.expect("work on the spool does not panic")
    }
}

/// A listener that runs.
pub(crate) struct Listener {
    receiving: JoinHandle<()>,
    delivering: JoinHandle<()>,
}

impl Listener {
    /// Waits until it has ended: what came in is in the spool, and what could be was delivered.
    pub(crate) async fn ended(self) {
        for task in [self.receiving, self.delivering] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a listener failed");
            }
        }
    }
}

/// A listener with its socket and spool open, that has not begun.
pub(crate) struct Prepared {
    socket: Socket,
    intake: Arc<Intake>,
    deliver: Deliver,
}

/// Opens all that a listener needs.
pub(crate) async fn prepare(
    source: &ListenSource,
    parts: &Parts,
) -> Result<Prepared, ListenError> {
    let kept = &parts.config.sockets;
    let socket = sockets::bind(&source.address, kept)
        .await
        .map_err(|error| ListenError::Socket { address: source.address.to_string(), error })?;
    let folder = parts.state.spool_path(&source.address.file_name());
    let options = Options { bytes_max: source.spool_bytes_max, ..Options::default() };
    let (opened, recovery) = {
        let folder = folder.clone();
        let open = tokio::task::spawn_blocking(move || Spool::open(&folder, options, None));
        open.await.expect("opening a spool does not panic")?
    };
    report(&source.address, &recovery);
    let producer = producer_of(&folder).map_err(|error| ListenError::Producer {
        path: folder.join(PRODUCER_FILE).display().to_string(),
        error,
    })?;
    let queue = Arc::new(Queue { spool: Mutex::new(opened), grown: Notify::new() });
    let name = source.address.to_string();
    let parser = RecordParser::for_listener(&parts.config.host, &name, &source.labels);
    let parser = parser.reading(source.format, None);
    let intake = Arc::new(Intake::new(source, parser, Arc::clone(&queue), parts));
    let deliver = Deliver::new(&name, producer, queue, parts, recovery.damaged);
    tracing::info!(address = name, "listening");
    Ok(Prepared { socket, intake, deliver })
}

impl Prepared {
    /// Begins. `stop` ends the receiving; the delivering goes on for the time of a drain.
    pub(crate) fn start(self, stop: &CancellationToken) -> Listener {
        let Prepared { socket, intake, deliver } = self;
        let received = CancellationToken::new();
        let delivering = tokio::spawn(deliver.run(received.clone()));
        let stop = stop.clone();
        let receiving = tokio::spawn(async move {
            socket.receive(Arc::clone(&intake), stop).await;
            intake.finish().await;
            received.cancel();
        });
        Listener { receiving, delivering }
    }
}

/// File in a spool's folder that names its producer.
const PRODUCER_FILE: &str = "producer";

/// The producer of a spool: as old as the spool, since its positions are.
fn producer_of(folder: &Path) -> io::Result<ProducerId> {
    let path = folder.join(PRODUCER_FILE);
    if let Some(known) = std::fs::read_to_string(&path).ok().and_then(|t| t.trim().parse().ok()) {
        return Ok(known);
    }
    let new = ProducerId::random();
    state::replace(&path, format!("{new}\n").as_bytes())?;
    Ok(new)
}

fn report(address: &Address, recovery: &Recovery) {
    if recovery.frames > 0 {
        tracing::info!(%address, batches = recovery.frames, bytes = recovery.bytes,
            "the spool of an earlier run is delivered");
    }
    for damage in &recovery.damaged {
        tracing::error!(%address, ?damage, "a part of the spool is damaged and was put aside");
    }
    for refused in &recovery.refused {
        tracing::error!(%address, %refused, "a file in the spool is left alone");
    }
}

/// How long a full or failing spool is waited for before it is tried again.
const RETRY: Duration = Duration::from_millis(200);
