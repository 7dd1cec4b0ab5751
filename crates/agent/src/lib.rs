//! The agent: tails files and the systemd journal, frames and parses their records, and ships them
//! so that each is stored exactly once.
//!
//! The way of a record: [`discover`] finds a file, [`tail`] reads a turn of it, [`frame`] cuts it
//! into records ([`trace`] says which lines belong together), [`parse`] makes rows of them,
//! [`pipeline`] drops, routes and redacts them, and [`ship`] sends the batch under the producer's
//! next [`sequence`] number. Only the server's acknowledgement moves the checkpoint in [`state`].
//!
//! Invariants:
//! - for files the file is the buffer: no bytes are kept between turns, so a server that is down
//!   costs neither disk nor memory;
//! - what the server has committed wins over the agent's own memory, so a checkpoint that is stale
//!   or lost neither doubles nor loses a line;
//! - every line that is read is acknowledged, or counted in [`counters`] with the reason why not.

mod account;
pub mod assemble;
mod checkpoint;
mod compressed;
pub mod config;
pub mod connection;
pub mod containers;
mod content;
mod copies;
pub mod counters;
mod dead_letter;
mod descriptors;
mod discover;
pub mod frame;
pub mod framing;
pub mod identity;
mod journal;
pub mod listen;
mod live;
pub mod logfmt;
mod losses;
pub mod parse;
pub mod pipeline;
mod reader;
mod replay;
pub mod sequence;
mod ship;
mod state;
mod tail;
pub mod timestamp;
pub mod trace;
mod walk;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use config::{AgentConfig, ConfigError, FileSource, JournalMode, JournalSource, Start, Timing};
pub use containers::{ContainerSource, ContainersMode, KubernetesApi};
pub use counters::{Counters, Totals};
pub use listen::{Address, ListenSource, WhenFull};
pub use lodge_wire::level;
pub use replay::{Replayed, replay};
pub use state::StateError;

use crate::config::JournalMode as Mode;
use crate::connection::CredentialsError;
use crate::dead_letter::DeadLetters;
use crate::discover::Globs;
use crate::journal::Journal;
use crate::listen::{ListenError, Parts, Prepared};
use crate::live::Live;
use crate::pipeline::{Pipeline, PipelineTotals};
use crate::reader::{Event, Reader};
use crate::ship::{Shipper, Shippers};
use crate::state::StateDir;

/// How often the counters are logged.
const REPORT_PERIOD: Duration = Duration::from_secs(60);

/// Why an agent could not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The token or the certificates cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The HTTP client could not be made.
    #[error("cannot set up the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The thread that reads files could not be started, or ended by a bug.
    #[error("the thread that reads files {0}")]
    Thread(String),
}

/// Runs an agent until `shutdown`, then waits a little for acknowledgements, writes the checkpoint
/// and returns what it did. Needs a Tokio runtime with time and I/O.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> Result<Totals, AgentError> {
    run_counted(config, shutdown, Arc::default()).await
}

