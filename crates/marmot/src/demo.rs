//! What a demo starts with: an administrator, and a project with an active app for each example.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use marmot_core::AppName;
use marmot_core::name::Namespace;
use tokio::process::Command;

use crate::model::{BuilderVariant, Code, CodeRun, EnvironmentSource, Secret, User, Visibility};
use crate::service::{Identity, NewLauncher, NewProject, NewUser, Service};

/// The largest file of an example that is copied, in bytes. What is larger was left there by a build.
const LARGEST_FILE: u64 = 10 << 20;
/// Directories that a build leaves behind.
const LEFT_BEHIND: &[&str] = &["__pycache__", "node_modules", "target", "venv"];

/// The example that tries to escape from its sandbox: for operators who ask for it.
const NOT_SHOWN: &str = "escape";

/// The name of the demo's administrator.
pub fn username() -> Namespace {
    "demo".parse().expect("a valid name")
}

/// The last part of the link that signs in, good for as long as the server that is told it.
pub fn sign_in_code() -> Secret {
    let bits: u128 = rand::random();
    Secret::new(format!("{bits:032x}"))
}

/// An example that was found.
#[derive(Debug, Clone)]
struct Example {
    /// The name of its directory.
    directory: String,
    /// What people call it: the heading of its README.
    title: String,
    path: PathBuf,
}

/// Fills an empty installation: the administrator, and for each directory in `examples` a repository in `data_dir`, a
/// public project, a launcher, and its activation. Local repositories must be allowed. Returns the apps' names.
///
/// # Errors
/// When there is no example, or git does not work.
pub async fn seed(service: &Service, examples: &Path, data_dir: &Path) -> anyhow::Result<Vec<AppName>> {
    let found =
        find(examples).with_context(|| format!("cannot read the examples in `{}`", examples.display()))?;
    if found.is_empty() {
        bail!(
            "there are no examples in `{}`: name their directory with `--examples DIR`",
            examples.display()
        );
    }
    let user = NewUser {
        username: username(),
        password: None,
        is_admin: true,
        email: None,
        first_name: None,
        last_name: None,
    };
    let user = service.create_user(user).await?;
    let mut apps = Vec::with_capacity(found.len());
    for example in found {
        let name = example.directory.clone();
        let app = add(service, &user, &example, &data_dir.join("examples").join(&name)).await;
        apps.push(app.with_context(|| format!("cannot set up the example `{name}`"))?);
    }
    Ok(apps)
}

async fn add(
    service: &Service,
    user: &User,
    example: &Example,
    repository: &Path,
) -> anyhow::Result<AppName> {
    copy(&example.path, repository)?;
    git(repository, &["init", "--quiet", "--initial-branch=main"]).await?;
    git(repository, &["add", "--all"]).await?;
    git(repository, &["commit", "--quiet", "--message", "Add the example"]).await?;
    let address = repository.to_str().context("the path is no UTF-8")?.to_owned();
    let who = Identity::User(user.clone());
    let project = NewProject {
        name: example.title.clone(),
        slug: example.directory.parse().ok(),
        visibility: Some(Visibility::Public),
        repositories: vec![address.clone()],
        ..NewProject::default()
    };
    let project = service.create_project(&who, project).await?;
    let code = Code {
        repository: address,
        revision: None,
        context_dir: None,
        builder: BuilderVariant::Auto,
        as_image: false,
    };
    // The framework, in brackets, would only make the app's address longer.
    let name = example.title.split(" (").next().unwrap_or(&example.title);
    let launcher = NewLauncher {
        project_id: project.id,
        name: name.to_owned(),
        description: None,
        source: EnvironmentSource::Code { code, run: CodeRun::default() },
        variables: Vec::new(),
        resource_class_id: None,
        network: Default::default(),
    };
    let launcher = service.create_launcher(&who, launcher).await?;
    Ok(service.activate(&who, launcher.id).await?.name)
}

/// The directories that are examples, by name.
fn find(examples: &Path) -> std::io::Result<Vec<Example>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(examples)? {
        let entry = entry?;
        let directory = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && !directory.starts_with(['.', '_']) && directory != NOT_SHOWN {
            let readme = std::fs::read_to_string(entry.path().join("README.md")).unwrap_or_default();
            let heading = readme.lines().find_map(|line| line.strip_prefix("# ")).map(str::trim);
            let title = heading.filter(|heading| !heading.is_empty()).unwrap_or(&directory).to_owned();
            found.push(Example { directory, title, path: entry.path() });
        }
    }
    found.sort_by(|left, right| left.directory.cmp(&right.directory));
    Ok(found)
}

/// Copies what belongs to an example's code: no hidden files, no links, nothing that a build left behind.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot make `{}`", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read `{}`", from.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        if name.starts_with('.') || LEFT_BEHIND.contains(&name.as_str()) {
            continue;
        }
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() && entry.metadata()?.len() <= LARGEST_FILE {
            std::fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot write `{}`", target.display()))?;
        }
    }
    Ok(())
}

/// Runs git as nobody in particular: without the settings of the person who runs the demo.
async fn git(repository: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("git");
    command.arg("-C").arg(repository).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Marmot").env(format!("GIT_{who}_EMAIL"), "demo@localhost");
    }
    let output = command.output().await.context("cannot run `git`: is it installed?")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("`git {}` failed: {}", arguments.first().unwrap_or(&""), why.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Page;
    use crate::testing::Bench;

    #[tokio::test]
    async fn each_example_becomes_a_public_project_whose_app_is_being_built() {
        let bench = Bench::with_local_repositories().await;
        let examples = tempfile::tempdir().unwrap();
        for name in ["second", "first"] {
            let dir = examples.path().join(name);
            std::fs::create_dir_all(dir.join("__pycache__")).unwrap();
            std::fs::write(dir.join("README.md"), format!("# The {name} one (Dash)\n")).unwrap();
            std::fs::write(dir.join("__pycache__/x"), "left behind").unwrap();
        }
        std::fs::write(examples.path().join("README.md"), "no example").unwrap();
        let apps = seed(&bench.service, examples.path(), bench.dir.path()).await.unwrap();
        assert_eq!(apps.iter().map(AppName::as_str).collect::<Vec<_>>(), ["the-first-one", "the-second-one"]);
        let seen = bench.service.apps(&Identity::Anonymous, None, Page::FIRST).await.unwrap();
        assert!(seen.items.iter().all(|app| app.phase.as_str() == "building"), "{:?}", seen.items);
        let repository = bench.dir.path().join("examples/first");
        assert!(repository.join(".git").is_dir() && !repository.join("__pycache__").exists());
        assert!(bench.service.user_by_name(&username()).await.unwrap().is_admin);
    }

    #[tokio::test]
    async fn a_directory_without_examples_is_refused_by_name() {
        let bench = Bench::with_local_repositories().await;
        let empty = tempfile::tempdir().unwrap();
        let error = seed(&bench.service, empty.path(), bench.dir.path()).await.unwrap_err();
        assert!(error.to_string().contains("--examples DIR"), "{error}");
    }
}
