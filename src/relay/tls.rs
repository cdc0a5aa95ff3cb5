//! The TLS edge: certificates, keys and trust roots from PEM files. They are read again when the files change.
//!
//! Must never: use half of a change. If a file cannot be used, the last good ones stay in force.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tracing::{info, warn};

use leafboot_core::settings::relay::{CacheMode, Identity, RelaySettings};

pub mod server_name;

/// Why TLS cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Certificate and key do not belong together, or rustls refuses them.
    #[error("{path}: {reason}")]
    Refused {
        /// The certificate's file.
        path: PathBuf,
        /// rustls's message.
        reason: rustls::Error,
    },
}

/// Why a machine's handshake failed.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// One side refused it, or the connection broke.
    #[error("{0}")]
    Failed(io::Error),
    /// The machine took too long.
    #[error("the handshake was not complete in time")]
    Late,
    /// The port ended before the handshake was complete.
    #[error("the port ended before the handshake was complete")]
    PortEnded,
}

impl HandshakeError {
    /// One of a few fixed words, for a metric's label: a machine cannot choose any other.
    pub fn class(&self) -> &'static str {
        let error = match self {
            Self::Failed(error) => error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()),
            Self::Late => return "late",
            Self::PortEnded => return "ended",
        };
        match error {
            // An error of the connection.
            None => "closed",
            // For example, the machine does not trust the certificate.
            Some(rustls::Error::AlertReceived(_)) => "refused",
            Some(rustls::Error::PeerIncompatible(_)) => "incompatible",
            Some(_) => "malformed",
        }
    }
}

/// Whether TLS refused a connection, and not the network.
pub fn is_tls_error(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// What a client connection is made with.
pub type TlsClient = Reloaded<ClientConfig>;

/// A value that is made from files, and made anew when they change.
pub struct Reloaded<T> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>,
    current: watch::Sender<(Stamps, Arc<T>)>,
}

/// Each file's modification time and size, which show a change; none: the file cannot be read.
type Stamps = Vec<Option<(SystemTime, u64)>>;

impl<T> Reloaded<T> {
    fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let current = watch::Sender::new((stamps(&files), Arc::new(make()?)));
        Ok(Self { files, make: Box::new(make), current })
    }

    /// The value of the newest files that can be used.
    pub fn get(&self) -> Arc<T> {
        let stamps = stamps(&self.files);
        if self.current.borrow().0 == stamps {
            return Arc::clone(&self.current.borrow().1);
        }
        let made = (self.make)();
        self.current.send_modify(|current| {
            // A change that cannot be used is not tried again before the next one.
            current.0 = stamps;
            match made {
                Ok(made) => {
                    info!(files = ?self.files, "TLS files have changed and were read again");
                    current.1 = Arc::new(made);
                }
                Err(error) => {
                    warn!(%error, "changed TLS files cannot be used; the last good ones stay in force")
                }
            }
        });
        Arc::clone(&self.current.borrow().1)
    }
}

impl TlsClient {
    /// Makes a handshake with the server `host` over `stream`.
    pub async fn connect<T>(&self, host: &str, stream: T) -> io::Result<TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(self.get()).connect(name, stream).await
    }
}

fn stamps(files: &[PathBuf]) -> Stamps {
    let stamp = |path: &PathBuf| {
        let data = fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    files.iter().map(stamp).collect()
}

/// Checks that the TLS files in the settings can be used.
pub fn check(settings: &RelaySettings) -> Result<(), TlsError> {
    settings.tls.as_ref().map(|tls| server(&tls.identity)).transpose()?;
    let cache = Some(&settings.cache.upstream).filter(|_| settings.cache.mode == CacheMode::Proxy);
    for upstream in [&settings.boot_service].into_iter().chain(cache).chain(&settings.api) {
        if upstream.origins.iter().any(|origin| origin.is_tls()) {
            client(&upstream.ca, upstream.identity.as_ref())?;
        }
    }
    Ok(())
}

/// The configuration of a listener.
pub fn server(identity: &Identity) -> Result<Reloaded<ServerConfig>, TlsError> {
    let files = vec![identity.certificate.clone(), identity.key.clone()];
    let identity = identity.clone();
    Reloaded::new(files, move || {
        let (chain, key) = read(&identity)?;
        let builder = ServerConfig::builder_with_provider(Arc::new(server_name::provider()));
        let mut config = builder
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(refused(&identity.certificate))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    })
}

/// The configuration of connections to `https` origins: trust roots, and the leaf's own certificate if it has one.
pub fn client(ca: &Path, identity: Option<&Identity>) -> Result<Reloaded<ClientConfig>, TlsError> {
    let own = identity.iter().flat_map(|identity| [identity.certificate.clone(), identity.key.clone()]);
    let files = [ca.to_owned()].into_iter().chain(own).collect();
    let (ca, identity) = (ca.to_owned(), identity.cloned());
    Reloaded::new(files, move || {
        let mut roots = RootCertStore::empty();
        let (trusted, _) = roots.add_parsable_certificates(certificates(&ca)?);
        if trusted == 0 {
            return Err(TlsError::File {
                path: ca.clone(),
                reason: "it has no certificate to trust".to_owned(),
            });
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(refused(&ca))?
            .with_root_certificates(roots);
        let mut config = match &identity {
            Some(identity) => {
                let (chain, key) = read(identity)?;
                builder.with_client_auth_cert(chain, key).map_err(refused(&identity.certificate))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    })
}

fn refused(path: &Path) -> impl Fn(rustls::Error) -> TlsError {
    move |reason| TlsError::Refused { path: path.to_owned(), reason }
}

fn read(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(&identity.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key)
        .map_err(|error| TlsError::File { path: identity.key.clone(), reason: error.to_string() })?;
    Ok((chain, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |reason: String| TlsError::File { path: path.to_owned(), reason };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?.collect();
    let chain = chain.map_err(|error| failed(error.to_string()))?;
    if chain.is_empty() { Err(failed("it has no certificate".to_owned())) } else { Ok(chain) }
}
