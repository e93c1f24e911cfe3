//! The files of a build as the engine takes them: an archive that is written while it is read.

use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;

use crate::container::api::Body;

/// Bytes of one piece of the archive.
const PIECE: usize = 64 << 10;
/// Pieces that are ahead of the reader.
const AHEAD: usize = 4;

/// A file that is only in the archive.
pub(super) struct Extra {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// What is somewhere on this machine, and where it is to be in the archive.
pub(super) struct Part {
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
}

/// The files below `dir` as an archive, the same for the same files. Links are links, wherever they lead. `more`: what is
/// in no file, and can be read by its owner alone.
pub(super) fn archive(dir: PathBuf, more: Vec<Extra>) -> Body {
    archive_of(vec![Part { from: dir, to: PathBuf::new() }], more)
}

/// The same of several directories and files.
pub(super) fn archive_of(parts: Vec<Part>, more: Vec<Extra>) -> Body {
    streamed(move |pieces| write(&parts, &more, pieces))
}

/// What `write` writes, as the body of a request; it is written while it is sent.
pub(super) fn streamed(write: impl FnOnce(Pieces) -> io::Result<()> + Send + 'static) -> Body {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    tokio::task::spawn_blocking(move || {
        let pieces = Pieces { sender: sender.clone(), piece: Vec::with_capacity(PIECE) };
        if let Err(error) = write(pieces) {
            // A reader that is gone needs no reason.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let frames = futures_util::stream::unfold(receiver, async |mut receiver| {
        let piece = receiver.recv().await?;
        Some((piece.map(Frame::data), receiver))
    });
    StreamBody::new(frames).boxed()
}

fn write(parts: &[Part], more: &[Extra], pieces: Pieces) -> io::Result<()> {
    let mut archive = tar::Builder::new(pieces);
    archive.follow_symlinks(false);
    archive.mode(tar::HeaderMode::Deterministic);
    for Part { from, to } in parts {
        if from.is_dir() {
            archive.append_dir_all(to, from)?;
        } else {
            archive.append_path_with_name(from, to)?;
        }
    }
    for Extra { name, bytes } in more {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, &bytes[..])?;
    }
    archive.into_inner()?.flush()
}

/// Hands on what is written in pieces.
pub(super) struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        if piece.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everything_is_in_it_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/large"), vec![7; 300_000]).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        let bytes =
            || async { archive(dir.path().to_owned(), Vec::new()).collect().await.unwrap().to_bytes() };
        let first = bytes().await;
        assert_eq!(first, bytes().await, "the same files are the same archive");
        let mut archive = tar::Archive::new(&first[..]);
        let mut seen: Vec<(String, u64, bool)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let link = entry.header().entry_type().is_symlink();
                (entry.path().unwrap().to_string_lossy().into_owned(), entry.size(), link)
            })
            .filter(|(path, ..)| !path.is_empty())
            .collect();
        seen.sort();
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert_eq!((seen[0].0.as_str(), seen[0].2), ("link", true));
        assert_eq!((seen[2].0.as_str(), seen[2].1), ("sub/large", 300_000));
    }
}
