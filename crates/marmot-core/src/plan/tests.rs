//! The life of an app as a table: facts in, orders out.

use std::time::Duration;

use super::*;
use crate::demand::Load;
use crate::scaling::{Concurrency, Scaler, Situation};
use proptest::prelude::*;

const V1: u128 = 1;
const V2: u128 = 2;

fn at(seconds: u64) -> Moment {
    Moment::from_millis(seconds * 1000)
}

fn id(n: u128) -> ReplicaId {
    ReplicaId::from(n)
}

fn replica(n: u128, stage: Stage, since: u64) -> ReplicaFacts {
    ReplicaFacts {
        id: id(n),
        revision: V1.into(),
        stage,
        since: at(since),
        inside: 0,
        sessions: 0,
        last_session: None,
        asked_for: false,
        retiring: None,
        last_used: at(since),
        busy: false,
        light: false,
    }
}

fn used(at_second: u64) -> DemandSample {
    DemandSample { last_activity: Some(at(at_second)), ..DemandSample::default() }
}

fn held(requests: u64) -> DemandSample {
    DemandSample { held: requests, ..used(100) }
}

fn policy() -> Policy {
    Policy { idle_after: Duration::from_secs(60), stop_after: Duration::from_secs(3600), ..Policy::default() }
}

fn app(demand: DemandSample, replicas: &[ReplicaFacts]) -> AppFacts<'_> {
    let failures = Failures::default();
    AppFacts { wanted: Some(V1.into()), proven: true, demand, replicas, failures, outlook: None }
}

/// What is decided when demand has been as it is for a minute.
fn decide(now: u64, policy: &Policy, app: &AppFacts<'_>) -> Decision {
    if app.wanted.is_none() {
        return Decision::OFF;
    }
    let mut scaler = Scaler::default();
    let level = match policy.concurrency {
        Concurrency::Requests(_) => app.demand.in_flight + app.demand.held,
        Concurrency::Sessions(_) => app.demand.sessions + app.demand.held,
    };
    let mut decided = Decision::OFF;
    for second in now.saturating_sub(60)..=now {
        let situation = Situation {
            demand: app.demand,
            load: Load { level, area: level * second * 1000 },
            proven: app.proven,
            gave_up: app.failures.gave_up(app.proven),
            capacity: app.capacity(at(now)),
            kept_warm: false,
            outlook: app.outlook,
            share: None,
        };
        decided = scaler.decide(at(second), policy, &situation);
    }
    decided
}

fn planned(now: u64, policy: &Policy, app: &AppFacts<'_>) -> Plan {
    plan(at(now), policy, app, &decide(now, policy, app))
}

fn orders(now: u64, app: &AppFacts<'_>) -> Vec<Order> {
    planned(now, &policy(), app).orders
}

#[test]
fn a_new_revision_is_booted_without_waiting_for_a_request() {
    let new = AppFacts { proven: false, ..app(DemandSample::default(), &[]) };
    assert_eq!(orders(0, &new), [Order::Start]);
    let booting = [replica(1, Stage::Starting, 0)];
    assert_eq!(orders(1, &AppFacts { replicas: &booting, ..new }), []);
}

#[test]
fn after_a_restart_of_the_server_an_app_that_slept_sleeps_on() {
    assert_eq!(orders(0, &app(DemandSample::default(), &[])), []);
}

#[test]
fn a_hundred_requests_to_a_sleeping_app_start_one_replica() {
    assert_eq!(orders(100, &app(held(100), &[])), [Order::Start]);
    assert_eq!(orders(101, &app(held(100), &[replica(1, Stage::Starting, 100)])), []);
}

#[test]
fn stays_warm_until_the_idle_limit_then_hibernates_then_stops() {
    let running = [replica(1, Stage::Running, 100)];
    let warm = planned(159, &policy(), &app(used(100), &running));
    assert_eq!((warm.orders, warm.again_at), (vec![], Some(at(160))));
    assert_eq!(decide(159, &policy(), &app(used(100), &running)).why, Why::StillWarm);
    assert_eq!(orders(160, &app(used(100), &running)), [Order::Hibernate(id(1))]);
    let hibernated = [replica(1, Stage::Hibernated, 160)];
    assert_eq!(orders(3759, &app(used(100), &hibernated)), []);
    assert_eq!(orders(3760, &app(used(100), &hibernated)), [Order::Stop(id(1))]);
}

