//! Why the number of awake replicas is what it is, in words.

use std::fmt;
use std::time::Duration;

use crate::Said;

/// Why the number of awake replicas is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The app is off.
    Off,
    /// The revision has yet to show that it boots.
    FirstBoot,
    /// There are requests or sessions.
    Load(Measured),
    /// There were requests a moment ago.
    StillWarm,
    /// So many stay awake whoever comes.
    Minimum,
    /// It is kept warm at this time.
    Schedule,
    /// A visit is to be expected: in so many percent of the cases like this one somebody came.
    Foreseen {
        /// The chance of a visit soon, in percent.
        percent: u8,
    },
    /// Nobody uses the app.
    Idle,
}

/// What a number of replicas follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// The average demand, in thousandths.
    pub demand: u64,
    /// Over how long.
    pub over: Duration,
    /// What one replica is aimed to serve, in thousandths.
    pub target: u64,
    /// Sessions are counted, not requests.
    pub sessions: bool,
    /// Demand rose suddenly: nothing is scaled in for now.
    pub panic: bool,
    /// The number is not what demand asks for, because of this.
    pub bound: Option<Bound>,
}

/// What keeps a number of replicas from following demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The app may have no more.
    Most,
    /// The app has no fewer.
    Least,
    /// It shrinks step by step.
    Rate,
    /// Others need their share.
    Share,
}

impl Why {
    /// Whether both are the same kind of reason, whatever the numbers.
    pub fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Load(one), Self::Load(two)) => one.panic == two.panic && one.bound == two.bound,
            _ => std::mem::discriminant(&self) == std::mem::discriminant(&other),
        }
    }
}

impl Why {
    /// The same, with what other languages say it by.
    pub fn said(&self) -> Said {
        let said = |name| Said::new(name, self);
        match self {
            Self::Off => said("why-off"),
            Self::FirstBoot => said("why-first-boot"),
            Self::Load(measured) => measured.said(said("why-load")),
            Self::StillWarm => said("why-still-warm"),
            Self::Minimum => said("why-minimum"),
            Self::Schedule => said("why-schedule"),
            Self::Foreseen { percent } => said("why-foreseen").with("percent", percent),
            Self::Idle => said("why-idle"),
        }
    }
}

impl Measured {
    fn said(&self, said: Said) -> Said {
        let bound = match self.bound {
            None => "none",
            Some(Bound::Most) => "most",
            Some(Bound::Least) => "least",
            Some(Bound::Rate) => "rate",
            Some(Bound::Share) => "share",
        };
        said.with("demand", Said::decimal(Milli(self.demand)))
            .with("of", if self.sessions { "sessions" } else { "requests" })
            .with("seconds", Said::decimal(self.over.as_secs_f64()))
            .with("target", Said::decimal(Milli(self.target)))
            .with("rise", if self.panic { "sudden" } else { "none" })
            .with("bound", bound)
    }
}

/// Thousandths as people read them: `3.2`.
struct Milli(u64);

impl fmt::Display for Milli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0 + 50) / 100;
        match (tenths / 10, tenths % 10) {
            (whole, 0) => write!(f, "{whole}"),
            (whole, tenth) => write!(f, "{whole}.{tenth}"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("the app is off"),
            Self::FirstBoot => f.write_str("a new revision has to show that it starts"),
            Self::Load(measured) => measured.fmt(f),
            Self::StillWarm => f.write_str("it was used a moment ago"),
            Self::Minimum => f.write_str("its minimum of replicas stays awake"),
            Self::Schedule => f.write_str("it is kept warm at this time"),
            Self::Foreseen { percent } => {
                write!(f, "a visit is expected: somebody came in {percent} % of the cases like this")
            }
            Self::Idle => f.write_str("nobody uses it"),
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.sessions { "sessions open" } else { "in flight" };
        let seconds = self.over.as_secs_f64();
        let (demand, target) = (Milli(self.demand), Milli(self.target));
        write!(f, "{demand} {what} over {seconds} s, target {target} per replica")?;
        if self.panic {
            f.write_str(", a sudden rise")?;
        }
        match self.bound {
            None => Ok(()),
            Some(Bound::Most) => f.write_str(", its maximum"),
            Some(Bound::Least) => f.write_str(", its minimum"),
            Some(Bound::Rate) => f.write_str(", step by step"),
            Some(Bound::Share) => f.write_str(", its share of the machine"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_measured() {
        let measured = Measured {
            demand: 3_200,
            over: Duration::from_secs(60),
            target: 1_400,
            sessions: false,
            panic: false,
            bound: None,
        };
        assert_eq!(Why::Load(measured).to_string(), "3.2 in flight over 60 s, target 1.4 per replica");
        let sudden = Measured { panic: true, sessions: true, bound: Some(Bound::Most), ..measured };
        assert_eq!(
            Why::Load(sudden).to_string(),
            "3.2 sessions open over 60 s, target 1.4 per replica, a sudden rise, its maximum"
        );
    }
}
