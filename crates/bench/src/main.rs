//! The `lodge-bench` command: generates workloads and measures Lodge with them.
//!
//! Invariant: Ctrl-C and a failure both end the measured processes, because both drop the future
//! that holds them.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lodge_bench::corpus::{self, Corpus};
use lodge_bench::doors::{self, CrowdOptions, DoorsOptions, FloodOptions, FloodRate, Protocol};
use lodge_bench::freshness::{self, FreshnessOptions};
use lodge_bench::interference::{self, InterferenceOptions};
use lodge_bench::languages::{self, LanguagesOptions};
use lodge_bench::oracle::{Fact, Facts};
use lodge_bench::process;
use lodge_bench::report::{Machine, Report};
use lodge_bench::restart::{self, RestartOptions};
use lodge_bench::run::{self, Peer, RunOptions};
use lodge_bench::scale::{self, ScaleOptions};
use lodge_bench::shipping::{self, ShippingOptions};
use lodge_bench::tenants::{self, TenantsOptions};
use lodge_bench::workload::{Kind, WorkloadOptions};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

/// Generates log workloads and measures Lodge with them.
#[derive(Parser)]
#[command(name = "lodge-bench", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a workload as JSON lines.
    ///
    /// Example: lodge-bench generate --bytes 1.5GB --seed 1 --out fleet.jsonl
    Generate(Generate),
    /// Store each workload in Lodge and in its peers, ask every class of queries, check every
    /// answer.
    ///
    /// Example: lodge-bench run --json report.json --workload fleet --bytes 200MB
    Run(Run),
    /// Measure what each question costs in SQL beside the same in LogsQL, asked in turn.
    ///
    /// Example: lodge-bench languages --workload fleet --bytes 500MB --data kept-store
    Languages(LanguagesArgs),
    /// Measure how query times grow with what is stored, with warm and cold caches.
    ///
    /// Example: lodge-bench scale --sizes 1.5GB,6GB,24GB
    Scale(ScaleArgs),
    /// Measure what ingest at full speed costs the queries.
    ///
    /// Example: lodge-bench interference --bytes 500MB
    Interference(InterferenceArgs),
    /// Measure how long after its append to a file a line is found, while logs flow in.
    ///
    /// Example: lodge-bench freshness --rate-mb-s 20 --seconds 30
    Freshness(FreshnessArgs),
    /// Measure what shipping files costs, beside rsyslog and Fluent Bit, and an outage of the server.
    ///
    /// Example: lodge-bench ship --bytes 500MB --outage-s 600
    Ship(ShipArgs),
    /// Measure what each protocol costs by which logs come in, floods of datagrams, and whether a
    /// crowd of idle and slow connections disturbs anybody.
    ///
    /// Example: lodge-bench doors --bytes 300MB
    Doors(DoorsArgs),
    /// Send datagrams; a part of `doors`.
    #[command(name = doors::FLOOD_COMMAND, hide = true)]
    Flood(FloodArgs),
    /// Measure what a tenant that sends and asks as much as it can costs another one.
    ///
    /// Example: lodge-bench tenants --seconds 20
    Tenants(TenantsArgs),
    /// Measure how soon a server answers that finds many unbuilt L0s.
    ///
    /// Example: lodge-bench restart --l0-segments 1000
    Restart(RestartArgs),
    /// Make a store of so many L0s and end as if killed; a part of `restart`.
    #[command(name = restart::LAY_COMMAND, hide = true)]
    LayL0s {
        /// Folder of the store.
        data_dir: PathBuf,
        /// How many.
        l0_segments: u64,
    },
}

