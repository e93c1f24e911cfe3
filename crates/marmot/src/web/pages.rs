//! The pages, each with the values its template needs. A template that asks for anything else does not compile.

use std::borrow::Cow;

use askama::Template;
use marmot_text::filters;

use super::admin::Meter;
use super::ansi::Line;
use super::charts::Chart;
use super::gallery::Gallery;
use super::scaling::MoreSettings;
use super::share::Share;
use super::start::{StartForm, StartSection};
use super::tabs::Tab;
use super::usage::Saved;
use super::view::{Field, Frame, LauncherCard, PhaseView, ProjectTile};
use crate::model::BuilderVariant;

/// For those who are signed in: their projects, and the apps they may open.
#[derive(Debug, Template)]
#[template(path = "home.html")]
pub(super) struct HomePage {
    pub(super) frame: Frame,
    pub(super) projects: Vec<ProjectTile>,
    /// The pages of projects before and after.
    pub(super) earlier: Option<u32>,
    pub(super) later: Option<u32>,
    pub(super) apps: Gallery,
}

/// For everybody else: what this is, and the public apps.
#[derive(Debug, Template)]
#[template(path = "landing.html")]
pub(super) struct LandingPage {
    pub(super) frame: Frame,
    pub(super) apps: Gallery,
}

#[derive(Debug, Default, Template)]
#[template(path = "sign_in.html")]
pub(super) struct SignInPage {
    pub(super) frame: Frame,
    /// Where to go afterwards: a path of ours.
    pub(super) next: String,
    pub(super) username: Field,
    pub(super) password: Field,
    /// Why it did not work.
    pub(super) problem: Option<String>,
    /// Why signing in is asked for.
    pub(super) reason: Option<String>,
    /// Identity providers to sign in with.
    pub(super) providers: Vec<Link>,
}

/// What somebody typed about a project.
#[derive(Debug, Clone, Default)]
pub(super) struct ProjectForm {
    pub(super) name: Field,
    pub(super) slug: Field,
    pub(super) description: Field,
    pub(super) repositories: Field,
    pub(super) public: bool,
    /// What is wrong with no field in particular.
    pub(super) problem: Option<String>,
}

/// A limit of a project, as it is shown and asked for.
#[derive(Debug, Clone)]
pub(super) struct LimitRow {
    /// Its name in the form.
    pub(super) name: &'static str,
    pub(super) told: &'static str,
    pub(super) used: String,
    pub(super) allowed: String,
    /// What was said for this project alone, or what somebody typed.
    pub(super) field: Field,
    /// What belongs into the field.
    pub(super) like: &'static str,
}

#[derive(Debug, Template)]
#[template(path = "project_form.html")]
pub(super) struct ProjectFormPage {
    pub(super) frame: Frame,
    /// The path of the project that is edited; a new one when absent.
    pub(super) editing: Option<String>,
    /// Who did what in it is shown.
    pub(super) may_inspect: bool,
    /// What its apps and builds may use together; of a new one, nothing is said.
    pub(super) limits: Vec<LimitRow>,
    /// Who looks may say it.
    pub(super) may_limit: bool,
    /// Where a new one may be made, and whether that is chosen.
    pub(super) namespaces: Vec<(String, bool)>,
    pub(super) form: ProjectForm,
}

/// An address that may be one a browser can go to.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    pub(super) told: String,
    pub(super) link: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "project.html")]
pub(super) struct ProjectPage {
    pub(super) frame: Frame,
    pub(super) namespace: String,
    pub(super) slug: String,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) description: Option<String>,
    pub(super) private: bool,
    pub(super) may_write: bool,
    pub(super) repositories: Vec<Repository>,
    pub(super) launchers: LaunchersBox,
}

/// The box *Launchers* of a project.
#[derive(Debug, Template)]
#[template(path = "launchers.html")]
pub(super) struct LaunchersBox {
    pub(super) path: String,
    pub(super) may_write: bool,
    pub(super) cards: Vec<LauncherCard>,
    /// How many there are on all pages, and the pages before and after.
    pub(super) total: u64,
    pub(super) earlier: Option<u32>,
    pub(super) later: Option<u32>,
    /// The fragment replaces the box that is on the page.
    pub(super) replaces: bool,
}

/// Where a launcher's program comes from, as the form asks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Source {
    #[default]
    Code,
    Image,
}

/// A name and value that somebody typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TypedVariable {
    pub(super) name: String,
    pub(super) value: String,
}

/// What somebody typed about a launcher.
#[derive(Debug, Clone, Default)]
pub(super) struct LauncherForm {
    pub(super) source: Source,
    pub(super) source_wrong: Field,
    pub(super) name: Field,
    pub(super) description: Field,
    pub(super) repository: Field,
    pub(super) revision: Field,
    pub(super) directory: Field,
    pub(super) builder: BuilderVariant,
    /// What is built becomes a container image.
    pub(super) as_image: bool,
    /// How the code starts by itself, as it was put into the field of the command: while it stands there unchanged, the
    /// code goes on to say so.
    pub(super) planned: String,
    /// What a build would do, where somebody had the code looked at.
    pub(super) plan: Option<CodePlan>,
    pub(super) image: Field,
    /// Arguments for the image, and the user it runs as.
    pub(super) arguments: Field,
    pub(super) user: Field,
    pub(super) command: Field,
    pub(super) port: Field,
    pub(super) resource_class: i64,
    pub(super) resource_class_wrong: Field,
    pub(super) variables: Vec<TypedVariable>,
    pub(super) variables_wrong: Field,
    /// What a new launcher begins with; absent of one that there is.
    pub(super) start: Option<Box<StartForm>>,
    /// What is wrong with no field in particular.
    pub(super) problem: Option<String>,
}

