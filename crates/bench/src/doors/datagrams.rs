//! Floods of syslog in datagrams: what of them is stored, and whether the rest is counted.
//!
//! The server runs on the first processor and the sender on the second, each a process of its own.
//!
//! Invariant: `sent = stored + dropped`, where what is dropped is what the server's own metrics
//! say, those of the kernel among them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::DoorsOptions;
use super::protocols::count;
use super::record::Record;
use crate::lodge::{LodgeServer, Setup};
use crate::process::{Process, Usage};
use crate::sender::Generated;
use crate::table;
use crate::target::Target;
use crate::workload::{Kind, WorkloadOptions};

/// The hidden command that sends.
pub const FLOOD_COMMAND: &str = "flood";
/// Processors of server and sender.
const SERVER_CPU: usize = 0;
const SENDER_CPU: usize = 1;
/// Different messages; they are sent again and again.
const MESSAGES: usize = 4_096;
/// Bytes of a message, from and to.
const MESSAGE_BYTES: std::ops::RangeInclusive<usize> = 150..=250;
/// Datagrams that are sent before the clock is looked at.
const BURST: u64 = 32;
/// How long a sender that is ahead of its rate waits.
const PAUSE: Duration = Duration::from_micros(200);
/// How long it may take until every datagram is accounted for.
const ACCOUNTED_MAX: Duration = Duration::from_secs(60);
/// Nothing more changes when nothing has for so long.
const STILL: Duration = Duration::from_secs(5);
const SETTING: &str = "syslog_udp";

/// How many datagrams a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FloodRate {
    /// So many.
    PerSecond(u64),
    /// As many as the sender can.
    FlatOut,
}

impl FromStr for FloodRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self::FlatOut),
            number => match number.parse() {
                Ok(rate) if (1..=10_000_000).contains(&rate) => Ok(Self::PerSecond(rate)),
                _ => Err(format!("{number:?} is no rate; write for instance 100000 or max")),
            },
        }
    }
}

impl fmt::Display for FloodRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(rate) => write!(f, "{rate}"),
            Self::FlatOut => f.write_str("max"),
        }
    }
}

/// What to send.
#[derive(Clone, Debug)]
pub struct FloodOptions {
    /// Where to.
    pub to: SocketAddr,
    /// How many a second.
    pub rate: FloodRate,
    /// How long.
    pub time: Duration,
    /// Seed of the messages.
    pub seed: u64,
}

/// What a sender did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Datagrams that it did not take.
    pub refused: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Sends datagrams, half of RFC 5424 and half of RFC 3164.
///
/// # Errors
/// When there is no socket.
pub fn flood(options: &FloodOptions) -> anyhow::Result<Sent> {
    let messages = messages(options.seed)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("a socket to send from")?;
    socket.connect(options.to).with_context(|| options.to.to_string())?;
    let begun = Instant::now();
    let mut sent = Sent { sent: 0, bytes: 0, refused: 0, seconds: 0.0 };
    let mut next = messages.iter().cycle();
    loop {
        let elapsed = begun.elapsed();
        if elapsed >= options.time {
            break;
        }
        let due = match options.rate {
            FloodRate::PerSecond(rate) => (elapsed.as_secs_f64() * rate as f64) as u64,
            FloodRate::FlatOut => u64::MAX,
        };
        let tried = sent.sent + sent.refused;
        if tried >= due {
            std::thread::sleep(PAUSE);
            continue;
        }
        for message in next.by_ref().take((due - tried).min(BURST) as usize) {
            match socket.send(message) {
                Ok(_) => {
                    sent.sent += 1;
                    sent.bytes += message.len() as u64;
                }
                Err(_) => sent.refused += 1,
            }
        }
    }
    sent.seconds = begun.elapsed().as_secs_f64();
    Ok(sent)
}

