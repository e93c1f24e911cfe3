//! What a person is told about an app, derived from facts and never stored beside them.

use std::fmt;

/// What is going on with an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Off: nobody can open it.
    Inactive,
    /// Its environment is being built from code.
    Building,
    /// The first replica of this activation boots.
    Starting,
    /// On, with a replica that is awake.
    Running,
    /// On, without one: the next request wakes it.
    Asleep(Depth),
    /// On; a request waits for a replica to wake.
    Waking,
    /// On; the next revision is being started beside the one that serves.
    Updating,
    /// Switched off; replicas are finishing.
    Stopping,
    /// Cannot be opened.
    Failed,
}

/// How deep an app sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// A frozen replica wakes in milliseconds.
    Hibernated,
    /// No replica: waking is a cold start.
    Stopped,
}

/// The coarse status that Renku's clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not there yet, or going away.
    Pending,
    /// Can be opened.
    Ready,
    /// Cannot be opened.
    Failed,
    /// Sleeps. Never derived: an app that sleeps is `ready`, since opening it works.
    Hibernated,
}

/// The facts a phase is derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// It is switched on.
    pub on: bool,
    /// Somebody waits for it.
    pub waited_for: bool,
    /// What is known of its wanted revision.
    pub revision: RevisionFact,
    /// Replicas of the wanted revision that boot.
    pub starting: u32,
    /// Replicas, of any revision, that are awake and serve.
    pub running: u32,
    /// Replicas, of any revision, that are frozen.
    pub hibernated: u32,
    /// Replicas that finish or are being stopped.
    pub draining: u32,
    /// An earlier revision still serves, or could.
    pub earlier_serves: bool,
}

/// What is known of the revision an app should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RevisionFact {
    /// There is none yet: its build is under way.
    #[default]
    Building,
    /// There is none: its build failed or was cancelled.
    BuildFailed,
    /// It has not been ready yet.
    Unproven,
    /// It has been ready.
    Proven,
    /// It could not be started, and starting has stopped.
    GaveUp,
}

/// What is going on with an app of which these facts are known.
pub fn derive(facts: Facts) -> Phase {
    if !facts.on {
        return if facts.running + facts.starting + facts.hibernated + facts.draining > 0 {
            Phase::Stopping
        } else {
            Phase::Inactive
        };
    }
    let asleep = Phase::Asleep(if facts.hibernated > 0 { Depth::Hibernated } else { Depth::Stopped });
    match facts.revision {
        RevisionFact::Building | RevisionFact::Unproven if facts.earlier_serves => Phase::Updating,
        RevisionFact::BuildFailed | RevisionFact::GaveUp if !facts.earlier_serves => {
            match facts {
                // One more try, because somebody asked: it is under way, or it went well.
                Facts { running: 1.., .. } => Phase::Running,
                Facts { starting: 1.., .. } => Phase::Waking,
                Facts { hibernated: 1.., .. } => asleep,
                _ => Phase::Failed,
            }
        }
        RevisionFact::Building => Phase::Building,
        RevisionFact::Unproven if facts.running > 0 => Phase::Running,
        RevisionFact::Unproven => Phase::Starting,
        _ if facts.running > 0 => Phase::Running,
        _ if facts.waited_for || facts.starting > 0 => Phase::Waking,
        _ => asleep,
    }
}

impl Phase {
    /// The coarse status; `None` where there is no app.
    pub fn status(self) -> Option<Status> {
        match self {
            Self::Inactive => None,
            Self::Building | Self::Starting | Self::Stopping => Some(Status::Pending),
            Self::Running | Self::Asleep(_) | Self::Waking | Self::Updating => Some(Status::Ready),
            Self::Failed => Some(Status::Failed),
        }
    }

    /// The word the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Building => "building",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Asleep(_) => "asleep",
            Self::Waking => "waking",
            Self::Updating => "updating",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Depth {
    /// The word the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hibernated => "hibernated",
            Self::Stopped => "stopped",
        }
    }
}

impl Status {
    /// The word the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Hibernated => "hibernated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(revision: RevisionFact) -> Facts {
        Facts { on: true, revision, ..Facts::default() }
    }

    #[test]
    fn follows_an_app_from_activation_to_shut_down() {
        let story = [
            (on(RevisionFact::Building), Phase::Building),
            (on(RevisionFact::Unproven), Phase::Starting),
            (Facts { starting: 1, ..on(RevisionFact::Unproven) }, Phase::Starting),
            (Facts { running: 1, ..on(RevisionFact::Proven) }, Phase::Running),
            (Facts { hibernated: 1, ..on(RevisionFact::Proven) }, Phase::Asleep(Depth::Hibernated)),
            (Facts { hibernated: 1, waited_for: true, ..on(RevisionFact::Proven) }, Phase::Waking),
            (on(RevisionFact::Proven), Phase::Asleep(Depth::Stopped)),
            (Facts { starting: 1, ..on(RevisionFact::Proven) }, Phase::Waking),
            (Facts { draining: 1, ..Facts::default() }, Phase::Stopping),
            (Facts::default(), Phase::Inactive),
        ];
        for (facts, phase) in story {
            assert_eq!(derive(facts), phase, "{facts:?}");
        }
    }

    #[test]
    fn an_app_never_looks_healthy_while_it_cannot_be_opened() {
        for revision in [RevisionFact::BuildFailed, RevisionFact::GaveUp] {
            assert_eq!(derive(Facts { waited_for: true, ..on(revision) }).status(), Some(Status::Failed));
        }
    }

    #[test]
    fn an_app_that_comes_back_after_starting_had_stopped_is_on_again() {
        let again = on(RevisionFact::GaveUp);
        assert_eq!(derive(Facts { starting: 1, ..again }), Phase::Waking);
        assert_eq!(derive(Facts { running: 1, ..again }), Phase::Running);
        assert_eq!(derive(Facts { hibernated: 1, ..again }), Phase::Asleep(Depth::Hibernated));
    }

    #[test]
    fn an_earlier_revision_that_serves_keeps_the_app_on() {
        let earlier = |revision| Facts { earlier_serves: true, running: 1, ..on(revision) };
        assert_eq!(derive(earlier(RevisionFact::Building)), Phase::Updating);
        assert_eq!(derive(Facts { starting: 1, ..earlier(RevisionFact::Unproven) }), Phase::Updating);
        assert_eq!(derive(earlier(RevisionFact::GaveUp)), Phase::Running);
        assert_eq!(derive(earlier(RevisionFact::BuildFailed)), Phase::Running);
    }
}