/// As [`run`], with counters that the caller can look at meanwhile.
pub async fn run_counted(
    config: AgentConfig,
    shutdown: CancellationToken,
    counters: Arc<Counters>,
) -> Result<Totals, AgentError> {
    config.check()?;
    let config = config.with_container_files();
    let globs = config.files.iter().map(Globs::new).collect::<Result<Vec<_>, _>>()?;
    let config = Arc::new(config);
    let state = Arc::new(StateDir::open(&config.state_dir, &config.host)?);
    let cancel_shipping = CancellationToken::new();
    let pipeline = Arc::new(Pipeline::new(&config.pipeline)?);
    let dead_letters = DeadLetters::new(&state.dead_letter_path());
    let mut shippers = Shippers::new(&config.servers, |servers| {
        Shipper::new(
            servers,
            &config.credentials,
            config.timing.backoff,
            dead_letters.clone(),
            Arc::clone(&counters),
            cancel_shipping.clone(),
        )
    });
    let of_files = config.files.iter().map(|source| shippers.to(&source.servers));
    let of_files = of_files.collect::<Result<Vec<_>, _>>()?;
    let of_journal = shippers.to(&config.journal.servers)?;
    let shipper = shippers.to(&[])?;
    let live = Arc::new(Live::default());
    let parts = Parts {
        config: Arc::clone(&config),
        state: Arc::clone(&state),
        shipper: Arc::clone(&shipper),
        pipeline: Arc::clone(&pipeline),
        counters: Arc::clone(&counters),
        live: Arc::clone(&live),
    };
    // Nothing runs before all that may fail has been done.
    let prepared = prepare_listeners(&parts).await?;
    tracing::info!(agent = %state.agent(), servers = ?config.servers, host = config.host,
        state_dir = %config.state_dir.display(), "agent started");
    let journal = start_journal(&config, &state, &of_journal, &pipeline, &counters, &shutdown);
    let tell = Arc::clone(&live).report(
        state.agent(),
        config.host.clone(),
        Arc::clone(&shipper),
        Arc::clone(&counters),
    );
    let log = report(Arc::clone(&counters), Arc::clone(&pipeline));
    let report = tokio::spawn(async { tokio::join!(log, tell) });
    let listeners = start_listeners(&config, prepared, &shutdown);

    let (reader, events) = Reader::new(
        Arc::clone(&config),
        state,
        Arc::clone(&counters),
        Arc::clone(&pipeline),
        of_files,
        globs,
    );
    let reader = reader.telling(live);
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::Builder::new()
        .name("lodge-files".into())
        .spawn(move || {
            reader.run();
            drop(ended);
        })
        .map_err(|error| AgentError::Thread(format!("cannot be started: {error}")))?;
    tokio::pin!(end);
    tokio::select! {
        () = shutdown.cancelled() => {}
        _ = &mut end => {}
    }
    // If the loop has ended already there is no one to tell.
    let _ = events.send(Event::Stop);
    let _ = end.await;
    shutdown.cancel();
    // What is in the spools by then stays there for the next run.
    let mut listeners = std::pin::pin!(listeners);
    let drained = tokio::time::timeout(config.timing.drain, &mut listeners).await;
    cancel_shipping.cancel();
    if drained.is_err() {
        listeners.await;
    }
    if let Some(journal) = journal
        && let Err(error) = journal.await
    {
        tracing::error!(%error, "the journal's task failed");
    }
    report.abort();
    thread.join().map_err(|_| AgentError::Thread("ended by a bug; see its panic above".into()))?;
    let totals = counters.totals();
    tracing::info!(%totals, pipeline = %pipeline.totals(), "agent stopped");
    Ok(totals)
}

/// Opens the sockets and spools of all listeners.
async fn prepare_listeners(parts: &Parts) -> Result<Vec<Prepared>, ListenError> {
    let config = &parts.config;
    config.sockets.keep_only(&config.listen);
    let mut prepared = Vec::new();
    for source in &config.listen {
        prepared.push(listen::prepare(source, parts).await?);
    }
    Ok(prepared)
}

/// Starts all listeners; the future ends when they all have. Where the standard input is all there
/// is to read, its end is the agent's.
fn start_listeners(
    config: &AgentConfig,
    prepared: Vec<Prepared>,
    shutdown: &CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let listeners: Vec<_> = prepared.into_iter().map(|one| one.start(shutdown)).collect();
    let alone = config.files.is_empty() && config.journal.mode == Mode::Off;
    let only_stdin = matches!(&*config.listen, [one] if one.address == Address::Stdin) && alone;
    let shutdown = shutdown.clone();
    let ended = tokio::spawn(async move {
        for listener in listeners {
            listener.ended().await;
        }
        if only_stdin {
            shutdown.cancel();
        }
    });
    async move {
        if let Err(error) = ended.await {
            tracing::error!(%error, "the listeners' task failed");
        }
    }
}

fn start_journal(
    config: &Arc<AgentConfig>,
    state: &Arc<StateDir>,
    shipper: &Arc<Shipper>,
    pipeline: &Arc<Pipeline>,
    counters: &Arc<Counters>,
    stop: &CancellationToken,
) -> Option<tokio::task::JoinHandle<()>> {
    if config.journal.mode == Mode::Off {
        return None;
    }
    if config.journal.program.is_none() && !journal::is_here() {
        tracing::info!("no systemd journal here; left out");
        return None;
    }
    let journal = Journal::new(
        Arc::clone(config),
        Arc::clone(state),
        Arc::clone(shipper),
        Arc::clone(pipeline),
        Arc::clone(counters),
    );
    Some(tokio::spawn(journal.run(stop.clone())))
}

async fn report(counters: Arc<Counters>, pipeline: Arc<Pipeline>) {
    let mut last = (Totals::default(), PipelineTotals::default());
    loop {
        tokio::time::sleep(REPORT_PERIOD).await;
        let now = (counters.totals(), pipeline.totals());
        if now != last {
            tracing::info!(totals = %now.0, pipeline = %now.1, "so far");
            last = now;
        }
    }
}
