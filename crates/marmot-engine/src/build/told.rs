//! Gives what can go wrong in a build its name and values, by which pages say it in other languages. What it says in
//! English stands where it can go wrong.

use std::fmt::Display;

use marmot_core::Said;

use super::checkout::CheckoutError;
use super::fetch::FetchError;
use super::image::{NoImage, NoPort};
use super::install::InstallError;
use super::plan::CannotPlan;
use super::process::Interrupted;
use super::python::NoPython;
use super::release::ReleaseError;
use super::run::StepError;
use super::start::StartError;
use super::tree::TreeRefused;
use crate::container::words::ImageError;

/// What a build is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    name: &'static str,
    english: &'static str,
}

impl Step {
    pub(super) const fn new(name: &'static str, english: &'static str) -> Self {
        Self { name, english }
    }

    /// As the log has it.
    pub(super) fn english(self) -> &'static str {
        self.english
    }

    pub(super) fn said(self) -> Said {
        Said::new(self.name, self.english)
    }

    /// With how far it is.
    pub(super) fn at(self, far: impl Into<Said>) -> Said {
        let far = far.into();
        let english = format!("{}: {far}", self.english);
        Said::new("build-step-at", english).with("step", self.said()).with("far", far)
    }
}

/// What has no other words, such as what a program said: in front of it, what failed.
fn named(name: &'static str, error: &impl Display) -> Said {
    Said::new(name, error)
}

fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

impl StepError {
    pub(super) fn said(&self) -> Said {
        match self {
            Self::Interrupted(why) => why.said(),
            Self::Source(why) => why.said(),
            Self::Fetch(why) => why.said(),
            Self::Checkout(why) => why.said(),
            Self::Plan(why) => why.said(),
            Self::Install(why) => why.said(),
            Self::NeedsContainers(file) => named("build-needs-containers", self).with("file", file),
            Self::Release(why) => why.said(),
            Self::Start(why) => why.said(),
            Self::Image(why) => why.said(),
            Self::Directory(why) => named("build-directory", self).with("why", why.to_string()),
        }
    }
}

impl Interrupted {
    pub(super) fn said(&self) -> Said {
        match self {
            Self::Cancelled => named("build-was-cancelled", self),
            Self::TimedOut(time) => named("build-timed-out", self).with("seconds", time.as_secs()),
            Self::NoRoom { left, reserve } => named("build-no-room", self)
                .with("left", mebibytes(*left))
                .with("reserve", mebibytes(*reserve)),
            Self::OutOfMemory(limit) => named("build-out-of-memory", self).with("limit", mebibytes(*limit)),
            Self::TooMuch(limit) => named("build-too-much", self).with("limit", mebibytes(*limit)),
            Self::CouldNotStart { program, source } => named("build-program-not-started", self)
                .with("program", program)
                .with("why", source.to_string()),
            Self::NoNetwork(why) => named("build-no-network", self).with("why", why.to_string()),
            Self::Unreadable { program, source } => named("build-output-unreadable", self)
                .with("program", program)
                .with("why", source.to_string()),
        }
    }
}

impl FetchError {
    fn said(&self) -> Said {
        match self {
            Self::Interrupted(why) => why.said(),
            Self::Cache(why) => named("fetch-cache", self).with("why", why.to_string()),
            Self::UnknownHost(host) => named("fetch-unknown-host", self).with("host", host),
            Self::NotPublic { host, address } => {
                named("fetch-not-public", self).with("host", host).with("address", address.to_string())
            }
            Self::NotFound(repository) => named("fetch-not-found", self).with("repository", repository),
            Self::NotAllowed(repository) => named("fetch-not-allowed", self).with("repository", repository),
            Self::Moved(repository) => named("fetch-moved", self).with("repository", repository),
            Self::Empty(repository) => named("fetch-empty", self).with("repository", repository),
            Self::UnknownRevision { repository, revision, existing } => named("fetch-unknown-revision", self)
                .with("repository", repository)
                .with("revision", revision)
                .with("existing", existing),
            Self::Ambiguous { revision } => named("fetch-ambiguous", self).with("revision", revision),
            Self::TooLarge(limit) => named("fetch-too-large", self).with("limit", mebibytes(*limit)),
            Self::NoGit => named("fetch-no-git", self),
            Self::DiskFull => named("build-disk-full", self),
            Self::Unreachable(repository) => named("fetch-unreachable", self).with("repository", repository),
            Self::Certificate(repository) => named("fetch-certificate", self).with("repository", repository),
            Self::Git { repository, said } => {
                named("fetch-git", self).with("repository", repository).with("said", said)
            }
        }
    }
}

impl CheckoutError {
    fn said(&self) -> Said {
        match self {
            Self::Interrupted(why) => why.said(),
            Self::Refused(why) => why.said(),
            Self::NoDirectory(dir) => named("checkout-no-directory", self).with("dir", dir),
            Self::NotADirectory(dir) => named("checkout-not-a-directory", self).with("dir", dir),
            Self::Git(said) => named("checkout-git", self).with("said", said),
            Self::DiskFull => named("build-disk-full", self),
            Self::Write { path, source } => {
                named("checkout-write", self).with("path", path).with("why", source.to_string())
            }
        }
    }
}

