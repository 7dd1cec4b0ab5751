//! `lodge migrate`: moves a single machine's installation into a cluster.

use std::io::Write as _;
use std::path::PathBuf;

use lodge_store::backup::{self, BackupError, Installation, Work};

use crate::copying::{InstallationArgs, failed, load, options, sent, summary, watched};
use crate::failure::Failure;
use crate::serve::interrupt;

const EXAMPLES: &str = "\
Examples:
  lodge migrate --data-dir /var/lib/lodge --to cluster.toml --dry-run
  lodge migrate --data-dir /var/lib/lodge --to cluster.toml

Stop the server first. Everything goes: records, producers with what is committed of them, the
ledger, tokens; agents that are pointed at the cluster go on where they were. The data folder stays
as it is; remove it when you are satisfied. Stopped at any moment, run it again: objects that are
there and equal are not sent again.";

/// Move a single machine's records into a cluster, without loss
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct MigrateArgs {
    #[command(flatten)]
    from: InstallationArgs,

    /// The configuration file of the cluster's servers: it names `catalog` and `objects`
    #[arg(long, value_name = "FILE")]
    to: PathBuf,

    /// Show what would be moved, and touch nothing of the cluster
    #[arg(long)]
    dry_run: bool,

    /// Show nothing while it is copied
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the command.
pub fn run(args: &MigrateArgs) -> Result<(), Failure> {
    crate::serve::start_logging();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(migrate(args))
}

async fn migrate(args: &MigrateArgs) -> Result<(), Failure> {
    let (from_dir, from_options) = args.from.read()?;
    if from_options.catalog.is_some() {
        return Err(Failure::usage("what is moved has its catalog in PostgreSQL already")
            .mend("to copy a cluster, make a backup of it and restore that"));
    }
    let cluster = load(&args.to, "--to")?;
    let to_options = options(&cluster)?;
    if to_options.catalog.is_none() {
        return Err(Failure::usage("it names no `catalog`, so it is no cluster's")
            .at(format!("--to {}", args.to.display()))
            .mend("set catalog and objects in it: see docs/cluster.md"));
    }
    let from = Installation::alone(&from_dir, &from_options).await.map_err(|e| failed(&e))?;
    if args.dry_run {
        let moved = backup::survey(&from).await.map_err(|e| failed(&e))?;
        let text = format!("Would move {}\n{}", from.at(), summary(&moved));
        return Ok(std::io::stdout().lock().write_all(text.as_bytes())?);
    }
    let to = Installation::to_fill(&cluster.data_dir, &to_options).await.map_err(|e| failed(&e))?;
    let work = Work::default();
    let copy = async {
        tokio::select! {
            moved = backup::migrate(&from, &to, &work) => moved,
            () = interrupt() => Err(BackupError::Stopped),
        }
    };
    let moved = watched("moving", &work, args.quiet, copy).await?;
    let text = format!(
        "Moved {}\ninto {}\n{}{}Point the agents at the cluster; {} stays as it is.\n",
        from.at(),
        to.at(),
        summary(&moved),
        sent(&work),
        from_dir.display(),
    );
    to.close().await;
    from.close().await;
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}
