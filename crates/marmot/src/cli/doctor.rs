//! `marmot doctor`: what this machine offers, what is missing, what that costs, and the commands to get it.

use clap::Args;
use marmot_engine::capabilities::{self, Capabilities, Check, CheckState};
use serde_json::{Value, json};

use super::output::Output;

/// Looks at the machine as `marmot serve` would, when the same user starts it, and changes nothing.
#[derive(Debug, Clone, Args)]
pub(super) struct Doctor {}

impl Doctor {
    pub(super) async fn run(&self, output: Output) -> anyhow::Result<()> {
        let mut found = capabilities::examine();
        found.checks.push(marmot_engine::container::check(&marmot_engine::Endpoint::Usual).await);
        output.print(&as_json(&found), |_| as_text(&found.checks))
    }
}

fn state(state: CheckState) -> &'static str {
    match state {
        CheckState::Good => "good",
        CheckState::Reduced => "reduced",
        CheckState::Missing => "missing",
    }
}

fn as_json(found: &Capabilities) -> Value {
    let check = |check: &Check| {
        json!({
            "name": check.name,
            "state": state(check.state),
            "found": check.found,
            "cost": check.cost,
            "commands": check.commands,
        })
    };
    json!({
        "memory_bytes": found.memory_bytes,
        "swap_bytes": found.swap_bytes,
        "checks": found.checks.iter().map(check).collect::<Vec<_>>(),
    })
}

fn as_text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        text.push_str(&format!("{:<8}  {}: {}\n", state(check.state), check.name, check.found));
        if let Some(cost) = &check.cost {
            text.push_str(&format!("{:8}  {cost}\n", ""));
        }
        for (number, command) in check.commands.iter().enumerate() {
            let word = if number == 0 { "to get it" } else { "or" };
            text.push_str(&format!("{:8}  {word}: {command}\n", ""));
        }
    }
    let bad = checks.iter().filter(|check| check.state != CheckState::Good).count();
    text.push_str(&match bad {
        0 => "\nNothing is missing.".to_owned(),
        1 => "\n1 thing could be better.".to_owned(),
        _ => format!("\n{bad} things could be better."),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_there_what_is_missing_what_it_costs_and_what_to_do() {
        let good = Check {
            name: "freezing",
            state: CheckState::Good,
            found: "Idle replicas are frozen by control groups.".to_owned(),
            cost: None,
            commands: Vec::new(),
        };
        let missing = Check {
            name: "swap",
            state: CheckState::Missing,
            found: "There is no swap.".to_owned(),
            cost: Some("A hibernated replica keeps its memory.".to_owned()),
            commands: vec!["swapon /swapfile".to_owned(), "swapon /dev/zram0".to_owned()],
        };
        insta::assert_snapshot!(as_text(&[good, missing]), @r"
        good      freezing: Idle replicas are frozen by control groups.
        missing   swap: There is no swap.
                  A hibernated replica keeps its memory.
                  to get it: swapon /swapfile
                  or: swapon /dev/zram0

        1 thing could be better.
        ");
    }
}
