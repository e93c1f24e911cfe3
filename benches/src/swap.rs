//! Swap space for a measurement: made when somebody asks for it, taken away afterwards.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};

/// What a machine's swap is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// None: replicas are only frozen.
    None,
    /// Compressed memory.
    Zram,
    /// A file on the disk.
    File,
}

impl Kind {
    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "frozen only",
            Self::Zram => "zram",
            Self::File => "swap file",
        }
    }
}

/// Swap space that is gone when this is dropped.
pub(crate) struct Swap {
    path: PathBuf,
    zram: Option<u32>,
    _dir: Option<tempfile::TempDir>,
}

impl Swap {
    /// Makes it, of this many MiB.
    ///
    /// # Errors
    /// When that is not possible: it needs root.
    pub(crate) fn make(kind: Kind, mebibytes: u64) -> anyhow::Result<Option<Self>> {
        let swap = match kind {
            Kind::None => return Ok(None),
            Kind::File => {
                let dir = tempfile::Builder::new().prefix("marmot-bench-swap-").tempdir()?;
                let path = dir.path().join("swap");
                run("fallocate", &["-l", &format!("{mebibytes}M"), &path.to_string_lossy()])?;
                run("chmod", &["600", &path.to_string_lossy()])?;
                Self { path, zram: None, _dir: Some(dir) }
            }
            Kind::Zram => {
                let number = fs::read_to_string("/sys/class/zram-control/hot_add");
                let number: u32 = number.context("the kernel has no zram")?.trim().parse()?;
                let device = format!("/sys/block/zram{number}");
                // lz4 is quicker; not every kernel has it.
                let _ = fs::write(format!("{device}/comp_algorithm"), "lz4");
                fs::write(format!("{device}/disksize"), format!("{mebibytes}M"))?;
                Self { path: format!("/dev/zram{number}").into(), zram: Some(number), _dir: None }
            }
        };
        let path = swap.path.to_string_lossy().into_owned();
        run("mkswap", &[&path])?;
        run("swapon", &[&path])?;
        Ok(Some(swap))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let off = run("swapoff", &[&self.path.to_string_lossy()]);
        if let Err(error) = off {
            eprintln!("{error:#}: `swapoff {}` by hand", self.path.display());
        }
        if let Some(number) = self.zram {
            let _ = fs::write("/sys/class/zram-control/hot_remove", number.to_string());
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{program} {}`: {}", arguments.join(" "), said.trim());
    Ok(())
}
