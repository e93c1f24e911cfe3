//! Groups, and the limits of projects, as people see and change them.

use super::*;
use crate::model::ProjectLimits;

#[tokio::test]
async fn a_group_is_made_filled_changed_and_deleted_without_a_script() {
    let platform = Platform::new().await;
    let (ada, bob) = (platform.browser_of("ada").await, platform.browser_of("bob").await);
    ada.get(&platform, "/").await.shows("href=\"/groups\"");
    ada.get(&platform, "/groups").await.is(StatusCode::OK).shows("You are a member of none yet.");
    let form = |path: &'static str| [("name", "Ice lab"), ("path", path), ("description", "Cores & dust")];
    let wrong = ada.post(&platform, "/groups", &form("Ice Lab")).await;
    wrong
        .is(StatusCode::UNPROCESSABLE_ENTITY)
        .shows("id=\"path-wrong\"")
        .shows("Ice Lab")
        .shows("Cores &#38; dust");
    let made = ada.post(&platform, "/groups", &form("ice-lab")).await;
    assert_eq!(made.is(StatusCode::SEE_OTHER).location.as_deref(), Some("/groups/ice-lab"));
    let taken = bob.post(&platform, "/groups", &form("ice-lab")).await;
    taken.is(StatusCode::UNPROCESSABLE_ENTITY).shows("“ice-lab” is taken");
    ada.get(&platform, "/groups").await.shows("href=\"/groups/ice-lab\"");
    bob.get(&platform, "/groups").await.hides("ice-lab\"");
    // Only members are told who the others are.
    bob.get(&platform, "/groups/ice-lab").await.is(StatusCode::FORBIDDEN).hides("Change the role of");
    assert!(Browser::default().get(&platform, "/groups").await.location.unwrap().starts_with("/sign-in"));

    let members = "/groups/ice-lab/members";
    let role = |name: &'static str, role: &'static str| [("username", name), ("role", role)];
    let unknown = ada.post(&platform, members, &role("nobody", "viewer")).await;
    unknown.is(StatusCode::UNPROCESSABLE_ENTITY).shows("There is no user “nobody”").shows("value=\"nobody\"");
    ada.post(&platform, members, &role("bob", "editor")).await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, "/groups/ice-lab").await.shows("Change the role of bob");
    bob.get(&platform, "/groups/ice-lab").await.is(StatusCode::OK).shows("editor").hides("Add member");
    bob.post(&platform, members, &role("bob", "owner")).await.is(StatusCode::FORBIDDEN);
    bob.get(&platform, "/groups/ice-lab/delete").await.is(StatusCode::FORBIDDEN);
    let alone = ada.post(&platform, members, &role("ada", "")).await;
    alone.is(StatusCode::CONFLICT).shows("group needs an owner");
    let form = [("name", "Cores"), ("namespace", "ice-lab")];
    let project = bob.post(&platform, "/projects/new", &form).await;
    assert_eq!(project.location.as_deref(), Some("/p/ice-lab/cores"), "{}", project.text);
    ada.get(&platform, "/groups/ice-lab").await.shows("href=\"/p/ice-lab/cores\"");

    let about = [("name", "Snow lab"), ("description", "")];
    ada.post(&platform, "/groups/ice-lab", &about).await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, "/groups/ice-lab").await.shows("<h1>Snow lab</h1>").hides("dust");
    bob.post(&platform, "/groups/ice-lab", &about).await.is(StatusCode::FORBIDDEN);
    ada.get(&platform, "/groups/ice-lab/delete").await.shows("Delete the group “Snow lab”?");
    let full = ada.post(&platform, "/groups/ice-lab/delete", &[]).await;
    full.is(StatusCode::CONFLICT).shows("rojects of the group “ice-lab” are left (1)");
    ada.post(&platform, "/p/ice-lab/cores/delete", &[]).await.is(StatusCode::SEE_OTHER);
    ada.post(&platform, members, &role("bob", "")).await.is(StatusCode::SEE_OTHER);
    bob.get(&platform, "/groups/ice-lab").await.is(StatusCode::FORBIDDEN);
    ada.post(&platform, "/groups/ice-lab/delete", &[]).await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, "/groups/ice-lab").await.is(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_projects_settings_show_its_limits_and_administrators_say_them() {
    let limits = ProjectLimits { memory_bytes: Some(4 << 30), ..ProjectLimits::default() };
    let platform = Platform::with(HOME, |options| options.limits = limits).await;
    let ada = platform.browser_of("ada").await;
    let (project, _) = platform.with_launcher(&ada, "private").await;
    let settings = format!("{project}/settings");
    let page = ada.get(&platform, &settings).await;
    page.shows("Memory of apps that are awake").shows("<td>0 MiB</td><td>4.0 GiB</td>").hides("Save limits");
    let to = format!("{project}/limits");
    let form =
        |memory: &'static str, builds: &'static str| [("memory_bytes", memory), ("builds_per_hour", builds)];
    ada.post(&platform, &to, &form("8G", "5")).await.is(StatusCode::FORBIDDEN);
    let id = platform.service.user_by_name(&"bob".parse().unwrap()).await.unwrap().id;
    let patch = crate::service::UserPatch { is_admin: Some(true), ..Default::default() };
    platform.service.change_person_by_operator(id, patch).await.unwrap();
    let bob = platform.browser_of("bob").await;
    bob.get(&platform, &settings).await.shows("Save limits");
    let wrong = bob.post(&platform, &to, &form("much", "5")).await;
    wrong.is(StatusCode::UNPROCESSABLE_ENTITY).shows("id=\"memory_bytes-wrong\"").shows("value=\"much\"");
    bob.post(&platform, &to, &form("1536M", "5")).await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, &settings).await.shows("<td>0 MiB</td><td>1.5 GiB</td>").shows("<td>0</td><td>5</td>");
    bob.get(&platform, &settings).await.shows("value=\"1536M\"");
    // What is left empty is as the settings say.
    bob.post(&platform, &to, &[]).await.is(StatusCode::SEE_OTHER);
    ada.get(&platform, &settings).await.shows("<td>4.0 GiB</td>");
}
