//! What the product is about, as plain values: people, projects, launchers, builds, apps, revisions.
//!
//! `db` reads and writes them, `service` decides about them, `api` and `web` show them. Those with `serde` derives
//! are also stored as JSON in a column: a new field needs `#[serde(default)]`.

mod limits;

use std::fmt;

use jiff::Timestamp;
use marmot_core::AppName;
use marmot_core::Said;
use marmot_core::id::{
    BuildId, CredentialId, EnvironmentId, GroupId, LauncherId, ProjectId, RevisionId, SecretId, SessionId,
    TokenId, UserId,
};
use marmot_core::name::{Namespace, Slug};
use marmot_text::Language;
use serde::{Deserialize, Serialize};

use crate::scaling::Scaling;
pub use limits::ProjectLimits;

/// A person with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The name to sign in with; also the namespace that this person owns.
    pub username: Namespace,
    /// Runs the installation: may do everything.
    pub is_admin: bool,
    /// The address to reach this person at.
    pub email: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// When the account was made.
    pub created_at: Timestamp,
    /// Since when an administrator keeps this person out.
    pub disabled_at: Option<Timestamp>,
    /// The language of the pages, where it was chosen.
    pub language: Option<Language>,
}

/// Somebody's session in a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Names it to its owner. Nobody gets in by it.
    pub id: SessionId,
    /// When somebody signed in.
    pub created_at: Timestamp,
    /// When it was last seen in use, to within a minute.
    pub last_seen_at: Timestamp,
    /// When it ends, whatever happens.
    pub expires_at: Timestamp,
    /// The identity provider that the person came by.
    pub provider: Option<String>,
    /// The address it was started from.
    pub address: String,
    /// What the browser says it is.
    pub agent: String,
}

/// An account elsewhere that lets somebody in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayIn {
    /// The identity provider.
    pub issuer: String,
    /// The provider's own name for the person.
    pub subject: String,
    /// What the person knows it by.
    pub label: String,
    /// Since when it lets them in.
    pub created_at: Timestamp,
    /// When it last did.
    pub last_used_at: Timestamp,
}

/// People who own a namespace together. Whoever has a role in it has that role in all projects of its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The id.
    pub id: GroupId,
    /// The namespace that it owns.
    pub path: Namespace,
    /// What people call it.
    pub name: String,
    /// What it is about.
    pub description: Option<String>,
    /// Who made it.
    pub created_by: UserId,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What is known of an API token. Its text is shown once and stored only as a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The id.
    pub id: TokenId,
    /// What its owner calls it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working; never when absent.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to within a minute.
    pub last_used_at: Option<Timestamp>,
    /// What it may do.
    pub access: Access,
    /// Where it may do it; everywhere when absent.
    pub limit: Option<Limit>,
}

/// What a token is good for alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// A project and all that is in it.
    Project(ProjectId),
    /// A launcher, its builds and its app.
    Launcher {
        /// Which.
        launcher: LauncherId,
        /// The project it is in.
        project: ProjectId,
    },
}

/// Text that must not be seen: a password, a token, a session. Not printable; compared in constant time.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown by accident.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq;
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

/// An enum whose variants are words, in the API, the database and the pages alike.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All of them, as words.
            pub const WORDS: &[&str] = &[$($word),*];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownWord { given: text.chars().take(40).collect(), allowed: Self::WORDS }),
                }
            }
        }
    )*};
}

/// The text is none of the allowed words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not allowed here: it must be one of {}", allowed.join(", "))]
pub struct UnknownWord {
    /// What was given, cut to a length that fits a message.
    pub given: String,
    /// What is allowed.
    pub allowed: &'static [&'static str],
}

