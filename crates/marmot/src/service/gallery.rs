//! Apps among others: found by words, each with its project. For those who look for one, and those who watch over all.

use super::error::Result;
use super::permission::Identity;
use super::{AppView, Service};
use crate::db::{apps, launchers, projects};
use crate::model::{Page, Paged, Project};

impl Service {
    /// The apps that are on, that `who` may see, and whose name, description or project holds `text`; newest launcher
    /// first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find_apps(
        &self,
        who: &Identity,
        text: &str,
        page: Page,
    ) -> Result<Paged<(AppView, Project)>> {
        let mut db = self.db().read().await?;
        let (found, total) = apps::find(&mut db, who.viewer(), text, page).await?;
        let mut items = Vec::with_capacity(found.len());
        for app in found {
            // One that went away since is left out.
            let Some(launcher) = launchers::get(&mut db, app.launcher_id).await? else { continue };
            let Some(project) = projects::get(&mut db, launcher.project_id).await? else { continue };
            items.push((self.view(&mut db, who, launcher, project.clone(), app).await?, project));
        }
        Ok(Paged { items, page, total })
    }
}
