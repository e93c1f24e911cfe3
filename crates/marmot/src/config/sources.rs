//! Where settings come from: flags, environment, file. Each value remembers its place, for the error that names it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::ConfigError;
use crate::model::{Gpus, ResourceClass};
use crate::oidc::ProviderConfig;

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag(String),
    /// In the environment.
    Variable(String),
    /// In the file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Nowhere: it is the default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "from the flag `{flag}`"),
            Self::Variable(name) => write!(f, "from the variable `{name}`"),
            Self::File { path, line } => write!(f, "from {}:{line}", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// All that was given.
#[derive(Debug, Default)]
pub struct Sources {
    flags: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
    /// From variables of OpenTelemetry's, with their names.
    standard: BTreeMap<&'static str, (String, &'static str)>,
    /// Variables of OpenTelemetry's that ask for something that is not done here.
    pub(super) unheeded: Vec<String>,
    file: BTreeMap<String, (String, Origin)>,
    /// From the file only.
    pub(super) resource_classes: Option<(Vec<ResourceClass>, Origin)>,
    /// From the file only.
    pub(super) identity_providers: Option<Vec<ProviderConfig>>,
}

impl Sources {
    /// Nothing given.
    pub fn new() -> Self {
        Self::default()
    }

    /// With what was given on the command line, by the setting's name.
    pub fn flags(mut self, flags: impl IntoIterator<Item = (String, String)>) -> Self {
        self.flags.extend(flags);
        self
    }

    /// With the `MARMOT_…` and `OTEL_…` variables among these.
    pub fn variables(mut self, all: impl IntoIterator<Item = (String, String)>) -> Self {
        let all: Vec<_> = all.into_iter().collect();
        (self.standard, self.unheeded) = telemetry(&all);
        let ours = all.into_iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("MARMOT_")?.to_ascii_lowercase();
            Some((name, value))
        });
        self.variables.extend(ours);
        self
    }

    /// With the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, or has a key that is no setting.
    pub fn file(self, path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        self.file_text(path, &text)
    }

    /// With the text of a file.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn file_text(mut self, path: &Path, text: &str) -> Result<Self, ConfigError> {
        let at = |offset: usize| Origin::File {
            path: path.to_owned(),
            line: 1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count(),
        };
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            origin: at(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        for (key, value) in table.into_inner() {
            let origin = at(key.span().start);
            let name = key.into_inner().to_string();
            if name == "resource_classes" {
                let classes = resource_classes(value.into_inner(), &origin)?;
                self.resource_classes = Some((classes, origin));
                continue;
            }
            if name == "identity_providers" {
                self.identity_providers = Some(super::providers::read(value.into_inner(), &origin)?);
                continue;
            }
            if !super::is_setting(&name) {
                return Err(ConfigError::Unknown { nearest: super::nearest(&name), name, origin });
            }
            let given = match value.into_inner() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) => number.to_string(),
                DeValue::Boolean(flag) => flag.to_string(),
                _ => return Err(ConfigError::Shape { name, origin }),
            };
            self.file.insert(name, (given, origin));
        }
        Ok(self)
    }

    /// The text of a setting and where it was given: flags win over variables over the file.
    pub(super) fn find(&self, name: &str) -> Option<(&str, Origin)> {
        if let Some(text) = self.flags.get(name) {
            return Some((text, Origin::Flag(format!("--{}", name.replace('_', "-")))));
        }
        if let Some(text) = self.variables.get(name) {
            return Some((text, Origin::Variable(super::variable(name))));
        }
        if let Some((text, variable)) = self.standard.get(name) {
            return Some((text, Origin::Variable((*variable).to_owned())));
        }
        self.file.get(name).map(|(text, origin)| (text.as_str(), origin.clone()))
    }

    /// `MARMOT_…` variables that are no settings: most likely typing errors.
    pub(super) fn unknown_variables(&self) -> impl Iterator<Item = &str> {
        // These belong to the command-line client, and to what an app is told.
        const OTHERS: &[&str] = &["config", "url", "token", "app_name", "app_url"];
        let names = self.variables.keys().map(String::as_str);
        names.filter(|name| !super::is_setting(name) && !OTHERS.contains(name))
    }
}

