//! Groups: made, shown with their members, changed, deleted.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use marmot_core::name::Namespace;
use marmot_core::said;
use marmot_text::{say, tell};

use super::Web;
use super::account_pages::{GroupPage, GroupRow, GroupsPage, MemberRow};
use super::forms::Typed;
use super::pages::Question;
use super::people::{Which, beside};
use super::respond::{Failed, Html, see_other};
use super::session::Visitor;
use super::view::Field;
use super::words;
use crate::model::{Page, Role};
use crate::service::{Error, Field as Of, GroupPatch, MemberChange, NewGroup, ProjectFilter, Whom};

/// What somebody typed about a new group.
#[derive(Default)]
struct NewForm {
    name: Field,
    path: Field,
    description: Field,
}

async fn list_page(web: &Web, visitor: &Visitor, which: Page, form: NewForm) -> Result<GroupsPage, Failed> {
    let all = visitor.who.is_admin();
    let found = web.service.groups(&visitor.who, !all, which).await?;
    let (earlier, later) = beside(which, found.total);
    let row = |group: crate::model::Group| GroupRow {
        path: group.path.to_string(),
        name: group.name,
        description: group.description.unwrap_or_default(),
    };
    let NewForm { name, path, description } = form;
    let groups = found.items.into_iter().map(row).collect();
    Ok(GroupsPage { frame: visitor.frame(), all, groups, name, path, description, earlier, later })
}

pub(super) async fn list(
    State(web): State<Web>,
    visitor: Visitor,
    Query(which): Query<Which>,
) -> Result<Response, Failed> {
    Ok(Html(list_page(&web, &visitor, which.page(), NewForm::default()).await?).into_response())
}

pub(super) async fn create(
    State(web): State<Web>,
    visitor: Visitor,
    typed: Typed,
) -> Result<Response, Failed> {
    visitor.who.signed_in()?;
    let field = |name: &str| Field::of(typed.get(name).trim());
    let mut form = NewForm { name: field("name"), path: field("path"), description: field("description") };
    let made = match form.path.value.parse::<Namespace>() {
        Ok(path) => {
            let description = Some(form.description.value.clone());
            let new = NewGroup { path, name: form.name.value.clone(), description };
            web.service.create_group(&visitor.who, new).await
        }
        Err(why) => Err(Error::invalid(why.said()).about(Of::Path)),
    };
    match made {
        Ok(group) => return Ok(see_other(&format!("/groups/{}", group.path))),
        Err(error @ (Error::Conflict { .. } | Error::Invalid { .. })) => {
            let wrong = Some(words::refusal(&error));
            match error.field() {
                Some(Of::Description) => form.description.wrong = wrong,
                Some(Of::Name) => form.name.wrong = wrong,
                _ => form.path.wrong = wrong,
            }
        }
        Err(other) => return Err(other.into()),
    }
    let page = list_page(&web, &visitor, Which::default().page(), form).await?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, Html(page)).into_response())
}

fn read(path: &str) -> Result<Namespace, Failed> {
    // What is no name names no group.
    path.parse().map_err(|_| Failed::NoSuchPage)
}

async fn page(web: &Web, visitor: &Visitor, path: &Namespace) -> Result<GroupPage, Failed> {
    let group = web.service.group(&visitor.who, path).await?;
    let members = web.service.group_members(&visitor.who, path).await?;
    let own = members.iter().find(|member| Some(member.user) == visitor.who.id());
    let owns = own.is_some_and(|member| member.role == Role::Owner);
    let filter = ProjectFilter { namespace: Some(path.clone()), member: None };
    let projects = web.service.projects(&visitor.who, &filter, Page::FIRST).await?.items;
    let row = |member: &crate::model::Member| MemberRow {
        username: member.username.to_string(),
        role: member.role.as_str(),
    };
    Ok(GroupPage {
        frame: visitor.frame(),
        path: group.path.to_string(),
        about: group.description.clone().unwrap_or_default(),
        problem: None,
        members: members.iter().map(row).collect(),
        roles: Role::WORDS,
        may_govern: owns || visitor.who.is_admin(),
        projects: projects.into_iter().map(|project| (project.name.clone(), project.path())).collect(),
        name: Field::of(&group.name),
        title: group.name,
        description: Field::of(group.description.unwrap_or_default()),
        username: Field::default(),
    })
}

