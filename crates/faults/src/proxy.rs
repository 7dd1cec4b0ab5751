//! A TCP proxy that loses what is said: between an agent and its server, in this process.
//!
//! The dangerous moment of exactly-once is a commit whose answer never arrives. A kill seldom hits
//! it; this proxy makes it at will: requests go through, answers do not, and then the line is cut.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::process::{self, ProcessError};

/// A running proxy. Its threads end with the connections and with the process.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    swallowing: AtomicBool,
    swallowed_bytes: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Listens on a port of its own and passes everything on to `server`.
    pub fn start(server: SocketAddr) -> Result<Proxy, ProcessError> {
        let addr = process::free_addr()?;
        let listener = TcpListener::bind(addr)
            .map_err(|source| ProcessError::Os { what: format!("listening on {addr}"), source })?;
        let shared = Arc::new(Shared {
            server,
            swallowing: AtomicBool::new(false),
            swallowed_bytes: AtomicU64::new(0),
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

    /// From now on requests pass and answers are lost.
    pub fn swallow_answers(&self) {
        self.shared.swallowing.store(true, Ordering::SeqCst);
    }

    /// Cuts every open connection in both directions and lets answers pass again.
    pub fn cut(&self) {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            let _closed_already = stream.shutdown(Shutdown::Both);
        }
        // Only now: what was read from a connection before it was cut must not slip through.
        self.shared.swallowing.store(false, Ordering::SeqCst);
    }

    /// Bytes of answers that were lost.
    pub fn swallowed_bytes(&self) -> u64 {
        self.shared.swallowed_bytes.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn carry(self: &Arc<Shared>, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Forget connections that both sides have left.
        open.retain(|stream| stream.peer_addr().is_ok());
        open.extend([client.try_clone()?, server.try_clone()?]);
        drop(open);
        let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
        let shared = Arc::clone(self);
        std::thread::spawn(move || shared.pump(from_client, to_server, false));
        let shared = Arc::clone(self);
        std::thread::spawn(move || shared.pump(server, client, true));
        Ok(())
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, answers: bool) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if answers && self.swallowing.load(Ordering::SeqCst) {
                self.swallowed_bytes.fetch_add(n as u64, Ordering::SeqCst);
                continue;
            }
            let Some(read) = buffer.get(..n) else { break };
            if to.write_all(read).is_err() {
                break;
            }
        }
        let _closed_already = to.shutdown(Shutdown::Write);
    }
}
