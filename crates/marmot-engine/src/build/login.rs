//! What a project shows to the host of a private repository: to that one host, in no command line and no log.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::source::{Address, Transport};
use crate::wanted::Login;

/// How git shows it.
pub(super) enum Shown {
    /// It is not for this kind of address.
    Nothing,
    /// By a header, set by these variables: others cannot read the environment of a process.
    Header([(String, String); 3]),
    /// By the private key in this file, which goes with the build.
    Key(PathBuf),
}

/// Gets ready what `login` shows at `address`. A key is for `ssh`, anything else for the web; neither is shown in the
/// other's place.
pub(super) fn shown(login: &Login, address: &Address, home: &Path) -> io::Result<Shown> {
    let is_key = login.password.trim_start().starts_with("-----BEGIN ");
    match &address.transport {
        Transport::Ssh { .. } if is_key => write_key(home, &login.password).map(Shown::Key),
        Transport::Https { .. } | Transport::Http { .. } if !is_key => {
            Ok(Shown::Header(header(login, address)))
        }
        _ => Ok(Shown::Nothing),
    }
}

/// Git adds the header to requests below this address alone, so that not even a server that is asked afterwards could
/// be shown it.
fn header(login: &Login, address: &Address) -> [(String, String); 3] {
    let proof = STANDARD.encode(format!("{}:{}", login.username, login.password));
    let text = &address.text;
    let host_end = text.find("://").map_or(0, |at| at + 3);
    let host_end = text[host_end..].find('/').map_or(text.len(), |at| host_end + at);
    [
        ("GIT_CONFIG_COUNT".to_owned(), "1".to_owned()),
        ("GIT_CONFIG_KEY_0".to_owned(), format!("http.{}/.extraHeader", &text[..host_end])),
        ("GIT_CONFIG_VALUE_0".to_owned(), format!("Authorization: Basic {proof}")),
    ]
}

/// A file that `ssh` takes as a key: readable by its owner alone, and ended by a line break.
fn write_key(home: &Path, key: &str) -> io::Result<PathBuf> {
    let path = home.join("deploy.key");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    writeln!(file, "{}", key.trim().replace("\r\n", "\n"))?;
    Ok(path)
}

/// What must not be in a log: the password, line by line, and how it looks in a header.
pub(super) fn secrets(logins: &[Login]) -> impl Iterator<Item = String> {
    logins.iter().flat_map(|login| {
        let lines = login.password.lines().map(str::trim).filter(|line| line.len() >= 4).map(str::to_owned);
        lines.chain([STANDARD.encode(format!("{}:{}", login.username, login.password))])
    })
}
