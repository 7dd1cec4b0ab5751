//! A TCP proxy that makes bad weather: between clients and a server, in this process.
//!
//! The dangerous moment of exactly-once is a commit whose answer never arrives. A kill seldom hits
//! it; this proxy makes it at will, with the other ways in which a network fails.
//!
//! Invariant: in good weather every byte passes unchanged and in order. Connections that bad
//! weather has torn stay torn when it is over.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::SockRef;

use crate::process::{self, ProcessError};

/// Bytes of one connection that are kept to be sent a second time.
const RECORDED_BYTES_MAX: usize = 32 << 20;

/// How long the answers to what is sent a second time are waited for.
const REPLAY_WAIT: Duration = Duration::from_secs(2);

/// What happens to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Everything passes.
    Good,
    /// Requests pass and answers are lost.
    LoseAnswers,
    /// Everything waits so many milliseconds.
    Delay(u64),
    /// Nothing passes and nothing is said; new connections are taken.
    BlackHole,
    /// A connection is reset once so many bytes of requests have passed.
    ResetRequests(u64),
    /// A connection is reset when the server begins to answer: what was asked is done by then.
    ResetAnswers,
    /// Each connection begun now is played to the server a second time when the weather changes.
    Duplicate,
    /// So many bytes pass in 10 ms.
    Trickle(usize),
    /// The server's side of each connection is closed, and the client is not told.
    HalfOpen,
}

/// A running proxy. Its threads end with the connections and with the process.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    weather: Mutex<Weather>,
    hit: AtomicU64,
    open: Mutex<Vec<Arc<Link>>>,
}

/// One connection of a client, and ours to the server.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    server: TcpStream,
    /// The client is kept in the belief that somebody listens.
    deserted: AtomicBool,
    ended: AtomicBool,
    asked: AtomicU64,
    recorded: Option<Mutex<Vec<u8>>>,
}

impl Proxy {
    /// Listens on a port of its own at `ip` and passes everything on to `server`.
    pub fn start(ip: IpAddr, server: SocketAddr) -> Result<Proxy, ProcessError> {
        let addr = SocketAddr::new(ip, process::free_addr()?.port());
        let listener = TcpListener::bind(addr)
            .map_err(|source| ProcessError::Os { what: format!("listening on {addr}"), source })?;
        let shared = Arc::new(Shared {
            server,
            weather: Mutex::new(Weather::Good),
            hit: AtomicU64::new(0),
            open: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Without a server the client's connection is closed at once, by dropping it.
                if let Ok(server) = TcpStream::connect(accepting.server) {
                    let _closed_already = accepting.carry(client, server);
                }
            }
        });
        Ok(Proxy { addr, shared })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes the weather for connections that are open and for new ones.
    pub fn set(&self, weather: Weather) {
        if weather == Weather::Duplicate {
            // What is played twice must be whole from its first byte.
            self.cut();
        }
        let before = self.shared.change(weather);
        match (before, weather) {
            (Weather::Duplicate, _) => self.shared.replay(),
            (_, Weather::HalfOpen) => self.shared.desert(),
            _ => {}
        }
    }

    /// Cuts every open connection in both directions and makes good weather.
    pub fn cut(&self) {
        for link in self.shared.links().drain(..) {
            link.end();
        }
        // Only now: what was read from a connection before it was cut must not slip through.
        self.shared.change(Weather::Good);
    }

    /// How often the weather struck: pieces lost or held, connections reset, deserted or replayed.
    pub fn hit(&self) -> u64 {
        self.shared.hit.load(Ordering::SeqCst)
    }
}

impl Link {
    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        for stream in [&self.client, &self.server] {
            let _closed_already = stream.shutdown(Shutdown::Both);
        }
    }

    /// Ends the connection with a reset instead of an end: it is sent when the last thread lets go.
    fn reset(&self) {
        self.ended.store(true, Ordering::SeqCst);
        for stream in [&self.client, &self.server] {
            let _closed_already = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            // Wakes the other thread without a word to the other side.
            let _closed_already = stream.shutdown(Shutdown::Read);
        }
    }
}

impl Shared {
    fn links(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Link>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn weather(&self) -> Weather {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, weather: Weather) -> Weather {
        let mut now = self.weather.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *now, weather)
    }

