//! `lodge-bench restart`: how soon a server answers that was killed with many L0s lying about.
//!
//! Invariant: the first answer counts only if it is right: every acknowledged record, once.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::lodge::LodgeServer;
use crate::report::Machine;
use crate::target::Target;
use crate::workload::{Workload, WorkloadOptions};

/// Records of each small batch; each batch becomes one L0.
const BATCH_RECORDS: u64 = 20;
/// How long making the L0s may take.
const MAKE_MAX: Duration = Duration::from_secs(120);
/// How often the server is asked how many L0s it has.
const LOOK_EVERY: u64 = 25;
/// How long the first answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// How to measure.
#[derive(Clone, Debug)]
pub struct RestartOptions {
    /// The `lodge` binary.
    pub lodge: PathBuf,
    /// Where the run's folder is made; removed at its end.
    pub dir: PathBuf,
    /// How many L0s there are to be at the kill.
    pub l0_segments: u64,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Restart {
    /// What was measured, with its version.
    pub target: String,
    /// Where.
    pub machine: Machine,
    /// L0s just before the kill.
    pub l0_segments: u64,
    /// Records in them and in what was built already.
    pub records: u64,
    /// From the start of the process to the first right answer of `* | stats count()`.
    pub first_answer_ms: f64,
    /// The same query right after.
    pub second_answer_ms: f64,
}

/// Makes L0s, kills, restarts, asks.
///
/// # Errors
/// When the L0s cannot be made faster than they are built, or the answer is late or wrong.
pub async fn measure(options: &RestartOptions) -> anyhow::Result<Restart> {
    let dir = tempfile::Builder::new()
        .prefix("lodge-restart-")
        .tempdir_in(&options.dir)
        .with_context(|| format!("cannot make a folder in {}", options.dir.display()))?;
    let data_dir = dir.path().join("data");
    let mut server = LodgeServer::start(&options.lodge, &data_dir, dir.path()).await?;
    let (records, l0_segments) = make_l0s(&server, options.l0_segments).await?;
    server.kill();

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

/// Inserts one small batch after the other until so many L0s lie about; gives the acknowledged
/// records and the L0s.
async fn make_l0s(server: &LodgeServer, wanted: u64) -> anyhow::Result<(u64, u64)> {
    let records = wanted * 100 * BATCH_RECORDS;
    let mut workload = Workload::new(WorkloadOptions { records, ..WorkloadOptions::default() });
    let begun = Instant::now();
    let mut acknowledged = 0;
    for batch in 1.. {
        let mut lines = Vec::new();
        for _ in 0..BATCH_RECORDS {
            workload.next_record(&mut lines);
        }
        server.insert(lines).await?;
        acknowledged += BATCH_RECORDS;
        if batch % LOOK_EVERY == 0 {
            let l0_segments = server.status().await?.segments.l0;
            if l0_segments >= wanted {
                return Ok((acknowledged, l0_segments));
            }
            let waited = begun.elapsed();
            ensure!(
                waited < MAKE_MAX && acknowledged < records,
                "only {l0_segments} L0s after {batch} batches and {waited:?}: they are built \
                 faster than they are made"
            );
        }
    }
    Ok((acknowledged, 0))
}

async fn count(server: &LodgeServer) -> anyhow::Result<u64> {
    let rows = server.logsql("* | stats count() as n").await?;
    let n = rows.first().and_then(|row| row.get("n")).context("no row")?;
    n.parse().with_context(|| format!("n={n}"))
}
