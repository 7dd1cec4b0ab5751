//! A PostgreSQL server of our own: a new cluster in a temporary folder, made by Debian's programs
//! (or those on the PATH), run as a user without rights, gone when the test's process is.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// What runs as the unprivileged user: makes the cluster, starts it, obeys one-word orders, and when
/// the orders end (also because the test's process was killed) stops it and removes everything.
const KEEPER: &str = r#"
set -u
dir=$1 bin=$2 port=$3
cd "$dir"
log() { cat "$dir/log" >&2; }
start() {
  "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 60 -s start </dev/null >/dev/null 2>&1 3>&-
}
trap '' INT TERM HUP
"$bin/initdb" -D "$dir/data" -U lodge -A trust -E UTF8 --locale=C --no-sync >"$dir/log" 2>&1 || { log; exit 1; }
cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$dir'
max_connections = 300
fsync = off
shared_buffers = 64MB
deadlock_timeout = 100ms
log_lock_waits = on
CONF
start || { log; exit 1; }
echo ready
while read -r order; do
  case $order in
    restart) "$bin/pg_ctl" -D "$dir/data" -m immediate -s stop >/dev/null 2>&1; start || { log; exit 1; };;
    stop) "$bin/pg_ctl" -D "$dir/data" -m immediate -s stop >/dev/null 2>&1;;
    start) start || { log; exit 1; };;
  esac
  echo done
done
"$bin/pg_ctl" -D "$dir/data" -m immediate -s stop >/dev/null 2>&1
cd /
rm -rf "$dir"
"#;

/// A running server.
pub struct Server {
    pub port: u16,
    dir: PathBuf,
    keeper: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<std::process::ChildStdout>,
}

fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    found.splice(0..0, std::env::split_paths(&on_path).filter(|d| d.join("initdb").exists()));
    found
        .pop()
        .expect("PostgreSQL is needed: run `scripts/setup test`, or apt-get install postgresql")
}

fn id(user: &str, what: &str) -> u32 {
    let told = Command::new("id").args([what, user]).output().unwrap();
    String::from_utf8(told.stdout).unwrap().trim().parse().unwrap()
}

impl Server {
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("lodge-pg-").tempdir().unwrap().keep();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let is_root =
            std::fs::metadata(&dir).is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
        // The server refuses to run as root.
        let mut command = if is_root {
            let (user, group) = (id("nobody", "-u"), id("nobody", "-g"));
            chown(&dir, Some(user), Some(group)).unwrap();
            let mut command = Command::new("setpriv");
            command.arg(format!("--reuid={user}")).arg(format!("--regid={group}"));
            command.args(["--clear-groups", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        let mut keeper = command
            .args(["-c", KEEPER, "keeper"])
            .arg(&dir)
            .arg(programs())
            .arg(port.to_string())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = keeper.stdin.take();
        let answers = BufReader::new(keeper.stdout.take().unwrap());
        let mut server = Self { port, dir, keeper, orders, answers };
        server.hear("ready");
        server
    }

    fn hear(&mut self, wanted: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), wanted, "PostgreSQL did not start; what it said is above");
    }

    /// `restart` (as a crash: nothing is finished), `stop` (the same) or `start`.
    pub fn order(&mut self, what: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{what}").unwrap();
        self.hear("done");
    }

    pub fn url(&self, schema: &str) -> String {
        url(self.port, schema)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.orders.take());
        self.keeper.wait().ok();
    }
}

/// The address of a schema of the server at a port.
pub fn url(port: u16, schema: &str) -> String {
    format!("postgres://lodge@127.0.0.1:{port}/postgres?options[search_path]={schema}")
}

/// The server that all tests of this process share.
pub async fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    tokio::task::spawn_blocking(|| SHARED.get_or_init(Server::start)).await.unwrap()
}

/// A new schema on that server, as an address.
pub async fn fresh() -> String {
    fresh_on(shared().await.port).await
}

/// A new schema on the server at a port.
pub async fn fresh_on(port: u16) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let schema = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    sql(&url(port, "public"), &format!("CREATE SCHEMA {schema}")).await;
    url(port, &schema)
}

/// Does something by a connection of its own.
pub async fn sql(url: &str, text: &str) {
    use sqlx::Connection as _;
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
