//! Removes what is only kept for reading once it is old: logs of apps that are off, logs of builds nobody keeps.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use marmot_core::AppName;
use marmot_core::id::BuildId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::files;
use crate::layout::Layout;
use crate::logs;
use crate::shim::spec;
use crate::wanted::Wanted;

const EVERY: Duration = Duration::from_secs(6 * 3600);
/// Nothing is removed that was written to later than this before now.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// Sweeps now and then until `stop` is cancelled.
pub(crate) async fn run(layout: Layout, wanted: watch::Receiver<Arc<Wanted>>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let (layout, wanted) = (layout.clone(), wanted.borrow().clone());
        let swept = tokio::task::spawn_blocking(move || sweep(&layout, &wanted, SystemTime::now())).await;
        if let Err(error) = swept {
            tracing::warn!(%error, "old logs cannot be removed");
        }
    }
}

fn sweep(layout: &Layout, wanted: &Wanted, now: SystemTime) {
    let old = |path: &Path| newest(path).is_some_and(|at| at + KEPT_FOR < now);
    for (dir, name) in entries(&layout.apps()) {
        let Ok(app) = name.parse::<AppName>() else { continue };
        let replicas = logs::replica_dirs(&layout.replicas(&app)).unwrap_or_default();
        let runs = replicas.values().any(|replica| replica.join(spec::SPEC).exists());
        if !wanted.apps.contains_key(&app) && !runs && old(&dir) {
            remove(&dir);
        }
    }
    for (dir, name) in entries(&layout.builds()) {
        let Ok(build) = name.parse::<BuildId>() else { continue };
        let kept = wanted.asks_for(build) || wanted.kept_builds.contains(&build);
        if !kept && old(&dir) {
            remove(&dir);
        }
    }
}

fn entries(dir: &Path) -> Vec<(std::path::PathBuf, String)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.file_name().into_string().ok()?))).collect()
}

/// When anything directly in `dir`, or in a replica below it, was last written.
fn newest(dir: &Path) -> Option<SystemTime> {
    let modified = |path: &Path| fs::symlink_metadata(path).and_then(|meta| meta.modified()).ok();
    let replicas = entries(&dir.join("replicas"));
    let below = entries(dir).into_iter().chain(replicas.iter().flat_map(|(replica, _)| entries(replica)));
    below.map(|(path, _)| path).chain([dir.to_owned()]).filter_map(|path| modified(&path)).max()
}

fn remove(dir: &Path) {
    if let Err(error) = files::remove(dir) {
        tracing::warn!(directory = %dir.display(), %error, "old logs cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_old_and_not_wanted_goes() {
        let data = tempfile::tempdir().unwrap();
        let layout = Layout::new(data.path());
        let (kept, unkept) = (BuildId::from(1), BuildId::from(2));
        let (off, alive): (AppName, AppName) = ("off".parse().unwrap(), "alive".parse().unwrap());
        for dir in [layout.build(kept), layout.build(unkept), layout.replica(&off, 1.into())] {
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("log"), "x").unwrap();
        }
        fs::create_dir_all(layout.replica(&alive, 2.into())).unwrap();
        fs::write(layout.replica(&alive, 2.into()).join(spec::SPEC), "{}").unwrap();
        let wanted = Wanted { kept_builds: [kept].into(), ..Wanted::default() };
        let now = SystemTime::now();
        sweep(&layout, &wanted, now);
        assert!(layout.app(&off).exists() && layout.build(unkept).exists(), "nothing is old");
        sweep(&layout, &wanted, now + KEPT_FOR * 2);
        assert!(!layout.app(&off).exists() && !layout.build(unkept).exists());
        assert!(layout.app(&alive).exists() && layout.build(kept).exists());
    }
}
