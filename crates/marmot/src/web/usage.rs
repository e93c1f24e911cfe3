//! What an app was used for, what it took, and what sleeping saved: the page with charts.

use std::time::Duration;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use marmot_gateway::meter::Reading;
use marmot_text::{decimal, filters, say, tell};
use serde::Deserialize;

use super::Web;
use super::charts::{Bars, Chart, Series, Sketch};
use super::launchers::{LauncherPath, find_launcher};
use super::respond::{Failed, Html};
use super::session::Visitor;
use super::tabs::{Here, Tab};
use super::view::Frame;
use super::words;
use crate::history::{Counts, Range, Report, Spread};

#[derive(Debug, Template)]
#[template(path = "usage.html")]
struct UsagePage {
    frame: Frame,
    project_name: String,
    project_path: String,
    name: String,
    app_name: String,
    tabs: Vec<Tab>,
    range: &'static str,
    ranges: Vec<RangeChoice>,
    saved: Saved,
    charts: Vec<Chart>,
    columns: [&'static str; 9],
    rows: Vec<Row>,
}

#[derive(Debug)]
struct RangeChoice {
    word: &'static str,
    label: &'static str,
    here: bool,
}

/// One slot in which something was.
#[derive(Debug)]
struct Row {
    at: String,
    exact: String,
    cells: [String; 9],
}

/// What sleeping saved, compared with one replica that never sleeps.
#[derive(Debug, Clone, PartialEq, Template)]
#[template(path = "usage_saved.html")]
pub(super) struct Saved {
    pub(super) headline: String,
    told: String,
    bars: Vec<Bar>,
}

#[derive(Debug, Clone, PartialEq)]
struct Bar {
    word: &'static str,
    colour: &'static str,
    /// Percent of the longest.
    share: u32,
    told: String,
}

/// The last day in a few numbers, on the app's own page.
#[derive(Debug, Template)]
#[template(path = "detail_lately.html")]
pub(super) struct Lately {
    path: String,
    numbers: [(&'static str, String); 4],
    saved: String,
}

impl Lately {
    /// `path`: where there is more.
    pub(super) fn of(report: &Report, path: String) -> Self {
        let total = &report.total;
        let wakes = total.wakes[0].count() + total.wakes[1].count();
        let numbers = [
            (say("requests"), whole(total.requests())),
            (say("usage-most-people"), whole(total.people)),
            (say("usage-wake-ups"), whole(wakes)),
            (say("usage-replica-hours"), number(total.awake_hours())),
        ];
        Self { path, numbers, saved: Saved::of(report).headline }
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct UsageQuery {
    #[serde(default)]
    range: String,
}

pub(super) async fn show(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    Query(query): Query<UsageQuery>,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    // An address with a range of another time shows the usual one.
    let range: Range = query.range.parse().unwrap_or_default();
    let report = web.service.usage(&visitor.who, &view.launcher.app_name, range).await?;
    let ranges = Range::ALL.map(|choice| RangeChoice {
        word: choice.as_str(),
        label: label(choice),
        here: choice == range,
    });
    Ok(Html(UsagePage {
        frame: visitor.frame(),
        tabs: Tab::of(&view, Here::Usage),
        project_path: view.project.path(),
        project_name: view.project.name,
        name: view.launcher.name,
        app_name: view.launcher.app_name.to_string(),
        range: range.as_str(),
        ranges: ranges.into(),
        saved: Saved::of(&report),
        charts: charts(&report),
        columns: COLUMNS.map(say),
        rows: report.slots.iter().rev().filter(|(_, counts)| !counts.is_nothing()).map(Row::of).collect(),
    })
    .into_response())
}

/// Charts and a comparison of a day that never was, for the page with all parts.
pub(super) fn sample() -> (Vec<Chart>, Saved) {
    let now = Timestamp::UNIX_EPOCH + Duration::from_secs(90 * 86_400);
    let mut reading = Reading::default();
    let slots: Vec<(i64, Counts)> = (0..96_u64)
        .map(|slot| {
            let busy = if (30..70).contains(&slot) { slot * 7 % 11 } else { 0 };
            reading.answers = [0, busy * 9, 0, busy, busy / 8];
            (reading.upstream.counts[3], reading.upstream.counts[5]) = (busy * 8, busy);
            (reading.wakes[0].counts[4], reading.wakes[1].counts[8]) = (busy.min(2), u64::from(slot == 31));
            let mut counts = Counts::risen(&reading, &Reading::default());
            counts.people = busy / 2;
            counts.awake = busy * 60_000;
            counts.awake_memory = busy * 60 * (400 << 10);
            counts.asleep = 900_000 - counts.awake;
            counts.asleep_memory = counts.asleep / 1000 * (50 << 10);
            (now.as_second() - 900 * (95 - i64::try_from(slot).unwrap_or_default()), counts)
        })
        .collect();
    let on = [(0, i64::MAX)];
    let report = Report::new(Range::Day, now, slots, &on, None);
    (charts(&report).into_iter().take(2).collect(), Saved::of(&report))
}

fn label(range: Range) -> &'static str {
    match range {
        Range::Hour => say("range-hour"),
        Range::Day => say("range-day"),
        Range::Week => say("range-week"),
        Range::Month => say("range-month"),
    }
}

/// The range as part of a sentence.
pub(super) fn lately(range: Range) -> &'static str {
    match range {
        Range::Hour => say("lately-hour"),
        Range::Day => say("lately-day"),
        Range::Week => say("lately-week"),
        Range::Month => say("lately-month"),
    }
}

const COLUMNS: [&str; 9] = [
    "usage-answered",
    "usage-refused",
    "usage-failed",
    "people",
    "usage-half-within",
    "usage-95-within",
    "usage-wakes-colds",
    "usage-replica-hours",
    "usage-gb-hours",
];

impl Row {
    fn of((start, counts): &(i64, Counts)) -> Self {
        let at = Timestamp::from_second(*start).unwrap_or_default();
        let quantile = |share| counts.latency.quantile(share).map_or_else(|| "–".to_owned(), seconds);
        Self {
            at: marmot_text::day_and_time(at),
            exact: at.to_string(),
            cells: [
                fine(counts).to_string(),
                counts.answers[3].to_string(),
                counts.answers[4].to_string(),
                counts.people.to_string(),
                quantile(0.5),
                quantile(0.95),
                format!("{} / {}", counts.wakes[0].count(), counts.wakes[1].count()),
                number(counts.awake_hours()),
                number(counts.gb_hours()),
            ],
        }
    }
}

/// Requests that were answered as those who sent them hoped.
fn fine(counts: &Counts) -> u64 {
    counts.answers[..3].iter().sum()
}

impl Saved {
    pub(super) fn of(report: &Report) -> Self {
        let lately = lately(report.range);
        let total = &report.total;
        if report.hours_on <= 0.0 {
            let told = say("saved-off").to_owned();
            return Self { headline: tell!("saved-was-off", lately = lately), told, bars: Vec::new() };
        }
        let Some(always) = report.always_on else {
            let told = say("saved-too-short").to_owned();
            return Self { headline: tell!("saved-slept", lately = lately), told, bars: Vec::new() };
        };
        let percent = always.saved_percent(total).unwrap_or_default();
        let headline = match percent {
            p if p >= 1.0 => tell!("saved-percent", percent = format!("{p:.0}"), lately = lately),
            _ => tell!("saved-awake-all", lately = lately),
        };
        let told = tell!("saved-told", on = hours(report.hours_on), awake = hours(total.awake_hours()));
        let bar = |word, colour, amount: f64, most: f64, unit: &str| Bar {
            word,
            colour,
            share: if most > 0.0 { (100.0 * amount / most).clamp(0.0, 100.0).ceil() as u32 } else { 0 },
            told: format!("{} {unit}", number(amount)),
        };
        let (replicas, memory) = (always.replica_hours, always.gb_hours);
        let bars = vec![
            bar(say("saved-awake"), "on", total.awake_hours(), replicas, say("replica-hours-unit")),
            bar(say("saved-never-slept"), "off", replicas, replicas, say("replica-hours-unit")),
            bar(say("memory"), "on", total.gb_hours(), memory, say("usage-gb-hours")),
            bar(say("saved-never-slept"), "off", memory, memory, say("usage-gb-hours")),
        ];
        Self { headline, told, bars }
    }
}

/// A number as people read it: three digits are enough.
fn number(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v < 0.01 => decimal("< 0.01".to_owned()),
        v if v < 10.0 => decimal(format!("{v:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()),
        v if v < 100.0 => decimal(format!("{v:.1}").trim_end_matches(".0").to_owned()),
        v => whole(v.round() as u64),
    }
}

/// A whole number with thin spaces between thousands.
pub(super) fn whole(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) && digits.len() > 4 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn hours(value: f64) -> String {
    words::duration(Duration::from_secs_f64((value * 3600.0).max(0.0)))
}

/// Seconds as people say them, from milliseconds on.
fn seconds(value: f64) -> String {
    match value {
        v if v < 0.000_95 => "< 1 ms".to_owned(),
        v if v < 0.995 => format!("{:.0} ms", v * 1000.0),
        v if v < 9.95 => decimal(decimal(format!("{v:.1} s").replace(".0 s", " s"))),
        v => words::duration(Duration::from_secs_f64(v)),
    }
}

fn charts(report: &Report) -> Vec<Chart> {
    let (_, step, count) = report.range.slots();
    let back = |slots: i64| match slots * step {
        0 => say("now").to_owned(),
        seconds if seconds < 3600 * 2 => tell!("ago-minutes", count = seconds / 60),
        seconds if seconds < 3600 * 48 => tell!("ago-hours", count = (seconds + 1800) / 3600),
        seconds => tell!("ago-days", count = (seconds + 43_200) / 86_400),
    };
    let when = |slot: usize| back(count - 1 - i64::try_from(slot).unwrap_or_default());
    let axis = [back(count), back(count / 2), say("now").to_owned()];
    let each = |value: &dyn Fn(&Counts) -> f64| -> Vec<f64> {
        report.slots.iter().map(|(_, counts)| value(counts)).collect()
    };
    let total = &report.total;
    let amount = |value: f64| whole(value.round() as u64);
    let sketch = |id, title, headline, bars, series, value: &dyn Fn(f64) -> String| {
        Chart::draw(Sketch { id, title, headline, bars, series, axis: axis.clone(), value, when: &when })
    };
    let series = |word, colour, told, values| Series { word, colour, told, values };
    let count_of = |spread: &Spread| spread.count() as f64;
    let took = |spread: &Spread| match spread.quantile(0.5) {
        Some(half) => tell!("took-half", count = whole(spread.count()), time = seconds(half)),
        None => "0".to_owned(),
    };
    let quantile = |counts: &Counts, share| counts.latency.quantile(share).unwrap_or_default();
    let told = |share| total.latency.quantile(share).map_or_else(|| "–".to_owned(), seconds);
    vec![
        sketch(
            "requests",
            say("requests"),
            whole(total.requests()),
            Bars::Stacked,
            vec![
                series(say("series-answered"), "on", whole(fine(total)), each(&|counts| fine(counts) as f64)),
                series(
                    say("series-refused"),
                    "busy",
                    whole(total.answers[3]),
                    each(&|counts| counts.answers[3] as f64),
                ),
                series(
                    say("series-failed"),
                    "bad",
                    whole(total.answers[4]),
                    each(&|counts| counts.answers[4] as f64),
                ),
            ],
            &amount,
        ),
        sketch(
            "people",
            say("chart-people"),
            tell!("up-to", count = whole(total.people)),
            Bars::Stacked,
            vec![series(
                say("series-people"),
                "accent",
                tell!("up-to", count = whole(total.people)),
                each(&|counts| counts.people as f64),
            )],
            &amount,
        ),
        sketch(
            "latency",
            say("chart-latency"),
            told(0.5),
            Bars::Nested,
            vec![
                series(say("usage-95-within"), "soft", told(0.95), each(&|counts| quantile(counts, 0.95))),
                series(say("series-half"), "accent", told(0.5), each(&|counts| quantile(counts, 0.5))),
            ],
            &seconds,
        ),
        sketch(
            "wakes",
            say("usage-wake-ups"),
            whole(total.wakes[0].count() + total.wakes[1].count()),
            Bars::Stacked,
            vec![
                series(
                    say("series-from-memory"),
                    "asleep",
                    took(&total.wakes[0]),
                    each(&|counts| count_of(&counts.wakes[0])),
                ),
                series(
                    say("series-cold"),
                    "busy",
                    took(&total.wakes[1]),
                    each(&|counts| count_of(&counts.wakes[1])),
                ),
            ],
            &amount,
        ),
        sketch(
            "replicas",
            say("usage-replica-hours"),
            number(total.awake_hours()),
            Bars::Stacked,
            vec![
                series(say("series-awake"), "on", number(total.awake_hours()), each(&Counts::awake_hours)),
                series(
                    say("series-asleep"),
                    "asleep",
                    number(total.asleep_hours()),
                    each(&Counts::asleep_hours),
                ),
            ],
            &number,
        ),
        sketch(
            "memory",
            say("chart-memory"),
            number(total.gb_hours()),
            Bars::Stacked,
            vec![series(say("series-held"), "accent", number(total.gb_hours()), each(&Counts::gb_hours))],
            &number,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::AlwaysOn;

    fn report(hours_on: f64, total: Counts, always_on: Option<AlwaysOn>) -> Report {
        Report { range: Range::Day, slots: vec![(0, total.clone())], total, hours_on, always_on }
    }

    #[test]
    fn what_sleeping_saved_is_said_in_a_sentence() {
        let awake = Counts { awake: 3_600_000, ..Counts::default() };
        let always = AlwaysOn { replica_hours: 10.0, gb_hours: 5.0 };
        let saved = Saved::of(&report(10.0, awake.clone(), Some(always)));
        assert_eq!(saved.headline, "Sleeping saved 90 % in the last 24 hours");
        assert!(saved.told.starts_with("It was on for 10 h and awake for 60 min."), "{}", saved.told);
        assert_eq!((saved.bars[0].share, saved.bars[1].share), (10, 100));
        let off = Saved::of(&report(0.0, Counts::default(), None));
        assert_eq!((off.headline.as_str(), off.bars.len()), ("It was off in the last 24 hours", 0));
        let slept = Saved::of(&report(10.0, Counts::default(), None));
        assert!(slept.headline.starts_with("It slept all the time"));
    }

    #[test]
    fn numbers_read_as_people_say_them() {
        assert_eq!(
            [0.0, 0.004, 0.5, 3.0, 12.34, 1234.0, 12_345.0].map(number),
            ["0", "< 0.01", "0.5", "3", "12.3", "1234", "12\u{202f}345"]
        );
        assert_eq!(
            [0.0004, 0.012, 1.0, 2.34, 75.0].map(seconds),
            ["< 1 ms", "12 ms", "1 s", "2.3 s", "75 s"]
        );
    }
}
