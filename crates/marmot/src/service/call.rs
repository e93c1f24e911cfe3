//! By which way a request came in, and from where: what the audit says of every deed besides who and what.
//!
//! It accompanies the work of a request as its span does, instead of being handed from function to function: nothing is
//! decided by it.

use std::future::Future;
use std::net::IpAddr;

use crate::model::Via;

tokio::task_local! {
    static CALL: Call;
}

/// How a request came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// By which way.
    pub via: Via,
    /// The address it came from; empty where there is none.
    pub address: String,
    /// What sent it, by its own word; empty where it does not say.
    pub agent: String,
}

/// As much is kept of what a browser says of itself.
const LONGEST_AGENT: usize = 200;

impl Call {
    /// A request that came in by this way, from this address, with this `User-Agent`.
    pub fn new(via: Via, address: Option<IpAddr>, agent: &str) -> Self {
        let agent = agent.chars().filter(|letter| !letter.is_control()).take(LONGEST_AGENT).collect();
        Self { via, address: address.map(|ip| ip.to_string()).unwrap_or_default(), agent }
    }

    /// Does `work` as part of this request.
    pub fn accompany<T>(self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        CALL.scope(self, work)
    }

    /// The request that is being worked on; the server's own doing where there is none.
    pub(crate) fn current() -> Self {
        CALL.try_with(Clone::clone).unwrap_or_else(|_| Self::new(Via::Server, None, ""))
    }
}
