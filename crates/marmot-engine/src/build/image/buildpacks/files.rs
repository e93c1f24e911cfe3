//! Images as files: taken out of an engine's archive, and put into one again.
//!
//! Engines pack images in one way, and the lifecycle of a builder reads and writes another, the OCI image layout. What
//! comes out of a container was written by code of others: nothing in it names a place on this machine, what is named by
//! a digest is taken by the digest that it has, and links are not followed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::build::context::{Extra, Part, archive_of};
use crate::container::api::{Answer, Body, EngineError};

/// Pieces that are ahead of the reader.
const AHEAD: usize = 4;
/// Longest manifest or configuration that is read.
const LONGEST: u64 = 8 << 20;
/// Links that are followed within an archive of the engine's own.
const MOST_LINKS: usize = 8;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoFiles {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the files of an image could not be kept: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Wrong(String),
}

fn wrong<T>(why: impl Into<String>) -> Result<T, NoFiles> {
    Err(NoFiles::Wrong(why.into()))
}

/// The files of an archive, unpacked under names that say nothing.
#[derive(Debug, Default)]
struct Unpacked {
    /// By their names in the archive.
    files: BTreeMap<String, Kept>,
    links: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Kept {
    path: PathBuf,
    /// In hexadecimal digits.
    sha256: String,
    bytes: u64,
}

impl Unpacked {
    /// Unpacks what an engine sends into `dir`, which is new.
    async fn of(mut answer: Answer, dir: PathBuf) -> Result<Self, NoFiles> {
        fs::create_dir_all(&dir)?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let reading = tokio::task::spawn_blocking(move || {
            Self::read(FromPieces { receiver, piece: Bytes::new() }, &dir)
        });
        let mut failed = None;
        loop {
            match answer.next().await {
                // Who reads no more says why.
                Ok(Some(piece)) => {
                    if sender.send(piece).await.is_err() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(sender);
        let read = reading.await.map_err(io::Error::other)?;
        failed.map_or(Ok(read?), |error| Err(error.into()))
    }

    fn read(from: impl Read, dir: &Path) -> Result<Self, NoFiles> {
        let mut all = Self::default();
        let mut archive = tar::Archive::new(from);
        for (number, entry) in archive.entries()?.enumerate() {
            let mut entry = entry?;
            let name = name_of(&entry.path()?);
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name()?.map(|target| target.into_owned()).unwrap_or_default();
                let from =
                    if kind.is_symlink() { Path::new(&name).parent().map(Path::to_owned) } else { None };
                all.links.insert(name, name_of(&from.unwrap_or_default().join(target)));
            } else if kind.is_file() {
                let path = dir.join(number.to_string());
                let (sha256, bytes) = copied(&mut entry, &path)?;
                all.files.insert(name, Kept { path, sha256, bytes });
            }
        }
        Ok(all)
    }

    fn find(&self, name: &str) -> Result<&Kept, NoFiles> {
        let mut name = name_of(Path::new(name));
        for _ in 0..MOST_LINKS {
            match (self.files.get(&name), self.links.get(&name)) {
                (Some(kept), _) => return Ok(kept),
                (None, Some(target)) => name.clone_from(target),
                (None, None) => break,
            }
        }
        wrong(format!("`{}` is not in the archive of the image", name.chars().take(100).collect::<String>()))
    }
}

/// A path as text, without `.` and with `..` taken out.
fn name_of(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            std::path::Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts.join("/")
}

/// Copies to a new file, and says what it is.
fn copied(from: &mut impl Read, to: &Path) -> io::Result<(String, u64)> {
    let mut file = File::create_new(to)?;
    let (mut digest, mut bytes, mut buffer) = (Sha256::new(), 0u64, vec![0; 64 << 10]);
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
        file.write_all(&buffer[..read])?;
        bytes += read as u64;
    }
    let digits = digest.finalize().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    Ok((digits, bytes))
}

/// Reads what comes in pieces.
struct FromPieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for FromPieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let many = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..many]);
        Ok(many)
    }
}

fn json_of(kept: &Kept) -> Result<Value, NoFiles> {
    if kept.bytes > LONGEST {
        return wrong("a description of the image is too long");
    }
    serde_json::from_slice(&fs::read(&kept.path)?)
        .or_else(|error| wrong(format!("the image is described wrongly: {error}")))
}

