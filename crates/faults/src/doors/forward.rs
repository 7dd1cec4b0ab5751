//! Fluent Forward: messages with a `chunk`, and the acknowledgements that name it.
//!
//! Specification: Forward Protocol Specification v1 in Fluentd's wiki.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use super::{Lines, binary};
use crate::http::Trouble;
use crate::load::Load;

/// The shape of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One record.
    Message,
    /// An array of entries.
    Forward,
    /// The bytes of entries.
    Packed,
    /// The same in gzip.
    CompressedPacked,
}

impl Mode {
    /// Any of them that can hold so many records.
    pub fn any(random: &mut SmallRng, count: u64) -> Self {
        match random.random_range(0..3_u8) {
            _ if count == 1 => Self::Message,
            0 => Self::Forward,
            1 => Self::Packed,
            _ => Self::CompressedPacked,
        }
    }

    /// A message with minted lines.
    pub fn message(self, load: &Load, lines: Lines<'_>, chunk: &str) -> Vec<u8> {
        let now = load.now();
        let entries = lines.made(load).map(|(text, number)| {
            let (mut time, mut record) = (Vec::new(), Vec::new());
            binary::event_time(&mut time, now);
            binary::map(&mut record, 3);
            binary::text(&mut record, "message");
            binary::text(&mut record, &text);
            binary::text(&mut record, "source");
            binary::text(&mut record, lines.name);
            binary::text(&mut record, "oracle.number");
            binary::int(&mut record, number);
            [time, record].concat()
        });
        let pair = |entry: Vec<u8>| [&[0x92], entry.as_slice()].concat();
        let mut out = Vec::new();
        binary::array(&mut out, if self == Self::Message { 4 } else { 3 });
        binary::text(&mut out, "oracle");
        match self {
            Self::Message => out.extend(entries.flatten()),
            Self::Forward => {
                binary::array(&mut out, usize::try_from(lines.count).unwrap_or(usize::MAX));
                out.extend(entries.flat_map(pair));
            }
            Self::Packed => {
                binary::binary(&mut out, &entries.flat_map(pair).collect::<Vec<u8>>());
            }
            Self::CompressedPacked => {
                let packed: Vec<u8> = entries.flat_map(pair).collect();
                binary::binary(&mut out, &binary::gzip(&packed));
            }
        }
        let is_compressed = self == Self::CompressedPacked;
        binary::map(&mut out, 1 + u8::from(is_compressed));
        binary::text(&mut out, "chunk");
        binary::text(&mut out, chunk);
        if is_compressed {
            binary::text(&mut out, "compressed");
            binary::text(&mut out, "gzip");
        }
        out
    }
}

/// A connection of a client.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    addr: SocketAddr,
}

impl Connection {
    /// Connects; each wait for the other side has the deadline.
    pub fn open(addr: SocketAddr, deadline: Duration) -> Result<Self, Trouble> {
        let opened = TcpStream::connect_timeout(&addr, deadline).and_then(|stream| {
            stream.set_read_timeout(Some(deadline))?;
            stream.set_write_timeout(Some(deadline))?;
            stream.set_nodelay(true)?;
            Ok(Self { stream, addr })
        });
        opened.map_err(|source| Trouble::Connect { addr, source })
    }

    /// Whether the other side has closed it: what is sent now cannot be taken.
    pub fn is_closed(&self) -> bool {
        let mut byte = [0];
        let looked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut byte));
        let is_open = matches!(&looked, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
        !is_open || self.stream.set_nonblocking(false).is_err()
    }

    /// Sends a message.
    pub fn send(&mut self, message: &[u8]) -> Result<(), Trouble> {
        self.stream.write_all(message).map_err(|source| self.broken(source))
    }

    /// Waits for the acknowledgement of `chunk`, which has to be the next.
    pub fn acknowledgement(&mut self, chunk: &str) -> Result<(), Trouble> {
        let mut expected = Vec::new();
        binary::map(&mut expected, 1);
        binary::text(&mut expected, "ack");
        binary::text(&mut expected, chunk);
        let mut came = vec![0; expected.len()];
        self.stream.read_exact(&mut came).map_err(|source| self.broken(source))?;
        if came != expected {
            let what = format!("not the acknowledgement of {chunk}: {}", came.escape_ascii());
            return Err(Trouble::Other { addr: self.addr, what });
        }
        Ok(())
    }

    fn broken(&self, source: io::Error) -> Trouble {
        Trouble::Broken { addr: self.addr, source }
    }
}
