//! What the parts of a page show, as plain values: made from the service's answers in `present`, drawn by templates.

use askama::Template;
use marmot_text::filters;

use super::ansi::Line;

/// The colour and icon of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    On,
    Asleep,
    Busy,
    Bad,
    Off,
}

impl Tone {
    /// Its name in the style sheet and among the icons.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Asleep => "asleep",
            Self::Busy => "busy",
            Self::Bad => "bad",
            Self::Off => "off",
        }
    }
}

/// A state, told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PhaseView {
    pub(super) tone: Tone,
    pub(super) word: &'static str,
    pub(super) detail: String,
}

/// What the frame around every page shows.
#[derive(Debug, Clone, Default)]
pub(super) struct Frame {
    /// Who is signed in.
    pub(super) username: Option<String>,
    /// That person runs the installation.
    pub(super) is_admin: bool,
    /// Path and query of this page, for coming back after signing in.
    pub(super) here: String,
    /// Where this page's changes are told, if it has any.
    pub(super) live: Option<String>,
    /// Said on every page, such as that this is a demo.
    pub(super) strip: Option<String>,
}

impl Frame {
    /// The first letter of who is signed in.
    pub(super) fn initial(&self) -> String {
        self.username.as_deref().and_then(|name| name.chars().next()).map(String::from).unwrap_or_default()
    }

    /// The sign-in page, which leads back here.
    pub(super) fn sign_in(&self) -> String {
        if self.here.is_empty() || self.here == "/" {
            return "/sign-in".to_owned();
        }
        let next = percent_encoding::utf8_percent_encode(&self.here, percent_encoding::NON_ALPHANUMERIC);
        format!("/sign-in?next={next}")
    }
}

/// A launcher in its project's box, and its app.
#[derive(Debug, Clone, Template)]
#[template(path = "launcher.html")]
pub(super) struct LauncherCard {
    pub(super) id: String,
    pub(super) name: String,
    /// Path of the launcher's pages.
    pub(super) path: String,
    pub(super) description: Option<String>,
    pub(super) source: SourceView,
    /// Its resource class, in words.
    pub(super) resources: String,
    pub(super) may_write: bool,
    pub(super) may_read_logs: bool,
    pub(super) phase: PhaseView,
    /// It was switched on and not off since.
    pub(super) app: Option<AppView>,
    /// The last build, if it says more than the app's phase does.
    pub(super) build: Option<BuildView>,
    /// Why the last thing somebody asked for was not done.
    pub(super) problem: Option<String>,
    /// The fragment replaces the card that is on the page.
    pub(super) replaces: bool,
}

/// Where a launcher's program comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SourceView {
    Code {
        /// The address, if a browser can go there.
        link: Option<String>,
        /// The address as people say it, with revision and directory.
        told: String,
    },
    Image {
        image: String,
    },
}

/// An app that is on.
#[derive(Debug, Clone)]
pub(super) struct AppView {
    /// Its own address.
    pub(super) url: String,
    /// The link to hand to others: always leads to the app or says that it is off.
    pub(super) share: String,
    /// Who switched it on and when.
    pub(super) switched: String,
    /// How many people use it now.
    pub(super) people: Option<String>,
    /// It can be opened.
    pub(super) can_open: bool,
    /// It is on its way: something moves.
    pub(super) under_way: bool,
    pub(super) failure: Option<FailureView>,
}

/// A build, told in a line.
#[derive(Debug, Clone)]
pub(super) struct BuildView {
    /// What and when: *Built 5 min ago from a1b2c3d*.
    pub(super) told: String,
    /// The page with its log, for those who may read it.
    pub(super) path: Option<String>,
}

/// Why something failed, what it said last, what to do.
#[derive(Debug, Clone)]
pub(super) struct FailureView {
    pub(super) reason: String,
    pub(super) last_lines: Vec<Line>,
    pub(super) advice: String,
}

/// A project among others.
#[derive(Debug, Clone)]
pub(super) struct ProjectTile {
    pub(super) path: String,
    pub(super) full_name: String,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) private: bool,
}

/// An app among others.
#[derive(Debug, Clone, Template)]
#[template(path = "app_tile.html")]
pub(super) struct AppTile {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) project: String,
    pub(super) project_path: String,
    /// Its own address.
    pub(super) open: String,
    pub(super) can_open: bool,
    pub(super) phase: PhaseView,
    /// Its picture, or what is in its place; absent where no pictures are taken.
    pub(super) picture: Option<PictureView>,
    pub(super) replaces: bool,
}

/// What an app looks like.
#[derive(Debug, Clone, Template)]
#[template(path = "app_picture.html")]
pub(super) struct PictureView {
    pub(super) name: String,
    /// Where its picture is; absent while there is none.
    pub(super) path: Option<String>,
}

impl PictureView {
    /// The first letter of its name.
    fn initial(&self) -> String {
        self.name.chars().next().map(|letter| letter.to_uppercase().collect()).unwrap_or_default()
    }
}

/// What somebody typed into a field, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) value: String,
    pub(super) wrong: Option<String>,
}

impl Field {
    pub(super) fn of(value: impl Into<String>) -> Self {
        Self { value: value.into(), wrong: None }
    }
}
