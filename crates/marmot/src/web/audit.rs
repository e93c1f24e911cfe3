//! Who did what: in a project for its owners, altogether for those who run the installation.

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};

use super::Web;
use super::account_pages::{AuditPage, DeedRow};
use super::people::{Which, beside};
use super::projects::find;
use super::respond::{Failed, Html};
use super::session::Visitor;
use crate::model::{Deed, Paged};

pub(super) async fn of_project(
    State(web): State<Web>,
    visitor: Visitor,
    Path((namespace, slug)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> Result<Response, Failed> {
    let project = find(&web, &visitor.who, &namespace, &slug).await?;
    let found = web.service.project_audit(&visitor.who, project.id, which.page()).await?;
    let export = format!("/api/data/projects/{}/audit/export", project.id);
    let path = format!("{}/settings", project.path());
    Ok(page(&visitor, Some((project.name, path)), export, found))
}

pub(super) async fn all(
    State(web): State<Web>,
    visitor: Visitor,
    Query(which): Query<Which>,
) -> Result<Response, Failed> {
    let found = web.service.audit(&visitor.who, which.page()).await?;
    Ok(page(&visitor, None, "/api/data/audit/export".to_owned(), found))
}

fn page(
    visitor: &Visitor,
    project: Option<(String, String)>,
    export: String,
    found: Paged<Deed>,
) -> Response {
    let (earlier, later) = beside(found.page, found.total);
    let deeds = found.items.into_iter().map(row).collect();
    Html(AuditPage { frame: visitor.frame(), project, export, deeds, earlier, later }).into_response()
}

fn row(deed: Deed) -> DeedRow {
    let from = if deed.address.is_empty() { String::new() } else { format!(", {}", deed.address) };
    DeedRow {
        at: deed.at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        who: deed.actor,
        what: deed.action,
        to: format!("{} {}", deed.kind, deed.target),
        from: format!("{}{from}", deed.via),
    }
}
