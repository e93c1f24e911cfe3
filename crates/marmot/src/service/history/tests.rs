//! What is measured is noted, reported, kept over restarts, and forgotten with age.

use std::sync::Arc;

use marmot_core::id::{ReplicaId, RevisionId};
use marmot_core::{Clock, Gate};
use marmot_engine::observed::{Memory, ObservedApp, ObservedReplica, SleepDepth};

use super::*;
use crate::model::{BuilderVariant, Code, CodeRun, EnvironmentSource, Visibility};
use crate::service::{NewLauncher, NewProject};
use crate::testing::Bench;

fn replica(asleep: bool) -> ObservedReplica {
    let address = "127.0.0.1:1".parse().unwrap();
    ObservedReplica {
        id: ReplicaId::from(1),
        revision: RevisionId::from(1),
        stage: if asleep { ReplicaStage::Hibernated { address } } else { ReplicaStage::Running { address } },
        since: Moment::START,
        gate: Arc::new(Gate::new(1)),
        sockets: None,
        memory: Memory { resident: 512 << 20, swapped: 0, compressed: 0 },
        depth: SleepDepth::Frozen,
    }
}

fn observed(name: &AppName, asleep: bool) -> Observed {
    let app = ObservedApp { replicas: vec![replica(asleep)], ..ObservedApp::default() };
    Observed { apps: [(name.clone(), app)].into(), ..Observed::default() }
}

#[test]
fn sleep_alone_is_noted_four_times_an_hour_and_anything_else_every_minute() {
    let (history, name): (History, AppName) = (History::default(), "iris".parse().unwrap());
    let demands = Demands::new(Clock::new(|| Moment::START));
    let at = |second: u64| Moment::from_millis(second * 1000);
    for second in (0..=60).step_by(5) {
        history.measure(at(second), 0, &observed(&name, true), &demands);
    }
    assert!(history.to_note(Vec::new(), 60, false).is_empty());
    let due = history.to_note(Vec::new(), 900, false);
    assert_eq!((due[0].since, due[0].counts.asleep), (0, 60_000));
    history.measure(at(65), 60, &observed(&name, false), &demands);
    let due = history.to_note(Vec::new(), 60, false);
    assert_eq!((due[0].counts.awake, due[0].counts.asleep_memory), (5000, 60 * 512 * 1024));
    history.noted(due, |_| true);
    assert!(history.to_note(Vec::new(), 900, true).is_empty());
    // The machine was suspended for a day.
    history.measure(at(86_400), 60, &observed(&name, false), &demands);
    assert_eq!(history.pending(&name, None).awake, 60_000);
}

#[tokio::test]
async fn usage_is_kept_over_a_restart_and_forgotten_with_age() {
    let bench = Bench::new().await;
    let (service, ada) = (&bench.service, Identity::User(bench.user("ada").await));
    let project = NewProject {
        name: "Iris".to_owned(),
        visibility: Some(Visibility::Private),
        ..NewProject::default()
    };
    let project = service.create_project(&ada, project).await.unwrap();
    let code = Code {
        repository: "https://example.org/iris.git".to_owned(),
        revision: None,
        context_dir: None,
        builder: BuilderVariant::Auto,
        as_image: false,
    };
    let new = NewLauncher {
        project_id: project.id,
        name: "Iris".to_owned(),
        description: None,
        source: EnvironmentSource::Code { code, run: CodeRun::default() },
        variables: Vec::new(),
        resource_class_id: None,
        network: Default::default(),
    };
    let launcher = service.create_launcher(&ada, new).await.unwrap();
    service.activate(&ada, launcher.id).await.unwrap();
    let name = &launcher.app_name;
    bench.observed.send_replace(Arc::new(observed(name, false)));
    let now = super::super::now();
    let counts = Counts {
        answers: [0, 3, 0, 1, 0],
        awake: 1_800_000,
        awake_memory: 1800 * 512 * 1024,
        people: 2,
        ..Counts::default()
    };
    {
        let mut measured = service.inner.history.lock();
        measured.apps.entry(name.clone()).or_default().held = counts.clone();
    }
    let pending = service.usage(&ada, name, Range::Hour).await.unwrap();
    assert_eq!(pending.total, counts);
    service.keep_history(now, true).await.unwrap();

    let after = bench.another_service(crate::vault::Vault::of_the_moment()).await;
    for range in Range::ALL {
        let report = after.usage(&ada, name, range).await.unwrap();
        assert_eq!(report.total, counts, "{range:?}");
    }
    after.shut_down(&ada, name).await.unwrap();
    let off = after.usage(&ada, name, Range::Day).await.unwrap();
    assert_eq!(off.total, counts);

    let later = now + jiff::SignedDuration::from_hours(24 * 32);
    let mut db = after.db().write().await.unwrap();
    history::forget(&mut db, later).await.unwrap();
    db.commit().await.unwrap();
    assert_eq!(after.usage(&ada, name, Range::Month).await.unwrap().total, Counts::default());
    assert!(after.usage(&Identity::Anonymous, name, Range::Day).await.is_err());
}
