//! `lodge-bench ship`: what it costs to ship log files, beside rsyslog and Fluent Bit on the same
//! files, and what an outage of the server does to the agent.
//!
//! Invariants: a shipper is measured until the far end has every line, and nothing more; its CPU
//! time is all that its process used since its start, and that of a server all that it uses until
//! it is at rest.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::freshness::arrival;
use crate::load::Load;
use crate::lodge::LodgeServer;
use crate::process::Usage;
use crate::report::Machine;
use crate::shippers::{Job, Tool, start_agent};
use crate::table;
use crate::target::Target;
use crate::workload::{Fleet, WorkloadOptions};

/// How long a file may take to arrive.
const ARRIVAL_MAX: Duration = Duration::from_secs(600);
/// How often the far end is asked.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// How many quiet files there are, and how long they are watched.
const QUIET_FILES: usize = 1_000;
const QUIET_TIME: Duration = Duration::from_secs(30);
/// How long a shipper has to find the quiet files.
const QUIET_SETTLE: Duration = Duration::from_secs(15);
/// How long the load flows before and after an outage.
const AROUND_OUTAGE: Duration = Duration::from_secs(10);

/// How to measure.
#[derive(Clone, Debug)]
pub struct ShippingOptions {
    /// The `lodge` binary.
    pub lodge: PathBuf,
    /// The `lodge-agent` binary.
    pub agent: PathBuf,
    /// The `rsyslogd` binary, if it is to be measured.
    pub rsyslogd: Option<PathBuf>,
    /// The `fluent-bit` binary, if it is to be measured.
    pub fluent_bit: Option<PathBuf>,
    /// Where the run's folder is made; removed at its end.
    pub dir: PathBuf,
    /// Size of each file.
    pub bytes: u64,
    /// How long the server is gone; none leaves that part out.
    pub outage: Duration,
    /// The load meanwhile, in bytes a second.
    pub rate_bytes_per_s: u64,
    /// Seed of the files and the load.
    pub seed: u64,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Shipping {
    /// Where.
    pub machine: Machine,
    /// Each shipper.
    pub shippers: Vec<Shipper>,
    /// Shippers that were not measured, and why.
    pub not_measured: Vec<String>,
    /// What became of an outage.
    pub outage: Option<Outage>,
}

/// What one shipper used.
#[derive(Clone, Debug, Serialize)]
pub struct Shipper {
    /// Its name and version.
    pub name: String,
    /// How it was set up.
    pub setup: String,
    /// A file of plain lines.
    pub plain: Shipped,
    /// A file of JSON lines.
    pub json: Shipped,
    /// Most memory with a thousand quiet files.
    pub quiet_rss_peak_bytes: u64,
    /// Percent of a core with them.
    pub quiet_cpu_percent: f64,
}

/// One file.
#[derive(Clone, Debug, Serialize)]
pub struct Shipped {
    /// Its size in MB.
    pub mb: f64,
    /// Its lines.
    pub lines: u64,
    /// Until the far end had the last line.
    pub wall_s: f64,
    /// CPU seconds of the shipper.
    pub cpu_s: f64,
    /// Most memory of the shipper.
    pub rss_peak_bytes: u64,
    /// CPU seconds of the Lodge server that it shipped to, until that was at rest.
    pub server_cpu_s: Option<f64>,
}

/// An outage of the server while logs were written.
#[derive(Clone, Debug, Serialize)]
pub struct Outage {
    /// How long the server was gone.
    pub outage_s: f64,
    /// The load in MB a second.
    pub load_mb_per_s: f64,
    /// Bytes that were written meanwhile, in MB.
    pub backlog_mb: f64,
    /// Until the agent had caught up with what was still being written.
    pub caught_up_s: f64,
    /// MB a second that were delivered meanwhile.
    pub catch_up_mb_per_s: f64,
    /// The agent's peak memory before, at the end of the outage, and after.
    pub rss_peak_bytes: [u64; 3],
    /// Lines written, each of which was stored once.
    pub lines: u64,
}

/// Measures all of it; `tell` hears what is going on.
///
/// # Errors
/// When a process fails, or a line is missing or too many.
pub async fn measure(
    options: &ShippingOptions,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Shipping> {
    let dir = tempfile::Builder::new()
        .prefix("lodge-ship-")
        .tempdir_in(&options.dir)
        .with_context(|| format!("cannot make a folder in {}", options.dir.display()))?;
    tell("writing the files");
    let files = Files::write(dir.path(), options)?;
    let mut shippers = Vec::new();
    let mut tools = vec![Tool::Agent(options.agent.clone())];
    tools.extend(options.rsyslogd.clone().map(Tool::Rsyslog));
    tools.extend(options.fluent_bit.clone().map(Tool::FluentBit));
    for tool in &tools {
        let bench = Bench { options, dir: dir.path(), tool };
        let name = tool.name()?;
        tell(&format!("{name}: plain lines"));
        let plain = bench.ship("plain", &files.plain).await?;
        tell(&format!("{name}: JSON lines"));
        let json = bench.ship("json", &files.json).await?;
        tell(&format!("{name}: {QUIET_FILES} quiet files"));
        let (quiet_rss_peak_bytes, quiet_cpu_percent) = bench.quiet(&files.quiet).await?;
        let setup = tool.setup().to_owned();
        shippers.push(Shipper {
            name,
            setup,
            plain,
            json,
            quiet_rss_peak_bytes,
            quiet_cpu_percent,
        });
    }
    drop(files);
    let outage = match options.outage {
        Duration::ZERO => None,
        _ => Some(outage(options, dir.path(), &mut tell).await?),
    };
    Ok(Shipping { machine: Machine::this(), shippers, not_measured: not_measured(options), outage })
}

/// Shippers that are left out, each with the reason.
fn not_measured(options: &ShippingOptions) -> Vec<String> {
    let mut all = Vec::new();
    if options.rsyslogd.is_none() {
        all.push("rsyslog: no `rsyslogd` was named or found (Debian: rsyslog)".to_owned());
    }
    if options.fluent_bit.is_none() {
        all.push("Fluent Bit: no program was named (FLUENT_BIT=…) or found on the PATH".to_owned());
    }
    all.push("Vector: this benchmark has no setup for it".to_owned());
    all
}

/// A file, and how many lines it has.
struct LogFile {
    path: PathBuf,
    lines: u64,
}

impl Drop for LogFile {
    fn drop(&mut self) {
        // They are large, and the folder goes only at the end.
        let _ = fs::remove_file(&self.path);
    }
}

struct Files {
    plain: LogFile,
    json: LogFile,
    /// A glob.
    quiet: PathBuf,
}

impl Files {
    fn write(dir: &Path, options: &ShippingOptions) -> anyhow::Result<Self> {
        let json = write_file(&dir.join("json.log"), options, |line, out| {
            out.extend_from_slice(line);
            Ok(())
        })?;
        let plain = write_file(&dir.join("plain.log"), options, |line, out| {
            let record: serde_json::Value = serde_json::from_slice(line)?;
            let text = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
            let level = text("level").to_uppercase();
            writeln!(out, "{} {level} {}", text("_time"), text("message"))?;
            Ok(())
        })?;
        let quiet = dir.join("quiet");
        fs::create_dir(&quiet).context("the folder of the quiet files")?;
        for number in 0..QUIET_FILES {
            let text = format!("2026-01-01T00:00:00Z INFO file {number} is quiet\n").repeat(20);
            fs::write(quiet.join(format!("{number}.log")), text).context("a quiet file")?;
        }
        Ok(Files { plain, json, quiet: quiet.join("*.log") })
    }
}

fn write_file(
    path: &Path,
    options: &ShippingOptions,
    mut each: impl FnMut(&[u8], &mut Vec<u8>) -> anyhow::Result<()>,
) -> anyhow::Result<LogFile> {
    let workload = WorkloadOptions { seed: options.seed, ..WorkloadOptions::default() };
    let mut workload = Fleet::new(workload);
    let mut out = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
    let (mut line, mut text, mut bytes, mut lines) = (Vec::new(), Vec::new(), 0, 0);
    while bytes < options.bytes {
        line.clear();
        text.clear();
        if workload.next_record(&mut line).is_none() {
            break;
        }
        each(&line, &mut text)?;
        out.write_all(&text).with_context(|| path.display().to_string())?;
        bytes += text.len() as u64;
        lines += 1;
    }
    out.flush().with_context(|| path.display().to_string())?;
    Ok(LogFile { path: path.to_owned(), lines })
}

struct Bench<'b> {
    options: &'b ShippingOptions,
    dir: &'b Path,
    tool: &'b Tool,
}

impl Bench<'_> {
    /// Ships one file to a far end of its own.
    async fn ship(&self, kind: &str, file: &LogFile) -> anyhow::Result<Shipped> {
        let (far_end, folder) = self.far_end(kind).await?;
        let begun = Instant::now();
        let (to, is_json) = (far_end.address(), kind == "json");
        let job = Job { folder: &folder, to, file: &file.path, is_json };
        let process = self.tool.start(&job)?;
        while far_end.lines().await? < file.lines {
            let waited = begun.elapsed();
            ensure!(waited < ARRIVAL_MAX, "not all arrived: {}", process.last_words());
            tokio::time::sleep(ASK_EVERY).await;
        }
        let wall_s = begun.elapsed().as_secs_f64();
        let Usage { cpu_s, rss_peak_bytes } = process.usage()?;
        ensure!(far_end.lines().await? == file.lines, "more lines arrived than were written");
        drop(process);
        let server_cpu_s = far_end.cpu_at_rest_s().await?;
        far_end.end().await;
        let mb = fs::metadata(&file.path).context("the file's size")?.len() as f64 / 1e6;
        Ok(Shipped { mb, lines: file.lines, wall_s, cpu_s, rss_peak_bytes, server_cpu_s })
    }

