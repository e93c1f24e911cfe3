//! Launchers: recipes for apps, and the environments they come from.

use marmot_core::AppName;
use marmot_core::id::{EnvironmentId, LauncherId, ProjectId};
use marmot_core::name::{MAX_LENGTH, slugify};
use marmot_core::said;
use serde_json::json;

use super::audit::{self, Thing};
use super::beginnings::Beginning;
use super::error::Field;
use super::error::{Error, Result};
use super::permission::{Action, Decision, Identity, Target, decide, enforce};
use super::projects::{allowed_project, description, role_of, title};
use super::{Service, fresh, now};
use crate::db::{Connection, DbError, launchers, projects};
use crate::model::{
    BuilderVariant, Code, CodeRun, EnvVariable, Environment, EnvironmentSource, ImageSource, Launcher,
    LauncherKind, Network, Page, Paged, Project,
};

/// Names that an app may not have, since a host of that name means something else to people.
pub(super) const RESERVED: &[&str] = &[
    "admin",
    "api",
    "app",
    "apps",
    "assets",
    "auth",
    "cdn",
    "console",
    "dashboard",
    "docs",
    "ftp",
    "git",
    "help",
    "imap",
    "localhost",
    "login",
    "mail",
    "marmot",
    "metrics",
    "mx",
    "ns",
    "pop",
    "smtp",
    "static",
    "status",
    "support",
    "test",
    "webmail",
    "wpad",
    "www",
];
/// The most variables of one launcher.
const MOST_VARIABLES: usize = 100;
/// The most bytes of one variable's value.
const LONGEST_VALUE: usize = 32 * 1024;
/// The most bytes of any other text of an environment.
const LONGEST_TEXT: usize = 2000;
/// The most words of a command.
const MOST_WORDS: usize = 100;
/// Variables that the platform sets itself.
const OURS: &[&str] = &["PORT", "RENKU_SESSION_PORT", "RENKU_SESSION_IP"];

/// A launcher to be made.
#[derive(Debug, Clone)]
pub struct NewLauncher {
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// What people call it.
    pub name: String,
    /// What it is about.
    pub description: Option<String>,
    /// Where its program comes from.
    pub source: EnvironmentSource,
    /// Variables for the program.
    pub variables: Vec<EnvVariable>,
    /// What its replicas may use; the default class when absent.
    pub resource_class_id: Option<i64>,
    /// What its replicas may reach.
    pub network: Network,
}

/// A change of a launcher. What is absent stays.
#[derive(Debug, Clone, Default)]
pub struct LauncherPatch {
    /// What people call it.
    pub name: Option<String>,
    /// What it is about; `Some(None)` removes it.
    pub description: Option<Option<String>>,
    /// Where its program comes from.
    pub source: Option<EnvironmentSource>,
    /// Variables for the program.
    pub variables: Option<Vec<EnvVariable>>,
    /// What its replicas may use.
    pub resource_class_id: Option<i64>,
    /// What its replicas may reach. In force for those that are started from then on.
    pub network: Option<Network>,
}

/// The most that a launcher may list of what its app may reach.
const MOST_DESTINATIONS: usize = 100;

/// What is listed, as it is written by everybody.
fn checked_network(network: Network) -> Result<Network> {
    let Network::AllowList(listed) = network else { return Ok(network) };
    if listed.len() > MOST_DESTINATIONS {
        return Err(Error::invalid(said!(
            "network-too-many",
            "`network.allow` lists {count} destinations: at most {most} are allowed",
            count = listed.len(),
            most = MOST_DESTINATIONS
        ))
        .about(Field::Network));
    }
    let read = |text: &String| match text.trim().parse::<marmot_engine::Destination>() {
        Ok(destination) => Ok(destination.to_string()),
        Err(why) => {
            let text: String = text.chars().take(80).collect();
            Err(Error::invalid(said!(
                "network-no-destination",
                "`network.allow` lists `{text}`: {why}",
                text = text,
                why = why.to_string()
            ))
            .about(Field::Network))
        }
    };
    Ok(Network::AllowList(listed.iter().map(read).collect::<Result<_>>()?))
}

