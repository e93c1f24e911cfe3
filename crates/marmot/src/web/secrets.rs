//! The box *Secrets and builds on push* of an app's page: what the app is given that nobody is shown, and its webhook.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use marmot_text::{filters, say};

use super::Web;
use super::again::Again;
use super::boxes;
use super::detail::{self, Outcomes};
use super::forms::Typed;
use super::launchers::{LauncherPath, find_launcher};
use super::present::Presenter;
use super::respond::{Failed, removed, see_other};
use super::session::Visitor;
use crate::model::{EnvironmentSource, Hook, Secret, SecretForm, StoredSecret};
use crate::service::{Identity, LauncherView, SecretsOf};

/// What the app is given in confidence, and how it is told of pushes.
#[derive(Debug, Template)]
#[template(path = "detail_secrets.html")]
pub(super) struct SecretsSection {
    /// The path of the app's page.
    path: String,
    own: Vec<SecretRow>,
    /// Those of the project, which its other launchers are given, too.
    shared: Vec<SecretRow>,
    /// Its webhook; absent where nothing is built.
    hook: Option<HookState>,
    again: Again,
}

#[derive(Debug)]
struct SecretRow {
    name: String,
    form: &'static str,
    set: String,
}

#[derive(Debug)]
enum HookState {
    None,
    /// Made, and perhaps heard since.
    Made {
        heard: Option<String>,
    },
    /// Made just now.
    Fresh {
        url: String,
        secret: Secret,
    },
}

/// What a form of the box came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    fresh: Option<(Hook, Secret)>,
}

impl SecretsSection {
    /// The box, for those who may change the launcher.
    pub(super) async fn of(
        web: &Web,
        who: &Identity,
        view: &LauncherView,
        outcome: Outcome,
        again: &Again,
    ) -> Result<Self, Failed> {
        let presenter = Presenter::new(&web.service);
        let row = |secret: StoredSecret| SecretRow {
            name: secret.name,
            form: match secret.form {
                SecretForm::Variable => say("secret-form-variable"),
                SecretForm::File => say("secret-form-file"),
            },
            set: presenter.ago(secret.updated_at),
        };
        let own = web.service.secrets(who, SecretsOf::Launcher(view.launcher.id)).await?;
        let shared = web.service.secrets(who, SecretsOf::Project(view.project.id)).await?;
        let is_built = matches!(view.launcher.environment.source, EnvironmentSource::Code { .. });
        let hook = match outcome.fresh {
            Some((hook, secret)) => Some(HookState::Fresh { url: web.service.hook_url(&hook), secret }),
            None if is_built => {
                let heard = |hook: Hook| hook.heard.zip(hook.heard_at);
                Some(match web.service.hook(who, view.launcher.id).await? {
                    None => HookState::None,
                    Some(hook) => HookState::Made {
                        heard: heard(hook).map(|(what, at)| format!("{}: {what}.", presenter.ago(at))),
                    },
                })
            }
            None => None,
        };
        Ok(Self {
            path: detail::own_path(view),
            own: own.into_iter().map(row).collect(),
            shared: shared.into_iter().map(row).collect(),
            hook,
            again: again.clone(),
        })
    }
}

fn back(view: &LauncherView) -> String {
    boxes::back(view, "secrets")
}

pub(super) async fn set(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let name = typed.get("name").trim();
    // Browsers end lines in forms as mail does.
    let value = Secret::new(typed.get("value").replace("\r\n", "\n"));
    let form = if typed.get("form") == "file" { SecretForm::File } else { SecretForm::Variable };
    let of = SecretsOf::Launcher(view.launcher.id);
    match web.service.set_secret(&visitor.who, of, name, value, form).await {
        Ok(_) => Ok(see_other(&back(&view))),
        Err(error) => boxes::refused(&web, &visitor, &path, error, "secrets", &typed).await,
    }
}

/// Namespace and slug of the project, the launcher's id, the secret's name.
type SecretPath = Path<(String, String, String, String)>;

pub(super) async fn remove(
    State(web): State<Web>,
    visitor: Visitor,
    Path((namespace, slug, launcher, name)): SecretPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &(namespace, slug, launcher)).await?;
    let of = SecretsOf::Launcher(view.launcher.id);
    removed(web.service.remove_secret(&visitor.who, of, &name).await, &back(&view))
}

pub(super) async fn make_hook(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    match web.service.make_hook(&visitor.who, view.launcher.id).await {
        Ok(made) => {
            // In the answer itself, not behind a redirect: a secret is kept nowhere.
            let secrets = Outcome { fresh: Some(made) };
            detail::page(&web, &visitor, &path, Outcomes { secrets, ..Outcomes::default() }).await
        }
        Err(error) => boxes::refused(&web, &visitor, &path, error, "hook", &Typed::default()).await,
    }
}

pub(super) async fn remove_hook(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    removed(web.service.remove_hook(&visitor.who, view.launcher.id).await, &back(&view))
}
