//! What passed to and from an app, and what it took, over time: counted in slots, added up into what a chart shows.
//!
//! Everything here is pure: `service::history` measures, `db::history` keeps.

use jiff::Timestamp;
use marmot_gateway::meter::{BUCKETS, CLASSES, Distribution, Reading};
use serde::{Deserialize, Serialize};

/// How wide slots are that are kept, in seconds, and for how long they are. A little longer than a chart is.
pub const KEPT: [(i64, i64); 3] = [(60, 2 * HOUR), (900, 26 * HOUR), (HOUR, 31 * 24 * HOUR)];

const HOUR: i64 = 3600;
/// Milliseconds of an hour.
const HOUR_MILLIS: f64 = 3.6e6;
/// Mebibyte seconds of a gibibyte hour.
const GIB_HOUR: f64 = 1024.0 * 3600.0;

/// What was counted in one slot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Answers, by [`CLASSES`].
    #[serde(skip_serializing_if = "is_nothing")]
    pub answers: [u64; CLASSES.len()],
    /// Requests for which there was no place to wait.
    #[serde(skip_serializing_if = "is_nothing")]
    pub refused: u64,
    /// Bytes that clients sent.
    #[serde(skip_serializing_if = "is_nothing")]
    pub received: u64,
    /// Bytes that clients were sent.
    #[serde(skip_serializing_if = "is_nothing")]
    pub sent: u64,
    /// How long answers took to begin.
    #[serde(skip_serializing_if = "is_nothing")]
    pub latency: Spread,
    /// How long waking took, by [`Rung`](marmot_gateway::meter::Rung).
    #[serde(skip_serializing_if = "is_nothing")]
    pub wakes: [Spread; 2],
    /// The most people at the same time.
    #[serde(skip_serializing_if = "is_nothing")]
    pub people: u64,
    /// Milliseconds of replicas that were not hibernated, summed over all of them.
    #[serde(skip_serializing_if = "is_nothing")]
    pub awake: u64,
    /// Milliseconds of replicas that were hibernated.
    #[serde(skip_serializing_if = "is_nothing")]
    pub asleep: u64,
    /// Kibibyte seconds of memory that replicas held while they were awake.
    #[serde(skip_serializing_if = "is_nothing")]
    pub awake_memory: u64,
    /// Kibibyte seconds of memory that replicas held while they were hibernated.
    #[serde(skip_serializing_if = "is_nothing")]
    pub asleep_memory: u64,
}

fn is_nothing<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How long something took, over and over: counted by [`BUCKETS`], without the empty ones at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    counts: Vec<u64>,
    micros: u64,
}

impl Spread {
    fn risen(now: &Distribution, before: &Distribution) -> Self {
        let risen = now.counts.iter().zip(before.counts).map(|(now, before)| now.saturating_sub(before));
        let mut counts: Vec<u64> = risen.collect();
        while counts.last() == Some(&0) {
            counts.pop();
        }
        let took = now.sum.saturating_sub(before.sum);
        Self { counts, micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX) }
    }

    fn add(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.micros += other.micros;
    }

    /// How often.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long it took in seconds, for all but the slowest `1 - share`: as near as the buckets tell.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = share * total as f64;
        let mut below = 0.0;
        for (bucket, &count) in self.counts.iter().enumerate() {
            let count = count as f64;
            if count > 0.0 && below + count >= rank {
                let low = bucket.checked_sub(1).map_or(0, |before| BUCKETS[before.min(BUCKETS.len() - 1)]);
                // What is beyond the last bound took as long as that, at least.
                let high = BUCKETS.get(bucket).copied().unwrap_or(low);
                let within = ((rank - below) / count).clamp(0.0, 1.0);
                return Some((low as f64 + (high - low) as f64 * within) / 1e6);
            }
            below += count;
        }
        None
    }
}

