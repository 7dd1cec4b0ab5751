//! A real PostgreSQL on loopback: a new cluster in a temporary folder, made by Debian's programs (or
//! those on the PATH), run as a user without rights, gone when this process is.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::process::free_addr;
use crate::rig::RigError;

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
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    dir: PathBuf,
    keeper: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

fn programs() -> Option<PathBuf> {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = installed.map(|entry| entry.path().join("bin")).collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    found.into_iter().rev().chain(on_path).find(|bin| bin.join("initdb").exists())
}

fn id(user: &str, what: &str) -> io::Result<u32> {
    let told = Command::new("id").args([what, user]).output()?;
    String::from_utf8_lossy(&told.stdout).trim().parse().map_err(io::Error::other)
}

impl Postgres {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// [`RigError::Missing`] where PostgreSQL is not installed.
    pub fn start() -> Result<Postgres, RigError> {
        let programs = programs().ok_or_else(|| RigError::Missing {
            what: "there is no PostgreSQL: `initdb` was not found".into(),
            mend: "run scripts/setup faults, or apt-get install postgresql",
        })?;
        let dir = tempfile::Builder::new().prefix("lodge-pg-").tempdir()?.keep();
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o700))?;
        let port = free_addr()?.port();
        // The server refuses to run as root.
        let mut command = if fs::metadata(&dir)?.uid() == 0 {
            let (user, group) = (id("nobody", "-u")?, id("nobody", "-g")?);
            chown(&dir, Some(user), Some(group))?;
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
            .arg(programs)
            .arg(port.to_string())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = keeper.stdin.take();
        let answers = keeper.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        let mut server = Self { port, dir, keeper, orders, answers: BufReader::new(answers) };
        server.hear("ready")?;
        Ok(server)
    }

    fn hear(&mut self, wanted: &str) -> io::Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.trim() == wanted {
            return Ok(());
        }
        Err(io::Error::other("PostgreSQL did not start; what it said is on stderr"))
    }

    fn order(&mut self, what: &str) -> io::Result<()> {
        let orders = self.orders.as_mut().ok_or_else(|| io::Error::other("it has ended"))?;
        writeln!(orders, "{what}")?;
        self.hear("done")
    }

    /// Stops it as a crash would, nothing finished, and starts it again.
    pub fn crash(&mut self) -> io::Result<()> {
        self.order("restart")
    }

    /// Stops it as a crash would.
    pub fn stop(&mut self) -> io::Result<()> {
        self.order("stop")
    }

    /// Starts it after [`Postgres::stop`].
    pub fn go_on(&mut self) -> io::Result<()> {
        self.order("start")
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _reaped = self.keeper.wait();
    }
}
