//! OpenID Connect: people who sign in with an account that they have elsewhere.
//!
//! A provider is an address that the operator named, so nothing here asks where a visitor says. What a provider answers
//! is bounded in size and time, and believed only as far as the specification lets it be checked: `attempt` ties an
//! answer to the browser that asked, `id_token` says who it is about, `keys` who signed it.

mod attempt;
mod claims;
mod config;
mod discovery;
mod error;
mod fetch;
mod id_token;
mod keys;
mod provider;

pub use attempt::{Attempt, Purpose};
pub use claims::{Claims, Standing};
pub use config::ProviderConfig;
pub use error::OidcError;
pub use provider::{Answer, Provider};
