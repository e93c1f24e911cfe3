//! What a project shows to the hosts of its private repositories and images: a list, and a form for one more.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use marmot_core::id::CredentialId;
use marmot_text::{filters, say};

use super::Web;
use super::again::Again;
use super::forms::Typed;
use super::present::Presenter;
use super::projects::{ProjectPath, to_change};
use super::respond::{Failed, Html, see_other};
use super::session::Visitor;
use super::view::Frame;
use crate::model::{CredentialKind, Project, Secret};
use crate::service::{Action, Error, NewCredential};

#[derive(Debug, Template)]
#[template(path = "credentials.html")]
pub(super) struct CredentialsPage {
    frame: Frame,
    /// The project's path and name.
    path: String,
    project: String,
    rows: Vec<Row>,
    again: Again,
}

#[derive(Debug)]
struct Row {
    id: String,
    host: String,
    what: &'static str,
    username: String,
    set: String,
}

async fn page(
    web: &Web,
    visitor: &Visitor,
    project: &Project,
    again: Again,
) -> Result<CredentialsPage, Failed> {
    let presenter = Presenter::new(&web.service);
    let found = web.service.credentials(&visitor.who, project.id).await?;
    let row = |credential: crate::model::Credential| Row {
        id: credential.id.to_string(),
        what: match credential.kind {
            CredentialKind::Git => say("credential-repositories"),
            CredentialKind::Registry => say("credential-images"),
        },
        set: presenter.ago(credential.created_at),
        host: credential.host,
        username: credential.username,
    };
    Ok(CredentialsPage {
        frame: visitor.frame(),
        path: project.path(),
        project: project.name.clone(),
        rows: found.into_iter().map(row).collect(),
        again,
    })
}

pub(super) async fn show(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): ProjectPath,
) -> Result<Response, Failed> {
    let project = to_change(&web, &visitor, &path, Action::Change).await?;
    Ok(Html(page(&web, &visitor, &project, Again::default()).await?).into_response())
}

pub(super) async fn set(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): ProjectPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let project = to_change(&web, &visitor, &path, Action::Change).await?;
    let registry = typed.get("kind") == "registry";
    let new = NewCredential {
        kind: if registry { CredentialKind::Registry } else { CredentialKind::Git },
        host: typed.get("host").to_owned(),
        username: Some(typed.get("username").trim().to_owned()),
        // Browsers end lines in forms as mail does.
        secret: Secret::new(typed.get("secret").replace("\r\n", "\n").trim()),
    };
    match web.service.set_credential(&visitor.who, project.id, new).await {
        Ok(_) => Ok(see_other(&format!("{}/credentials", project.path()))),
        Err(error @ (Error::Invalid { .. } | Error::Conflict { .. })) => {
            let again = Again::refused("credentials", &typed, &error);
            let page = page(&web, &visitor, &project, again).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, Html(page)).into_response())
        }
        Err(other) => Err(other.into()),
    }
}

pub(super) async fn remove(
    State(web): State<Web>,
    visitor: Visitor,
    Path((namespace, slug, id)): Path<(String, String, String)>,
) -> Result<Response, Failed> {
    let project = to_change(&web, &visitor, &(namespace, slug), Action::Change).await?;
    let id: CredentialId = id.parse().map_err(|_| Failed::NoSuchPage)?;
    match web.service.remove_credential(&visitor.who, project.id, id).await {
        // Somebody was faster.
        Ok(()) | Err(Error::NotFound { .. }) => Ok(see_other(&format!("{}/credentials", project.path()))),
        Err(other) => Err(other.into()),
    }
}
