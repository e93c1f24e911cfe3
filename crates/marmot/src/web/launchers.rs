//! Launchers: made, changed, deleted.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use marmot_core::id::LauncherId;
use marmot_text::{say, tell};
use serde::Deserialize;

use super::Web;
use super::forms::Typed;
use super::pages::{ClassChoice, LauncherForm, LauncherFormPage, Question};
use super::people::Which;
use super::plans;
use super::present;
use super::projects::{ProjectPath, find};
use super::respond::{Failed, Html, see_other};
use super::scaling::MoreSettings;
use super::session::Visitor;
use super::start::StartForm;
use super::tabs::{Here, Tab};
use super::words;
use crate::model::Project;
use crate::service::{Action, Error, Identity, LauncherPatch, LauncherView, NewLauncher};

/// Namespace and slug of the project, and the launcher's id.
pub(super) type LauncherPath = Path<(String, String, String)>;

/// The launcher at this path, if `who` may see it and it belongs to that project.
pub(super) async fn find_launcher(
    web: &Web,
    who: &Identity,
    (namespace, slug, id): &(String, String, String),
) -> Result<LauncherView, Failed> {
    let id: LauncherId = id.parse().map_err(|_| Failed::NoSuchPage)?;
    let view = web.service.launcher_view(who, id).await?;
    let here = view.project.namespace.as_str() == namespace && view.project.slug.as_str() == slug;
    if here { Ok(view) } else { Err(Failed::NoSuchPage) }
}

pub(super) fn must_change(visitor: &Visitor, may: bool) -> Result<(), Failed> {
    if may {
        return Ok(());
    }
    visitor.who.signed_in()?;
    Err(Error::Forbidden { action: "change this project: only its editors and owners may" }.into())
}

/// The form of a new launcher of `project`, or of the one with the id `editing`.
pub(super) async fn form_page(
    web: &Web,
    visitor: &Visitor,
    project: &Project,
    editing: Option<LauncherId>,
    mut form: LauncherForm,
) -> Result<LauncherFormPage, Failed> {
    let class = |class: &crate::model::ResourceClass| ClassChoice {
        id: class.id,
        told: present::resource_class(class),
    };
    let before = match editing {
        Some(id) => Some(web.service.launcher(&visitor.who, id).await?.0.resource_class_id),
        None => None,
    };
    let classes = web.service.classes_for(&visitor.who, before).await?;
    let start = match form.start.take() {
        Some(start) => Some(start.section(web, visitor, project).await?),
        None => None,
    };
    Ok(LauncherFormPage {
        frame: visitor.frame(),
        editing: editing.is_some(),
        more: None,
        tabs: match editing {
            Some(id) => Tab::below(&format!("{}/launchers/{id}", project.path()), true, true, Here::Settings),
            None => Vec::new(),
        },
        builders: plans::builders(form.builder, web.service.options().buildpacks),
        look_path: match editing {
            Some(id) => format!("{}/launchers/{id}/plan", project.path()),
            None => format!("{}/launchers/new/plan", project.path()),
        },
        // What the form is sent to, wherever it is shown.
        action: match editing {
            Some(id) => format!("{}/launchers/{id}/edit", project.path()),
            None => format!("{}/launchers/new", project.path()),
        },
        check_path: format!("{}/launchers/new/check", project.path()),
        start,
        project_name: project.name.clone(),
        project_path: project.path(),
        repositories: project.repositories.clone(),
        classes: classes.iter().map(class).collect(),
        images_offered: web.service.options().containers,
        makes_images: web.service.options().makes_images,
        form,
    })
}

/// The form again, with what is wrong.
fn refused(page: Result<LauncherFormPage, Failed>) -> Result<Response, Failed> {
    Ok((StatusCode::UNPROCESSABLE_ENTITY, Html(page?)).into_response())
}

/// The project at this path, if `visitor` may change it.
pub(super) async fn project_to_change(
    web: &Web,
    visitor: &Visitor,
    (namespace, slug): &(String, String),
) -> Result<Project, Failed> {
    let project = find(web, &visitor.who, namespace, slug).await?;
    must_change(visitor, web.service.may(&visitor.who, &project, Action::Change).await?)?;
    Ok(project)
}

