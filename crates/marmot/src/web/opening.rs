//! The box *Who may open it* of an app's page: to whom it is open, its links, its keys.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use marmot_core::id::{AppKeyId, ShareLinkId};
use marmot_core::name::Namespace;
use marmot_core::said;
use marmot_text::{filters, say, tell};

use super::Web;
use super::account_pages::Lifetime;
use super::again::Again;
use super::boxes;
use super::detail;
use super::forms::Typed;
use super::launchers::{LauncherPath, find_launcher};
use super::present::Presenter;
use super::respond::{Failed, removed, see_other};
use super::session::Visitor;
use super::words;
use crate::model::{Secret, Visibility};
use crate::opening::{Grant, KeyQuota, OpenTo};
use crate::service::{Error, Field as Of, Identity, Invited, LauncherView, NewGrant};

/// Days, and how they are told. None of them: until it is revoked.
const LIFETIMES: &[(i64, &str)] = &[
    (1, "for-a-day"),
    (7, "for-a-week"),
    (30, "for-30-days"),
    (365, "for-a-year"),
    (0, "for-until-revoked"),
];
const USUAL_LIFETIME: i64 = 30;

/// Who may open the app.
#[derive(Debug, Template)]
#[template(path = "detail_access.html")]
pub(super) struct AccessSection {
    /// The path of the app's page.
    path: String,
    /// Who may, in a sentence.
    told: &'static str,
    /// Who could, for those who may choose.
    choices: Vec<Choice>,
    /// The names of people, as they are typed.
    users: String,
    /// The paths of groups.
    groups: String,
    links: Option<Grants>,
    keys: Option<Grants>,
    /// What was made just now.
    fresh: Option<Fresh>,
    again: Again,
    lifetimes: Vec<Lifetime>,
}

#[derive(Debug)]
pub(super) struct Choice {
    pub(super) value: &'static str,
    pub(super) label: &'static str,
    pub(super) icon: &'static str,
    pub(super) help: &'static str,
    pub(super) chosen: bool,
}

/// Links, or keys.
#[derive(Debug)]
struct Grants {
    rows: Vec<GrantRow>,
}

#[derive(Debug)]
struct GrantRow {
    id: String,
    name: String,
    until: String,
    used: String,
    /// How much it may be used, for keys.
    quota: String,
}

/// A link or key that was made just now.
#[derive(Debug)]
pub(super) struct Fresh {
    title: String,
    /// What to do with it.
    how: &'static str,
    text: Secret,
}

/// What a form of the box came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    fresh: Option<Fresh>,
}

impl AccessSection {
    /// The box, for members.
    pub(super) async fn of(
        web: &Web,
        who: &Identity,
        view: &LauncherView,
        outcome: Outcome,
        again: &Again,
    ) -> Result<Self, Failed> {
        let name = &view.launcher.app_name;
        let opening = web.service.opening(who, name).await?;
        let presenter = Presenter::new(&web.service);
        let (mut links, mut keys) = (None, None);
        if view.can.change {
            let quota = |quota: KeyQuota| {
                let parts = [
                    quota.per_minute.map(|count| tell!("key-quota-minute", count = count)),
                    quota.at_once.map(|count| tell!("key-quota-at-once", count = count)),
                ];
                parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
            };
            let found = web.service.app_keys(who, name).await?;
            let rows = found.into_iter().map(|key| row(&presenter, key.grant, quota(key.quota))).collect();
            keys = Some(Grants { rows });
            if opening.to == OpenTo::Link {
                let found = web.service.share_links(who, name).await?;
                let rows = found.into_iter().map(|link| row(&presenter, link.grant, String::new())).collect();
                links = Some(Grants { rows });
            }
        }
        // What was chosen and refused stays chosen.
        let to = again.field("access", "open_to", "").value.parse().unwrap_or(opening.to);
        let choices = if view.can.govern { choices(to, view.project.visibility) } else { Vec::new() };
        let lifetime = |&(days, told): &(i64, &'static str)| Lifetime {
            days,
            told: say(told),
            chosen: days == USUAL_LIFETIME,
        };
        Ok(Self {
            path: detail::own_path(view),
            told: told(opening.effective),
            choices,
            users: names(&opening.users),
            groups: names(&opening.groups),
            links,
            keys,
            fresh: outcome.fresh,
            again: again.clone(),
            lifetimes: LIFETIMES.iter().map(lifetime).collect(),
        })
    }
}

