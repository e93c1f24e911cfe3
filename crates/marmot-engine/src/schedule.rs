//! Whether an app is kept warm now: its schedules, asked at the wall clock of their time zones.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use marmot_core::Moment;
use marmot_core::scaling::schedule::{LocalTime, Schedule};

/// Schedules are looked at again at least this often, so that a wall clock that is set, or a change between summer and
/// winter, is followed.
const AT_MOST: Duration = Duration::from_secs(15 * 60);

/// What the schedules of an app said when they were last asked.
#[derive(Debug, Default)]
pub(crate) struct Warmth {
    of: Vec<Schedule>,
    warm: bool,
    until: Option<Moment>,
}

impl Warmth {
    /// Whether one of the schedules covers this moment, and when to ask again.
    pub(crate) fn at(&mut self, now: Moment, schedules: &[Schedule]) -> (bool, Option<Moment>) {
        if schedules.is_empty() {
            return (false, None);
        }
        if self.of != schedules || self.until.is_none_or(|until| until <= now) {
            let wall = Timestamp::now();
            let (warm, holds) = covers(schedules, wall);
            *self = Self { of: schedules.to_vec(), warm, until: Some(now + holds) };
        }
        (self.warm, self.until)
    }
}

/// Whether one of the schedules covers this time, and for how long that holds at least.
fn covers(schedules: &[Schedule], wall: Timestamp) -> (bool, Duration) {
    let mut holds = AT_MOST;
    let mut warm = false;
    for schedule in schedules {
        // A zone that this machine does not know was refused when it was given, by a server that did.
        let zone = TimeZone::get(schedule.zone()).unwrap_or(TimeZone::UTC);
        let local = wall.to_zoned_datetime(zone);
        let day = u8::try_from(local.weekday().to_monday_zero_offset()).unwrap_or(0);
        let minute = i32::from(local.hour()) * 60 + i32::from(local.minute());
        let at = LocalTime { day, minute: u16::try_from(minute).unwrap_or(0) };
        warm |= schedule.covers(at);
        let into_minute = u64::try_from(local.second()).unwrap_or(0);
        let seconds = u64::from(schedule.holds_for(at)) * 60 - into_minute.min(59);
        holds = holds.min(Duration::from_secs(seconds.max(1)));
    }
    (warm, holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> (bool, u64) {
        let office = ["Mon-Fri 08:00-18:00 Europe/Zurich".parse().unwrap()];
        let (warm, holds) = covers(&office, text.parse().unwrap());
        (warm, holds.as_secs())
    }

    #[test]
    fn office_hours_are_those_of_the_place_in_summer_and_in_winter() {
        // Eight o'clock in Zurich is seven in winter and six in summer, in UTC.
        assert_eq!(at("2026-11-24T06:59:30Z"), (false, 30));
        assert!(at("2026-11-24T07:00:00Z").0);
        assert!(!at("2026-07-21T05:59:59Z").0);
        assert!(at("2026-07-21T06:00:00Z").0);
        assert!(!at("2026-11-28T09:00:00Z").0, "a Saturday");
    }

    #[test]
    fn it_is_asked_again_when_the_answer_may_change_and_soon_enough() {
        assert_eq!(at("2026-11-24T16:59:00Z"), (true, 60));
        assert_eq!(at("2026-11-24T12:00:00Z"), (true, 900));
    }
}
