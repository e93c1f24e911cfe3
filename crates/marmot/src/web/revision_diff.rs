//! What differs between two revisions of an app, in words. Values of variables are never told.

use std::collections::BTreeSet;

use marmot_text::{say, tell};
use serde_json::Value;

use crate::model::{Program, Revision};

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) what: String,
    /// Empty where there was nothing.
    pub(super) before: String,
    /// Empty where there is nothing any more.
    pub(super) after: String,
}

/// What differs in `new`, compared with `old`. `runs` tells a program and `class` a resource class in words; `changed`
/// names the variables that have another value.
pub(super) fn differences(
    old: &Revision,
    new: &Revision,
    runs: impl Fn(&Program) -> String,
    class: impl Fn(i64) -> String,
    changed: &[String],
) -> Vec<Difference> {
    let mut all = vec![(say("differs-runs"), runs(&old.program), runs(&new.program))];
    let ways = |program: &Program| -> [(&'static str, String); 4] {
        let words =
            |words: &Option<Vec<String>>| words.as_deref().map(super::command::text).unwrap_or_default();
        let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
        match program {
            Program::Built { run, .. } => [
                (say("differs-command"), words(&run.command)),
                (say("differs-arguments"), words(&run.args)),
                (say("differs-port"), number(run.port.map(u32::from))),
                (say("differs-user"), String::new()),
            ],
            Program::Image { image, .. } => [
                (say("differs-command"), words(&image.command)),
                (say("differs-arguments"), words(&image.args)),
                (say("differs-port"), number(image.port.map(u32::from))),
                (say("differs-user"), number(image.uid)),
            ],
        }
    };
    for ((what, before), (_, after)) in ways(&old.program).into_iter().zip(ways(&new.program)) {
        all.push((what, before, after));
    }
    all.push((say("differs-resources"), class(old.resource_class_id), class(new.resource_class_id)));
    let mut told: Vec<Difference> = all
        .into_iter()
        .filter(|(_, before, after)| before != after)
        .map(|(what, before, after)| Difference { what: what.to_owned(), before, after })
        .collect();
    told.extend(scaling(old, new));
    let names = |revision: &Revision| -> BTreeSet<String> {
        revision.variables.iter().map(|variable| variable.name.clone()).collect()
    };
    let (before, after) = (names(old), names(new));
    let variable = |name: &String, before: &str, after: &str| Difference {
        what: tell!("differs-variable", name = name),
        before: before.to_owned(),
        after: after.to_owned(),
    };
    told.extend(before.difference(&after).map(|name| variable(name, say("differs-set"), "")));
    told.extend(after.difference(&before).map(|name| variable(name, "", say("differs-set"))));
    told.extend(changed.iter().map(|name| variable(name, "", say("differs-another"))));
    told
}

/// How the two scale, by the names under which that is said. Nothing where one of them is from before that was noted.
fn scaling(old: &Revision, new: &Revision) -> Vec<Difference> {
    let said = |revision: &Revision| match serde_json::to_value(revision.scaling.as_ref()?) {
        Ok(Value::Object(said)) => Some(said),
        _ => None,
    };
    let Some((old, new)) = said(old).zip(said(new)) else { return Vec::new() };
    let in_words = |value: Option<&Value>| match value {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        Some(other) => other.to_string(),
    };
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let names = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    let difference = |name: &String| Difference {
        what: name.replace('_', " "),
        before: in_words(old.get(name)),
        after: in_words(new.get(name)),
    };
    names.map(difference).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CodeRun, EnvVariable};
    use crate::scaling::{Preset, Scaling};

    #[test]
    fn what_differs_is_told_without_values_of_variables() {
        let revision = |build: u128, port, class, names: &[&str]| Revision {
            id: build.into(),
            launcher_id: 1.into(),
            number: 1,
            program: Program::Built { build: build.into(), run: CodeRun { port, ..CodeRun::default() } },
            variables: names
                .iter()
                .map(|name| EnvVariable { name: (*name).to_owned(), value: "hidden".to_owned() })
                .collect(),
            resource_class_id: class,
            scaling: Some(Scaling {
                idle_after: port.map(|port| u64::from(port) * 2),
                preset: Some(Preset::Endpoint),
                ..Scaling::default()
            }),
            runs_as: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            ready_at: None,
            failed: None,
        };
        let (old, new) = (revision(1, None, 1, &["A", "B"]), revision(2, Some(80), 2, &["B", "C"]));
        let runs = |program: &Program| match program.build() {
            Some(build) if build == 1.into() => "build 1".to_owned(),
            _ => "build 2".to_owned(),
        };
        let told = differences(&old, &new, runs, |class| format!("class {class}"), &["B".to_owned()]);
        let told: Vec<_> =
            told.iter().map(|one| format!("{}: {} > {}", one.what, one.before, one.after)).collect();
        assert_eq!(
            told,
            [
                "runs: build 1 > build 2",
                "port:  > 80",
                "resources: class 1 > class 2",
                "idle after:  > 160",
                "variable A: set > ",
                "variable C:  > set",
                "variable B:  > another value",
            ]
        );
        assert!(differences(&old, &old, runs, |class| class.to_string(), &[]).is_empty());
    }
}