#[test]
fn one_that_sleeps_lightly_sleeps_deeper_later_or_when_no_visit_is_likely_soon() {
    let policy = Policy { deepen_after: Duration::from_secs(600), ..policy() };
    let light = [ReplicaFacts { light: true, ..replica(1, Stage::Hibernated, 160) }];
    let asleep = app(used(100), &light);
    let before = planned(759, &policy, &asleep);
    assert_eq!((before.orders, before.again_at), (vec![], Some(at(760))));
    assert_eq!(planned(760, &policy, &asleep).orders, [Order::Deepen(id(1))]);
    let deep = [replica(1, Stage::Hibernated, 160)];
    assert_eq!(planned(760, &policy, &app(used(100), &deep)).orders, []);

    let foreseen = |light| {
        let outlook = Outlook { keep: true, light, begin: false, awake: false, percent: 3, until: at(9000) };
        AppFacts { outlook: Some(outlook), ..asleep.clone() }
    };
    // Not at once: whoever has just left may have forgotten something.
    assert_eq!(planned(279, &policy, &foreseen(false)).orders, []);
    assert_eq!(planned(280, &policy, &foreseen(false)).orders, [Order::Deepen(id(1))]);
    assert_eq!(planned(2000, &policy, &foreseen(true)).orders, []);
}

#[test]
fn one_that_is_woken_this_moment_goes_nowhere() {
    let sleeper = [ReplicaFacts { light: true, ..replica(1, Stage::Hibernated, 160) }];
    assert_eq!(orders(99_000, &app(held(1), &sleeper)), [Order::Wake(id(1))]);
}

#[test]
fn where_freezing_is_not_possible_an_idle_replica_is_drained() {
    let policy = Policy { can_hibernate: false, ..policy() };
    let facts = [replica(1, Stage::Running, 100)];
    // The last one is kept a little longer: it cannot be back in milliseconds.
    assert_eq!(planned(189, &policy, &app(used(100), &facts)).orders, []);
    assert_eq!(planned(190, &policy, &app(used(100), &facts)).orders, [Order::Drain(id(1))]);
}

#[test]
fn somebody_may_put_it_to_sleep_at_once_and_the_next_request_wakes_it() {
    let running = [replica(1, Stage::Running, 100)];
    let rested = DemandSample { put_to_rest: Some(at(101)), ..used(100) };
    assert_eq!(orders(102, &app(rested, &running)), [Order::Hibernate(id(1))]);
    let asked = DemandSample { held: 1, last_activity: Some(at(103)), ..rested };
    assert_eq!(orders(103, &app(asked, &[replica(1, Stage::Hibernated, 102)])), [Order::Wake(id(1))]);
}

#[test]
fn a_replica_that_is_used_or_computes_is_not_idle() {
    let inside = [ReplicaFacts { inside: 1, ..replica(1, Stage::Running, 100) }];
    assert_eq!(orders(500, &app(used(100), &inside)), []);
    let busy = [ReplicaFacts { busy: true, ..replica(1, Stage::Running, 100) }];
    assert_eq!(orders(500, &app(used(100), &busy)), []);
}

#[test]
fn scales_out_with_the_load_and_thaws_before_it_starts() {
    let policy = Policy { concurrency: Concurrency::Requests(10), max_replicas: 3, ..policy() };
    let replicas = [replica(1, Stage::Running, 0), replica(2, Stage::Hibernated, 50)];
    let busy = DemandSample { in_flight: 10, held: 35, ..used(100) };
    assert_eq!(planned(100, &policy, &app(busy, &replicas)).orders, [Order::Wake(id(2)), Order::Start]);
    let decided = decide(100, &policy, &app(busy, &replicas));
    assert_eq!(
        (decided.want, decided.why.to_string().as_str()),
        (3, "45 in flight over 6 s, target 7 per replica, a sudden rise, its maximum")
    );
}

#[test]
fn only_the_replicas_not_needed_for_the_load_rest() {
    let policy = Policy { concurrency: Concurrency::Requests(10), max_replicas: 3, ..policy() };
    let replicas = [
        ReplicaFacts { inside: 3, last_used: at(200), ..replica(1, Stage::Running, 0) },
        replica(2, Stage::Running, 100),
    ];
    let load = DemandSample { in_flight: 3, ..used(200) };
    assert_eq!(planned(159, &policy, &app(load, &replicas)).orders, [Order::Retire(id(2))]);
    let retiring = [replicas[0].clone(), ReplicaFacts { retiring: Some(at(159)), ..replicas[1].clone() }];
    assert_eq!(planned(160, &policy, &app(load, &retiring)).orders, [Order::Hibernate(id(2))]);
}

