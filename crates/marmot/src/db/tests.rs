//! The database opened well and badly, on SQLite always and on PostgreSQL where one can be started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::Timestamp;
use tempfile::TempDir;

use super::opening::Place;
use super::projects::{Filter, Viewer};
use super::*;
use crate::history::Counts;
use crate::model::{
    Access, App, AppEvent, Build, BuildResult, BuildStatus, BuilderVariant, Code, CodeRun, EnvVariable,
    Environment, EnvironmentSource, Following, Group, Launcher, LauncherKind, Page, PreviewOf, Program,
    Project, ProjectLimits, Revision, Role, Secret, Session, Sighting, Token, User, Visibility, WayIn,
};
use crate::opening::{AppKey, Grant, Guests, KeyQuota, OpenTo, Opening, ShareLink};

async fn refusal(dir: &Path) -> String {
    Db::open(None, dir).await.unwrap_err().to_string()
}

#[tokio::test]
async fn what_is_no_database_of_ours_is_refused_in_one_line_and_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("marmot.db");
    let half_header = b"SQLite format 3\0rest is missing".to_vec();
    for (content, says) in
        [(b"a text file that is long enough".to_vec(), "is not a SQLite database"), (half_header, "damaged")]
    {
        fs::write(&file, &content).unwrap();
        let refused = refusal(dir.path()).await;
        assert!(refused.contains(says) && !refused.contains('\n'), "{refused}");
        assert_eq!(fs::read(&file).unwrap(), content);
    }
}

#[tokio::test]
async fn a_database_with_a_damaged_page_is_refused() {
    let dir = TempDir::new().unwrap();
    Db::open(None, dir.path()).await.unwrap().close().await;
    let file = dir.path().join("marmot.db");
    let mut bytes = fs::read(&file).unwrap();
    for byte in &mut bytes[4096 + 10..4096 * 6] {
        *byte = 0xa5;
    }
    fs::write(&file, &bytes).unwrap();
    let refused = refusal(dir.path()).await;
    assert!(refused.contains("is damaged"), "{refused}");
    assert!(fs::read(&file).unwrap() == bytes, "it was changed");
}

#[tokio::test]
async fn a_database_of_another_program_or_a_later_version_is_refused() {
    let dir = TempDir::new().unwrap();
    let db = Db::open(None, dir.path()).await.unwrap();
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (999, 'later', 1, x'00', 0)";
    sqlx::query(later).execute(&mut *db.read().await.unwrap()).await.unwrap();
    db.close().await;
    let refused = refusal(dir.path()).await;
    assert!(refused.contains("only a later version knows"), "{refused}");

    let other = TempDir::new().unwrap();
    let db = Db::open(None, other.path()).await.unwrap();
    let mut connection = db.read().await.unwrap();
    for sql in ["DROP TABLE _sqlx_migrations", "CREATE TABLE recipes (id TEXT)"] {
        sqlx::query(sql).execute(&mut *connection).await.unwrap();
    }
    drop(connection);
    db.close().await;
    assert!(refusal(other.path()).await.contains("the tables of another program"));
}

#[tokio::test]
async fn a_database_that_names_no_known_kind_is_refused() {
    let dir = TempDir::new().unwrap();
    let refused = Db::open(Some("mysql://u:hunter2@db/x"), dir.path()).await.unwrap_err().to_string();
    assert!(refused.contains("sqlite:") && !refused.contains("hunter2"), "{refused}");
}

#[test]
fn a_data_directory_belongs_to_one_server() {
    let dir = TempDir::new().unwrap();
    let first = lock::take(dir.path()).unwrap();
    let refused = lock::take(dir.path()).unwrap_err().to_string();
    assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    drop(first);
    let _again = lock::take(dir.path()).unwrap();
}

#[tokio::test]
async fn sqlite_keeps_everything_also_below_a_path_with_odd_characters() {
    let dir = TempDir::new().unwrap();
    let odd = dir.path().join("a b?c#d%20ä");
    keeps_everything(&Db::open(None, &odd).await.unwrap()).await;
    assert!(odd.join("marmot.db").is_file());
}