pub(super) async fn new(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): ProjectPath,
) -> Result<Response, Failed> {
    let project = project_to_change(&web, &visitor, &path).await?;
    let classes = web.service.classes_for(&visitor.who, None).await?;
    let class = classes.iter().find(|class| class.default).or(classes.first());
    let only = match project.repositories.as_slice() {
        [only] => Some(only.as_str()),
        _ => None,
    };
    let form = LauncherForm::empty(class.map(|class| class.id).unwrap_or_default(), only);
    let form = LauncherForm { start: Some(Box::new(StartForm::empty(&web)?)), ..form };
    Ok(Html(form_page(&web, &visitor, &project, None, form).await?).into_response())
}

pub(super) async fn create(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): ProjectPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let project = project_to_change(&web, &visitor, &path).await?;
    let refused = async |form| refused(form_page(&web, &visitor, &project, None, form).await);
    let form = LauncherForm::typed(&typed);
    let (start, beginning) = match StartForm::typed(&web, &typed)?.read() {
        Ok((start, beginning)) => (start, Some(beginning)),
        Err(start) => (*start, None),
    };
    // What is wrong with either half is said at once.
    let form = LauncherForm { start: Some(Box::new(start)), ..form };
    let (form, source) = match form.source(None) {
        Ok(read) => read,
        Err(form) => return refused(*form).await,
    };
    let Some(beginning) = beginning else { return refused(form).await };
    let new = NewLauncher {
        project_id: project.id,
        name: form.name.value.clone(),
        description: form.description(),
        source,
        variables: form.variables(),
        resource_class_id: Some(form.resource_class),
        network: Default::default(),
    };
    match web.service.begin_launcher(&visitor.who, new, beginning).await {
        Ok(launcher) => {
            // It is the last one, which may be on a page further back.
            let views = web.service.launcher_views(&visitor.who, project.id, Which::default().page()).await?;
            let page = views.total.div_ceil(u64::from(views.page.per_page));
            let query = if page > 1 { format!("?page={page}") } else { String::new() };
            Ok(see_other(&format!("{}{query}#launcher-{}", project.path(), launcher.id)))
        }
        Err(error) => refused(form.refused(error)?).await,
    }
}

/// Which form of the page has just been taken.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Saved {
    #[serde(default)]
    saved: String,
}

pub(super) async fn edit(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    Query(Saved { saved }): Query<Saved>,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    must_change(&visitor, view.can.change)?;
    let more = MoreSettings::of(&web, &visitor, &view, saved).await?;
    edit_page(&web, &visitor, &view, more).await
}

/// The settings of a launcher, with these forms below.
pub(super) async fn edit_page(
    web: &Web,
    visitor: &Visitor,
    view: &LauncherView,
    more: MoreSettings,
) -> Result<Response, Failed> {
    let form = LauncherForm::of(&view.launcher);
    let page = form_page(web, visitor, &view.project, Some(view.launcher.id), form).await?;
    Ok(Html(LauncherFormPage { more: Some(more), ..page }).into_response())
}

pub(super) async fn save(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    must_change(&visitor, view.can.change)?;
    let editing = Some(view.launcher.id);
    let refused = async |form| refused(form_page(&web, &visitor, &view.project, editing, form).await);
    let (form, source) = match LauncherForm::typed(&typed).source(Some(&view.launcher.environment.source)) {
        Ok(read) => read,
        Err(form) => return refused(*form).await,
    };
    let patch = LauncherPatch {
        name: Some(form.name.value.clone()),
        description: Some(form.description()),
        source: Some(source),
        variables: Some(form.variables()),
        resource_class_id: Some(form.resource_class),
        network: None,
    };
    match web.service.update_launcher(&visitor.who, view.launcher.id, patch).await {
        Ok(launcher) => Ok(see_other(&format!("{}#launcher-{}", view.project.path(), launcher.id))),
        Err(error) => refused(form.refused(error)?).await,
    }
}

pub(super) async fn ask_delete(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    must_change(&visitor, view.can.change)?;
    let now = view.app.as_ref().map(|app| words::shut_down_now(present::people(app))).unwrap_or_default();
    let text = now + say("launcher-delete-about");
    Ok(visitor.ask(Question {
        title: tell!("launcher-delete-title", name = view.launcher.name),
        text,
        action: format!("{}/launchers/{}/delete", view.project.path(), view.launcher.id),
        yes: say("delete-yes"),
        doing: say("doing-deleting"),
        no: say("delete-no"),
        back: view.project.path(),
    }))
}

pub(super) async fn delete(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    web.service.delete_launcher(&visitor.who, view.launcher.id).await?;
    Ok(see_other(&view.project.path()))
}
