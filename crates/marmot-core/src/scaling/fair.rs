//! Who may start a replica when many want to at once: an order, a bounded number of simultaneous boots, no starvation.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Moment;

/// Whoever has waited this long comes before all others, whatever it waits for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a start is for. The first comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Somebody waits, and no replica serves.
    FirstForSomebody,
    /// A replica serves; more are needed for the load.
    More,
    /// Nobody waits: a new revision, a minimum, a schedule, a visit that is expected.
    Ahead,
}

/// The line in which apps wait to start replicas.
#[derive(Debug, Clone)]
pub struct Line<App: Ord> {
    waiting: BTreeMap<App, (Need, Moment)>,
}

impl<App: Ord> Default for Line<App> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new() }
    }
}

impl<App: Ord + Clone> Line<App> {
    /// Puts an app in the line. One that stands in it keeps its place, also when it needs something else now.
    pub fn ask(&mut self, now: Moment, app: &App, need: Need) {
        let place = self.waiting.entry(app.clone()).or_insert((need, now));
        place.0 = need;
    }

    /// Takes an app out of the line: it needs nothing any more, or its turn has come.
    pub fn leave(&mut self, app: &App) {
        self.waiting.remove(app);
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The apps whose turn it is while `free` replicas may begin to boot.
    ///
    /// By need, then by how long they have waited; those who ran out of patience first of all. An app that has had its
    /// turn and needs more stands at the end again, so that none takes all the turns.
    pub fn turns(&self, now: Moment, free: usize) -> Vec<App> {
        let mut line: Vec<_> = self.waiting.iter().collect();
        line.sort_by_key(|(app, (need, since))| {
            let impatient = now - *since >= PATIENCE;
            (!impatient, if impatient { None } else { Some(*need) }, *since, (*app).clone())
        });
        line.into_iter().take(free).map(|(app, _)| app.clone()).collect()
    }
}

/// Shares `seats` among those who want some: nobody gets more than wanted, and nobody has more than one above another
/// who wants more than that one has.
pub fn shares(seats: u32, wants: &[u32]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..wants.len()).collect();
    order.sort_by_key(|&who| (wants[who], who));
    let (mut given, mut left) = (vec![0; wants.len()], seats);
    for (served, &who) in order.iter().enumerate() {
        let others = u32::try_from(order.len() - served).unwrap_or(u32::MAX);
        // What does not divide evenly goes to those who want the most, who come last.
        given[who] = wants[who].min(left / others);
        left -= given[who];
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    #[test]
    fn whoever_waits_for_a_first_replica_comes_before_those_who_want_more() {
        let mut line = Line::default();
        line.ask(at(0), &"busy", Need::More);
        line.ask(at(0), &"prepared", Need::Ahead);
        line.ask(at(5), &"second", Need::FirstForSomebody);
        line.ask(at(4), &"first", Need::FirstForSomebody);
        assert_eq!(line.turns(at(5), 9), ["first", "second", "busy", "prepared"]);
        assert_eq!(line.turns(at(5), 1), ["first"]);
        assert_eq!(line.turns(at(5), 0).len(), 0);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let mut line = Line::default();
        line.ask(at(0), &0, Need::Ahead);
        let mut turns = 0;
        // Every second another app comes whose need is more pressing, and one turn a second.
        for second in 1..=40 {
            line.ask(at(second), &second, Need::FirstForSomebody);
            for app in line.turns(at(second), 1) {
                line.leave(&app);
                if app == 0 {
                    turns = second;
                }
            }
        }
        assert_eq!(turns, 30);
    }

    #[test]
    fn shares_are_even_and_nobody_gets_more_than_wanted() {
        assert_eq!(shares(10, &[1, 9, 9]), [1, 4, 5]);
        assert_eq!(shares(2, &[5, 5, 5]), [0, 1, 1]);
        assert_eq!(shares(100, &[3, 0, 7]), [3, 0, 7]);
    }

    proptest! {
        #[test]
        fn all_is_given_and_fairly(seats in 0u32..50, wants in prop::collection::vec(0u32..20, 0..8)) {
            let given = shares(seats, &wants);
            prop_assert_eq!(given.iter().sum::<u32>(), seats.min(wants.iter().sum()));
            for (mine, want) in given.iter().zip(&wants) {
                prop_assert!(mine <= want);
                prop_assert!(mine == want || given.iter().all(|other| *other <= mine + 1));
            }
        }
    }
}
