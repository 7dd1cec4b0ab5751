//! `lodge token`: makes, lists and revokes API tokens, in the catalog itself: who may write there is
//! the root of all trust, so the first token needs no other. Servers that use it follow within a
//! second.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lodge_record::{TenantId, time};
use lodge_server::config::ServerConfig;
use lodge_server::tokens::{Kind, Wanted, make, shown};
use lodge_store::catalog::{self, Catalog};
use lodge_store::token::{Scopes, Token};
use serde_json::Value;

use crate::failure::Failure;
use crate::terminal::escape_text;

const EXAMPLES: &str = "\
Examples:
  lodge token create --name me --scope admin,read,ingest
  lodge token create --name web-agents --scope ingest --expires 365d
  lodge token create --name shop-team --scope read --tenant shop --only '{app=\"shop\"}'
  lodge token create --name fluentd --scope ingest --forward-key
  lodge token create --name host-1 --scope ingest --subject host-1.example
  lodge token list
  lodge token revoke 3f9a01bc

As soon as there is a token, every client of the server needs one, on this machine too. Clients show
it as `Authorization: Bearer TOKEN`, or as the password of Basic with any name; the commands of
lodge take it from LODGE_TOKEN or --token-file.";

/// Make, list and revoke API tokens: who may send, read and administer
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Create(CreateArgs),
    List(ListArgs),
    Revoke(RevokeArgs),
}

#[derive(clap::Args, Debug)]
struct Folder {
    /// The server's data folder
    ///
    /// [default: data_dir of --config, else ./lodge-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// The server's configuration file; a cluster's names the catalog
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Make a token and print it: it cannot be shown again
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
struct CreateArgs {
    #[command(flatten)]
    folder: Folder,

    /// What to call it
    #[arg(long)]
    name: String,

    /// What it allows: ingest, read, admin, or several with commas
    #[arg(long)]
    scope: Scopes,

    /// Whose records it is about
    #[arg(long, default_value = "default")]
    tenant: TenantId,

    /// A filter in LogsQL: it reads only what this selects
    #[arg(long, value_name = "FILTER")]
    only: Option<String>,

    /// When it ends, counted from now, such as 30d
    #[arg(long, value_name = "DURATION")]
    expires: Option<String>,

    /// Known by the common name of a TLS client certificate instead of a secret
    #[arg(long, value_name = "NAME", conflicts_with = "forward_key")]
    subject: Option<String>,

    /// A shared key for Fluent Forward instead of a secret; it is kept readable, as the protocol needs
    #[arg(long)]
    forward_key: bool,
}

/// List the tokens, without their secrets
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
struct ListArgs {
    #[command(flatten)]
    folder: Folder,

    /// As JSON, one token a line
    #[arg(long)]
    json: bool,
}

/// Revoke a token
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
struct RevokeArgs {
    /// Its number, as `lodge token list` shows it
    id: String,

    #[command(flatten)]
    folder: Folder,
}

/// Runs the command.
pub fn run(args: &TokenArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &args.command {
            Command::Create(args) => create(args).await,
            Command::List(args) => list(args).await,
            Command::Revoke(args) => revoke(args).await,
        }
    })
}

impl Folder {
    fn config(&self) -> Result<ServerConfig, Failure> {
        match &self.config {
            Some(path) => crate::copying::load(path, "--config"),
            None => Ok(ServerConfig::default()),
        }
    }

    /// The catalog; only making a token makes a folder.
    async fn open(&self, may_make: bool) -> Result<(Arc<dyn Catalog>, PathBuf), Failure> {
        let config = self.config()?;
        let folder = self.data_dir.clone().unwrap_or_else(|| config.data_dir.clone());
        if let Some(address) = config.catalog_address() {
            let opened = catalog::open(&folder, Some(&address)).await;
            return Ok((opened.map_err(|e| failed(&e, &folder))?, folder));
        }
        let file = folder.join("catalog.db");
        if may_make {
            lodge_store::make_private(&folder)
                .map_err(|e| Failure::new(e.to_string()).at(folder.display().to_string()))?;
        } else if !file.exists() {
            return Err(Failure::new("there is no catalog, so there are no tokens")
                .at(folder.display().to_string())
                .mend("name the server's data folder with --data-dir or --config"));
        }
        let catalog = catalog::open(&folder, None).await.map_err(|e| failed(&e, &folder))?;
        Ok((catalog, folder))
    }
}

