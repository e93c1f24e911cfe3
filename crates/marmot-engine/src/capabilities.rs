//! What this machine lets the engine do: what is there, what is missing, what that costs, and how to get it.

use std::fs;

use crate::cgroup::Groups;
use crate::confine::Confiner;
use crate::hibernate::means::{self, Means};
use crate::network::{Shortcoming, Uplink};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// How idle replicas are frozen.
    pub freezing: Freezing,
    /// Whether replicas are confined.
    pub confined: bool,
    /// Whether confined replicas reach other machines, as far as they may.
    pub outbound: bool,
    /// Whether memory limits are enforced.
    pub memory_limits: bool,
    /// The machine's memory, in bytes.
    pub memory_bytes: u64,
    /// Swap space, in bytes. Without any, a frozen replica keeps all of its memory.
    pub swap_bytes: u64,
    /// What each part was found to be, for the log and for `marmot doctor`.
    pub checks: Vec<Check>,
    /// The same in sentences.
    pub sentences: Vec<String>,
}

/// How idle replicas are frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freezing {
    /// By a control group of version 2: all processes at once, unnoticed by them.
    Cgroup,
    /// By `SIGSTOP` to each process.
    Signals,
}

/// One thing that matters, as it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is called.
    pub name: &'static str,
    /// How well it is here.
    pub state: CheckState,
    /// What was found, as a sentence.
    pub found: String,
    /// What it costs that it is not better, as sentences.
    pub cost: Option<String>,
    /// What makes it better: commands for a shell.
    pub commands: Vec<String>,
}

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    /// As it should be.
    Good,
    /// It works, but not as well as it could.
    Reduced,
    /// It does not work.
    Missing,
}

impl Check {
    pub(crate) fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: CheckState::Good, found: found.into(), cost: None, commands: Vec::new() }
    }

    /// It is not as it could be: what that costs, and what to do.
    pub(crate) fn but(
        self,
        state: CheckState,
        cost: impl Into<String>,
        commands: impl IntoIterator<Item = String>,
    ) -> Self {
        Self { state, cost: Some(cost.into()), commands: commands.into_iter().collect(), ..self }
    }

    /// Says it, for operators.
    pub(crate) fn tell(&self) {
        match self.state {
            CheckState::Good => tracing::info!("{}", self.sentence()),
            CheckState::Reduced | CheckState::Missing => tracing::warn!("{}", self.sentence()),
        }
    }

    /// All of it in sentences.
    pub fn sentence(&self) -> String {
        let mut text = self.found.clone();
        if let Some(cost) = &self.cost {
            text = format!("{text} {cost}");
        }
        if let [first, ..] = &self.commands[..] {
            text = format!("{text} To change that: `{first}`.");
        }
        text
    }
}

/// Looks at the machine as a server would that is started now by the same user, and leaves nothing behind.
///
/// It runs a few programs and waits for them.
pub fn examine() -> Capabilities {
    let groups = Groups::detect(&format!("marmot-doctor-{}", std::process::id()));
    let confiner = Confiner::detect();
    let separate = confiner.as_ref().is_ok_and(Confiner::separates_users);
    let means = Means::detect(&groups, separate);
    let dir = std::env::temp_dir().join(format!("marmot-doctor-{}", std::process::id()));
    let uplink = match (&confiner, fs::create_dir(&dir)) {
        (Ok(_), Ok(())) => Uplink::open(&dir, None, Vec::new(), None),
        (Err(_), _) => Err(Shortcoming::of("apps are not confined")),
        (_, Err(error)) => Err(Shortcoming::of(format!("{} cannot be made: {error}", dir.display()))),
    };
    let found = Capabilities::of(&groups, confiner.as_ref(), &means, uplink.as_ref());
    let _ = uplink.map(|uplink| uplink.close());
    let _ = fs::remove_dir_all(dir);
    groups.remove_parents();
    found
}