/// Where Lodge is and where the run's files go.
#[derive(Args)]
struct Place {
    /// The `lodge` binary [default: the one beside this program]
    #[arg(long)]
    lodge: Option<PathBuf>,
    /// Folder for corpora (kept) and for the run's data (removed at its end)
    /// [default: lodge-bench in the system's folder for temporary files]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Also write the figures as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Place {
    fn dir(&self) -> anyhow::Result<PathBuf> {
        let dir = self.dir.clone().unwrap_or_else(|| std::env::temp_dir().join("lodge-bench"));
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("cannot make the folder {}", dir.display()))?;
        Ok(dir)
    }

    fn lodge(&self) -> anyhow::Result<PathBuf> {
        process::find_lodge(self.lodge.as_deref())
    }

    /// Writes figures as JSON where that was asked for.
    fn keep(&self, figures: &impl Serialize) -> anyhow::Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        std::fs::write(path, serde_json::to_vec_pretty(figures)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Prints figures as JSON, and writes them where that was asked for.
    fn give(&self, figures: &impl Serialize) -> anyhow::Result<()> {
        self.keep(figures)?;
        let text = serde_json::to_string_pretty(figures)?;
        writeln!(io::stdout(), "{text}").context("standard output")
    }
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    corpus: CorpusArgs,
    /// Which workloads.
    #[arg(long = "workload", value_delimiter = ',', default_values = ["fleet", "systems", "wide"])]
    workloads: Vec<Kind>,
    /// Which peers; `--peers=` for none.
    #[arg(long, value_delimiter = ',', default_values =
        ["victoria-logs", "clickhouse-text", "clickhouse-tokenbf", "ripgrep"])]
    peers: Vec<String>,
    /// A Python that has the module chdb, for ClickHouse.
    #[arg(long)]
    python: Option<PathBuf>,
    /// The `rg` program.
    #[arg(long)]
    ripgrep: Option<PathBuf>,
    /// The `victoria-logs` program.
    #[arg(long)]
    victoria_logs: Option<PathBuf>,
    /// Seconds from the end of building until disk use is taken, so that superseded files are
    /// gone by then; queries run meanwhile.
    #[arg(long, default_value_t = 160)]
    sweep_wait_s: u64,
}

impl Run {
    fn peers(&self) -> anyhow::Result<Vec<Peer>> {
        let named = self.peers.iter().filter(|name| !name.is_empty());
        named
            .map(|name| {
                Peer::from_str(name, true).map_err(|what| anyhow::anyhow!("{name}: {what}"))
            })
            .collect()
    }
}

#[derive(Args)]
struct LanguagesArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    corpus: CorpusArgs,
    /// Which workload.
    #[arg(long, default_value = "fleet")]
    workload: Kind,
    /// Folder of the store, kept for the next run; filled if it is empty [default: one that is
    /// removed]
    #[arg(long)]
    data: Option<PathBuf>,
    /// How often each question is asked in each language, at the least.
    #[arg(long, default_value_t = 30)]
    runs: usize,
    /// Only questions whose name has this in it.
    #[arg(long)]
    only: Option<String>,
}

#[derive(Args)]
struct ScaleArgs {
    #[command(flatten)]
    place: Place,
    /// Sizes of JSON lines.
    #[arg(long, value_delimiter = ',', value_parser = parse_bytes, default_value = "1.5GB,6GB")]
    sizes: Vec<u64>,
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often each question is asked with cold caches.
    #[arg(long, default_value_t = 5)]
    cold_runs: usize,
}

#[derive(Args)]
struct InterferenceArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    corpus: CorpusArgs,
}