#[tokio::test]
async fn postgresql_keeps_everything() {
    let Some(postgres) = Postgres::start() else {
        eprintln!("skipped: no PostgreSQL could be started");
        return;
    };
    let db = Db::open(Some(&postgres.url()), postgres.dir.path()).await.unwrap();
    keeps_everything(&db).await;
    let again = Db::open(Some(&postgres.url()), postgres.dir.path()).await.unwrap();
    again.ping().await.unwrap();
    again.close().await;
    db.close().await;
}

/// Every query once, with what it should give back.
async fn keeps_everything(db: &Db) {
    let now = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
    let later = now + std::time::Duration::from_secs(60);
    let ada = user(1, "ada", now);
    let mut db = db.write().await.unwrap();
    let db = &mut *db;
    people(db, &ada, now, later).await;
    grouped(db, &ada, now).await;
    let (project, launcher) = recipes(db, &ada, now, later).await;
    doors(db, &launcher, now, later).await;
    running(db, &project, &launcher, now, later).await;
    assert!(matches!(users::insert(db, &User { id: 9.into(), ..ada }, None).await, Err(DbError::Exists(_))));
}

fn user(id: u128, name: &str, created_at: Timestamp) -> User {
    User {
        id: id.into(),
        username: name.parse().unwrap(),
        is_admin: false,
        email: None,
        first_name: None,
        last_name: Some("Lovelace".to_owned()),
        created_at,
        disabled_at: None,
        language: None,
    }
}

async fn people(db: &mut Connection, ada: &User, now: Timestamp, later: Timestamp) {
    users::insert(db, ada, Some(&Secret::new("hash"))).await.unwrap();
    assert_eq!(users::get(db, ada.id).await.unwrap().as_ref(), Some(ada));
    users::set_password(db, ada.id, &Secret::new("other")).await.unwrap();
    let (found, hash) = users::by_name(db, &ada.username).await.unwrap().unwrap();
    assert!(found == *ada && hash == Some(Secret::new("other")));
    assert_eq!(users::all(db).await.unwrap().len(), 1);
    ways_in(db, ada, now, later).await;
    let token = Token {
        id: 2.into(),
        name: "t".into(),
        created_at: now,
        expires_at: Some(later),
        last_used_at: None,
        access: Access::Read,
        limit: None,
    };
    tokens::insert(db, &token, ada.id, "h").await.unwrap();
    tokens::touch(db, token.id, now).await.unwrap();
    assert!(tokens::by_hash(db, "h", later).await.unwrap().is_none());
    assert_eq!(tokens::by_hash(db, "h", now).await.unwrap().unwrap().1, ada.id);
    assert_eq!(tokens::of_user(db, ada.id).await.unwrap()[0].last_used_at, Some(now));
    assert!(tokens::delete(db, ada.id, token.id).await.unwrap());
}

async fn ways_in(db: &mut Connection, ada: &User, now: Timestamp, later: Timestamp) {
    let session = Session {
        id: 5.into(),
        created_at: now,
        last_seen_at: now,
        expires_at: later,
        provider: Some("uni".to_owned()),
        address: "192.0.2.1".to_owned(),
        agent: "Firefox".to_owned(),
    };
    sessions::insert(db, "s", ada.id, &session).await.unwrap();
    sessions::touch(db, "s", now).await.unwrap();
    assert_eq!(sessions::find(db, "s", now).await.unwrap(), Some((ada.clone(), session.clone())));
    assert!(sessions::find(db, "s", later).await.unwrap().is_none());
    assert_eq!(sessions::of_user(db, ada.id, now).await.unwrap(), std::slice::from_ref(&session));
    users::set_disabled(db, ada.id, Some(now)).await.unwrap();
    assert!(sessions::find(db, "s", now).await.unwrap().is_none());
    users::set_disabled(db, ada.id, None).await.unwrap();
    sessions::delete(db, "s").await.unwrap();
    assert!(!sessions::revoke(db, ada.id, session.id).await.unwrap());
    let way = WayIn {
        issuer: "https://id.example.org".to_owned(),
        subject: "1".to_owned(),
        label: "ada@example.org".to_owned(),
        created_at: now,
        last_used_at: now,
    };
    sessions::insert_identity(db, ada.id, &way).await.unwrap();
    sessions::touch_identity(db, &way).await.unwrap();
    assert_eq!(sessions::by_identity(db, &way.issuer, "1").await.unwrap(), Some(ada.id));
    assert_eq!(sessions::identities(db, ada.id).await.unwrap(), std::slice::from_ref(&way));
    assert!(sessions::delete_identity(db, ada.id, &way.issuer, "1").await.unwrap());
    for (hash, user) in [("a", None), ("b", None), ("c", Some(ada.id)), ("d", Some(ada.id))] {
        sessions::insert_link(db, hash, user, now, later).await.unwrap();
    }
    let mut links = Vec::new();
    for hash in ["a", "b", "c", "d"] {
        links.push(sessions::link(db, hash, now).await.unwrap());
    }
    assert_eq!(links, [None, Some(None), None, Some(Some(ada.id))]);
    assert!(sessions::use_link(db, "b").await.unwrap() && !sessions::use_link(db, "b").await.unwrap());
    assert!(users::any(db).await.unwrap() && users::administrators(db).await.unwrap() == 0);
}

