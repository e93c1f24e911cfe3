//! Several replicas of one app, and several apps that want them at once.

use marmot_core::demand::Counted;
use marmot_core::scaling::Concurrency;

use super::*;
use crate::observed::HeldBack;

impl Stage {
    /// Changes the rules of all apps.
    fn rule(&mut self, change: impl Fn(&mut Policy)) {
        self.wanted.send_modify(|wanted| {
            Arc::make_mut(wanted).apps.values_mut().for_each(|app| change(&mut app.policy));
        });
    }

    /// So many requests at an app.
    fn ask(&self, app: &str, requests: usize) -> Vec<Counted> {
        let now = self.reconciler.clock.now();
        self.demand[app].touch(now);
        (0..requests).map(|_| self.demand[app].request()).collect()
    }

    fn count(&self, app: &str, is: fn(&ReplicaStage) -> bool) -> usize {
        self.stages(app).iter().filter(|stage| is(stage)).count()
    }

    fn running(&self, app: &str) -> usize {
        self.count(app, |stage| matches!(stage, ReplicaStage::Running { .. }))
    }

    fn starting(&self, app: &str) -> usize {
        self.count(app, |stage| matches!(stage, ReplicaStage::Starting(_)))
    }
}

fn up_to_three(policy: &mut Policy) {
    *policy = Policy {
        max_replicas: 3,
        concurrency: Concurrency::Requests(10),
        limit: 20,
        idle_after: Duration::from_secs(60),
        ..Policy::default()
    };
}

#[tokio::test]
async fn it_scales_out_with_the_load_and_its_replicas_sleep_when_it_falls_and_wake_when_it_rises_again() {
    let mut stage = Stage::with(&["iris"], 1000 * MIB, "serve").await;
    stage.rule(up_to_three);
    let busy = stage.ask("iris", 20);
    (0..3).for_each(|_| stage.pass(1));
    assert_eq!(stage.running("iris"), 3);
    drop(busy);
    let few = stage.ask("iris", 1);
    (0..300).for_each(|_| stage.pass(1));
    assert_eq!((stage.running("iris"), stage.stages("iris").len()), (1, 3));
    let _busy = stage.ask("iris", 20);
    (0..3).for_each(|_| stage.pass(1));
    assert_eq!(stage.running("iris"), 3);
    drop(few);
    let told = stage.told();
    let count = |is: fn(&Happening) -> bool| told.iter().filter(|what| is(what)).count();
    assert_eq!(count(|what| matches!(what, Happening::Started(_))), 3, "thawed, not started again: {told:?}");
    let scaled: Vec<String> = told
        .iter()
        .filter_map(|what| match what {
            Happening::Scaled { to, why, .. } => Some(format!("{why} → {to}")),
            _ => None,
        })
        .collect();
    assert!(scaled.len() <= 5, "told when it changes: {scaled:#?}");
    assert!(scaled[0].contains("target 7 per replica, a sudden rise"), "{scaled:#?}");
}

#[tokio::test]
async fn what_sleeps_is_woken_within_a_second_of_a_rise_that_is_not_sudden() {
    let mut stage = Stage::with(&["iris"], 1000 * MIB, "serve").await;
    stage.rule(|policy| {
        up_to_three(policy);
        policy.max_replicas = 4;
    });
    let busy = stage.ask("iris", 28);
    (0..3).for_each(|_| stage.pass(1));
    drop(busy);
    let _few = stage.ask("iris", 13);
    (0..300).for_each(|_| stage.pass(1));
    assert_eq!((stage.running("iris"), stage.stages("iris").len()), (2, 4));
    let more = stage.ask("iris", 14);
    (0..2).for_each(|_| stage.pass(1));
    assert_eq!(stage.running("iris"), 4, "27 at once, of which 7 are meant for each");
    let awake = stage.observed("iris").unwrap().replicas;
    assert!(awake.iter().all(|replica| !replica.gate.retiring()), "new visitors may go to each");
    drop(more);
}

#[tokio::test]
async fn a_replica_whose_own_visitor_waits_is_woken_whichever_was_used_last() {
    let mut stage = Stage::with(&["iris"], 1000 * MIB, "serve").await;
    stage.rule(up_to_three);
    let busy = stage.ask("iris", 20);
    (0..3).for_each(|_| stage.pass(1));
    drop(busy);
    (0..300).for_each(|_| stage.pass(1));
    assert_eq!(stage.running("iris"), 0);
    let asked = stage.observed("iris").unwrap().replicas[0].clone();
    let _waits = (asked.gate.await_it(), stage.demand["iris"].hold());
    stage.demand["iris"].touch(stage.reconciler.clock.now());
    stage.pass(1);
    let replicas = stage.observed("iris").unwrap().replicas;
    let awake: Vec<_> = replicas
        .iter()
        .filter(|replica| matches!(replica.stage, ReplicaStage::Running { .. }))
        .map(|replica| replica.id)
        .collect();
    assert_eq!(awake, [asked.id]);
}