pub(super) async fn show(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): Path<String>,
) -> Result<Response, Failed> {
    Ok(Html(page(&web, &visitor, &read(&path)?).await?).into_response())
}

/// Goes back to the group; or shows it again, with why something was not done.
async fn answer(
    web: &Web,
    visitor: &Visitor,
    path: &Namespace,
    done: Result<(), Error>,
    put_back: impl FnOnce(&mut GroupPage),
) -> Result<Response, Failed> {
    let (status, error) = match done {
        Ok(()) => return Ok(see_other(&format!("/groups/{path}"))),
        Err(error @ Error::Conflict { .. }) => (StatusCode::CONFLICT, error),
        Err(Error::NotFound { what: "user", which }) => {
            let message = said!("no-such-user", "there is no user `{name}`", name = &which);
            (StatusCode::UNPROCESSABLE_ENTITY, Error::invalid(message).about(Of::User))
        }
        Err(error @ Error::Invalid { .. }) => (StatusCode::UNPROCESSABLE_ENTITY, error),
        Err(other) => return Err(other.into()),
    };
    let mut page = page(web, visitor, path).await?;
    put_back(&mut page);
    let wrong = Some(words::refusal(&error));
    match error.field() {
        Some(Of::Name) => page.name.wrong = wrong,
        Some(Of::Description) => page.description.wrong = wrong,
        Some(Of::User) => page.username.wrong = wrong,
        _ => page.problem = wrong,
    }
    Ok((status, Html(page)).into_response())
}

pub(super) async fn save(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): Path<String>,
    typed: Typed,
) -> Result<Response, Failed> {
    let path = read(&path)?;
    let (name, description) = (typed.get("name").to_owned(), typed.get("description").to_owned());
    let patch = GroupPatch { name: Some(name.clone()), description: Some(Some(description.clone())) };
    let done = web.service.update_group(&visitor.who, &path, patch).await.map(drop);
    answer(&web, &visitor, &path, done, |page| {
        (page.name, page.description) = (Field::of(name), Field::of(description));
    })
    .await
}

/// Gives somebody a role, another one, or none any more.
pub(super) async fn change_member(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): Path<String>,
    typed: Typed,
) -> Result<Response, Failed> {
    let path = read(&path)?;
    let username = typed.get("username").trim().to_owned();
    let role = match typed.get("role") {
        "" => None,
        word => Some(word.parse().map_err(|_| Failed::NoSuchPage)?),
    };
    let done = match username.parse() {
        Ok(name) => {
            let change = MemberChange { member: Whom::Name(name), role };
            web.service.change_group_members(&visitor.who, &path, &[change]).await.map(drop)
        }
        Err(_) => {
            Err(Error::invalid(said!("no-username", "`{username}` is no username", username = &username))
                .about(Of::User))
        }
    };
    answer(&web, &visitor, &path, done, |page| page.username = Field::of(username)).await
}

pub(super) async fn ask_delete(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): Path<String>,
) -> Result<Response, Failed> {
    let page = page(&web, &visitor, &read(&path)?).await?;
    if !page.may_govern {
        return Err(Error::Forbidden { action: "delete this group: only its owners may" }.into());
    }
    Ok(visitor.ask(Question {
        title: tell!("group-delete-question", name = page.title),
        text: say("group-delete-warning").to_owned(),
        action: format!("/groups/{}/delete", page.path),
        yes: say("delete-yes"),
        doing: say("doing-deleting"),
        no: say("delete-no"),
        back: format!("/groups/{}", page.path),
    }))
}

pub(super) async fn delete(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): Path<String>,
) -> Result<Response, Failed> {
    let path = read(&path)?;
    match web.service.delete_group(&visitor.who, &path).await {
        Ok(()) => Ok(see_other("/groups")),
        refused => answer(&web, &visitor, &path, refused, |_| {}).await,
    }
}
