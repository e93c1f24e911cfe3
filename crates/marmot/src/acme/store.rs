//! What is kept of an authority in the data directory: the account, the certificates, and how orders went.
//!
//! `acme/AUTHORITY/account.json`, `book.json`, `certificates/HOST.pem`, each for the owner of the directory alone. Each
//! authority has a directory of its own, so that one that is tried out leaves nothing to another.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use instant_acme::AccountCredentials;
use url::Url;

use super::plan::Book;
use crate::private_file;

/// The directory of authorities in the data directory.
const DIR: &str = "acme";
const ACCOUNT: &str = "account.json";
const BOOK: &str = "book.json";
const CERTIFICATES: &str = "certificates";

/// Something that is kept cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("cannot use `{}`", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` is damaged: remove it{}", path.display(), instead)]
    Damaged { path: PathBuf, instead: &'static str },
}

/// What is kept of one authority.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Of the authority whose directory is at this address. Nothing is made before there is something to keep.
    pub(crate) fn of(data_dir: &Path, directory: &Url) -> Self {
        let letter =
            |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
        let name: String = directory[url::Position::BeforeHost..].chars().map(letter).collect();
        Self { dir: data_dir.join(DIR).join(name.trim_matches(['-', '.'])) }
    }

    /// Of each authority that there is something kept of.
    pub(crate) fn all(data_dir: &Path) -> Vec<Self> {
        let entries = fs::read_dir(data_dir.join(DIR)).into_iter().flatten().flatten();
        let mut all: Vec<Self> = entries.map(|entry| Self { dir: entry.path() }).collect();
        all.sort_by(|left, right| left.dir.cmp(&right.dir));
        all
    }

    /// The authority, as its directory is called.
    pub(crate) fn name(&self) -> String {
        self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(super) fn account(&self) -> Result<Option<AccountCredentials>, StoreError> {
        let path = self.dir.join(ACCOUNT);
        let Some(text) = read(&path)? else { return Ok(None) };
        let damaged = |_| StoreError::Damaged { path, instead: ", and a new account is made" };
        serde_json::from_slice(&text).map(Some).map_err(damaged)
    }

    pub(super) fn keep_account(&self, account: &AccountCredentials) -> Result<(), StoreError> {
        self.write(&self.dir.join(ACCOUNT), &serde_json::to_vec_pretty(account).unwrap_or_default())
    }

    /// The authority does not know it any more.
    pub(super) fn drop_account(&self) -> Result<(), StoreError> {
        let path = self.dir.join(ACCOUNT);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Unusable { path, source })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn book(&self) -> Result<Book, StoreError> {
        let path = self.dir.join(BOOK);
        let Some(text) = read(&path)? else { return Ok(Book::default()) };
        let damaged =
            |_| StoreError::Damaged { path, instead: ", and hosts that failed are tried again at once" };
        serde_json::from_slice(&text).map_err(damaged)
    }

    pub(super) fn keep_book(&self, book: &Book) -> Result<(), StoreError> {
        self.write(&self.dir.join(BOOK), &serde_json::to_vec_pretty(book).unwrap_or_default())
    }

    /// Every certificate that is kept: its host, and key and chain in PEM.
    pub(crate) fn certificates(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let dir = self.dir.join(CERTIFICATES);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::Unusable { path: dir, source }),
            Ok(entries) => entries,
        };
        let mut found = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let host = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".pem"));
            if let Some(host) = host
                && let Some(pem) = read(&path)?
            {
                found.push((host.to_owned(), pem));
            }
        }
        found.sort();
        Ok(found)
    }

    pub(super) fn keep_certificate(&self, host: &str, pem: &[u8]) -> Result<(), StoreError> {
        self.write(&self.certificate(host), pem)
    }

    pub(super) fn drop_certificate(&self, host: &str) -> Result<(), StoreError> {
        let path = self.certificate(host);
        fs::remove_file(&path).map_err(|source| StoreError::Unusable { path, source })
    }

    /// Where the certificate of a host is kept. Hosts are names of letters, digits, dots and hyphens.
    fn certificate(&self, host: &str) -> PathBuf {
        self.dir.join(CERTIFICATES).join(format!("{host}.pem"))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let unusable = |source| StoreError::Unusable { path: path.to_owned(), source };
        let certificates = self.dir.join(CERTIFICATES);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(certificates).map_err(unusable)?;
        private_file::write(path, bytes).map_err(unusable)
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Unusable { path: path.to_owned(), source }),
    }
}
