//! `lodge restore`: makes a new installation, of either kind, of a restore point.

use std::io::Write as _;

use lodge_record::time;
use lodge_store::backup::{self, BackupError, BackupPlace, Installation, Point, Work};

use crate::copying::{InstallationArgs, failed, place, sent, summary, watched};
use crate::failure::Failure;
use crate::serve::interrupt;

const EXAMPLES: &str = "\
Examples:
  lodge restore --from /mnt/backup --list
  lodge restore --from /mnt/backup --data-dir /var/lib/lodge
  lodge restore --from s3://backups/lodge --at 2026-11-30T18:00:00Z --config /etc/lodge/lodge.toml

What is restored into must hold nothing: an empty data folder, or an empty database and an empty
folder of a bucket. It need not be what the backup was made of: a single machine's backup can be
restored into a cluster, and the other way round. Stopped at any moment, run it again.";

/// Make an installation of a restore point
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RestoreArgs {
    /// Folder of the backup, or s3://BUCKET/FOLDER, gs://…, az://…
    #[arg(long, value_name = "PLACE")]
    from: String,

    /// An option of the bucket's client, such as endpoint=https://…; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    option: Vec<String>,

    #[command(flatten)]
    to: InstallationArgs,

    /// The point: its number, or a time, of which the last point before it is taken
    ///
    /// [default: the newest point]
    #[arg(long, value_name = "POINT|TIME")]
    at: Option<String>,

    /// List the points, and restore none
    #[arg(long)]
    list: bool,

    /// For --list: as JSON, one point a line
    #[arg(long, requires = "list")]
    json: bool,

    /// Show nothing while it is copied
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the command.
pub fn run(args: &RestoreArgs) -> Result<(), Failure> {
    crate::serve::start_logging();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if args.list {
            return crate::backup::list(&args.from, &args.option, args.json).await;
        }
        restore(args).await
    })
}

async fn restore(args: &RestoreArgs) -> Result<(), Failure> {
    let from = place(&args.from, &args.option)?;
    let point = choose(&from, args.at.as_deref()).await.map_err(|e| failed(&e))?;
    let (data_dir, options) = args.to.read()?;
    let to = Installation::to_fill(&data_dir, &options).await.map_err(|e| failed(&e))?;
    let work = Work::default();
    let copy = async {
        tokio::select! {
            moved = backup::restore(&from, &point, &to, &work) => moved,
            () = interrupt() => Err(BackupError::Stopped),
        }
    };
    let moved = watched("restoring", &work, args.quiet, copy).await?;
    let text = format!(
        "Restored point {} of {} into {}\n{}{}",
        point.id,
        point.time(),
        to.at(),
        summary(&moved),
        sent(&work),
    );
    to.close().await;
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

/// The point that is called so, or the last one before a time.
async fn choose(from: &BackupPlace, at: Option<&str>) -> Result<Point, BackupError> {
    let points = backup::points(from).await?;
    let found = match at {
        None => points.last().cloned(),
        Some(wanted) => points.iter().find(|point| point.id == wanted).cloned().or_else(|| {
            let until_ms = time::parse(wanted)?.div_euclid(1_000_000);
            points.iter().rfind(|point| point.created_ms <= until_ms).cloned()
        }),
    };
    let wanted = at.unwrap_or("at all").to_owned();
    found.ok_or(BackupError::NoPoint { at: from.to_string(), wanted })
}
