//! Certificates from files: read whole, and found by the names that they are good for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::{Shown, TlsError};

/// A certificate with its key, by their files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What the files of a pair hold.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    pair: Pair,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// What all the files hold, the first pair first, the others by their names.
pub(super) fn read_all(first: &Pair, more: Option<&Path>) -> Result<Vec<Contents>, TlsError> {
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

impl Contents {
    fn read(pair: Pair) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
        };
        Ok(Self { certificate: read(&pair.certificate)?, key: read(&pair.key)?, pair })
    }

    pub(super) fn unusable(&self, source: rustls::Error) -> TlsError {
        let Pair { certificate, key } = self.pair.clone();
        TlsError::Unusable { certificate, key, source }
    }

    fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
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
pub(super) struct ByName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    /// For who asks for no name, or one that none is good for.
    pub(super) first: Option<Arc<CertifiedKey>>,
}

impl ByName {
    pub(super) fn of(contents: &[Contents], provider: &CryptoProvider) -> Result<Self, TlsError> {
        let mut by_name = Self::default();
        contents.iter().try_for_each(|contents| by_name.add(contents, provider))?;
        Ok(by_name)
    }

    /// Each certificate once, with the names that it is good for.
    pub(super) fn shown(&self) -> Vec<Shown> {
        let wildcards = self.wildcard.iter().map(|(below, certified)| (format!("*.{below}"), certified));
        let exact = self.exact.iter().map(|(name, certified)| (name.clone(), certified));
        let mut shown: Vec<Shown> =
            exact.chain(wildcards).map(|(host, certified)| Shown::new(host, certified)).collect();
        shown.sort_by(|left, right| left.host.cmp(&right.host));
        shown
    }

    /// Where several are good for a name, the earlier is shown.
    fn add(&mut self, contents: &Contents, provider: &CryptoProvider) -> Result<(), TlsError> {
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

    pub(super) fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        // In lower case already, as rustls reads it.
        let below = || name.split_once('.').and_then(|(_, below)| self.wildcard.get(below));
        self.exact.get(name).or_else(below)
    }
}
