//! Where things are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The places of this repository that tasks use.
pub(crate) struct Repository {
    pub(crate) root: PathBuf,
    target: PathBuf,
}

impl Repository {
    pub(crate) fn find() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask has no parent directory")?
            .to_owned();
        let target = target_directory(&root)?;
        Ok(Self { root, target })
    }

    pub(crate) fn marmot(&self) -> PathBuf {
        self.target.join("release/marmot")
    }

    pub(crate) fn examples(&self) -> PathBuf {
        self.root.join("examples")
    }

    pub(crate) fn browser_tests(&self) -> PathBuf {
        self.root.join("tests/browser")
    }

    pub(crate) fn oidc_tests(&self) -> PathBuf {
        self.root.join("tests/oidc")
    }

    pub(crate) fn screenshots(&self) -> PathBuf {
        self.target.join("screenshots")
    }

    /// Programs that set-up brought, one level above the directory that goes on the `PATH`.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// Holds the installed programs alone: a virtual environment's `bin` on the `PATH` would also put its Python before
    /// the machine's.
    pub(crate) fn tools_bin(&self) -> PathBuf {
        self.tools().join("bin")
    }

    pub(crate) fn uv(&self) -> PathBuf {
        self.tools_bin().join("uv")
    }
}

/// Asks Cargo, because the directory may be set in the environment or in any of several configuration files.
fn target_directory(root: &Path) -> anyhow::Result<PathBuf> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--no-deps"])
        .current_dir(root)
        .output()
        .context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata is no JSON")?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target_directory")?;
    Ok(target.into())
}