/// What a build would do with the code, or why there is nothing to be said.
#[derive(Debug, Clone, Default)]
pub(super) struct CodePlan {
    pub(super) problem: Option<String>,
    /// What it is, in a few words.
    pub(super) what: String,
    /// The first digits of the commit.
    pub(super) commit: String,
    /// What is said of it, by name.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) warnings: Vec<String>,
    pub(super) reasons: Vec<String>,
}

/// The plan alone, for a form that is there already.
#[derive(Debug, Template)]
#[template(path = "code_plan.html")]
pub(super) struct CodePlanPart {
    pub(super) plan: Option<CodePlan>,
    pub(super) planned: String,
    /// What the field of the command is to hold now, where it has to change.
    pub(super) command: Option<String>,
}

/// A builder to choose.
#[derive(Debug, Clone)]
pub(super) struct BuilderChoice {
    pub(super) word: &'static str,
    pub(super) told: &'static str,
    pub(super) chosen: bool,
}

/// A resource class to choose.
#[derive(Debug, Clone)]
pub(super) struct ClassChoice {
    pub(super) id: i64,
    pub(super) told: String,
}

#[derive(Debug, Template)]
#[template(path = "launcher_form.html")]
pub(super) struct LauncherFormPage {
    pub(super) frame: Frame,
    /// What is set apart from the recipe; not of a new one, nor beside a recipe that was refused.
    pub(super) more: Option<MoreSettings>,
    /// The launcher's other pages; none of a new one.
    pub(super) tabs: Vec<Tab>,
    pub(super) editing: bool,
    pub(super) project_name: String,
    pub(super) project_path: String,
    /// The project's repositories, to choose from.
    pub(super) repositories: Vec<String>,
    pub(super) classes: Vec<ClassChoice>,
    pub(super) builders: Vec<BuilderChoice>,
    /// Images can be made of code that has no Dockerfile.
    pub(super) makes_images: bool,
    /// Where the form is sent.
    pub(super) action: String,
    /// Where it is sent for a look at the code.
    pub(super) look_path: String,
    /// Where a field is sent to be looked at while it is typed.
    pub(super) check_path: String,
    pub(super) images_offered: bool,
    pub(super) form: LauncherForm,
    /// Who may open a new one, how it scales, its secrets.
    pub(super) start: Option<StartSection>,
}

/// Asked before something that cannot be taken back.
#[derive(Debug, Template)]
#[template(path = "question.html")]
pub(super) struct Question {
    pub(super) title: String,
    pub(super) text: String,
    pub(super) action: String,
    pub(super) yes: &'static str,
    /// What is said from the yes until it is done.
    pub(super) doing: &'static str,
    pub(super) no: &'static str,
    /// The page to go back to.
    pub(super) back: String,
}

#[derive(Debug, Template)]
#[template(path = "question_page.html")]
pub(super) struct QuestionPage {
    pub(super) frame: Frame,
    pub(super) question: Question,
}

/// Something to do on a log's page.
#[derive(Debug, Clone)]
pub(super) struct LogAction {
    pub(super) path: String,
    pub(super) label: &'static str,
}

/// What is going on with what writes a log.
#[derive(Debug, Template)]
#[template(path = "log_state.html")]
pub(super) struct LogState {
    pub(super) phase: PhaseView,
    pub(super) action: Option<LogAction>,
    /// The fragment replaces what is on the page.
    pub(super) replaces: bool,
}

#[derive(Debug, Template)]
#[template(path = "log.html")]
pub(super) struct LogPage {
    pub(super) frame: Frame,
    pub(super) title: String,
    pub(super) project_name: String,
    pub(super) project_path: String,
    pub(super) launcher_name: String,
    /// The launcher's other pages; none around a build.
    pub(super) tabs: Vec<Tab>,
    pub(super) state: LogState,
    /// What is looked for in the log of an app.
    pub(super) filter: Option<LogFilter>,
    /// Drawn by `ansi`.
    pub(super) lines: String,
    pub(super) hint: &'static str,
}

/// The form that says which lines are shown.
#[derive(Debug)]
pub(super) struct LogFilter {
    pub(super) find: String,
    pub(super) levels: Vec<Choice>,
    /// The app's replicas, and all of them.
    pub(super) copies: Vec<Choice>,
    /// What they run, and all of it.
    pub(super) revisions: Vec<Choice>,
    /// How many lines there are, where not all of them are shown.
    pub(super) told: Option<String>,
    /// Where everything is as a file.
    pub(super) download: String,
}

/// One of several to choose from.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) label: String,
    pub(super) chosen: bool,
}

/// Somewhere to go.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) path: String,
    pub(super) label: Cow<'static, str>,
}

/// One thing to say: an error, that an app is off, that it opens.
#[derive(Debug, Template)]
#[template(path = "message.html")]
pub(super) struct MessagePage {
    pub(super) frame: Frame,
    pub(super) phase: Option<PhaseView>,
    pub(super) title: String,
    pub(super) text: String,
    pub(super) links: Vec<Link>,
}

/// All parts of all pages.
#[derive(Debug, Template)]
#[template(path = "design.html")]
pub(super) struct DesignPage {
    pub(super) frame: Frame,
    pub(super) tabs: Vec<Tab>,
    pub(super) charts: Vec<Chart>,
    pub(super) saved: Saved,
    pub(super) phases: Vec<PhaseView>,
    pub(super) launchers: LaunchersBox,
    pub(super) form: StartSection,
    pub(super) memory: Meter,
    pub(super) share: Share,
    pub(super) right: Field,
    pub(super) wrong: Field,
    pub(super) lines: Vec<Line>,
}
