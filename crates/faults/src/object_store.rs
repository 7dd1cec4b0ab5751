//! A real object store (SeaweedFS) on loopback, and a proxy before it that fails by script.
//!
//! Invariants:
//! - the store itself is never hurt: what it acknowledged it keeps;
//! - what the proxy does to a request is what is in force when its head has arrived, and it does it
//!   to the request as a whole, so that each fault leaves a state that can be named.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::http;
use crate::process::{Process, ProcessError, Wrap, free_addr};
use crate::rig::RigError;

/// How long the store may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// Name and secret of its one user.
const USER: &str = "lodge";
const SECRET: &str = "not-a-secret";
/// The bucket that is made.
const BUCKET: &str = "logs";
/// An object that is large enough not to be kept with the names.
const PROBE_BYTES: usize = 64 << 10;
/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// A connection on which nothing moves for so long is closed.
const STILL_MAX: Duration = Duration::from_secs(90);

/// SeaweedFS in a folder, with one bucket.
#[derive(Debug)]
pub struct ObjectStore {
    _process: Process,
    s3: SocketAddr,
}

impl ObjectStore {
    /// Starts it with its files in `folder`.
    ///
    /// # Errors
    /// [`RigError::Missing`] where the program is not installed.
    pub fn start(folder: &Path) -> Result<ObjectStore, RigError> {
        let binary = find_weed().ok_or_else(|| RigError::Missing {
            what: "there is no object store: `weed` of SeaweedFS was not found".into(),
            mend: "run scripts/setup faults, or set LODGE_WEED to its path",
        })?;
        // Its ports are free when they are chosen; others may have them when it comes to take them.
        let mut attempts = 3;
        loop {
            attempts -= 1;
            match Self::start_once(&binary, folder) {
                Err(RigError::Process(ProcessError::Os { .. })) if attempts > 0 => {}
                started => return started,
            }
        }
    }