    fn strike(&self) {
        self.hit.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes the server away from every open connection.
    fn desert(&self) {
        for link in self.links().iter() {
            self.strike();
            link.deserted.store(true, Ordering::SeqCst);
            let _closed_already = link.server.shutdown(Shutdown::Both);
        }
    }

    /// Plays every recorded connection to the server once more, from its first byte.
    fn replay(&self) {
        let links: Vec<_> = self.links().drain(..).collect();
        for link in links {
            let Some(recorded) = &link.recorded else {
                self.links().push(link);
                continue;
            };
            link.end();
            let bytes = recorded.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Ok(mut again) = TcpStream::connect(self.server)
                && again.set_read_timeout(Some(REPLAY_WAIT)).is_ok()
                && again.write_all(&bytes).is_ok()
            {
                self.strike();
                let _until_the_wait_is_over = io::copy(&mut again, &mut io::sink());
            }
        }
    }

    fn carry(self: &Arc<Shared>, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let weather = self.weather();
        let link = Arc::new(Link {
            client,
            server,
            deserted: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            recorded: (weather == Weather::Duplicate).then(Mutex::default),
        });
        if weather == Weather::HalfOpen {
            link.deserted.store(true, Ordering::SeqCst);
        }
        self.links().push(Arc::clone(&link));
        for answers in [false, true] {
            let (shared, link) = (Arc::clone(self), Arc::clone(&link));
            std::thread::spawn(move || {
                shared.pump(&link, answers);
            });
        }
        Ok(())
    }

    /// Carries bytes in one direction until one side or the weather ends it.
    fn pump(&self, link: &Link, answers: bool) {
        let (mut from, mut to) = match answers {
            true => (&link.server, &link.client),
            false => (&link.client, &link.server),
        };
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let Some(read) = buffer.get(..n) else { break };
            if !answers && let Some(recorded) = &link.recorded {
                let mut recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
                if recorded.len() + n <= RECORDED_BYTES_MAX {
                    recorded.extend_from_slice(read);
                }
            }
            if self.carry_piece(link, read, answers, &mut to).is_err() {
                break;
            }
        }
        if link.deserted.load(Ordering::SeqCst) {
            // The client hears nothing of it; its own deadline must end this.
            return;
        }
        if !link.ended.load(Ordering::SeqCst) {
            let _closed_already = to.shutdown(Shutdown::Write);
        }
        if answers {
            link.ended.store(true, Ordering::SeqCst);
        }
        self.forget_ended();
    }

    /// Lets go of connections that have ended, or they would stay open; a recorded one is wanted.
    fn forget_ended(&self) {
        self.links().retain(|link| link.recorded.is_some() || !link.ended.load(Ordering::SeqCst));
    }

    fn carry_piece(
        &self,
        link: &Link,
        read: &[u8],
        answers: bool,
        to: &mut impl Write,
    ) -> io::Result<()> {
        if link.deserted.load(Ordering::SeqCst) {
            return Ok(());
        }
        if !answers {
            link.asked.fetch_add(read.len() as u64, Ordering::SeqCst);
        }
        match self.weather() {
            Weather::LoseAnswers if answers => {
                self.strike();
                return Ok(());
            }
            Weather::Delay(milliseconds) => {
                self.strike();
                std::thread::sleep(Duration::from_millis(milliseconds));
            }
            Weather::BlackHole => self.wait_while(link, Weather::BlackHole),
            Weather::ResetRequests(bytes)
                if !answers && link.asked.load(Ordering::SeqCst) >= bytes =>
            {
                // A part of the request arrives, and then the reset.
                to.write_all(read.get(..read.len() / 2).unwrap_or_default())?;
                self.strike();
                link.reset();
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Weather::ResetAnswers if answers => {
                self.strike();
                link.reset();
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Weather::Trickle(bytes) => return self.trickle(link, read, bytes, to),
            _ => {}
        }
        to.write_all(read)
    }

    fn wait_while(&self, link: &Link, weather: Weather) {
        self.strike();
        while self.weather() == weather && !link.ended.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Passes a few bytes at a time, until the weather changes.
    fn trickle(
        &self,
        link: &Link,
        read: &[u8],
        bytes: usize,
        to: &mut impl Write,
    ) -> io::Result<()> {
        self.strike();
        let mut left = read;
        while !left.is_empty() {
            let slow = matches!(self.weather(), Weather::Trickle(_));
            if link.ended.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let (now, later) = left.split_at(if slow { bytes.min(left.len()) } else { left.len() });
            to.write_all(now)?;
            left = later;
            if slow {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}
