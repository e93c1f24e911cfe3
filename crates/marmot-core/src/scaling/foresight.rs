//! What past visits say about the next: how long it pays to stay hibernated, and when to be ready before a visit.
//!
//! After the hybrid histogram of "Serverless in the Wild" (Shahrad et al., USENIX ATC '20): the gaps between visits in
//! bins of a minute over four hours tell how likely the next visit is at each age of a silence. Longer gaps fall out of
//! their bounds; there, instead of a time series per app, the hours of the week do: in how many of the last eight weeks
//! somebody came in this hour. So the dashboard of a Monday morning is ready although a weekend lies before it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Policy;
use crate::Moment;

/// Gaps longer than this are out of bounds, in minutes.
const BOUND: usize = 240;
/// Hours in a week.
const HOURS: usize = 168;
/// Visits nearer to each other than this are one.
const VISIT: u64 = 60;
/// With fewer gaps than this nothing is foreseen.
const FEW: u32 = 4;
/// What is known from elsewhere counts as much as so many gaps of the app's own.
const WEIGHT: f64 = 2.0;
/// A silence of which nothing is known ends within its next hour with this chance, divided by its age in hours: people
/// come back soon or late, at all scales.
const PRIOR: f64 = 0.5;
/// The weekdays on which the epoch's first hours fell: the first of January 1970 was a Thursday.
const EPOCH_HOUR: u64 = 3 * 24;
/// How far ahead it is looked for a change of the answer, at most.
const HORIZON: u64 = 24 * 3600;
/// To begin a replica for a visit that does not come costs a boot: the chance must be at least this.
const WORTH_A_BOOT: f64 = 0.2;
/// Seconds between two looks ahead.
const STEP: u64 = 900;
/// A replica is woken before a visit that is at least this likely within the next hour.
const WORTH_WAKING: f64 = 0.5;

/// Seconds since the epoch, in UTC: what hours of the week are told by. Told by the edge.
pub type Wall = u64;

/// When an app was used, as far as it helps to tell when it will be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// When it was last used.
    last: Option<Wall>,
    /// How many gaps were at least so many minutes long. Empty before the first.
    survivors: Vec<u32>,
    /// For each hour of the week, whether somebody came in the last weeks: the newest in the lowest bit. Empty before
    /// the first visit.
    weeks: Vec<u8>,
    /// The first hour since the epoch that is known.
    began: u64,
    /// The hour since the epoch up to which `weeks` is filled.
    filled: u64,
    /// Somebody came in that hour.
    visited: bool,
}

/// What to do in a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// A replica should exist, hibernated at least.
    pub keep: bool,
    /// One that is hibernated should be ready to wake at once: a visit is likely enough.
    pub light: bool,
    /// One that does not exist should be begun: the chance of a visit is worth a boot.
    pub begin: bool,
    /// One should be awake for a moment: a visit is about to come.
    pub awake: bool,
    /// The chance of a visit within the next hour, in percent.
    pub percent: u8,
    /// Until when that holds, if nobody comes before.
    pub until: Moment,
}

/// What holds at a moment of a silence; see [`Outlook`].
#[derive(Clone, Copy, PartialEq, Eq)]
struct Judged {
    keep: bool,
    begin: bool,
    light: bool,
    awake: bool,
}

impl History {
    /// Notes that somebody uses the app. Times must not go back; one that does counts as the last.
    pub fn note(&mut self, at: Wall) {
        let hour = at / 3600;
        if self.weeks.is_empty() {
            (self.weeks, self.survivors) = (vec![0; HOURS], vec![0; BOUND + 1]);
            (self.began, self.filled) = (hour, hour);
        }
        self.fill(hour);
        self.visited |= hour >= self.filled;
        if let Some(last) = self.last
            && at >= last + VISIT
        {
            let minutes = usize::try_from((at - last) / 60).unwrap_or(BOUND).min(BOUND);
            self.survivors[..=minutes].iter_mut().for_each(|count| *count += 1);
            // What was long ago fades.
            if self.survivors[0] >= 2_000 {
                self.survivors.iter_mut().for_each(|count| *count /= 2);
            }
        }
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
    }

    /// Fills in the hours up to this one.
    fn fill(&mut self, hour: u64) {
        const KNOWN: u64 = 8 * HOURS as u64;
        if hour > self.filled + KNOWN {
            // After eight silent weeks nothing else is known.
            self.weeks.fill(0);
            (self.began, self.filled, self.visited) = (hour - KNOWN, hour, false);
        }
        while self.filled < hour {
            let week = &mut self.weeks[slot(self.filled)];
            *week = *week << 1 | u8::from(self.visited);
            self.visited = false;
            self.filled += 1;
        }
    }

