//! The pages: rendered here, live by event streams, working without a script.
//!
//! A handler translates: it reads what somebody asked for, calls the service, and draws the answer. `present` turns
//! the service's answers into plain values, `pages` and `view` are those values, `templates/` draws them.

mod access;
mod account_pages;
mod admin;
mod again;
mod agent;
mod ansi;
mod apps;
mod assets;
mod audit;
mod boxes;
mod charts;
mod checks;
mod command;
mod credentials;
mod detail;
mod forms;
mod gallery;
mod groups;
mod guard;
mod home;
mod language;
mod launchers;
mod limits;
mod links;
mod live;
mod log_filter;
mod logs;
mod next;
mod opening;
mod pages;
mod people;
mod pictures;
mod plans;
mod present;
mod previews;
mod projects;
mod providers;
mod respond;
mod revision_diff;
mod scaling;
mod secrets;
mod session;
mod settings;
mod share;
mod start;
mod tabs;
mod traffic;
mod usage;
mod view;
mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use marmot_core::name::Namespace;
use marmot_gateway::{Identities, Tickets};
use tokio_util::sync::CancellationToken;

use crate::cookie::SessionCookie;
use crate::model::Secret;
use crate::service::Service;
use guard::Rules;

/// What the pages need besides the service.
#[derive(Debug, Clone)]
pub struct Options {
    /// Lets whoever has its code in, without a password.
    pub demo: Option<Demo>,
    /// Carry a sign-in over to the hosts of private apps. The same that the gateway has.
    pub tickets: Arc<Tickets>,
    /// Sign who visitors of apps are. The same that the gateway has.
    pub identities: Arc<Identities>,
    /// Ends the event streams, which otherwise last as long as somebody looks.
    pub stop: CancellationToken,
}

/// The sign-in link of a demo.
#[derive(Debug, Clone)]
pub struct Demo {
    /// The last part of the link.
    pub code: Secret,
    /// Who is signed in by it.
    pub username: Namespace,
}

/// What every handler has.
#[derive(Debug, Clone)]
struct Web {
    service: Service,
    rules: Arc<Rules>,
    cookie: SessionCookie,
    /// Keeps what somebody needs to come back from an identity provider with.
    attempts: SessionCookie,
    demo: Option<Arc<Demo>>,
    tickets: Arc<Tickets>,
    identities: Arc<Identities>,
    stop: CancellationToken,
}

