//! `lodge backup`: makes a restore point in a folder or a bucket while the servers run; lists and
//! reads those that are there.

use std::io::Write as _;

use indicatif::{HumanBytes, HumanCount};
use lodge_store::backup::{self, BackupOptions, Installation, Point, Work};
use serde_json::json;

use crate::copying::{InstallationArgs, failed, place, sent, watched};
use crate::failure::Failure;
use crate::serve::interrupt;

const EXAMPLES: &str = "\
Examples:
  lodge backup --to /mnt/backup --data-dir /var/lib/lodge
  lodge backup --to s3://backups/lodge --config /etc/lodge/lodge.toml --keep 14
  lodge backup --to s3://backups/lodge --list
  lodge backup --to s3://backups/lodge --verify

A point has all records that were acknowledged before it was begun. Objects that the backup has
are not copied again. What a bucket needs is taken from the environment (AWS_ACCESS_KEY_ID, …).
Guard a backup as the records themselves: it holds them, and shared keys of tokens, readable.";

/// Make a restore point of catalog and objects, while servers run
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct BackupArgs {
    /// Folder of the backup, or s3://BUCKET/FOLDER, gs://…, az://…
    #[arg(long, value_name = "PLACE")]
    to: String,

    /// An option of the bucket's client, such as endpoint=https://…; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    option: Vec<String>,

    #[command(flatten)]
    from: InstallationArgs,

    /// Keep so many points, the newest, and remove the others with what only they name
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,

    /// List the points that are there, and make none
    #[arg(long, conflicts_with_all = ["keep", "verify"])]
    list: bool,

    /// Read all that is there and compare every checksum, and make no point
    #[arg(long, conflicts_with = "keep")]
    verify: bool,

    /// For --list: as JSON, one point a line
    #[arg(long, requires = "list")]
    json: bool,

    /// Show nothing while it is copied
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the command.
pub fn run(args: &BackupArgs) -> Result<(), Failure> {
    crate::serve::start_logging();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match (args.list, args.verify) {
            (true, _) => list(&args.to, &args.option, args.json).await,
            (_, true) => verify(args).await,
            _ => make(args).await,
        }
    })
}

async fn make(args: &BackupArgs) -> Result<(), Failure> {
    let to = place(&args.to, &args.option)?;
    let (data_dir, options) = args.from.read()?;
    let from = Installation::beside(&data_dir, &options).await.map_err(|e| failed(&e))?;
    let keep = args.keep.map(|keep| keep as usize);
    let how = BackupOptions { keep, ..BackupOptions::default() };
    let work = Work::default();
    let copy = backup::backup(&from, &to, how, &work, interrupt());
    let done = watched("backing up", &work, args.quiet, copy).await?;
    from.close().await;
    let removed = match (done.points_removed, done.objects_removed) {
        (0, 0) => String::new(),
        (points, objects) => format!("  removed    {points} points, {objects} objects\n"),
    };
    let text = format!(
        "Restore point {} of {} is at {to}\n{}{}{removed}",
        done.point.id,
        done.point.time(),
        shown(&done.point),
        sent(&work),
    );
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

fn shown(point: &Point) -> String {
    format!(
        "  records    {}\n  objects    {} ({})\n  producers  {}\n  tokens     {}\n",
        HumanCount(point.records),
        HumanCount(point.objects),
        HumanBytes(point.object_bytes),
        HumanCount(point.rows.producers),
        HumanCount(point.rows.tokens),
    )
}

/// Lists the points of a backup.
pub async fn list(at: &str, options: &[String], as_json: bool) -> Result<(), Failure> {
    let points = backup::points(&place(at, options)?).await.map_err(|e| failed(&e))?;
    let mut out = std::io::stdout().lock();
    for point in &points {
        if as_json {
            let line = json!({
                "id": point.id, "time": point.time(), "records": point.records,
                "objects": point.objects, "bytes": point.object_bytes,
                "producers": point.rows.producers, "tokens": point.rows.tokens,
                "lodge": point.lodge,
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(
                out,
                "{}  {}  {} records, {} objects, {}",
                point.id,
                point.time(),
                HumanCount(point.records),
                HumanCount(point.objects),
                HumanBytes(point.object_bytes),
            )?;
        }
    }
    if points.is_empty() && !as_json {
        writeln!(out, "no restore points yet")?;
    }
    Ok(())
}

async fn verify(args: &BackupArgs) -> Result<(), Failure> {
    let at = place(&args.to, &args.option)?;
    let work = Work::default();
    let found = watched("reading", &work, args.quiet, backup::verify(&at, &work)).await?;
    if !found.damage.is_empty() {
        let what =
            format!("{} places are damaged:\n{}", found.damage.len(), found.damage.join("\n"));
        return Err(Failure::new(what).at(at.to_string()).mend(
            "make a new backup in another place; points that name none of these can be restored",
        ));
    }
    let text = format!(
        "{} restore points, {} objects ({}): every checksum is right\n",
        found.points.len(),
        HumanCount(found.objects),
        HumanBytes(found.bytes),
    );
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}