impl Counts {
    /// What was counted between two readings of a meter. A meter that began anew was at nothing before.
    pub fn risen(now: &Reading, before: &Reading) -> Self {
        let nothing = Reading::default();
        let began_anew = now.answers.iter().zip(before.answers).any(|(now, before)| *now < before);
        let before = if began_anew { &nothing } else { before };
        let mut answers = now.answers;
        answers.iter_mut().zip(before.answers).for_each(|(now, before)| *now -= before);
        let wakes = |rung: usize| Spread::risen(&now.wakes[rung], &before.wakes[rung]);
        Self {
            answers,
            refused: now.refused.saturating_sub(before.refused),
            received: now.received.saturating_sub(before.received),
            sent: now.sent.saturating_sub(before.sent),
            latency: Spread::risen(&now.upstream, &before.upstream),
            wakes: [wakes(0), wakes(1)],
            ..Self::default()
        }
    }

    /// Adds what was counted in another slot.
    pub fn add(&mut self, other: &Self) {
        self.answers.iter_mut().zip(other.answers).for_each(|(sum, count)| *sum += count);
        self.latency.add(&other.latency);
        self.wakes.iter_mut().zip(&other.wakes).for_each(|(sum, took)| sum.add(took));
        self.people = self.people.max(other.people);
        for (sum, count) in [
            (&mut self.refused, other.refused),
            (&mut self.received, other.received),
            (&mut self.sent, other.sent),
            (&mut self.awake, other.awake),
            (&mut self.asleep, other.asleep),
            (&mut self.awake_memory, other.awake_memory),
            (&mut self.asleep_memory, other.asleep_memory),
        ] {
            *sum += count;
        }
    }

    /// There is nothing but sleep in it.
    pub fn is_quiet(&self) -> bool {
        let sleep = Self { asleep: self.asleep, asleep_memory: self.asleep_memory, ..Self::default() };
        *self == sleep
    }

    /// There is nothing in it.
    pub fn is_nothing(&self) -> bool {
        is_nothing(self)
    }

    /// Answers of every class.
    pub fn requests(&self) -> u64 {
        self.answers.iter().sum()
    }

    /// Hours of replicas that were awake.
    pub fn awake_hours(&self) -> f64 {
        self.awake as f64 / HOUR_MILLIS
    }

    /// Hours of replicas that were hibernated.
    pub fn asleep_hours(&self) -> f64 {
        self.asleep as f64 / HOUR_MILLIS
    }

    /// Gibibyte hours of memory that replicas held, awake and hibernated.
    pub fn gb_hours(&self) -> f64 {
        (self.awake_memory + self.asleep_memory) as f64 / 1024.0 / GIB_HOUR
    }

    /// What is counted from `since` until `until` (minutes of the clock, in seconds), by width and start of slot. Sleep is
    /// spread evenly over the time, since it is not noted every minute; everything else happened in the last minute.
    pub fn slots(&self, since: i64, until: i64) -> std::collections::BTreeMap<(i64, i64), Self> {
        let mut slots = std::collections::BTreeMap::<(i64, i64), Self>::new();
        let minutes = ((until - since) / 60 + 1).clamp(1, 24 * 60);
        let share = |whole: u64, minute: i64| {
            let (whole, minute, minutes) = (u128::from(whole), minute as u128, minutes as u128);
            u64::try_from(whole * (minute + 1) / minutes - whole * minute / minutes).unwrap_or_default()
        };
        for minute in 0..minutes {
            let mut part = Self::default();
            if minute == minutes - 1 {
                part = self.clone();
            }
            part.asleep = share(self.asleep, minute);
            part.asleep_memory = share(self.asleep_memory, minute);
            if part.is_nothing() {
                continue;
            }
            let at = until - (minutes - 1 - minute) * 60;
            for (width, _) in KEPT {
                slots.entry((width, floor(at, width))).or_default().add(&part);
            }
        }
        slots
    }
}

/// The start of the slot of this width that `at` is in, in seconds.
pub fn floor(at: i64, width: i64) -> i64 {
    at - at.rem_euclid(width)
}

/// How far back to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Range {
    /// The last hour, by minute.
    Hour,
    /// The last day, by quarter of an hour.
    #[default]
    Day,
    /// The last week, by two hours.
    Week,
    /// The last thirty days, by six hours.
    Month,
}

