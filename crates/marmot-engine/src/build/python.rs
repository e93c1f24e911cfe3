//! Finds the Python that code asks for among those that this machine has.

use std::path::{Path, PathBuf};

use super::contract::BuildContext;
use super::plan::PythonWish;
use super::process::{Interrupted, Job, Program};

/// No Python does.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPython {
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error("the code wants Python {wanted} ({said_by}), which this server does not have{has}")]
    NotHere { wanted: String, said_by: String, has: String },
    #[error("this server has no Python that uv can find; its operator can install one")]
    NoneAtAll,
    #[error("`{0}` does not work")]
    Broken(PathBuf),
}

/// A Python of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Python {
    pub(super) path: PathBuf,
    /// As in `3.11.2`.
    pub(super) version: String,
    /// Where its library is.
    pub(super) prefix: PathBuf,
    /// What compiled files have in their names, as in `cpython-311`.
    pub(super) cache_tag: String,
}

impl Python {
    /// What must be readable for it to work.
    pub(super) fn reads(&self) -> Vec<PathBuf> {
        // It may be a link to somewhere else than the library.
        let real = std::fs::canonicalize(&self.path);
        [self.path.clone(), self.prefix.clone()].into_iter().chain(real).collect()
    }
}

/// Finds the Python that fits `wish` best. What is pinned is a wish, since it often only says what its author had;
/// what is required is not.
pub(super) async fn find(context: &BuildContext, job: &Job, wish: &PythonWish) -> Result<Python, NoPython> {
    if let Some((pinned, said_by)) = &wish.pinned {
        let minor = pinned.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
        for version in [pinned, &minor] {
            if let Some(python) = look(context, job, Some(version)).await? {
                if version != pinned {
                    job.log.say(&format!("{said_by} asks for Python {pinned}; taking {}.", python.version));
                }
                return Ok(python);
            }
        }
    }
    let python = match &wish.required {
        Some((versions, said_by)) => match look(context, job, Some(versions)).await? {
            Some(python) => python,
            None => {
                let default = look(context, job, None).await?;
                let has = default.map(|python| format!("; it has {}", python.version)).unwrap_or_default();
                return Err(NoPython::NotHere { wanted: versions.clone(), said_by: said_by.clone(), has });
            }
        },
        None => look(context, job, None).await?.ok_or(NoPython::NoneAtAll)?,
    };
    if let Some((pinned, said_by)) = &wish.pinned {
        job.log.say(&format!(
            "Warning: {said_by} asks for Python {pinned}, which this server does not have; taking {}.",
            python.version
        ));
    }
    Ok(python)
}

async fn look(context: &BuildContext, job: &Job, version: Option<&str>) -> Result<Option<Python>, NoPython> {
    if version.is_none()
        && let Some(path) = &context.python
    {
        return inspect(job, path).await.map(Some);
    }
    let find =
        || program(context, job).args(["python", "find", "--no-project", "--no-config", "--"]).args(version);
    let mut said = job.ask(&find(), 4096).await?;
    if !said.ok()
        && context.allow_python_downloads
        && let Some(version) = version
    {
        let install = program(context, job).args(["python", "install", "--no-config", "--", version]);
        if job.run(&install).await?.ok() {
            said = job.ask(&find(), 4096).await?;
        }
    }
    let path = said.stdout.lines().last().unwrap_or_default().trim();
    if !said.ok() || path.is_empty() {
        return Ok(None);
    }
    inspect(job, Path::new(path)).await.map(Some)
}

fn program(context: &BuildContext, job: &Job) -> Program {
    uv(context, &job.home.join("uv-cache"))
}

pub(super) async fn inspect(job: &Job, path: &Path) -> Result<Python, NoPython> {
    let question = "import sys; print('.'.join(map(str, sys.version_info[:3]))); print(sys.base_prefix); \
                    print(sys.implementation.cache_tag)";
    let said = job.ask(&Program::new(path).args(["-I", "-S", "-c", question]), 4096).await?;
    let mut lines = said.stdout.lines();
    match (said.ok(), lines.next(), lines.next(), lines.next()) {
        (true, Some(version), Some(prefix), Some(tag)) => Ok(Python {
            path: path.to_owned(),
            version: version.to_owned(),
            prefix: prefix.into(),
            cache_tag: tag.to_owned(),
        }),
        _ => Err(NoPython::Broken(path.to_owned())),
    }
}

/// `uv` with `cache`, told the operator's network and nothing of the server's own settings.
pub(super) fn uv(context: &BuildContext, cache: &Path) -> Program {
    // In a sandbox, only the place that it really is at can be shown.
    let real = std::fs::canonicalize(&context.uv).unwrap_or_else(|_| context.uv.clone());
    let mut program = Program::new(real)
        .envs(&context.environment)
        .env("UV_CACHE_DIR", cache)
        // An environment may be changed by code of packages that are built for it later: a link would let that code
        // into the cache that all builds share. In a sandbox, links fail anyway.
        .env("UV_LINK_MODE", "copy")
        .env("UV_NO_PROGRESS", "1")
        .env("NO_COLOR", "1")
        .env("UV_PYTHON_INSTALL_DIR", context.cache_dir.join("pythons"))
        // Requirements may name git repositories, which uv fetches by git.
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", context.cache_dir.join("git.config"))
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "/bin/true")
        .env("GIT_ALLOW_PROTOCOL", "https")
        .env("GIT_LFS_SKIP_SMUDGE", "1");
    if !context.allow_python_downloads {
        program = program.env("UV_PYTHON_DOWNLOADS", "never");
    }
    match context.python.as_deref().and_then(Path::parent) {
        Some(dir) => program.path_first(dir),
        None => program,
    }
}
