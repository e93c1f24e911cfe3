//! Projects: made, shown with their launchers, changed, deleted.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use marmot_core::name::{Namespace, Slug};
use marmot_text::{say, tell};

use super::Web;
use super::forms::Typed;
use super::limits;
use super::live::{self, Around, Fragments, Part};
use super::pages::{LaunchersBox, ProjectForm, ProjectFormPage, ProjectPage, Question, QuestionPage};
use super::people::{Which, beside};
use super::present::{self, Presenter};
use super::respond::{Failed, Html, drawn, see_other};
use super::session::Visitor;
use super::view::LauncherCard;
use crate::model::{Page, Project, Visibility};
use crate::service::{Action, Identity, NewProject, ProjectPatch};

/// The namespace and slug in a project's path.
pub(super) type ProjectPath = Path<(String, String)>;

/// The project at this path, if `who` may see it.
pub(super) async fn find(web: &Web, who: &Identity, namespace: &str, slug: &str) -> Result<Project, Failed> {
    // What is no name names no project.
    let namespace: Namespace = namespace.parse().map_err(|_| Failed::NoSuchPage)?;
    let slug: Slug = slug.parse().map_err(|_| Failed::NoSuchPage)?;
    Ok(web.service.project_by_path(who, &namespace, &slug).await?)
}

pub(super) async fn show(
    State(web): State<Web>,
    visitor: Visitor,
    Path((namespace, slug)): ProjectPath,
    Query(which): Query<Which>,
) -> Result<Response, Failed> {
    let project = find(&web, &visitor.who, &namespace, &slug).await?;
    let launchers = launchers(&web, &visitor.who, &project, which.page()).await?;
    let path = project.path();
    Ok(Html(ProjectPage {
        frame: visitor.live_frame(format!("{path}/events?page={}", which.page().page)),
        namespace: project.namespace.to_string(),
        slug: project.slug.to_string(),
        private: project.visibility == Visibility::Private,
        may_write: launchers.may_write,
        repositories: project.repositories.iter().map(|address| present::repository(address)).collect(),
        name: project.name,
        description: project.description,
        launchers,
        path,
    })
    .into_response())
}

async fn launchers(web: &Web, who: &Identity, project: &Project, page: Page) -> Result<LaunchersBox, Failed> {
    let found = web.service.launcher_views(who, project.id, page).await?;
    let (earlier, later) = beside(page, found.total);
    let presenter = Presenter::new(&web.service);
    Ok(LaunchersBox {
        path: project.path(),
        may_write: web.service.may(who, project, Action::Change).await?,
        total: found.total,
        earlier,
        later,
        cards: found.items.iter().map(|view| presenter.card(view, None)).collect(),
        replaces: false,
    })
}

pub(super) async fn events(
    State(web): State<Web>,
    visitor: Visitor,
    Path((namespace, slug)): ProjectPath,
    Query(which): Query<Which>,
) -> Result<Response, Failed> {
    // A stream that would end at once is refused instead: the browser then asks less often.
    find(&web, &visitor.who, &namespace, &slug).await?;
    let page = which.page();
    let fragments = live::fragments(web.clone(), visitor.session, move |web, who| {
        let (namespace, slug) = (namespace.clone(), slug.clone());
        async move {
            let project = find(&web, &who, &namespace, &slug).await?;
            fragments(launchers(&web, &who, &project, page).await?)
        }
    });
    Ok(live::respond(&web, fragments))
}

fn fragments(launchers: LaunchersBox) -> Result<Fragments, Failed> {
    let mut parts = Vec::with_capacity(launchers.cards.len());
    for card in &launchers.cards {
        let html = drawn(&LauncherCard { replaces: true, ..card.clone() })?;
        parts.push(Part { id: card.id.clone(), html, told: format!("{}: {}", card.name, card.phase.word) });
    }
    let ids: Vec<_> = launchers.cards.iter().map(|card| card.id.as_str()).collect();
    let key = format!("{} {} {}", launchers.may_write, launchers.total, ids.join(" "));
    let html = drawn(&LaunchersBox { replaces: true, ..launchers })?;
    Ok(Fragments { around: Some(Around { key, html }), parts })
}

pub(super) async fn new(State(web): State<Web>, visitor: Visitor) -> Result<Response, Failed> {
    visitor.who.signed_in()?;
    Ok(Html(new_page(&web, &visitor, ProjectForm::default(), "").await?).into_response())
}

/// The form for a new project, in one of the namespaces that are open to who asks.
async fn new_page(
    web: &Web,
    visitor: &Visitor,
    form: ProjectForm,
    chosen: &str,
) -> Result<ProjectFormPage, Failed> {
    let namespaces = web.service.namespaces(&visitor.who).await?;
    let namespaces = namespaces.into_iter().map(|name| (name.to_string(), name.as_str() == chosen)).collect();
    Ok(ProjectFormPage { namespaces, ..empty_page(visitor, form) })
}