words! {
    /// Who may see a project.
    Visibility {
        /// Its members.
        Private = "private",
        /// Everybody.
        Public = "public",
    }
    /// What a member may do in a project. Each may also do what those before it may.
    Role {
        /// See it and open its apps.
        Viewer = "viewer",
        /// Change it, activate its apps and shut them down.
        Editor = "editor",
        /// Choose its members and delete it.
        Owner = "owner",
    }
    /// By which way somebody did something.
    Via {
        /// A page, in a browser.
        Page = "page",
        /// The API, by a program.
        Api = "api",
        /// `marmot admin` on the data directory.
        Cli = "cli",
        /// A webhook of a git host.
        Webhook = "webhook",
        /// The server by itself.
        Server = "server",
    }
    /// What a token may do.
    Access {
        /// See what its owner may see.
        Read = "read",
        /// Change what its owner may change, too.
        Write = "write",
    }
    /// What a launcher launches. Only apps are offered so far.
    LauncherKind {
        /// An app, shared by all its visitors.
        App = "app",
    }
    /// How code is turned into something runnable.
    BuilderVariant {
        /// By what is found in the code.
        Auto = "auto",
        /// Python packages by uv.
        Python = "python",
        /// R packages from package repositories.
        R = "r",
        /// Packages of Node by npm, pnpm or Yarn.
        Node = "node",
        /// Files served as they are.
        Static = "static",
        /// An image, by the `Dockerfile` in the code.
        Dockerfile = "dockerfile",
        /// An image, by the buildpacks of the builder that the operator names.
        Buildpacks = "buildpacks",
    }
    /// How a replica is given a secret.
    SecretForm {
        /// As a variable of its environment.
        Variable = "variable",
        /// As a file, in the directory that `MARMOT_SECRETS_DIR` names.
        File = "file",
    }
    /// What a credential is for.
    CredentialKind {
        /// A host of code repositories.
        Git = "git",
        /// A registry of container images.
        Registry = "registry",
    }
    /// Where a build is.
    BuildStatus {
        /// Waits or is under way.
        InProgress = "in_progress",
        /// Has a result that can be run.
        Succeeded = "succeeded",
        /// Has none.
        Failed = "failed",
        /// Was called off.
        Cancelled = "cancelled",
    }
}

#[expect(clippy::derivable_impls, reason = "the macro that makes it knows no default")]
impl Default for BuilderVariant {
    fn default() -> Self {
        Self::Auto
    }
}

/// A place for launchers, with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The id.
    pub id: ProjectId,
    /// First part of its path.
    pub namespace: Namespace,
    /// Last part of its path, unique in the namespace.
    pub slug: Slug,
    /// What people call it.
    pub name: String,
    /// What it is about.
    pub description: Option<String>,
    /// Who may see it.
    pub visibility: Visibility,
    /// Addresses of its code repositories.
    pub repositories: Vec<String>,
    /// Who made it.
    pub created_by: UserId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Counts its changes.
    pub version: i64,
}

impl Project {
    /// The path of its page on the platform.
    pub fn path(&self) -> String {
        format!("/p/{}/{}", self.namespace, self.slug)
    }

    /// Names this version of it: the value of the `ETag` header, with its quotes.
    pub fn etag(&self) -> String {
        format!("\"{}-{}\"", self.id, self.version)
    }
}

/// A person with a role in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// That person's username.
    pub username: Namespace,
    /// What this person may do.
    pub role: Role,
}

/// A recipe in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// The id.
    pub id: LauncherId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// What people call it.
    pub name: String,
    /// What it is about.
    pub description: Option<String>,
    /// What it launches.
    pub kind: LauncherKind,
    /// The name of its app, the same for every activation: links to it stay valid.
    pub app_name: AppName,
    /// Where its program comes from.
    pub environment: Environment,
    /// Variables for the program.
    pub variables: Vec<EnvVariable>,
    /// What its replicas may use.
    pub resource_class_id: i64,
    /// What its replicas may reach.
    pub network: Network,
    /// It is no launcher that somebody made, but a preview of one.
    pub preview: Option<PreviewOf>,
    /// Who made it.
    pub created_by: UserId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Launcher {
    /// Whose rules it lives by: who may open its app, how it scales, what it is given in confidence. Its own, but for a
    /// preview.
    pub fn ruled_by(&self) -> LauncherId {
        self.preview.as_ref().map_or(self.id, |preview| preview.of)
    }

    /// The branch, tag or commit that is built; the default branch when absent.
    pub fn revision(&self) -> Option<&str> {
        match &self.environment.source {
            EnvironmentSource::Code { code, .. } => code.revision.as_deref(),
            EnvironmentSource::Image(_) => None,
        }
    }
}