async fn recipes(db: &mut Connection, ada: &User, now: Timestamp, later: Timestamp) -> (Project, Launcher) {
    let mut project = Project {
        id: 3.into(),
        namespace: ada.username.clone(),
        slug: "iris".parse().unwrap(),
        name: "Iris 🌸".to_owned(),
        description: None,
        visibility: Visibility::Private,
        repositories: vec!["https://example.org/x".to_owned()],
        created_by: ada.id,
        created_at: now,
        updated_at: now,
        version: 1,
    };
    projects::insert(db, &project).await.unwrap();
    project.version = 2;
    assert!(projects::update(db, &project).await.unwrap());
    assert!(!projects::update(db, &project).await.unwrap(), "somebody was faster");
    projects::set_role(db, project.id, ada.id, Role::Viewer).await.unwrap();
    projects::set_role(db, project.id, ada.id, Role::Owner).await.unwrap();
    assert_eq!(projects::role(db, project.id, ada.id).await.unwrap(), Some(Role::Owner));
    assert_eq!(projects::members(db, project.id).await.unwrap().len(), 1);
    assert_eq!(projects::all_members(db).await.unwrap()[&project.id].len(), 1);
    assert_eq!(
        projects::by_path(db, &project.namespace, &project.slug).await.unwrap().as_ref(),
        Some(&project)
    );
    let filter = Filter { namespace: Some(ada.username.clone()), member: Some(ada.id) };
    for (viewer, count) in [(Viewer::Anybody, 0), (Viewer::Person(ada.id), 1), (Viewer::Administrator, 1)] {
        let (found, total) = projects::list(db, viewer, &filter, Page::FIRST).await.unwrap();
        assert_eq!((found.len(), total), (count, count as u64), "{viewer:?}");
    }
    let code = Code {
        repository: "https://example.org/x".to_owned(),
        revision: None,
        context_dir: None,
        builder: BuilderVariant::Auto,
        as_image: false,
    };
    let source = EnvironmentSource::Code { code, run: CodeRun::default() };
    let mut launcher = Launcher {
        id: 4.into(),
        project_id: project.id,
        name: "Iris".to_owned(),
        description: None,
        kind: LauncherKind::App,
        app_name: "iris".parse().unwrap(),
        environment: Environment { id: 5.into(), source },
        variables: vec![EnvVariable { name: "A".to_owned(), value: "ä\n".to_owned() }],
        resource_class_id: 1,
        network: Default::default(),
        preview: None,
        created_by: ada.id,
        created_at: now,
        updated_at: now,
    };
    launchers::insert(db, &launcher).await.unwrap();
    launcher.updated_at = later;
    launchers::update(db, &launcher).await.unwrap();
    assert_eq!(launchers::get(db, launcher.id).await.unwrap().as_ref(), Some(&launcher));
    assert_eq!(launchers::by_app_name(db, &launcher.app_name).await.unwrap().as_ref(), Some(&launcher));
    assert!(launchers::by_environment(db, launcher.environment.id).await.unwrap().is_some());
    assert!(launchers::app_name_taken(db, &launcher.app_name).await.unwrap());
    assert_eq!(launchers::list(db, Viewer::Administrator, Some(project.id), Page::FIRST).await.unwrap().1, 1);
    let preview = PreviewOf { of: launcher.id, branch: "dev".to_owned(), ends_at: later };
    let preview = Launcher {
        id: 40.into(),
        app_name: "iris-dev".parse().unwrap(),
        environment: Environment { id: 41.into(), ..launcher.environment.clone() },
        preview: Some(preview),
        ..launcher.clone()
    };
    let (of, branch) = (launcher.id, "dev");
    for _ in 0..2 {
        launchers::insert(db, &preview).await.unwrap();
        assert_eq!(launchers::previews(db, of).await.unwrap(), std::slice::from_ref(&preview));
        assert_eq!(launchers::all(db).await.unwrap().len(), 2);
        assert_eq!(launchers::of_project(db, project.id).await.unwrap().len(), 2);
        let (listed, total) =
            launchers::list(db, Viewer::Administrator, Some(project.id), Page::FIRST).await.unwrap();
        assert_eq!((listed.len(), total), (1, 1), "previews are in no list of launchers");
        assert_eq!(launchers::name_of_preview(db, of, branch).await.unwrap(), None, "it has it itself");
        assert_eq!(launchers::next_end(db).await.unwrap(), Some(later));
        assert!(launchers::ended_previews(db, now).await.unwrap().is_empty());
        assert_eq!(launchers::ended_previews(db, later).await.unwrap().len(), 1);
        launchers::delete(db, preview.id).await.unwrap();
        assert_eq!(launchers::name_of_preview(db, of, branch).await.unwrap(), Some(preview.app_name.clone()));
        assert_eq!(launchers::next_end(db).await.unwrap(), None);
    }
    let said = Following { poll_minutes: Some(5), ..Following::default() };
    assert_eq!(following::get(db, of).await.unwrap(), Following::default());
    for said in [&Following::default(), &said] {
        following::set(db, of, said).await.unwrap();
    }
    assert_eq!(following::get(db, of).await.unwrap(), said);
    assert_eq!(following::all(db).await.unwrap()[&of], said);
    assert_eq!(following::sighting(db, of).await.unwrap(), Sighting::default());
    let mut seen = Sighting { next_at: Some(later), ..Sighting::default() };
    following::see(db, of, &seen).await.unwrap();
    seen = Sighting { tip: Some("c0ffee".to_owned()), looked_at: Some(now), failures: 3, ..seen };
    following::see(db, of, &seen).await.unwrap();
    assert_eq!(following::sighting(db, of).await.unwrap(), seen);
    assert_eq!(following::next_due(db).await.unwrap(), None, "its app is off");
    assert!(following::due(db, later, 9).await.unwrap().is_empty());
    // Its previews go with a launcher.
    launchers::insert(db, &preview).await.unwrap();
    (project, launcher)
}