#[test]
fn switched_off_everything_drains_and_is_stopped_when_empty_or_late() {
    fn off(replicas: &[ReplicaFacts]) -> AppFacts<'_> {
        AppFacts { wanted: None, ..app(used(100), replicas) }
    }
    let alive =
        [replica(1, Stage::Running, 0), replica(2, Stage::Hibernated, 0), replica(3, Stage::Starting, 99)];
    assert_eq!(orders(100, &off(&alive)), [Order::Drain(id(1)), Order::Stop(id(2)), Order::Stop(id(3))]);
    let draining = [ReplicaFacts { inside: 1, ..replica(1, Stage::Draining, 100) }];
    assert_eq!(orders(129, &off(&draining)), []);
    assert_eq!(orders(130, &off(&draining)), [Order::Stop(id(1))]);
    assert_eq!(orders(101, &off(&[replica(1, Stage::Draining, 100)])), [Order::Stop(id(1))]);
}

#[test]
fn an_update_starts_beside_the_old_revision_which_serves_until_the_new_one_does() {
    fn update(replicas: &[ReplicaFacts]) -> AppFacts<'_> {
        AppFacts { wanted: Some(V2.into()), proven: false, ..app(held(1), replicas) }
    }
    let new = |stage| ReplicaFacts { revision: V2.into(), ..replica(2, stage, 100) };
    let old = replica(1, Stage::Running, 0);
    assert_eq!(orders(100, &update(std::slice::from_ref(&old))), [Order::Start]);
    assert_eq!(orders(101, &update(&[old.clone(), new(Stage::Starting)])), []);
    assert_eq!(orders(102, &update(&[old, new(Stage::Running)])), [Order::Drain(id(1))]);
}

#[test]
fn an_update_that_cannot_boot_leaves_the_old_revision_serving() {
    let mut failures = Failures::default();
    (0..3).for_each(|_| failures.ended(at(100), None));
    let old = [replica(1, Stage::Running, 0)];
    let failed = AppFacts {
        wanted: Some(V2.into()),
        proven: false,
        failures,
        ..app(DemandSample { in_flight: 1, ..used(101) }, &old)
    };
    assert_eq!(orders(101, &failed), []);
}

#[test]
fn a_start_that_takes_too_long_has_failed() {
    let slow = [replica(1, Stage::Starting, 0)];
    assert_eq!(orders(119, &app(held(1), &slow)), []);
    assert_eq!(orders(120, &app(held(1), &slow)), [Order::FailStart(id(1))]);
}

#[test]
fn a_crash_loop_waits_and_after_giving_up_one_request_may_try_again_later() {
    let mut failures = Failures::default();
    (0..2).for_each(|_| failures.ended(at(100), None));
    let waiting = planned(100, &policy(), &AppFacts { failures, ..app(held(9), &[]) });
    assert_eq!((waiting.orders, waiting.again_at), (vec![], Some(at(101))));
    (0..3).for_each(|_| failures.ended(at(110), None));
    assert_eq!(orders(200, &AppFacts { failures, ..app(held(9), &[]) }), []);
    assert_eq!(orders(410, &AppFacts { failures, ..app(held(9), &[]) }), [Order::Start]);
    // A request that is answered with the reason at once asks too, if it comes late enough.
    assert_eq!(orders(411, &AppFacts { failures, ..app(used(411), &[]) }), [Order::Start]);
    assert_eq!(orders(411, &AppFacts { failures, ..app(used(409), &[]) }), []);
}

#[test]
fn visitors_of_a_revision_that_is_replaced_stay_as_long_as_a_drain_may_take() {
    let update = |now, sessions| {
        let old = ReplicaFacts { sessions, ..replica(1, Stage::Draining, 100) };
        let new = ReplicaFacts { revision: V2.into(), ..replica(2, Stage::Running, 100) };
        orders(now, &AppFacts { wanted: Some(V2.into()), ..app(used(100), &[old, new]) })
    };
    assert_eq!(update(101, 1), []);
    assert_eq!(update(101, 0), [Order::Stop(id(1))]);
    assert_eq!(update(130, 1), [Order::Stop(id(1))]);
    // One that is only put to rest was silent for long: what it has open ends at once.
    let rested = [ReplicaFacts { sessions: 1, ..replica(1, Stage::Draining, 100) }];
    assert_eq!(orders(101, &app(used(100), &rested)), [Order::Stop(id(1))]);
}

