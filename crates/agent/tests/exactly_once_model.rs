//! Whatever happens to files, agent, checkpoint and answers: every line arrives once.
#![allow(clippy::unwrap_used)]

mod receiver;
mod running;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use lodge_agent::Totals;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use receiver::{Faults, Receiver};
use running::{RunningAgent, config};

struct Model {
    seed: u64,
    rng: SmallRng,
    folder: PathBuf,
    receiver: Receiver,
    agent: Option<RunningAgent>,
    /// Lines written, with how often.
    written: BTreeMap<String, usize>,
    total: usize,
    next_id: u64,
    rotations: u64,
    totals: Vec<Totals>,
    old_checkpoint: Option<Vec<u8>>,
    /// Rotated files are compressed, and the checkpoint is never lost: both together double lines.
    compresses: bool,
}

impl Model {
    async fn new(seed: u64, folder: &Path) -> Self {
        Model {
            seed,
            rng: SmallRng::seed_from_u64(seed),
            folder: folder.to_path_buf(),
            receiver: Receiver::start(seed).await,
            agent: None,
            written: BTreeMap::new(),
            total: 0,
            next_id: 0,
            rotations: 0,
            totals: Vec::new(),
            old_checkpoint: None,
            compresses: seed % 3 == 2,
        }
    }

    fn start(&mut self) {
        let mut config = config(&self.receiver.url, &self.folder, "*.log*");
        // Sometimes it has no time to wait for answers, as if it were killed.
        if self.rng.random_bool(0.5) {
            config.timing.drain = Duration::ZERO;
        }
        config.files[0].compressed = self.compresses;
        self.agent = Some(RunningAgent::start(config));
    }

    async fn stop(&mut self) {
        if let Some(agent) = self.agent.take() {
            self.totals.push(agent.stop().await);
        }
    }

    fn log(&mut self) -> PathBuf {
        let number = self.rng.random_range(0..4);
        self.folder.join(format!("app{number}.log"))
    }

    fn line(&mut self) -> String {
        self.next_id += 1;
        let id = self.next_id;
        let padding = "x".repeat(self.rng.random_range(0..200));
        match self.rng.random_range(0..3) {
            0 => format!("2024-01-02T03:04:05Z INFO line {id} {padding}"),
            1 => format!("Jan  2 03:04:05 host app[7]: line {id} {padding}"),
            _ => format!("plain line {id} {padding}"),
        }
    }

    fn note(&mut self, line: &str) {
        *self.written.entry(line.to_owned()).or_default() += 1;
        self.total += 1;
    }

    async fn append(&mut self) {
        let path = self.log();
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let mut bytes = Vec::new();
        for _ in 0..self.rng.random_range(1..60) {
            let line = self.line();
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
            self.note(&line);
        }
        let cut = self.rng.random_range(0..bytes.len());
        tracing::debug!(path = %path.display(), self.next_id, bytes = bytes.len(), "model: wrote");
        file.write_all(&bytes[..cut]).unwrap();
        if self.rng.random_bool(0.3) {
            self.pause().await;
        }
        file.write_all(&bytes[cut..]).unwrap();
    }

    fn rotate(&mut self) {
        let path = self.log();
        if path.exists() {
            self.rotations += 1;
            tracing::debug!(path = %path.display(), self.rotations, "model: renamed");
            fs::rename(&path, format!("{}.{}", path.display(), self.rotations)).unwrap();
        }
    }