impl Service {
    /// Makes a launcher, and gives its app a name that nothing else will have.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`], [`Error::NotOffered`].
    pub async fn create_launcher(&self, who: &Identity, new: NewLauncher) -> Result<Launcher> {
        self.begin_launcher(who, new, Beginning::default()).await
    }

    /// The launcher that is asked for, which is not in the database yet, and its project.
    pub(super) async fn drafted(
        &self,
        db: &mut Connection,
        who: &Identity,
        new: NewLauncher,
    ) -> Result<(Launcher, Project)> {
        let project = allowed_project(db, who, new.project_id, Action::Change).await?;
        let name = title("launcher's name", &new.name)?;
        let now = now();
        let launcher = Launcher {
            id: fresh(),
            project_id: project.id,
            app_name: free_app_name(db, &name, &project).await?,
            name,
            description: description(new.description)?,
            kind: LauncherKind::App,
            environment: Environment { id: fresh(), source: self.checked_source(new.source)? },
            variables: checked_variables(new.variables)?,
            resource_class_id: self.checked_class(db, who, new.resource_class_id, None).await?,
            network: checked_network(new.network)?,
            preview: None,
            created_by: who.signed_in()?.id,
            created_at: now,
            updated_at: now,
        };
        Ok((launcher, project))
    }

    /// Puts a launcher into the database.
    pub(super) async fn insert_launcher(
        &self,
        db: &mut Connection,
        who: &Identity,
        launcher: &Launcher,
    ) -> Result<()> {
        launchers::insert(db, launcher).await?;
        let details = json!({"app": launcher.app_name.as_str()});
        audit::record(db, who, "launcher.created", Thing::launcher(launcher), details).await
    }