#[tokio::test]
async fn sessions_are_not_cut_by_scaling_in_and_the_emptiest_replica_goes_first() {
    let mut stage = Stage::with(&["iris"], 1000 * MIB, "serve").await;
    stage.rule(|policy| {
        up_to_three(policy);
        policy.can_hibernate = false;
    });
    let busy = stage.ask("iris", 20);
    (0..3).for_each(|_| stage.pass(1));
    let replicas = stage.observed("iris").unwrap().replicas;
    let seats: Vec<_> = replicas
        .iter()
        .zip([2, 1, 3])
        .flat_map(|(replica, seats)| (0..seats).map(|_| replica.gate.seat()).collect::<Vec<_>>())
        .collect();
    drop(busy);
    let _one = stage.ask("iris", 1);
    (0..200).for_each(|_| stage.pass(1));
    assert_eq!(stage.running("iris"), 3, "each has a session");
    let retiring: Vec<_> = replicas.iter().map(|replica| replica.gate.retiring()).collect();
    assert_eq!(retiring, [true, true, false], "new visitors are sent to the fullest");
    drop(seats);
    (0..200).for_each(|_| stage.pass(1));
    assert_eq!(stage.running("iris"), 1);
}

#[tokio::test]
async fn only_so_many_boot_at_once_and_those_who_are_waited_for_come_first() {
    let apps = ["a", "b", "c", "d"];
    let mut stage = Stage::with(&apps, 1000 * MIB, "slow").await;
    let all = |stage: &Stage| apps.map(|app| stage.starting(app));
    assert_eq!(all(&stage).iter().sum::<usize>(), 2, "two at once");
    assert_eq!(all(&stage), [1, 1, 0, 0]);
    // Somebody waits for the last in line.
    let _waits = stage.demand["d"].hold();
    stage.pass(1);
    assert_eq!(all(&stage), [1, 1, 0, 0]);
    stage.wanted.send_modify(|wanted| {
        Arc::make_mut(wanted).apps.remove("a");
    });
    stage.pass(1);
    assert_eq!(all(&stage), [0, 1, 0, 1]);
    // Those that hang keep nobody else waiting.
    stage.pass(15);
    assert_eq!(all(&stage), [0, 1, 1, 1]);
}

#[tokio::test]
async fn while_nobody_is_served_the_first_replica_has_the_processors_for_itself() {
    let mut stage = Stage::with(&["iris"], 1000 * MIB, "slow").await;
    stage.rule(up_to_three);
    assert_eq!(stage.starting("iris"), 1);
    let _busy = stage.ask("iris", 20);
    (0..5).for_each(|_| stage.pass(1));
    assert_eq!(stage.starting("iris"), 1, "it is wanted three times");
    let first = stage.observed("iris").unwrap().replicas[0].id;
    stage.reconciler.runtime.ensure(first, Want::Awake);
    stage.pass(1);
    assert_eq!((stage.running("iris"), stage.starting("iris")), (1, 2));
}

#[tokio::test]
async fn one_that_hangs_keeps_those_beside_it_waiting_for_a_while_only() {
    let mut stage = Stage::with(&["iris"], 1000 * MIB, "slow").await;
    stage.rule(up_to_three);
    stage.wanted.send_modify(|wanted| {
        Arc::make_mut(wanted).apps.values_mut().for_each(|app| app.proven = true);
    });
    let _busy = stage.ask("iris", 20);
    (0..5).for_each(|_| stage.pass(1));
    assert_eq!(stage.starting("iris"), 1);
    stage.pass(15);
    assert_eq!(stage.starting("iris"), 2);
}

#[tokio::test]
async fn an_overloaded_app_leaves_the_others_of_its_project_their_share() {
    let mut stage = Stage::with(&["greedy", "modest", "small"], 9000 * MIB, "serve").await;
    stage.rule(|policy| {
        up_to_three(policy);
        policy.max_replicas = 10;
    });
    let _load = (stage.ask("greedy", 200), stage.ask("modest", 20), stage.ask("small", 2));
    (0..200).for_each(|_| stage.pass(1));
    // Four beyond the first of each are to be shared.
    assert_eq!(["greedy", "modest", "small"].map(|app| stage.running(app)), [3, 3, 1]);
}

