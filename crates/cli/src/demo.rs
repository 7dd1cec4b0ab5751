//! `lodge demo`: five made-up services that write log files, to have something to look at.

use std::path::PathBuf;
use std::time::Duration;

use lodge_bench::demo::{self, DemoOptions};

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  lodge demo --dir ./demo-logs                    write until Ctrl-C
  lodge demo --dir ./demo-logs --rate 2000 --seconds 60
  lodge agent --path './demo-logs/*.log'          and, elsewhere, ship them to the server";

/// Write realistic logs of a small fleet of services to files, rotating them
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Folder for the log files; made if it is missing
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Lines per second, over all services
    #[arg(long, value_name = "LINES_PER_S", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=200_000))]
    rate: u32,

    /// Same seed, same story
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Size in bytes at which a file is rotated
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20)]
    rotate_bytes: u64,

    /// Rotated files that are kept of each service
    #[arg(long, value_name = "N", default_value_t = 3)]
    keep_files: u32,

    /// Stop after this many seconds
    ///
    /// [default: at Ctrl-C]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// Runs the command.
pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    use std::io::Write as _;
    let options = DemoOptions {
        dir: args.dir.clone(),
        lines_per_s: args.rate,
        seed: args.seed,
        rotate_bytes: args.rotate_bytes,
        keep_files: args.keep_files,
        duration: args.seconds.map(Duration::from_secs),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let place = args.dir.display().to_string();
    let summary = runtime
        .block_on(demo::run(options, crate::serve::interrupt()))
        .map_err(|e| Failure::new(format!("{e:#}")).at(place.clone()))?;
    writeln!(
        std::io::stderr().lock(),
        "wrote {} records in {} lines, {} bytes, to {place}; files were rotated {} times",
        summary.records,
        summary.lines,
        summary.bytes,
        summary.rotations
    )?;
    Ok(())
}
