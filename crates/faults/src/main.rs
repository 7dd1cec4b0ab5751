//! `lodge-faults`: runs the fault rigs from the command line and prints their tables.
#![allow(clippy::print_stdout)] // A command whose output is its progress and its table.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lodge_faults::kill::{self, KillOptions};

/// Causes faults in real Lodge processes and proves that nothing is lost, invented or doubled.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  lodge-faults kill --rounds 100 --seed 7")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kills and stops server and agent at random moments under load, with files being rotated.
    Kill {
        /// Number of faults.
        #[arg(long, default_value_t = 100)]
        rounds: u32,
        /// Decides the faults, their moments and the lines; random when absent.
        #[arg(long)]
        seed: Option<u64>,
        /// The longest time between two faults, in seconds.
        #[arg(long, default_value_t = 2.0)]
        seconds_per_round: f64,
        /// Log files written at the same time.
        #[arg(long, default_value_t = 6)]
        files: u32,
        /// Lines per second and file.
        #[arg(long, default_value_t = 300)]
        lines_per_second: u64,
        /// Where the run's folder is made (kept only when the run fails).
        #[arg(long, default_value_os_t = std::env::temp_dir())]
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let Command::Kill { rounds, seed, seconds_per_round, files, lines_per_second, dir } =
        Cli::parse().command;
    let seed = seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("seed {seed}");
    let options =
        KillOptions { rounds, seed, seconds_per_round, files, lines_per_second, parent: dir };
    match kill::run(&options, &mut |line| println!("{line}")) {
        Ok((report, folder)) => {
            println!("\n{report}");
            let violations = report.violations(&options.floor());
            for violation in &violations {
                println!("VIOLATION: {violation}");
            }
            if violations.is_empty() {
                return ExitCode::SUCCESS;
            }
            println!("seed {seed}; data and logs are kept in {}", folder.display());
            ExitCode::FAILURE
        }
        Err(e) => {
            println!("seed {seed}: the run could not be carried out: {e}");
            ExitCode::FAILURE
        }
    }
}
