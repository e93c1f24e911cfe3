//! TLS for clients: certificates from files, chosen by the name that a client asks for, read again when they change.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
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

/// A certificate with its key, by their files.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

/// Certificates with their keys, as their files had them when they were last read whole.
pub struct Certificates {
    first: Pair,
    /// Where there are more.
    more: Option<PathBuf>,
    config: ArcSwap<ServerConfig>,
    /// The contents that `config` was made from.
    contents: Mutex<Vec<Contents>>,
}

#[derive(PartialEq, Eq)]
struct Contents {
    pair: Pair,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates")
            .field("first", &self.first)
            .field("more", &self.more)
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads a certificate, with those that issued it behind it, and its key: two files in PEM. `more`: a directory with
    /// further ones, each in a file `NAME.pem` or `NAME.crt` with its key in `NAME.key` beside it. Clients are shown the one
    /// that is good for the name they ask for, by its exact name before a wildcard; else the first.
    ///
    /// # Errors
    /// Names the file that cannot be used, and why.
    pub fn read(certificate: PathBuf, key: PathBuf, more: Option<PathBuf>) -> Result<Self, TlsError> {
        let first = Pair { certificate, key };
        let contents = read_all(&first, more.as_deref())?;
        let config = ArcSwap::from_pointee(config(&contents)?);
        Ok(Self { first, more, config, contents: Mutex::new(contents) })
    }

    /// Reads the files again; new connections get what they have now. True: it is something else than before.
    ///
    /// # Errors
    /// As [`Certificates::read`]; then what was read before is used on. The two files are not changed in one moment,
    /// so an error may be gone soon.
    pub fn read_again(&self) -> Result<bool, TlsError> {
        let now = read_all(&self.first, self.more.as_deref())?;
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if now == *contents {
            return Ok(false);
        }
        self.config.store(Arc::new(config(&now)?));
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

/// What all the files hold, the first pair first, the others by their names.
fn read_all(first: &Pair, more: Option<&Path>) -> Result<Vec<Contents>, TlsError> {
    let mut pairs = vec![first.clone()];
    if let Some(dir) = more {
        let unreadable = |source| TlsError::Unreadable { path: dir.to_owned(), source };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|kind| kind == "pem" || kind == "crt") {
                found.push(Pair { key: path.with_extension("key"), certificate: path });
            }
        }
        found.sort_by(|left, right| left.certificate.cmp(&right.certificate));
        pairs.extend(found);
    }
    pairs.into_iter().map(Contents::read).collect()
}

fn config(contents: &[Contents]) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut by_name = ByName::default();
    for contents in contents {
        by_name.add(contents, &provider)?;
    }
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let unusable = |source| match contents.first() {
        Some(contents) => contents.unusable(source),
        None => TlsError::NoCertificate { path: PathBuf::new() },
    };
    let mut config = builder.map_err(unusable)?.with_no_client_auth().with_cert_resolver(Arc::new(by_name));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

impl Contents {
    fn read(pair: Pair) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
        };
        Ok(Self { certificate: read(&pair.certificate)?, key: read(&pair.key)?, pair })
    }

    fn unusable(&self, source: rustls::Error) -> TlsError {
        let Pair { certificate, key } = self.pair.clone();
        TlsError::Unusable { certificate, key, source }
    }

    fn certified(&self, provider: &rustls::crypto::CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .ok()
            .filter(|chain: &Vec<_>| !chain.is_empty())
            .ok_or_else(|| TlsError::NoCertificate { path: self.pair.certificate.clone() })?;
        let secret = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| TlsError::NoKey { path: self.pair.key.clone() })?;
        CertifiedKey::from_der(chain, secret, provider).map_err(|source| self.unusable(source))
    }
}

/// Certificates by the names that they are good for.
#[derive(Debug, Default)]
struct ByName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    /// For who asks for no name, or one that none is good for.
    first: Option<Arc<CertifiedKey>>,
}

impl ByName {
    /// Where several are good for a name, the earlier is shown.
    fn add(
        &mut self,
        contents: &Contents,
        provider: &rustls::crypto::CryptoProvider,
    ) -> Result<(), TlsError> {
        let certified = Arc::new(contents.certified(provider)?);
        let unusable =
            |_| contents.unusable(rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding));
        let end_entity = certified.end_entity_cert().map_err(|source| contents.unusable(source))?;
        let parsed = webpki::EndEntityCert::try_from(end_entity).map_err(unusable)?;
        for name in parsed.valid_dns_names() {
            let name = name.to_ascii_lowercase();
            let (names, name) = match name.strip_prefix("*.") {
                Some(below) => (&mut self.wildcard, below.to_owned()),
                None => (&mut self.exact, name),
            };
            names.entry(name).or_insert_with(|| Arc::clone(&certified));
        }
        self.first.get_or_insert_with(|| Arc::clone(&certified));
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        // In lower case already, as rustls reads it.
        let below = || name.split_once('.').and_then(|(_, below)| self.wildcard.get(below));
        self.exact.get(name).or_else(below)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        hello.server_name().and_then(|name| self.find(name)).or(self.first.as_ref()).cloned()
    }
}