fn messages(seed: u64) -> anyhow::Result<Vec<Vec<u8>>> {
    let options = WorkloadOptions { seed, ..WorkloadOptions::default() };
    let generator = Kind::Fleet.generator(options);
    let mut generated = Generated { generator, each: |_: &[u8]| Ok(()) };
    let mut messages = Vec::new();
    while messages.len() < MESSAGES {
        let line = generated.next_of(1)?;
        ensure!(!line.is_empty(), "the workload has too few messages");
        let record = Record::read(&line)?;
        let text = match messages.len() % 2 {
            0 => syslog_5424(&record),
            _ => syslog_3164(&record)?,
        };
        if MESSAGE_BYTES.contains(&text.len()) {
            messages.push(text.into_bytes());
        }
    }
    Ok(messages)
}

fn syslog_5424(record: &Record<'_>) -> String {
    format!(
        "<{}>1 {} {} {} 4711 - [origin@32473 pod=\"{}\"] {}",
        128 + record.severity(),
        record.time,
        record.host,
        record.service,
        record.pod,
        record.message
    )
}

fn syslog_3164(record: &Record<'_>) -> anyhow::Result<String> {
    let time: jiff::Timestamp = record.time.parse().context("a record's time")?;
    Ok(format!(
        "<{}>{} {} {}[4711]: {} trace_id={}",
        128 + record.severity(),
        time.strftime("%b %e %H:%M:%S"),
        record.host,
        record.service,
        record.message,
        record.trace_id
    ))
}

/// All floods.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Floods {
    /// Each.
    pub runs: Vec<Flooded>,
}

/// What became of a flood.
#[derive(Clone, Debug, Serialize)]
pub struct Flooded {
    /// What was asked for.
    pub rate: FloodRate,
    /// What was sent.
    pub sent: Sent,
    /// Records that a query counts.
    pub stored: u64,
    /// Datagrams that the kernel dropped, by the server's metrics.
    pub dropped_by_kernel: u64,
    /// Datagrams that the server dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// What is neither stored nor counted as dropped; below 0 if more is counted than was sent.
    pub unaccounted: i64,
    /// CPU seconds of the server while datagrams came.
    pub cpu_s: f64,
    /// CPU seconds of the server until all was built.
    pub settled_cpu_s: f64,
    /// Most memory of the server.
    pub rss_peak_bytes: u64,
}