    /// Peak memory and percent of a core with many quiet files.
    async fn quiet(&self, glob: &Path) -> anyhow::Result<(u64, f64)> {
        let (far_end, folder) = self.far_end("quiet").await?;
        let job = Job { folder: &folder, to: far_end.address(), file: glob, is_json: false };
        let process = self.tool.start(&job)?;
        tokio::time::sleep(QUIET_SETTLE).await;
        let before = process.usage()?;
        tokio::time::sleep(QUIET_TIME).await;
        let after = process.usage()?;
        drop(process);
        far_end.end().await;
        let percent = (after.cpu_s - before.cpu_s) / QUIET_TIME.as_secs_f64() * 100.0;
        Ok((after.rss_peak_bytes, percent))
    }

    async fn far_end(&self, kind: &str) -> anyhow::Result<(FarEnd, PathBuf)> {
        let folder = self.dir.join(format!("{}-{kind}", self.tool.label()));
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let far_end = match self.tool.ships_to_lodge() {
            true => {
                let data = folder.join("data");
                let server = LodgeServer::start(&self.options.lodge, &data, &folder).await?;
                FarEnd::Server(Box::new(server))
            }
            false => FarEnd::Sink(Sink::start()?),
        };
        Ok((far_end, folder))
    }
}

/// Where lines arrive.
enum FarEnd {
    Server(Box<LodgeServer>),
    Sink(Sink),
}