fn names(names: &[Namespace]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Names as somebody types them.
pub(super) fn typed_names(text: &str) -> Vec<String> {
    let names = text.split([',', ' ', '\n', '\r', '\t']);
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn told(to: OpenTo) -> &'static str {
    match to {
        OpenTo::Everyone => say("open-to-everyone"),
        OpenTo::Link => say("open-to-link"),
        OpenTo::SignedIn => say("open-to-signed-in"),
        OpenTo::Named => say("open-to-named"),
        OpenTo::Project | OpenTo::Members => say("open-to-members"),
    }
}

pub(super) fn choices(to: OpenTo, visibility: Visibility) -> Vec<Choice> {
    let public = visibility == Visibility::Public;
    let choice = |value: OpenTo, label, icon, help| Choice {
        value: value.as_str(),
        label,
        icon,
        help,
        chosen: value == to,
    };
    let mut choices = vec![choice(
        OpenTo::Project,
        say("open-like-project"),
        "app",
        if public { say("open-project-public") } else { say("open-project-private") },
    )];
    if public || to == OpenTo::Everyone {
        choices.push(choice(OpenTo::Everyone, say("open-everyone"), "globe", say("open-everyone-help")));
    }
    choices.extend([
        choice(OpenTo::Link, say("open-with-link"), "link", say("open-with-link-help")),
        choice(OpenTo::SignedIn, say("open-signed-in"), "key", say("open-signed-in-help")),
        choice(OpenTo::Members, say("open-members"), "lock", say("open-members-help")),
        choice(OpenTo::Named, say("open-named"), "people", say("open-named-help")),
    ]);
    choices
}

fn row<Id: ToString>(presenter: &Presenter<'_>, grant: Grant<Id>, quota: String) -> GrantRow {
    let over = grant.expires_at.is_some_and(|at| at <= Timestamp::now());
    GrantRow {
        id: grant.id.to_string(),
        name: grant.name,
        until: match grant.expires_at {
            Some(_) if over => say("expired").to_owned(),
            Some(at) => words::date(at),
            None => say("until-revoked").to_owned(),
        },
        used: match (grant.uses, grant.last_used_at) {
            (0, None) => say("never").to_owned(),
            (times, at) => {
                let times = if times == 1 { say("once").to_owned() } else { tell!("times", count = times) };
                at.map_or_else(|| times.clone(), |at| format!("{times}, {}", presenter.ago(at)))
            }
        },
        quota,
    }
}

/// The page again, with what came of a form.
async fn answer<T>(
    web: &Web,
    visitor: &Visitor,
    path: &(String, String, String),
    done: Result<T, Error>,
    (form, typed): (&'static str, &Typed),
    fresh: impl FnOnce(T) -> Fresh,
) -> Result<Response, Failed> {
    let access = match done {
        Ok(made) => Outcome { fresh: Some(fresh(made)) },
        Err(error) => return boxes::refused(web, visitor, path, error, form, typed).await,
    };
    // In the answer itself, not behind a redirect: a secret is kept nowhere.
    detail::page(web, visitor, path, detail::Outcomes { access, ..Default::default() }).await
}

fn back(view: &LauncherView) -> String {
    boxes::back(view, "access")
}

pub(super) async fn save(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let (users, groups) = (typed_names(typed.get("users")), typed_names(typed.get("groups")));
    let invited = Invited { users: &users, groups: &groups };
    let done = match typed.get("open_to").parse::<OpenTo>() {
        Ok(to) => web.service.set_opening(&visitor.who, &view.launcher.app_name, to, invited).await,
        Err(unknown) => Err(Error::invalid(unknown.to_string()).about(Of::OpenTo)),
    };
    match done {
        Ok(_) => Ok(see_other(&back(&view))),
        Err(error) => boxes::refused(&web, &visitor, &path, error, "access", &typed).await,
    }
}

fn new_grant(typed: &Typed) -> NewGrant {
    let wanted: Option<i64> = typed.get("lifetime").parse().ok();
    let days =
        wanted.filter(|days| LIFETIMES.iter().any(|(known, _)| known == days)).unwrap_or(USUAL_LIFETIME);
    NewGrant {
        name: typed.get("name").trim().to_owned(),
        expires_at: (days > 0).then(|| Timestamp::now() + SignedDuration::from_hours(24 * days)),
    }
}

pub(super) async fn create_link(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let made = web.service.create_share_link(&visitor.who, &view.launcher.app_name, new_grant(&typed)).await;
    let fresh = |(link, url): (crate::opening::ShareLink, Secret)| Fresh {
        title: tell!("link-fresh", name = link.grant.name),
        how: say("link-fresh-how"),
        text: url,
    };
    answer(&web, &visitor, &path, made, ("links", &typed), fresh).await
}

/// A number, nothing where nothing was typed.
fn number(typed: &Typed, name: &str, of: Of) -> Result<Option<u32>, Error> {
    match typed.get(name).trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            let text = text.escape_debug().to_string();
            Error::invalid(said!("no-number-of-requests", "`{text}` is no number of requests", text = &text))
                .about(of)
        }),
    }
}

pub(super) async fn create_key(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    let quota = number(&typed, "per_minute", Of::PerMinute)
        .and_then(|per_minute| Ok(KeyQuota { per_minute, at_once: number(&typed, "at_once", Of::AtOnce)? }));
    let made = match quota {
        Ok(quota) => {
            let name = &view.launcher.app_name;
            web.service.create_app_key(&visitor.who, name, new_grant(&typed), quota).await
        }
        Err(refused) => Err(refused),
    };
    let fresh = |(key, text): (crate::opening::AppKey, Secret)| Fresh {
        title: tell!("key-fresh", name = key.grant.name),
        how: say("key-fresh-how"),
        text,
    };
    answer(&web, &visitor, &path, made, ("keys", &typed), fresh).await
}

/// Namespace and slug of the project, the launcher's id, the link's or key's.
type GrantPath = Path<(String, String, String, String)>;

pub(super) async fn revoke_link(
    State(web): State<Web>,
    visitor: Visitor,
    Path((namespace, slug, launcher, id)): GrantPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &(namespace, slug, launcher)).await?;
    let id: ShareLinkId = id.parse().map_err(|_| Failed::NoSuchPage)?;
    let done = web.service.revoke_share_link(&visitor.who, &view.launcher.app_name, id).await;
    removed(done, &back(&view))
}

pub(super) async fn revoke_key(
    State(web): State<Web>,
    visitor: Visitor,
    Path((namespace, slug, launcher, id)): GrantPath,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &(namespace, slug, launcher)).await?;
    let id: AppKeyId = id.parse().map_err(|_| Failed::NoSuchPage)?;
    let done = web.service.revoke_app_key(&visitor.who, &view.launcher.app_name, id).await;
    removed(done, &back(&view))
}

/// The keys by which apps can tell that it was us who said who their visitor is.
pub(super) async fn published_keys(State(web): State<Web>) -> Response {
    let mut response = web.identities.published().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    // The next key is published for much longer than this before it signs.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}