    /// Gaps between visits that are remembered.
    pub fn gaps(&self) -> u32 {
        self.survivors.first().copied().unwrap_or(0)
    }

    /// How many of the last weeks are known of an hour of the week.
    fn trials(&self, slot: usize) -> u32 {
        let known = self.filled - self.began;
        let first = (slot + HOURS - self::slot(self.began)) % HOURS;
        let times = known.saturating_sub(first as u64).div_ceil(HOURS as u64);
        u32::try_from(times.min(8)).unwrap_or(8)
    }

    /// In how many of the known hours at these places of the week somebody came, and how many are known.
    fn hits(&self, slots: impl Iterator<Item = usize>) -> (f64, f64) {
        slots.fold((0.0, 0.0), |(hits, trials), slot| {
            (hits + f64::from(self.weeks[slot].count_ones()), trials + f64::from(self.trials(slot)))
        })
    }

    /// The chance that somebody comes in this hour since the epoch, as the last weeks tell: this hour of the week, this
    /// hour of such days, and any hour, which is given.
    fn chance_by_hour(&self, hour: u64, any: f64) -> f64 {
        let slot = slot(hour);
        let (day, of_day) = (slot / 24, slot % 24);
        let days = if day < 5 { 0..5 } else { 5..7 };
        let such_days = shrunk(self.hits(days.map(|day| day * 24 + of_day)), any);
        shrunk(self.hits(std::iter::once(slot)), such_days)
    }

    /// The chance that somebody comes within so many minutes, an hour at most, after `at`, when nobody has since `last`.
    fn chance(&self, last: Wall, at: Wall, within: usize, by_hour: &mut dyn FnMut(u64) -> f64) -> f64 {
        let (hour, into) = (at / 3600, (at % 3600) as f64 / 3600.0);
        let whole = by_hour(hour) * (1.0 - into) + by_hour(hour + 1) * into;
        let by_hour = if within == 60 { whole } else { whole * within as f64 / 60.0 };
        let minutes = usize::try_from((at - last) / 60).unwrap_or(BOUND);
        if minutes >= BOUND {
            return by_hour;
        }
        let (so_long, longer) = (self.survivors[minutes], self.survivors[(minutes + within).min(BOUND)]);
        let ended = f64::from(so_long - longer);
        (ended + WEIGHT * by_hour) / (f64::from(so_long) + WEIGHT)
    }

    /// What to do at `now`, which is `wall` on the clock, when nobody has used the app since the last visit that was
    /// noted. `None` while too little is known.
    ///
    /// How long a replica would stay hibernated, and how long lightly, if nothing were known says what that is worth. One
    /// that holds `weight` times the usual memory must be so much more likely to be used.
    pub fn outlook(&mut self, now: Moment, wall: Wall, policy: &Policy, weight: f64) -> Option<Outlook> {
        let last = self.last.filter(|_| self.gaps() >= FEW)?;
        let wall = wall.max(last);
        self.fill(wall / 3600);
        let least = least_chance(60, policy.stop_after, weight);
        let soon = usize::try_from(policy.deepen_after.as_secs() / 60).unwrap_or(60).min(60);
        let least_light = least_chance(soon, policy.deepen_after, 1.0);
        let any = shrunk(self.hits(0..HOURS), 0.0);
        let mut known = [None; HORIZON as usize / 3600 + 4];
        let mut by_hour = |hour: u64| {
            let place = hour as usize % known.len();
            *known[place].get_or_insert_with(|| self.chance_by_hour(hour, any))
        };
        let mut judge = |at: Wall| {
            let chance = self.chance(last, at, 60, &mut by_hour);
            // Only for a moment, after a long silence: what it had in memory is at hand again, and it may rest.
            let likely = at >= last + BOUND as u64 * 60 && chance >= least.max(WORTH_WAKING);
            let awake = likely && self.chance(last, at - STEP, 60, &mut by_hour) < WORTH_WAKING;
            let light = soon > 0 && self.chance(last, at, soon, &mut by_hour) >= least_light;
            (Judged { keep: chance >= least, begin: chance >= least.max(WORTH_A_BOOT), light, awake }, chance)
        };
        let (judged, chance) = judge(wall);
        // The longer it has been silent, the longer it will be: most silences end before much has to be looked at.
        let horizon = ((wall - last) * 4).clamp(STEP, HORIZON);
        let mut at = wall;
        loop {
            let silent = at - last;
            at += if silent < 2 * 3600 { STEP / 3 } else { STEP };
            if at >= wall + horizon || judge(at).0 != judged {
                break;
            }
        }
        let percent = (chance * 100.0).clamp(0.0, 100.0) as u8;
        let Judged { keep, begin, light, awake } = judged;
        Some(Outlook { keep, light, begin, awake, percent, until: now + Duration::from_secs(at - wall) })
    }
}

