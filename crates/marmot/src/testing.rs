//! For tests: the service over a real database file, with an engine whose picture the test paints.

use std::sync::Arc;

use marmot_core::{Clock, Moment};
use marmot_engine::Observed;
use marmot_engine::build::{BuildContext, Planner};
use marmot_engine::logs::Logs;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::db::{Db, apps, launchers};
use crate::model::{
    App, Code, CodeRun, Environment, EnvironmentSource, Launcher, LauncherKind, ResourceClass, Secret, User,
    Visibility,
};
use crate::service::{Demands, Identity, Live, NewProject, NewUser, Options, Service};
use crate::vault::Vault;

/// The service, and what a test holds in the place of the engine.
pub(crate) struct Bench {
    pub(crate) service: Service,
    pub(crate) observed: watch::Sender<Arc<Observed>>,
    /// The data directory.
    pub(crate) dir: TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with_local_repositories() -> Self {
        Self::with(|options| options.allow_local_repositories = true).await
    }

    /// With other options than those of a server on a person's own machine.
    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = TempDir::new().unwrap();
        let db = Db::open(None, dir.path()).await.unwrap();
        let observed = watch::Sender::new(Arc::new(Observed::default()));
        let live = live(&observed, dir.path());
        let mut options = Options {
            public_url: "http://localhost:8080".to_owned(),
            apps_scheme: "http".to_owned(),
            apps_authority: "localhost:8080".to_owned(),
            allow_local_repositories: false,
            containers: true,
            makes_images: false,
            buildpacks: false,
            push: None,
            resource_classes: ResourceClass::standard(),
            policy: marmot_core::scaling::Policy::default(),
            max_replicas: 10,
            people: Default::default(),
            memory_budget: None,
            limits: Default::default(),
            preview_days: 7,
        };
        change(&mut options);
        Self { service: Service::new(db, live, options, Vault::of_the_moment()), observed, dir }
    }

    /// Another service over the same database and engine, as a server that follows has it.
    pub(crate) async fn another_service(&self, vault: Vault) -> Service {
        let db = Db::open(None, self.dir.path()).await.unwrap();
        Service::new(db, live(&self.observed, self.dir.path()), self.service.options().clone(), vault)
    }

    /// A person whose password is `correct horse`; `root` is an administrator.
    pub(crate) async fn user(&self, name: &str) -> User {
        let user = NewUser {
            username: name.parse().unwrap(),
            password: Some(Secret::new("correct horse")),
            is_admin: name == "root",
            email: None,
            first_name: None,
            last_name: None,
        };
        self.service.create_user(user).await.unwrap()
    }

    /// So many apps that are on, in a public project of somebody's.
    pub(crate) async fn many_apps(&self, count: u128) {
        let owner = self.user("owner").await;
        let new = NewProject {
            name: "Many".to_owned(),
            namespace: None,
            slug: None,
            visibility: Some(Visibility::Public),
            description: None,
            repositories: Vec::new(),
        };
        let project = self.service.create_project(&Identity::User(owner.clone()), new).await.unwrap();
        let database = Db::open(None, self.dir.path()).await.unwrap();
        let mut db = database.write().await.unwrap();
        for number in 0..count {
            let source = EnvironmentSource::Code { code: Code::none(), run: CodeRun::default() };
            let launcher = Launcher {
                id: (2 * number + 1).into(),
                project_id: project.id,
                name: format!("App {number}"),
                description: None,
                kind: LauncherKind::App,
                app_name: format!("many-{number}").parse().unwrap(),
                environment: Environment { id: (2 * number + 2).into(), source },
                variables: Vec::new(),
                resource_class_id: 1,
                network: Default::default(),
                preview: None,
                created_by: owner.id,
                created_at: project.created_at,
                updated_at: project.created_at,
            };
            let app = App {
                launcher_id: launcher.id,
                name: launcher.app_name.clone(),
                activated_by: owner.id,
                activated_at: project.created_at,
                wanted: None,
                awaits: None,
                retry: 0,
            };
            launchers::insert(&mut db, &launcher).await.unwrap();
            apps::insert(&mut db, &app).await.unwrap();
        }
        db.commit().await.unwrap();
    }
}

fn live(observed: &watch::Sender<Arc<Observed>>, data_dir: &std::path::Path) -> Live {
    Live {
        observed: observed.subscribe(),
        demands: Demands::new(Clock::new(|| Moment::START)),
        clock: Clock::new(|| Moment::START),
        logs: Logs::new(data_dir),
        storage: marmot_engine::Storage::new(data_dir),
        planner: Some(planner(data_dir)),
    }
}

/// Looks at real repositories, also those of this machine.
fn planner(data_dir: &std::path::Path) -> Planner {
    let git = "git".into();
    let mut context = BuildContext::new("uv".into(), git, "marmot".into(), data_dir.join("cache"));
    context.allow_local_repositories = true;
    Planner::new(Arc::new(context))
}

/// Git as Ada uses it; what it says.
fn git(dir: &std::path::Path, args: &[&str]) -> String {
    let own = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
    let mut git = std::process::Command::new("git");
    git.args(own).args(args).current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null");
    let said = git.output().unwrap();
    assert!(said.status.success());
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

/// Writes a file of a repository, and commits it; which commit that is.
pub(crate) fn commit(dir: &std::path::Path, path: &str, text: &str) -> String {
    std::fs::write(dir.join(path), text).unwrap();
    git(dir, &["add", "--all"]);
    git(dir, &["commit", "--quiet", "--message", "Go on"]);
    git(dir, &["rev-parse", "HEAD"])
}

/// A repository with one commit of these files, and its address.
pub(crate) fn repository(dir: &std::path::Path, files: &[(&str, &str)]) -> String {
    let git = |args: &[&str]| git(dir, args);
    std::fs::create_dir_all(dir).unwrap();
    git(&["init", "--quiet", "--initial-branch=main"]);
    for (path, text) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "Begin"]);
    dir.display().to_string()
}