#[derive(Args)]
struct TenantsArgs {
    #[command(flatten)]
    place: Place,
    /// How long each of five phases takes.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

#[derive(Args)]
struct FreshnessArgs {
    #[command(flatten)]
    place: Place,
    /// Load in MB a second.
    #[arg(long, default_value_t = 20)]
    rate_mb_s: u64,
    /// How long the load flows.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Seed of the load.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct ShipArgs {
    #[command(flatten)]
    place: Place,
    /// The `lodge-agent` binary [default: the one beside `lodge`]
    #[arg(long)]
    agent: Option<PathBuf>,
    /// The `rsyslogd` program; left out, rsyslog is not measured.
    #[arg(long)]
    rsyslogd: Option<PathBuf>,
    /// The `fluent-bit` program; left out, Fluent Bit is not measured.
    #[arg(long)]
    fluent_bit: Option<PathBuf>,
    /// Size of each file.
    #[arg(long, value_parser = parse_bytes, default_value = "500MB")]
    bytes: u64,
    /// Seconds that the server is gone while logs flow; 0 leaves that out.
    #[arg(long, default_value_t = 60)]
    outage_s: u64,
    /// Load during the outage in MB a second.
    #[arg(long, default_value_t = 20)]
    rate_mb_s: u64,
    /// Seed of the files and the load.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct DoorsArgs {
    #[command(flatten)]
    place: Place,
    /// Which protocols; `--protocols=` for none [default: all]
    #[arg(long, value_delimiter = ',')]
    protocols: Option<Vec<String>>,
    /// Size of the records as JSON lines.
    #[arg(long, value_parser = parse_bytes, default_value = "300MB")]
    bytes: u64,
    /// Size of a request as JSON lines.
    #[arg(long, value_parser = parse_bytes, default_value = "2MB")]
    request_bytes: u64,
    /// Seed of the records.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Datagrams a second, each for --flood-s; `max` is flat out; `--rates=` for none.
    #[arg(long, value_delimiter = ',', default_values = ["50000", "100000", "150000", "200000", "max"])]
    rates: Vec<String>,
    /// How long each flood lasts.
    #[arg(long, default_value_t = 10)]
    flood_s: u64,
    /// Idle connections; 0 leaves the crowd out.
    #[arg(long, default_value_t = 5_000)]
    idle: usize,
    /// Connections that send a byte a second.
    #[arg(long, default_value_t = 200)]
    slow: usize,
    /// The server's connections_max beside a crowd, one run each; 0 is its default.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1_024])]
    connections_max: Vec<u64>,
    /// How long each phase beside a crowd takes.
    #[arg(long, default_value_t = 20)]
    crowd_s: u64,
}

impl DoorsArgs {
    fn options(&self) -> anyhow::Result<DoorsOptions> {
        let named = |names: &[String]| {
            let named = names.iter().filter(|name| !name.is_empty());
            let read = |name: &String| {
                Protocol::from_str(name, true).map_err(|what| anyhow::anyhow!("{name}: {what}"))
            };
            named.map(read).collect::<anyhow::Result<Vec<_>>>()
        };
        let rates = self.rates.iter().filter(|rate| !rate.is_empty());
        let crowd = |&connections_max| CrowdOptions {
            idle: self.idle,
            slow: self.slow,
            connections_max: Some(connections_max).filter(|number| *number > 0),
            seconds: self.crowd_s,
        };
        let crowds = self.connections_max.iter().filter(|_| self.idle > 0);
        Ok(DoorsOptions {
            lodge: self.place.lodge()?,
            dir: self.place.dir()?,
            protocols: match &self.protocols {
                Some(names) => named(names)?,
                None => Protocol::value_variants().to_vec(),
            },
            bytes: self.bytes,
            request_bytes: usize::try_from(self.request_bytes)?,
            seed: self.seed,
            rates: rates
                .map(|rate| rate.parse().map_err(anyhow::Error::msg))
                .collect::<anyhow::Result<_>>()?,
            flood_s: self.flood_s,
            crowds: crowds.map(crowd).collect(),
        })
    }
}

#[derive(Args)]
struct FloodArgs {
    /// Where to.
    #[arg(long)]
    to: SocketAddr,
    /// How many a second, or `max`.
    #[arg(long)]
    rate: FloodRate,
    /// How long.
    #[arg(long)]
    seconds: u64,
    /// Seed of the messages.
    #[arg(long)]
    seed: u64,
}

#[derive(Args)]
struct RestartArgs {
    #[command(flatten)]
    place: Place,
    /// How many L0s the server finds.
    #[arg(long, default_value_t = 1000)]
    l0_segments: u64,
}

/// How much of a workload.
#[derive(Args, Clone)]
struct CorpusArgs {
    /// How many records [default: as many as make 1.5 GB of the fleet, 500 MB of the others]
    #[arg(long)]
    records: Option<u64>,
    /// About how many bytes, as 500MB or 1.5GB, instead of a number of records.
    #[arg(long, value_parser = parse_bytes, conflicts_with = "records")]
    bytes: Option<u64>,
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hours from the first record to the last.
    #[arg(long, default_value_t = 24)]
    span_hours: u32,
}

/// Systems and wide events, where nothing else is said.
const OTHER_BYTES: u64 = 500_000_000;

impl CorpusArgs {
    fn options(&self, kind: Kind) -> WorkloadOptions {
        let mut options = WorkloadOptions {
            seed: self.seed,
            span: Duration::from_secs(u64::from(self.span_hours) * 3600),
            ..WorkloadOptions::default()
        };
        let bytes = self.bytes.or_else(|| (kind != Kind::Fleet).then_some(OTHER_BYTES));
        if let Some(records) = self.records {
            options.records = records;
        } else if let Some(bytes) = bytes {
            options.records = kind.records_for_bytes(&options, bytes);
        }
        options
    }