    /// The launchers of a project, or of all projects that `who` may see, oldest first.
    /// Values of variables are left out for those who may not change the launcher.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn launchers(
        &self,
        who: &Identity,
        project: Option<ProjectId>,
        page: Page,
    ) -> Result<Paged<Launcher>> {
        let mut db = self.db().read().await?;
        if let Some(id) = project {
            allowed_project(&mut db, who, id, Action::See).await?;
        }
        let (mut items, total) = launchers::list(&mut db, who.viewer(), project, page).await?;
        // Never in lists, whoever asks: values may be secrets.
        items.iter_mut().for_each(without_values);
        Ok(Paged { items, page, total })
    }

    /// The launcher with this id, and whether the values of its variables are shown: they are left out for those who
    /// may not change it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn launcher(&self, who: &Identity, id: LauncherId) -> Result<(Launcher, bool)> {
        let mut db = self.db().read().await?;
        let (mut launcher, project) = allowed_launcher(&mut db, who, id, Action::See).await?;
        let role = role_of(&mut db, who, project.id).await?;
        let shown = decide(who, role, Target::launcher(&project, id), Action::Change) == Decision::Allow;
        if !shown {
            without_values(&mut launcher);
        }
        Ok((launcher, shown))
    }

    /// Changes a launcher. An app that is on follows: it goes on with a new revision, once that is built and ready.
    ///
    /// # Errors
    /// As [`Self::create_launcher`].
    pub async fn update_launcher(
        &self,
        who: &Identity,
        id: LauncherId,
        patch: LauncherPatch,
    ) -> Result<Launcher> {
        self.may_run_code(who)?;
        let mut db = self.db().write().await?;
        let (mut launcher, _) = allowed_launcher(&mut db, who, id, Action::Change).await?;
        let before = launcher.clone();
        if let Some(name) = patch.name {
            launcher.name = title("launcher's name", &name)?;
        }
        if let Some(text) = patch.description {
            launcher.description = description(text)?;
        }
        if let Some(source) = patch.source {
            launcher.environment.source = self.checked_source(source)?;
        }
        if let Some(variables) = patch.variables {
            launcher.variables = checked_variables(variables)?;
        }
        if let Some(class) = patch.resource_class_id {
            let before = Some(launcher.resource_class_id);
            launcher.resource_class_id = self.checked_class(&mut db, who, Some(class), before).await?;
        }
        if let Some(network) = patch.network {
            launcher.network = checked_network(network)?;
        }
        launcher.updated_at = now();
        launchers::update(&mut db, &launcher).await?;
        self.follow_launcher(&mut db, who, &before, &launcher).await?;
        self.follow_previews(&mut db, who, &before, &launcher).await?;
        audit::record(&mut db, who, "launcher.changed", Thing::launcher(&launcher), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        self.wrote_and_in_force().await;
        Ok(launcher)
    }

    /// Deletes a launcher with its builds and revisions, and shuts its app down.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn delete_launcher(&self, who: &Identity, id: LauncherId) -> Result<()> {
        let mut db = self.db().write().await?;
        let (launcher, _) = allowed_launcher(&mut db, who, id, Action::Change).await?;
        launchers::delete(&mut db, id).await?;
        audit::record(&mut db, who, "launcher.deleted", Thing::launcher(&launcher), json!({})).await?;
        db.commit().await.map_err(DbError::from)?;
        self.forget_picture(id);
        self.wrote_and_in_force().await;
        Ok(())
    }

    pub(super) fn checked_source(&self, source: EnvironmentSource) -> Result<EnvironmentSource> {
        match &source {
            EnvironmentSource::Code { code, run } => {
                check_address("repository", Field::Repository, &code.repository)?;
                if is_local(&code.repository) && !self.options().allow_local_repositories {
                    return Err(Error::invalid(said!(
                        "repository-is-path",
                        "`{path}` is a path of this machine: repositories must be given as https:// or ssh:// addresses \
                         (an operator can allow paths with `allow_local_repositories`)",
                        path = cut(&code.repository)
                    ))
                    .about(Field::Repository));
                }
                check_text("revision", Field::Revision, code.revision.as_deref())?;
                if code
                    .revision
                    .as_deref()
                    .is_some_and(|revision| revision.starts_with('-') || revision.is_empty())
                {
                    return Err(Error::invalid(said!(
                        "revision-wrong",
                        "`repository_revision` is no branch, tag or commit"
                    ))
                    .about(Field::Revision));
                }
                check_context_dir(code.context_dir.as_deref())?;
                check_run(run)?;
                self.check_buildpacks(code)?;
                if code.as_image && !(self.options().containers && self.options().makes_images) {
                    return Err(Error::NotOffered {
                        message: said!(
                            "no-images-of-code",
                            "no images are made of code here: that takes a container engine and an image to begin \
                             from (an operator can set `container_engine` and `base_image`); leave out `as_image`"
                        ),
                    });
                }
            }
            EnvironmentSource::Image(image) => {
                check_image(image)?;
                if !self.options().containers {
                    return Err(Error::NotOffered {
                        message: said!(
                            "no-containers",
                            "container images cannot be run here: this installation has no container engine \
                             (an operator can install Podman, or set `container_engine`); build the app from \
                             code instead"
                        ),
                    });
                }
            }
        }
        Ok(source)
    }
}

impl Service {
    /// Whether code can be built with buildpacks, where that is wished for.
    fn check_buildpacks(&self, code: &Code) -> Result<()> {
        if code.builder != BuilderVariant::Buildpacks {
            return Ok(());
        }
        if !(self.options().containers && self.options().buildpacks) {
            return Err(Error::NotOffered {
                message: said!(
                    "no-buildpacks",
                    "nothing is built with buildpacks here: that takes a container engine and the image of a builder \
                     (an operator can set `container_engine` and `buildpacks_builder`); leave `builder_variant` out, \
                     or choose another"
                ),
            });
        }
        if code.as_image {
            return Err(Error::invalid(said!(
                "buildpacks-make-images",
                "what buildpacks build is an image already: leave out `as_image`"
            )));
        }
        Ok(())
    }
}

fn without_values(launcher: &mut Launcher) {
    launcher.variables.iter_mut().for_each(|variable| variable.value.clear());
}

