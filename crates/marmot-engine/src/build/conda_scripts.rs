//! What packages of conda bring to be run: when they are installed, and when their environment is activated.
//!
//! Both run confined, and once: when they are installed they may change the environment that they are in, and nothing else;
//! what activating changes about variables is noted, and given to the app whenever it starts.

use std::collections::BTreeMap;
use std::path::Path;

use rattler_conda_types::RepoDataRecord;

use super::install::InstallError;
use super::process::{Job, Program};
use super::view::View;

/// The variables that activating sets, in the directory of the environment.
const ACTIVATED: &str = "activated.json";
/// More than this of variables is not read.
const VARIABLES_BYTES: usize = 256 << 10;
/// What a shell sets for itself, and what an app is given anew wherever it runs.
const ASIDE: [&str; 11] =
    ["_", "HOME", "OLDPWD", "PATH", "PORT", "PWD", "SHELL", "SHLVL", "TMPDIR", "CONDA_PREFIX", "LD_PRELOAD"];
/// Sources what activates, in the order of its names, as conda does; then says which variables there are.
const ACTIVATE: &str = "for script in \"$CONDA_PREFIX\"/etc/conda/activate.d/*.sh; do\n\
                        [ -f \"$script\" ] && . \"$script\" >&2\ndone\nexec /usr/bin/env -0";

/// Runs what the packages bring to be run once they are there.
pub(super) async fn link(job: &Job, prefix: &Path, records: &[RepoDataRecord]) -> Result<(), InstallError> {
    for record in records {
        let package = &record.package_record;
        let name = package.name.as_normalized();
        let script = prefix.join("bin").join(format!(".{name}-post-link.sh"));
        if !script.is_file() {
            continue;
        }
        job.log.say(&format!("Running the script that {name} is installed with"));
        let program = shell(prefix)
            .arg(&script)
            .env("PREFIX", prefix)
            .env("PKG_NAME", name)
            .env("PKG_VERSION", package.version.to_string())
            .env("PKG_BUILDNUM", package.build_number.to_string())
            .dir(prefix)
            .sees(View::default().owns([prefix]));
        let said = job.run(&program).await?;
        if super::environment::disk_is_full(&said.stderr) {
            return Err(InstallError::DiskFull);
        }
        if !said.ok() {
            return Err(InstallError::Refused {
                why: format!("the script that the package {name} is installed with failed ({})", said.status),
                advice: "The log has what it said; ask for another version of the package",
            });
        }
        let messages = prefix.join(".messages.txt");
        for line in std::fs::read(&messages).unwrap_or_default().split(|byte| *byte == b'\n').take(100) {
            job.log.output(line);
        }
    }
    Ok(())
}

/// Activates the environment once, and notes in `place` which variables that sets.
pub(super) async fn activate(job: &Job, place: &Path, prefix: &Path) -> Result<(), InstallError> {
    let mut set = of_packages(prefix);
    if prefix.join("etc/conda/activate.d").is_dir() {
        let view = || View::default().reads([prefix]);
        let before = job
            .ask(&shell(prefix).args(["-c", "exec /usr/bin/env -0"]).sees(view()), VARIABLES_BYTES)
            .await?;
        let activated = job.ask(&shell(prefix).args(["-c", ACTIVATE]).sees(view()), VARIABLES_BYTES).await?;
        activated.stderr.lines().for_each(|line| job.log.output(line.as_bytes()));
        if !activated.ok() {
            return Err(InstallError::Refused {
                why: "the environment could not be activated: a script of a package in etc/conda/activate.d failed".into(),
                advice: "The log has what it said",
            });
        }
        let before = variables(&before.stdout);
        let changed =
            variables(&activated.stdout).into_iter().filter(|(name, value)| before.get(name) != Some(value));
        set.extend(changed.filter(|(name, _)| !ASIDE.contains(&name.as_str())));
    }
    let text = serde_json::to_vec(&set).map_err(std::io::Error::from)?;
    Ok(std::fs::write(place.join(ACTIVATED), text)?)
}

/// The variables that activating sets.
pub(super) fn activated(place: &Path) -> Result<BTreeMap<String, String>, InstallError> {
    let text = std::fs::read(place.join(ACTIVATED))?;
    Ok(serde_json::from_slice(&text).map_err(std::io::Error::from)?)
}

/// The shell that conda's scripts are written for, in the environment and with nothing of the server's.
fn shell(prefix: &Path) -> Program {
    let found = ["/bin/bash", "/bin/sh"].into_iter().find(|shell| Path::new(shell).exists());
    Program::new(found.unwrap_or("/bin/sh")).env("CONDA_PREFIX", prefix).path_first(&prefix.join("bin"))
}

/// What packages say of variables without a script.
fn of_packages(prefix: &Path) -> BTreeMap<String, String> {
    let mut files: Vec<_> = std::fs::read_dir(prefix.join("etc/conda/env_vars.d"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let read = |path| serde_json::from_slice::<BTreeMap<String, String>>(&std::fs::read(path).ok()?).ok();
    let all = files.into_iter().filter_map(read).flatten();
    all.filter(|(name, _)| is_name(name) && !ASIDE.contains(&name.as_str())).collect()
}

/// What `env -0` says.
fn variables(text: &str) -> BTreeMap<String, String> {
    let one = |text: &str| {
        let (name, value) = text.split_once('=')?;
        is_name(name).then(|| (name.to_owned(), value.to_owned()))
    };
    text.split('\0').filter_map(one).collect()
}

/// Functions that a shell exports have other names.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_may_hold_lines_and_functions_are_none() {
        let found = variables("A=1\0B=x\ny=z\0BASH_FUNC_f%%=() { :; }\0C=\0nothing\0");
        let expected = [("A", "1"), ("B", "x\ny=z"), ("C", "")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}
