//! Launchers and their environments on the wire.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use marmot_core::said;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::{Problem, Result};
use super::extract::{Body, Listed, Pagination, Path, Query, Who, parse, present};
use crate::model::{
    BuilderVariant, Code, CodeRun, EnvVariable, Environment, EnvironmentSource, ImageSource, Launcher,
    Network,
};
use crate::service::{Error, LauncherPatch, NewLauncher, Options, Service};

/// A launcher: a recipe in a project.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LauncherOut {
    id: String,
    project_id: String,
    name: String,
    description: Option<String>,
    /// `app`.
    launcher_type: &'static str,
    /// The name of its app, the same for every activation.
    app_name: String,
    /// The address its app is at while it is on.
    url: String,
    environment: EnvironmentOut,
    resource_class_id: i64,
    /// What its replicas may reach of other machines; absent for public addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<NetworkBody>,
    /// Values are given only to those who may change the launcher, and never in lists.
    env_variables: Vec<VariableOut>,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    creation_date: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// What replicas may reach of other machines.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkBody {
    /// `none`, `internet` (public addresses), or `allow-list`.
    outbound: String,
    /// With `allow-list`: IPv4 addresses and networks, perhaps with a port, like `203.0.113.7:5432`. Private ones as far
    /// as the operator allows them, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow: Vec<String>,
}

impl NetworkBody {
    fn of(network: Network) -> Option<Self> {
        let (outbound, allow) = match network {
            Network::Internet => return None,
            Network::None => ("none", Vec::new()),
            Network::AllowList(allow) => ("allow-list", allow),
        };
        Some(Self { outbound: outbound.to_owned(), allow })
    }

    fn network(self) -> Result<Network> {
        match (self.outbound.as_str(), self.allow) {
            ("none", allow) if allow.is_empty() => Ok(Network::None),
            ("internet", allow) if allow.is_empty() => Ok(Network::Internet),
            ("allow-list", allow) => Ok(Network::AllowList(allow)),
            ("none" | "internet", _) => Err(Problem::unprocessable(
                "`network.allow` goes with `\"outbound\": \"allow-list\"` alone".to_owned(),
            )),
            (other, _) => Err(Problem::unprocessable(format!(
                "`network.outbound` is `{}`: it must be `none`, `internet` or `allow-list`",
                other.chars().take(40).collect::<String>()
            ))),
        }
    }
}

/// A variable for a launcher's program.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VariableOut {
    name: String,
    /// Absent where it is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

/// A variable for a launcher's program.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VariableIn {
    name: String,
    value: String,
}

/// Where a launcher's program comes from.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct EnvironmentOut {
    id: String,
    environment_kind: &'static str,
    /// `build` or `image`.
    environment_image_source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository_revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    builder_variant: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frontend_variant: Option<&'static str>,
    /// What is built is put into a container image.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_image: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_directory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_url: Option<String>,
}

impl From<Environment> for EnvironmentOut {
    fn from(environment: Environment) -> Self {
        let common = Self { id: environment.id.to_string(), environment_kind: "CUSTOM", ..Self::default() };
        match environment.source {
            EnvironmentSource::Code { code, run } => Self {
                environment_image_source: "build",
                repository: Some(code.shown_repository()),
                repository_revision: code.revision,
                context_dir: code.context_dir,
                builder_variant: Some(code.builder.as_str()),
                frontend_variant: Some("none"),
                as_image: code.as_image.then_some(true),
                command: run.command,
                args: run.args,
                port: run.port,
                ..common
            },
            EnvironmentSource::Image(image) => Self {
                environment_image_source: "image",
                name: Some(image.name),
                container_image: Some(image.container_image),
                port: image.port,
                command: image.command,
                args: image.args,
                uid: image.uid,
                gid: image.gid,
                working_directory: image.working_directory,
                default_url: image.default_url,
                ..common
            },
        }
    }
}

/// Where a launcher's program comes from: `environment_image_source` is `build` (with `repository`) or `image` (with
/// `container_image`).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EnvironmentIn {
    /// `build` or `image`.
    environment_image_source: String,
    /// `CUSTOM`.
    environment_kind: Option<String>,
    name: Option<String>,
    /// `https://host/path`, `ssh://user@host/path` or `user@host:path`.
    repository: Option<String>,
    /// Branch, tag or commit; the default branch when absent.
    repository_revision: Option<String>,
    /// The app's directory in the repository.
    context_dir: Option<String>,
    /// `auto`, `python`, `r`, `node`, `static`, `dockerfile` or `buildpacks`; `auto` when absent.
    builder_variant: Option<String>,
    /// `none`.
    frontend_variant: Option<String>,
    /// What is built is put into a container image, so that it runs elsewhere, too; `false` when absent. Only where the
    /// operator has named a base image.
    as_image: Option<bool>,
    /// Such as `ghcr.io/org/app:1.2`. It is pulled when the app is activated first, and with each build that is asked for.
    container_image: Option<String>,
    /// Of an image, the port that it exposes when absent.
    port: Option<u16>,
    command: Option<Vec<String>>,
    args: Option<Vec<String>>,
    /// The user an image is run as; never 0. The image's own when absent, unless that is root.
    uid: Option<u32>,
    gid: Option<u32>,
    working_directory: Option<String>,
    default_url: Option<String>,
}

