//! Master keys: how they are written, where they come from, and that they are made at the first start.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::KEY_BYTES;
use crate::{hex, private_file};

/// The name of the systemd credential that may hold the keys.
const CREDENTIAL: &str = "marmot-secrets-key";
/// The file in the data directory that holds the keys where nothing else is said.
const FILE: &str = "secrets.key";

/// 32 random bytes that seal the keys of values.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey([u8; KEY_BYTES]);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

/// Why there is no usable master key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text holds no key.
    #[error("there is no key in it: write 64 hexadecimal digits, for example from `openssl rand -hex 32`")]
    Empty,
    /// A line is no key.
    #[error("line {line} is no key: a key is 64 hexadecimal digits, for example from `openssl rand -hex 32`")]
    Malformed {
        /// Which line, from 1.
        line: usize,
    },
    /// The key is not as long as a key is.
    #[error("a key must be {KEY_BYTES} bytes long")]
    Length,
    /// Keys from here cannot be used.
    #[error("the master key {origin} cannot be used")]
    Unusable {
        /// Where it comes from.
        origin: String,
        /// What is wrong with it.
        #[source]
        source: Box<KeyError>,
    },
    /// A file cannot be read or written.
    #[error("cannot read or write the master key in `{}`", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl MasterKey {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Names it in what it sealed. Tells nothing about it.
    pub fn id(&self) -> String {
        let digest = Sha256::new().chain_update(b"marmot master key").chain_update(self.0).finalize();
        hex::encode(&digest[..4])
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn line(&self) -> String {
        format!("{}\n", hex::encode(&self.0))
    }
}

/// Reads keys, one a line, the newest first. Empty lines and those that begin with `#` mean nothing.
fn parse(text: &str) -> Result<Vec<MasterKey>, KeyError> {
    let lines = text.lines().map(str::trim).enumerate();
    let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(at, line)| {
        let key = hex::decode(line).and_then(|bytes| bytes.try_into().ok());
        key.map(MasterKey).ok_or(KeyError::Malformed { line: at + 1 })
    });
    let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
    if keys.is_empty() { Err(KeyError::Empty) } else { Ok(keys) }
}

/// The master keys: those in `given`, else in `file`, else in the systemd credential, else in the data directory, where
/// one is made if there is none.
///
/// # Errors
/// Says where the key that cannot be used comes from, never the key.
pub fn read_or_make(
    given: Option<&str>,
    file: Option<&Path>,
    data_dir: &Path,
) -> Result<Vec<MasterKey>, KeyError> {
    let unusable = |origin: String| move |source| KeyError::Unusable { origin, source: Box::new(source) };
    if let Some(text) = given {
        return parse(text).map_err(unusable("given as `secrets_key`".to_owned()));
    }
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| PathBuf::from(dir).join(CREDENTIAL));
    let named = file.map(Path::to_owned).or_else(|| credential.filter(|path| path.exists()));
    let made = named.is_none();
    let path = named.unwrap_or_else(|| data_dir.join(FILE));
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if made && error.kind() == io::ErrorKind::NotFound => make(&path)?,
        Err(source) => return Err(KeyError::File { path, source }),
    };
    parse(&text).map_err(unusable(format!("in `{}`", path.display())))
}

/// Makes a key in a file that only this user can read.
fn make(path: &Path) -> Result<String, KeyError> {
    let text = MasterKey::random().line();
    private_file::write(path, text.as_bytes())
        .map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_start_makes_a_key_that_later_ones_find() {
        let dir = tempfile::tempdir().unwrap();
        let first = read_or_make(None, None, dir.path()).unwrap();
        let again = read_or_make(None, None, dir.path()).unwrap();
        assert_eq!((first.len(), &first), (1, &again));
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn keys_are_read_in_order_and_what_is_none_is_named_by_its_line_alone() {
        let (new, old) = (MasterKey::random(), MasterKey::random());
        let text = format!("# new\n{}\n{}", new.line(), old.line().to_uppercase());
        assert_eq!(parse(&text).unwrap(), [new.clone(), old]);
        for (given, said) in [
            ("", "there is no key in it"),
            ("# nothing\n\n", "there is no key in it"),
            ("hunter2", "line 1 is no key"),
            (&format!("{}{}", new.line(), "z".repeat(64)), "line 2 is no key"),
            (&"é".repeat(32), "line 1 is no key"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let error = read_or_make(Some(given), None, dir.path()).unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.starts_with(said), "{given:?}: {cause}");
            assert!(!format!("{error} {cause}").contains("hunter2"));
        }
    }

    #[test]
    fn a_named_file_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let error = read_or_make(None, Some(&dir.path().join("gone.key")), dir.path()).unwrap_err();
        assert!(matches!(error, KeyError::File { .. }));
        assert!(!dir.path().join("gone.key").exists());
    }
}