/// The launcher with this id and its project, if `who` may do this with it.
pub(super) async fn allowed_launcher(
    db: &mut Connection,
    who: &Identity,
    id: LauncherId,
    action: Action,
) -> Result<(Launcher, Project)> {
    let found = launchers::get(db, id).await?;
    allowed(db, who, found, action, "launcher", id).await
}

/// The launcher with this environment and its project, if `who` may do this with it.
pub(super) async fn allowed_environment(
    db: &mut Connection,
    who: &Identity,
    id: EnvironmentId,
    action: Action,
) -> Result<(Launcher, Project)> {
    let found = launchers::by_environment(db, id).await?;
    allowed(db, who, found, action, "environment", id).await
}

/// The launcher whose app has this name and its project, if `who` may do this with it.
pub(super) async fn allowed_app(
    db: &mut Connection,
    who: &Identity,
    name: &AppName,
    action: Action,
) -> Result<(Launcher, Project)> {
    let found = launchers::by_app_name(db, name).await?;
    allowed(db, who, found, action, "app", name).await
}

async fn allowed(
    db: &mut Connection,
    who: &Identity,
    launcher: Option<Launcher>,
    action: Action,
    what: &'static str,
    which: impl ToString + Send,
) -> Result<(Launcher, Project)> {
    let Some(launcher) = launcher else { return Err(Error::not_found(what, which)) };
    let Some(project) = projects::get(db, launcher.project_id).await? else {
        return Err(Error::not_found(what, which));
    };
    let role = role_of(db, who, project.id).await?;
    let decision = decide(who, role, Target::launcher(&project, launcher.id), action);
    enforce(decision, action, what, which)?;
    if matches!(action, Action::Change | Action::Govern) && launcher.preview.is_some() {
        return Err(Error::conflict(said!(
            "is-preview",
            "`{app}` is a preview: it follows the launcher that it is of; change that, or end the preview",
            app = launcher.app_name.to_string()
        )));
    }
    Ok((launcher, project))
}

/// A name for an app that no other has: from the launcher's name, with a few random characters when that is taken.
async fn free_app_name(db: &mut Connection, name: &str, project: &Project) -> Result<AppName> {
    let base = slugify(name)
        .or_else(|| slugify(&format!("{}-app", project.slug)))
        .unwrap_or_else(|| "app".to_owned());
    let mut candidate = base.clone();
    for _ in 0..20 {
        if let Ok(name) = candidate.parse::<AppName>()
            && !RESERVED.contains(&name.as_str())
            && !launchers::app_name_taken(db, &name).await?
        {
            return Ok(name);
        }
        let mut kept: String = base.chars().take(MAX_LENGTH - SUFFIX - 1).collect();
        kept.truncate(kept.trim_end_matches('-').len());
        candidate = format!("{kept}-{}", random_suffix());
    }
    Err(Error::conflict(said!(
        "no-free-name",
        "no free name for the app of `{name}` was found: give the launcher another name",
        name = name
    ))
    .about(Field::Name))
}

/// Characters of the random end of a name.
pub(super) const SUFFIX: usize = 5;

pub(super) fn random_suffix() -> String {
    suffix(&rand::random())
}

/// These bytes as the end of a name.
pub(super) fn suffix(bytes: &[u8; SUFFIX]) -> String {
    // No vowels, so that chance writes no words.
    const ALPHABET: &[u8; 24] = b"bcdfghjkmnpqrstvwxz23456";
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

/// Cut to a length that fits a message.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

pub(super) fn check_text(what: &str, field: Field, text: Option<&str>) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    if text.len() > LONGEST_TEXT {
        return Err(Error::invalid(said!(
            "text-too-long",
            "`{what}` is longer than {most} bytes",
            what = what,
            most = LONGEST_TEXT
        ))
        .about(field));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(said!(
            "text-has-control",
            "`{what}` holds a control character",
            what = what
        ))
        .about(field));
    }
    Ok(())
}

/// Whether the address is a path of this machine.
fn is_local(address: &str) -> bool {
    address.starts_with(['/', '.', '~']) || address.starts_with("file:")
}

