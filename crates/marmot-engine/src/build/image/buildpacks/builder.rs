//! What a builder image says of itself, and what an image says that its buildpacks made. Pure.
//!
//! A builder is described by labels, as the specifications of Cloud Native Buildpacks have them.

use serde_json::Value;

use crate::container::image::ImageFacts;

/// The versions of the Platform API that are spoken here, the best one last: those by which an image can be left as files.
const SPOKEN: [&str; 4] = ["0.12", "0.13", "0.14", "0.15"];
/// What starts programs in images that were made by buildpacks.
pub(super) const LAUNCHER: &str = "/cnb/lifecycle/launcher";
/// Where the programs of such an image are, by their types.
const PROCESSES: &str = "/cnb/process/";

/// Why a builder image cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::build) enum NoBuilder {
    #[error("it is no builder image: {0}")]
    Lacks(&'static str),
    #[error(
        "its lifecycle speaks version {0} of the Platform API, and one of {spoken} is needed: it is too old or too new",
        spoken = SPOKEN.join(", ")
    )]
    Versions(String),
    #[error("it builds as root, which is not offered: its CNB_USER_ID is {0}")]
    Root(String),
    #[error("it has extensions, which change the images that are built with; they are not offered")]
    Extensions,
    #[error(
        "it does not say which image apps run on: an operator has to name one with `buildpacks_run_image`"
    )]
    NoRunImage,
}

/// A builder image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Builder {
    /// The version of the Platform API that is spoken with its lifecycle.
    pub(super) api: &'static str,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The image that apps run on.
    pub(super) run_image: String,
}

impl Builder {
    /// Reads what the image says. `run_image`: what the operator says that apps run on.
    pub(super) fn read(image: &ImageFacts, run_image: Option<&str>) -> Result<Self, NoBuilder> {
        let json =
            |label: &str| image.labels.get(label).and_then(|text| serde_json::from_str::<Value>(text).ok());
        let about = json("io.buildpacks.builder.metadata")
            .ok_or(NoBuilder::Lacks("it has no label `io.buildpacks.builder.metadata`"))?;
        let apis = json("io.buildpacks.lifecycle.apis").unwrap_or_else(|| about["lifecycle"]["apis"].clone());
        let extensions = json("io.buildpacks.buildpack.order-extensions");
        if extensions.is_some_and(|order| order.as_array().is_some_and(|order| !order.is_empty())) {
            return Err(NoBuilder::Extensions);
        }
        let id = |name: &str| image.env.get(name).and_then(|text| text.parse::<u32>().ok());
        let (Some(uid), Some(gid)) = (id("CNB_USER_ID"), id("CNB_GROUP_ID")) else {
            return Err(NoBuilder::Lacks(
                "it does not say as whom it builds, with CNB_USER_ID and CNB_GROUP_ID",
            ));
        };
        if uid == 0 {
            return Err(NoBuilder::Root(uid.to_string()));
        }
        let named = [&about["stack"]["runImage"]["image"], &about["images"][0]["image"]];
        let named = named.into_iter().find_map(Value::as_str).filter(|name| !name.is_empty());
        let run_image = run_image.or(named).ok_or(NoBuilder::NoRunImage)?.to_owned();
        Ok(Self { api: spoken(&apis["platform"])?, uid, gid, run_image })
    }
}

/// The best version that both speak.
fn spoken(platform: &Value) -> Result<&'static str, NoBuilder> {
    let theirs: Vec<&str> = ["supported", "deprecated"]
        .iter()
        .flat_map(|list| platform[*list].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    let best = SPOKEN.into_iter().rev().find(|version| theirs.contains(version));
    best.ok_or_else(|| match theirs[..] {
        [] => NoBuilder::Lacks("it does not say which versions of the Platform API its lifecycle speaks"),
        _ => NoBuilder::Versions(theirs.join(", ")),
    })
}

/// Why the image cannot be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::build) enum NoProcess {
    #[error(
        "the buildpacks do not say how the app is started: add a file named Procfile with a line `web: …`, or give the launcher \
         a command"
    )]
    None,
    #[error(
        "the buildpacks do not say which of these is the app: {0}. Name it `web` in a file named Procfile, or give the launcher \
         a command"
    )]
    Several(String),
}

/// What is started by itself in an image that was made by buildpacks, as a person would type it.
pub(super) fn started(image: &ImageFacts) -> Result<String, NoProcess> {
    let label = image.labels.get("io.buildpacks.build.metadata");
    let about = label.and_then(|text| serde_json::from_str::<Value>(text).ok()).unwrap_or_default();
    let processes: Vec<&Value> = about["processes"].as_array().into_iter().flatten().collect();
    let kind = |process: &Value| process["type"].as_str().unwrap_or_default().to_owned();
    let first = image.command.first().map(String::as_str).unwrap_or_default();
    if let Some(chosen) = first.strip_prefix(PROCESSES) {
        let typed = processes.iter().find(|process| kind(process) == chosen).map(|process| typed(process));
        return Ok(typed.filter(|typed| !typed.is_empty()).unwrap_or_else(|| image.command.join(" ")));
    }
    // Whoever put another entry point there knows what it starts.
    if first != LAUNCHER && !first.is_empty() {
        return Ok(image.command.join(" "));
    }
    let kinds: Vec<String> = processes.iter().map(|process| kind(process)).collect();
    Err(if kinds.is_empty() { NoProcess::None } else { NoProcess::Several(kinds.join(", ")) })
}

