//! How an app scales and what it may reach, as forms below its launcher's settings; and what cannot be undone.

use std::time::Duration;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use marmot_text::{filters, say, tell};

use super::Web;
use super::detail::own_path;
use super::forms::Typed;
use super::launchers::{LauncherPath, edit_page, find_launcher, must_change};
use super::respond::{Failed, see_other};
use super::session::Visitor;
use super::view::Field;
use super::words;
use crate::config::duration;
use crate::model::Network;
use crate::scaling::{Preset, Scaling};
use crate::service::{Error, Field as Of, LauncherPatch, LauncherView, ScalingView};

/// What of a launcher is set apart from its recipe: in force at once, without another revision.
#[derive(Debug, Template)]
#[template(path = "launcher_more.html")]
pub(super) struct MoreSettings {
    path: String,
    scaling: ScalingForm,
    network: NetworkForm,
    /// Which form has just been taken.
    saved: String,
    on: bool,
}

/// What somebody typed about scaling.
#[derive(Debug, Clone)]
pub(super) struct ScalingForm {
    pub(super) presets: Vec<PresetChoice>,
    pub(super) usual: Vec<SettingField>,
    pub(super) advanced: Vec<SettingField>,
    /// When it is kept awake, a schedule a line.
    pub(super) keep_warm: Field,
    /// `on`, `off`, or nothing for the server's own.
    pub(super) foresight: String,
    /// What is wrong with no field in particular.
    pub(super) problem: Option<String>,
    /// Something is set among the advanced ones, or wrong there.
    pub(super) advanced_open: bool,
}

#[derive(Debug, Clone)]
pub(super) struct PresetChoice {
    pub(super) value: &'static str,
    pub(super) label: &'static str,
    pub(super) help: &'static str,
    pub(super) icon: &'static str,
    pub(super) chosen: bool,
}

/// A number or a duration.
#[derive(Debug, Clone)]
pub(super) struct SettingField {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) help: &'static str,
    /// What is in force without it.
    pub(super) usual: String,
    pub(super) field: Field,
}

/// What somebody typed about what may be reached.
#[derive(Debug)]
struct NetworkForm {
    /// `internet`, `none` or `allow-list`.
    outbound: &'static str,
    allow: Field,
}