/// The settings that OpenTelemetry's own variables stand for, and the variables that stand for none. By its
/// specification, one without text is not set.
fn telemetry(all: &[(String, String)]) -> (BTreeMap<&'static str, (String, &'static str)>, Vec<String>) {
    const SETTINGS: [(&str, &str); 5] = [
        ("otlp_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("otlp_headers", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("otlp_sampler", "OTEL_TRACES_SAMPLER"),
        ("otlp_service_name", "OTEL_SERVICE_NAME"),
        ("otlp_resource", "OTEL_RESOURCE_ATTRIBUTES"),
    ];
    const OTHERS: [&str; 3] = ["OTEL_TRACES_SAMPLER_ARG", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"];
    let set = all.iter().filter(|(name, value)| name.starts_with("OTEL_") && !value.trim().is_empty());
    let set: BTreeMap<&str, &str> = set.map(|(name, value)| (name.as_str(), value.trim())).collect();
    let mut found = BTreeMap::new();
    for (setting, variable) in SETTINGS {
        if let Some(text) = set.get(variable) {
            found.insert(setting, ((*text).to_owned(), variable));
        }
    }
    if let Some((sampler, _)) = found.get_mut("otlp_sampler")
        && sampler.ends_with("traceidratio")
        && let Some(share) = set.get("OTEL_TRACES_SAMPLER_ARG")
    {
        *sampler = format!("{sampler}={share}");
    }
    let is_off = set.get("OTEL_SDK_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true"))
        || set.get("OTEL_TRACES_EXPORTER") == Some(&"none");
    if is_off {
        found.remove("otlp_endpoint");
    }
    let is_heeded = |name: &str, value: &str| {
        OTHERS.contains(&name)
            || SETTINGS.iter().any(|(_, variable)| *variable == name)
            || (name, value) == ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    };
    let unheeded = set.iter().filter(|(name, value)| !is_heeded(name, value));
    let unheeded = unheeded.map(|(name, _)| (*name).to_owned()).collect();
    (found, unheeded)
}

fn resource_classes(value: DeValue<'_>, origin: &Origin) -> Result<Vec<ResourceClass>, ConfigError> {
    use serde::Deserialize as _;
    let refused = |message: String| ConfigError::Classes { origin: origin.clone(), message };
    let classes =
        Vec::<ResourceClass>::deserialize(toml::de::ValueDeserializer::from(toml::Spanned::new(0..0, value)))
            .map_err(|error| refused(error.message().to_owned()))?;
    if classes.is_empty() {
        return Err(refused("there must be one at least".to_owned()));
    }
    if classes.iter().all(|class| !class.groups.is_empty()) {
        return Err(refused("each is for `groups` alone: one must be for everybody".to_owned()));
    }
    if let Some(class) = classes.iter().find(|class| class.default && !class.groups.is_empty()) {
        return Err(refused(format!(
            "`{}` is the default, so it must be for everybody: it has `groups`",
            class.name
        )));
    }
    for (index, class) in classes.iter().enumerate() {
        if classes[..index].iter().any(|earlier| earlier.id == class.id) {
            return Err(refused(format!("the id {} is given twice", class.id)));
        }
        if class.cpu_millis == 0 || class.memory_mib < 16 {
            return Err(refused(format!(
                "`{}` needs some `cpu_millis`, and 16 `memory_mib` at least",
                class.name
            )));
        }
        if let Some(mistake) = class.gpus.as_ref().and_then(Gpus::mistake) {
            return Err(refused(format!("`{}` has {mistake}", class.name)));
        }
    }
    Ok(classes)
}
