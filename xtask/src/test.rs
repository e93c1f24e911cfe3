//! `cargo xtask test`: runs the steps and sums up.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::repository::Repository;
use crate::setup;
use crate::steps::Step;

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Passed,
    Failed,
    /// What it tests could not be built.
    Skipped,
}

/// Goes on after a failure, so that one run shows everything there is to mend, and fails in the end.
pub(crate) fn run(repository: &Repository, only: &[Step]) -> anyhow::Result<()> {
    let steps = chosen(only);
    let began = Instant::now();
    setup::run(repository, &needs(&steps))?;
    println!("set-up  done in {}", seconds(began.elapsed()));

    let mut results = Vec::new();
    for step in steps {
        println!("\n==> {}", step.name());
        let began = Instant::now();
        let outcome = if cannot_run(step, &results) { Outcome::Skipped } else { outcome(step, repository) };
        results.push((step, outcome, began.elapsed()));
    }

    println!("\n{}", summary(&results));
    let failed: Vec<&str> =
        results.iter().filter(|(_, o, _)| *o == Outcome::Failed).map(|(step, ..)| step.name()).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn outcome(step: Step, repository: &Repository) -> Outcome {
    match step.run(repository) {
        Ok(()) => Outcome::Passed,
        Err(error) => {
            eprintln!("error: {error:#}");
            Outcome::Failed
        }
    }
}

/// In their own order, whatever the order they were asked for in.
fn chosen(only: &[Step]) -> Vec<Step> {
    Step::ALL.iter().copied().filter(|step| only.is_empty() || only.contains(step)).collect()
}

fn needs(steps: &[Step]) -> Vec<setup::Need> {
    setup::Need::ALL.into_iter().filter(|need| steps.iter().any(|step| step.needs().contains(need))).collect()
}

/// The browser tests would otherwise test the build of an earlier day.
fn cannot_run(step: Step, results: &[(Step, Outcome, Duration)]) -> bool {
    step == Step::Browser && results.iter().any(|(step, o, _)| *step == Step::Build && *o == Outcome::Failed)
}

fn summary(results: &[(Step, Outcome, Duration)]) -> String {
    let mut text = String::from("Summary\n");
    for (step, outcome, took) in results {
        let word = match outcome {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped: the build failed",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {:<8} {:>8}  {word}", step.name(), seconds(*took));
    }
    text
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Need;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn without_a_choice_all_steps_run_and_a_choice_keeps_their_order() {
        assert_eq!(chosen(&[]), Step::ALL);
        assert_eq!(chosen(&[Step::Test, Step::Fmt, Step::Fmt]), [Step::Fmt, Step::Test]);
    }

    #[test]
    fn a_format_check_needs_no_browser() {
        assert_eq!(needs(&[Step::Fmt, Step::Clippy]), []);
        let both = needs(&[Step::Test, Step::Browser]);
        assert_eq!(both, [Need::Apps, Need::Node, Need::Tests, Need::Browser]);
    }

    #[test]
    fn the_browser_tests_wait_for_a_build_that_worked() {
        assert!(cannot_run(Step::Browser, &[(Step::Build, Outcome::Failed, SECOND)]));
        assert!(!cannot_run(Step::Browser, &[(Step::Build, Outcome::Passed, SECOND)]));
        assert!(!cannot_run(Step::Browser, &[(Step::Fmt, Outcome::Failed, SECOND)]));
        assert!(!cannot_run(Step::Browser, &[]));
    }

    #[test]
    fn sums_up_what_ran_with_its_time() {
        let text =
            summary(&[(Step::Fmt, Outcome::Passed, SECOND), (Step::Test, Outcome::Failed, 83 * SECOND)]);
        assert_eq!(text, "Summary\n  fmt         1.0 s  passed\n  test       83.0 s  FAILED\n");
    }
}