/// What a preview is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewOf {
    /// The launcher.
    pub of: LauncherId,
    /// The branch of its repository.
    pub branch: String,
    /// When it goes, with all that it has.
    pub ends_at: Timestamp,
}

/// How a launcher learns of changes of its branch, and what it makes previews of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Following {
    /// The branch is looked at this often; never when absent.
    #[serde(default)]
    pub poll_minutes: Option<u32>,
    /// A webhook's pull or merge requests make and end previews.
    #[serde(default)]
    pub pull_requests: bool,
    /// Previews are given the secrets, too.
    #[serde(default)]
    pub secrets: bool,
    /// How long previews stay, in days; as the server says when absent.
    #[serde(default)]
    pub days: Option<u32>,
}

/// What was last seen of a launcher's branch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sighting {
    /// The commit that it was at, in hexadecimal.
    pub tip: Option<String>,
    /// When it was last looked at.
    pub looked_at: Option<Timestamp>,
    /// Why it could not be seen then.
    pub error: Option<String>,
    /// How often in a row it could not.
    pub failures: u32,
    /// When it is looked at again; never when absent.
    pub next_at: Option<Timestamp>,
}

/// What replicas may reach of other machines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "outbound", content = "allow", rename_all = "kebab-case")]
pub enum Network {
    /// Nothing.
    None,
    /// Public addresses.
    #[default]
    Internet,
    /// These addresses and networks over IPv4, perhaps with a port.
    AllowList(Vec<String>),
}

/// Where a launcher's program comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The id.
    pub id: EnvironmentId,
    /// Code or an image.
    pub source: EnvironmentSource,
}

/// Code or an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EnvironmentSource {
    /// Built from code.
    Code {
        /// What is built.
        code: Code,
        /// How the result is run.
        run: CodeRun,
    },
    /// A container image made elsewhere.
    Image(ImageSource),
}

/// Code, and how to turn it into something runnable.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Address of the repository. May carry a secret: show it with [`Code::shown_repository`].
    pub repository: String,
    /// Branch, tag or commit; the default branch when absent.
    pub revision: Option<String>,
    /// The app's directory in the repository; its root when absent.
    pub context_dir: Option<String>,
    /// How to build it.
    pub builder: BuilderVariant,
    /// What is built is put into an image, so that it runs elsewhere, too.
    #[serde(default)]
    pub as_image: bool,
}

impl Code {
    /// The repository's address without what may be a secret: a password, and in an http(s) address the user name too,
    /// since tokens are given as one.
    pub fn shown_repository(&self) -> String {
        let Ok(mut url) = url::Url::parse(&self.repository) else { return self.repository.clone() };
        let web = matches!(url.scheme(), "http" | "https");
        let secret_name = web && !url.username().is_empty();
        if url.password().is_none() && !secret_name {
            return self.repository.clone();
        }
        // Neither fails where there was something to remove.
        let _ = url.set_password(None);
        if secret_name {
            let _ = url.set_username("");
        }
        url.into()
    }
}

impl Code {
    /// No code: of a build that pulls an image.
    pub fn none() -> Self {
        Self {
            repository: String::new(),
            revision: None,
            context_dir: None,
            builder: BuilderVariant::Auto,
            as_image: false,
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code")
            .field("repository", &self.shown_repository())
            .field("revision", &self.revision)
            .field("context_dir", &self.context_dir)
            .field("builder", &self.builder)
            .field("as_image", &self.as_image)
            .finish()
    }
}

/// How the result of a build is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeRun {
    /// Program and first arguments, in the place of what the code says.
    pub command: Option<Vec<String>>,
    /// More arguments for `command`.
    pub args: Option<Vec<String>>,
    /// The port to listen on, where the program cannot be told by `PORT`.
    pub port: Option<u16>,
}

