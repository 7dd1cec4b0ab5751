//! API tokens: who may do what, for whom.
//!
//! Invariants: the secret of a token is never kept, only its hash, from which it cannot be found
//! again; a name of a certificate is no secret and is kept as it is; a shared key is kept readable,
//! because the protocol that wants one proves its knowledge by a digest that must be computed here.

use std::fmt;
use std::str::FromStr;

use lodge_record::TenantId;

/// Most tokens that a catalog holds.
pub const TOKENS_MAX: usize = 10_000;
/// Longest name of a token, in bytes.
pub const TOKEN_NAME_BYTES_MAX: usize = 128;

/// What every secret begins with, so that scanners for leaked secrets can know it.
const SECRET_PREFIX: &str = "lodge_";
/// What follows the prefix: 128 random bits in hex.
const SECRET_DIGITS: usize = 32;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// To send records.
    Ingest,
    /// To ask and follow.
    Read,
    /// To make and revoke tokens.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ingest, Self::Read, Self::Admin];

    /// Its name, as it is written and kept.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope.
    pub fn all() -> Self {
        Scope::ALL.into_iter().fold(Self::default(), Self::with)
    }

    /// These and one more.
    #[must_use]
    pub fn with(self, scope: Scope) -> Self {
        Self(self.0 | (1 << scope as u8))
    }

    /// Whether `scope` is among them.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Scope::ALL.into_iter().filter(|scope| self.has(*scope)).map(Scope::name);
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

/// A list of scopes has a name that none has, or none at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a list of scopes; write ingest, read, admin or several of them with commas")]
pub struct ScopesError(String);

impl FromStr for Scopes {
    type Err = ScopesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ScopesError(text.chars().take(80).collect());
        text.split(',').map(str::trim).try_fold(Self::default(), |scopes, name| {
            let scope = Scope::ALL.into_iter().find(|scope| scope.name() == name);
            scope.map(|scope| scopes.with(scope)).ok_or_else(wrong)
        })
    }
}

/// How the holder of a token is known.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// By a secret of which this is the hash: [`secret_hash`].
    Secret([u8; 32]),
    /// By the common name in the subject of a TLS client certificate.
    Subject(String),
    /// By a key that both sides know, for Fluent Forward's handshake.
    SharedKey(String),
}

// Written by hand: a shared key must not get into a log.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("Secret"),
            Self::Subject(name) => write!(f, "Subject({name:?})"),
            Self::SharedKey(_) => f.write_str("SharedKey"),
        }
    }
}

/// A token as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its number, to revoke it by: 8 hex digits.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Whose records it is about.
    pub tenant: TenantId,
    /// What it allows.
    pub scopes: Scopes,
    /// A filter in LogsQL: what it reads is only what this selects.
    pub only: Option<String>,
    /// How its holder is known.
    pub credential: Credential,
    /// When it was made, milliseconds since 1970.
    pub created_ms: i64,
    /// When it ends, milliseconds since 1970; `None`: when it is revoked.
    pub expires_ms: Option<i64>,
}

/// A new secret: `lodge_` and 128 random bits in hex. Other systems' clients hold it as one word,
/// so it has neither a space nor a sign.
pub fn new_secret() -> String {
    format!("{SECRET_PREFIX}{}", uuid::Uuid::new_v4().simple())
}

/// A new number for a token.
pub fn new_token_id() -> String {
    let digits = uuid::Uuid::new_v4().simple().to_string();
    digits.chars().take(8).collect()
}

/// The hash by which a secret is known.
pub fn secret_hash(secret: &str) -> [u8; 32] {
    *blake3::hash(secret.as_bytes()).as_bytes()
}

/// Whether a text has the form of a secret.
pub fn is_secret(text: &str) -> bool {
    let digits = text.strip_prefix(SECRET_PREFIX).unwrap_or_default();
    digits.len() == SECRET_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn scopes_are_written_and_read() {
        let both: Scopes = "read, ingest".parse().unwrap();
        assert_eq!(both.to_string(), "ingest,read");
        assert!(both.has(Scope::Read) && both.has(Scope::Ingest) && !both.has(Scope::Admin));
        for wrong in ["", "write", "read,", "READ"] {
            assert!(wrong.parse::<Scopes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_known_by_its_hash_and_not_shown() {
        let secret = new_secret();
        assert!(is_secret(&secret), "{secret}");
        assert_ne!(secret, new_secret());
        assert_eq!(secret_hash(&secret), secret_hash(&secret));
        let shown = format!("{:?}", Credential::SharedKey("hidden".to_owned()));
        assert_eq!(shown, "SharedKey");
        for wrong in ["", "lodge_", "lodge_12", &secret[1..]] {
            assert!(!is_secret(wrong), "{wrong}");
        }
    }
}