impl Capabilities {
    /// Puts together what was found.
    pub(crate) fn of(
        groups: &Groups,
        confiner: Result<&Confiner, &String>,
        means: &Means,
        uplink: Result<&Uplink, &Shortcoming>,
    ) -> Self {
        let freezing = if groups.can_freeze() { Freezing::Cgroup } else { Freezing::Signals };
        let memory_limits = groups.can_limit_memory();
        let memory_bytes = memory();
        let mut checks =
            vec![freezing_check(freezing), confinement_check(confiner), limits_check(memory_limits)];
        if confiner.is_ok() {
            checks.push(outbound_check(uplink));
        }
        checks.extend(means::checks(means, memory_bytes));
        let sentences = checks.iter().map(Check::sentence).collect();
        Self {
            freezing,
            confined: confiner.is_ok(),
            outbound: uplink.is_ok(),
            memory_limits,
            memory_bytes,
            swap_bytes: means.swap.size(),
            checks,
            sentences,
        }
    }

    /// Says once what is missing here, for operators.
    pub(crate) fn tell(&self) {
        self.checks.iter().for_each(Check::tell);
    }
}

/// What lets a server make control groups: a part of systemd's tree of its own.
fn delegate() -> [String; 2] {
    [
        "sudo mkdir -p /etc/systemd/system/marmot.service.d && printf '[Service]\\nDelegate=yes\\n' | sudo tee \
         /etc/systemd/system/marmot.service.d/delegate.conf && sudo systemctl daemon-reload && sudo systemctl restart \
         marmot.service"
            .to_owned(),
        "systemd-run --user --scope -p Delegate=yes marmot serve".to_owned(),
    ]
}

fn freezing_check(freezing: Freezing) -> Check {
    match freezing {
        Freezing::Cgroup => Check::good("freezing", "Idle replicas are frozen by control groups."),
        Freezing::Signals => Check::good(
            "freezing",
            "Idle replicas are frozen by SIGSTOP: no control group of version 2 can be made here.",
        )
        .but(
            CheckState::Reduced,
            "Programs can notice it, and a process that is born at that moment may go on running.",
            delegate(),
        ),
    }
}

fn confinement_check(confiner: Result<&Confiner, &String>) -> Check {
    const NAME: &str = "confinement";
    match confiner {
        Ok(confiner) if confiner.separates_users() => Check::good(
            NAME,
            "Apps are confined by bubblewrap: each is a user of its own and sees the system for reading, its own \
             files, its own network, and nothing else.",
        ),
        Ok(_) => Check::good(
            NAME,
            "Apps are confined by bubblewrap: each sees the system for reading, its own files, its own network, and \
             nothing else. They share the server's user id.",
        )
        .but(
            CheckState::Reduced,
            "Run as root to give each app a user of its own.",
            ["sudo marmot serve".to_owned()],
        ),
        Err(why) => Check::good(NAME, format!("Apps are NOT confined: {why}.")).but(
            CheckState::Missing,
            "Every app can read and change whatever the server's user can. Run only code that you trust.",
            ["sudo apt-get install bubblewrap util-linux".to_owned()],
        ),
    }
}

fn outbound_check(uplink: Result<&Uplink, &Shortcoming>) -> Check {
    const NAME: &str = "outbound";
    match uplink {
        Ok(uplink) if uplink.resolves_names() => Check::good(
            NAME,
            "Apps reach public IPv4 addresses, as far as their launchers say, but no IPv6 ones, and neither this \
             machine nor private networks.",
        ),
        Ok(_) => Check::good(NAME, "Apps reach public IPv4 addresses, but cannot resolve names.").but(
            CheckState::Reduced,
            "Every resolver in /etc/resolv.conf is on the loopback interface, where apps are not.",
            [],
        ),
        Err(missing) => Check::good(NAME, format!("Apps reach no other machine: {}.", missing.why)).but(
            CheckState::Missing,
            "They cannot load data or models from elsewhere.",
            missing.command.clone(),
        ),
    }
}

fn limits_check(memory_limits: bool) -> Check {
    if memory_limits {
        return Check::good(
            "limits",
            "Memory limits are enforced: an app that takes too much is ended alone.",
        );
    }
    Check::good("limits", "Memory limits are not enforced: no memory controller can be used here.").but(
        CheckState::Missing,
        "One app can use up the machine's memory.",
        delegate(),
    )
}

/// The machine's memory, in bytes.
fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    crate::hibernate::swap::meminfo(&text, "MemTotal:").unwrap_or(0)
}
