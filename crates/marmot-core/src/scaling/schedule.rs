//! When an app is kept warm: `Mon-Fri 08:00-18:00 Europe/Zurich`.
//!
//! What the local time is in a zone is told by the edge; here a schedule is read, written and asked about a local time.

use std::fmt;
use std::str::FromStr;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY_MINUTES: u16 = 24 * 60;

/// Days, hours and a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Monday first.
    days: [bool; 7],
    /// Minutes since midnight.
    from: u16,
    /// Minutes since midnight; before or at `from` it means the next day.
    to: u16,
    zone: String,
}

/// The text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{given}` is not a schedule: {wrong}; write days, hours and a time zone, like `Mon-Fri 08:00-18:00 Europe/Zurich`"
)]
pub struct InvalidSchedule {
    /// What was given, cut to a length that fits a message.
    pub given: String,
    /// What is wrong with it.
    pub wrong: &'static str,
}

/// A local time of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// Monday is 0.
    pub day: u8,
    /// Minutes since midnight.
    pub minute: u16,
}

impl Schedule {
    /// The name of the time zone, as it was given.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Whether the app is kept warm at this time in its zone.
    pub fn covers(&self, at: LocalTime) -> bool {
        let today = usize::from(at.day % 7);
        let yesterday = (today + 6) % 7;
        if self.from < self.to {
            return self.days[today] && (self.from..self.to).contains(&at.minute);
        }
        (self.days[today] && at.minute >= self.from) || (self.days[yesterday] && at.minute < self.to)
    }

    /// How many minutes after `at` the answer changes at the earliest; at most a day.
    pub fn holds_for(&self, at: LocalTime) -> u16 {
        let until = |minute: u16| (minute + DAY_MINUTES - at.minute % DAY_MINUTES - 1) % DAY_MINUTES + 1;
        until(self.from).min(until(self.to % DAY_MINUTES)).min(until(0))
    }
}

impl FromStr for Schedule {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        let invalid = |wrong| InvalidSchedule { given: text.chars().take(80).collect(), wrong };
        let words: Vec<&str> = text.split_whitespace().collect();
        let [days, hours, zone] = words[..] else {
            return Err(invalid("there are not three words"));
        };
        let days = read_days(days).ok_or_else(|| invalid("the days are `Mon-Fri`, `Mon,Wed` or `daily`"))?;
        let read_hours = || {
            let (from, to) = hours.split_once('-')?;
            let (from, to) = (read_time(from)?, read_time(to)?);
            (from < DAY_MINUTES && from != to).then_some((from, to))
        };
        let (from, to) = read_hours().ok_or_else(|| invalid("the hours are like `08:00-18:00`"))?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
        if zone.len() > 60 || !zone.chars().all(fits) {
            return Err(invalid("the time zone is a name like `Europe/Zurich` or `UTC`"));
        }
        Ok(Self { days, from, to, zone: zone.to_owned() })
    }
}

/// `Mon-Fri`, `Sat,Sun`, `Mon,Wed-Fri`, `daily`.
fn read_days(text: &str) -> Option<[bool; 7]> {
    if text.eq_ignore_ascii_case("daily") {
        return Some([true; 7]);
    }
    let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        // `Sat-Mon` goes over the end of the week.
        (0..=(last + 7 - first) % 7).for_each(|step| days[(first + step) % 7] = true);
    }
    Some(days)
}

/// `08:00`, up to `24:00`.
fn read_time(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse::<u16>().ok() } else { None }
    };
    let (hours, minutes) = (number(hours)?, number(minutes).filter(|_| minutes.len() == 2)?);
    let time = hours * 60 + minutes;
    (minutes < 60 && time <= DAY_MINUTES).then_some(time)
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days == [true; 7] {
            f.write_str("daily")?;
        }
        let (mut day, mut first) = (0, true);
        while day < 7 && self.days != [true; 7] {
            let run = self.days[day..].iter().take_while(|on| **on).count();
            if run > 0 {
                f.write_str(if first { "" } else { "," })?;
                f.write_str(DAYS[day])?;
                if run > 1 {
                    write!(f, "-{}", DAYS[day + run - 1])?;
                }
                first = false;
            }
            day += run.max(1);
        }
        let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        write!(f, " {}-{} {}", time(self.from), time(self.to), self.zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap()
    }

    fn at(day: u8, hour: u16, minute: u16) -> LocalTime {
        LocalTime { day, minute: hour * 60 + minute }
    }

    #[test]
    fn covers_its_days_and_hours() {
        let office = schedule("Mon-Fri 08:00-18:00 Europe/Zurich");
        assert_eq!(office.zone(), "Europe/Zurich");
        assert!(office.covers(at(0, 8, 0)) && office.covers(at(4, 17, 59)));
        assert!(!office.covers(at(0, 7, 59)) && !office.covers(at(4, 18, 0)) && !office.covers(at(5, 12, 0)));
        assert_eq!((office.holds_for(at(0, 7, 59)), office.holds_for(at(0, 8, 0))), (1, 600));
    }

    #[test]
    fn a_night_belongs_to_the_day_it_begins_on() {
        let night = schedule("sun 22:00-06:00 UTC");
        assert!(night.covers(at(6, 23, 0)) && night.covers(at(0, 5, 59)));
        assert!(!night.covers(at(6, 5, 0)) && !night.covers(at(0, 6, 0)) && !night.covers(at(0, 22, 0)));
    }

    #[test]
    fn days_are_ranges_lists_or_all() {
        let shown = |text: &str| schedule(text).to_string();
        assert_eq!(shown("sat-mon 0:00-24:00 UTC"), "Mon,Sat-Sun 00:00-24:00 UTC");
        assert_eq!(shown("Daily 08:00-09:00 UTC"), "daily 08:00-09:00 UTC");
        assert_eq!(shown("tue,thu-fri 08:00-09:00 UTC"), "Tue,Thu-Fri 08:00-09:00 UTC");
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, wrong) in [
            ("Mon-Fri 08:00-18:00", "three words"),
            ("Mo-Fr 08:00-18:00 UTC", "days"),
            ("Mon 8-18 UTC", "hours"),
            ("Mon 08:00-08:00 UTC", "hours"),
            ("Mon 08:00-25:00 UTC", "hours"),
            ("Mon 08:+1-09:00 UTC", "hours"),
            ("Mon 08:00-09:00 ../etc", "time zone"),
        ] {
            let error = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("Europe/Zurich"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Schedule>();
        }

        #[test]
        fn what_is_written_is_read_again_and_holds_as_long_as_it_says(
            days in prop::array::uniform7(any::<bool>()), from in 0u16..1440, to in 1u16..=1440, day in 0u8..7, minute in 0u16..1440,
        ) {
            prop_assume!(from != to && days.contains(&true));
            let schedule = Schedule { days, from, to, zone: "UTC".to_owned() };
            prop_assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule.clone());
            let now = schedule.covers(LocalTime { day, minute });
            let holds = schedule.holds_for(LocalTime { day, minute });
            prop_assert!((1..=1440).contains(&holds));
            for later in 0..holds {
                let at = u32::from(day) * 1440 + u32::from(minute) + u32::from(later);
                let at = LocalTime { day: (at / 1440 % 7) as u8, minute: (at % 1440) as u16 };
                prop_assert_eq!(schedule.covers(at), now);
            }
        }
    }
}
