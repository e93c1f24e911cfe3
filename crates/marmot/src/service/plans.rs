//! What a build would do with code: looked at before a launcher is made.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use marmot_core::id::{EnvironmentId, ProjectId, UserId};
use marmot_core::{Said, said};
use marmot_engine::build::{NoPreview, Preview};
use marmot_engine::wanted::{self, Builder, Source, WantedBuild};

use super::credentials::Login;
use super::error::{Error, Result};
use super::permission::{Action, Identity};
use super::projects::allowed_project;
use super::{Service, fresh, now};
use crate::model::{BuilderVariant, Code, CodeRun, CredentialKind, EnvironmentSource};

/// How often one person may have code looked at within [`WINDOW`]. Who fills in a form does so a few times.
const PER_PERSON: u32 = 30;
const WINDOW: Duration = Duration::from_secs(60);

/// Counts how often code was looked at, by person.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<HashMap<UserId, (Timestamp, u32)>>);

impl Looks {
    /// Counts one more; how long to wait when there were too many.
    fn admit(&self, person: UserId, now: Timestamp) -> Result<(), Duration> {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
        looks.retain(|_, (since, _)| age(*since) < WINDOW);
        let (since, count) = looks.entry(person).or_insert((now, 0));
        if *count >= PER_PERSON {
            return Err(WINDOW.saturating_sub(age(*since)));
        }
        *count += 1;
        Ok(())
    }
}

impl Service {
    /// What a build of this code would do. `run`: how the launcher says it is run.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`]; [`Error::Invalid`] when the code cannot be fetched or nothing can be
    /// made of it; [`Error::TooManyTries`], [`Error::NotOffered`].
    pub async fn plan_code(
        &self,
        who: &Identity,
        project: ProjectId,
        code: Code,
        run: CodeRun,
    ) -> Result<Preview> {
        self.may_run_code(who)?;
        let mut db = self.db().read().await?;
        let project = allowed_project(&mut db, who, project, Action::Change).await?;
        let command_given = run.command.is_some();
        let EnvironmentSource::Code { code, .. } =
            self.checked_source(EnvironmentSource::Code { code, run })?
        else {
            return Err(Error::invalid(said!("image-is-not-built", "an image is not built")));
        };
        let Some(planner) = &self.inner.live.planner else {
            return Err(Error::NotOffered { message: said!("nothing-is-built", "nothing is built here") });
        };
        let person = who.signed_in()?.id;
        self.inner.looks.admit(person, now()).map_err(|retry_after| Error::TooManyTries { retry_after })?;
        let logins = self.given_credentials(&mut db).await?.of(project.id, CredentialKind::Git);
        // It may take a while, and connections to the database are few.
        drop(db);
        let wanted = wanted_build(&code, fresh(), command_given, &logins);
        planner.look(&wanted).await.map_err(refused)
    }
}

fn refused(error: NoPreview) -> Error {
    match error {
        NoPreview::Busy => Error::TooManyTries { retry_after: Duration::from_secs(5) },
        NoPreview::Refused { reason, .. } => Error::invalid(reason),
        NoPreview::TooLong => Error::invalid(Said::new("preview-too-long", error)),
        NoPreview::Directory(_) => Error::Internal(Box::new(error)),
    }
}

/// How the engine is to build it.
pub fn engine_builder(builder: BuilderVariant) -> Builder {
    match builder {
        BuilderVariant::Auto => Builder::Auto,
        BuilderVariant::Python => Builder::Python,
        BuilderVariant::R => Builder::R,
        BuilderVariant::Node => Builder::Node,
        BuilderVariant::Static => Builder::Static,
        BuilderVariant::Dockerfile => Builder::Dockerfile,
        BuilderVariant::Buildpacks => Builder::Buildpacks,
    }
}

/// What the engine is asked for to build this code, without what only the code's own scripts are given.
pub fn wanted_build(code: &Code, owner: EnvironmentId, command_given: bool, logins: &[Login]) -> WantedBuild {
    WantedBuild {
        source: Source {
            repository: code.repository.clone(),
            revision: code.revision.clone(),
            context_dir: code.context_dir.clone(),
        },
        builder: engine_builder(code.builder),
        owner,
        command_given,
        variables: Vec::new(),
        secrets: Vec::new(),
        logins: logins.iter().map(engine_login).collect(),
        registries: Vec::new(),
        image: <_>::default(),
    }
}

/// What is shown to a host, for the engine.
pub fn engine_login(login: &Login) -> wanted::Login {
    wanted::Login {
        host: login.host.clone(),
        username: login.username.clone(),
        password: login.secret.reveal().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_who_looks_too_often_waits_and_keeps_nobody_else_from_it() {
        let looks = Looks::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        for _ in 0..PER_PERSON {
            assert_eq!(looks.admit(1.into(), at(0)), Ok(()));
        }
        assert_eq!(looks.admit(1.into(), at(20)), Err(Duration::from_secs(40)));
        assert_eq!(looks.admit(2.into(), at(20)), Ok(()));
        assert_eq!(looks.admit(1.into(), at(60)), Ok(()));
    }
}
