//! An image that was made is given to the registry that the operator has set.

use super::super::told::Step;

use super::recipe::Whole;
use super::{NoImage, within};
use marmot_core::Said;

use crate::build::run::{StepError, sentence};
use crate::container::ContainerEngine;
use crate::container::reference::Reference;
use crate::observed::BuildOutcome;
use crate::wanted::Push;

const PUSHING: Step = Step::new("build-step-pushing", "Giving the image to the registry");

/// What came of it.
pub(super) enum Pushed {
    /// Nobody asked for it.
    No,
    /// The registry has it, by digest.
    To(String),
    /// It does not; what runs here, runs all the same.
    Refused(String),
}

impl Pushed {
    /// With this in what is told of a build.
    pub(super) fn told(self, outcome: BuildOutcome) -> BuildOutcome {
        match self {
            Self::No => outcome,
            Self::To(image) => BuildOutcome { pushed: Some(image), ..outcome },
            Self::Refused(why) => BuildOutcome { summary: format!("{} {why}", outcome.summary), ..outcome },
        }
    }
}

/// Gives the image with this id to a registry, if that is asked for.
pub(super) async fn push<P: Fn(Said) + Send + Sync>(
    whole: &Whole<'_, P>,
    engine: &ContainerEngine,
    id: &str,
    wish: Option<&Push>,
) -> Result<Pushed, StepError> {
    let Some(Push { reference, login, must }) = wish else { return Ok(Pushed::No) };
    let job = whole.job;
    job.log.step(PUSHING.english());
    (whole.progress)(PUSHING.said());
    job.log.say(reference);
    let name: Reference = match reference.parse() {
        Ok(name) => name,
        Err(why) if *must => return Err(NoImage::Reference(reference.clone(), why).into()),
        Err(why) => return Ok(refused(whole, &format!("its image has no name in the registry: {why}"))),
    };
    let about = within(job, async { Ok(engine.about().await?) }).await?;
    let pushing = async { Ok(engine.api().push(id, &name, login.as_ref(), about.podman).await) };
    match within(job, pushing).await? {
        Ok(digest) => {
            let at = name.at(&digest).map_or(digest, |image| image.to_string());
            job.log.say(&at);
            Ok(Pushed::To(at))
        }
        Err(why) if *must => Err(NoImage::NotPushed(why).into()),
        Err(why) => Ok(refused(whole, &why.to_string())),
    }
}

fn refused<P>(whole: &Whole<'_, P>, why: &str) -> Pushed {
    let why = whole.job.log.masked(&sentence(why));
    whole.job.log.say(&format!("Warning: {why} The app runs here all the same."));
    Pushed::Refused(why)
}