impl EnvironmentIn {
    fn source(self) -> Result<EnvironmentSource> {
        if let Some(kind) = self.environment_kind.as_deref().filter(|kind| *kind != "CUSTOM") {
            let kind: String = kind.chars().take(40).collect();
            return Err(Problem::unprocessable(format!(
                "`environment_kind` is `{kind}`: it must be `CUSTOM`"
            )));
        }
        match self.environment_image_source.as_str() {
            "build" => self.code(),
            "image" => self.image(),
            other => Err(Problem::unprocessable(format!(
                "`environment_image_source` is `{}`: it must be `build` or `image`",
                other.chars().take(40).collect::<String>()
            ))),
        }
    }

    fn code(self) -> Result<EnvironmentSource> {
        let not_for_code = [
            ("container_image", self.container_image.is_some()),
            ("uid", self.uid.is_some()),
            ("gid", self.gid.is_some()),
            ("working_directory", self.working_directory.is_some()),
            ("default_url", self.default_url.is_some()),
        ];
        refuse_given(&not_for_code, "an environment that is built from code")?;
        if let Some(frontend) = self.frontend_variant.filter(|frontend| frontend != "none") {
            let frontend: String = frontend.chars().take(40).collect();
            return Err(Problem::unprocessable(format!(
                "`frontend_variant` is `{frontend}`: apps have `none`"
            )));
        }
        let builder = match self.builder_variant.as_deref() {
            None => BuilderVariant::Auto,
            Some(variant) => parse(variant)?,
        };
        let repository = required("repository", self.repository)?;
        let as_image = self.as_image.unwrap_or_default();
        let (revision, context_dir) = (self.repository_revision, self.context_dir);
        let code = Code { repository, revision, context_dir, builder, as_image };
        let run = CodeRun { command: self.command, args: self.args, port: self.port };
        Ok(EnvironmentSource::Code { code, run })
    }

    fn image(self) -> Result<EnvironmentSource> {
        let not_for_images = [
            ("repository", self.repository.is_some()),
            ("repository_revision", self.repository_revision.is_some()),
            ("context_dir", self.context_dir.is_some()),
            ("builder_variant", self.builder_variant.is_some()),
            ("frontend_variant", self.frontend_variant.is_some()),
            ("as_image", self.as_image.is_some()),
        ];
        refuse_given(&not_for_images, "a container image")?;
        let container_image = required("container_image", self.container_image)?;
        Ok(EnvironmentSource::Image(ImageSource {
            name: self.name.unwrap_or_else(|| container_image.chars().take(99).collect()),
            container_image,
            port: self.port,
            command: self.command,
            args: self.args,
            uid: self.uid,
            gid: self.gid,
            working_directory: self.working_directory,
            default_url: self.default_url,
        }))
    }
}

fn required<T>(field: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Problem::unprocessable(format!("`environment` needs `{field}`")))
}

fn refuse_given(fields: &[(&str, bool)], of: &str) -> Result<()> {
    match fields.iter().find(|(_, given)| *given) {
        Some((field, _)) => Err(Problem::unprocessable(format!("`{field}` is not for {of}"))),
        None => Ok(()),
    }
}

/// A launcher to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LauncherIn {
    project_id: String,
    name: String,
    description: Option<String>,
    /// `app`; the only type that is offered so far.
    launcher_type: Option<String>,
    environment: EnvironmentIn,
    /// The default class when absent.
    resource_class_id: Option<i64>,
    /// Public addresses when absent.
    network: Option<NetworkBody>,
    #[serde(default)]
    env_variables: Vec<VariableIn>,
}

/// A change of a launcher. What is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LauncherChange {
    name: Option<String>,
    /// `null` removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    /// `app`.
    launcher_type: Option<String>,
    /// The whole environment: what is absent in it is removed.
    environment: Option<EnvironmentIn>,
    resource_class_id: Option<i64>,
    /// In force for replicas that are started from then on.
    network: Option<NetworkBody>,
    /// All variables: those that are absent are removed.
    env_variables: Option<Vec<VariableIn>>,
}

/// Which launchers are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LauncherQuery {
    /// Only those of this project.
    project_id: Option<String>,
}

fn check_type(kind: Option<&str>) -> Result<()> {
    match kind {
        None | Some("app") => Ok(()),
        Some(kind @ ("interactive" | "non_interactive")) => Err(Error::NotOffered {
            message: said!(
                "type-not-offered",
                "launchers of type `{kind}` are not offered here yet: `launcher_type` must be `app`",
                kind = kind
            ),
        }
        .into()),
        Some(other) => Err(Problem::unprocessable(format!(
            "`launcher_type` is `{}`: it must be `app`",
            other.chars().take(40).collect::<String>()
        ))),
    }
}

