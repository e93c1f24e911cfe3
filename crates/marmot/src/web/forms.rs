//! What people typed into forms: read, checked, and given back with what is wrong beside each field.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use marmot_text::{say, tell};
use url::form_urlencoded;

use super::command;
use super::pages::{CodePlan, LauncherForm, ProjectForm, Source, TypedVariable};
use super::respond::Failed;
use super::view::Field;
use super::words;
use crate::model::{
    Code, CodeRun, EnvVariable, EnvironmentSource, ImageSource, Launcher, Project, Visibility,
};
use crate::service::{Error, Field as Of};

/// Empty rows that the form of variables ends with.
pub(super) const SPARE_ROWS: usize = 2;

/// The fields of a form that was sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Typed(Vec<(String, String)>);

impl Typed {
    /// The first field of this name, or nothing.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn field(&self, name: &str) -> Field {
        Field::of(self.get(name).trim())
    }
}

impl<S: Send + Sync> FromRequest<S> for Typed {
    type Rejection = Failed;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failed> {
        let body = Bytes::from_request(request, state).await.map_err(|_| Failed::NoForm)?;
        Ok(Self(form_urlencoded::parse(&body).into_owned().collect()))
    }
}

/// Some text, or nothing where nothing was typed.
fn given(field: &Field) -> Option<String> {
    (!field.value.is_empty()).then(|| field.value.clone())
}

/// The rows of names and values in which something was typed.
pub(super) fn given_rows(typed: &Typed, names: &str, values: &str) -> Vec<TypedVariable> {
    let row = |(name, value): (&str, &str)| TypedVariable { name: name.to_owned(), value: value.to_owned() };
    let rows = typed.all(names).map(str::trim).zip(typed.all(values)).map(row);
    rows.filter(|row| !row.name.is_empty() || !row.value.is_empty()).collect()
}

/// What the service refused, in words, when it is about what was typed.
fn complaint(error: Error) -> Result<String, Failed> {
    match error {
        Error::Invalid { .. }
        | Error::Conflict { .. }
        | Error::NotOffered { .. }
        | Error::TooOften { .. } => Ok(words::refusal(&error)),
        other => Err(other.into()),
    }
}

impl ProjectForm {
    pub(super) fn typed(typed: &Typed) -> Self {
        Self {
            name: typed.field("name"),
            slug: typed.field("slug"),
            description: typed.field("description"),
            repositories: typed.field("repositories"),
            public: typed.get("visibility") == Visibility::Public.as_str(),
            problem: None,
        }
    }

    pub(super) fn of(project: &Project) -> Self {
        Self {
            name: Field::of(&project.name),
            slug: Field::of(project.slug.as_str()),
            description: Field::of(project.description.clone().unwrap_or_default()),
            repositories: Field::of(project.repositories.join("\n")),
            public: project.visibility == Visibility::Public,
            problem: None,
        }
    }

    pub(super) fn visibility(&self) -> Visibility {
        if self.public { Visibility::Public } else { Visibility::Private }
    }

    pub(super) fn description(&self) -> Option<String> {
        given(&self.description)
    }

    pub(super) fn repositories(&self) -> Vec<String> {
        self.repositories
            .value
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Puts what the service refused beside the field that it is about.
    pub(super) fn refused(mut self, error: Error) -> Result<Self, Failed> {
        let of = error.field();
        let wrong = Some(complaint(error)?);
        match of {
            Some(Of::Repositories) => self.repositories.wrong = wrong,
            Some(Of::Slug) => self.slug.wrong = wrong,
            Some(Of::Description) => self.description.wrong = wrong,
            Some(Of::Name) => self.name.wrong = wrong,
            _ => self.problem = wrong,
        }
        Ok(self)
    }
}

impl LauncherForm {
    pub(super) fn empty(resource_class: i64, repository: Option<&str>) -> Self {
        Self {
            repository: Field::of(repository.unwrap_or_default()),
            resource_class,
            variables: vec![TypedVariable::default(); SPARE_ROWS],
            ..Self::default()
        }
    }

    pub(super) fn typed(typed: &Typed) -> Self {
        let mut variables = given_rows(typed, "variable_name", "variable_value");
        variables.resize(variables.len() + SPARE_ROWS, TypedVariable::default());
        Self {
            source: if typed.get("source") == "image" { Source::Image } else { Source::Code },
            name: typed.field("name"),
            description: typed.field("description"),
            repository: typed.field("repository"),
            revision: typed.field("revision"),
            directory: typed.field("directory"),
            builder: typed.get("builder").parse().unwrap_or_default(),
            as_image: typed.get("as_image") == "true",
            planned: typed.get("planned_command").to_owned(),
            image: typed.field("image"),
            arguments: typed.field("arguments"),
            user: typed.field("user"),
            command: typed.field("command"),
            port: typed.field("port"),
            resource_class: typed.get("resource_class").parse().unwrap_or_default(),
            variables,
            ..Self::default()
        }
    }

    /// A form with which nothing is wrong.
    pub(super) fn sound() -> Self {
        Self {
            name: Field::of("A name"),
            repository: Field::of("https://example.org/code"),
            image: Field::of("example.org/image:1"),
            ..Self::default()
        }
    }

