//! The limits of a project on the page of its settings: shown to its editors, said by administrators.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use marmot_text::say;

use super::Web;
use super::forms::Typed;
use super::pages::{LimitRow, ProjectForm};
use super::projects::{ProjectPath, settings_page, to_change};
use super::respond::{Failed, Html, see_other};
use super::session::Visitor;
use super::view::Field;
use super::words;
use crate::config::{bytes, bytes_as_typed};
use crate::model::{Project, ProjectLimits};
use crate::service::{Action, Error, Field as Of};

/// A limit: its name, what people call it, and where it is.
type Limit = (&'static str, &'static str, fn(&mut ProjectLimits) -> &mut Option<u64>);

const LIMITS: [Limit; 7] = [
    ("memory_bytes", "limit-memory", |limits| &mut limits.memory_bytes),
    ("storage_bytes", "limit-storage", |limits| &mut limits.storage_bytes),
    ("builds_at_once", "limit-builds-at-once", |limits| &mut limits.builds_at_once),
    ("builds_per_hour", "limit-builds-per-hour", |limits| &mut limits.builds_per_hour),
    ("replicas", "limit-replicas", |limits| &mut limits.replicas),
    ("requests_per_second", "limit-requests-per-second", |limits| &mut limits.requests_per_second),
    ("requests_at_once", "limit-requests-at-once", |limits| &mut limits.requests_at_once),
];

fn is_size(name: &str) -> bool {
    name.ends_with("_bytes")
}

/// What is used and allowed, for those who may change the project.
pub(super) async fn rows(web: &Web, visitor: &Visitor, project: &Project) -> Result<Vec<LimitRow>, Failed> {
    let mut view = web.service.limits(&visitor.who, project.id).await?;
    let row = |(name, told, of): Limit| {
        let words = |number: Option<u64>, otherwise: &str| match number {
            Some(bytes) if is_size(name) => size(bytes),
            Some(number) => number.to_string(),
            None => otherwise.to_owned(),
        };
        let said = match *of(&mut view.said) {
            Some(bytes) if is_size(name) => bytes_as_typed(bytes),
            Some(number) => number.to_string(),
            None => String::new(),
        };
        LimitRow {
            name,
            told: say(told),
            used: words(*of(&mut view.used), "–"),
            allowed: words(*of(&mut view.allowed), say("limit-any")),
            field: Field::of(said),
            like: if is_size(name) { say("limit-like-size") } else { say("limit-like-number") },
        }
    };
    Ok(LIMITS.into_iter().map(row).collect())
}

/// A size as people read it.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_073_741_824 => format!("{} MiB", bytes.div_ceil(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

pub(super) async fn save(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): ProjectPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let project = to_change(&web, &visitor, &path, Action::Change).await?;
    let (mut said, mut wrong) = (ProjectLimits::default(), Vec::new());
    for (name, _, of) in LIMITS {
        let text = typed.get(name).trim();
        let read = if is_size(name) { bytes(text) } else { text.parse().ok() };
        match (text.is_empty(), read) {
            (true, _) => {}
            (false, Some(number)) => *of(&mut said) = Some(number),
            (false, None) => wrong.push(name),
        }
    }
    if visitor.who.is_admin() && !wrong.is_empty() {
        let mut page = settings_page(&web, &visitor, &project, ProjectForm::of(&project)).await?;
        for row in &mut page.limits {
            row.field = Field::of(typed.get(row.name).trim());
            let wanted = if is_size(row.name) { say("limit-wrong-size") } else { say("limit-wrong-number") };
            row.field.wrong = wrong.contains(&row.name).then(|| wanted.to_owned());
        }
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, Html(page)).into_response());
    }
    match web.service.set_limits(&visitor.who, project.id, |limits| *limits = said).await {
        Ok(_) => Ok(see_other(&format!("{}/settings#limits", project.path()))),
        Err(error @ Error::Invalid { .. }) => {
            let mut page = settings_page(&web, &visitor, &project, ProjectForm::of(&project)).await?;
            for row in &mut page.limits {
                row.field = Field::of(typed.get(row.name).trim());
                let at_fault = error.field() == Some(Of::Limit(row.name));
                row.field.wrong = at_fault.then(|| words::refusal(&error));
            }
            Ok((StatusCode::UNPROCESSABLE_ENTITY, Html(page)).into_response())
        }
        Err(other) => Err(other.into()),
    }
}
