//! The pages about people and how they come in, each with the values its template needs.

use askama::Template;
use marmot_text::filters;

use super::view::{Field, Frame};

/// A token that was made just now.
#[derive(Debug)]
pub(super) struct FreshToken {
    pub(super) name: String,
    pub(super) text: crate::model::Secret,
}

/// A token in the list.
#[derive(Debug)]
pub(super) struct TokenRow {
    pub(super) id: String,
    pub(super) name: String,
    /// What it may do, and where.
    pub(super) may: String,
    pub(super) made: String,
    pub(super) used: String,
    pub(super) until: String,
}

/// For how long a token may work.
#[derive(Debug)]
pub(super) struct Lifetime {
    pub(super) days: i64,
    pub(super) told: &'static str,
    pub(super) chosen: bool,
}

/// Somewhere that somebody is signed in.
#[derive(Debug)]
pub(super) struct SessionRow {
    pub(super) id: String,
    pub(super) agent: String,
    pub(super) address: String,
    pub(super) with: String,
    pub(super) since: String,
    pub(super) seen: String,
    /// It is the one that asks.
    pub(super) own: bool,
}

/// An account elsewhere that lets somebody in.
#[derive(Debug)]
pub(super) struct WayRow {
    pub(super) provider: String,
    pub(super) label: String,
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) used: String,
}

/// Something to choose, by id.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) id: String,
    pub(super) told: String,
}

#[derive(Debug, Template)]
#[template(path = "settings.html")]
pub(super) struct SettingsPage {
    pub(super) frame: Frame,
    /// Why something did not work, or that it did.
    pub(super) problem: Option<String>,
    pub(super) fresh: Option<FreshToken>,
    /// The form of a token that was refused, if it was.
    pub(super) again: super::again::Again,
    pub(super) name: Field,
    pub(super) lifetimes: Vec<Lifetime>,
    pub(super) projects: Vec<Choice>,
    pub(super) tokens: Vec<TokenRow>,
    pub(super) sessions: Vec<SessionRow>,
    /// The tag of the language that was chosen for the account; empty when none was.
    pub(super) language: &'static str,
    pub(super) has_password: bool,
    pub(super) current: Field,
    pub(super) wanted: Field,
    pub(super) ways: Vec<WayRow>,
    pub(super) providers: Vec<Choice>,
}

/// Goes on to another site: a form may not lead there by itself.
#[derive(Debug, Template)]
#[template(path = "go_on.html")]
pub(super) struct GoOnPage {
    pub(super) frame: Frame,
    pub(super) title: String,
    pub(super) address: String,
}

/// Making the first administrator, or choosing a password.
#[derive(Debug, Template)]
#[template(path = "choose_password.html")]
pub(super) struct ChoosePasswordPage {
    pub(super) frame: Frame,
    /// Whose password; the first administrator's when absent, who chooses a name, too.
    pub(super) whose: Option<String>,
    pub(super) username: Field,
    pub(super) password: Field,
    pub(super) problem: Option<String>,
}

/// A person, to those who run the installation.
#[derive(Debug)]
pub(super) struct PersonRow {
    pub(super) id: String,
    pub(super) username: String,
    pub(super) name: String,
    pub(super) email: String,
    pub(super) made: String,
    pub(super) is_admin: bool,
    pub(super) disabled: bool,
}

/// A link that was made just now.
#[derive(Debug)]
pub(super) struct FreshLink {
    pub(super) username: String,
    pub(super) url: crate::model::Secret,
}

#[derive(Debug, Template)]
#[template(path = "people.html")]
pub(super) struct PeoplePage {
    pub(super) frame: Frame,
    pub(super) problem: Option<String>,
    pub(super) link: Option<FreshLink>,
    pub(super) username: Field,
    pub(super) email: Field,
    pub(super) people: Vec<PersonRow>,
    pub(super) earlier: Option<u32>,
    pub(super) later: Option<u32>,
}

/// A group in the list.
#[derive(Debug)]
pub(super) struct GroupRow {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) description: String,
}

/// The groups that somebody is a member of; all there are for administrators.
#[derive(Debug, Template)]
#[template(path = "groups.html")]
pub(super) struct GroupsPage {
    pub(super) frame: Frame,
    pub(super) all: bool,
    pub(super) groups: Vec<GroupRow>,
    pub(super) name: Field,
    pub(super) path: Field,
    pub(super) description: Field,
    pub(super) earlier: Option<u32>,
    pub(super) later: Option<u32>,
}

/// Somebody with a role in a group.
#[derive(Debug)]
pub(super) struct MemberRow {
    pub(super) username: String,
    pub(super) role: &'static str,
}

#[derive(Debug, Template)]
#[template(path = "group.html")]
pub(super) struct GroupPage {
    pub(super) frame: Frame,
    pub(super) path: String,
    pub(super) title: String,
    pub(super) about: String,
    /// Why something did not work.
    pub(super) problem: Option<String>,
    pub(super) members: Vec<MemberRow>,
    /// The roles to choose from.
    pub(super) roles: &'static [&'static str],
    pub(super) may_govern: bool,
    /// The projects of its namespace: names and paths.
    pub(super) projects: Vec<(String, String)>,
    pub(super) name: Field,
    pub(super) description: Field,
    pub(super) username: Field,
}

/// Something that somebody did.
#[derive(Debug)]
pub(super) struct DeedRow {
    pub(super) at: String,
    pub(super) who: String,
    pub(super) what: String,
    pub(super) to: String,
    pub(super) from: String,
}

#[derive(Debug, Template)]
#[template(path = "audit.html")]
pub(super) struct AuditPage {
    pub(super) frame: Frame,
    /// The project it is about: its name and path; everything when absent.
    pub(super) project: Option<(String, String)>,
    pub(super) export: String,
    pub(super) deeds: Vec<DeedRow>,
    pub(super) earlier: Option<u32>,
    pub(super) later: Option<u32>,
}