/// A container image, and how it is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// What people call this environment.
    pub name: String,
    /// The image's reference.
    pub container_image: String,
    /// The port it listens on; the one that the image names when absent.
    #[serde(default)]
    pub port: Option<u16>,
    /// In the place of the image's entry point.
    pub command: Option<Vec<String>>,
    /// In the place of the image's arguments.
    pub args: Option<Vec<String>>,
    /// The user to run as.
    pub uid: Option<u32>,
    /// The group to run as.
    pub gid: Option<u32>,
    /// In the place of the image's working directory.
    pub working_directory: Option<String>,
    /// The path that *Open* leads to.
    pub default_url: Option<String>,
}

/// A variable for a launcher's program. Its value is shown only to those who may change it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVariable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl fmt::Debug for EnvVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

/// What is known of a secret. Its value is sealed, and given to replicas alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSecret {
    /// The id.
    pub id: SecretId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// The launcher it belongs to; absent where it is for all launchers of the project.
    pub launcher_id: Option<LauncherId>,
    /// The name of its variable or file.
    pub name: String,
    /// How replicas are given it.
    pub form: SecretForm,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its value was last set.
    pub updated_at: Timestamp,
}

/// A secret as a replica is given it.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenSecret {
    /// The name of its variable or file.
    pub name: String,
    /// Its value.
    pub value: Secret,
    /// Variable or file.
    pub form: SecretForm,
}

/// What is known of what a project shows to a host of repositories or images. The secret itself is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The id.
    pub id: CredentialId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// What it is for.
    pub kind: CredentialKind,
    /// The one host that is shown it, perhaps with a port.
    pub host: String,
    /// The name that goes with it.
    pub username: String,
    /// When it was set.
    pub created_at: Timestamp,
}

/// By what a code hosting site tells that somebody has pushed to a launcher's repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The launcher that is built anew.
    pub launcher_id: LauncherId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a message with the right signature last came.
    pub heard_at: Option<Timestamp>,
    /// What came of it.
    pub heard: Option<String>,
}

/// One attempt to turn code into something runnable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The id.
    pub id: BuildId,
    /// The environment it was made for.
    pub environment_id: EnvironmentId,
    /// The code it builds, as it was described when the build was started.
    pub code: Code,
    /// The image it pulls, where it pulls one: then there is no code.
    pub image: Option<PulledImage>,
    /// The launcher had a command of its own, so the code need not say how to start it.
    pub command_given: bool,
    /// Where it is.
    pub status: BuildStatus,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What came of it, once it ended.
    pub result: BuildResult,
}

/// An image to be pulled, and pinned as what it is then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledImage {
    /// The image's reference.
    pub reference: String,
    /// The port it will be asked on, where somebody has said so.
    pub port: Option<u16>,
}

/// What came of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildResult {
    /// The commit that was built, in hexadecimal.
    pub commit: Option<String>,
    /// What was found in the code and why it is built so.
    pub summary: Option<String>,
    /// How the app is started, as a person would type it.
    pub command: Option<String>,
    /// The step that failed.
    pub failed_step: Option<Said>,
    /// Where a registry has the image that was made, by digest.
    #[serde(default)]
    pub pushed: Option<String>,
    /// Why, and what to do.
    pub reason: Option<Said>,
    /// The last lines of the log of a build that failed.
    #[serde(default)]
    pub last_lines: Vec<String>,
}

/// An app launcher that was activated. Exists from *activate* until *shut down*.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// The launcher it came from.
    pub launcher_id: LauncherId,
    /// The first label of its host.
    pub name: AppName,
    /// Who activated it.
    pub activated_by: UserId,
    /// When.
    pub activated_at: Timestamp,
    /// What it should run; absent while its first build is under way or has failed.
    pub wanted: Option<RevisionId>,
    /// The build that becomes the next revision when it succeeds.
    pub awaits: Option<BuildId>,
    /// Counts how often somebody asked to try again after starting was given up.
    pub retry: i64,
}