impl Range {
    /// All of them, from the shortest.
    pub const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// The word for it in addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// How wide the slots are that it is read from, how wide its own are, in seconds, and how many.
    pub fn slots(self) -> (i64, i64, i64) {
        match self {
            Self::Hour => (60, 60, 60),
            Self::Day => (900, 900, 96),
            Self::Week => (HOUR, 2 * HOUR, 84),
            Self::Month => (HOUR, 6 * HOUR, 120),
        }
    }

    /// From when to when it reaches at `now`, in seconds: whole slots, of which the last is the one of now.
    pub fn reach(self, now: i64) -> (i64, i64) {
        let (_, step, count) = self.slots();
        let end = floor(now, step) + step;
        (end - step * count, end)
    }
}

impl std::str::FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|range| range.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is no range: it must be `hour`, `day`, `week` or `month`"))
    }
}

/// What an app was used for, and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// How far back.
    pub range: Range,
    /// Each slot's start in seconds, and what was counted in it, oldest first, also those of nothing.
    pub slots: Vec<(i64, Counts)>,
    /// Altogether.
    pub total: Counts,
    /// Hours for which the app was on.
    pub hours_on: f64,
    /// What one replica that is always awake would have taken, where that can be told.
    pub always_on: Option<AlwaysOn>,
}

/// What an app would take if one replica of it never slept, while it is on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlwaysOn {
    /// Replica hours.
    pub replica_hours: f64,
    /// Gibibyte hours, with the memory that its replicas hold while they are awake.
    pub gb_hours: f64,
}

impl Report {
    /// Puts slots together. `found`: starts in seconds and counts, in any order; `on`: when the app was on, in
    /// milliseconds; `memory`: kibibytes a replica holds while it is awake, should the slots not tell.
    pub fn new(
        range: Range,
        now: Timestamp,
        found: impl IntoIterator<Item = (i64, Counts)>,
        on: &[(i64, i64)],
        memory: Option<f64>,
    ) -> Self {
        let (_, step, count) = range.slots();
        let (from, until) = range.reach(now.as_second());
        let mut slots: Vec<(i64, Counts)> =
            (0..count).map(|slot| (from + slot * step, Counts::default())).collect();
        let mut total = Counts::default();
        for (start, counts) in found.into_iter().filter(|(start, _)| (from..until).contains(start)) {
            total.add(&counts);
            let slot = usize::try_from((start - from) / step).unwrap_or_default();
            if let Some((_, sum)) = slots.get_mut(slot) {
                sum.add(&counts);
            }
        }
        let within = |(began, ended): &(i64, i64)| {
            let ended = (*ended).min(now.as_millisecond());
            (ended - (*began).max(from * 1000)).max(0) as f64
        };
        let hours_on = on.iter().map(within).sum::<f64>() / HOUR_MILLIS;
        let memory = total.awake_memory_each().or(memory);
        let always_on = memory.map(|memory| AlwaysOn {
            // More than one may have been needed at times: never sleeping would not have made that less.
            replica_hours: hours_on.max(total.awake_hours()),
            gb_hours: (hours_on.max(total.awake_hours()) * memory / 1024.0 / 1024.0).max(total.gb_hours()),
        });
        Self { range, slots, total, hours_on, always_on }
    }
}

impl Counts {
    /// Kibibytes that one replica held while it was awake.
    pub fn awake_memory_each(&self) -> Option<f64> {
        (self.awake > 0 && self.awake_memory > 0)
            .then(|| self.awake_memory as f64 / (self.awake as f64 / 1000.0))
    }
}

