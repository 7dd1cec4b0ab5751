//! `lodge-faults`: runs the fault rigs from the command line and prints their tables.
#![allow(clippy::print_stdout)] // A command whose output is its progress and its table.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::PossibleValue;
use lodge_faults::report::Verdict;
use lodge_faults::rig::Options;
use lodge_faults::suite::{self, RIGS};

/// Causes faults in real Lodge processes and proves that nothing is lost, invented or doubled.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  lodge-faults all --seconds 30 --seeds 1,2,3\n  \
    lodge-faults kill --rounds 1000\n  lodge-faults points --seconds 0")]
struct Cli {
    /// The rig, or all of them one after another.
    #[arg(value_parser = names())]
    rig: String,
    /// About how long each run causes faults, in seconds (points: 0 is every point).
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// A run for each seed, which decides faults, moments and lines; one random when absent.
    #[arg(long, alias = "seed", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Exactly so many faults in each run, however long that takes.
    #[arg(long)]
    rounds: Option<u32>,
    /// The longest time between two faults, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds_per_round: f64,
    /// Log files written at the same time.
    #[arg(long, default_value_t = 8)]
    files: u32,
    /// Lines per second and file.
    #[arg(long, default_value_t = 300)]
    lines_per_second: u64,
    /// Where a run's folder is made (kept only when the run fails).
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

fn names() -> Vec<PossibleValue> {
    let all = PossibleValue::new("all").help("every rig, one after another, and one table");
    let rigs = RIGS.map(|kind| PossibleValue::new(kind.name).help(kind.about));
    std::iter::once(all).chain(rigs).collect()
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let random = || vec![u64::from(rand::random::<u32>())];
    let seeds = if cli.seeds.is_empty() { random() } else { cli.seeds };
    println!("seeds {seeds:?}");
    let template = Options {
        seed: 0,
        seconds: cli.seconds,
        rounds: cli.rounds,
        seconds_per_round: cli.seconds_per_round,
        files: cli.files,
        lines_per_second: cli.lines_per_second,
        parent: cli.dir,
    };
    let rigs: Vec<_> = RIGS.into_iter().filter(|r| ["all", r.name].contains(&&*cli.rig)).collect();
    let summary = suite::run(&rigs, &seeds, &template, &mut |line| println!("{line}"));
    println!("\n{summary}");
    match summary.verdict() {
        Verdict::Good => ExitCode::SUCCESS,
        Verdict::Skipped => {
            println!("!!! some rigs were NOT RUN; the table says why");
            ExitCode::SUCCESS
        }
        Verdict::Bad => ExitCode::FAILURE,
    }
}