/// What an engine's archive holds, as an OCI image layout in `dir`, which others may read.
pub(super) async fn laid_out(answer: Answer, dir: PathBuf) -> Result<(), NoFiles> {
    let unpacked = Unpacked::of(answer, dir.join("blobs/raw")).await?;
    let described = json_of(unpacked.find("manifest.json")?)?;
    let Some(config) = described[0]["Config"].as_str() else {
        return wrong("the engine's archive describes no image");
    };
    let layers = described[0]["Layers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let keep = |kept: &Kept, kind: &str| -> io::Result<Value> {
        let to = blobs.join(&kept.sha256);
        // A layer may be there twice.
        if !to.exists() {
            fs::rename(&kept.path, &to)?;
        }
        Ok(json!({"mediaType": kind, "digest": format!("sha256:{}", kept.sha256), "size": kept.bytes}))
    };
    let config = keep(unpacked.find(config)?, "application/vnd.oci.image.config.v1+json")?;
    let mut told = Vec::new();
    for layer in layers {
        let kept = unpacked.find(layer)?;
        let at = if kept.path.exists() { kept.path.clone() } else { blobs.join(&kept.sha256) };
        let kind = if is_packed(&at)? { "tar+gzip" } else { "tar" };
        told.push(keep(kept, &format!("application/vnd.oci.image.layer.v1.{kind}"))?);
    }
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": told}).to_string();
    let raw = dir.join("blobs/raw/manifest");
    let (sha256, bytes) = copied(&mut manifest.as_bytes(), &raw)?;
    let manifest = keep(&Kept { path: raw, sha256, bytes }, kind)?;
    fs::write(dir.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string())?;
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    fs::remove_dir_all(dir.join("blobs/raw"))?;
    Ok(())
}

/// Whether a file is compressed by gzip.
fn is_packed(path: &Path) -> io::Result<bool> {
    let mut start = [0; 2];
    let read = File::open(path)?.read(&mut start)?;
    Ok(read == 2 && start == [0x1f, 0x8b])
}

/// An image that a lifecycle left as an OCI image layout, as the archive that an engine takes, and the id that it has
/// there. `base`: a layout with the layers that it may have left out, since they are those of the image that it runs on.
pub(super) async fn packed(answer: Answer, dir: PathBuf, base: &Path) -> Result<(String, Body), NoFiles> {
    assembled(&Unpacked::of(answer, dir).await?, base)
}