    /// Compresses a rotated file as gzip does, in pieces under its last name.
    async fn compress(&mut self) {
        let rotated: Vec<PathBuf> = fs::read_dir(&self.folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e != "log" && e != "gz"))
            .filter(|path| path.is_file())
            .collect();
        if !self.compresses || rotated.is_empty() {
            return;
        }
        let path = &rotated[self.rng.random_range(0..rotated.len())];
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&fs::read(path).unwrap()).unwrap();
        let bytes = encoder.finish().unwrap();
        let mut file = File::create(format!("{}.gz", path.display())).unwrap();
        let cut = self.rng.random_range(0..bytes.len());
        file.write_all(&bytes[..cut]).unwrap();
        if self.rng.random_bool(0.3) {
            self.pause().await;
        }
        file.write_all(&bytes[cut..]).unwrap();
        fs::remove_file(path).unwrap();
    }

    /// Cuts a file that has arrived, and often begins it again with a line that it always had.
    async fn copytruncate(&mut self) {
        if self.agent.is_none() {
            return;
        }
        self.wait().await;
        let path = self.log();
        // The same content twice in the same place is one content to everyone but its writer.
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() < 100) {
            return;
        }
        tracing::debug!(path = %path.display(), "model: truncated");
        let mut file = File::create(path).unwrap();
        if self.rng.random_bool(0.6) {
            // Where only a first line was read, a compressed file that begins with the same one is
            // taken for the rest of it; so first lines differ where files are compressed.
            let number = if self.compresses { self.line() } else { "as ever".to_owned() };
            let header = format!("# the same first line {number}");
            writeln!(file, "{header}").unwrap();
            self.note(&header);
        }
    }

    async fn delete(&mut self) {
        if self.agent.is_none() {
            return;
        }
        self.wait().await;
        let rotated: Vec<PathBuf> = fs::read_dir(&self.folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file() && path.extension().is_some_and(|e| e != "log"))
            .collect();
        if !rotated.is_empty() {
            let at = self.rng.random_range(0..rotated.len());
            tracing::debug!(path = %rotated[at].display(), "model: deleted");
            fs::remove_file(&rotated[at]).unwrap();
        }
    }

    /// Stops and starts the agent, with the checkpoint as it is, from the past, or gone.
    async fn restart(&mut self) {
        self.stop().await;
        let checkpoint = self.folder.join("state/files.json");
        let fate = if self.compresses { 3 } else { self.rng.random_range(0..4) };
        tracing::debug!(fate, "model: restarts; the checkpoint is lost, old, damaged, as it was");
        match fate {
            0 => {
                let _ = fs::remove_file(&checkpoint);
            }
            1 => {
                if let Some(old) = &self.old_checkpoint {
                    fs::write(&checkpoint, old).unwrap();
                }
            }
            2 => {
                let _ = fs::write(&checkpoint, b"{\"version\":1,\"files\":[{\"lab");
            }
            _ => {}
        }
        if self.rng.random_bool(0.5) {
            self.old_checkpoint = fs::read(&checkpoint).ok();
        }
        for _ in 0..self.rng.random_range(0..4) {
            match self.rng.random_range(0..10) {
                0..3 => self.rotate(),
                3..6 => self.compress().await,
                _ => self.append().await,
            }
        }
        self.start();
    }

    /// Waits for all lines; says which are missing if they do not come.
    async fn wait(&self) {
        if !self.receiver.came(self.total).await {
            self.check();
        }
    }

    async fn pause(&mut self) {
        let pause = self.rng.random_range(0..15);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..60 => self.append().await,
            60..72 => self.rotate(),
            72..77 => self.copytruncate().await,
            77..82 => self.delete().await,
            82..90 => self.restart().await,
            90..94 => self.compress().await,
            _ => self.pause().await,
        }
    }

    fn check(&self) {
        let mut arrived: HashMap<String, usize> = HashMap::new();
        for message in self.receiver.messages() {
            *arrived.entry(message).or_default() += 1;
        }
        let mut wrong = Vec::new();
        for (line, count) in &self.written {
            let got = arrived.remove(line).unwrap_or(0);
            if got != *count {
                wrong.push(format!("{got} of {count}: {line}"));
            }
        }
        let (seed, some) = (self.seed, &wrong[..wrong.len().min(9)]);
        assert!(wrong.is_empty(), "seed {seed}: {} lines wrong: {some:#?}", wrong.len());
        assert!(arrived.is_empty(), "seed {seed}: lines that no one wrote: {arrived:?}");
        let alarms = self.receiver.alarms();
        assert!(alarms.is_empty(), "seed {seed}: the ledger does not add up: {alarms:#?}");
    }
}

async fn run(seed: u64) -> Vec<Totals> {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::new(seed, folder.path()).await;
    model.receiver.set_faults(Faults {
        busy: 0.1,
        lost_before: 0.1,
        lost_after: 0.15,
        ..Faults::default()
    });
    model.start();
    for _ in 0..120 {
        model.step().await;
    }
    model.wait().await;
    // Long enough for a line that comes twice to come.
    tokio::time::sleep(Duration::from_millis(100)).await;
    model.stop().await;
    model.check();
    model.totals
}

/// `SEEDS=n` runs that many seeds instead of the dozen of every test run; `SEED=n` runs that one,
/// and with `LODGE_LOG=debug` tells what the agent does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_arrives_once_model() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SEED") {
        if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("LODGE_LOG") {
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
        }
        run(seed).await;
        return;
    }
    let seeds = number("SEEDS").unwrap_or(12);
    let (mut retried, mut duplicates, mut truncated, mut copied) = (0, 0, 0, 0);
    for seed in (0..seeds).step_by(3) {
        let (a, b, c) = tokio::join!(run(seed), run(seed + 1), run(seed + 2));
        for totals in [a, b, c].iter().flatten() {
            retried += totals.retried_requests;
            duplicates += totals.duplicate_batches;
            truncated += totals.truncated_files;
            copied += totals.copied_files;
        }
    }
    // A run in which nothing went wrong would prove nothing.
    assert!(retried > 50 && duplicates > 50 && truncated > 5, "{retried} {duplicates} {truncated}");
    assert!(copied > 5, "{copied} compressed files recognised");
}