    /// A form in which nothing can be wrong but the field of this name, as it is here; `None` where there is none.
    pub(super) fn only(self, name: &str) -> Option<Self> {
        let sound = Self { source: self.source, ..Self::sound() };
        Some(match name {
            "source" => sound,
            "name" => Self { name: self.name, ..sound },
            "description" => Self { description: self.description, ..sound },
            "repository" => Self { repository: self.repository, ..sound },
            "revision" => Self { revision: self.revision, ..sound },
            "directory" => Self { directory: self.directory, ..sound },
            "image" => Self { image: self.image, ..sound },
            "arguments" => Self { arguments: self.arguments, ..sound },
            "user" => Self { user: self.user, ..sound },
            "command" => Self { command: self.command, ..sound },
            "port" => Self { port: self.port, ..sound },
            "variable_name" | "variable_value" => Self { variables: self.variables, ..sound },
            _ => return None,
        })
    }

    /// What is wrong with the field of this name, and where that stands.
    pub(super) fn wrong_of(&self, name: &str) -> (&'static str, Field) {
        let (id, field) = match name {
            "source" => ("source", &self.source_wrong),
            "description" => ("description", &self.description),
            "repository" => ("repository", &self.repository),
            "revision" => ("revision", &self.revision),
            "directory" => ("directory", &self.directory),
            "image" => ("image", &self.image),
            "arguments" => ("arguments", &self.arguments),
            "user" => ("user", &self.user),
            "command" => ("command", &self.command),
            "port" => ("port", &self.port),
            "variable_name" | "variable_value" => ("variables", &self.variables_wrong),
            _ => ("name", &self.name),
        };
        (id, field.clone())
    }

    pub(super) fn of(launcher: &Launcher) -> Self {
        let mut form = Self {
            name: Field::of(&launcher.name),
            description: Field::of(launcher.description.clone().unwrap_or_default()),
            resource_class: launcher.resource_class_id,
            ..Self::default()
        };
        let (command, args, port) = match &launcher.environment.source {
            EnvironmentSource::Code { code, run } => {
                form.repository = Field::of(&code.repository);
                form.revision = Field::of(code.revision.clone().unwrap_or_default());
                form.directory = Field::of(code.context_dir.clone().unwrap_or_default());
                form.builder = code.builder;
                form.as_image = code.as_image;
                (&run.command, &run.args, run.port)
            }
            EnvironmentSource::Image(image) => {
                form.source = Source::Image;
                form.image = Field::of(&image.container_image);
                form.arguments = Field::of(command::text(image.args.as_deref().unwrap_or_default()));
                form.user = Field::of(match (image.uid, image.gid) {
                    (Some(uid), Some(gid)) => format!("{uid}:{gid}"),
                    (Some(uid), None) => uid.to_string(),
                    (None, _) => String::new(),
                });
                (&image.command, &None, image.port)
            }
        };
        let words: Vec<String> = command.iter().flatten().chain(args.iter().flatten()).cloned().collect();
        form.command = Field::of(command::text(&words));
        form.port = Field::of(port.map(|port| port.to_string()).unwrap_or_default());
        let variable =
            |given: &EnvVariable| TypedVariable { name: given.name.clone(), value: given.value.clone() };
        form.variables = launcher.variables.iter().map(variable).collect();
        form.variables.resize(form.variables.len() + SPARE_ROWS, TypedVariable::default());
        form
    }

    /// What the form asks for, with `before` giving what it does not ask; or the form with what is wrong.
    pub(super) fn source(
        mut self,
        before: Option<&EnvironmentSource>,
    ) -> Result<(Self, EnvironmentSource), Box<Self>> {
        let command = match command::words(self.own_command()) {
            Ok(words) => (!words.is_empty()).then_some(words),
            Err(why) => {
                self.command.wrong = Some(why.told());
                None
            }
        };
        let port = match (self.port.value.as_str(), self.port.value.parse::<u16>()) {
            ("", _) => None,
            (_, Ok(port)) if port > 0 => Some(port),
            _ => {
                self.port.wrong = Some(tell!("form-port-wrong", text = self.port.value));
                None
            }
        };
        self.require_names();
        let source = match self.source {
            Source::Code => {
                if self.repository.value.is_empty() {
                    self.repository.wrong = Some(say("form-no-repository").to_owned());
                }
                EnvironmentSource::Code {
                    code: Code {
                        repository: self.repository.value.clone(),
                        revision: given(&self.revision),
                        context_dir: given(&self.directory),
                        builder: self.builder,
                        as_image: self.as_image,
                    },
                    run: CodeRun { command, args: None, port },
                }
            }
            Source::Image => self.image_source(command, port, before),
        };
        let fields = [
            &self.name,
            &self.repository,
            &self.image,
            &self.arguments,
            &self.user,
            &self.command,
            &self.port,
            &self.variables_wrong,
        ];
        if fields.iter().any(|field| field.wrong.is_some()) {
            Err(Box::new(self))
        } else {
            Ok((self, source))
        }
    }

