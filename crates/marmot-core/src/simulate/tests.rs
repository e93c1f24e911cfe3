//! Small traces whose cost can be told by hand, and the comparison on a small synthetic one.

use std::time::Duration;

use super::synthetic::{Synthetic, make};
use super::*;

const MINUTE: u64 = 60_000;

/// One app of the first kind, asked at these minutes.
fn visits(minutes: &[u64], end: u64) -> Trace {
    let arrival = |minute: &u64| Arrival { at: minute * MINUTE, app: 0, duration: 1, sessions: 0 };
    let arrivals = minutes.iter().map(arrival).collect();
    Trace { apps: vec![("iris".to_owned(), KINDS[0])], arrivals, end: end * MINUTE }.in_order()
}

#[test]
fn kept_for_ten_minutes_it_costs_its_memory_meanwhile_and_boots_after() {
    let trace = visits(&[0, 5, 16], 60);
    let report = run(&trace, Keeping::Fixed(Duration::from_secs(600)));
    assert_eq!((report.running, report.cold, report.boots), (1, 2, 2));
    // Five and ten minutes, then ten.
    let hours = 25.0 / 60.0;
    assert!((report.gb_hours() - 0.132 * hours).abs() < 0.001, "{}", report.gb_hours());
    assert_eq!(report.waits, [610, 610]);
}

#[test]
fn on_the_ladder_it_hibernates_after_two_minutes_and_wakes_in_milliseconds() {
    let trace = visits(&[0, 60], 62);
    let report = run(&trace, Keeping::marmot());
    assert_eq!((report.cold, report.hibernated, report.waits.clone()), (1, 1, vec![2, 610]));
    let gb_hours = 4.0 / 60.0 * 0.132 + 58.0 / 60.0 * 0.057;
    assert!((report.gb_hours() - gb_hours).abs() < 0.001, "{} {gb_hours}", report.gb_hours());
    assert_eq!((report.waiting(0.5), report.waiting(1.0)), (2, 610));
}

#[test]
fn deep_it_costs_less_and_wakes_in_tens_of_milliseconds() {
    let trace = visits(&[0, 600], 602);
    let report = run(&trace, Keeping::marmot());
    assert_eq!((report.cold, report.deep, report.waits.clone()), (1, 1, vec![19, 610]));
    // Four hours lightly, the rest deep.
    let (light, deep) = (4.0 * 0.057, (598.0 / 60.0 - 4.0) * 0.047);
    assert!((report.memory.light - light).abs() < 0.001, "{:?}", report.memory);
    assert!((report.memory.deep - deep).abs() < 0.001, "{:?}", report.memory);
}

/// What is said in docs/scaling.md of two weeks and 2,000 apps, on less.
#[test]
fn with_its_cold_part_on_a_disk_it_has_a_twentieth_of_the_cold_starts_at_the_memory_of_ten_minutes() {
    let mut trace = make(Synthetic { apps: 200, days: 7, arrivals: 20_000, seed: 1 });
    trace.apps.iter_mut().for_each(|(_, kind)| *kind = kind.on_disk());
    let fixed = run(&trace, Keeping::Fixed(Duration::from_secs(600)));
    let Keeping::Marmot { idle_after, deepen_after, foresight, .. } = Keeping::marmot().thrifty() else {
        unreachable!("it is Marmot's")
    };
    let stop_after = Duration::from_secs(365 * 86_400);
    let marmot = run(&trace, Keeping::Marmot { idle_after, deepen_after, stop_after, foresight });
    assert!(marmot.gb_hours() <= fixed.gb_hours(), "{:?} {:?}", marmot.memory, fixed.memory);
    assert!(marmot.cold * 20 <= fixed.cold, "{} of {}", marmot.cold, fixed.cold);
}

#[test]
fn many_at_once_share_one_boot() {
    let trace = visits(&[1; 30], 10);
    let report = run(&trace, Keeping::Knative);
    assert_eq!((report.boots, report.cold), (1, 30));
}

#[test]
fn a_replay_is_the_same_each_time() {
    let trace = make(Synthetic { apps: 50, days: 3, arrivals: 5_000, seed: 3 });
    assert_eq!(run(&trace, Keeping::marmot()), run(&trace, Keeping::marmot()));
}

#[test]
fn every_arrival_is_answered_under_every_policy() {
    let trace = make(Synthetic { apps: 100, days: 4, arrivals: 20_000, seed: 5 });
    for keeping in
        [Keeping::Fixed(Duration::from_secs(600)), Keeping::Knative, Keeping::Hybrid, Keeping::marmot()]
    {
        let report = run(&trace, keeping);
        // Those of the last moments are still under way.
        assert!(report.arrivals() + 20 >= trace.arrivals.len() as u64, "{keeping:?} {report:?}");
    }
}