impl TreeRefused {
    fn said(&self) -> Said {
        match self {
            Self::TooMany(most) => named("tree-too-many", self).with("most", most),
            Self::TooLarge(limit) => named("tree-too-large", self).with("limit", mebibytes(*limit)),
            Self::PathTooLong(path) => named("tree-path-too-long", self).with("path", path),
            Self::BadPath(path) => named("tree-bad-path", self).with("path", path),
            Self::LeavesTree(path) => named("tree-leaves", self).with("path", path),
            Self::Garbled => named("tree-garbled", self),
            Self::Io(why) => named("tree-unreadable", self).with("why", why.to_string()),
        }
    }
}

impl CannotPlan {
    /// The same, with what other languages say it by.
    pub fn said(&self) -> Said {
        match self {
            Self::NothingToRun { found, advice } => {
                named("plan-nothing-to-run", self).with("found", found).with("advice", advice)
            }
            Self::SeveralApps { files, example } => {
                named("plan-several-apps", self).with("files", files.join(", ")).with("example", example)
            }
            Self::TooLarge { path, limit } => {
                named("plan-too-large", self).with("path", path).with("limit", limit >> 10)
            }
            Self::BadManifest { path, why } => {
                named("plan-bad-manifest", self).with("path", path).with("why", why)
            }
        }
    }
}

impl InstallError {
    fn said(&self) -> Said {
        match self {
            Self::Interrupted(why) => why.said(),
            Self::Python(why) => why.said(),
            Self::Cache(why) => named("install-cache", self).with("why", why.to_string()),
            Self::DiskFull => named("build-disk-full", self),
            Self::NoUv => named("install-no-uv", self),
            Self::Missing { what, package } => {
                named("install-missing", self).with("what", *what).with("package", *package)
            }
            Self::Refused { why, advice } => {
                named("install-refused", self).with("why", why).with("advice", *advice)
            }
        }
    }
}

impl NoPython {
    fn said(&self) -> Said {
        match self {
            Self::Interrupted(why) => why.said(),
            Self::NotHere { wanted, said_by, has } => named("python-not-here", self)
                .with("wanted", wanted)
                .with("by", said_by)
                .with("has", has.trim_start_matches("; it has ")),
            Self::NoneAtAll => named("python-none", self),
            Self::Broken(path) => named("python-broken", self).with("path", path.display().to_string()),
        }
    }
}

impl ReleaseError {
    fn said(&self) -> Said {
        match self {
            Self::Interrupted(why) => why.said(),
            Self::Failed { line, code, said } => {
                named("release-failed", self).with("line", line).with("code", code).with("said", said)
            }
            Self::Ended { line } => named("release-ended", self).with("line", line),
        }
    }
}

impl StartError {
    fn said(&self) -> Said {
        match self {
            Self::NotInstalled(package) => named("start-not-installed", self).with("package", package),
            Self::NoPackage(package) => named("start-no-package", self).with("package", package),
            Self::NoSite { dir, instead } => {
                named("start-no-site", self).with("dir", dir).with("instead", instead)
            }
            Self::Write(why) => named("start-unwritten", self).with("why", why.to_string()),
        }
    }
}

impl NoImage {
    fn said(&self) -> Said {
        match self {
            Self::NoEngine => named("image-no-engine", self),
            Self::Reference(image, _) => named("image-no-reference", self).with("image", image),
            Self::Private(image) => named("image-private", self).with("image", image.to_string()),
            Self::NoBase => named("image-no-base", self),
            Self::NoBuilder => named("image-no-builder", self),
            Self::Builder(image, why) => {
                named("image-builder", self).with("image", image).with("why", why.to_string())
            }
            Self::Image(why) => why.said(),
            Self::Port(why) => why.said(),
            Self::NoCommand => named("image-no-command", self),
            Self::NoFile(file) => named("image-no-file", self).with("file", file),
            Self::LongDockerfile => {
                named("dockerfile-too-long", self).with("limit", super::dockerfile::LONGEST >> 10)
            }
            Self::NoSecret { line, name } => {
                named("dockerfile-no-secret", self).with("line", line).with("secret", name)
            }
            Self::NoSecretsByDocker => named("dockerfile-no-secrets-by-docker", self),
            Self::Unfenced(why) => named("dockerfile-unfenced", self).with("why", why),
            Self::Step(why) => why.clone(),
            // What engines, buildpacks and registries say has the words of whoever made them.
            Self::Process(_) | Self::NotPushed(_) | Self::Dockerfile(_) | Self::Engine(_) => {
                self.to_string().into()
            }
        }
    }
}

impl ImageError {
    pub(crate) fn said(&self) -> Said {
        match self {
            Self::NotFound(image) => named("image-not-found", self).with("image", image),
            Self::NotHere(image) => named("image-not-here", self).with("image", image),
            Self::NotAllowed { image, registry } => {
                named("image-not-allowed", self).with("image", image).with("registry", registry)
            }
            Self::WrongCredentials { registry } => {
                named("image-wrong-credentials", self).with("registry", registry)
            }
            Self::RateLimited(registry) => named("image-rate-limited", self).with("registry", registry),
            Self::WrongArchitecture { image, machine } => {
                named("image-wrong-architecture", self).with("image", image).with("machine", machine)
            }
            Self::DiskFull => named("image-disk-full", self),
            Self::Unreachable { registry, why } => {
                named("image-unreachable", self).with("registry", registry).with("why", why)
            }
            Self::Engine(why) => named("image-engine", self).with("why", why),
            Self::Other { image, why } => {
                named("image-not-pulled", self).with("image", image).with("why", why)
            }
        }
    }
}

impl NoPort {
    pub(crate) fn said(&self) -> Said {
        match self {
            Self::None => named("image-no-port", self),
            Self::Many(ports) => named("image-many-ports", self).with("ports", ports),
        }
    }
}