/// Floods fresh servers.
pub(super) async fn measure(
    options: &DoorsOptions,
    dir: &Path,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<Floods> {
    let mut floods = Floods::default();
    for &rate in &options.rates {
        tell(&format!("datagrams: {rate} a second"));
        let folder = dir.join(format!("flood-{rate}"));
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        floods.runs.push(one(options, rate, &folder).await?);
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    Ok(floods)
}

async fn one(options: &DoorsOptions, rate: FloodRate, folder: &Path) -> anyhow::Result<Flooded> {
    let mut setup = Setup::on_cpu(SERVER_CPU);
    setup.open_door(SETTING)?;
    let data = folder.join("data");
    let server = LodgeServer::start_with(&options.lodge, &data, folder, setup).await?;
    let before = server.usage()?;
    let sent = send(options, rate, &server, folder).await?;
    let cpu_s = server.usage()?.cpu_s - before.cpu_s;
    let (stored, mut dropped) = accounted(&server, sent.sent).await?;
    server.settle().await?;
    let Usage { cpu_s: settled_cpu_s, rss_peak_bytes } = server.usage()?;
    server.stop().await;
    let all: u64 = dropped.values().sum();
    let unaccounted = i64::try_from(sent.sent)? - i64::try_from(stored + all)?;
    let dropped_by_kernel = dropped.remove("kernel_buffer").unwrap_or(0);
    Ok(Flooded {
        rate,
        sent,
        stored,
        dropped_by_kernel,
        dropped,
        unaccounted,
        cpu_s,
        settled_cpu_s: settled_cpu_s - before.cpu_s,
        rss_peak_bytes,
    })
}

/// Runs the sender.
async fn send(
    options: &DoorsOptions,
    rate: FloodRate,
    server: &LodgeServer,
    folder: &Path,
) -> anyhow::Result<Sent> {
    let this = std::env::current_exe().context("this program's own path")?;
    let to = server.door(SETTING).context("no door")?.to_string();
    let (rate, seconds) = (rate.to_string(), options.flood_s.to_string());
    let seed = options.seed.to_string();
    let args =
        [FLOOD_COMMAND, "--to", &to, "--rate", &rate, "--seconds", &seconds, "--seed", &seed];
    let log = folder.join("flood.log");
    let mut sender = Process::start_on(Some(SENDER_CPU), &this, &args, &log)?;
    sender.finish(Duration::from_secs(options.flood_s + 60)).await?;
    let said = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
    serde_json::from_str(&said).with_context(|| format!("the sender said {said:?}"))
}

/// What is stored and what is dropped, when all is one of them or nothing changes any more.
async fn accounted(
    server: &LodgeServer,
    sent: u64,
) -> anyhow::Result<(u64, BTreeMap<String, u64>)> {
    let begun = Instant::now();
    let mut last = (0, BTreeMap::new());
    let mut still_since = Instant::now();
    loop {
        let now = (count(server).await?, dropped(server).await?);
        let all = now.0 + now.1.values().sum::<u64>();
        if now != last {
            still_since = Instant::now();
        }
        if all == sent || still_since.elapsed() > STILL || begun.elapsed() > ACCOUNTED_MAX {
            return Ok(now);
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the server's metrics say that it dropped, by reason.
async fn dropped(server: &LodgeServer) -> anyhow::Result<BTreeMap<String, u64>> {
    let text = server.client().get("/metrics", &[]).await?;
    let text = String::from_utf8(text).context("/metrics")?;
    let mut dropped = BTreeMap::new();
    let name = "lodge_socket_dropped_messages_total{";
    for line in text.lines().filter(|line| line.starts_with(name) && line.contains(SETTING)) {
        let reason = line.split_once("reason=\"").and_then(|(_, rest)| rest.split_once('"'));
        let value = line.rsplit_once(' ').and_then(|(_, value)| value.parse().ok());
        let (Some((reason, _)), Some(value)) = (reason, value) else { continue };
        if value > 0 {
            dropped.insert(reason.to_owned(), value);
        }
    }
    Ok(dropped)
}

impl Floods {
    /// The table, in Markdown.
    pub(super) fn table(&self) -> String {
        let head = [
            "asked for a second",
            "sent a second",
            "stored a second",
            "sent",
            "stored",
            "dropped by the kernel",
            "dropped by the server",
            "unaccounted",
            "CPU % of a core",
            "µs/message",
            "until at rest",
            "peak RSS MB",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for run in &self.runs {
            let each = |cpu_s: f64| format!("{:.2}", cpu_s * 1e6 / run.stored.max(1) as f64);
            let dropped: Vec<String> =
                run.dropped.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
            rows.push(vec![
                run.rate.to_string(),
                format!("{:.0}", run.sent.sent as f64 / run.sent.seconds),
                format!("{:.0}", run.stored as f64 / run.sent.seconds),
                run.sent.sent.to_string(),
                run.stored.to_string(),
                run.dropped_by_kernel.to_string(),
                if dropped.is_empty() { "0".to_owned() } else { dropped.join(", ") },
                run.unaccounted.to_string(),
                format!("{:.0}", run.cpu_s / run.sent.seconds * 100.0),
                each(run.cpu_s),
                each(run.settled_cpu_s),
                format!("{:.0}", run.rss_peak_bytes as f64 / 1e6),
            ]);
        }
        table::markdown(&rows)
    }

    /// The floods of which something is unaccounted for.
    pub(super) fn wrong(&self) -> Vec<String> {
        let wrong = self.runs.iter().filter(|run| run.unaccounted != 0);
        wrong
            .map(|run| {
                format!("{} of {} datagrams at {}", run.unaccounted, run.sent.sent, run.rate)
            })
            .collect()
    }
}