fn failed(error: &lodge_store::StoreError, folder: &Path) -> Failure {
    Failure::new(crate::client::causes(error)).at(folder.display().to_string())
}

async fn create(args: &CreateArgs) -> Result<(), Failure> {
    let expires_ms = match &args.expires {
        None => None,
        Some(text) => {
            let lasts = lodge_server::tokens::lasts(text)
                .map_err(|e| Failure::usage(e).at(format!("--expires {text}")))?;
            Some(now_ms() + i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX / 2))
        }
    };
    let kind = match (&args.subject, args.forward_key) {
        (Some(subject), _) => Kind::Subject(subject.clone()),
        (None, true) => Kind::SharedKey,
        (None, false) => Kind::Secret,
    };
    let wanted = Wanted {
        name: args.name.clone(),
        tenant: args.tenant.clone(),
        scopes: args.scope,
        only: args.only.clone(),
        expires_ms,
        kind,
    };
    let (token, secret) = make(wanted).map_err(|e| Failure::usage(e.to_string()))?;
    let (catalog, folder) = args.folder.open(true).await?;
    let added = catalog.add_token(&token).await.map_err(|e| failed(&e, &folder));
    catalog.close().await;
    if !added? {
        return Err(Failure::usage("there is a token with that certificate's name already")
            .mend("revoke it first; `lodge token list` shows its number"));
    }
    let mut err = std::io::stderr().lock();
    writeln!(err, "{}", line(&token))?;
    let Some(secret) = secret else { return Ok(()) };
    writeln!(err, "Keep what follows: it cannot be shown again.")?;
    writeln!(std::io::stdout().lock(), "{secret}")?;
    Ok(())
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let (catalog, folder) = args.folder.open(false).await?;
    let tokens = catalog.tokens(None).await.map_err(|e| failed(&e, &folder));
    catalog.close().await;
    let (_, tokens) = tokens?.unwrap_or_default();
    let mut out = std::io::stdout().lock();
    for token in &tokens {
        match args.json {
            true => writeln!(out, "{}", shown(token))?,
            false => writeln!(out, "{}", line(token))?,
        }
    }
    if tokens.is_empty() && !args.json {
        writeln!(std::io::stderr().lock(), "There are no tokens: only this machine is served.")?;
    }
    Ok(())
}

async fn revoke(args: &RevokeArgs) -> Result<(), Failure> {
    let (catalog, folder) = args.folder.open(false).await?;
    let removed = catalog.remove_token(&args.id).await.map_err(|e| failed(&e, &folder));
    catalog.close().await;
    if !removed? {
        return Err(Failure::usage(format!("there is no token {}", escape_text(&args.id)))
            .at(folder.display().to_string())
            .mend("`lodge token list` shows those there are"));
    }
    writeln!(std::io::stderr().lock(), "Revoked. A running server follows within a second.")?;
    Ok(())
}

/// A token on one line, for people.
fn line(token: &Token) -> String {
    let value = shown(token);
    let text = |key: &str| match &value[key] {
        Value::String(text) => escape_text(text).to_string(),
        _ => String::new(),
    };
    let mut line = format!(
        "{}  {:<24} {:<18} tenant {}  {}  made {}",
        token.id,
        text("name"),
        text("scopes"),
        text("tenant"),
        text("kind"),
        time::format(token.created_ms.saturating_mul(1_000_000))
            .chars()
            .take(16)
            .collect::<String>(),
    );
    for (key, word) in [("subject", "subject"), ("only", "only"), ("expires", "ends")] {
        if !text(key).is_empty() {
            line.push_str(&format!("  {word} {}", text(key)));
        }
    }
    line
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX / 2))
}
