//! Much of everything: pages stay as small as they are with little.

use super::*;
use crate::model::{Code, CodeRun, EnvironmentSource};
use crate::service::{Identity, NewLauncher};

/// The most bytes that a page of a project may take, however many launchers that has.
const PAGE: usize = 400 * 1024;
/// The most bytes of a log's page, however long the log is.
const LOG_PAGE: usize = 400 * 1024;

#[tokio::test]
async fn a_project_of_a_thousand_launchers_is_shown_in_pages() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (project, _) = platform.with_launcher(&ada, "public").await;
    let who = Identity::User(platform.service.user_by_name(&"ada".parse().unwrap()).await.unwrap());
    let id = project.strip_prefix("/p/ada/").unwrap().parse().unwrap();
    let id = platform.service.project_by_path(&who, &"ada".parse().unwrap(), &id).await.unwrap().id;
    for number in 1..1000 {
        let code = Code {
            repository: format!("https://github.com/ada/core-{number}"),
            revision: None,
            context_dir: None,
            builder: Default::default(),
            as_image: false,
        };
        let new = NewLauncher {
            project_id: id,
            name: format!("Core {number}"),
            description: None,
            source: EnvironmentSource::Code { code, run: CodeRun::default() },
            variables: Vec::new(),
            resource_class_id: None,
            network: Default::default(),
        };
        platform.service.create_launcher(&who, new).await.unwrap();
    }
    let first = ada.get(&platform, &project).await;
    first.is(StatusCode::OK).shows("<span class=\"count\">1000</span>").shows("href=\"?page=2\"");
    assert!(first.text.len() < PAGE, "{} bytes", first.text.len());
    let last = ada.get(&platform, &format!("{project}?page=20")).await;
    last.is(StatusCode::OK).hides("href=\"?page=21\"");
}

#[tokio::test]
async fn the_page_of_a_log_of_a_million_lines_is_that_of_its_end() {
    let platform = Platform::new().await;
    let ada = platform.browser_of("ada").await;
    let (_, launcher) = platform.with_launcher(&ada, "private").await;
    let replica = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let dir = platform.bench.dir.path().join(format!("apps/explorer/replicas/{replica}"));
    std::fs::create_dir_all(&dir).unwrap();
    let mut text = String::with_capacity(48 << 20);
    for line in 0..1_000_000 {
        text.push_str("2026-05-04T10:00:02Z INFO line ");
        text.push_str(&line.to_string());
        text.push('\n');
    }
    std::fs::write(dir.join("log"), text).unwrap();
    let page = ada.get(&platform, &format!("{launcher}/logs")).await;
    page.is(StatusCode::OK).shows("line 999999<").hides("line 500000<");
    assert!(page.text.len() < LOG_PAGE, "{} bytes", page.text.len());
    let found = ada.get(&platform, &format!("{launcher}/logs?find=line%20999")).await;
    found.is(StatusCode::OK).shows("line 999999<").shows("lines.");
    assert!(found.text.len() < LOG_PAGE, "{} bytes", found.text.len());
}
