//! Which images this server brought into the engine, and which of them somebody still needs.
//!
//! For each image there is a note in the data directory, written before the result that needs it. An image that was there
//! before is somebody else's: for it there is no note, and it stays.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use super::ContainerEngine;
use super::image::PinnedImage;
use crate::build::RunFile;
use crate::layout::Layout;

impl ContainerEngine {
    /// Notes that this server brought an image.
    pub(crate) fn note_brought(&self, image: &PinnedImage) -> io::Result<()> {
        fs::create_dir_all(&self.notes)?;
        fs::write(self.notes.join(file_name(&image.id)), image.origin.as_deref().unwrap_or_default())
    }

    /// Removes the images that this server brought and no result of a build needs. Those that a container uses stay
    /// until the next time.
    ///
    /// One that was brought later than `age` ago may be for a result that is still being made.
    pub(crate) async fn collect(&self, layout: &Layout, age: Duration) {
        let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let unneeded = unneeded(&self.notes, layout, before);
        let tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for id in unneeded.difference(&tools) {
            match self.api().remove_image(id).await {
                Ok(true) => {
                    tracing::info!(image = id, "an image that no app needs was removed");
                    let _ = fs::remove_file(self.notes.join(file_name(id)));
                }
                Ok(false) => {}
                Err(error) if error.is_of_the_engine() => return,
                Err(error) => tracing::warn!(image = id, %error, "an image cannot be removed"),
            }
        }
    }
}

/// The images that were noted before that moment and that no result names.
fn unneeded(notes: &Path, layout: &Layout, before: SystemTime) -> BTreeSet<String> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
    let old = entries(notes).filter(|note| {
        note.metadata().and_then(|meta| meta.modified()).is_ok_and(|written| written <= before)
    });
    let names = old.filter_map(|note| note.file_name().into_string().ok());
    let noted: BTreeSet<String> = names.map(|name| name.replacen('-', ":", 1)).collect();
    let builds = entries(&layout.builds()).filter_map(|entry| entry.file_name().into_string().ok());
    let results = builds.filter_map(|name| Some(layout.artefact(name.parse().ok()?)));
    let images = results.filter_map(|artefact| RunFile::read(&artefact).ok()?.image);
    let needed: BTreeSet<String> = images.map(|image| image.id).collect();
    noted.difference(&needed).cloned().collect()
}

/// The id as a name that every file system takes.
fn file_name(id: &str) -> String {
    let fine = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    id.replacen(':', "-", 1).chars().filter(|&letter| fine(letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_result_names_is_needed_and_what_has_no_note_is_not_ours() {
        let data = tempfile::tempdir().unwrap();
        let layout = Layout::new(data.path());
        let engine = ContainerEngine::new("/nonexistent", "tag".to_owned(), data.path().join("images"));
        let image = |id: &str| PinnedImage::of(id);
        let keep = |build: u128, id: &str| {
            let artefact = layout.artefact(build.into());
            fs::create_dir_all(&artefact).unwrap();
            RunFile { image: Some(image(id)), ..RunFile::default() }.write(&artefact).unwrap();
        };
        keep(1, "sha256:aa");
        keep(2, "sha256:cc");
        engine.note_brought(&image("sha256:aa")).unwrap();
        engine.note_brought(&image("sha256:bb")).unwrap();
        let unneeded = |before| unneeded(&data.path().join("images"), &layout, before);
        let (now, before) = (SystemTime::now(), SystemTime::UNIX_EPOCH);
        assert_eq!(unneeded(before), [].into(), "it may be needed yet");
        assert_eq!(unneeded(now), ["sha256:bb".to_owned()].into());
        fs::remove_dir_all(layout.artefact(1.into())).unwrap();
        assert_eq!(unneeded(now), ["sha256:aa".to_owned(), "sha256:bb".to_owned()].into());
    }
}
