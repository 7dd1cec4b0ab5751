//! How a server is reached: whom to trust, and how to show who one is.
//!
//! Invariants: a token goes to a server only over the connection that was asked for, and never into
//! a log; it is read from its file each time, as it may be replaced in place; a server of plain HTTP
//! needs neither certificates of the system nor any of ours.

use std::path::{Path, PathBuf};

use reqwest::{Certificate, ClientBuilder, Identity};
use rustls::crypto::ring;

/// The environment variable with a token, where no file is named.
pub const TOKEN_VARIABLE: &str = "LODGE_TOKEN";
/// Largest file of a token or of certificates.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The files that say whom to trust and who one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A file with an API token; `None`: the variable `LODGE_TOKEN`, if it is set.
    pub token_file: Option<PathBuf>,
    /// Authorities of the server's certificate, PEM; `None`: those of the system.
    pub server_ca: Option<PathBuf>,
    /// A certificate to show, PEM; with `client_key`.
    pub client_certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub client_key: Option<PathBuf>,
}

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {path} (setting `{setting}`): {reason}")]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A certificate without its key, or the other way round.
    #[error("client_certificate and client_key go together: set both or none")]
    Half,
}

fn failed(setting: &'static str, path: &Path, reason: impl ToString) -> CredentialsError {
    CredentialsError::File { setting, path: path.to_path_buf(), reason: reason.to_string() }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let bytes = std::fs::metadata(path).map_err(|error| failed(setting, path, error))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(failed(setting, path, format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read(path).map_err(|error| failed(setting, path, error))
}

/// Makes the one implementation of TLS that is built in the process's own; HTTP clients are built
/// only after it.
pub fn use_tls() {
    // An error says that it was done before.
    let _ = ring::default_provider().install_default();
}

impl Credentials {
    /// What an HTTP client for `servers` begins with.
    ///
    /// # Errors
    /// If a file cannot be read or is not what it should be.
    pub fn client<S: AsRef<str>>(&self, servers: &[S]) -> Result<ClientBuilder, CredentialsError> {
        use_tls();
        let builder = reqwest::Client::builder();
        let is_tls = servers.iter().any(|server| server.as_ref().starts_with("https://"));
        if !is_tls {
            return Ok(builder.tls_certs_only([]));
        }
        let builder = match &self.server_ca {
            None => builder,
            Some(path) => {
                let pem = read("server_ca", path)?;
                let roots = Certificate::from_pem_bundle(&pem);
                let roots = roots.map_err(|error| failed("server_ca", path, error))?;
                if roots.is_empty() {
                    return Err(failed("server_ca", path, "it has no certificate in PEM form"));
                }
                builder.tls_certs_only(roots)
            }
        };
        match (&self.client_certificate, &self.client_key) {
            (None, None) => Ok(builder),
            (Some(certificate), Some(key)) => {
                let mut pem = read("client_certificate", certificate)?;
                pem.push(b'\n');
                pem.extend(read("client_key", key)?);
                let identity = Identity::from_pem(&pem);
                let identity =
                    identity.map_err(|error| failed("client_certificate", certificate, error))?;
                Ok(builder.identity(identity))
            }
            _ => Err(CredentialsError::Half),
        }
    }

    /// The token to show, if there is one.
    ///
    /// # Errors
    /// If the file cannot be read or is not one line of text.
    pub fn token(&self) -> Result<Option<String>, CredentialsError> {
        let Some(path) = &self.token_file else {
            return Ok(std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()));
        };
        let text = String::from_utf8(read("token_file", path)?);
        let text = text.map_err(|_| failed("token_file", path, "it is not text"))?;
        let token = text.trim();
        if token.is_empty() || token.contains(char::is_whitespace) {
            return Err(failed("token_file", path, "it has not one token on one line"));
        }
        Ok(Some(token.to_owned()))
    }
}
