//! Asks an authority: an account, and a certificate for one host.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use marmot_gateway::{Issued, Proof, Proving};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::sync::Mutex;

use super::asker::Asker;
use super::store::{Store, StoreError};
use super::{Challenge, Terms};

/// How long an order may take, with all that is asked for it.
const ORDER_LIMIT: Duration = Duration::from_secs(180);
/// How an authority is asked whether it has looked.
const LOOKING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(90));
/// What an authority says is shown in the log no longer than this.
const MOST_SAID: usize = 300;

/// Why there is no certificate.
#[derive(Debug)]
pub(super) enum Fault {
    /// This host could not be proved to be ours, or is refused.
    Host(String),
    /// No host would have got one.
    Authority(String),
}

/// An authority, and our account there.
pub(super) struct Authority {
    terms: Terms,
    store: Store,
    asker: Asker,
    account: Mutex<Option<Account>>,
}

impl Authority {
    pub(super) fn new(terms: Terms, store: Store) -> anyhow::Result<Self> {
        let asker = Asker::new(terms.root.as_deref())?;
        Ok(Self { terms, store, asker, account: Mutex::default() })
    }

    /// How long the authority wanted it to be waited, where it said so since this was asked last.
    pub(super) fn asked_to_wait(&self) -> Option<Duration> {
        self.asker.waits().take()
    }

    /// Orders a certificate for this host and proves that it is ours: its key and its chain, in PEM.
    pub(super) async fn certificate(
        &self,
        host: &str,
        challenges: &[Challenge],
        issued: &Arc<Issued>,
    ) -> Result<Vec<u8>, Fault> {
        match tokio::time::timeout(ORDER_LIMIT, self.order(host, challenges, issued)).await {
            Ok(ordered) => ordered,
            Err(_) => Err(Fault::Authority(format!("no answer within {} s", ORDER_LIMIT.as_secs()))),
        }
    }

    async fn order(
        &self,
        host: &str,
        challenges: &[Challenge],
        issued: &Arc<Issued>,
    ) -> Result<Vec<u8>, Fault> {
        let identifiers = [Identifier::Dns(host.to_owned())];
        let order = NewOrder::new(&identifiers);
        let account = self.account().await?;
        let mut ordered = account.new_order(&order).await;
        if matches!(&ordered, Err(Error::Api(problem)) if is(problem, "accountDoesNotExist")) {
            tracing::warn!("the certificate authority does not know our account any more; another is made");
            *self.account.lock().await = None;
            self.store.drop_account().map_err(|error| unkept(&error))?;
            ordered = self.account().await?.new_order(&order).await;
        }
        let mut order = ordered.map_err(fault)?;
        let proving = prove(&mut order, host, challenges, issued).await?;
        let checked = order.poll_ready(&LOOKING).await;
        drop(proving);
        match checked {
            Ok(OrderStatus::Ready) => {}
            Ok(_) | Err(Error::Api(_)) => {
                let said = refusal(&mut order).await.unwrap_or_else(|| "it does not say why".to_owned());
                return Err(Fault::Host(format!("it could not see that the host is ours: {said}")));
            }
            Err(error) => return Err(fault(error)),
        }
        let (request, key) = request(host).map_err(|error| Fault::Host(error.to_string()))?;
        order.finalize_csr(&request).await.map_err(fault)?;
        let chain = order.poll_certificate(&LOOKING).await.map_err(fault)?;
        Ok(format!("{}{}", key.serialize_pem(), chain).into_bytes())
    }

    /// Our account: the one that is kept, or a new one.
    async fn account(&self) -> Result<Account, Fault> {
        let mut known = self.account.lock().await;
        if let Some(account) = &*known {
            return Ok(account.clone());
        }
        let builder = || Account::builder_with_http(Box::new(self.asker.clone()));
        let account = match self.store.account().map_err(|error| unkept(&error))? {
            Some(kept) => builder().from_credentials(kept).await.map_err(|error| trouble(&error))?,
            None => {
                let contact = self.terms.contact.as_ref().map(|email| format!("mailto:{email}"));
                let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
                let new = NewAccount {
                    contact: &contact,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                };
                let external = self.terms.external_account.as_ref();
                let external = external.map(|(id, key)| ExternalAccountKey::new(id.clone(), key));
                let made = builder().create(&new, self.terms.directory.to_string(), external.as_ref());
                let (account, credentials) = made.await.map_err(|error| trouble(&error))?;
                self.store.keep_account(&credentials).map_err(|error| unkept(&error))?;
                tracing::info!(directory = %self.terms.directory, "made an account at the certificate authority");
                account
            }
        };
        Ok(known.insert(account).clone())
    }
}