    fn start_once(binary: &Path, folder: &Path) -> Result<ObjectStore, RigError> {
        let data = folder.join("seaweedfs");
        fs::create_dir_all(&data)?;
        let users = folder.join("seaweedfs.json");
        let user = serde_json::json!({ "identities": [{
            "name": USER,
            "credentials": [{ "accessKey": USER, "secretKey": SECRET }],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        fs::write(&users, user.to_string())?;
        let mut args = vec![
            "server".to_owned(),
            format!("-dir={}", data.display()),
            "-ip=127.0.0.1".to_owned(),
            "-ip.bind=127.0.0.1".to_owned(),
            "-s3".to_owned(),
            "-s3.port.iceberg=0".to_owned(),
            "-s3.port.lance=0".to_owned(),
            "-s3.autoCreateBucket=false".to_owned(),
            "-master.volumeSizeLimitMB=64".to_owned(),
            "-volume.max=200".to_owned(),
            format!("-s3.config={}", users.display()),
        ];
        let mut port = |name: &str| -> Result<SocketAddr, ProcessError> {
            let addr = free_addr()?;
            args.push(format!("-{name}={}", addr.port()));
            Ok(addr)
        };
        for name in ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc"] {
            port(name)?;
        }
        for name in ["filer.port.grpc", "s3.port.grpc", "metricsPort"] {
            port(name)?;
        }
        let (filer, s3) = (port("filer.port")?, port("s3.port")?);
        let mut process =
            Process::start(binary, &args, &Wrap::default(), &folder.join("seaweedfs.log"))?;
        let started = Instant::now();
        let ask = |addr, method, path: String, body: &[u8]| {
            http::request(addr, method, &path, &[], body, Duration::from_secs(5))
        };
        // A bucket is a folder of the filer. That it can be made says nothing of the servers that keep
        // what is in objects: they are up once one was written.
        let made = |answer: http::Answer| answer.is_success() || answer.status == 409;
        let probe = || format!("/buckets/{BUCKET}/lodge-probe");
        while !ask(filer, "POST", format!("/buckets/{BUCKET}/"), b"").is_ok_and(made)
            || !ask(filer, "PUT", probe(), &[b'p'; PROBE_BYTES]).is_ok_and(|a| a.is_success())
            || !ask(filer, "DELETE", probe(), b"").is_ok_and(|a| a.is_success())
            || ask(s3, "GET", "/".to_owned(), b"").is_err()
        {
            if process.ended().is_some() || started.elapsed() > START_MAX {
                let log = process.log_tail();
                let what = "the object store did not start".to_owned();
                let source = io::Error::other(log);
                return Err(ProcessError::Os { what, source }.into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(ObjectStore { _process: process, s3 })
    }

    /// Where it answers.
    pub fn addr(&self) -> SocketAddr {
        self.s3
    }

    /// The settings of a server that keeps its objects there, in a folder of their own, and reaches
    /// it at `through`.
    pub fn settings(folder: &str, through: SocketAddr) -> String {
        format!(
            "objects = \"s3://{BUCKET}/{folder}\"\n\
             objects_options = {{ endpoint = \"http://{through}\", region = \"none\", \
             allow_http = true, access_key_id = \"{USER}\", secret_access_key = \"{SECRET}\" }}\n"
        )
    }
}

/// `LODGE_WEED`, or what `scripts/setup` put beside the build, or a program of the path.
fn find_weed() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("LODGE_WEED") {
        return Some(path.into());
    }
    let this = std::env::current_exe().ok()?;
    let built = this.ancestors().map(|folder| folder.join("seaweedfs/bin/weed"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed =
        std::env::split_paths(&path).map(|folder| folder.join("weed")).collect::<Vec<_>>();
    built.chain(installed).find(|path| path.is_file())
}

/// How the object store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It does not.
    None,
    /// Connections are reset at once.
    Down,
    /// It answers with this status and does nothing.
    Status(u16),
    /// It does what it is asked, and the answer never arrives.
    LoseAnswers,
    /// It gets half of a request; then the connection is reset.
    CutRequests,
    /// The answer is cut in its middle.
    CutAnswers,
    /// The answer comes this many bytes at a time, twenty times a second.
    Trickle(usize),
    /// It takes requests and does not answer.
    Hang,
}

#[derive(Debug)]
struct Script {
    failure: Mutex<(Failure, u32)>,
    requests: AtomicU64,
    hit: AtomicU64,
    stop: AtomicBool,
}

impl Script {
    fn now(&self) -> (Failure, u32) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to the next request: of each hundred so many fail.
    fn next(&self) -> Failure {
        let (failure, percent) = self.now();
        let turn = self.requests.fetch_add(1, Ordering::Relaxed);
        // Spread evenly: 37 has no divisor in common with 100.
        if failure == Failure::None || turn * 37 % 100 >= u64::from(percent) {
            return Failure::None;
        }
        self.hit.fetch_add(1, Ordering::Relaxed);
        failure
    }
}

/// The proxy; it ends when dropped.
#[derive(Debug)]
pub struct FailingProxy {
    addr: SocketAddr,
    script: Arc<Script>,
    accepting: Option<JoinHandle<()>>,
}

impl FailingProxy {
    /// Starts one before the object store at `store`.
    pub fn start(store: SocketAddr) -> Result<FailingProxy, ProcessError> {
        let os = |what: &str| {
            let what = what.to_owned();
            move |source| ProcessError::Os { what, source }
        };
        let listener = TcpListener::bind("127.0.0.1:0").map_err(os("binding a proxy"))?;
        let addr = listener.local_addr().map_err(os("a proxy's address"))?;
        let script = Arc::new(Script {
            failure: Mutex::new((Failure::None, 0)),
            requests: AtomicU64::new(0),
            hit: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let of_all = Arc::clone(&script);
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming() {
                if of_all.stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                let script = Arc::clone(&of_all);
                // An error is a connection that broke, which is what this is for.
                std::thread::spawn(move || drop(serve(&client, store, &script)));
            }
        });
        Ok(FailingProxy { addr, script, accepting: Some(accepting) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on `percent` of the requests fail so.
    pub fn set(&self, failure: Failure, percent: u32) {
        *self.script.failure.lock().unwrap_or_else(PoisonError::into_inner) = (failure, percent);
    }

    /// Requests that failed by script.
    pub fn hit(&self) -> u64 {
        self.script.hit.load(Ordering::Relaxed)
    }
}

impl Drop for FailingProxy {
    fn drop(&mut self) {
        self.set(Failure::None, 0);
        self.script.stop.store(true, Ordering::Relaxed);
        let _wakes_it = TcpStream::connect(self.addr);
        if let Some(accepting) = self.accepting.take() {
            let _panicked = accepting.join();
        }
    }
}

/// A request as it came: its head, and as much of its body as came with it.
struct Request {
    head: Vec<u8>,
    body: Vec<u8>,
    body_bytes: usize,
}

fn read_head(client: &mut &TcpStream) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let body_bytes = length.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
            return Ok(Some(Request { head: bytes, body, body_bytes }));
        }
        let read = client.read(&mut piece)?;
        if read == 0 || bytes.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
}

/// Serves one connection, a request after the other.
fn serve(client: &TcpStream, store: SocketAddr, script: &Script) -> io::Result<()> {
    client.set_read_timeout(Some(STILL_MAX))?;
    let mut reader = client;
    while let Some(mut request) = read_head(&mut reader)? {
        let failure = script.next();
        if failure == Failure::Down {
            return reset(client);
        }
        if let Failure::CutRequests = failure {
            request.body_bytes /= 2;
        }
        // Whoever sends "Expect: 100-continue" waits for a word; without one it sends after a while.
        let left = request.body_bytes.saturating_sub(request.body.len());
        request.body.truncate(request.body_bytes);
        let mut rest = vec![0; left];
        reader.read_exact(&mut rest)?;
        request.body.extend(rest);
        match failure {
            Failure::Status(status) => {
                answer(client, status)?;
                continue;
            }
            Failure::Hang => {
                let since = Instant::now();
                while script.now().0 == Failure::Hang && since.elapsed() < STILL_MAX {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return reset(client);
            }
            _ => {}
        }
        let upstream = ask(store, &request)?;
        if let Failure::CutRequests = failure {
            drop(upstream);
            return reset(client);
        }
        let answer = read_all(&upstream)?;
        let mut writer = client;
        match failure {
            Failure::LoseAnswers => return reset(client),
            Failure::CutAnswers => {
                writer.write_all(answer.get(..answer.len() / 2).unwrap_or_default())?;
                return reset(client);
            }
            Failure::Trickle(bytes) => {
                for piece in answer.chunks(bytes.max(1)) {
                    writer.write_all(piece)?;
                    if matches!(script.now().0, Failure::Trickle(_)) {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                }
            }
            _ => writer.write_all(&answer)?,
        }
        // The store ends each connection after its answer, and says so in it.
        return client.shutdown(Shutdown::Both);
    }
    Ok(())
}

/// Hands a request on, asking that the connection ends with the answer.
fn ask(store: SocketAddr, request: &Request) -> io::Result<TcpStream> {
    let mut upstream = TcpStream::connect(store)?;
    upstream.set_read_timeout(Some(STILL_MAX))?;
    let head = request.head.get(..request.head.len().saturating_sub(2)).unwrap_or_default();
    upstream.write_all(head)?;
    upstream.write_all(b"Connection: close\r\n\r\n")?;
    upstream.write_all(&request.body)?;
    Ok(upstream)
}

fn read_all(mut from: &TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    from.read_to_end(&mut all)?;
    Ok(all)
}

fn answer(mut client: &TcpStream, status: u16) -> io::Result<()> {
    let code = if status == 503 { "SlowDown" } else { "InternalError" };
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    let head = format!(
        "HTTP/1.1 {status} By Script\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(format!("{head}{body}").as_bytes())
}

/// Ends a connection with a reset.
fn reset(client: &TcpStream) -> io::Result<()> {
    SockRef::from(client).set_linger(Some(Duration::ZERO))
}