    fn corpus(&self, kind: Kind, dir: &Path) -> anyhow::Result<Corpus> {
        let options = self.options(kind);
        let progress = progress_bar(kind, &options);
        let dir = run::corpus_dir(dir);
        let corpus = corpus::cached(&dir, kind, &options, |n| progress.set_position(n))?;
        progress.finish_and_clear();
        Ok(corpus)
    }
}

#[derive(Args)]
struct Generate {
    /// Which workload.
    #[arg(long, default_value = "fleet")]
    workload: Kind,
    #[command(flatten)]
    corpus: CorpusArgs,
    /// Where to write; `-` is the standard output.
    #[arg(long, default_value = "-")]
    out: PathBuf,
    /// Also write what is true of the corpus (counts, sums …) as JSON to this file.
    #[arg(long)]
    facts: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Generate(args) => generate(&args),
        Command::Run(args) => bench(&args),
        Command::Languages(args) => measure_languages(&args),
        Command::Scale(args) => measure_scale(&args),
        Command::Interference(args) => measure_interference(&args),
        Command::Freshness(args) => measure_freshness(&args),
        Command::Ship(args) => measure_shipping(&args),
        Command::Doors(args) => measure_doors(&args),
        Command::Flood(args) => flood(&args),
        Command::Tenants(args) => measure_tenants(&args),
        Command::Restart(args) => measure_restart(&args),
        Command::LayL0s { data_dir, l0_segments } => lay_l0s(&data_dir, l0_segments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "lodge-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn generate(args: &Generate) -> anyhow::Result<()> {
    let kind = args.workload;
    let options = args.corpus.options(kind);
    let questions = kind.questions(&options);
    let progress = progress_bar(kind, &options);
    let advance = |bytes| progress.set_position(bytes);
    let facts = if args.out.as_os_str() == "-" {
        let out = &mut io::stdout().lock();
        corpus::write(kind, options, questions, out, advance).context("standard output")?
    } else {
        let mut file = File::create(&args.out)
            .with_context(|| format!("cannot create {}", args.out.display()))?;
        corpus::write(kind, options, questions, &mut file, advance)
            .with_context(|| format!("cannot write to {}", args.out.display()))?
    };
    progress.finish_and_clear();
    if let Some(path) = &args.facts {
        std::fs::write(path, serde_json::to_vec_pretty(&facts)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    print_facts(&facts).context("standard error")
}

fn bench(args: &Run) -> anyhow::Result<()> {
    let dir = args.place.dir()?;
    let options = RunOptions {
        lodge: args.place.lodge()?,
        dir: dir.clone(),
        sweep_wait: Duration::from_secs(args.sweep_wait_s),
        peers: args.peers()?,
        python: args.python.clone(),
        ripgrep: args.ripgrep.clone(),
        victoria_logs: args.victoria_logs.clone(),
    };
    let mut report = Report {
        date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        command: command_line(),
        machine: Machine::this(),
        workloads: Vec::new(),
    };
    for &kind in &args.workloads {
        let corpus = args.corpus.corpus(kind, &dir)?;
        report.workloads.push(until_interrupted(run::run(&options, &corpus, tell))?);
        // After each workload, so that what follows cannot lose it.
        if let Some(path) = &args.place.json {
            report.save(path)?;
        }
    }
    write!(io::stdout(), "{}", report.table()).context("standard output")?;
    let wrong = report.wrong();
    ensure!(wrong.is_empty(), "{} answers are wrong: {}", wrong.len(), wrong.join("; "));
    Ok(())
}

fn tell(what: &str) {
    // Nothing is lost with a message that cannot be shown.
    let _ = writeln!(io::stderr(), "… {what}");
}

fn measure_languages(args: &LanguagesArgs) -> anyhow::Result<()> {
    let dir = args.place.dir()?;
    let corpus = args.corpus.corpus(args.workload, &dir)?;
    let options = LanguagesOptions {
        lodge: args.place.lodge()?,
        dir,
        data_dir: args.data.clone(),
        runs: args.runs.max(1),
        only: args.only.clone(),
    };
    let found = until_interrupted(languages::measure(&options, &corpus, tell))?;
    args.place.keep(&found)?;
    write!(io::stdout(), "{}", found.table()).context("standard output")?;
    let wrong = found.wrong();
    ensure!(wrong.is_empty(), "{} answers are wrong: {}", wrong.len(), wrong.join("; "));
    Ok(())
}

fn measure_scale(args: &ScaleArgs) -> anyhow::Result<()> {
    let options = ScaleOptions {
        lodge: args.place.lodge()?,
        dir: args.place.dir()?,
        sizes_bytes: args.sizes.clone(),
        seed: args.seed,
        cold_runs: args.cold_runs,
    };
    let found = until_interrupted(scale::measure(&options, tell))?;
    args.place.keep(&found)?;
    write!(io::stdout(), "{}", found.table()).context("standard output")
}

fn measure_interference(args: &InterferenceArgs) -> anyhow::Result<()> {
    let dir = args.place.dir()?;
    let corpus = args.corpus.corpus(Kind::Fleet, &dir)?;
    let options = InterferenceOptions { lodge: args.place.lodge()?, dir };
    let found = until_interrupted(interference::measure(&options, &corpus, tell))?;
    args.place.keep(&found)?;
    write!(io::stdout(), "{}", found.table()).context("standard output")
}

fn measure_tenants(args: &TenantsArgs) -> anyhow::Result<()> {
    let time = Duration::from_secs(args.seconds);
    let options = TenantsOptions { lodge: args.place.lodge()?, dir: args.place.dir()?, time };
    let found = until_interrupted(tenants::measure(&options, tell))?;
    args.place.keep(&found)?;
    write!(io::stdout(), "{}", found.table()).context("standard output")
}

fn measure_freshness(args: &FreshnessArgs) -> anyhow::Result<()> {
    let options = FreshnessOptions {
        lodge: args.place.lodge()?,
        dir: args.place.dir()?,
        rate_bytes_per_s: args.rate_mb_s.saturating_mul(1_000_000),
        time: Duration::from_secs(args.seconds),
        seed: args.seed,
    };
    args.place.give(&until_interrupted(freshness::measure(&options))?)
}

fn measure_shipping(args: &ShipArgs) -> anyhow::Result<()> {
    let lodge = args.place.lodge()?;
    let agent = args.agent.clone().unwrap_or_else(|| lodge.with_file_name("lodge-agent"));
    ensure!(agent.is_file(), "there is no {}; name it with --agent", agent.display());
    let options = ShippingOptions {
        lodge,
        agent,
        rsyslogd: args.rsyslogd.clone(),
        fluent_bit: args.fluent_bit.clone(),
        dir: args.place.dir()?,
        bytes: args.bytes,
        outage: Duration::from_secs(args.outage_s),
        rate_bytes_per_s: args.rate_mb_s.saturating_mul(1_000_000),
        seed: args.seed,
    };
    let found = until_interrupted(shipping::measure(&options, tell))?;
    args.place.keep(&found)?;
    write!(io::stdout(), "{}", found.table()).context("standard output")
}

fn measure_doors(args: &DoorsArgs) -> anyhow::Result<()> {
    let found = until_interrupted(doors::measure(&args.options()?, tell))?;
    args.place.keep(&found)?;
    write!(io::stdout(), "{}", found.table()).context("standard output")?;
    let wrong = found.wrong();
    ensure!(wrong.is_empty(), "neither stored nor counted as dropped: {}", wrong.join("; "));
    Ok(())
}

fn flood(args: &FloodArgs) -> anyhow::Result<()> {
    let options = FloodOptions {
        to: args.to,
        rate: args.rate,
        time: Duration::from_secs(args.seconds),
        seed: args.seed,
    };
    let sent = serde_json::to_string(&doors::flood(&options)?)?;
    writeln!(io::stdout(), "{sent}").context("standard output")
}

fn measure_restart(args: &RestartArgs) -> anyhow::Result<()> {
    let options = RestartOptions {
        lodge: args.place.lodge()?,
        dir: args.place.dir()?,
        l0_segments: args.l0_segments,
    };
    args.place.give(&until_interrupted(restart::measure(&options))?)
}

fn lay_l0s(data_dir: &Path, l0_segments: u64) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let _store = runtime.block_on(restart::lay_l0s(data_dir, l0_segments))?;
    // Nothing is closed or flushed: that is what a killed server leaves behind.
    std::process::exit(0)
}

/// Runs `work`; Ctrl-C or a request to end drops it, and with it the processes that it started.
fn until_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
        tokio::select! {
            result = work => result,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("told to end"),
        }
    })
}