fn variables(given: Vec<VariableIn>) -> Vec<EnvVariable> {
    given.into_iter().map(|VariableIn { name, value }| EnvVariable { name, value }).collect()
}

fn out(launcher: Launcher, options: &Options, values: bool) -> LauncherOut {
    let variable = |EnvVariable { name, value }| VariableOut { name, value: values.then_some(value) };
    LauncherOut {
        id: launcher.id.to_string(),
        project_id: launcher.project_id.to_string(),
        name: launcher.name,
        description: launcher.description,
        launcher_type: launcher.kind.as_str(),
        url: options.app_url(&launcher.app_name),
        app_name: launcher.app_name.to_string(),
        environment: launcher.environment.into(),
        resource_class_id: launcher.resource_class_id,
        network: NetworkBody::of(launcher.network),
        env_variables: launcher.variables.into_iter().map(variable).collect(),
        created_by: launcher.created_by.to_string(),
        creation_date: launcher.created_at,
        updated_at: launcher.updated_at,
    }
}

/// The launchers you may see, oldest first.
#[utoipa::path(get, path = "/session_launchers", tag = "launchers", params(LauncherQuery, Pagination),
    responses((status = 200, body = [LauncherOut])))]
pub(super) async fn list(
    State(service): State<Service>,
    Who(who): Who,
    Query(query): Query<LauncherQuery>,
    Query(page): Query<Pagination>,
) -> Result<Listed<LauncherOut>> {
    let project = query.project_id.as_deref().map(parse).transpose()?;
    let found = service.launchers(&who, project, page.page()?).await?;
    Ok(Listed::new(found, |launcher| out(launcher, service.options(), false)))
}

/// The launchers of a project, oldest first.
#[utoipa::path(get, path = "/projects/{project_id}/session_launchers", tag = "launchers",
    params(("project_id" = String, Path), Pagination), responses((status = 200, body = [LauncherOut])))]
pub(super) async fn of_project(
    State(service): State<Service>,
    Who(who): Who,
    Path(project): Path<String>,
    Query(page): Query<Pagination>,
) -> Result<Listed<LauncherOut>> {
    let found = service.launchers(&who, Some(parse(&project)?), page.page()?).await?;
    Ok(Listed::new(found, |launcher| out(launcher, service.options(), false)))
}

/// Makes a launcher.
#[utoipa::path(post, path = "/session_launchers", tag = "launchers", request_body = LauncherIn,
    responses((status = 201, body = LauncherOut)))]
pub(super) async fn create(
    State(service): State<Service>,
    Who(who): Who,
    Body(new): Body<LauncherIn>,
) -> Result<(StatusCode, Json<LauncherOut>)> {
    check_type(new.launcher_type.as_deref())?;
    let new = NewLauncher {
        project_id: parse(&new.project_id)?,
        name: new.name,
        description: new.description,
        source: new.environment.source()?,
        variables: variables(new.env_variables),
        resource_class_id: new.resource_class_id,
        network: new.network.map(NetworkBody::network).transpose()?.unwrap_or_default(),
    };
    let launcher = service.create_launcher(&who, new).await?;
    Ok((StatusCode::CREATED, Json(out(launcher, service.options(), true))))
}

/// A launcher.
#[utoipa::path(get, path = "/session_launchers/{launcher_id}", tag = "launchers",
    params(("launcher_id" = String, Path)), responses((status = 200, body = LauncherOut)))]
pub(super) async fn get(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Json<LauncherOut>> {
    let (launcher, values) = service.launcher(&who, parse(&id)?).await?;
    Ok(Json(out(launcher, service.options(), values)))
}

/// Changes a launcher. An app of it that is on follows: it goes on with a new revision, once that is built and ready.
#[utoipa::path(patch, path = "/session_launchers/{launcher_id}", tag = "launchers", request_body = LauncherChange,
    params(("launcher_id" = String, Path)), responses((status = 200, body = LauncherOut)))]
pub(super) async fn update(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
    Body(change): Body<LauncherChange>,
) -> Result<Json<LauncherOut>> {
    check_type(change.launcher_type.as_deref())?;
    let patch = LauncherPatch {
        name: change.name,
        description: change.description,
        source: change.environment.map(EnvironmentIn::source).transpose()?,
        variables: change.env_variables.map(variables),
        resource_class_id: change.resource_class_id,
        network: change.network.map(NetworkBody::network).transpose()?,
    };
    let launcher = service.update_launcher(&who, parse(&id)?, patch).await?;
    Ok(Json(out(launcher, service.options(), true)))
}

/// Deletes a launcher with its builds, and shuts its app down.
#[utoipa::path(delete, path = "/session_launchers/{launcher_id}", tag = "launchers",
    params(("launcher_id" = String, Path)), responses((status = 204)))]
pub(super) async fn delete(
    State(service): State<Service>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<StatusCode> {
    service.delete_launcher(&who, parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
