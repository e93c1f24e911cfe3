//! Looks at code and says what a build would do with it, without building anything: fetched with the same guards as a
//! build's, within narrower bounds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use marmot_core::{Said, said};

use super::contract::{BuildContext, BuildLimits};
use super::environment::remove;
use super::fetch::{Git, Tip};
use super::plan::{CannotPlan, Summary};
use super::process::{Interrupted, Job};
use super::run::{self, Build, StepError};
use super::source::{Allowed, CheckedSource};
use crate::wanted::WantedBuild;

/// A person waits for it, at a form.
const TIME: Duration = Duration::from_secs(45);
/// Larger code is built, but not looked at before.
const CODE_BYTES: u64 = 256 << 20;
/// How many are looked at together.
const AT_ONCE: usize = 2;
/// How many repositories are asked together where their branches are.
const ASKED_AT_ONCE: usize = 2;
/// How long one may take to say so.
const ASKING: Duration = Duration::from_secs(30);
/// How long one that is not looked at yet waits for those before it.
const WAIT: Duration = Duration::from_secs(10);

/// Looks at code. Cheap to clone; all clones share one bound.
#[derive(Debug, Clone)]
pub struct Planner {
    context: Arc<BuildContext>,
    turns: Arc<Semaphore>,
    /// Nobody sits waiting for these, so that they wait for each other, and keep nobody who does from a look.
    asks: Arc<Semaphore>,
}

/// What a build would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The commit that was looked at.
    pub commit: String,
    /// What would be done with it.
    pub plan: Summary,
}

/// The code was not looked at, or nothing can be made of it.
#[derive(Debug, thiserror::Error)]
pub enum NoPreview {
    /// Others are being looked at.
    #[error("too much code is being looked at right now: try again in a moment")]
    Busy,
    /// It cannot be fetched, or nothing would come of a build: in words for whoever owns the code.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: Said,
        /// It is there, and read: only what is in it is at fault.
        was_read: bool,
    },
    /// It was too much for a look. A build may take longer.
    #[error("the code takes too long to fetch for a look at it; it can be built all the same")]
    TooLong,
    /// The server's own directory is at fault.
    #[error("the directory for it could not be made")]
    Directory(#[from] std::io::Error),
}

impl Planner {
    /// Looks at code as builds with `context` do.
    pub fn new(context: Arc<BuildContext>) -> Self {
        Self {
            context,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            asks: Arc::new(Semaphore::new(ASKED_AT_ONCE)),
        }
    }

    /// What a build of this would do.
    ///
    /// Whoever no longer waits for it, ends it; nothing is left of it but the copy of the repository, for the build.
    ///
    /// # Errors
    /// [`NoPreview`], in words for whoever asks.
    pub async fn look(&self, wanted: &WantedBuild) -> Result<Preview, NoPreview> {
        let turn = tokio::time::timeout(WAIT, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(NoPreview::Busy) };
        let (place, job) = self.prepare(wanted, TIME)?;
        let looked = Build::new(&self.context, &job, &place.0, &|_: Said| {}).look(wanted).await;
        job.end_all().await;
        match looked {
            Ok((commit, plan)) => Ok(Preview { commit, plan: plan.summary() }),
            Err(StepError::Interrupted(Interrupted::TimedOut(_) | Interrupted::Cancelled)) => {
                Err(NoPreview::TooLong)
            }
            Err(error) => Err(NoPreview::Refused {
                was_read: matches!(
                    error,
                    StepError::Plan(CannotPlan::NothingToRun { .. } | CannotPlan::SeveralApps { .. })
                ),
                reason: run::told(&job, &error),
            }),
        }
    }

    /// Where the revision is that a build of this would take, by the list of branches and tags alone.
    ///
    /// # Errors
    /// [`NoPreview`], in words for whoever owns the code.
    pub async fn tip(&self, wanted: &WantedBuild) -> Result<Tip, NoPreview> {
        let Ok(_turn) = self.asks.acquire().await else { return Err(NoPreview::Busy) };
        let (_place, job) = self.prepare(wanted, ASKING)?;
        let asked = self.ask(&job, wanted).await;
        job.end_all().await;
        match asked {
            Ok(tip) => Ok(tip),
            Err(StepError::Interrupted(_)) => Err(NoPreview::Refused {
                reason: said!(
                    "preview-no-answer",
                    "its repository did not answer within {seconds} s",
                    seconds = ASKING.as_secs()
                ),
                was_read: false,
            }),
            Err(error) => Err(NoPreview::Refused { reason: run::told(&job, &error), was_read: false }),
        }
    }

    async fn ask(&self, job: &Job, wanted: &WantedBuild) -> Result<Tip, StepError> {
        let allowed = Allowed {
            local_repositories: self.context.allow_local_repositories,
            private_networks: self.context.allow_private_networks,
        };
        let source = CheckedSource::new(&wanted.source, allowed)?;
        let mut git = Git::new(&self.context, job, &source.address, &wanted.logins).await?;
        Ok(git.tip(&source).await?)
    }

    /// A place and a job for one look, within narrower bounds than a build's.
    fn prepare(&self, wanted: &WantedBuild, time: Duration) -> Result<(Place, Job), NoPreview> {
        let name = ulid::Ulid::generate();
        let place = Place(self.context.cache_dir.join("looks").join(name.to_string()));
        std::fs::create_dir_all(&place.0)?;
        let own = &self.context.limits;
        let limits = BuildLimits {
            time: time.min(own.time),
            code_bytes: CODE_BYTES.min(own.code_bytes),
            log_bytes: 64 << 10,
            ..own.clone()
        };
        let masked = run::masked(wanted);
        let cancel = CancellationToken::new();
        let job = run::prepare(&self.context, &limits, u128::from(name).into(), masked, &place.0, cancel)?;
        Ok((place, job))
    }
}

/// A directory that goes with this.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is removed when the cache is looked through.
        let _ = remove(&self.0);
    }
}