/// How this program was called, without the path to it.
fn command_line() -> String {
    let args = std::env::args().skip(1);
    std::iter::once("lodge-bench".to_owned()).chain(args).collect::<Vec<_>>().join(" ")
}

fn print_facts(facts: &Facts) -> io::Result<()> {
    let mut out = io::stderr().lock();
    writeln!(out, "records {}, bytes {}", facts.records, facts.bytes)?;
    writeln!(out, "messages {:.1} %", 100.0 * facts.message_bytes as f64 / facts.bytes as f64)?;
    for (class, fact) in &facts.answers {
        match fact {
            Fact::Count(n) => writeln!(out, "{class}: {n}")?,
            Fact::Rows(n, _) => writeln!(out, "{class}: {n} rows")?,
            Fact::Newest(times) => writeln!(out, "{class}: {} rows", times.len())?,
            Fact::Histogram(rows) => writeln!(out, "{class}: {} buckets", rows.len())?,
            Fact::Counts(counts) => writeln!(out, "{class}: {} values", counts.len())?,
            Fact::Numbers(groups) => writeln!(out, "{class}: {} groups", groups.len())?,
        }
    }
    Ok(())
}

/// A bar over the bytes that the corpus is expected to have, where there is a terminal.
fn progress_bar(kind: Kind, options: &WorkloadOptions) -> ProgressBar {
    let record_bytes = match kind {
        Kind::Fleet => 365,
        Kind::Systems => 300,
        Kind::Wide => 4200,
    };
    let bar = ProgressBar::with_draw_target(
        Some(options.records.saturating_mul(record_bytes)),
        ProgressDrawTarget::stderr(),
    );
    let template = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// `1.5GB`, `500MB`, `64KB` or a plain number of bytes; powers of ten.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("kB", 1e3), ("B", 1.0), ("", 1.0)];
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
        .unwrap_or((text, &1.0));
    match number.trim().parse::<f64>() {
        Ok(value) if value > 0.0 && value * factor < 1e15 => Ok((value * factor) as u64),
        _ => Err(format!("{text:?} is no size; write for instance 500MB or 1.5GB")),
    }
}
