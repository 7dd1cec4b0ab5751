//! The handshake of Forward with a shared key, for both sides.
//!
//! ```text
//! server  ["HELO", {"nonce": n, "auth": salt or "", "keepalive": bool}]
//! client  ["PING", hostname, salt, hex(sha512(salt hostname n key)), username, password digest]
//! server  ["PONG", accepted, reason, hostname, hex(sha512(salt hostname n key))]
//! ```
//!
//! The password's digest is that of auth's salt, username and password, both empty where HELO asks
//! for none. Nonces and salts are the caller's to draw, at random and for this connection only.
//! Invariant: digests are compared in a time that does not tell where they differ.

use std::borrow::Cow;

use sha2::{Digest, Sha512};

use super::bytes_of;
use crate::msgpack::{MsgpackError, Reader, Token, put_bin, put_bool, put_str};

/// Longest part of a handshake.
pub const PART_BYTES_MAX: usize = 1024;

/// Why a message is not the one that the handshake needs now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// It is another one, as from a side that knows of no shared key.
    #[error(
        "expected {0} of Fluent Forward's handshake: does the other side have a shared_key configured?"
    )]
    Expected(&'static str),
    /// A part of it is missing, too long, or of another type.
    #[error("{message} of Fluent Forward's handshake has no valid {part}")]
    BadPart {
        /// Which message.
        message: &'static str,
        /// Which part.
        part: &'static str,
    },
    /// It is no MessagePack.
    #[error(transparent)]
    Msgpack(#[from] MsgpackError),
}

/// What a server begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helo<'h> {
    /// Random bytes for this connection.
    pub nonce: Cow<'h, [u8]>,
    /// Salt of the password's digest; empty if no user is asked for.
    pub auth_salt: Cow<'h, [u8]>,
    /// Whether the connection stays open.
    pub keepalive: bool,
}

/// What a client answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping<'p> {
    /// The client's name for itself.
    pub hostname: &'p [u8],
    /// Random bytes, to be used in PONG too.
    pub salt: &'p [u8],
    /// Hex digest that shows the shared key.
    pub key_digest: &'p [u8],
    /// Empty if no user is asked for.
    pub username: &'p [u8],
    /// Hex digest that shows the password.
    pub password_digest: &'p [u8],
}

/// What the server decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pong<'p> {
    /// Whether the client may go on.
    pub accepted: bool,
    /// Why not.
    pub reason: &'p [u8],
    /// The server's name for itself.
    pub hostname: &'p [u8],
    /// Hex digest that shows the shared key.
    pub key_digest: &'p [u8],
}

/// The digest by which one side shows the other that it knows `shared_key`: 128 hex digits.
pub fn key_digest(salt: &[u8], hostname: &[u8], nonce: &[u8], shared_key: &[u8]) -> String {
    hex_sha512(&[salt, hostname, nonce, shared_key])
}

/// The digest by which a client shows a user's password: 128 hex digits.
pub fn password_digest(auth_salt: &[u8], username: &[u8], password: &[u8]) -> String {
    hex_sha512(&[auth_salt, username, password])
}

fn hex_sha512(parts: &[&[u8]]) -> String {
    let mut hash = Sha512::new();
    for part in parts {
        hash.update(part);
    }
    let mut hex = String::with_capacity(128);
    for byte in hash.finalize() {
        for nibble in [byte >> 4, byte & 15] {
            hex.extend(char::from_digit(u32::from(nibble), 16));
        }
    }
    hex
}

/// Whether two digests are the same, in a time that depends on their length only.
fn is_same(left: &[u8], right: &[u8]) -> bool {
    let differing = left.iter().zip(right).fold(0u8, |all, (left, right)| all | (left ^ right));
    left.len() == right.len() && std::hint::black_box(differing) == 0
}

impl Helo<'_> {
    /// The bytes to send.
    pub fn write(&self) -> Vec<u8> {
        let mut out = vec![0x92];
        put_str(&mut out, b"HELO");
        out.push(0x83);
        put_str(&mut out, b"nonce");
        put_bin(&mut out, &self.nonce);
        put_str(&mut out, b"auth");
        if self.auth_salt.is_empty() {
            put_str(&mut out, b"");
        } else {
            put_bin(&mut out, &self.auth_salt);
        }
        put_str(&mut out, b"keepalive");
        put_bool(&mut out, self.keepalive);
        out
    }
}

/// Reads a server's HELO.
pub fn read_helo(frame: &[u8]) -> Result<Helo<'_>, HandshakeError> {
    let mut reader = begin(frame, "HELO", 2)?;
    let mut helo = Helo { nonce: Cow::default(), auth_salt: Cow::default(), keepalive: true };
    let bad = |part| HandshakeError::BadPart { message: "HELO", part };
    let Token::Map(pairs) = reader.token()? else { return Err(bad("options")) };
    for _ in 0..pairs {
        let key = reader.clone().token()?;
        reader.skip()?;
        let value = reader.clone().token()?;
        reader.skip()?;
        let short = bytes_of(value).filter(|bytes| bytes.len() <= PART_BYTES_MAX);
        match (bytes_of(key), value) {
            (Some(b"nonce"), _) => helo.nonce = short.ok_or(bad("nonce"))?.into(),
            (Some(b"auth"), Token::Nil) => {}
            (Some(b"auth"), _) => helo.auth_salt = short.ok_or(bad("auth"))?.into(),
            (Some(b"keepalive"), Token::Bool(keepalive)) => helo.keepalive = keepalive,
            _ => {}
        }
    }
    Ok(helo)
}

