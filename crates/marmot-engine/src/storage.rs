//! What projects take on disk: the results of their builds, and the homes and logs of their apps.
//!
//! Files are counted when somebody asks. The result of a build never changes, so it is counted once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use marmot_core::AppName;
use marmot_core::id::{BuildId, ProjectId};

use crate::builds::OUTCOME;
use crate::files;
use crate::layout::Layout;
use crate::wanted::Wanted;

/// Counts what is in a data directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage {
    layout: Layout,
    results: Arc<Mutex<BTreeMap<BuildId, u64>>>,
}

impl Storage {
    /// Of this data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { layout: Layout::new(data_dir), results: Arc::default() }
    }

    /// What these builds and apps take, in bytes.
    pub async fn used(&self, builds: Vec<BuildId>, apps: Vec<AppName>) -> u64 {
        let storage = self.clone();
        tokio::task::spawn_blocking(move || storage.count(&builds, &apps)).await.unwrap_or(0)
    }

    fn count(&self, builds: &[BuildId], apps: &[AppName]) -> u64 {
        let apps = apps.iter().map(|app| files::on_disk(&self.layout.app(app)));
        builds.iter().map(|build| self.result(*build)).chain(apps).sum()
    }

    pub(crate) fn artefact(&self, build: BuildId) -> PathBuf {
        self.layout.artefact(build)
    }

    /// What the result of a build takes, in bytes.
    pub(crate) fn result(&self, build: BuildId) -> u64 {
        let artefact = self.layout.artefact(build);
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        if !artefact.is_dir() {
            results.remove(&build);
            return 0;
        }
        if let Some(known) = results.get(&build) {
            return *known;
        }
        drop(results);
        let bytes = files::on_disk(&artefact);
        if self.layout.build(build).join(OUTCOME).exists() {
            self.results.lock().unwrap_or_else(PoisonError::into_inner).insert(build, bytes);
        }
        bytes
    }

    /// What a project takes beside one of its builds, in bytes.
    pub(crate) fn beside(&self, wanted: &Wanted, project: ProjectId, build: BuildId) -> u64 {
        let others = wanted.builds_of.iter().filter(|(other, of)| **of == project && **other != build);
        let builds: Vec<BuildId> = others.map(|(other, _)| *other).collect();
        let apps = wanted.apps.iter().filter(|(_, app)| app.project == project);
        let apps: Vec<AppName> = apps.map(|(name, _)| name.clone()).collect();
        self.count(&builds, &apps)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn results_homes_and_logs_count_and_what_is_gone_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::new(dir.path());
        let (build, app) = (BuildId::from(1), "iris".parse::<AppName>().unwrap());
        let artefact = storage.layout.artefact(build);
        fs::create_dir_all(&artefact).unwrap();
        fs::write(artefact.join("data"), vec![1; 300_000]).unwrap();
        fs::write(storage.layout.build(build).join(OUTCOME), "{}").unwrap();
        let home = storage.layout.replica(&app, 1.into()).join("home");
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("notes"), vec![1; 200_000]).unwrap();
        let used = async || storage.used(vec![build, 2.into()], vec![app.clone()]).await;
        assert!((500_000..600_000).contains(&used().await), "{}", used().await);
        assert!((200_000..290_000).contains(&storage.used(Vec::new(), vec![app.clone()]).await));
        fs::remove_dir_all(&artefact).unwrap();
        assert!((200_000..290_000).contains(&used().await), "{}", used().await);
    }
}
