//! How requests to an app are treated: what its owner says, and the last requests where they are written down.

use marmot_core::AppName;
use marmot_core::said;
use marmot_gateway::LoggedRequest;
use serde_json::json;

use super::Service;
use super::apps::note;
use super::audit::{self, Thing};
use super::error::Field;
use super::error::{Error, Result};
use super::launchers::allowed_app;
use super::permission::{Action, Identity};
use crate::db::{DbError, traffic};
use crate::traffic::Traffic;

/// How requests to an app are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficView {
    /// What was said.
    pub given: Traffic,
    /// Bytes that the body of a request may have; as many as one likes when absent.
    pub body_limit: Option<u64>,
}

impl Service {
    /// How requests to an app are treated. For members.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn traffic(&self, who: &Identity, name: &AppName) -> Result<TrafficView> {
        let mut db = self.db().read().await?;
        let (launcher, _) = allowed_app(&mut db, who, name, Action::ReadLogs).await?;
        Ok(self.traffic_view(traffic::get(&mut db, launcher.ruled_by()).await?))
    }

    /// Says anew how requests to an app are treated. In force before this returns.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`] for a limit that nothing fits in.
    pub async fn set_traffic(&self, who: &Identity, name: &AppName, given: Traffic) -> Result<TrafficView> {
        if given.body_limit_bytes == Some(0) {
            return Err(Error::invalid(said!(
                "body-limit-none",
                "`body_limit_bytes` must be at least 1: leave it out, and the server's own limit counts"
            ))
            .about(Field::BodyLimit));
        }
        let mut db = self.db().write().await?;
        let (launcher, _) = allowed_app(&mut db, who, name, Action::Change).await?;
        traffic::set(&mut db, launcher.id, &given).await?;
        let details = json!(given);
        audit::record(&mut db, who, "app.traffic", Thing::app(&launcher), details).await?;
        note(
            &mut db,
            who,
            launcher.id,
            "traffic_changed",
            said!("event-traffic-changed", "treats requests by other settings"),
        )
        .await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        if !given.log_requests {
            self.meters().of(name).forget_logged();
        }
        Ok(self.traffic_view(given))
    }

    /// The last requests to an app, the newest first; none where they are not written down. For those who may read its
    /// log.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn logged_requests(&self, who: &Identity, name: &AppName) -> Result<Vec<LoggedRequest>> {
        allowed_app(&mut *self.db().read().await?, who, name, Action::ReadLogs).await?;
        Ok(self.meters().of(name).logged())
    }

    fn traffic_view(&self, given: Traffic) -> TrafficView {
        TrafficView { given, body_limit: given.body_limit(self.options().body_limit) }
    }
}