    /// The command that somebody typed; nothing where the field holds what the code says, as it was put there.
    fn own_command(&self) -> &str {
        let own = !self.planned.is_empty() && self.command.value == self.planned;
        if own { "" } else { &self.command.value }
    }

    /// The code that the form names, and how it is to be run, for a look at it; `None` while it names none.
    pub(super) fn code(&self) -> Option<(Code, CodeRun)> {
        let code = Code {
            repository: given(&self.repository)?,
            revision: given(&self.revision),
            context_dir: given(&self.directory),
            builder: self.builder,
            as_image: self.as_image,
        };
        let command = command::words(self.own_command()).unwrap_or_default();
        let command = (!command.is_empty()).then_some(command);
        Some((code, CodeRun { command, args: None, port: None }))
    }

    /// Takes in what a build would do, and how the code starts by itself. Whether the field of the command changed.
    pub(super) fn looked(&mut self, plan: CodePlan, command: Option<String>) -> bool {
        self.plan = Some(plan);
        if !self.own_command().is_empty() {
            return false;
        }
        let before = std::mem::replace(&mut self.planned, command.unwrap_or_default());
        self.command.value.clone_from(&self.planned);
        before != self.planned
    }

    fn require_names(&mut self) {
        if self.name.value.is_empty() {
            self.name.wrong = Some(say("form-no-name").to_owned());
        }
        if self.variables.iter().any(|variable| variable.name.is_empty() && !variable.value.is_empty()) {
            self.variables_wrong.wrong = Some(say("form-variable-unnamed").to_owned());
        }
    }

    fn image_source(
        &mut self,
        command: Option<Vec<String>>,
        port: Option<u16>,
        before: Option<&EnvironmentSource>,
    ) -> EnvironmentSource {
        if self.image.value.is_empty() {
            self.image.wrong = Some(say("form-no-image").to_owned());
        }
        let args = match command::words(&self.arguments.value) {
            Ok(words) => (!words.is_empty()).then_some(words),
            Err(why) => {
                self.arguments.wrong = Some(why.told());
                None
            }
        };
        let (uid, gid) = self.user_and_group();
        let before = match before {
            Some(EnvironmentSource::Image(image)) => Some(image.clone()),
            _ => None,
        };
        let image = ImageSource {
            name: self.image.value.clone(),
            container_image: self.image.value.clone(),
            port,
            command,
            args,
            uid,
            gid,
            working_directory: None,
            default_url: None,
        };
        EnvironmentSource::Image(match before {
            // What this form does not ask stays as it is.
            Some(before) => ImageSource {
                working_directory: before.working_directory,
                default_url: before.default_url,
                ..image
            },
            None => image,
        })
    }

    /// `UID` or `UID:GID`, or nothing.
    fn user_and_group(&mut self) -> (Option<u32>, Option<u32>) {
        let text = self.user.value.clone();
        if text.is_empty() {
            return (None, None);
        }
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text.as_str(), None),
        };
        match (user.parse::<u32>(), group.map(str::parse::<u32>).transpose()) {
            (Ok(0), _) => {
                self.user.wrong = Some(say("form-root").to_owned());
                (None, None)
            }
            (Ok(user), Ok(group)) => (Some(user), group),
            _ => {
                self.user.wrong = Some(tell!("form-user-wrong", text = text));
                (None, None)
            }
        }
    }

    pub(super) fn description(&self) -> Option<String> {
        given(&self.description)
    }

    pub(super) fn variables(&self) -> Vec<EnvVariable> {
        let named = self.variables.iter().filter(|variable| !variable.name.is_empty());
        named
            .map(|variable| EnvVariable { name: variable.name.clone(), value: variable.value.clone() })
            .collect()
    }

    /// Puts what the service refused beside the field that it is about.
    pub(super) fn refused(mut self, mut error: Error) -> Result<Self, Failed> {
        if let Some(start) = &mut self.start {
            match start.refused(error)? {
                Some(other) => error = other,
                None => return Ok(self),
            }
        }
        let of = match error {
            Error::NotOffered { .. } => Some(Of::Source),
            _ => error.field(),
        };
        let wrong = Some(complaint(error)?);
        match of {
            Some(Of::Source) => self.source_wrong.wrong = wrong,
            Some(Of::Variables) => self.variables_wrong.wrong = wrong,
            Some(Of::Revision) => self.revision.wrong = wrong,
            Some(Of::Directory) => self.directory.wrong = wrong,
            Some(Of::Image) => self.image.wrong = wrong,
            Some(Of::User) => self.user.wrong = wrong,
            Some(Of::ResourceClass) => self.resource_class_wrong.wrong = wrong,
            Some(Of::Port) => self.port.wrong = wrong,
            Some(Of::Arguments) if self.source == Source::Image => self.arguments.wrong = wrong,
            Some(Of::Command | Of::Arguments) => self.command.wrong = wrong,
            Some(Of::Repository) => self.repository.wrong = wrong,
            Some(Of::Description) => self.description.wrong = wrong,
            Some(Of::Name) => self.name.wrong = wrong,
            _ => self.problem = wrong,
        }
        Ok(self)
    }
}