/// The pages of the platform, for requests to its own host.
///
/// Signing in counts wrong passwords by the client's address, which the gateway puts among a request's extensions as
/// [`Peer`](marmot_gateway::Peer).
pub fn router(service: Service, options: Options) -> Router {
    let given = service.options();
    let origin = url::Url::parse(&given.public_url)
        .map(|url| url.origin().ascii_serialization())
        .unwrap_or_else(|_| given.public_url.clone());
    let apps = format!("{}://*.{}", given.apps_scheme, given.apps_authority);
    let web = Web {
        rules: Arc::new(Rules::new(origin, &apps)),
        cookie: SessionCookie::at(&given.public_url),
        attempts: SessionCookie::for_attempts_at(&given.public_url),
        demo: options.demo.map(Arc::new),
        tickets: options.tickets,
        identities: options.identities,
        stop: options.stop,
        service,
    };
    let launcher = Router::new()
        .route("/", get(detail::show))
        .route("/events", get(detail::events))
        .route("/revisions/{revision}/roll-back", get(detail::ask_roll_back).post(detail::roll_back))
        .route("/access", post(opening::save))
        .route("/traffic", post(traffic::save))
        .route("/links", post(opening::create_link))
        .route("/links/{link}/revoke", post(opening::revoke_link))
        .route("/keys", post(opening::create_key))
        .route("/keys/{key}/revoke", post(opening::revoke_key))
        .route("/secrets", post(secrets::set))
        .route("/secrets/{secret}/remove", post(secrets::remove))
        .route("/previews", post(previews::make))
        .route("/previews/{preview}/prolong", post(previews::prolong))
        .route("/previews/{preview}/end", post(previews::end))
        .route("/following", post(previews::follow))
        .route("/webhook", post(secrets::make_hook))
        .route("/webhook/remove", post(secrets::remove_hook))
        .route("/edit", get(launchers::edit).post(launchers::save))
        .route("/plan", post(plans::look_again))
        .route("/delete", get(launchers::ask_delete).post(launchers::delete))
        .route("/activate", post(apps::activate))
        .route("/shut-down", get(apps::ask_shut_down).post(apps::shut_down))
        .route("/wake", post(apps::wake))
        .route("/rest", post(apps::put_to_rest))
        .route("/restart", post(apps::restart))
        .route("/build", post(apps::build_again))
        .route("/scaling", post(scaling::save))
        .route("/network", post(scaling::save_network))
        .route("/share", get(share::show))
        .route("/usage", get(usage::show))
        .route("/logs", get(logs::app))
        .route("/logs/events", get(logs::app_events))
        .route("/logs/download", get(logs::download));
    let project = Router::new()
        .route("/", get(projects::show))
        .route("/events", get(projects::events))
        .route("/settings", get(projects::edit).post(projects::save))
        .route("/limits", post(limits::save))
        .route("/delete", get(projects::ask_delete).post(projects::delete))
        .route("/launchers/new", get(launchers::new).post(launchers::create))
        .route("/launchers/new/plan", post(plans::look))
        .route("/launchers/new/check", post(checks::check))
        .nest("/launchers/{launcher}", launcher)
        .route("/builds/{build}", get(logs::build))
        .route("/builds/{build}/events", get(logs::build_events))
        .route("/builds/{build}/cancel", post(logs::cancel_build))
        .route("/apps/{launcher}", get(access::share_link))
        .route("/credentials", get(credentials::show).post(credentials::set))
        .route("/credentials/{credential}/remove", post(credentials::remove))
        .route("/audit", get(audit::of_project));
    Router::new()
        .route("/", get(home::show))
        .route("/events", get(home::events))
        .route("/sign-in", get(session::ask).post(session::sign_in))
        .route("/sign-out", post(session::sign_out))
        .route("/language", post(language::choose))
        .route("/demo/{code}", get(session::demo))
        .route("/projects/new", get(projects::new).post(projects::create))
        .nest("/p/{namespace}/{slug}", project)
        .route("/access/{app}", get(access::enter))
        .route("/.well-known/jwks.json", get(opening::published_keys))
        .route("/settings", get(settings::show))
        .route("/settings/tokens", post(settings::create_token))
        .route("/settings/tokens/{token}/revoke", post(settings::revoke_token))
        .route("/settings/sessions/{session}/revoke", post(settings::revoke_session))
        .route("/settings/password", post(settings::change_password))
        .route("/settings/ways/{provider}/add", post(settings::link))
        .route("/settings/ways/remove", post(settings::unlink))
        .route("/sign-in/with/{provider}", get(providers::begin))
        .route("/sign-in/with/{provider}/back", get(providers::back))
        .route("/set-up/{code}", get(links::ask_set_up).post(links::set_up))
        .route("/password/{code}", get(links::ask_password).post(links::set_password))
        .route("/admin", get(admin::show))
        .route("/admin/apps/{app}/rest", post(admin::put_to_rest))
        .route("/admin/apps/{app}/shut-down", get(admin::ask_shut_down).post(admin::shut_down))
        .route("/groups", get(groups::list).post(groups::create))
        .route("/groups/{group}", get(groups::show).post(groups::save))
        .route("/groups/{group}/members", post(groups::change_member))
        .route("/groups/{group}/delete", get(groups::ask_delete).post(groups::delete))
        .route("/admin/users", get(people::show).post(people::add))
        .route("/admin/users/{user}/delete", get(people::ask_delete).post(people::delete))
        .route("/admin/users/{user}/{what}", post(people::act))
        .route("/admin/audit", get(audit::all))
        .route("/pictures/{launcher}", get(pictures::show))
        .route("/design", get(home::design))
        .route("/assets/{file}", get(assets::serve))
        .fallback(respond::no_such_page)
        .method_not_allowed_fallback(respond::no_such_page)
        .layer(from_fn_with_state(web.clone(), guard::guard))
        .with_state(web)
}