/// The command of a process, which is one text or several words, and its arguments.
fn typed(process: &Value) -> String {
    let words = |value: &Value| -> Vec<String> {
        match value {
            Value::String(text) => vec![text.clone()],
            other => {
                other.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
            }
        }
    };
    [words(&process["command"]), words(&process["args"])].concat().join(" ")
}

/// Why the lifecycle ended without an image, by the status that its specification gives each reason.
pub(super) fn failed(status: i32) -> String {
    match status {
        11 => "the builder's lifecycle does not speak the version of the Platform API that it says it does".to_owned(),
        12 => "a buildpack of the builder needs a lifecycle of another version".to_owned(),
        20 => "none of the builder's buildpacks knows what to do with this code: add what one of them looks for (the log \
               says what was tried), or have it built in another way"
            .to_owned(),
        21 => "none of the builder's buildpacks knows what to do with this code, and one failed while it looked (see the log)"
            .to_owned(),
        51 => "a buildpack failed while it built the app (see the log)".to_owned(),
        30..=39 => "the builder's lifecycle could not look at the image that apps run on (see the log)".to_owned(),
        60..=69 => "the builder's lifecycle could not write the image that it made (see the log)".to_owned(),
        other => format!("the builder's lifecycle ended with status {other} (see the log)"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn builder(about: &Value, apis: Option<&Value>, user: &str) -> ImageFacts {
        let mut labels = BTreeMap::from([("io.buildpacks.builder.metadata".to_owned(), about.to_string())]);
        labels.extend(apis.map(|apis| ("io.buildpacks.lifecycle.apis".to_owned(), apis.to_string())));
        let env = [("CNB_USER_ID", user), ("CNB_GROUP_ID", "1000")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        ImageFacts { labels, env, ..ImageFacts::default() }
    }

    fn apis(supported: &[&str]) -> Value {
        json!({"platform": {"deprecated": ["0.3"], "supported": supported}})
    }

    #[test]
    fn the_best_version_that_both_speak_is_taken_wherever_it_is_said() {
        let about = json!({"stack": {"runImage": {"image": "example.org/run:1"}}});
        let found =
            Builder::read(&builder(&about, Some(&apis(&["0.7", "0.12", "0.13"])), "1001"), None).unwrap();
        assert_eq!((found.api, found.uid, found.gid), ("0.13", 1001, 1000));
        assert_eq!(found.run_image, "example.org/run:1");
        let about =
            json!({"lifecycle": {"apis": apis(&["0.14", "9.9"])}, "images": [{"image": "example.org/new"}]});
        let found = Builder::read(&builder(&about, None, "1001"), None).unwrap();
        assert_eq!((found.api, found.run_image.as_str()), ("0.14", "example.org/new"));
        let found = Builder::read(&builder(&about, None, "1001"), Some("example.org/mirror")).unwrap();
        assert_eq!(found.run_image, "example.org/mirror");
    }

    #[test]
    fn what_is_no_builder_for_us_is_told_in_words() {
        let about = json!({"stack": {"runImage": {"image": "run"}}});
        let why = |image: &ImageFacts| Builder::read(image, None).unwrap_err().to_string();
        assert!(why(&ImageFacts::default()).contains("no builder image"));
        let old = why(&builder(&about, Some(&apis(&["0.10"])), "1001"));
        assert!(old.contains("0.10") && old.contains("0.12"), "{old}");
        assert!(why(&builder(&about, Some(&apis(&["0.12"])), "0")).contains("as root"));
        assert!(why(&builder(&about, Some(&apis(&["0.12"])), "cnb")).contains("CNB_USER_ID"));
        assert!(why(&builder(&json!({}), Some(&apis(&["0.12"])), "1001")).contains("buildpacks_run_image"));
        let mut extended = builder(&about, Some(&apis(&["0.12"])), "1001");
        let order = "[{\"group\":[{\"id\":\"x\"}]}]".to_owned();
        extended.labels.insert("io.buildpacks.buildpack.order-extensions".to_owned(), order);
        assert!(why(&extended).contains("extensions"));
    }

    #[test]
    fn what_the_image_starts_is_told_as_the_buildpacks_say_it() {
        let made = |entry: &str, processes: Value| ImageFacts {
            command: vec![entry.to_owned()],
            labels: [(
                "io.buildpacks.build.metadata".to_owned(),
                json!({"processes": processes}).to_string(),
            )]
            .into(),
            ..ImageFacts::default()
        };
        let web = json!([{"type": "web", "command": ["python"], "args": ["app.py"], "direct": true}]);
        assert_eq!(started(&made("/cnb/process/web", web.clone())).as_deref(), Ok("python app.py"));
        let older = json!([{"type": "web", "command": "python app.py", "direct": false}]);
        assert_eq!(started(&made("/cnb/process/web", older)).as_deref(), Ok("python app.py"));
        assert_eq!(started(&made("/cnb/process/other", web.clone())).as_deref(), Ok("/cnb/process/other"));
        assert_eq!(started(&made("/run", web)).as_deref(), Ok("/run"));
        assert_eq!(started(&made(LAUNCHER, json!([]))), Err(NoProcess::None));
        let two = json!([{"type": "worker"}, {"type": "task"}]);
        assert_eq!(started(&made(LAUNCHER, two)), Err(NoProcess::Several("worker, task".to_owned())));
    }
}