fn any_replica() -> impl Strategy<Value = ReplicaFacts> {
    let stage = prop_oneof![
        Just(Stage::Starting),
        Just(Stage::Running),
        Just(Stage::Hibernated),
        Just(Stage::Draining)
    ];
    (0u128..6, prop_oneof![Just(V1), Just(V2)], stage, 0u64..300, 0u64..4, 0u64..300, any::<bool>()).prop_map(
        |(n, revision, stage, since, inside, last_used, busy)| ReplicaFacts {
            id: id(n),
            revision: revision.into(),
            stage,
            since: at(since),
            inside: if stage == Stage::Running || stage == Stage::Draining { inside } else { 0 },
            sessions: inside / 2,
            last_session: None,
            asked_for: stage == Stage::Hibernated && inside == 3,
            retiring: (inside == 2).then_some(at(since)),
            last_used: at(last_used),
            busy,
            light: stage == Stage::Hibernated && n % 2 == 0,
        },
    )
}

fn any_replicas() -> impl Strategy<Value = Vec<ReplicaFacts>> {
    prop::collection::vec(any_replica(), 0..6).prop_map(|mut replicas| {
        replicas.sort_by_key(|replica| replica.id);
        replicas.dedup_by_key(|replica| replica.id);
        replicas
    })
}

proptest! {
    #[test]
    fn orders_fit_the_facts(
        replicas in any_replicas(), in_flight in 0u64..50, waiting in 0u64..50, now in 0u64..400, max in 1u32..4,
    ) {
        let policy = Policy { max_replicas: max, concurrency: Concurrency::Requests(5), ..policy() };
        let policy = Policy { deepen_after: Duration::from_secs(100), ..policy };
        let demand = DemandSample { in_flight, held: waiting, ..used(now / 2) };
        let plan = planned(now, &policy, &app(demand, &replicas));
        let starts = plan.orders.iter().filter(|order| **order == Order::Start).count();
        let of_revision = replicas.iter().filter(|replica| replica.revision == V1.into()).count();
        prop_assert!(starts == 0 || of_revision + starts <= max as usize);
        prop_assert!(decide(now, &policy, &app(demand, &replicas)).want <= max);
        for order in &plan.orders {
            let stage = |id| replicas.iter().find(|replica| replica.id == id).expect("known replica");
            match *order {
                Order::Start => {}
                Order::Wake(id) => prop_assert_eq!(stage(id).stage, Stage::Hibernated),
                Order::Hibernate(id) => {
                    prop_assert!(stage(id).stage == Stage::Running && stage(id).inside == 0 && !stage(id).busy);
                }
                Order::Retire(id) | Order::Keep(id) | Order::Drain(id) => {
                    prop_assert_eq!(stage(id).stage, Stage::Running);
                }
                Order::Deepen(id) => {
                    prop_assert!(stage(id).stage == Stage::Hibernated && stage(id).light);
                    prop_assert!(!plan.orders.contains(&Order::Wake(id)));
                }
                Order::Stop(id) => {
                    prop_assert!(stage(id).stage != Stage::Running);
                    prop_assert!(!plan.orders.contains(&Order::Wake(id)));
                }
                Order::FailStart(id) => prop_assert_eq!(stage(id).stage, Stage::Starting),
            }
        }
        prop_assert!(plan.again_at.is_none_or(|again| again > at(now)));
    }

    #[test]
    fn the_order_of_the_facts_does_not_matter(replicas in any_replicas(), waiting in 0u64..50) {
        let sorted = |orders: Vec<Order>| {
            let mut texts: Vec<_> = orders.iter().map(|order| format!("{order:?}")).collect();
            texts.sort();
            texts
        };
        let reversed: Vec<_> = replicas.iter().rev().cloned().collect();
        prop_assert_eq!(
            sorted(orders(200, &app(held(waiting), &replicas))),
            sorted(orders(200, &app(held(waiting), &reversed)))
        );
    }
}
