//! Arrivals at apps, from a file or made up.
//!
//! The file is CSV with a header: `app,time,duration,sessions`. `app` is any text without a comma; `time` is in seconds
//! since the beginning, which is a Monday at midnight, UTC; `duration` is in seconds; `sessions` is how many connections
//! it holds open meanwhile, 0 for a plain request. Lines that begin with `#` are remarks. Any order will do.

use std::collections::BTreeMap;

use super::{KINDS, Kind};

/// Somebody asks for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Milliseconds since the beginning of the trace.
    pub at: u64,
    /// Which app, by its place in [`Trace::apps`].
    pub app: u32,
    /// How long it takes, in milliseconds.
    pub duration: u32,
    /// How many connections it holds open meanwhile.
    pub sessions: u32,
}

/// What is replayed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The apps: a name, and what it costs.
    pub apps: Vec<(String, Kind)>,
    /// By time; those of the same millisecond by app.
    pub arrivals: Vec<Arrival>,
    /// When it ends, in milliseconds.
    pub end: u64,
}

/// The text is not a trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the trace is `{given}`: {wrong}")]
pub struct InvalidTrace {
    /// Which line, from 1.
    pub line: usize,
    /// The line, cut to a length that fits a message.
    pub given: String,
    /// What is wrong with it.
    pub wrong: &'static str,
}

/// The longest trace, in seconds: ten years.
const LONGEST: f64 = 10.0 * 365.0 * 86_400.0;

/// Reads a trace line by line.
#[derive(Debug, Default)]
pub struct Reader {
    known: BTreeMap<String, u32>,
    trace: Trace,
    lines: usize,
    begun: bool,
}

impl Reader {
    /// Takes the next line.
    ///
    /// # Errors
    /// When it is neither an arrival, nor the header at its place, nor a remark.
    pub fn line(&mut self, text: &str) -> Result<(), InvalidTrace> {
        self.lines += 1;
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            return Ok(());
        }
        let invalid = |line, wrong| InvalidTrace { line, given: text.chars().take(80).collect(), wrong };
        if !std::mem::replace(&mut self.begun, true) {
            let header = text.split(',').map(str::trim).eq(["app", "time", "duration", "sessions"]);
            return if header {
                Ok(())
            } else {
                Err(invalid(self.lines, "the first line must be `app,time,duration,sessions`"))
            };
        }
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        let [app, time, duration, sessions] = fields[..] else {
            return Err(invalid(self.lines, "there must be four fields: app, time, duration, sessions"));
        };
        let seconds =
            |text: &str, most: f64| text.parse::<f64>().ok().filter(|seconds| (0.0..=most).contains(seconds));
        let at = seconds(time, LONGEST).ok_or_else(|| {
            invalid(self.lines, "the time must be seconds since the beginning, at most ten years")
        })?;
        let duration = seconds(duration, 86_400.0)
            .ok_or_else(|| invalid(self.lines, "the duration must be seconds, at most a day"))?;
        let sessions = sessions
            .parse::<u32>()
            .ok()
            .filter(|sessions| *sessions <= 10_000)
            .ok_or_else(|| invalid(self.lines, "the sessions must be a whole number up to 10000"))?;
        let next = u32::try_from(self.trace.apps.len()).unwrap_or(u32::MAX);
        let app = *self.known.entry(app.to_owned()).or_insert_with(|| {
            self.trace.apps.push((app.to_owned(), KINDS[next as usize % KINDS.len()]));
            next
        });
        let millis = |seconds: f64| (seconds * 1000.0).round() as u64;
        let duration = u32::try_from(millis(duration)).unwrap_or(u32::MAX).max(1);
        self.trace.arrivals.push(Arrival { at: millis(at), app, duration, sessions });
        Ok(())
    }

    /// The trace.
    pub fn finish(self) -> Trace {
        self.trace.in_order()
    }
}

impl Trace {
    /// Puts arrivals into their order, and the end after the last of them.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        self.arrivals.sort_by_key(|arrival| (arrival.at, arrival.app, arrival.duration, arrival.sessions));
        let ends = self.arrivals.iter().map(|arrival| arrival.at + u64::from(arrival.duration));
        let last = ends.max().unwrap_or(0);
        self.end = self.end.max(last);
        self
    }

    /// The trace as lines of a file.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let line = |arrival: &Arrival| {
            let app = self.apps.get(arrival.app as usize).map_or("", |(name, _)| name.as_str());
            let (at, duration) = (arrival.at as f64 / 1000.0, f64::from(arrival.duration) / 1000.0);
            format!("{app},{at:.3},{duration:.3},{}", arrival.sessions)
        };
        std::iter::once("app,time,duration,sessions".to_owned()).chain(self.arrivals.iter().map(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Trace, InvalidTrace> {
        let mut reader = Reader::default();
        text.lines().try_for_each(|line| reader.line(line))?;
        Ok(reader.finish())
    }

    #[test]
    fn reads_what_it_writes_and_puts_it_into_order() {
        let trace =
            read("# two apps\napp,time,duration,sessions\nb,2.5,0.1,0\na, 1 ,60,1\n\nb,0,0,0\n").unwrap();
        let at: Vec<_> = trace.arrivals.iter().map(|arrival| (arrival.at, arrival.app)).collect();
        assert_eq!((at, trace.end), (vec![(0, 0), (1000, 1), (2500, 0)], 61_000));
        let again = read(&trace.lines().collect::<Vec<_>>().join("\n")).unwrap();
        assert_eq!(again.arrivals, trace.arrivals);
    }

    #[test]
    fn says_which_line_is_wrong_and_why() {
        let wrong =
            |line: &str| read(&format!("app,time,duration,sessions\n{line}")).unwrap_err().to_string();
        assert!(read("a,1,1,1").unwrap_err().to_string().contains("the first line must be"));
        assert_eq!(
            wrong("a,1,1"),
            "line 2 of the trace is `a,1,1`: there must be four fields: app, time, duration, sessions"
        );
        for (line, what) in
            [("a,-1,1,0", "time"), ("a,NaN,1,0", "time"), ("a,1,1e9,0", "duration"), ("a,1,1,x", "sessions")]
        {
            assert!(wrong(line).contains(what), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = read(&text);
            let _ = read(&format!("app,time,duration,sessions\n{text}"));
        }
    }
}