impl FarEnd {
    fn address(&self) -> SocketAddr {
        match self {
            FarEnd::Server(server) => server.client().address(),
            FarEnd::Sink(sink) => sink.address,
        }
    }

    async fn lines(&self) -> anyhow::Result<u64> {
        match self {
            FarEnd::Server(server) => Ok(server.status().await?.rows),
            FarEnd::Sink(sink) => Ok(sink.lines.load(Ordering::Relaxed)),
        }
    }

    /// CPU seconds of a server once it has built what came.
    async fn cpu_at_rest_s(&self) -> anyhow::Result<Option<f64>> {
        let FarEnd::Server(server) = self else { return Ok(None) };
        server.settle().await?;
        Ok(Some(server.usage()?.cpu_s))
    }

    async fn end(self) {
        if let FarEnd::Server(server) = self {
            server.stop().await;
        }
    }
}

/// A socket that counts the lines that come. Its threads end with their connections.
struct Sink {
    address: SocketAddr,
    lines: Arc<AtomicU64>,
}

impl Sink {
    fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("the sink's socket")?;
        let address = listener.local_addr().context("the sink's socket")?;
        let lines = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lines);
        std::thread::Builder::new()
            .name("sink".to_owned())
            .spawn(move || {
                for connection in listener.incoming().flatten() {
                    let counted = Arc::clone(&counted);
                    std::thread::spawn(move || count_lines(connection, &counted));
                }
            })
            .context("the sink's thread")?;
        Ok(Sink { address, lines })
    }
}