/// The text is not what a history was written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no history of an app's visits")]
pub struct InvalidHistory;

/// The first word of what is written, for when there is another way to write it.
const WRITTEN_AS: &str = "visits-1";

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (last, visited) = (self.last.unwrap_or(0), u8::from(self.visited));
        write!(f, "{WRITTEN_AS} {last} {} {} {visited} ", self.began, self.filled)?;
        for (place, count) in self.survivors.iter().enumerate() {
            write!(f, "{}{count}", if place == 0 { "" } else { "," })?;
        }
        f.write_str(" ")?;
        self.weeks.iter().try_for_each(|week| write!(f, "{week:02x}"))
    }
}

impl FromStr for History {
    type Err = InvalidHistory;

    fn from_str(text: &str) -> Result<Self, InvalidHistory> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [WRITTEN_AS, last, began, filled, visited, survivors, weeks] = words[..] else {
            return Err(InvalidHistory);
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| InvalidHistory);
        let survivors: Result<Vec<u32>, _> = survivors.split(',').map(str::parse).collect();
        let survivors = survivors.map_err(|_| InvalidHistory)?;
        let week =
            |hour: usize| weeks.get(2 * hour..2 * hour + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let weeks: Vec<u8> = (0..HOURS).map_while(week).collect();
        let history = Self {
            last: Some(number(last)?),
            survivors,
            weeks,
            began: number(began)?,
            filled: number(filled)?,
            visited: visited == "1",
        };
        let sound = history.survivors.len() == BOUND + 1
            && history.survivors.windows(2).all(|pair| pair[0] >= pair[1])
            && history.weeks.len() == HOURS
            && history.began <= history.filled
            && history.last.is_some_and(|last| last < 1 << 40 && last / 3600 <= history.filled);
        if sound { Ok(history) } else { Err(InvalidHistory) }
    }
}

/// How likely a visit within so many minutes must be at least, for what is kept so long where nothing is known.
fn least_chance(within: usize, plain: Duration, weight: f64) -> f64 {
    let minutes = (plain.as_secs_f64() / 60.0).max(0.6);
    (PRIOR * within as f64 / minutes * weight).clamp(0.001, 0.95)
}

/// A part of what was tried, drawn toward what is known from elsewhere while little was.
fn shrunk((hits, trials): (f64, f64), toward: f64) -> f64 {
    (hits + WEIGHT * toward) / (trials + WEIGHT)
}

