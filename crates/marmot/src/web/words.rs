//! The words for states and times, so that every page says the same thing the same way.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use marmot_core::Said;
use marmot_core::phase::{Depth, Phase};
use marmot_text::{Language, decimal, retold, say, spoken, tell};

use super::view::{PhaseView, Tone};
use crate::service::Error;

/// What a person is told about a phase. `wakes_in`: how long a cold start took lately; `step`: what it is doing.
pub(super) fn phase(phase: Phase, wakes_in: Option<Duration>, step: Option<&Said>) -> PhaseView {
    let (tone, word, detail) = match phase {
        Phase::Inactive => (Tone::Off, say("phase-off"), say("phase-off-about").to_owned()),
        Phase::Building => (
            Tone::Busy,
            say("phase-building"),
            step.map_or_else(|| say("phase-building-about").to_owned(), told),
        ),
        Phase::Starting => (
            Tone::Busy,
            say("phase-starting"),
            step.map_or_else(|| say("phase-starting-about").to_owned(), told),
        ),
        Phase::Running => (Tone::On, say("phase-on"), say("phase-on-about").to_owned()),
        Phase::Asleep(Depth::Hibernated) => {
            (Tone::Asleep, say("phase-asleep"), tell!("phase-wakes-in", time = decimal("0.1 s".to_owned())))
        }
        Phase::Asleep(Depth::Stopped) => (
            Tone::Asleep,
            say("phase-asleep"),
            wakes_in.map_or_else(
                || say("phase-wakes").to_owned(),
                |time| tell!("phase-wakes-in", time = duration(time)),
            ),
        ),
        Phase::Waking => (Tone::On, say("phase-waking"), say("phase-waking-about").to_owned()),
        Phase::Updating => (Tone::On, say("phase-updating"), say("phase-updating-about").to_owned()),
        Phase::Stopping => (Tone::Busy, say("phase-stopping"), say("phase-stopping-about").to_owned()),
        Phase::Failed => (Tone::Bad, say("phase-failed"), say("phase-failed-about").to_owned()),
    };
    PhaseView { tone, word, detail }
}

/// Text as a sentence: with a capital in front and a full stop behind.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.trim().chars();
    let mut sentence: String = letters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    sentence.extend(letters);
    if !sentence.is_empty() && !sentence.ends_with(['.', '!', '?', '…', ':']) {
        sentence.push('.');
    }
    sentence
}

/// A sentence of the service for people at a form: without the API's name of the field, with quotation marks.
pub(super) fn plainly(message: &str) -> String {
    let about = message.strip_prefix('`').and_then(|rest| rest.split_once("`: "));
    let text = match about {
        Some((field, rest)) if !field.contains('`') => rest,
        _ => message,
    };
    let (opening, closing) = match spoken() {
        Language::English => ("“", "”"),
        Language::German => ("„", "“"),
        Language::French => ("«\u{a0}", "\u{a0}»"),
    };
    let mut open = false;
    let mut quoted = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '`' => {
                open = !open;
                quoted.push_str(if open { opening } else { closing });
            }
            other => quoted.push(other),
        }
    }
    sentence(&quoted)
}

/// A sentence of the service in the language of whoever reads it, as [`plainly`] writes it.
pub(super) fn told(said: &Said) -> String {
    plainly(&retold(said))
}

/// Why the service refused something, for people.
pub(super) fn refusal(error: &Error) -> String {
    let seconds = |time: &Duration| time.as_secs().max(1);
    match error {
        _ if spoken() == Language::English => plainly(&error.to_string()),
        Error::SignInNeeded => say("error-sign-in-needed").to_owned(),
        Error::WrongCredentials => say("error-wrong-credentials").to_owned(),
        Error::InvalidCredentials => say("error-invalid-credentials").to_owned(),
        Error::Forbidden { .. } => say("error-forbidden").to_owned(),
        Error::NotFound { .. } => say("error-not-found").to_owned(),
        Error::AlreadyActive { .. } => say("error-already-active").to_owned(),
        Error::Stale => say("error-stale").to_owned(),
        Error::TooManyTries { retry_after } => tell!("error-too-many-tries", seconds = seconds(retry_after)),
        Error::Busy { retry_after } => tell!("error-busy", seconds = seconds(retry_after)),
        Error::LinkSpent => say("error-link-spent").to_owned(),
        Error::DiskFull(_) => say("error-disk-full").to_owned(),
        Error::Internal(_) => say("error-internal").to_owned(),
        Error::Conflict { message, .. } | Error::Invalid { message, .. } | Error::NotOffered { message } => {
            told(message)
        }
        Error::TooOften { message, otherwise, retry_after, .. } => tell!(
            "error-too-often",
            message = told(message),
            seconds = seconds(retry_after),
            otherwise = retold(otherwise)
        ),
        // What another site says has its own words; the other one no form of ours can meet.
        Error::Provider(_) | Error::VersionNeeded => plainly(&error.to_string()),
    }
}

