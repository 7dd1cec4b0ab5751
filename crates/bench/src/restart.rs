//! `lodge-bench restart`: how soon a server answers that finds many L0s lying about.
//!
//! A running server builds L0s within seconds, so [`lay_l0s`] makes them with the store's own
//! library and without its background work, in a process of its own that ends without closing
//! anything, as a killed server does.
//!
//! Invariant: the first answer counts only if it is right: every committed record, once.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lodge_record::{Batch, TenantId};
use lodge_store::{Store, StoreOptions};
use lodge_wire::jsonline;
use serde::Serialize;

use crate::lodge::LodgeServer;
use crate::process::Process;
use crate::report::Machine;
use crate::target::Target;
use crate::workload::{Fleet, Kind, MESSAGE_FIELD, TIME_FIELD, WorkloadOptions};

/// Records of each small batch; each batch becomes one L0.
const BATCH_RECORDS: u64 = 20;
/// How long making the L0s may take.
const MAKE_MAX: Duration = Duration::from_secs(300);
/// How long the first answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// The subcommand of this program that runs [`lay_l0s`].
pub const LAY_COMMAND: &str = "lay-l0s";

/// How to measure.
#[derive(Clone, Debug)]
pub struct RestartOptions {
    /// The `lodge` binary.
    pub lodge: PathBuf,
    /// Where the run's folder is made; removed at its end.
    pub dir: PathBuf,
    /// How many L0s there are to be.
    pub l0_segments: u64,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Restart {
    /// What was measured, with its version.
    pub target: String,
    /// Where.
    pub machine: Machine,
    /// L0s that the server found.
    pub l0_segments: u64,
    /// Records in them.
    pub records: u64,
    /// From the start of the process to the first right answer of `* | stats count()`.
    pub first_answer_ms: f64,
    /// The same query right after.
    pub second_answer_ms: f64,
}

/// Makes L0s, starts a server on them, asks.
///
/// # Errors
/// When the L0s cannot be made, or the answer is late or wrong.
pub async fn measure(options: &RestartOptions) -> anyhow::Result<Restart> {
    let dir = tempfile::Builder::new()
        .prefix("lodge-restart-")
        .tempdir_in(&options.dir)
        .with_context(|| format!("cannot make a folder in {}", options.dir.display()))?;
    let data_dir = dir.path().join("data");
    let this = std::env::current_exe().context("this program's own path")?;
    let l0_segments = options.l0_segments;
    let number = l0_segments.to_string();
    let args = [OsStr::new(LAY_COMMAND), data_dir.as_os_str(), number.as_ref()];
    Process::start(&this, &args, &dir.path().join("lay.log"))?.finish(MAKE_MAX).await?;
    let records = l0_segments * BATCH_RECORDS;

    let server = LodgeServer::spawn(&options.lodge, &data_dir, dir.path())?;
    let found = loop {
        match count(&server).await {
            Ok(found) => break found,
            Err(error) if server.started().elapsed() > ANSWER_MAX => {
                return Err(error.context(format!("no answer within {ANSWER_MAX:?}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    };
    let first = server.started().elapsed();
    ensure!(found == records, "{found} records after the restart instead of {records}");
    let again = Instant::now();
    count(&server).await?;
    let second = again.elapsed();
    let target = server.version().to_owned();
    server.stop().await;
    Ok(Restart {
        target,
        machine: Machine::this(),
        l0_segments,
        records,
        first_answer_ms: first.as_secs_f64() * 1e3,
        second_answer_ms: second.as_secs_f64() * 1e3,
    })
}

/// Commits so many small batches to a new store in `data_dir` and leaves it as it is: call it
/// last, and end the process without dropping what this returns.
///
/// # Errors
/// What the store fails with.
pub async fn lay_l0s(data_dir: &Path, l0_segments: u64) -> anyhow::Result<impl Sized> {
    let store = Store::open(data_dir, StoreOptions::default()).await?;
    let records = l0_segments * BATCH_RECORDS;
    let options = WorkloadOptions { records, ..WorkloadOptions::default() };
    let received_ns = options.start_ns;
    let mut workload = Fleet::new(options);
    let wire = jsonline::Options {
        time_fields: vec![TIME_FIELD.to_owned()],
        msg_fields: vec![MESSAGE_FIELD.to_owned()],
        stream_fields: Kind::Fleet.stream_fields().iter().map(|&name| name.to_owned()).collect(),
        ..jsonline::Options::default()
    };
    for _ in 0..l0_segments {
        let mut lines = Vec::new();
        for _ in 0..BATCH_RECORDS {
            workload.next_record(&mut lines);
        }
        let decoded = jsonline::decode(&wire, received_ns, &lines)?;
        let records = decoded.records.context("the workload's lines hold no record")?;
        store.commit(vec![Batch::new(TenantId::default(), None, None, records)?]).await?;
    }
    let laid = store.stats().l0_segments;
    ensure!(laid == l0_segments, "{laid} L0s instead of {l0_segments}");
    Ok(store)
}

async fn count(server: &LodgeServer) -> anyhow::Result<u64> {
    let rows = server.logsql("* | stats count() as n").await?;
    let n = rows.first().and_then(|row| row.get("n")).context("no row")?;
    n.parse().with_context(|| format!("n={n}"))
}