/// An immutable pair of program and settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The id.
    pub id: RevisionId,
    /// The launcher it was made from.
    pub launcher_id: LauncherId,
    /// 1 for the launcher's first revision, then 2, 3, …
    pub number: i64,
    /// What it runs.
    pub program: Program,
    /// The variables at that time.
    pub variables: Vec<EnvVariable>,
    /// What its replicas may use.
    pub resource_class_id: i64,
    /// How its app scaled; absent for those that were made before that was noted.
    pub scaling: Option<Scaling>,
    /// The revision whose replicas run it, where nothing but how they scale is different.
    pub runs_as: Option<RevisionId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a replica of it was first ready: since then it is known to boot.
    pub ready_at: Option<Timestamp>,
    /// Why starting it was given up before it was ever ready.
    pub failed: Option<FailedStart>,
}

impl Revision {
    /// What the engine knows its replicas by.
    pub fn engine_id(&self) -> RevisionId {
        self.runs_as.unwrap_or(self.id)
    }
}

/// Why a revision could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStart {
    /// When it was given up.
    pub at: Timestamp,
    /// Why, in a sentence.
    pub reason: Said,
    /// The last lines that it wrote.
    #[serde(default)]
    pub last_lines: Vec<String>,
}

/// What a revision runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Program {
    /// The result of a build.
    Built {
        /// Which build, as text.
        #[serde(with = "as_text")]
        build: BuildId,
        /// How it is run.
        run: CodeRun,
    },
    /// A container image.
    Image {
        /// Which build pulled it; as text.
        #[serde(default, with = "maybe_as_text", skip_serializing_if = "Option::is_none")]
        build: Option<BuildId>,
        /// The image, and how it is run.
        #[serde(flatten)]
        image: ImageSource,
    },
}

impl Program {
    /// The build whose result it is.
    pub fn build(&self) -> Option<BuildId> {
        match self {
            Self::Built { build, .. } => Some(*build),
            Self::Image { build, .. } => *build,
        }
    }
}

/// The same for ids that may be absent.
mod maybe_as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "serde hands it over so")]
    pub(super) fn serialize<T: std::fmt::Display, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// Ids in JSON columns are written as text.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: std::fmt::Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Something that happened to an app, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppEvent {
    /// When.
    pub at: Timestamp,
    /// What, in one word: `activated`, `build_failed`, `ready`, `hibernated`, …
    pub kind: String,
    /// What, in a sentence.
    pub message: Said,
    /// Who did it, if somebody did.
    pub by: Option<Namespace>,
}

/// Something that somebody did, for those who must be able to tell later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// A ULID: deeds by id are deeds by time.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// Who; absent for an operator on the data directory, and for the server itself.
    pub actor_id: Option<UserId>,
    /// Who, by the username of that time.
    pub actor: String,
    /// By which way.
    pub via: Via,
    /// The address it came from.
    pub address: String,
    /// What, such as `project.changed`.
    pub action: String,
    /// What kind of thing it was done to.
    pub kind: String,
    /// That thing's id.
    pub target_id: String,
    /// That thing's name at that time.
    pub target: String,
    /// The project it belongs to.
    pub project: Option<ProjectId>,
    /// More about it. Never a secret.
    pub details: serde_json::Value,
}

/// What a replica may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceClass {
    /// The id.
    pub id: i64,
    /// What people call it.
    pub name: String,
    /// CPU time, in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// The GPUs of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Gpus>,
    /// The one that is used when none is named.
    #[serde(default)]
    pub default: bool,
    /// Whose members alone may choose it; everybody may when there are none.
    #[serde(default)]
    pub groups: Vec<ClassGroup>,
}

/// A group whose members may choose a resource class: `PATH`, or `PATH:ROLE` for those with that role or a higher one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClassGroup {
    /// The group's path.
    pub path: Namespace,
    /// The least role.
    pub least: Role,
}

impl TryFrom<String> for ClassGroup {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (path, role) = text.split_once(':').unwrap_or((&text, Role::Viewer.as_str()));
        let wrong =
            || format!("`{text}` is no group: give its path, or `PATH:ROLE` with viewer, editor or owner");
        Ok(Self { path: path.parse().map_err(|_| wrong())?, least: role.parse().map_err(|_| wrong())? })
    }
}

