//! The settings of listeners.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::config::{ConfigError, value_error};
use crate::parse::format::Format;

pub(crate) const LISTEN_KEYS: &[&str] =
    &["address", "format", "labels", "when_full", "spool_bytes_max"];

/// Bytes of a spool where nothing is said.
const SPOOL_BYTES_DEFAULT: u64 = 1 << 30;
/// Least and most that may be said.
const SPOOL_BYTES_MIN: u64 = 64 << 20;
const SPOOL_BYTES_MAX: u64 = 1 << 40;

/// Where records are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Datagrams: a record each.
    Udp(SocketAddr),
    /// Connections.
    Tcp(SocketAddr),
    /// Connections on this machine.
    Unix(PathBuf),
    /// The agent's own standard input.
    Stdin,
}

/// What is done when the spool is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// Senders wait.
    Block,
    /// Records are dropped and counted.
    Drop,
}

/// A listener.
#[derive(Clone, Debug)]
pub struct ListenSource {
    /// Where.
    pub address: Address,
    /// In what notation the records are.
    pub format: Format,
    /// Labels of the streams, beside `host` and `listener`.
    pub labels: BTreeMap<String, String>,
    /// What is done when the spool is full.
    pub when_full: WhenFull,
    /// Most bytes of the spool.
    pub spool_bytes_max: u64,
}

impl ListenSource {
    /// A listener with default settings: UDP and TCP take syslog, the others any lines.
    pub fn new(address: Address) -> Self {
        let network = matches!(address, Address::Udp(_) | Address::Tcp(_));
        let cannot_wait = matches!(address, Address::Udp(_));
        ListenSource {
            format: if network { Format::Syslog } else { Format::Auto },
            when_full: if cannot_wait { WhenFull::Drop } else { WhenFull::Block },
            labels: BTreeMap::new(),
            spool_bytes_max: SPOOL_BYTES_DEFAULT,
            address,
        }
    }
}

impl Address {
    /// Reads `udp://HOST:PORT`, `tcp://HOST:PORT`, `unix:///PATH` or `stdin`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong = |what: &str| {
            let problem = format!(
                "{text:?} {what}; give udp://IP:PORT, tcp://IP:PORT, unix:///PATH or stdin"
            );
            Err(value_error("listen.address", problem))
        };
        let socket = |text: &str| text.parse::<SocketAddr>().ok();
        match text.split_once("://") {
            None if text == "stdin" => Ok(Address::Stdin),
            Some(("udp", at)) => {
                socket(at).map_or_else(|| wrong("has no IP:PORT"), |a| Ok(Address::Udp(a)))
            }
            Some(("tcp", at)) => {
                socket(at).map_or_else(|| wrong("has no IP:PORT"), |a| Ok(Address::Tcp(a)))
            }
            Some(("unix", path)) if path.starts_with('/') => Ok(Address::Unix(path.into())),
            Some(("unix", _)) => wrong("is no absolute path"),
            _ => wrong("is no address"),
        }
    }

    /// A name for its folder: letters, digits, `.`, `-` and `_`, and different for each address.
    pub(crate) fn file_name(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        let text = self.to_string();
        let name: String = text.chars().map(|c| if plain(c) { c } else { '_' }).take(80).collect();
        format!("{name}-{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Udp(at) => write!(f, "udp://{at}"),
            Address::Tcp(at) => write!(f, "tcp://{at}"),
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Stdin => f.write_str("stdin"),
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct RawListen {
    address: String,
    format: Option<Format>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    when_full: Option<WhenFull>,
    spool_bytes_max: Option<u64>,
}

impl RawListen {
    pub(crate) fn validate(self) -> Result<ListenSource, ConfigError> {
        let usual = ListenSource::new(Address::parse(&self.address)?);
        let spool_bytes_max = self.spool_bytes_max.unwrap_or(usual.spool_bytes_max);
        if !(SPOOL_BYTES_MIN..=SPOOL_BYTES_MAX).contains(&spool_bytes_max) {
            let problem = format!("{spool_bytes_max}; give {SPOOL_BYTES_MIN} to {SPOOL_BYTES_MAX}");
            return Err(value_error("listen.spool_bytes_max", problem));
        }
        let format = self.format.unwrap_or(usual.format);
        if matches!(format, Format::Cri | Format::Docker) {
            let problem = "container logs are files; read them with [containers] or [[files]]";
            return Err(value_error("listen.format", problem));
        }
        let when_full = self.when_full.unwrap_or(usual.when_full);
        Ok(ListenSource { format, labels: self.labels, when_full, spool_bytes_max, ..usual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_and_mistakes_say_what_is_wanted() {
        for text in ["udp://127.0.0.1:514", "tcp://[::1]:601", "unix:///run/a.sock", "stdin"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "udp", "udp://:514", "tcp://host", "unix://a", "http://1.2.3.4:5", "file"]
        {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains("udp://IP:PORT"), "{error}");
        }
        let names = ["unix:///a/b", "unix:///a_b"].map(|t| Address::parse(t).unwrap().file_name());
        assert_ne!(names[0], names[1]);
    }
}
