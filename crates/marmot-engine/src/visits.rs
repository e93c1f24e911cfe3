//! Keeps what is known of when apps were used over a restart of the server.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use marmot_core::scaling::foresight::History;

/// Reads what was written of an app. What cannot be read is forgotten: it only helps to foresee.
pub(crate) fn read(path: &Path) -> Option<History> {
    let text = fs::read_to_string(path).ok()?;
    let history = text.parse();
    if history.is_err() {
        tracing::warn!(path = %path.display(), "what is known of an app's visits cannot be read; it is learnt anew");
    }
    history.ok()
}

/// Writes what is known of apps. Of one that has nothing else on the disk, nothing is kept.
pub(crate) fn write(histories: &[(PathBuf, String)]) {
    for (path, text) in histories {
        if let Err(error) = write_one(path, text) {
            tracing::warn!(path = %path.display(), %error, "what is known of an app's visits cannot be written");
        }
    }
}

fn write_one(path: &Path, text: &str) -> io::Result<()> {
    if !path.parent().is_some_and(Path::is_dir) {
        return Ok(());
    }
    // Written whole under another name first: a crash in between leaves what was there.
    let draft = path.with_extension("new");
    fs::write(&draft, text)?;
    fs::rename(&draft, path)
}
