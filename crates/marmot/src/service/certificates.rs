//! The certificates that visitors are shown, for those who watch that they do not end.

use std::sync::Arc;

use marmot_gateway::Certificates;

use super::Service;
use crate::acme::Counts;

/// The certificates that visitors are shown, and how those are had that are ordered.
#[derive(Debug, Clone)]
pub struct Shown {
    /// All of them.
    pub certificates: Arc<Certificates>,
    /// How orders go, where some are ordered.
    pub orders: Option<Arc<Counts>>,
}

impl Service {
    /// From now on, visitors are shown these.
    pub fn show_certificates(&self, shown: Shown) {
        // Said once, at the start.
        let _ = self.inner.certificates.set(shown);
    }

    /// What visitors are shown; `None` where TLS does not end here.
    pub fn certificates(&self) -> Option<&Shown> {
        self.inner.certificates.get()
    }
}