/// Shows what the authority wants to see, and tells it to look.
async fn prove(
    order: &mut Order,
    host: &str,
    challenges: &[Challenge],
    issued: &Arc<Issued>,
) -> Result<Vec<Proving>, Fault> {
    let mut proving = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(fault)?;
        match authorization.status {
            AuthorizationStatus::Valid => {}
            AuthorizationStatus::Pending => {
                proving.push(prove_one(&mut authorization, host, challenges, issued).await?);
            }
            status => return Err(Fault::Host(format!("its authorization is {status:?}"))),
        }
    }
    Ok(proving)
}

async fn prove_one<'a>(
    authorization: &'a mut AuthorizationHandle<'a>,
    host: &str,
    challenges: &[Challenge],
    issued: &Arc<Issued>,
) -> Result<Proving, Fault> {
    let offered: Vec<ChallengeType> =
        authorization.challenges.iter().map(|challenge| challenge.r#type.clone()).collect();
    let kind = |challenge: Challenge| match challenge {
        Challenge::TlsAlpn => ChallengeType::TlsAlpn01,
        Challenge::Http => ChallengeType::Http01,
    };
    let none = || {
        Fault::Host(format!(
            "it wants none of the proofs that `acme_challenge` allows, but one of {offered:?}"
        ))
    };
    let chosen =
        challenges.iter().copied().find(|challenge| offered.contains(&kind(*challenge))).ok_or_else(none)?;
    let mut challenge = authorization.challenge(kind(chosen)).ok_or_else(none)?;
    let answer = challenge.key_authorization();
    let proof = match chosen {
        Challenge::Http => Proof::Http { token: challenge.token.clone(), answer: answer.as_str().to_owned() },
        Challenge::TlsAlpn => {
            let made = proving_certificate(host, answer.digest().as_ref());
            made.map_err(|error| Fault::Host(error.to_string()))?
        }
    };
    let proving = issued.prove(host, proof).map_err(|error| Fault::Host(error.to_string()))?;
    challenge.set_ready().await.map_err(fault)?;
    Ok(proving)
}

/// A certificate that shows that we know what the authority told us alone (RFC 8737).
fn proving_certificate(host: &str, digest: &[u8]) -> Result<Proof, rcgen::Error> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.der().clone();
    Ok(Proof::Tls { certificate, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() })
}

/// What is to be certified, and its key.
fn request(host: &str) -> Result<(Vec<u8>, KeyPair), rcgen::Error> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate()?;
    let request = params.serialize_request(&key)?.der().to_vec();
    Ok((request, key))
}

/// Why the authority did not see what it wanted to see.
async fn refusal(order: &mut Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.ok()?;
        let state = authorization.refresh().await.ok()?;
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Some(words(problem));
        }
    }
    None
}

fn is(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|kind| kind.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

/// What an authority says, as it may stand in a log.
fn words(problem: &Problem) -> String {
    let said = problem.detail.as_deref().or(problem.r#type.as_deref()).unwrap_or("it does not say why");
    said.chars().filter(|letter| !letter.is_control()).take(MOST_SAID).collect()
}

/// Whose fault it is that an order failed.
fn fault(error: Error) -> Fault {
    const OF_ALL_HOSTS: [&str; 6] = [
        "rateLimited",
        "serverInternal",
        "userActionRequired",
        "externalAccountRequired",
        "accountDoesNotExist",
        "badNonce",
    ];
    match &error {
        Error::Api(problem) if !OF_ALL_HOSTS.iter().any(|kind| is(problem, kind)) => {
            Fault::Host(words(problem))
        }
        _ => trouble(&error),
    }
}

/// It fails for every host.
fn trouble(error: &Error) -> Fault {
    Fault::Authority(match error {
        Error::Api(problem) => words(problem),
        error => super::asker::chain(error),
    })
}

fn unkept(error: &StoreError) -> Fault {
    Fault::Authority(super::asker::chain(error))
}