/// The hour of the week, Monday's first being 0, of an hour since the epoch.
fn slot(hour: u64) -> usize {
    ((hour + EPOCH_HOUR) % HOURS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    /// A Monday, at midnight.
    const MONDAY: Wall = 19_996 * DAY;

    fn outlook(history: &mut History, wall: Wall) -> Option<Outlook> {
        history.outlook(Moment::from_millis(wall * 1000), wall, &Policy::default(), 1.0)
    }

    #[test]
    fn the_calendar_is_right() {
        assert_eq!(slot(MONDAY / HOUR), 0);
        assert_eq!(slot(0), 72);
    }

    #[test]
    fn with_few_visits_nothing_is_foreseen() {
        let mut history = History::default();
        assert_eq!(outlook(&mut history, MONDAY), None);
        (0..4).for_each(|hour| history.note(MONDAY + hour * HOUR));
        assert_eq!(outlook(&mut history, MONDAY + DAY), None);
    }

    /// Two weeks in which a team looks at its dashboard on working days at eight, and every half hour until noon.
    fn office() -> History {
        let mut history = History::default();
        for day in (0..14).filter(|day| day % 7 < 5) {
            (16..24).for_each(|half| history.note(MONDAY + day * DAY + half * HOUR / 2));
        }
        history
    }

    #[test]
    fn the_dashboard_of_a_monday_morning_is_ready_before_the_team_opens_it() {
        let mut history = office();
        let sunday = outlook(&mut history, MONDAY + 13 * DAY + 18 * HOUR).unwrap();
        assert!(!sunday.keep && !sunday.begin, "{sunday:?}");
        let ready = sunday.until.as_millis() / 1000 - (MONDAY + 14 * DAY);
        assert!((6 * HOUR..8 * HOUR).contains(&ready), "{ready} s after midnight");
        let woken = (24..32).filter(|quarter| {
            let at = MONDAY + 14 * DAY + quarter * HOUR / 4;
            outlook(&mut history, at).unwrap().awake
        });
        assert_eq!(woken.count(), 1, "once, between six and eight");
        let eight = outlook(&mut history, MONDAY + 14 * DAY + 8 * HOUR).unwrap();
        assert!(eight.keep && eight.begin, "{eight:?}");
    }

    #[test]
    fn it_is_kept_between_visits_of_a_morning_and_let_go_at_night() {
        let mut history = office();
        history.note(MONDAY + 14 * DAY + 9 * HOUR);
        assert!(outlook(&mut history, MONDAY + 14 * DAY + 9 * HOUR + 600).unwrap().keep);
        history.note(MONDAY + 14 * DAY + 23 * HOUR / 2);
        assert!(!outlook(&mut history, MONDAY + 14 * DAY + 20 * HOUR).unwrap().keep);
    }

    #[test]
    fn a_job_that_looks_every_three_hours_finds_it_ready_and_it_rests_in_between() {
        let mut history = History::default();
        (0..40).for_each(|visit| history.note(MONDAY + visit * 3 * HOUR));
        let last = MONDAY + 39 * 3 * HOUR;
        assert!(!outlook(&mut history, last + HOUR).unwrap().keep);
        assert!(outlook(&mut history, last + 170 * 60).unwrap().begin);
    }

    #[test]
    fn what_costs_more_memory_must_be_more_likely_to_be_used() {
        let mut history = History::default();
        let mut last = MONDAY;
        for visit in 0..60 {
            last += (1 + visit % 3) * HOUR;
            history.note(last);
        }
        let wall = last + HOUR + 60;
        let keeps = |history: &mut History, weight| {
            history.outlook(Moment::START, wall, &Policy::default(), weight).unwrap().keep
        };
        assert!(keeps(&mut history, 1.0));
        assert!(!keeps(&mut history, 20.0));
    }

    #[test]
    fn it_sleeps_lightly_while_a_visit_is_likely_soon_and_deep_otherwise() {
        let mut history = office();
        history.note(MONDAY + 14 * DAY + 9 * HOUR);
        // Every half hour until noon: soon in the morning, not at night.
        assert!(outlook(&mut history, MONDAY + 14 * DAY + 9 * HOUR + 1200).unwrap().light);
        history.note(MONDAY + 14 * DAY + 23 * HOUR / 2);
        assert!(!outlook(&mut history, MONDAY + 14 * DAY + 20 * HOUR).unwrap().light);
        // Where it sleeps deep within minutes, what counts is whether somebody comes within minutes.
        let soon = |history: &mut History, minutes: u64| {
            let policy = Policy { deepen_after: Duration::from_secs(300), ..Policy::default() };
            let at = MONDAY + 14 * DAY + 9 * HOUR + 60 * minutes;
            history.outlook(Moment::from_millis(at * 1000), at, &policy, 1.0).unwrap().light
        };
        let mut history = office();
        history.note(MONDAY + 14 * DAY + 9 * HOUR);
        assert_eq!([10, 26].map(|minutes| soon(&mut history, minutes)), [false, true]);
    }

    #[test]
    fn it_is_written_and_read_again_and_nothing_else_is_read() {
        let history = office();
        assert_eq!(history.to_string().parse(), Ok(history.clone()));
        let text = history.to_string();
        for wrong in
            ["", "visits-1", "visits-1 1 1 1 1 1 1", &text.replace(' ', "  x "), &text[..text.len() - 2]]
        {
            assert_eq!(wrong.parse::<History>(), Err(InvalidHistory));
        }
    }

    #[test]
    fn years_of_silence_cost_no_time_and_clocks_may_go_back() {
        let mut history = office();
        history.note(MONDAY);
        assert!(outlook(&mut history, MONDAY + 5000 * DAY).is_some());
        history.note(MONDAY + 5001 * DAY);
        assert!(outlook(&mut history, MONDAY).is_some());
    }
}