pub(super) async fn create(
    State(web): State<Web>,
    visitor: Visitor,
    typed: Typed,
) -> Result<Response, Failed> {
    visitor.who.signed_in()?;
    let mut form = ProjectForm::typed(&typed);
    let slug = match form.slug.value.as_str() {
        "" => None,
        text => match text.parse::<Slug>() {
            Ok(slug) => Some(slug),
            Err(why) => {
                form.slug.wrong = Some(super::words::told(&why.said()));
                let page = new_page(&web, &visitor, form, typed.get("namespace")).await?;
                return Ok((StatusCode::UNPROCESSABLE_ENTITY, Html(page)).into_response());
            }
        },
    };
    let new = NewProject {
        name: form.name.value.clone(),
        namespace: match typed.get("namespace") {
            "" => None,
            text => Some(text.parse().map_err(|_| Failed::NoSuchPage)?),
        },
        slug,
        visibility: Some(form.visibility()),
        description: form.description(),
        repositories: form.repositories(),
    };
    match web.service.create_project(&visitor.who, new).await {
        Ok(project) => Ok(see_other(&project.path())),
        Err(error) => {
            let page = new_page(&web, &visitor, form.refused(error)?, typed.get("namespace")).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, Html(page)).into_response())
        }
    }
}

/// The form, and nothing around it.
fn empty_page(visitor: &Visitor, form: ProjectForm) -> ProjectFormPage {
    ProjectFormPage {
        frame: visitor.frame(),
        editing: None,
        may_inspect: false,
        limits: Vec::new(),
        may_limit: false,
        namespaces: Vec::new(),
        form,
    }
}

/// The settings of a project that is there.
pub(super) async fn settings_page(
    web: &Web,
    visitor: &Visitor,
    project: &Project,
    form: ProjectForm,
) -> Result<ProjectFormPage, Failed> {
    Ok(ProjectFormPage {
        editing: Some(project.path()),
        may_inspect: web.service.may(&visitor.who, project, Action::Inspect).await?,
        limits: limits::rows(web, visitor, project).await?,
        may_limit: visitor.who.is_admin(),
        ..empty_page(visitor, form)
    })
}

/// The project, for those who may change it.
pub(super) async fn to_change(
    web: &Web,
    visitor: &Visitor,
    path: &(String, String),
    action: Action,
) -> Result<Project, Failed> {
    let project = find(web, &visitor.who, &path.0, &path.1).await?;
    if web.service.may(&visitor.who, &project, action).await? {
        return Ok(project);
    }
    visitor.who.signed_in()?;
    Err(crate::service::Error::Forbidden { action: "change this project: only its editors and owners may" }
        .into())
}

pub(super) async fn edit(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): ProjectPath,
) -> Result<Response, Failed> {
    let project = to_change(&web, &visitor, &path, Action::Change).await?;
    let page = settings_page(&web, &visitor, &project, ProjectForm::of(&project)).await?;
    Ok(Html(page).into_response())
}

pub(super) async fn save(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): ProjectPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let project = to_change(&web, &visitor, &path, Action::Change).await?;
    let form = ProjectForm::typed(&typed);
    let patch = ProjectPatch {
        name: Some(form.name.value.clone()),
        slug: None,
        visibility: Some(form.visibility()),
        description: Some(form.description()),
        repositories: Some(form.repositories()),
    };
    match web.service.update_project(&visitor.who, project.id, Some("*"), patch).await {
        Ok(project) => Ok(see_other(&project.path())),
        Err(error) => {
            let page = settings_page(&web, &visitor, &project, form.refused(error)?).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, Html(page)).into_response())
        }
    }
}

pub(super) async fn ask_delete(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): ProjectPath,
) -> Result<Response, Failed> {
    let project = to_change(&web, &visitor, &path, Action::Delete).await?;
    let count =
        web.service.launcher_views(&visitor.who, project.id, Page { page: 1, per_page: 1 }).await?.total;
    Ok(visitor.ask(Question {
        title: tell!("project-delete-question", name = project.name),
        text: match count {
            0 => say("project-delete-empty").to_owned(),
            count => tell!("project-delete-launchers", count = count),
        },
        action: format!("{}/delete", project.path()),
        yes: say("delete-yes"),
        doing: say("doing-deleting"),
        no: say("delete-no"),
        back: format!("{}/settings", project.path()),
    }))
}

pub(super) async fn delete(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): ProjectPath,
) -> Result<Response, Failed> {
    let project = to_change(&web, &visitor, &path, Action::Delete).await?;
    web.service.delete_project(&visitor.who, project.id).await?;
    Ok(see_other("/"))
}

impl Visitor {
    /// Asks before something that cannot be taken back: as a page, or for the dialog of the page that is open.
    pub(super) fn ask(&self, question: Question) -> Response {
        if self.for_part {
            Html(question).into_response()
        } else {
            Html(QuestionPage { frame: self.frame(), question }).into_response()
        }
    }
}