fn count_lines(mut from: impl Read, lines: &AtomicU64) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(length) = from.read(&mut buffer) {
        let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else { return };
        let count = memchr::memchr_iter(b'\n', read).count();
        lines.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Logs flow, the server is killed and comes back, and everything arrives.
async fn outage(
    options: &ShippingOptions,
    dir: &Path,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<Outage> {
    let folder = dir.join("outage");
    let logs = folder.join("logs");
    fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    let server = LodgeServer::start(&options.lodge, &folder.join("data"), &folder).await?;
    let to = server.client().address();
    let agent = start_agent(&options.agent, &folder, &to, &logs.join("*.log*"))?;
    let time_max = options.outage * 2 + AROUND_OUTAGE * 10;
    let load = Load::start(options.rate_bytes_per_s, time_max, options.seed, &logs)?;
    tokio::time::sleep(AROUND_OUTAGE).await;
    let before = agent.usage()?.rss_peak_bytes;
    tell(&format!("the server is gone for {:?}", options.outage));
    let (begun, begun_bytes) = (Instant::now(), load.written_bytes());
    let mut server = server.killed_for(options.outage).await?;
    let (outage_s, back) = (begun.elapsed().as_secs_f64(), Instant::now());
    let meanwhile = agent.usage()?.rss_peak_bytes;
    let backlog_bytes = load.written_bytes() - begun_bytes;
    tell(&format!("it is back; {:.0} MB wait", backlog_bytes as f64 / 1e6));
    let (mut stored_bytes, stored_before) = (0, server.status().await?.rows);
    // The load's lines are all of about one length.
    while stored_bytes + options.rate_bytes_per_s / 2 < load.written_bytes() {
        server.ensure_running()?;
        ensure!(back.elapsed() < time_max, "not caught up; {}", agent.last_words());
        tokio::time::sleep(ASK_EVERY * 10).await;
        let rows = server.status().await?.rows;
        stored_bytes = (rows as f64 * load.line_bytes()) as u64;
    }
    let caught_up_s = back.elapsed().as_secs_f64();
    let delivered_rows = server.status().await?.rows - stored_before;
    tokio::time::sleep(AROUND_OUTAGE).await;
    let written_bytes = load.written_bytes();
    let written = load.stop()?;
    arrival(&mut server, written.lines).await?;
    let after = agent.usage()?.rss_peak_bytes;
    drop(agent);
    server.stop().await;
    let line_bytes = written.bytes as f64 / written.lines.max(1) as f64;
    let load_s = begun.elapsed().as_secs_f64() + AROUND_OUTAGE.as_secs_f64();
    Ok(Outage {
        outage_s,
        load_mb_per_s: written_bytes as f64 / 1e6 / load_s,
        backlog_mb: backlog_bytes as f64 / 1e6,
        caught_up_s,
        catch_up_mb_per_s: delivered_rows as f64 * line_bytes / 1e6 / caught_up_s,
        rss_peak_bytes: [before, meanwhile, after],
        lines: written.lines,
    })
}

impl Shipping {
    /// The tables, in Markdown.
    pub fn table(&self) -> String {
        let head = self.shippers.iter().map(|shipper| shipper.name.clone());
        let mut rows: Vec<Vec<String>> =
            vec![std::iter::once("shipping".to_owned()).chain(head).collect()];
        type Read = fn(&Shipper) -> String;
        let lines: [(&str, Read); 10] = [
            ("plain lines, MB per CPU second", |s| s.plain.per_cpu_s()),
            ("plain lines, MB/s", |s| s.plain.per_s()),
            ("plain lines, peak RSS MB", |s| megabytes(s.plain.rss_peak_bytes)),
            ("plain lines, CPU-s/GB of the Lodge server", |s| s.plain.of_server()),
            ("JSON that is parsed, MB per CPU second", |s| s.json.per_cpu_s()),
            ("JSON that is parsed, MB/s", |s| s.json.per_s()),
            ("JSON, peak RSS MB", |s| megabytes(s.json.rss_peak_bytes)),
            ("JSON, CPU-s/GB of the Lodge server", |s| s.json.of_server()),
            ("1,000 quiet files, peak RSS MB", |s| megabytes(s.quiet_rss_peak_bytes)),
            ("1,000 quiet files, % of a core", |s| format!("{:.2}", s.quiet_cpu_percent)),
        ];
        for (name, read) in lines {
            let cells = self.shippers.iter().map(read);
            rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
        }
        let mut out = format!("{}\n\n{}", self.machine.text(), table::markdown(&rows));
        let setups = self.shippers.iter().map(|s| format!("- {}: {}\n", s.name, s.setup));
        out.extend(setups);
        out.extend(self.not_measured.iter().map(|why| format!("- not measured: {why}\n")));
        if let Some(outage) = &self.outage {
            let [before, meanwhile, after] = outage.rss_peak_bytes.map(megabytes);
            out.push_str(&format!(
                "\nThe server gone for {:.0} s at {:.1} MB/s: {:.0} MB waited, caught up after \
                 {:.0} s at {:.0} MB/s; agent's peak RSS {before} MB before, {meanwhile} MB at its \
                 end, {after} MB after; {} lines, each stored once\n",
                outage.outage_s,
                outage.load_mb_per_s,
                outage.backlog_mb,
                outage.caught_up_s,
                outage.catch_up_mb_per_s,
                outage.lines,
            ));
        }
        out
    }
}

impl Shipped {
    fn per_cpu_s(&self) -> String {
        format!("{:.0}", self.mb / self.cpu_s)
    }

    fn of_server(&self) -> String {
        self.server_cpu_s.map_or_else(|| "–".to_owned(), |s| format!("{:.1}", s / self.mb * 1e3))
    }

    fn per_s(&self) -> String {
        format!("{:.0}", self.mb / self.wall_s)
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / 1e6)
}
