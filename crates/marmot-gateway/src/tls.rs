//! TLS for clients: certificates from files, read again when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The first byte of every TLS connection, and of no HTTP request.
pub(crate) const HANDSHAKE: u8 = 0x16;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no certificate in it.
    #[error("`{}` must have the certificate first and those that issued it behind, in PEM", path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// There is no key in it.
    #[error("`{}` must have a private key, in PEM (PKCS #8, SEC 1 or PKCS #1) and without a password", path.display())]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// They do not go together.
    #[error("the certificate in `{}` and the key in `{}` cannot be used together", certificate.display(), key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// A certificate with its key, as their files had them when they were last read whole.
pub struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
    /// The contents that `config` was made from.
    contents: Mutex<Contents>,
}

#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates")
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads a certificate, with those that issued it behind it, and its key: two files in PEM.
    ///
    /// # Errors
    /// Names the file that cannot be used, and why.
    pub fn read(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let contents = Contents::read(&certificate, &key)?;
        let config = contents.config(&certificate, &key)?;
        Ok(Self { certificate, key, config: ArcSwap::from_pointee(config), contents: Mutex::new(contents) })
    }

    /// Reads the files again; new connections get what they have now. True: it is something else than before.
    ///
    /// # Errors
    /// As [`Certificates::read`]; then what was read before is used on. The two files are not changed in one moment,
    /// so an error may be gone soon.
    pub fn read_again(&self) -> Result<bool, TlsError> {
        let now = Contents::read(&self.certificate, &self.key)?;
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if now == *contents {
            return Ok(false);
        }
        self.config.store(Arc::new(now.config(&self.certificate, &self.key)?));
        *contents = now;
        Ok(true)
    }

    /// Begins TLS with a client.
    ///
    /// # Errors
    /// When the client does not speak it, or not as it should.
    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.config.load_full()).accept(stream).await
    }
}

impl Contents {
    fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
        };
        Ok(Self { certificate: read(certificate)?, key: read(key)? })
    }

    fn config(&self, certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .ok()
            .filter(|chain: &Vec<_>| !chain.is_empty())
            .ok_or_else(|| TlsError::NoCertificate { path: certificate.to_owned() })?;
        let secret =
            PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::NoKey { path: key.to_owned() })?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
            .map_err(|source| TlsError::Unusable {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
                source,
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}
