//! The pictures of apps: kept as files, shown to those who may open the app, gone with its launcher.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use marmot_core::AppName;
use marmot_core::id::LauncherId;

use super::Service;
use super::error::{Error, Result};
use super::permission::Identity;
use crate::db::launchers;
use crate::model::Launcher;

impl Service {
    /// From now on there are pictures of apps, in this directory.
    pub fn keep_pictures_in(&self, dir: PathBuf) {
        // Said once, at the start.
        let _ = self.inner.pictures.set(dir);
    }

    fn picture_file(&self, launcher: LauncherId) -> Option<PathBuf> {
        Some(self.inner.pictures.get()?.join(format!("{launcher}.jpg")))
    }

    /// When the picture of a launcher's app was taken: `None` where no pictures are, `Some(None)` before there is one.
    pub fn picture_taken(&self, launcher: LauncherId) -> Option<Option<Timestamp>> {
        let file = self.picture_file(launcher)?;
        let taken = std::fs::metadata(file).and_then(|file| file.modified()).ok();
        Some(taken.and_then(|taken| Timestamp::try_from(taken).ok()))
    }

    /// The picture of a launcher's app, as JPEG.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is none, or for whom the app does not open.
    pub async fn app_picture(&self, who: &Identity, id: LauncherId) -> Result<Vec<u8>> {
        let missing = || Error::not_found("picture", id);
        let mut db = self.db().read().await?;
        let launcher = launchers::get(&mut db, id).await?.ok_or_else(missing)?;
        if !super::opening::admits(&mut db, who, &launcher).await? {
            return Err(missing());
        }
        drop(db);
        let file = self.picture_file(id).ok_or_else(missing)?;
        tokio::fs::read(file).await.map_err(|_| missing())
    }

    /// The launcher of an app.
    pub(crate) async fn launcher_named(&self, app: &AppName) -> Result<Option<Launcher>> {
        Ok(launchers::by_app_name(&mut *self.db().read().await?, app).await?)
    }

    /// Keeps a picture in the place of the one before.
    pub(crate) fn keep_picture(&self, launcher: LauncherId, jpeg: &[u8]) -> io::Result<()> {
        let Some(file) = self.picture_file(launcher) else { return Ok(()) };
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir)?;
        }
        crate::private_file::write(&file, jpeg)
    }

    pub(super) fn forget_picture(&self, launcher: LauncherId) {
        if let Some(file) = self.picture_file(launcher) {
            // Mostly there is none.
            let _ = std::fs::remove_file(file);
        }
    }

    /// Removes the pictures of launchers that are gone: with their project, or while one was taken.
    pub(crate) async fn sweep_pictures(&self) -> Result<()> {
        let Some(dir) = self.inner.pictures.get() else { return Ok(()) };
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            let Some(id) = id else { continue };
            if launchers::get(&mut *self.db().read().await?, id).await?.is_none() {
                self.forget_picture(id);
            }
        }
        Ok(())
    }
}
