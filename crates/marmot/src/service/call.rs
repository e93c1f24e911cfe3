//! By which way a request came in, and from where: what the audit says of every deed besides who and what.
//!
//! It accompanies the work of a request as its span does, instead of being handed from function to function: nothing is
//! decided by it.

use std::future::Future;

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
}

impl Call {
    /// Does `work` as part of this request.
    pub fn accompany<T>(self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        CALL.scope(self, work)
    }

    /// The request that is being worked on; the server's own doing where there is none.
    pub(super) fn current() -> Self {
        CALL.try_with(Clone::clone).unwrap_or(Self { via: Via::Server, address: String::new() })
    }
}
