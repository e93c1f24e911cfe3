//! Settings as flags of a command.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::{ConfigError, SETTINGS, Settings, Sources};

/// The settings that were given as flags, and the file that was named.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    given: Vec<(String, String)>,
    config: Option<PathBuf>,
}

impl Flags {
    /// The settings from these flags, the process's environment, and the file.
    ///
    /// # Errors
    /// Names the first wrong one.
    pub fn resolve(self) -> Result<(Settings, Sources), ConfigError> {
        let given = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let mut sources = Sources::new().flags(self.given).variables(given);
        if let Some(path) = self.config {
            sources = sources.file(&path)?;
        }
        Ok((Settings::resolve(&sources)?, sources))
    }

    /// No flags, and maybe a file.
    pub fn with_config(config: Option<PathBuf>) -> Self {
        Self { given: Vec::new(), config }
    }

    /// With one more setting, as if it had been given as a flag; what was really given wins.
    pub fn or(mut self, name: &str, value: impl Into<String>) -> Self {
        if !self.given.iter().any(|(given, _)| given == name) {
            self.given.push((name.to_owned(), value.into()));
        }
        self
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env("MARMOT_CONFIG")
            .hide_env(true)
            .value_parser(clap::value_parser!(PathBuf))
            .help("File with settings, in TOML");
        SETTINGS.iter().fold(command.arg(config), |command, setting| {
            let mut help = setting.help.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
            if !setting.default.is_empty() {
                help.push_str(&format!(" [default: {}]", setting.default));
            }
            let mut flag = Arg::new(setting.name)
                .long(setting.name.replace('_', "-"))
                .value_name(setting.shape)
                .help(help);
            if setting.shape == "BOOL" {
                flag = flag.num_args(0..=1).require_equals(true).default_missing_value("true");
            }
            command.arg(flag)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.config = matches.get_one::<PathBuf>("config").cloned();
        self.given = SETTINGS
            .iter()
            .filter_map(|setting| {
                Some((setting.name.to_owned(), matches.get_one::<String>(setting.name)?.clone()))
            })
            .collect();
        Ok(())
    }
}
