//! A TCP proxy before PostgreSQL that does harm at the moment of a COMMIT.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to the next COMMIT; those after it pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It is done; the connection ends without its answer.
    LoseAnswer,
    /// It is done; the answer never comes, and the connection stays.
    Silence,
    /// The connection ends before it arrives.
    LoseCommit,
    /// The client's connection ends at once, the COMMIT arrives somewhat later.
    Delay(Duration),
}

pub struct Proxy {
    pub port: u16,
    left: Arc<AtomicU32>,
}

impl Proxy {
    /// Does `harm` to the first `times` COMMITs of one connection each, once armed.
    pub async fn start(server: u16, harm: Harm) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&left);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A server that is down is a connection that ends.
                if let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)).await {
                    tokio::spawn(pass(client, upstream, harm, Arc::clone(&counter)));
                }
            }
        });
        Self { port, left }
    }

    pub fn arm(&self, times: u32) {
        self.left.store(times, Ordering::SeqCst);
    }

    /// Whether all the harm was done.
    pub fn is_done(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }
}

/// A whole message of the simple protocol, as the client sends it in one piece.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

async fn pass(client: TcpStream, server: TcpStream, harm: Harm, left: Arc<AtomicU32>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = tokio::spawn(async move {
        tokio::io::copy(&mut from_server, &mut to_client).await.ok();
        (from_server, to_client)
    });
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from_client.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        let take = |n: u32| n.checked_sub(1);
        let struck = buffer[..read].ends_with(COMMIT)
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok();
        if !struck {
            if to_server.write_all(&buffer[..read]).await.is_err() {
                return;
            }
            continue;
        }
        // From here on the client hears nothing more; dropping both halves ends the connection.
        answers.abort();
        match harm {
            Harm::LoseCommit => return,
            Harm::LoseAnswer => {
                to_server.write_all(&buffer[..read]).await.unwrap();
                // The server ends its side after it has done what it was told.
                to_server.write_all(b"X\0\0\0\x04").await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
                return;
            }
            Harm::Silence => {
                to_server.write_all(&buffer[..read]).await.unwrap();
                while from_client.read(&mut buffer).await.unwrap_or(0) > 0 {}
                return;
            }
            Harm::Delay(wait) => {
                drop(from_client);
                answers.await.ok();
                tokio::time::sleep(wait).await;
                to_server.write_all(&buffer[..read]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
                return;
            }
        }
    }
}
