//! Reads a `Procfile`: as data. Its command is run by a shell, but only in the sandbox of a replica.

use super::{CannotPlan, Code};

const LINE_BYTES: usize = 8 << 10;

/// What a `Procfile` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Procfile {
    /// The command of the process that is served.
    pub(super) web: String,
    /// The command that is run once per revision, before it is served.
    pub(super) release: Option<String>,
    /// The names of the other processes.
    others: Vec<String>,
}

impl Procfile {
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.others.is_empty() {
            warnings.push(format!(
                "Of the Procfile, only `web` is served; ignored: {}.",
                self.others.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            ));
        }
        if !self.web.contains("PORT") {
            warnings.push(
                "The command of the Procfile does not mention $PORT: the app must listen on the port in that variable."
                    .into(),
            );
        }
        if self.web.contains("127.0.0.1") || self.web.contains("localhost") {
            warnings.push(
                "The command of the Procfile mentions this machine's own address: an app listens on 0.0.0.0."
                    .into(),
            );
        }
        warnings
    }
}

/// Reads the `Procfile`, if there is one.
pub(super) fn read(code: &Code) -> Result<Option<Procfile>, CannotPlan> {
    let Some(text) = code.manifest("Procfile")? else { return Ok(None) };
    let bad = |why: String| CannotPlan::BadManifest { path: "Procfile".into(), why };
    let (mut web, mut release) = (None, None);
    let mut others = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (number, line) = (number + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.len() > LINE_BYTES {
            return Err(bad(format!("line {number} is longer than {LINE_BYTES} bytes")));
        }
        if line.chars().any(|letter| letter.is_control() && letter != '\t') {
            return Err(bad(format!("line {number} has control characters in it")));
        }
        let Some((name, command)) = line.split_once(':') else {
            return Err(bad(format!("line {number} is not `NAME: COMMAND`")));
        };
        let (name, command) = (name.trim(), command.trim());
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
            return Err(bad(format!("line {number} does not begin with the name of a process, like `web:`")));
        }
        if command.is_empty() {
            return Err(bad(format!("`{name}` has no command")));
        }
        let once = match name {
            "web" => &mut web,
            "release" => &mut release,
            _ => {
                others.push(name.to_owned());
                continue;
            }
        };
        if once.replace(command.to_owned()).is_some() {
            return Err(bad(format!("it has two `{name}` lines")));
        }
    }
    match web {
        Some(web) => Ok(Some(Procfile { web, release, others })),
        None => Err(bad("it has no `web` line: add one with the command of the app".into())),
    }
}