#[tokio::test]
async fn what_is_known_of_visits_outlives_the_server() {
    let mut stage = Stage::with(&["iris"], 1000 * MIB, "serve").await;
    let app = stage.reconciler.layout.app(&name("iris"));
    std::fs::create_dir_all(&app).unwrap();
    for _ in 0..6 {
        drop(stage.ask("iris", 1));
        stage.pass(90);
    }
    let news = stage.reconciler.news_of_visits();
    assert_eq!(news.len(), 1);
    crate::visits::write(&news);
    assert!(crate::visits::read(&app.join("visits")).is_some());
    assert!(stage.reconciler.news_of_visits().is_empty(), "written once");
    std::fs::write(app.join("visits"), "nonsense").unwrap();
    assert_eq!(crate::visits::read(&app.join("visits")), None);
}

#[tokio::test]
async fn an_app_that_nobody_visits_is_not_looked_at_but_who_comes_is_seen_without_a_nudge() {
    let mut stage = Stage::with(&["iris"], 0, "serve").await;
    stage.pass(60);
    stage.pass(1);
    assert_eq!(stage.stages("iris").len(), 0, "there is no memory for it to sleep in");
    assert!(stage.reconciler.apps["iris"].app.rests());
    let _waits = stage.demand["iris"].hold();
    stage.demand["iris"].touch(stage.reconciler.clock.now());
    stage.reconciler.tick();
    assert_eq!(stage.stages("iris").len(), 1);
}

impl Stage {
    /// Says what the apps may use together of memory.
    fn memory(&mut self, mebibytes: u64) {
        self.wanted.send_modify(|wanted| {
            let ceiling = Ceiling { memory_bytes: Some(mebibytes * MIB), ..Ceiling::default() };
            Arc::make_mut(wanted).projects.insert(1.into(), ceiling);
        });
    }

    fn held_back(&self, app: &str) -> Option<HeldBack> {
        self.observed(app).unwrap().held_back
    }
}

#[tokio::test]
async fn what_its_project_has_no_memory_for_waits_until_another_app_sleeps() {
    let mut stage = Stage::with(&["a", "b"], 9000 * MIB, "serve").await;
    stage.pass(61);
    stage.pass(61);
    assert_eq!((stage.running("a"), stage.running("b")), (0, 0));
    stage.told();
    // Each may use 512 MiB.
    stage.memory(600);
    let busy = stage.ask("a", 1);
    stage.pass(1);
    let _waits = stage.demand["b"].hold();
    stage.demand["b"].touch(stage.reconciler.clock.now());
    (0..5).for_each(|_| stage.pass(1));
    assert_eq!((stage.running("a"), stage.running("b")), (1, 0));
    let held_back = HeldBack { used: 512 * MIB, needed: 512 * MIB, limit: 600 * MIB };
    assert_eq!((stage.held_back("a"), stage.held_back("b")), (None, Some(held_back)));
    assert_eq!(stage.observed("a").unwrap().promised, 512 * MIB);
    let told = stage.told();
    let count = told.iter().filter(|what| matches!(what, Happening::HeldBack(_))).count();
    assert_eq!(count, 1, "told once: {told:?}");
    drop(busy);
    stage.pass(61);
    stage.pass(1);
    assert_eq!((stage.running("a"), stage.running("b"), stage.held_back("b")), (0, 1, None));
}

#[tokio::test]
async fn no_second_replica_is_started_beyond_what_the_project_may_use_and_an_update_is_not_kept_from_it() {
    let mut stage = Stage::with(&["iris"], 9000 * MIB, "serve").await;
    stage.rule(up_to_three);
    stage.memory(1100);
    let _busy = stage.ask("iris", 30);
    (0..5).for_each(|_| stage.pass(1));
    assert_eq!((stage.running("iris"), stage.starting("iris")), (2, 0), "a third would be too much");
    assert!(stage.held_back("iris").is_some());
    stage.memory(600);
    stage.wanted.send_modify(|wanted| {
        let app = Arc::make_mut(wanted).apps.get_mut("iris").unwrap();
        app.revision = Arc::new(Revision { id: 77.into(), ..Revision::clone(&app.revision) });
    });
    (0..40).for_each(|_| stage.pass(1));
    let replicas = stage.observed("iris").unwrap().replicas;
    assert!(replicas.iter().any(|replica| replica.revision == 77.into()), "{replicas:?}");
}