impl AlwaysOn {
    /// How much of it sleeping saved, in percent of replica hours.
    pub fn saved_percent(&self, total: &Counts) -> Option<f64> {
        (self.replica_hours > 0.0)
            .then(|| 100.0 * (1.0 - total.awake_hours() / self.replica_hours).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_a_meter_counted_since_is_told_also_when_it_began_anew() {
        let mut before = Reading::default();
        before.answers[1] = 5;
        let mut now = before.clone();
        now.answers[1] = 7;
        now.upstream.counts[3] = 2;
        now.upstream.sum = Duration::from_millis(40);
        let risen = Counts::risen(&now, &before);
        assert_eq!((risen.answers, risen.latency.count()), ([0, 2, 0, 0, 0], 2));
        let mut anew = Reading::default();
        anew.answers[1] = 1;
        assert_eq!(Counts::risen(&anew, &now).answers[1], 1);
    }

    #[test]
    fn quantiles_are_as_near_as_the_buckets_tell() {
        let mut now = Reading::default();
        assert_eq!(Counts::risen(&now, &now).latency.quantile(0.5), None);
        // Ninety took from 5 to 10 ms, ten more than a minute.
        (now.upstream.counts[2], now.upstream.counts[BUCKETS.len()]) = (90, 10);
        let latency = Counts::risen(&now, &Reading::default()).latency;
        let median = latency.quantile(0.5).unwrap();
        assert!((0.005..0.01).contains(&median), "{median}");
        assert_eq!(latency.quantile(0.95), Some(60.0));
    }

    #[test]
    fn sleep_is_spread_over_the_minutes_and_the_rest_is_in_the_last() {
        let counts = Counts { asleep: 180_000, asleep_memory: 100, people: 2, ..Counts::default() };
        let slots = counts.slots(600, 720);
        let minutes: Vec<_> = slots
            .iter()
            .filter(|((width, _), _)| *width == 60)
            .map(|((_, at), counts)| (*at, counts))
            .collect();
        assert_eq!(
            minutes.iter().map(|(at, counts)| (*at, counts.asleep, counts.people)).collect::<Vec<_>>(),
            [(600, 60_000, 0), (660, 60_000, 0), (720, 60_000, 2)]
        );
        assert_eq!(minutes.iter().map(|(_, counts)| counts.asleep_memory).sum::<u64>(), 100);
        assert_eq!(slots[&(3600, 0)], counts);
        assert_eq!(slots[&(900, 0)], counts);
    }

    #[test]
    fn a_report_has_every_slot_and_says_what_sleeping_saved() {
        let now = at("2026-05-04T12:07:30Z");
        let second = now.as_second();
        let awake = Counts {
            awake: 3_600_000,
            awake_memory: 3600 * 512 * 1024,
            asleep: 3_600_000,
            asleep_memory: 3600 * 64 * 1024,
            people: 3,
            ..Counts::default()
        };
        let found = [(floor(second, 900), awake.clone()), (floor(second, 900) - 26 * 3600, awake.clone())];
        let on = [(now.as_millisecond() - 10 * 3_600_000, i64::MAX)];
        let report = Report::new(Range::Day, now, found, &on, None);
        assert_eq!((report.slots.len(), report.total.clone()), (96, awake));
        assert_eq!(report.slots.last().unwrap().0, floor(second, 900));
        assert!((report.hours_on - 10.0).abs() < 0.001, "{}", report.hours_on);
        let always = report.always_on.unwrap();
        assert!(
            (always.replica_hours - 10.0).abs() < 0.001 && (always.gb_hours - 5.0).abs() < 0.001,
            "{always:?}"
        );
        assert!((report.total.gb_hours() - 0.5625).abs() < 0.001, "{}", report.total.gb_hours());
        assert!((always.saved_percent(&report.total).unwrap() - 90.0).abs() < 0.1);
    }

    #[test]
    fn counts_are_kept_short_and_read_back() {
        assert_eq!(serde_json::to_string(&Counts::default()).unwrap(), "{}");
        let counts = Counts { answers: [0, 4, 0, 1, 0], asleep: 5, ..Counts::default() };
        let text = serde_json::to_string(&counts).unwrap();
        assert_eq!(serde_json::from_str::<Counts>(&text).unwrap(), counts);
    }

    #[test]
    fn only_the_four_ranges_have_names() {
        assert!(Range::ALL.iter().all(|range| range.as_str().parse() == Ok(*range)));
        assert!("year".parse::<Range>().unwrap_err().contains("`month`"));
    }
}