/// A duration as people say it: `0.4 s`, `12 s`, `3 min`, `2 h`.
pub(super) fn duration(time: Duration) -> String {
    match time.as_secs() {
        0..10 => decimal(format!("{:.1} s", time.as_secs_f64().max(0.1))),
        seconds @ 10..90 => format!("{seconds} s"),
        seconds @ 90..5400 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{} h", (seconds + 1800) / 3600),
    }
}

/// How long ago `then` was, as people say it.
pub(super) fn ago(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second());
    match seconds {
        ..45 => say("just-now").to_owned(),
        45..5400 => tell!("ago-minutes", count = ((seconds + 30) / 60).max(1)),
        5400..129_600 => tell!("ago-hours", count = (seconds + 1800) / 3600),
        129_600..2_592_000 => tell!("ago-days", count = (seconds + 43_200) / 86_400),
        _ => tell!("on-date", date = date(then)),
    }
}

/// A day as people write it.
pub(super) fn date(at: Timestamp) -> String {
    marmot_text::date(TimeZone::UTC.to_datetime(at).date())
}

/// What a role is called.
pub(super) fn role(role: &str) -> &str {
    match role {
        "owner" => say("role-owner"),
        "editor" => say("role-editor"),
        "viewer" => say("role-viewer"),
        other => other,
    }
}

/// How many people use an app now, as a sentence; `None` when nobody does.
pub(super) fn used_by(sessions: u64, requests: u64) -> String {
    let sessions = (sessions > 0).then(|| tell!("used-by-sessions", count = sessions));
    let requests = (requests > 0).then(|| tell!("used-by-requests", count = requests));
    let used = sessions.into_iter().chain(requests).collect::<Vec<_>>().join(", ");
    if used.is_empty() { say("used-by-nobody").to_owned() } else { used }
}

pub(super) fn people_now(people: u64) -> Option<String> {
    match people {
        0 => None,
        people => Some(tell!("people-using-now", count = people)),
    }
}

/// Who uses an app now, and what shutting it down means for them.
pub(super) fn shut_down_now(people: u64) -> String {
    match people {
        0 => format!("{} ", say("shut-down-nobody")),
        people => format!("{} ", tell!("shut-down-people", count = people)),
    }
}

/// What shutting an app down means.
pub(super) fn shut_down_warning(people: u64) -> String {
    shut_down_now(people) + say("shut-down-means")
}

/// Memory as people say it.
pub(super) fn memory(mebibytes: u32) -> String {
    if mebibytes > 0 && mebibytes.is_multiple_of(1024) {
        tell!("memory-gb", count = mebibytes / 1024)
    } else {
        tell!("memory-mb", count = mebibytes)
    }
}

/// A repository's address without what everybody knows: `github.com/ada/ice`.
pub(super) fn short_repository(address: &str) -> String {
    let short = address.split_once("://").map_or(address, |(_, rest)| rest);
    let short = short.rsplit_once('@').map_or(short, |(_, rest)| rest);
    short.trim_end_matches('/').trim_end_matches(".git").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_sleeps_is_on() {
        for depth in [Depth::Hibernated, Depth::Stopped] {
            let view = phase(Phase::Asleep(depth), Some(Duration::from_millis(4200)), None);
            assert_eq!((view.word, view.tone), ("On, asleep", Tone::Asleep));
        }
        let cold = phase(Phase::Asleep(Depth::Stopped), Some(Duration::from_millis(4200)), None);
        assert_eq!(cold.detail, "Wakes in about 4.2 s when somebody opens it.");
    }

    #[test]
    fn shutting_down_names_those_whom_it_concerns() {
        assert_eq!(
            shut_down_warning(4),
            "4 people are using this app now. Shutting it down disconnects them. Nobody can open it until it is \
             switched on again."
        );
        assert!(shut_down_warning(0).starts_with("Nobody is using this app right now."));
        assert!(shut_down_warning(1).starts_with("1 person is"));
    }

    #[test]
    fn a_refusal_is_told_in_words_for_people() {
        for (message, told) in [
            ("`repositories`: `ftp://x` is no address", "“ftp://x” is no address."),
            ("`port` must be from 1 to 65535", "“port” must be from 1 to 65535."),
            ("the launcher's name is empty", "The launcher's name is empty."),
        ] {
            assert_eq!(plainly(message), told);
        }
    }

    #[test]
    fn times_read_as_people_say_them() {
        let now: Timestamp = "2026-05-04T12:00:00Z".parse().unwrap();
        let told: Vec<_> = [0, 50, 600, 7200, 200_000, 9_000_000]
            .map(|seconds| ago(now, now - jiff::SignedDuration::from_secs(seconds)))
            .into();
        assert_eq!(
            told,
            ["just now", "1 min ago", "10 min ago", "2 h ago", "2 days ago", "on 20 January 2026"]
        );
    }

    #[test]
    fn an_address_is_shown_without_scheme_password_and_suffix() {
        for (address, shown) in [
            ("https://github.com/ada/ice.git", "github.com/ada/ice"),
            ("https://ada:secret@git.example.org/ice/", "git.example.org/ice"),
            ("git@github.com:ada/ice.git", "github.com:ada/ice"),
        ] {
            assert_eq!(short_repository(address), shown);
        }
    }
}