/// The PING of a client called `hostname` that answers `helo`. `user` is name and password.
pub fn write_ping(
    helo: &Helo<'_>,
    hostname: &str,
    salt: &[u8],
    shared_key: &[u8],
    user: Option<(&str, &str)>,
) -> Vec<u8> {
    let mut out = vec![0x96];
    put_str(&mut out, b"PING");
    put_str(&mut out, hostname.as_bytes());
    put_bin(&mut out, salt);
    let digest = key_digest(salt, hostname.as_bytes(), &helo.nonce, shared_key);
    put_str(&mut out, digest.as_bytes());
    match user.filter(|_| !helo.auth_salt.is_empty()) {
        Some((name, password)) => {
            put_str(&mut out, name.as_bytes());
            let digest = password_digest(&helo.auth_salt, name.as_bytes(), password.as_bytes());
            put_str(&mut out, digest.as_bytes());
        }
        None => {
            put_str(&mut out, b"");
            put_str(&mut out, b"");
        }
    }
    out
}

/// Reads a client's PING. What it claims is to be checked with [`Ping::has_key`] and, where a user
/// is asked for, [`Ping::has_password`].
pub fn read_ping(frame: &[u8]) -> Result<Ping<'_>, HandshakeError> {
    let mut reader = begin(frame, "PING", 6)?;
    let mut next = |part| next_part(&mut reader, "PING", part);
    Ok(Ping {
        hostname: next("hostname")?,
        salt: next("salt")?,
        key_digest: next("digest of the shared key")?,
        username: next("username")?,
        password_digest: next("digest of the password")?,
    })
}

impl Ping<'_> {
    /// Whether the client knows `shared_key`; `nonce` is that of the HELO it was sent.
    pub fn has_key(&self, nonce: &[u8], shared_key: &[u8]) -> bool {
        let expected = key_digest(self.salt, self.hostname, nonce, shared_key);
        is_same(self.key_digest, expected.as_bytes())
    }

    /// Whether the client knows the password of its user; the salt is that of HELO's auth.
    pub fn has_password(&self, auth_salt: &[u8], password: &[u8]) -> bool {
        let expected = password_digest(auth_salt, self.username, password);
        is_same(self.password_digest, expected.as_bytes())
    }

    /// The PONG that accepts this PING, of a server called `hostname`.
    pub fn accept(&self, hostname: &str, nonce: &[u8], shared_key: &[u8]) -> Vec<u8> {
        let digest = key_digest(self.salt, hostname.as_bytes(), nonce, shared_key);
        write_pong(true, "", hostname, &digest)
    }
}

/// The PONG that refuses a client. It shows no key.
pub fn refuse(reason: &str) -> Vec<u8> {
    write_pong(false, reason, "", "")
}

fn write_pong(accepted: bool, reason: &str, hostname: &str, digest: &str) -> Vec<u8> {
    let mut out = vec![0x95];
    put_str(&mut out, b"PONG");
    put_bool(&mut out, accepted);
    for part in [reason, hostname, digest] {
        put_str(&mut out, part.as_bytes());
    }
    out
}

/// Reads a server's PONG. That it knows the key is to be checked with [`Pong::has_key`].
pub fn read_pong(frame: &[u8]) -> Result<Pong<'_>, HandshakeError> {
    let mut reader = begin(frame, "PONG", 5)?;
    let Token::Bool(accepted) = reader.token()? else {
        return Err(HandshakeError::BadPart { message: "PONG", part: "decision" });
    };
    let mut next = |part| next_part(&mut reader, "PONG", part);
    Ok(Pong {
        accepted,
        reason: next("reason")?,
        hostname: next("hostname")?,
        key_digest: next("digest of the shared key")?,
    })
}

impl Pong<'_> {
    /// Whether the server knows `shared_key`; `salt` is that of the PING it was sent.
    pub fn has_key(&self, salt: &[u8], nonce: &[u8], shared_key: &[u8]) -> bool {
        let expected = key_digest(salt, self.hostname, nonce, shared_key);
        is_same(self.key_digest, expected.as_bytes())
    }
}

fn begin<'f>(
    frame: &'f [u8],
    name: &'static str,
    parts: u32,
) -> Result<Reader<'f>, HandshakeError> {
    let mut reader = Reader::new(frame);
    if reader.token()? != Token::Array(parts) || bytes_of(reader.token()?) != Some(name.as_bytes())
    {
        return Err(HandshakeError::Expected(name));
    }
    Ok(reader)
}

fn next_part<'f>(
    reader: &mut Reader<'f>,
    message: &'static str,
    part: &'static str,
) -> Result<&'f [u8], HandshakeError> {
    let bytes = match reader.token()? {
        Token::Nil => Some(&b""[..]),
        token => bytes_of(token),
    };
    bytes
        .filter(|bytes| bytes.len() <= PART_BYTES_MAX)
        .ok_or(HandshakeError::BadPart { message, part })
}