/// Name, label and help of a setting, and whether it is a duration.
type Setting = (&'static str, &'static str, &'static str, bool);

const USUAL: [Setting; 4] = [
    ("min_replicas", "scaling-min", "scaling-min-help", false),
    ("max_replicas", "scaling-max", "scaling-max-help", false),
    ("idle_after", "scaling-idle", "scaling-idle-help", true),
    ("stop_after", "scaling-stop", "scaling-stop-help", true),
];

const ADVANCED: [Setting; 15] = [
    ("sessions_per_replica", "scaling-sessions", "scaling-sessions-help", false),
    ("requests_per_replica", "scaling-requests", "scaling-requests-help", false),
    ("limit", "scaling-limit", "scaling-limit-help", false),
    ("utilization", "scaling-utilization", "scaling-utilization-help", false),
    ("initial_replicas", "scaling-initial", "scaling-initial-help", false),
    ("stable_window", "scaling-stable", "scaling-stable-help", true),
    ("panic_window", "scaling-panic", "scaling-panic-help", true),
    ("panic_threshold", "scaling-threshold", "scaling-threshold-help", false),
    ("max_session", "scaling-wait", "scaling-wait-help", true),
    ("linger", "scaling-linger", "scaling-linger-help", true),
    ("deepen_after", "scaling-deepen", "scaling-deepen-help", true),
    ("start_timeout", "scaling-start", "scaling-start-help", true),
    ("max_up_rate", "scaling-up", "scaling-up-help", false),
    ("max_down_rate", "scaling-down", "scaling-down-help", false),
    ("grace", "scaling-grace", "scaling-grace-help", true),
];

const PRESETS: [(Preset, &str, &str, &str, &str); 3] = [
    (Preset::Single, "single", "preset-single", "preset-single-help", "app"),
    (Preset::Dashboard, "dashboard", "preset-dashboard", "preset-dashboard-help", "people"),
    (Preset::Endpoint, "endpoint", "preset-endpoint", "preset-endpoint-help", "code"),
];

impl ScalingForm {
    fn of(view: &ScalingView) -> Self {
        let given = serde_json::to_value(&view.given).unwrap_or_default();
        let form = Self::with(view, view.given.preset.unwrap_or_default(), |(name, _, _, is_duration)| {
            let value = given[*name].as_u64();
            value.map(|value| if *is_duration { short(value) } else { value.to_string() }).unwrap_or_default()
        });
        let foresight = match view.given.foresight {
            Some(true) => "on",
            Some(false) => "off",
            None => "",
        };
        Self {
            keep_warm: Field::of(view.given.keep_warm.join("\n")),
            foresight: foresight.to_owned(),
            ..form
        }
    }

    fn with(view: &ScalingView, preset: Preset, value: impl Fn(&Setting) -> String) -> Self {
        let policy = &view.policy;
        let usual = |name: &str| match name {
            "min_replicas" => policy.min_replicas.to_string(),
            "max_replicas" => policy.max_replicas.to_string(),
            "idle_after" => short(policy.idle_after.as_secs()),
            "stop_after" => short(policy.stop_after.as_secs()),
            "limit" => policy.limit.to_string(),
            "utilization" => policy.utilisation.to_string(),
            "initial_replicas" => policy.initial_replicas.to_string(),
            "stable_window" => short(policy.stable_window.as_secs()),
            "panic_window" => short(policy.panic_window.as_secs()),
            "panic_threshold" => policy.panic_threshold.to_string(),
            "max_session" => short(policy.max_session.as_secs()),
            "linger" => short(policy.linger.as_secs()),
            "deepen_after" => short(policy.deepen_after.as_secs()),
            "start_timeout" => short(policy.start_timeout.as_secs()),
            "max_up_rate" => policy.max_up_rate.to_string(),
            "max_down_rate" => policy.max_down_rate.to_string(),
            "grace" => short(policy.zero_grace.as_secs()),
            "sessions_per_replica" if policy.concurrency.counts_sessions() => {
                policy.concurrency.count().to_string()
            }
            "requests_per_replica" if !policy.concurrency.counts_sessions() => {
                policy.concurrency.count().to_string()
            }
            _ => String::new(),
        };
        let field = |setting: &Setting| SettingField {
            name: setting.0,
            label: say(setting.1),
            help: say(setting.2),
            usual: usual(setting.0),
            field: Field::of(value(setting)),
        };
        let choice = |(known, value, label, help, icon): (Preset, _, _, _, _)| PresetChoice {
            value,
            label: say(label),
            help: say(help),
            icon,
            chosen: known == preset,
        };
        let advanced: Vec<SettingField> = ADVANCED.iter().map(field).collect();
        Self {
            presets: PRESETS.map(choice).into(),
            usual: USUAL.iter().map(field).collect(),
            advanced_open: advanced.iter().any(|setting| !setting.field.value.is_empty()),
            advanced,
            keep_warm: Field::default(),
            foresight: String::new(),
            problem: None,
        }
    }

    /// What was typed, as it was typed.
    pub(super) fn typed(view: &ScalingView, typed: &Typed) -> Self {
        let preset = PRESETS.iter().find(|(_, value, ..)| *value == typed.get("preset"));
        let preset = preset.map_or(Preset::Single, |(preset, ..)| *preset);
        let form = Self::with(view, preset, |(name, ..)| typed.get(name).trim().to_owned());
        Self {
            keep_warm: Field::of(typed.get("keep_warm").trim()),
            foresight: typed.get("foresight").to_owned(),
            ..form
        }
    }

    /// What it says; or the form again, with what cannot be read beside its field.
    pub(super) fn read(mut self) -> Result<(Self, Scaling), Box<Self>> {
        let mut given = serde_json::Map::new();
        let mut unreadable = false;
        let settings = USUAL.iter().chain(&ADVANCED);
        for ((name, _, _, is_duration), setting) in
            settings.zip(self.usual.iter_mut().chain(&mut self.advanced))
        {
            let text = &setting.field.value;
            if text.is_empty() {
                continue;
            }
            let value = match is_duration {
                true => duration(text)
                    .filter(|time| time.subsec_nanos() == 0)
                    .map(|time: Duration| time.as_secs()),
                false => text.parse::<u32>().ok().map(u64::from),
            };
            match value {
                Some(value) => {
                    given.insert((*name).to_owned(), value.into());
                }
                None => {
                    setting.field.wrong = Some(match is_duration {
                        true => tell!("scaling-no-duration", text = text),
                        false => tell!("scaling-no-number", text = text),
                    });
                    unreadable = true;
                }
            }
        }
        if unreadable {
            self.open_where_wrong();
            return Err(Box::new(self));
        }
        let mut scaling: Scaling = serde_json::from_value(given.into()).unwrap_or_default();
        let preset = self.presets.iter().position(|preset| preset.chosen).map(|place| PRESETS[place].0);
        scaling.preset = preset.filter(|preset| *preset != Preset::Single);
        let schedules = self.keep_warm.value.lines().map(str::trim).filter(|line| !line.is_empty());
        scaling.keep_warm = schedules.map(str::to_owned).collect();
        scaling.foresight = match self.foresight.as_str() {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        };
        Ok((self, scaling))
    }

    /// Whether this is one of its fields.
    pub(super) fn has(&self, name: &str) -> bool {
        name == "keep_warm" || self.usual.iter().chain(&self.advanced).any(|setting| setting.name == name)
    }

    /// What is wrong with the field of this name, and where that stands.
    pub(super) fn wrong_of(self, name: &str) -> (&'static str, Field) {
        if name == "keep_warm" {
            return ("keep_warm", self.keep_warm);
        }
        let mut all = self.usual.into_iter().chain(self.advanced);
        let found = all.find(|setting| setting.name == name);
        found.map_or_else(|| ("preset", Field::default()), |setting| (setting.name, setting.field))
    }

    /// Whether *Advanced* is to be open, where the usual settings stand above it.
    fn advanced_open(&self) -> bool {
        self.advanced_open || self.keep_warm.wrong.is_some() || !self.keep_warm.value.is_empty()
    }

    /// Whether *Advanced* is to be open, where it holds the usual settings, too.
    pub(super) fn is_open(&self) -> bool {
        self.advanced_open() || self.usual.iter().any(|setting| !setting.field.value.is_empty())
    }

    fn open_where_wrong(&mut self) {
        self.advanced_open |= self.advanced.iter().any(|setting| setting.field.wrong.is_some());
    }

    /// The form again, with what the service refused beside the field that it is about.
    pub(super) fn refused(mut self, error: Error) -> Result<Self, Failed> {
        let Error::Invalid { .. } = &error else { return Err(error.into()) };
        let name = match error.field() {
            Some(Of::Scaling(name)) => name,
            _ => "",
        };
        let wrong = Some(words::refusal(&error));
        let all = self.usual.iter_mut().chain(&mut self.advanced);
        match all.into_iter().find(|setting| setting.name == name) {
            Some(setting) => setting.field.wrong = wrong,
            None if name == "keep_warm" => self.keep_warm.wrong = wrong,
            None => self.problem = wrong,
        }
        self.open_where_wrong();
        Ok(self)
    }
}

/// Whole seconds as the configuration has them: `90s`, `2m`, `12h`.
fn short(seconds: u64) -> String {
    match seconds {
        s if s > 0 && s.is_multiple_of(3600) => format!("{}h", s / 3600),
        s if s > 0 && s.is_multiple_of(60) => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

impl NetworkForm {
    fn of(network: &Network) -> Self {
        let (outbound, listed) = match network {
            Network::Internet => ("internet", String::new()),
            Network::None => ("none", String::new()),
            Network::AllowList(listed) => ("allow-list", listed.join("\n")),
        };
        Self { outbound, allow: Field::of(listed) }
    }
}

impl MoreSettings {
    /// As things are. `saved`: which form has just been taken.
    pub(super) async fn of(
        web: &Web,
        visitor: &Visitor,
        view: &LauncherView,
        saved: String,
    ) -> Result<Self, Failed> {
        let scaling = web.service.scaling(&visitor.who, &view.launcher.app_name).await?;
        Ok(Self {
            path: own_path(view),
            scaling: ScalingForm::of(&scaling),
            network: NetworkForm::of(&view.launcher.network),
            saved,
            on: view.app.is_some(),
        })
    }
}

async fn again(
    web: &Web,
    visitor: &Visitor,
    view: LauncherView,
    more: MoreSettings,
) -> Result<Response, Failed> {
    Ok((StatusCode::UNPROCESSABLE_ENTITY, edit_page(web, visitor, &view, more).await?).into_response())
}

pub(super) async fn save(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    must_change(&visitor, view.can.change)?;
    let name = &view.launcher.app_name;
    let now = web.service.scaling(&visitor.who, name).await?;
    let form = match ScalingForm::typed(&now, &typed).read() {
        Ok((form, scaling)) => match web.service.set_scaling(&visitor.who, name, scaling).await {
            Ok(_) => return Ok(see_other(&format!("{}/edit?saved=scaling#scaling", own_path(&view)))),
            Err(error) => form.refused(error)?,
        },
        Err(form) => *form,
    };
    let more = MoreSettings::of(&web, &visitor, &view, String::new()).await?;
    again(&web, &visitor, view, MoreSettings { scaling: form, ..more }).await
}

pub(super) async fn save_network(
    State(web): State<Web>,
    visitor: Visitor,
    Path(path): LauncherPath,
    typed: Typed,
) -> Result<Response, Failed> {
    let view = find_launcher(&web, &visitor.who, &path).await?;
    must_change(&visitor, view.can.change)?;
    let text = typed.get("allow").trim();
    let listed = || text.split([',', '\n']).map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
    let (outbound, network) = match typed.get("outbound") {
        "none" => ("none", Network::None),
        "allow-list" => ("allow-list", Network::AllowList(listed().collect())),
        _ => ("internet", Network::Internet),
    };
    let patch = LauncherPatch { network: Some(network), ..LauncherPatch::default() };
    match web.service.update_launcher(&visitor.who, view.launcher.id, patch).await {
        Ok(_) => Ok(see_other(&format!("{}/edit?saved=network#network", own_path(&view)))),
        Err(error @ Error::Invalid { .. }) => {
            let wrong = Some(words::refusal(&error));
            let network = NetworkForm { outbound, allow: Field { value: text.to_owned(), wrong } };
            let more = MoreSettings::of(&web, &visitor, &view, String::new()).await?;
            again(&web, &visitor, view, MoreSettings { network, ..more }).await
        }
        Err(other) => Err(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_as_they_are_typed() {
        assert_eq!([0, 90, 120, 7200].map(short), ["0s", "90s", "2m", "2h"]);
        assert_eq!(duration(&short(90)), Some(Duration::from_secs(90)));
    }
}