/// What an address tells that others must not read. A name in front of the host of an http(s) address is often a token;
/// ssh takes its keys from elsewhere, and a name there is only a name.
fn credentials(address: &str) -> Option<&'static str> {
    let authority = |rest: &str| rest.split(['/', '?', '#']).next().unwrap_or_default().to_owned();
    match address.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web)) => {
            // Read as browsers do, too, which forgive `https:///` and `\`.
            let told = |url: url::Url| !url.username().is_empty() || url.password().is_some();
            let found = authority(rest).contains('@') || url::Url::parse(address).is_ok_and(told);
            found.then_some("user name or password")
        }
        Some((_, rest)) => {
            let authority = authority(rest);
            let (user, _) = authority.rsplit_once('@')?;
            user.contains(':').then_some("password")
        }
        // In `user@host:path`, the path may hold an `@` of its own.
        None => {
            let authority = authority(address);
            let (user, _) = authority.split_once('@')?;
            user.contains(':').then_some("password")
        }
    }
}

/// Refuses what is no address of a repository. Which machines may be reached is decided when it is fetched.
pub(super) fn check_address(what: &str, field: Field, address: &str) -> Result<()> {
    check_text(what, field, Some(address))?;
    if let Some(found) = credentials(address) {
        // Not repeated in the message, which may go to a log or a screenshot.
        return Err(Error::invalid(said!(
            "repository-has-login",
            "`{what}`: the address of the repository contains a {found}; everybody who may read the project could \
             read it: give the address without",
            what = what,
            found = found
        ))
        .about(field));
    }
    let scp_like = || {
        address.split_once(':').is_some_and(|(host, path)| {
            host.contains('@') && !host.starts_with('-') && !host.contains('/') && !path.is_empty()
        })
    };
    let with_scheme = |scheme: &str| address.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty());
    let fine = !address.contains(char::is_whitespace)
        && (!address.starts_with("http") || url::Url::parse(address).is_ok())
        && (with_scheme("https://")
            || with_scheme("http://")
            || with_scheme("ssh://")
            || is_local(address)
            || scp_like());
    if fine {
        return Ok(());
    }
    // What cannot be read may still hold a password.
    let shown = address.rsplit_once('@').map_or_else(|| cut(address), |(_, rest)| format!("…@{}", cut(rest)));
    Err(Error::invalid(said!(
        "repository-wrong",
        "`{what}`: `{address}` is no address of a repository: give it as `https://host/path`, `ssh://user@host/path` or \
         `user@host:path`",
        what = what,
        address = shown
    ))
    .about(field))
}

fn check_context_dir(dir: Option<&str>) -> Result<()> {
    check_text("context_dir", Field::Directory, dir)?;
    let Some(dir) = dir else { return Ok(()) };
    if dir.starts_with('/') || dir.split('/').any(|part| part == "..") {
        return Err(Error::invalid(said!(
            "directory-leads-out",
            "`context_dir`: `{dir}` leads out of the repository: give a directory inside it, like `apps/dashboard`",
            dir = cut(dir)
        ))
        .about(Field::Directory));
    }
    Ok(())
}

fn check_words(what: &str, field: Field, words: Option<&[String]>) -> Result<()> {
    let Some(words) = words else { return Ok(()) };
    if words.len() > MOST_WORDS {
        return Err(Error::invalid(said!(
            "words-too-many",
            "`{what}` has more than {most} words",
            what = what,
            most = MOST_WORDS
        ))
        .about(field));
    }
    if words.iter().any(|word| word.contains('\0') || word.len() > LONGEST_VALUE) {
        return Err(Error::invalid(said!(
            "words-wrong",
            "`{what}` holds a NUL character, or a word that is too long",
            what = what
        ))
        .about(field));
    }
    Ok(())
}

fn check_port(port: Option<u16>) -> Result<()> {
    if port == Some(0) {
        return Err(Error::invalid(said!("port-wrong", "`port` must be from 1 to 65535")).about(Field::Port));
    }
    Ok(())
}

