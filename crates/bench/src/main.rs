//! The `lodge-bench` command: generates workloads and measures Lodge with them.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lodge_bench::corpus;
use lodge_bench::workload::{Facts, Workload, WorkloadOptions};

/// Generates log workloads and measures Lodge with them.
#[derive(Parser)]
#[command(name = "lodge-bench", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the workload of a Kubernetes-like fleet as JSON lines.
    ///
    /// Example: lodge-bench generate --bytes 1.5GB --seed 1 --out fleet.jsonl
    Generate(Generate),
}

/// Which corpus.
#[derive(Args, Clone)]
struct CorpusArgs {
    /// How many records [default: 4200000, about 1.5 GB]
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

impl CorpusArgs {
    fn options(&self) -> WorkloadOptions {
        let mut options = WorkloadOptions {
            seed: self.seed,
            span: Duration::from_secs(u64::from(self.span_hours) * 3600),
            ..WorkloadOptions::default()
        };
        if let Some(records) = self.records {
            options.records = records;
        } else if let Some(bytes) = self.bytes {
            options.records = Workload::records_for_bytes(&options, bytes);
        }
        options
    }
}

#[derive(Args)]
struct Generate {
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
    let options = args.corpus.options();
    let progress = progress_bar(&options);
    let advance = |bytes| progress.set_position(bytes);
    let facts = if args.out.as_os_str() == "-" {
        corpus::write(options, &mut io::stdout().lock(), advance).context("standard output")?
    } else {
        let mut file = File::create(&args.out)
            .with_context(|| format!("cannot create {}", args.out.display()))?;
        corpus::write(options, &mut file, advance)
            .with_context(|| format!("cannot write to {}", args.out.display()))?
    };
    progress.finish_and_clear();
    if let Some(path) = &args.facts {
        std::fs::write(path, serde_json::to_vec_pretty(&facts)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    print_facts(&facts).context("standard error")
}

fn print_facts(facts: &Facts) -> io::Result<()> {
    let mut out = io::stderr().lock();
    writeln!(out, "records {}, bytes {}", facts.records, facts.bytes)?;
    writeln!(
        out,
        "messages {:.1} %",
        100.0 * facts.message_bytes as f64 / facts.bytes as f64
    )?;
    for (level, count) in &facts.levels {
        writeln!(out, "level {level}: {count}")?;
    }
    for (word, count) in &facts.words {
        writeln!(out, "word {word}: {count}")?;
    }
    writeln!(out, "trace {}: {}", facts.trace.id, facts.trace.records)
}

/// A bar over the bytes that the corpus is expected to have, where there is a terminal.
fn progress_bar(options: &WorkloadOptions) -> ProgressBar {
    const RECORD_BYTES: u64 = 365;
    let bar = ProgressBar::with_draw_target(
        Some(options.records.saturating_mul(RECORD_BYTES)),
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
    let units = [
        ("GB", 1e9),
        ("MB", 1e6),
        ("KB", 1e3),
        ("kB", 1e3),
        ("B", 1.0),
        ("", 1.0),
    ];
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
        .unwrap_or((text, &1.0));
    match number.trim().parse::<f64>() {
        Ok(value) if value > 0.0 && value * factor < 1e15 => Ok((value * factor) as u64),
        _ => Err(format!(
            "{text:?} is no size; write for instance 500MB or 1.5GB"
        )),
    }
}
