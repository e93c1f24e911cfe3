//! Demand as a story in seconds, and what holds of every story.

use super::*;
use crate::scaling::Concurrency;
use proptest::prelude::*;

fn at(seconds: u64) -> Moment {
    Moment::from_millis(seconds * 1000)
}

/// At most twenty replicas of ten requests each, seven of which are aimed at.
fn policy() -> Policy {
    Policy { max_replicas: 20, concurrency: Concurrency::Requests(10), limit: 10, ..Policy::default() }
}

/// An app whose replicas are ready as soon as they are wanted, and gone as soon as they are not.
struct Story {
    policy: Policy,
    scaler: Scaler,
    now: u64,
    area: u64,
    capacity: u32,
    last_activity: Option<Moment>,
}

impl Story {
    fn new(policy: Policy) -> Self {
        Self { policy, scaler: Scaler::default(), now: 1000, area: 0, capacity: 0, last_activity: None }
    }

    fn situation(&self, level: u64) -> Situation {
        let demand = DemandSample {
            in_flight: level,
            last_activity: if level > 0 { Some(at(self.now)) } else { self.last_activity },
            ..DemandSample::default()
        };
        Situation {
            demand,
            load: Load { level, area: self.area },
            proven: true,
            gave_up: false,
            capacity: self.capacity,
            kept_warm: false,
            outlook: None,
            share: None,
        }
    }

    /// Decides once a second for so long, while so many requests are in flight; what was decided last.
    fn run(&mut self, level: u64, seconds: u64) -> Decision {
        (0..seconds).map(|_| self.second(level)).last().unwrap()
    }

    fn second(&mut self, level: u64) -> Decision {
        self.last_activity = self.situation(level).demand.last_activity;
        self.now += 1;
        self.area += level * 1000;
        let decided = self.scaler.decide(at(self.now), &self.policy, &self.situation(level));
        self.capacity = decided.want;
        decided
    }
}

#[test]
fn follows_the_average_demand_and_says_so() {
    let mut story = Story::new(Policy { utilisation: 14, ..policy() });
    story.capacity = 3;
    for level in [3, 3, 3, 3, 4].into_iter().cycle().take(120) {
        story.second(level);
    }
    let decided = story.second(3);
    assert_eq!(
        (decided.want, decided.why.to_string().as_str()),
        (3, "3.2 in flight over 60 s, target 1.4 per replica")
    );
}

#[test]
fn a_step_is_followed_within_a_second_and_nothing_is_scaled_in_for_a_minute_after() {
    let mut story = Story::new(policy());
    story.run(3, 100);
    let step = story.second(40);
    assert_eq!((step.want, step.panics()), (6, true));
    assert_eq!(story.run(3, 59).want, 6);
    let calm = story.run(3, 10);
    assert_eq!((calm.want, calm.panics()), (1, false));
}

#[test]
fn it_shrinks_by_half_at_a_time() {
    let mut story = Story::new(policy());
    story.run(70, 120);
    assert_eq!(story.capacity, 10);
    story.run(1, 59);
    let wants: Vec<u32> = (0..5).map(|_| story.second(1).want).collect();
    assert!(wants.windows(2).all(|pair| pair[1] >= pair[0] / 2), "{wants:?}");
}

#[test]
fn one_page_with_many_pictures_is_one_visitor() {
    let mut story = Story::new(policy());
    story.run(1, 100);
    // Twenty requests of fifty milliseconds each.
    story.area += 20 * 50;
    story.now += 1;
    let decided = story.scaler.decide(at(story.now), &story.policy, &story.situation(0));
    assert_eq!(decided.want, 1);
}

#[test]
fn replicas_that_sleep_are_thawed_for_those_who_wait_before_any_average_says_so() {
    let mut story = Story::new(policy());
    let mut seen = story.situation(0);
    seen.demand = DemandSample { held: 40, last_activity: Some(at(1000)), ..seen.demand };
    seen.load.level = 40;
    let decided = story.scaler.decide(at(1000), &story.policy, &seen);
    assert_eq!((decided.want, decided.at_once), (1, 4));
}

#[test]
fn what_sleeps_is_thawed_for_the_last_second_and_nothing_is_started_for_it() {
    let mut story = Story::new(policy());
    assert_eq!(story.run(13, 120).want, 2);
    // Less than twice what two are meant for: no sudden rise, and a lasting one takes its time to show.
    let rise = story.run(27, 1);
    assert_eq!((rise.want, rise.at_once, rise.panics()), (2, 4, false));
    assert_eq!(story.run(27, 30).want, 4);
}

#[test]
fn a_new_revision_is_begun_with_as_many_as_it_should() {
    let mut story = Story::new(Policy { initial_replicas: 3, ..policy() });
    let new = Situation { proven: false, ..story.situation(0) };
    let decided = story.scaler.decide(at(1000), &story.policy, &new);
    assert_eq!((decided.want, decided.why), (3, Why::FirstBoot));
    let given_up = Situation { gave_up: true, ..new };
    assert_eq!(story.scaler.decide(at(1000), &story.policy, &given_up).want, 0);
}

#[test]
fn a_schedule_a_minimum_and_a_foreseen_visit_keep_replicas_awake_and_say_so() {
    let mut story = Story::new(policy());
    let quiet = story.situation(0);
    let mut decide = |policy: &Policy, seen: Situation| {
        let decided = story.scaler.decide(at(1000), policy, &seen);
        (decided.want, decided.why)
    };
    assert_eq!(decide(&policy(), quiet), (0, Why::Idle));
    assert_eq!(decide(&policy(), Situation { kept_warm: true, ..quiet }), (1, Why::Schedule));
    assert_eq!(decide(&Policy { min_replicas: 2, ..policy() }, quiet), (2, Why::Minimum));
    let outlook = Outlook { keep: true, light: true, begin: true, awake: true, percent: 80, until: at(2000) };
    let expected = Situation { outlook: Some(outlook), ..quiet };
    assert_eq!(decide(&policy(), expected), (1, Why::Foreseen { percent: 80 }));
}