fn check_run(run: &CodeRun) -> Result<()> {
    check_words("command", Field::Command, run.command.as_deref())?;
    check_words("args", Field::Arguments, run.args.as_deref())?;
    if run.command.as_ref().is_some_and(|command| command.first().is_none_or(String::is_empty)) {
        return Err(Error::invalid(said!(
            "command-empty",
            "`command` is empty: leave it out to start what the code says"
        ))
        .about(Field::Command));
    }
    if run.args.as_ref().is_some_and(|args| !args.is_empty()) && run.command.is_none() {
        return Err(
            Error::invalid(said!("args-alone", "`args` needs a `command` to go with")).about(Field::Command)
        );
    }
    check_port(run.port)
}

fn check_image(image: &ImageSource) -> Result<()> {
    title("environment's name", &image.name)?;
    check_text("container_image", Field::Image, Some(&image.container_image))?;
    if let Err(why) = image.container_image.parse::<marmot_engine::Reference>() {
        return Err(Error::invalid(said!(
            "image-wrong",
            "`container_image`: `{image}`: {why}",
            image = cut(&image.container_image),
            why = why.to_string()
        ))
        .about(Field::Image));
    }
    check_words("command", Field::Command, image.command.as_deref())?;
    check_words("args", Field::Arguments, image.args.as_deref())?;
    check_text("working_directory", Field::Directory, image.working_directory.as_deref())?;
    check_text("default_url", Field::Image, image.default_url.as_deref())?;
    if image.default_url.as_deref().is_some_and(|path| !path.starts_with('/') || path.starts_with("//")) {
        return Err(Error::invalid(said!(
            "default-url-wrong",
            "`default_url` must be a path that begins with one `/`"
        )));
    }
    if image.working_directory.as_deref().is_some_and(|dir| !dir.starts_with('/')) {
        return Err(Error::invalid(said!(
            "working-directory-wrong",
            "`working_directory` must be a path in the image that begins with `/`"
        )));
    }
    if image.uid == Some(0) {
        return Err(Error::invalid(said!(
            "user-is-root",
            "`uid` is 0: root in an image is root of the machine's kernel, too; give another user, or none"
        ))
        .about(Field::User));
    }
    if image.gid.is_some() && image.uid.is_none() {
        return Err(Error::invalid(said!("group-alone", "`gid` needs a `uid` to go with")).about(Field::User));
    }
    check_port(image.port)
}

fn checked_variables(variables: Vec<EnvVariable>) -> Result<Vec<EnvVariable>> {
    if variables.len() > MOST_VARIABLES {
        return Err(Error::invalid(said!(
            "variables-too-many",
            "a launcher may have {most} variables at most",
            most = MOST_VARIABLES
        ))
        .about(Field::Variables));
    }
    for (index, EnvVariable { name, value }) in variables.iter().enumerate() {
        check_variable_name(name, Field::Variables)?;
        if variables[..index].iter().any(|earlier| earlier.name == *name) {
            return Err(Error::invalid(said!(
                "variable-twice",
                "the variable `{name}` is given twice",
                name = name
            ))
            .about(Field::Variables));
        }
        if value.contains('\0') || value.len() > LONGEST_VALUE {
            return Err(Error::invalid(said!(
                "variable-value-wrong",
                "the value of the variable `{name}` holds a NUL character, or more than {most} bytes",
                name = name,
                most = LONGEST_VALUE
            ))
            .about(Field::Variables));
        }
    }
    Ok(variables)
}

/// Whether a variable or secret may be called so.
pub(super) fn check_variable_name(name: &str, field: Field) -> Result<()> {
    let starts_well = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    let goes_on_well = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !starts_well || !goes_on_well || name.len() > 255 {
        return Err(Error::invalid(said!(
            "variable-name-wrong",
            "`{name}` is no name of a variable: use letters, digits and `_`, and no digit first",
            name = cut(name)
        ))
        .about(field));
    }
    if OURS.contains(&name) || name.starts_with("MARMOT_") {
        return Err(Error::invalid(said!(
            "variable-is-ours",
            "the variable `{name}` is set by the platform: choose another name",
            name = name
        ))
        .about(field));
    }
    Ok(())
}
