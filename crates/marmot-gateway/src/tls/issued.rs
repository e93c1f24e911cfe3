//! What an authority has issued while the gateway runs, and what proves to it that a host is ours (RFC 8555, RFC 8737).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::{Shown, Validity};

/// The protocol of who looks for a proof and speaks no HTTP.
pub(super) const PROOF: &[u8] = b"acme-tls/1";
/// Where a proof is looked for in plain text; its token follows.
const PROOF_PATH: &str = "/.well-known/acme-challenge/";

/// The client is an authority, or says that it is one: it is shown proofs, and nothing else.
pub(super) fn is_for_proof(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut protocols| protocols.next() == Some(PROOF) && protocols.next().is_none())
}

/// What was issued cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum UnusableIssue {
    /// A part is missing, or cannot be read.
    #[error("it must hold a private key, and the certificate before those that issued it, in PEM")]
    Incomplete,
    /// The certificate is for something else.
    #[error("its certificate is not good for `{host}`")]
    OtherHost {
        /// What it should be good for.
        host: String,
    },
    /// The key is not the certificate's.
    #[error("its key and its certificate cannot be used together")]
    Unusable {
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// What was issued, by host, and which hosts are still to prove something. Hosts are in lower case.
pub struct Issued {
    /// Whose certificate is shown to those who ask for a name that there is none for.
    own: String,
    table: watch::Sender<Table>,
}

#[derive(Default)]
struct Table {
    certified: HashMap<String, Arc<CertifiedKey>>,
    /// Something is being issued for them right now.
    expected: HashSet<String>,
    /// What is shown to who asks for a proof, by host.
    tls_proofs: HashMap<String, Arc<CertifiedKey>>,
    /// Host and answer, by token.
    http_proofs: HashMap<String, (String, String)>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("own", &self.own).finish_non_exhaustive()
    }
}

/// How a host is proved to be ours.
#[derive(Debug)]
pub enum Proof {
    /// By what is answered in plain text (HTTP-01).
    Http {
        /// What is asked for.
        token: String,
        /// What is answered.
        answer: String,
    },
    /// By a certificate that is shown to nobody else (TLS-ALPN-01).
    Tls {
        /// The certificate, in DER.
        certificate: CertificateDer<'static>,
        /// Its key.
        key: PrivateKeyDer<'static>,
    },
}

/// A proof that can be seen, until this is dropped.
#[derive(Debug)]
pub struct Proving {
    issued: Arc<Issued>,
    shown: ShownProof,
}

#[derive(Debug)]
enum ShownProof {
    Http { token: String },
    Tls { host: String },
}

impl Drop for Proving {
    fn drop(&mut self) {
        self.issued.table.send_modify(|table| match &self.shown {
            ShownProof::Http { token } => drop(table.http_proofs.remove(token)),
            ShownProof::Tls { host } => drop(table.tls_proofs.remove(host)),
        });
    }
}

impl Issued {
    /// Nothing yet. `own`: the platform's host, whose certificate is shown to those who ask for a name that there is none
    /// for.
    pub fn new(own: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { own: own.into(), table: watch::Sender::default() })
    }

    /// Shows this to clients who ask for `host`, from now on: its key and its chain, in PEM.
    ///
    /// # Errors
    /// When it cannot be used; then what was shown before is shown on.
    pub fn show(&self, host: &str, pem: &[u8]) -> Result<Option<Validity>, UnusableIssue> {
        let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(UnusableIssue::Incomplete)?;
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| UnusableIssue::Incomplete)?;
        let other = || UnusableIssue::OtherHost { host: host.to_owned() };
        let name = ServerName::try_from(host).map_err(|_| other())?;
        webpki::EndEntityCert::try_from(&chain[0])
            .and_then(|certificate| certificate.verify_is_valid_for_subject_name(&name))
            .map_err(|_| other())?;
        let validity = Validity::of(&chain[0]);
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|source| UnusableIssue::Unusable { source })?;
        self.table.send_modify(|table| {
            table.certified.insert(host.to_owned(), Arc::new(certified));
        });
        Ok(validity)
    }

    /// Shows nothing for this host any more.
    pub fn forget(&self, host: &str) {
        self.table.send_if_modified(|table| table.certified.remove(host).is_some());
    }

    /// Lets clients who ask for one of these hosts, and there is nothing for it yet, wait.
    pub fn set_expected(&self, hosts: impl IntoIterator<Item = String>) {
        let expected: HashSet<String> = hosts.into_iter().collect();
        self.table.send_if_modified(|table| {
            let changed = table.expected != expected;
            table.expected = expected;
            changed
        });
    }

    /// Lets a proof be seen.
    ///
    /// # Errors
    /// When its key cannot be used.
    pub fn prove(self: &Arc<Self>, host: &str, proof: Proof) -> Result<Proving, rustls::Error> {
        let shown = match proof {
            Proof::Http { token, answer } => {
                self.table.send_modify(|table| {
                    table.http_proofs.insert(token.clone(), (host.to_owned(), answer));
                });
                ShownProof::Http { token }
            }
            Proof::Tls { certificate, key } => {
                // Not compared with its key: what it says to authorities alone is unknown to rustls, which refuses to read
                // it.
                let key = aws_lc_rs::default_provider().key_provider.load_private_key(key)?;
                let certified = Arc::new(CertifiedKey::new(vec![certificate], key));
                self.table.send_modify(|table| {
                    table.tls_proofs.insert(host.to_owned(), certified);
                });
                ShownProof::Tls { host: host.to_owned() }
            }
        };
        Ok(Proving { issued: Arc::clone(self), shown })
    }

    /// Waits while something is being issued for this host, unless there is something to show already.
    pub(super) async fn expect(&self, host: &str) {
        let there = |table: &Table| table.certified.contains_key(host) || !table.expected.contains(host);
        if !there(&self.table.borrow()) {
            // Ours is the sender: it cannot be gone.
            let _ = self.table.subscribe().wait_for(there).await;
        }
    }

    pub(super) fn find(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        self.table.borrow().certified.get(host).cloned()
    }

    pub(super) fn own(&self) -> Option<Arc<CertifiedKey>> {
        self.find(&self.own)
    }

    pub(super) fn tls_proof(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        self.table.borrow().tls_proofs.get(host).cloned()
    }

    pub(super) fn http_proof(&self, host: &str, path: &str) -> Option<String> {
        let token = path.strip_prefix(PROOF_PATH)?;
        let table = self.table.borrow();
        let (ours, answer) = table.http_proofs.get(token)?;
        ours.eq_ignore_ascii_case(host).then(|| answer.clone())
    }

    pub(super) fn shown(&self) -> Vec<Shown> {
        let table = self.table.borrow();
        let mut shown: Vec<Shown> =
            table.certified.iter().map(|(host, certified)| Shown::new(host.clone(), certified)).collect();
        shown.sort_by(|left, right| left.host.cmp(&right.host));
        shown
    }
}