#[test]
fn gets_no_more_than_its_share() {
    let mut story = Story::new(policy());
    story.run(50, 100);
    let crowded = Situation { share: Some(2), ..story.situation(50) };
    let decided = story.scaler.decide(at(story.now), &story.policy, &crowded);
    assert!(
        decided.want == 2 && decided.why.to_string().ends_with("its share of the machine"),
        "{decided:?}"
    );
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (0u32..4, 1u32..12, 1u32..30, 10u32..=100).prop_map(|(min, max, target, utilisation)| Policy {
        min_replicas: min,
        max_replicas: max,
        concurrency: Concurrency::Requests(target),
        utilisation,
        ..Policy::default()
    })
}

fn any_story() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0u64..100, 1u64..90), 1..8)
}

proptest! {
    #[test]
    fn what_is_decided_is_within_bounds(policy in any_policy(), levels in any_story()) {
        let mut story = Story::new(policy.clone());
        for (level, seconds) in levels {
            for _ in 0..seconds {
                let decided = story.second(level);
                prop_assert!(decided.want >= policy.min_replicas && decided.want <= policy.most());
                prop_assert!(level == 0 || decided.want >= 1);
                prop_assert!(decided.again_at.is_none_or(|again| again > at(story.now)));
            }
        }
    }

    #[test]
    fn more_demand_never_means_fewer(policy in any_policy(), levels in any_story(), extra in 1u64..20) {
        let (mut less, mut more) = (Story::new(policy.clone()), Story::new(policy));
        for (level, seconds) in levels {
            for _ in 0..seconds {
                // From the same replicas, so that only demand differs.
                more.capacity = less.capacity;
                let (few, many) = (less.second(level), more.second(level + extra));
                prop_assert!(many.want >= few.want, "{few:?} {many:?}");
            }
        }
    }

    #[test]
    fn constant_demand_gets_a_constant_answer(policy in any_policy(), level in 0u64..200, before in any_story()) {
        let mut story = Story::new(policy);
        for (level, seconds) in before {
            story.run(level, seconds);
        }
        // Two windows and the minutes until idle.
        let settled = story.run(level, 300).want;
        for _ in 0..100 {
            prop_assert_eq!(story.second(level).want, settled);
        }
    }

    #[test]
    fn after_silence_all_but_the_minimum_go(policy in any_policy(), levels in any_story()) {
        let mut story = Story::new(policy.clone());
        for (level, seconds) in levels {
            story.run(level, seconds);
        }
        let silent = story.run(0, 1 + policy.idle_after.as_secs());
        prop_assert_eq!(silent.want, policy.min_replicas);
        prop_assert_eq!(story.scaler.window.average(at(story.now), policy.stable_window), 0);
    }

    #[test]
    fn a_panic_never_scales_down(policy in any_policy(), levels in any_story()) {
        let mut story = Story::new(policy);
        let mut before: Option<Decision> = None;
        for (level, seconds) in levels {
            for _ in 0..seconds {
                let decided = story.second(level);
                if decided.panics() && before.is_some_and(|before| before.panics()) {
                    prop_assert!(decided.want >= before.unwrap().want);
                }
                before = Some(decided);
            }
        }
    }

    #[test]
    fn samples_of_the_same_moment_may_come_in_any_order(
        levels in any_story(), mut samples in prop::collection::vec((0u64..50, 0u64..5_000), 2..6),
    ) {
        let mut one = Story::new(policy());
        for (level, seconds) in levels {
            one.run(level, seconds);
        }
        // What a meter shows within one moment: levels in any order, and areas that only the clock makes grow.
        let area = one.area;
        let mut other = Story { scaler: one.scaler.clone(), policy: policy(), ..one };
        let decide = |story: &mut Story, samples: &[(u64, u64)]| {
            for (level, _) in samples {
                let seen = Situation { load: Load { level: *level, area }, ..story.situation(*level) };
                story.scaler.decide(at(story.now), &story.policy, &seen);
            }
            let last = story.situation(7);
            story.scaler.decide(at(story.now), &story.policy, &Situation { load: Load { level: 7, area }, ..last })
        };
        let mut first = Story { scaler: other.scaler.clone(), policy: policy(), ..other };
        let forward = decide(&mut first, &samples);
        samples.reverse();
        let backward = decide(&mut other, &samples);
        prop_assert_eq!(forward, backward);
    }

    #[test]
    fn every_number_is_fine(
        numbers in prop::array::uniform7(any::<u32>()), levels in prop::collection::vec(any::<u64>(), 1..5),
    ) {
        let [min, max, target, utilisation, threshold, up, down] = numbers;
        let policy = Policy {
            min_replicas: min, max_replicas: max, concurrency: Concurrency::Sessions(target), utilisation,
            panic_threshold: threshold, max_up_rate: up, max_down_rate: down, limit: target, ..Policy::default()
        };
        let mut scaler = Scaler::default();
        for (step, level) in levels.into_iter().enumerate() {
            let mut seen = Story::new(policy.clone()).situation(1);
            seen.load = Load { level, area: level };
            seen.capacity = max;
            let decided = scaler.decide(Moment::from_millis(step as u64 * 700), &policy, &seen);
            prop_assert!(decided.want <= policy.most());
        }
    }
}