async fn doors(db: &mut Connection, launcher: &Launcher, now: Timestamp, later: Timestamp) {
    assert_eq!(opening::get(db, launcher.id).await.unwrap(), Opening::default());
    let guests = Guests { users: [launcher.created_by].into(), groups: [30.into()].into() };
    for to in [OpenTo::Link, OpenTo::Named] {
        let said = Opening { to, guests: guests.clone() };
        opening::set(db, launcher.id, &said).await.unwrap();
        assert_eq!(opening::get(db, launcher.id).await.unwrap(), said);
        assert_eq!(opening::all(db).await.unwrap()[&launcher.id], said);
    }
    let by = Some(launcher.created_by);
    let mut link = ShareLink { grant: grant(20, now, None) };
    opening::insert_link(db, &link, Place { launcher: launcher.id, by, hash: "l" }).await.unwrap();
    let quota = KeyQuota { per_minute: Some(60), at_once: None };
    let key = AppKey { grant: grant(21, now, Some(later)), quota };
    opening::insert_key(db, &key, Place { launcher: launcher.id, by, hash: "k" }).await.unwrap();
    opening::note_use(db, &link.grant.id.to_string(), 2, later).await.unwrap();
    opening::note_use(db, &link.grant.id.to_string(), 1, later).await.unwrap();
    (link.grant.uses, link.grant.last_used_at) = (3, Some(later));
    assert_eq!(opening::links(db, launcher.id).await.unwrap(), std::slice::from_ref(&link));
    assert_eq!(opening::keys(db, launcher.id).await.unwrap(), std::slice::from_ref(&key));
    let links = opening::all_links(db).await.unwrap();
    assert_eq!((links[0].launcher, links[0].hash.as_str()), (launcher.id, "l"));
    assert_eq!(opening::all_keys(db, now).await.unwrap()[0].what, key);
    assert!(opening::all_keys(db, later).await.unwrap().is_empty(), "it has expired");
    assert!(opening::delete_link(db, launcher.id, link.grant.id).await.unwrap());
    assert!(!opening::delete_link(db, launcher.id, link.grant.id).await.unwrap());
    assert!(!opening::delete_key(db, 99.into(), key.grant.id).await.unwrap(), "it is another app's");
}

