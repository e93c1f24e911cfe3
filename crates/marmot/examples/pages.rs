//! Serves the pages over a throw-away database with sample projects in every state, for those who work on the pages.
//!
//! `cargo run --package marmot --example pages [PORT]`, then open what it prints. Nothing is built or run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use marmot::db::Db;
use marmot::model::{
    BuildResult, BuilderVariant, Code, CodeRun, EnvironmentSource, Launcher, Secret, Visibility,
};
use marmot::service::{
    BuildEnd, Demands, Identity, Live, NewLauncher, NewProject, NewUser, Options, Service,
};
use marmot::web;
use marmot_core::id::{ReplicaId, RevisionId};
use marmot_core::{Clock, Gate, Moment};
use marmot_engine::Observed;
use marmot_engine::logs::Logs;
use marmot_engine::observed::{
    BuildState, Failure, FailureReason, Memory, ObservedApp, ObservedReplica, ReplicaStage, SleepDepth,
    StartStep,
};
use marmot_gateway::Tickets;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let port =
        std::env::args().nth(1).map_or(Ok(0), |port| port.parse::<u16>()).context("PORT is a number")?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let port = listener.local_addr()?.port();
    let data = tempfile::tempdir()?;
    let (tell, observed) = watch::channel(Arc::new(Observed::default()));
    let clock = Clock::new(|| Moment::from_millis(0));
    let demands = Demands::new(clock.clone());
    let live = Live {
        observed,
        demands: demands.clone(),
        clock,
        logs: Logs::new(data.path()),
        storage: marmot_engine::Storage::new(data.path()),
        planner: None,
    };
    let options = Options {
        public_url: format!("http://localhost:{port}"),
        apps_scheme: "http".to_owned(),
        apps_authority: format!("localhost:{port}"),
        allow_local_repositories: true,
        containers: false,
        makes_images: false,
        buildpacks: false,
        push: None,
        resource_classes: marmot::model::ResourceClass::standard(),
        policy: marmot_core::scaling::Policy::default(),
        max_replicas: 10,
        people: Default::default(),
        body_limit: None,
        memory_budget: None,
        limits: Default::default(),
        preview_days: 7,
    };
    let db = Db::open(None, data.path()).await?;
    let service = Service::new(db.clone(), live, options, marmot::vault::Vault::of_the_moment());
    let sample = Sample { service: service.clone(), observed: Observed::default() };
    let (observed, sessions) = sample.make().await?;
    lived(&db, &sessions).await?;
    tell.send_replace(Arc::new(observed));
    let _using: Vec<_> = (0..4).map(|_| demands.of(&sessions).session()).collect();

    let demo = web::Demo { code: Secret::new("letmein"), username: "ada".parse()? };
    let key = marmot_gateway::IdentityKey::read(&marmot_gateway::IdentityKey::generate()?)?;
    let identities =
        std::sync::Arc::new(marmot_gateway::Identities::new("http://localhost", key.clone(), [&key]));
    let options = web::Options {
        identities,
        demo: Some(demo),
        tickets: Arc::new(Tickets::new([0; 32])),
        stop: CancellationToken::new(),
    };
    let router = web::router(service, options);
    println!("http://localhost:{port}/demo/letmein");
    axum::serve(listener, router).await?;
    Ok(())
}

/// A month of visits, more by day than by night.
async fn lived(db: &Db, app: &marmot_core::AppName) -> anyhow::Result<()> {
    let mut db = db.write().await?;
    let launcher = marmot::db::launchers::by_app_name(&mut db, app).await?.context("it was made")?;
    let now = jiff::Timestamp::now();
    marmot::db::history::was_on(&mut db, launcher.id, now - Duration::from_secs(3600 * 720), now).await?;
    for quarter in 0..4 * 24 * 30_i64 {
        let at = now.as_second() - quarter * 900;
        let hour = at / 3600 % 24;
        let busy = if (7..18).contains(&hour) {
            (quarter * 7919 % 11) as u64 * 3
        } else {
            (quarter % 13 == 0) as u64
        };
        let mut reading = marmot_gateway::meter::Reading {
            answers: [0, busy * 6, busy, busy / 4, u64::from(quarter % 37 == 0)],
            ..Default::default()
        };
        (reading.upstream.counts[3], reading.upstream.counts[5]) = (busy * 6, busy);
        (reading.wakes[0].counts[4], reading.wakes[1].counts[9]) =
            (busy.min(3), u64::from(hour == 7 && quarter % 4 == 0));
        let mut counts = marmot::history::Counts::risen(&reading, &Default::default());
        counts.people = busy / 5;
        counts.awake = if busy > 0 { 30_000 * busy.min(30) } else { 0 };
        counts.awake_memory = counts.awake / 1000 * (420 << 10);
        (counts.asleep, counts.asleep_memory) =
            (900_000 - counts.awake, (900 - counts.awake / 1000) * (60 << 10));
        let minute = at - at % 60;
        // Minutes of the last two hours alone are kept, quarters of the last day.
        let kept =
            |width: i64| (width == 60 && quarter < 8) || (width == 900 && quarter < 100) || width == 3600;
        for (slot, counts) in
            counts.slots(minute - 840, minute).into_iter().filter(|((width, _), _)| kept(*width))
        {
            marmot::db::history::add(&mut db, launcher.id, slot, &counts).await?;
        }
    }
    db.commit().await?;
    Ok(())
}

struct Sample {
    service: Service,
    observed: Observed,
}