impl From<ClassGroup> for String {
    fn from(group: ClassGroup) -> Self {
        format!("{}:{}", group.path, group.least)
    }
}

/// GPUs, or other devices of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Gpus {
    /// So many.
    Count(u32),
    /// Those of these names of the Container Device Interface.
    Devices(Vec<String>),
}

impl Gpus {
    /// How many they are, as far as their names tell.
    pub fn count(&self) -> u32 {
        match self {
            Self::Count(count) => *count,
            Self::Devices(names) => u32::try_from(names.len()).unwrap_or(u32::MAX),
        }
    }

    /// Why there can be no such ones.
    pub fn mistake(&self) -> Option<String> {
        let is_name = |name: &String| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
            let parts = name.split_once('/').and_then(|(vendor, rest)| Some((vendor, rest.split_once('=')?)));
            parts.is_some_and(|(vendor, (class, name))| {
                [vendor, class, name].iter().all(|part| !part.is_empty() && part.chars().all(allowed))
            })
        };
        match self {
            Self::Count(1..=64) => None,
            Self::Count(count) => Some(format!("{count} GPUs: 1 to 64 can be given")),
            Self::Devices(names) if names.is_empty() => Some("no names of GPUs: leave `gpus` out".to_owned()),
            Self::Devices(names) => names.iter().find(|name| !is_name(name)).map(|name| {
                format!("`{name}` is no name of a device: it must be like `nvidia.com/gpu=0` (`nvidia-ctk cdi list` shows them)")
            }),
        }
    }
}

impl ResourceClass {
    /// The classes of an installation whose operator named none.
    pub fn standard() -> Vec<Self> {
        let class = |id, name: &str, cpu_millis, memory_mib, default| Self {
            id,
            name: name.to_owned(),
            cpu_millis,
            memory_mib,
            gpus: None,
            default,
            groups: Vec::new(),
        };
        vec![
            class(1, "small", 1000, 1024, true),
            class(2, "medium", 2000, 4096, false),
            class(3, "large", 4000, 8192, false),
        ]
    }
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub page: u32,
    /// From 1 to [`Page::MAX`].
    pub per_page: u32,
}

impl Page {
    /// The most items of one page.
    pub const MAX: u32 = 100;
    /// The first page, as long as it may be.
    pub const FIRST: Self = Self { page: 1, per_page: Self::MAX };

    /// How many items come before it.
    pub fn offset(self) -> i64 {
        i64::from(self.page.saturating_sub(1)) * i64::from(self.per_page)
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paged<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// Which page this is.
    pub page: Page,
    /// How many items there are on all pages.
    pub total: u64,
}

/// What was answered to a request that may come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The version of what was made.
    pub etag: Option<String>,
    /// JSON.
    pub body: String,
}

/// What is known of a request that came with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It is being answered.
    UnderWay {
        /// Since then.
        since: Timestamp,
    },
    /// It was done; the answer held a secret, and was not kept.
    ShownOnce,
    /// It was done, with this answer.
    Answered(Answer),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_may_be_a_secret() {
        for (given, shown) in [
            ("https://ada:hunter2@example.org/x.git", "https://example.org/x.git"),
            ("https://hunter2@example.org/x.git", "https://example.org/x.git"),
            ("http://:hunter2@example.org/x", "http://example.org/x"),
            ("ssh://git:hunter2@example.org/x", "ssh://git@example.org/x"),
            ("ssh://git@example.org/x", "ssh://git@example.org/x"),
            ("git@example.org:x/y.git", "git@example.org:x/y.git"),
            ("https://example.org/@ada/x", "https://example.org/@ada/x"),
        ] {
            let code = Code {
                repository: given.to_owned(),
                revision: None,
                context_dir: None,
                builder: BuilderVariant::Auto,
                as_image: false,
            };
            assert_eq!(code.shown_repository(), shown);
            assert!(!format!("{code:?}").contains("hunter2"));
        }
    }
}
