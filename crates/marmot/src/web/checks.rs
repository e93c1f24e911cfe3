//! What is wrong with one field of a launcher's form, said while somebody types.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use marmot_text::filters;

use super::Web;
use super::forms::Typed;
use super::launchers::project_to_change;
use super::pages::LauncherForm;
use super::projects::ProjectPath;
use super::respond::{Failed, Html};
use super::session::Visitor;
use super::start::StartForm;
use super::view::Field;
use crate::model::Project;
use crate::service::{Beginning, Error, NewLauncher};

/// What is wrong with the field of this name, for the script to put beside it; nothing where nothing is.
#[derive(Debug, Template)]
#[template(path = "checked.html")]
struct Checked {
    id: &'static str,
    field: Field,
}

/// Looks at the field that `check` names, in a form that is still being typed.
pub(super) async fn check(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): ProjectPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let project = project_to_change(&web, &visitor, &path).await?;
    let part = typed.get("check").to_owned();
    let checked = match LauncherForm::typed(&typed).only(&part) {
        Some(alone) => of_recipe(&web, &visitor, &project, &part, alone).await?,
        None => of_start(&web, &visitor, &project, &part, &typed).await?,
    };
    Ok(Html(checked).into_response())
}

/// Asks whether a launcher would be taken whose every other field is right.
async fn of_recipe(
    web: &Web,
    visitor: &Visitor,
    project: &Project,
    part: &str,
    alone: LauncherForm,
) -> Result<Checked, Failed> {
    let form = match alone.source(None) {
        Err(form) => *form,
        Ok((form, source)) => {
            let new = NewLauncher {
                project_id: project.id,
                name: form.name.value.clone(),
                description: form.description(),
                source,
                variables: form.variables(),
                resource_class_id: None,
                network: Default::default(),
            };
            match web.service.check_launcher(&visitor.who, new, &Beginning::default()).await {
                Ok(()) => form,
                // That is said of the choice of the source, not of what is typed below it.
                Err(Error::NotOffered { .. }) if part != "source" => form,
                Err(error) => form.refused(error)?,
            }
        }
    };
    let (id, mut field) = form.wrong_of(part);
    // Only one field can be at fault here, wherever its complaint would stand in the whole form.
    field.wrong = field.wrong.or(form.problem);
    Ok(Checked { id, field })
}

async fn of_start(
    web: &Web,
    visitor: &Visitor,
    project: &Project,
    part: &str,
    typed: &Typed,
) -> Result<Checked, Failed> {
    let usual = StartForm::empty(web)?;
    let alone = StartForm::typed(web, typed)?.only(part, usual).ok_or(Failed::NoSuchPage)?;
    let form = match alone.read() {
        Err(form) => *form,
        Ok((mut form, beginning)) => {
            let new = LauncherForm::sound().source(None).ok().map(|(form, source)| NewLauncher {
                project_id: project.id,
                name: form.name.value,
                description: None,
                source,
                variables: Vec::new(),
                resource_class_id: None,
                network: Default::default(),
            });
            let new = new.ok_or(Failed::NoSuchPage)?;
            if let Err(error) = web.service.check_launcher(&visitor.who, new, &beginning).await
                && let Some(other) = form.refused(error)?
            {
                return Err(other.into());
            }
            form
        }
    };
    let (id, field) = match part {
        "open_to" | "users" | "groups" => ("open_to", form.opening_wrong),
        "secret_name" | "secret_value" => ("secrets", form.secrets_wrong),
        other => form.scaling.wrong_of(other),
    };
    Ok(Checked { id, field })
}
