//! TLS for clients: certificates from files, read again when they change, and from an authority, chosen by the name that
//! a client asks for.

mod files;
mod issued;
mod validity;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use files::{ByName, Contents, Pair, read_all};
pub use issued::{Issued, Proof, Proving, UnusableIssue};
pub use validity::Validity;

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
    /// There is no TLS to be had.
    #[error("TLS cannot be used")]
    Unavailable {
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// Certificates with their keys: as their files had them when they were last read whole, and those that an authority
/// has issued since.
pub struct Certificates {
    files: Option<Files>,
    issued: Option<Arc<Issued>>,
    config: ArcSwap<Config>,
    /// What `config` was made from.
    contents: Mutex<Vec<Contents>>,
}

#[derive(Debug)]
struct Files {
    first: Pair,
    /// Where there are more.
    more: Option<PathBuf>,
}

/// How handshakes are answered.
struct Config {
    files: Arc<ByName>,
    server: Arc<ServerConfig>,
}

/// A certificate that clients are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// A name that it is good for: of an app, of the platform, or `*.` and a domain.
    pub host: String,
    /// When it is good; `None` where that cannot be read.
    pub validity: Option<Validity>,
}

impl Shown {
    fn new(host: String, certified: &CertifiedKey) -> Self {
        let validity = certified.end_entity_cert().ok().and_then(|certificate| Validity::of(certificate));
        Self { host, validity }
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
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
        let config = ArcSwap::from_pointee(config(&contents, None)?);
        Ok(Self { files: Some(Files { first, more }), issued: None, config, contents: Mutex::new(contents) })
    }

    /// Those that an authority issues while the gateway runs, and none else.
    ///
    /// # Errors
    /// When TLS cannot be had at all.
    pub fn issued(issued: Arc<Issued>) -> Result<Self, TlsError> {
        let config = ArcSwap::from_pointee(config(&[], Some(&issued))?);
        Ok(Self { files: None, issued: Some(issued), config, contents: Mutex::default() })
    }

    /// With those that an authority issues, for names that no file is good for.
    ///
    /// # Errors
    /// When TLS cannot be had at all.
    pub fn and_issued(self, issued: Arc<Issued>) -> Result<Self, TlsError> {
        let contents = self.contents.into_inner().unwrap_or_else(PoisonError::into_inner);
        let config = ArcSwap::from_pointee(config(&contents, Some(&issued))?);
        Ok(Self { files: self.files, issued: Some(issued), config, contents: Mutex::new(contents) })
    }

    /// Whether a file is good for this name, in lower case: nothing needs to be issued for it.
    pub fn has_file_for(&self, host: &str) -> bool {
        self.config.load().files.find(host).is_some()
    }

    /// What clients are shown, by each name.
    pub fn shown(&self) -> Vec<Shown> {
        let mut shown = self.config.load().files.shown();
        shown.extend(self.issued.iter().flat_map(|issued| issued.shown()));
        shown
    }

    /// Reads the files again; new connections get what they have now. True: it is something else than before.
    ///
    /// # Errors
    /// As [`Certificates::read`]; then what was read before is used on. The two files are not changed in one moment,
    /// so an error may be gone soon.
    pub fn read_again(&self) -> Result<bool, TlsError> {
        let Some(files) = &self.files else { return Ok(false) };
        let now = read_all(&files.first, files.more.as_deref())?;
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if now == *contents {
            return Ok(false);
        }
        self.config.store(Arc::new(config(&now, self.issued.as_ref())?));
        *contents = now;
        Ok(true)
    }

    /// What proves to an authority, which asks at this host for this path, that the host is ours.
    pub(crate) fn http_proof(&self, host: &str, path: &str) -> Option<String> {
        self.issued.as_ref()?.http_proof(host, path)
    }

    /// Begins TLS with a client. One that asks for a host whose certificate is just being issued waits for it.
    ///
    /// # Errors
    /// When the client does not speak it, or not as it should; and when it was an authority that looked for a proof.
    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.config.load().server);
        let Some(issued) = &self.issued else {
            return TlsAcceptor::from(config).accept(stream).await;
        };
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let hello = begun.client_hello();
        let is_proof = issued::is_for_proof(&hello);
        let name = hello.server_name().map(str::to_owned);
        if let Some(name) = name.filter(|name| !is_proof && !self.has_file_for(name)) {
            issued.expect(&name).await;
        }
        let stream = begun.into_stream(config).await?;
        // It has seen what it came for, and what follows is no HTTP.
        if is_proof { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(stream) }
    }
}

fn config(contents: &[Contents], issued: Option<&Arc<Issued>>) -> Result<Config, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let files = Arc::new(ByName::of(contents, &provider)?);
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let resolver = Resolver { files: Arc::clone(&files), issued: issued.cloned() };
    let mut server = builder
        .map_err(|source| match contents.first() {
            Some(contents) => contents.unusable(source),
            None => TlsError::Unavailable { source },
        })?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if issued.is_some() {
        server.alpn_protocols.push(issued::PROOF.to_vec());
    }
    Ok(Config { files, server: Arc::new(server) })
}

/// Chooses what a client is shown: a file's certificate before one that was issued.
#[derive(Debug)]
struct Resolver {
    files: Arc<ByName>,
    issued: Option<Arc<Issued>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // In lower case already, as rustls reads it.
        let name = hello.server_name();
        let issued = self.issued.as_ref();
        if issued.is_some() && issued::is_for_proof(&hello) {
            return issued?.tls_proof(name?);
        }
        let by_name = |name| self.files.find(name).cloned().or_else(|| issued?.find(name));
        // For who asks for no name, or one that none is good for.
        let any = || self.files.first.clone().or_else(|| issued?.own());
        name.and_then(by_name).or_else(any)
    }
}