fn grant<Id: From<u128>>(id: u128, created_at: Timestamp, expires_at: Option<Timestamp>) -> Grant<Id> {
    Grant {
        id: id.into(),
        name: "n".to_owned(),
        created_by: Some("ada".parse().unwrap()),
        created_at,
        expires_at,
        last_used_at: None,
        uses: 0,
    }
}

async fn running(
    db: &mut Connection,
    project: &Project,
    launcher: &Launcher,
    now: Timestamp,
    later: Timestamp,
) {
    let EnvironmentSource::Code { code, run } = launcher.environment.source.clone() else { unreachable!() };
    let build = Build {
        id: 6.into(),
        environment_id: launcher.environment.id,
        code,
        image: None,
        command_given: false,
        status: BuildStatus::InProgress,
        created_at: now,
        ended_at: None,
        result: BuildResult::default(),
    };
    builds::insert(db, &build).await.unwrap();
    assert_eq!(builds::with_status(db, BuildStatus::InProgress).await.unwrap(), std::slice::from_ref(&build));
    let result = BuildResult { commit: Some("c0ffee".to_owned()), ..BuildResult::default() };
    assert!(builds::end(db, build.id, BuildStatus::Succeeded, &result, later).await.unwrap());
    assert!(!builds::end(db, build.id, BuildStatus::Failed, &result, later).await.unwrap(), "it ends once");
    assert_eq!(
        builds::list(db, launcher.environment.id, Page::FIRST).await.unwrap().0[0].ended_at,
        Some(later)
    );
    assert_eq!(builds::get(db, build.id).await.unwrap().unwrap().result, result);
    let newest =
        builds::newest_with_status(db, launcher.environment.id, BuildStatus::Succeeded, 1).await.unwrap();
    assert_eq!(newest.len(), 1);
    assert_eq!(builds::kept(db, 5).await.unwrap(), [build.id]);
    assert_eq!(builds::kept_of(db, 5).await.unwrap(), [(build.id, project.id)]);
    limited(db, project, build.id, now, later).await;
    let revision = Revision {
        id: 7.into(),
        launcher_id: launcher.id,
        number: 0,
        program: Program::Built { build: build.id, run },
        variables: launcher.variables.clone(),
        resource_class_id: 1,
        scaling: Some(Default::default()),
        runs_as: Some(6.into()),
        created_at: now,
        ready_at: None,
        failed: None,
    };
    assert_eq!(apps::insert_revision(db, &revision).await.unwrap(), 1);
    assert_eq!(apps::insert_revision(db, &Revision { id: 8.into(), ..revision.clone() }).await.unwrap(), 2);
    let app = App {
        launcher_id: launcher.id,
        name: launcher.app_name.clone(),
        activated_by: launcher.created_by,
        activated_at: now,
        wanted: None,
        awaits: Some(build.id),
        retry: 0,
    };
    apps::insert(db, &app).await.unwrap();
    apps::set_wanted(db, launcher.id, Some(revision.id), None).await.unwrap();
    apps::retry(db, launcher.id).await.unwrap();
    let found = apps::by_name(db, &app.name).await.unwrap().unwrap();
    assert_eq!((found.wanted, found.awaits, found.retry), (Some(revision.id), None, 1));
    assert_eq!(apps::list(db, Viewer::Administrator, Some(project.id), Page::FIRST).await.unwrap().1, 1);
    assert_eq!(
        (apps::all(db).await.unwrap().len(), apps::revisions(db, launcher.id, 9).await.unwrap().len()),
        (1, 2)
    );
    assert!(apps::revision_ready(db, revision.id, later).await.unwrap());
    assert!(!apps::revision_ready(db, revision.id, later).await.unwrap());
    assert_eq!(apps::revision(db, revision.id).await.unwrap().unwrap().ready_at, Some(later));
    for number in 0..205 {
        let event = AppEvent { at: now, kind: "k".to_owned(), message: number.to_string().into(), by: None };
        events::insert(db, &format!("{number:026}"), launcher.id, &event).await.unwrap();
    }
    let (found, total) = events::list(db, launcher.id, Page { page: 1, per_page: 1 }).await.unwrap();
    assert_eq!((found[0].message.english(), total), ("204", 200), "the oldest are forgotten");
    let newest = events::of_kind(db, "k", 1).await.unwrap();
    assert_eq!((newest[0].0.as_str(), newest[0].1.message.english()), (launcher.app_name.as_str(), "204"));
    found_and_used(db, launcher, now, later).await;
    launchers::delete(db, launcher.id).await.unwrap();
    projects::delete(db, project.id).await.unwrap();
    assert!(launchers::app_name_taken(db, &launcher.app_name).await.unwrap(), "it stays taken for good");
    assert!(apps::all(db).await.unwrap().is_empty() && builds::get(db, build.id).await.unwrap().is_none());
}