impl Sample {
    /// Makes the sample; returns what the engine would see, and the app that people use.
    async fn make(mut self) -> anyhow::Result<(Observed, marmot_core::AppName)> {
        let new = NewUser {
            username: "ada".parse()?,
            password: Some(Secret::new("correct horse battery")),
            is_admin: true,
            email: None,
            first_name: None,
            last_name: None,
        };
        let ada = Identity::User(self.service.create_user(new).await?);
        let project = |name: &str, description: &str, visibility| NewProject {
            name: name.to_owned(),
            namespace: None,
            slug: None,
            visibility: Some(visibility),
            description: Some(description.to_owned()),
            repositories: vec!["https://github.com/ada/ice-cores".to_owned()],
        };
        self.service
            .create_project(&ada, project("Empty burrow", "Nothing in it yet.", Visibility::Private))
            .await?;
        let ice = project(
            "Ice cores of the Alps",
            "Dust, isotopes and volcanic ash from eleven drill sites, as a dashboard and as a model that predicts age from depth.",
            Visibility::Public,
        );
        let ice = self.service.create_project(&ada, ice).await?.id;
        let running = self.launcher(&ada, ice, "Ice-core explorer", "dashboard").await?;
        self.built(&ada, &running, &[Stage::Running], None).await?;
        let asleep = self.launcher(&ada, ice, "Age model", "model").await?;
        self.built(&ada, &asleep, &[Stage::Hibernated], None).await?;
        let building = self.launcher(&ada, ice, "Ash layers", "ash").await?;
        let app = self.service.activate(&ada, building.id).await?;
        if let Some(build) = app.build {
            let step = "Installing 38 packages".to_owned();
            self.observed.builds.insert(build.id(), BuildState::InProgress { step: step.into() });
        }
        let starting = self.launcher(&ada, ice, "Dust forecast", "forecast").await?;
        self.built(&ada, &starting, &[Stage::Starting], None).await?;
        let failed = self.launcher(&ada, ice, "Isotope viewer", "viewer").await?;
        let reason = FailureReason::NeverListened {
            expected: 41000,
            found: vec![8501],
            after: Duration::from_secs(60),
        };
        self.built(&ada, &failed, &[], Some(reason)).await?;
        self.launcher(&ada, ice, "Drill diary", "diary").await?;
        Ok((self.observed, running.app_name))
    }

    async fn launcher(
        &self,
        who: &Identity,
        project_id: marmot_core::id::ProjectId,
        name: &str,
        dir: &str,
    ) -> anyhow::Result<Launcher> {
        let code = Code {
            repository: "https://github.com/ada/ice-cores".to_owned(),
            revision: None,
            context_dir: Some(dir.to_owned()),
            builder: BuilderVariant::Auto,
            as_image: false,
        };
        let new = NewLauncher {
            project_id,
            name: name.to_owned(),
            description: Some("Depth against age, with every ash layer that could be dated.".to_owned()),
            source: EnvironmentSource::Code { code, run: CodeRun::default() },
            variables: Vec::new(),
            resource_class_id: None,
            network: Default::default(),
        };
        Ok(self.service.create_launcher(who, new).await?)
    }

    /// Activates an app whose build succeeded, with replicas at these stages.
    async fn built(
        &mut self,
        who: &Identity,
        launcher: &Launcher,
        stages: &[Stage],
        failed: Option<FailureReason>,
    ) -> anyhow::Result<()> {
        let app = self.service.activate(who, launcher.id).await?;
        let build = app.build.context("a build was started")?.id();
        let result = BuildResult {
            commit: Some("a1b2c3d4e5f60718293a4b5c6d7e8f9001122334".to_owned()),
            summary: Some("Streamlit, found in requirements.txt".to_owned()),
            ..BuildResult::default()
        };
        self.service.build_ended(build, BuildEnd::Succeeded(result)).await?;
        let app = self.service.app(who, &launcher.app_name).await?;
        let revision = app.revision.context("the build became a revision")?.id;
        if stages.iter().any(|stage| !matches!(stage, Stage::Starting)) {
            self.service.revision_ready(revision).await?;
        }
        let failure = failed.map(|reason| Failure {
            revision,
            at: jiff::Timestamp::now(),
            reason,
            last_lines: vec![
                "  You can now view your Streamlit app in your browser.".to_owned(),
                "\u{1b}[34m  URL: http://0.0.0.0:8501\u{1b}[0m".to_owned(),
            ],
        });
        let seen = ObservedApp {
            replicas: stages.iter().map(|stage| stage.replica(revision)).collect(),
            gave_up: failure.is_some().then_some(revision),
            failure: failure.map(Arc::new),
            boot_time: Some(Duration::from_millis(4200)),
            promised: 1 << 30,
            held_back: None,
            ..ObservedApp::default()
        };
        self.observed.apps.extend(BTreeMap::from([(launcher.app_name.clone(), seen)]));
        Ok(())
    }
}

/// Where a sample replica is in its life.
enum Stage {
    Starting,
    Running,
    Hibernated,
}

impl Stage {
    fn replica(&self, revision: RevisionId) -> ObservedReplica {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        ObservedReplica {
            id: ReplicaId::from(7),
            revision,
            stage: match self {
                Self::Starting => ReplicaStage::Starting(StartStep::WaitingForPort),
                Self::Running => ReplicaStage::Running { address },
                Self::Hibernated => ReplicaStage::Hibernated { address },
            },
            since: Moment::START,
            gate: Arc::new(Gate::new(8)),
            sockets: None,
            memory: Memory { resident: 180 << 20, swapped: 0, compressed: 0 },
            depth: SleepDepth::default(),
        }
    }
}
