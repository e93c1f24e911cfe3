//! The REST API: translates between the wire and the service, and nothing else.
//!
//! Wire types are their own structs, next to the handlers that use them: what is on the wire changes only on purpose
//! (`openapi.json` is compared in a test).

mod apps;
mod audit;
mod builds;
mod credentials;
mod error;
mod extract;
mod groups;
mod health;
mod hooks;
mod json;
mod launchers;
mod limits;
mod metrics;
mod once;
mod opening;
mod people;
mod plans;
mod previews;
mod projects;
mod scaling;
mod secrets;
mod usage;
mod user;

use axum::Router;
use axum::response::IntoResponse as _;
use axum::routing::get;
use http::header::{self, HeaderValue};
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::{ContentBuilder, Ref};
use utoipa::openapi::{RefOr, Schema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::service::Service;

/// Where the API is.
const BASE: &str = "/api/data";

#[derive(OpenApi)]
#[openapi(
    info(title = "Marmot", description = "Hosts the web apps of research projects: ready on demand, free while asleep."),
    servers((url = "/api/data")),
    components(schemas(error::ErrorBody)),
)]
struct Document;

/// Everything below `/api/data`, and `/healthz`, `/readyz`, `/metrics`. Has no fallback of its own outside of
/// `/api/data`, so that it can be merged with the pages.
pub fn router(service: Service) -> Router {
    let (data, document) = data();
    let document = serde_json::to_string(&document).unwrap_or_default();
    let spec =
        move || async move { ([(header::CONTENT_TYPE, "application/json")], document).into_response() };
    let data = data
        .route("/spec.json", get(spec))
        .method_not_allowed_fallback(extract::wrong_method)
        .fallback(extract::nothing_here)
        .layer(axum::middleware::from_fn_with_state(service.clone(), once::once))
        .layer(axum::middleware::map_response(harden));
    Router::new()
        .nest(BASE, data)
        .merge(health::router())
        .layer(axum::middleware::from_fn(extract::accompanied))
        .with_state(service)
}

/// The API's own description, as it is served at `spec.json`.
pub fn openapi() -> utoipa::openapi::OpenApi {
    data().1
}

fn data() -> (Router<Service>, utoipa::openapi::OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(projects::get, projects::update, projects::delete))
        .routes(routes!(projects::by_path))
        .routes(routes!(projects::members, projects::change_members))
        .routes(routes!(limits::get, limits::update))
        .routes(routes!(launchers::of_project))
        .routes(routes!(launchers::list, launchers::create))
        .routes(routes!(launchers::get, launchers::update, launchers::delete))
        .routes(routes!(previews::list, previews::make))
        .routes(routes!(previews::prolong, previews::end))
        .routes(routes!(previews::following, previews::follow))
        .routes(routes!(builds::list, builds::start))
        .routes(routes!(builds::get, builds::update))
        .routes(routes!(builds::logs))
        .routes(routes!(plans::look))
        .routes(routes!(apps::list, apps::activate))
        .routes(routes!(apps::get, apps::update, apps::shut_down))
        .routes(routes!(apps::logs))
        .routes(routes!(apps::events))
        .routes(routes!(apps::revisions))
        .routes(routes!(apps::restart))
        .routes(routes!(apps::roll_back))
        .routes(routes!(scaling::get, scaling::set))
        .routes(routes!(usage::get))
        .routes(routes!(secrets::of_project))
        .routes(routes!(secrets::set_of_project, secrets::remove_of_project))
        .routes(routes!(secrets::of_launcher))
        .routes(routes!(secrets::set_of_launcher, secrets::remove_of_launcher))
        .routes(routes!(credentials::list, credentials::set))
        .routes(routes!(credentials::remove))
        .routes(routes!(hooks::get, hooks::make, hooks::remove))
        .routes(routes!(hooks::hear))
        .routes(routes!(groups::list, groups::create))
        .routes(routes!(groups::get, groups::update, groups::delete))
        .routes(routes!(groups::members, groups::change_members))
        .routes(routes!(opening::get, opening::set))
        .routes(routes!(opening::links, opening::create_link))
        .routes(routes!(opening::revoke_link))
        .routes(routes!(opening::keys, opening::create_key))
        .routes(routes!(opening::revoke_key))
        .routes(routes!(user::get))
        .routes(routes!(user::tokens, user::create_token))
        .routes(routes!(user::revoke_token))
        .routes(routes!(user::resource_classes))
        .routes(routes!(user::sessions))
        .routes(routes!(user::revoke_session))
        .routes(routes!(people::list, people::create))
        .routes(routes!(people::get, people::update, people::delete))
        .routes(routes!(people::password_link))
        .routes(routes!(audit::of_project))
        .routes(routes!(audit::export_of_project))
        .routes(routes!(audit::all))
        .routes(routes!(audit::export))
        .split_for_parts();
    let refusal = ResponseBuilder::new()
        .description("A refusal.")
        .content(
            "application/json",
            ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build(),
        )
        .build();
    for (path, item) in &mut document.paths.paths {
        if let Some(post) = &mut item.post {
            once::describe(path, post);
        }
        let operations: [&mut Option<Operation>; 5] =
            [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), RefOr::T(refusal.clone()));
            let parameters = operation.parameters.iter_mut().flatten();
            parameters.for_each(|parameter| say_what_it_looks_like(path, parameter));
        }
    }
    (router, document)
}

/// Ids and names in paths: what they look like follows from what they are called.
fn say_what_it_looks_like(path: &str, parameter: &mut RefOr<Parameter>) {
    let RefOr::T(parameter) = parameter else { return };
    let pattern = match parameter.name.as_str() {
        name if name.ends_with("_id") => "^[0-7][0-9A-HJKMNP-TV-Z]{25}$",
        // Variables have names, too, of another kind.
        "name" if path.contains("/secrets/") => "^[A-Za-z_][A-Za-z0-9_]{0,254}$",
        "name" | "slug" | "namespace" => "^[a-z](-?[a-z0-9]){0,38}$",
        _ => return,
    };
    if let (ParameterIn::Path, Some(RefOr::T(Schema::Object(schema)))) =
        (&parameter.parameter_in, &mut parameter.schema)
    {
        schema.pattern = Some(pattern.to_owned());
    }
}

/// Answers are for the one who asked, are what they say they are, and are no page.
async fn harden(mut response: axum::response::Response) -> axum::response::Response {
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    response
}

#[cfg(test)]
mod tests;