async fn grouped(db: &mut Connection, ada: &User, now: Timestamp) {
    let path = "ice-lab".parse().unwrap();
    let (name, created_by) = ("Ice lab".to_owned(), ada.id);
    let group = Group { id: 77.into(), path, name, description: None, created_by, created_at: now };
    groups::insert(db, &group).await.unwrap();
    for role in [Role::Viewer, Role::Owner] {
        groups::set_role(db, group.id, ada.id, role).await.unwrap();
        assert_eq!(groups::members(db, group.id).await.unwrap()[0].role, role);
        assert_eq!(groups::roles_of(db, ada.id).await.unwrap(), [(group.path.clone(), role)]);
    }
    groups::remove_member(db, group.id, ada.id).await.unwrap();
    assert!(groups::members(db, group.id).await.unwrap().is_empty());
    groups::delete(db, &group).await.unwrap();
}

async fn limited(
    db: &mut Connection,
    project: &Project,
    build: marmot_core::id::BuildId,
    now: Timestamp,
    later: Timestamp,
) {
    let nothing = ProjectLimits::default();
    assert_eq!(limits::get(db, project.id).await.unwrap(), nothing);
    for said in [nothing, ProjectLimits { builds_per_hour: Some(7), ..nothing }] {
        limits::set(db, project.id, &said).await.unwrap();
        assert_eq!(limits::get(db, project.id).await.unwrap(), said);
        assert_eq!(limits::all(db).await.unwrap(), [(project.id, said)].into());
    }
    assert_eq!(limits::builds_since(db, project.id, now).await.unwrap(), (0, None));
    limits::note_build(db, (project.id, build), now, now).await.unwrap();
    assert_eq!(limits::builds_since(db, project.id, now).await.unwrap(), (1, Some(now)));
    assert_eq!(limits::builds_since(db, project.id, later).await.unwrap(), (0, None));
    limits::note_build(db, (project.id, 99.into()), later, later).await.unwrap();
    assert_eq!(
        limits::builds_since(db, project.id, now).await.unwrap(),
        (1, Some(later)),
        "the first is forgotten"
    );
}

