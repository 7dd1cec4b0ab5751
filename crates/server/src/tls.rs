//! TLS on the listeners: certificate, key and, for clients that show certificates, their authority.
//!
//! Invariants: the files are read again when they change, and a change that cannot be used leaves
//! what was used before; connections that are open keep what they began with; a client without a
//! certificate gets in, and is whoever its token says; one with a certificate of another authority
//! does not.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::peer_tls;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Largest file of certificates: an authority bundle of a whole system has a quarter of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The server's certificate and those between it and its authority, PEM.
    pub(crate) certificate: PathBuf,
    /// Its key, PEM.
    pub(crate) key: PathBuf,
    /// Authorities of client certificates, PEM.
    pub(crate) client_ca: Option<PathBuf>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is too large.
    #[error("cannot read {path} (setting `{setting}`): {reason}")]
    Read {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Certificate and key do not go together, or a kind is not supported.
    #[error("the certificate {path} cannot be used: {reason}; check that the key belongs to it")]
    Refused {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// What a file looked like when it was read.
type Stamp = Option<(SystemTime, u64)>;

/// The configuration in force.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    used: RwLock<Used>,
    stamps: Mutex<Vec<Stamp>>,
}

#[derive(Debug, Clone)]
struct Used {
    http: Arc<rustls::ServerConfig>,
    plain: Arc<rustls::ServerConfig>,
    /// What other servers know the certificate by.
    fingerprint: String,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let stamps = Mutex::new(files.stamps());
        let used = RwLock::new(files.read()?);
        Ok(Self { files, used, stamps })
    }

    /// For connections that speak HTTP, in either version.
    pub(crate) fn http(&self) -> TlsAcceptor {
        self.used.read().unwrap_or_else(PoisonError::into_inner).http.clone().into()
    }

    /// For connections that speak something else.
    pub(crate) fn plain(&self) -> TlsAcceptor {
        self.used.read().unwrap_or_else(PoisonError::into_inner).plain.clone().into()
    }

    /// What other servers know the certificate in use by.
    pub(crate) fn fingerprint(&self) -> String {
        self.used.read().unwrap_or_else(PoisonError::into_inner).fingerprint.clone()
    }

    /// Reads the files whenever they change, until the server stops.
    pub(crate) async fn follow(self: Arc<Self>, stopping: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stopping.cancelled() => return,
            }
            let tls = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || tls.look()).await {
                tracing::error!(%error, "looking at the certificates died");
            }
        }
    }

    fn look(&self) {
        let now = self.files.stamps();
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        if *stamps == now {
            return;
        }
        *stamps = now;
        match self.files.read() {
            Ok(used) => {
                *self.used.write().unwrap_or_else(PoisonError::into_inner) = used;
                tracing::info!(file = %self.files.certificate.display(), "certificates read again");
            }
            Err(error) => tracing::error!(%error, "the certificates before stay in use"),
        }
    }
}

impl TlsFiles {
    fn stamps(&self) -> Vec<Stamp> {
        let paths = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        let stamp = |path: &PathBuf| {
            let about = std::fs::metadata(path).ok()?;
            Some((about.modified().ok()?, about.len()))
        };
        paths.into_iter().flatten().map(stamp).collect()
    }

    fn read(&self) -> Result<Used, TlsError> {
        let chain = certificates("tls_certificate", &self.certificate)?;
        let key = contents("tls_key", &self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|error| unreadable("tls_key", &self.key, error.to_string()))?;
        let refused = |reason: String| TlsError::Refused { path: self.certificate.clone(), reason };
        let builder = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(error.to_string()))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("tls_client_ca", path)? {
                    roots
                        .add(certificate)
                        .map_err(|e| unreadable("tls_client_ca", path, e.to_string()))?;
                }
                let roots = Arc::new(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| unreadable("tls_client_ca", path, error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let fingerprint = chain.first().map(peer_tls::fingerprint).unwrap_or_default();
        let plain =
            builder.with_single_cert(chain, key).map_err(|error| refused(error.to_string()))?;
        let mut http = plain.clone();
        http.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Used { http: Arc::new(http), plain: Arc::new(plain), fingerprint })
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unreadable(setting: &'static str, path: &Path, reason: String) -> TlsError {
    TlsError::Read { setting, path: path.to_path_buf(), reason }
}

fn contents(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let bytes = std::fs::metadata(path)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(std::io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        std::fs::read(path)
    };
    read().map_err(|error| unreadable(setting, path, error.to_string()))
}

fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = contents(setting, path)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let list = list.map_err(|error| unreadable(setting, path, error.to_string()))?;
    if list.is_empty() {
        return Err(unreadable(setting, path, "it has no certificate in PEM form".to_owned()));
    }
    Ok(list)
}

/// The common name of the certificate that a client showed and proved.
pub(crate) fn subject(connection: &rustls::ServerConnection) -> Option<Arc<str>> {
    let certificate = connection.peer_certificates()?.first()?;
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    parsed.subject().iter_common_name().next()?.as_str().ok().map(Arc::from)
}