fn assembled(unpacked: &Unpacked, base: &Path) -> Result<(String, Body), NoFiles> {
    // What is found by its digest is what has that digest.
    let by_digest: BTreeMap<String, &Kept> =
        unpacked.files.values().map(|kept| (format!("sha256:{}", kept.sha256), kept)).collect();
    let index = unpacked.files.iter().find(|(name, _)| name.ends_with("/index.json"));
    let Some((_, index)) = index else { return wrong("the builder's lifecycle left no image") };
    let blob = |told: &Value| -> Result<Kept, NoFiles> {
        let digest = told["digest"].as_str().unwrap_or_default();
        if let Some(kept) = by_digest.get(digest) {
            return Ok((*kept).clone());
        }
        let digits = digest.strip_prefix("sha256:").unwrap_or_default();
        let is_digest = digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let path = base.join("blobs/sha256").join(digits);
        match fs::metadata(&path) {
            Ok(meta) if is_digest && meta.is_file() => {
                Ok(Kept { path, sha256: digits.to_owned(), bytes: meta.len() })
            }
            _ => wrong("the image that the builder's lifecycle left is not whole"),
        }
    };
    let manifest = json_of(&blob(&json_of(index)?["manifests"][0])?)?;
    let config = blob(&manifest["config"])?;
    let about = json_of(&config)?;
    let layers: Vec<Kept> =
        manifest["layers"].as_array().into_iter().flatten().map(blob).collect::<Result<_, _>>()?;
    if about["rootfs"]["diff_ids"].as_array().map(Vec::len) != Some(layers.len()) {
        return wrong("the image that the builder's lifecycle left is described wrongly");
    }
    let name = |layer: &Kept| format!("{}.tar", layer.sha256);
    let config_name = format!("{}.json", config.sha256);
    let names: Vec<String> = layers.iter().map(name).collect();
    let told = json!([{"Config": config_name, "RepoTags": [], "Layers": names}]).to_string();
    let mut parts: Vec<Part> = Vec::new();
    for layer in &layers {
        if parts.iter().all(|part| part.to != Path::new(&name(layer))) {
            parts.push(Part { from: layer.path.clone(), to: name(layer).into() });
        }
    }
    let more = vec![
        Extra { name: config_name, bytes: fs::read(&config.path)? },
        Extra { name: "manifest.json".to_owned(), bytes: told.into_bytes() },
    ];
    Ok((format!("sha256:{}", config.sha256), archive_of(parts, more)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_but_into_the_archive() {
        for (given, expected) in
            [("./a/b", "a/b"), ("/etc/x", "etc/x"), ("../../a", "a"), ("a/../../b/./c", "b/c")]
        {
            assert_eq!(name_of(Path::new(given)), expected);
        }
    }

    #[test]
    fn links_within_an_archive_are_found_and_those_in_a_circle_end() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        archive.append_data(&mut header, "one/layer.tar", &b"abc"[..]).unwrap();
        for (name, target) in
            [("two/layer.tar", "../one/layer.tar"), ("a", "b"), ("b", "a"), ("out", "/etc/passwd")]
        {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, name, target).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let all = Unpacked::read(&archive.into_inner().unwrap()[..], dir.path()).unwrap();
        assert_eq!(all.find("two/layer.tar").unwrap().bytes, 3);
        assert_eq!(
            all.find("one/layer.tar").unwrap().sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        for missing in ["a", "out", "none"] {
            assert!(all.find(missing).is_err(), "{missing}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// An image as files, of which `config` is in the manifest what `describe` makes of the true one.
    fn left(base: &Path, describe: impl Fn(Value) -> Value) -> (tempfile::TempDir, Unpacked) {
        let sum = |text: &str| {
            let dir = tempfile::tempdir().unwrap();
            copied(&mut text.as_bytes(), &dir.path().join("x")).unwrap().0
        };
        let told = |text: &str| json!({"digest": format!("sha256:{}", sum(text))});
        let config = json!({"rootfs": {"diff_ids": ["one", "two"]}}).to_string();
        fs::create_dir_all(base.join("blobs/sha256")).unwrap();
        fs::write(base.join("blobs/sha256").join(sum("of the base")), "of the base").unwrap();
        let layers = json!([told("of the base"), told("of the app")]);
        let manifest = json!({"config": describe(told(&config)), "layers": layers}).to_string();
        let index = json!({"manifests": [told(&manifest)]}).to_string();
        let mut archive = tar::Builder::new(Vec::new());
        for (name, text) in [
            ("latest/index.json", &*index),
            ("latest/blobs/sha256/a", &*manifest),
            ("latest/blobs/sha256/b", &*config),
            ("latest/blobs/sha256/c", "of the app"),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            archive.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, "latest/blobs/sha256/link", "/etc/passwd").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let unpacked = Unpacked::read(&archive.into_inner().unwrap()[..], dir.path()).unwrap();
        (dir, unpacked)
    }

    #[tokio::test]
    async fn layers_of_the_base_may_be_left_out_and_nothing_of_this_machine_is_taken_in() {
        let base = tempfile::tempdir().unwrap();
        let (_dir, unpacked) = left(base.path(), |config| config);
        let (id, body) = assembled(&unpacked, base.path()).unwrap();
        assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
        let bytes = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
        let packed = Unpacked::read(&bytes[..], tempfile::tempdir().unwrap().path()).unwrap();
        assert_eq!(packed.files.len(), 4, "{packed:?}");

        for digest in ["sha256:../../../../../etc/passwd", "sha256:link", "../b", "", "sha256:"] {
            let (_dir, unpacked) = left(base.path(), |_| json!({ "digest": digest }));
            let why = assembled(&unpacked, base.path()).map(|_| ()).unwrap_err().to_string();
            assert!(why.contains("is not whole"), "{digest}: {why}");
        }
    }
}