/// Apps are found by words; what they are used for is added up, and forgotten.
async fn found_and_used(db: &mut Connection, launcher: &Launcher, now: Timestamp, later: Timestamp) {
    for (text, count) in [("", 1), (launcher.name.as_str(), 1), ("%", 0), ("_!", 0), ("\0", 0)] {
        let found = apps::find(db, Viewer::Administrator, text, Page::FIRST).await.unwrap();
        assert_eq!((found.0.len(), found.1), (count, count as u64), "{text:?}");
    }
    let counts = Counts { people: 2, awake: 5, ..Counts::default() };
    let slot = (3600, crate::history::floor(now.as_second(), 3600));
    for _ in 0..2 {
        history::add(db, launcher.id, slot, &counts).await.unwrap();
    }
    let sum = Counts { people: 2, awake: 10, ..Counts::default() };
    assert_eq!(history::slots(db, launcher.id, 3600, slot.1).await.unwrap(), [(slot.1, sum)]);
    history::was_on(db, launcher.id, now, later).await.unwrap();
    let on = (now.as_millisecond(), later.as_millisecond());
    assert_eq!(history::times_on(db, launcher.id, on.0).await.unwrap(), [on]);
    history::forget(db, later).await.unwrap();
    assert_eq!(history::times_on(db, launcher.id, on.0).await.unwrap(), [on]);
    history::forget(db, later + std::time::Duration::from_secs(40 * 86_400)).await.unwrap();
    assert!(history::slots(db, launcher.id, 3600, 0).await.unwrap().is_empty());
    assert!(history::times_on(db, launcher.id, 0).await.unwrap().is_empty());
}

/// A PostgreSQL of the test's own, on a socket in a directory of its own; gone with it.
struct Postgres {
    dir: TempDir,
    bin: PathBuf,
    /// PostgreSQL refuses to run as root.
    unprivileged: bool,
}

impl Postgres {
    fn start() -> Option<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
        let bin = versions
            .flatten()
            .map(|version| version.path().join("bin"))
            .find(|bin| bin.join("initdb").is_file())?;
        let dir = TempDir::new().ok()?;
        let unprivileged = rustix::process::geteuid().is_root();
        let postgres = Self { dir, bin, unprivileged };
        if unprivileged {
            let owned = Command::new("chown").arg("nobody").arg(postgres.dir.path()).status().ok()?;
            owned.success().then_some(())?;
        }
        let data = postgres.dir.path().join("data");
        let data = data.to_str()?;
        postgres.run("initdb", &["-D", data, "-A", "trust", "-U", "marmot", "--no-sync"])?;
        let socket = format!("-c listen_addresses='' -c fsync=off -k {}", postgres.dir.path().display());
        let log = format!("{}/log", postgres.dir.path().display());
        postgres.run("pg_ctl", &["-D", data, "-o", &socket, "-l", &log, "-w", "start"])?;
        Some(postgres)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Option<Output> {
        let program = self.bin.join(program);
        let mut command = if self.unprivileged {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--clear-groups", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let output = command.args(arguments).current_dir(self.dir.path()).output().ok()?;
        if !output.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success().then_some(output)
    }

    fn url(&self) -> String {
        let socket = self.dir.path().display().to_string().replace('/', "%2F");
        format!("postgres://marmot@{socket}/postgres")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.dir.path().join("data");
        self.run("pg_ctl", &["-D", data.to_str().unwrap_or_default(), "-m", "immediate", "-w", "stop"]);
    }
}

#[tokio::test]
async fn a_disk_that_is_full_is_told_from_other_failures() {
    let dir = TempDir::new().unwrap();
    let db = Db::open(None, dir.path()).await.unwrap();
    let mut writing = db.write().await.unwrap();
    // No further than it is already.
    sqlx::query("PRAGMA max_page_count = 1").execute(&mut *writing).await.unwrap();
    let more = sqlx::query("CREATE TABLE filler AS SELECT zeroblob(9000000) AS filler");
    let refused = DbError::from(more.execute(&mut *writing).await.unwrap_err());
    assert!(refused.is_disk_full(), "{refused:?}");
    let nonsense = sqlx::query("SELECT nonsense").execute(&mut *writing).await.unwrap_err();
    assert!(!DbError::from(nonsense).is_disk_full());
}
