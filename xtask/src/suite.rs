//! `cargo xtask test`: everything that must hold before a change is taken.
//!
//! 1. Format, clippy with warnings denied, and the tests of the workspace, without a model.
//! 2. The rules of the repository ([`crate::tidy`]).
//! 3. The real small model: `forwhy model pull`, the engine's numbers against those of other
//!    programs, and a miniature study. Where the model cannot be had, one line says
//!    `SKIPPED: real model` and why, and the suite passes.
//!
//! It stops at the first step that fails.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::repository::{Repository, root};
use crate::tidy;

const STUDY: &str = "studies/miniature.toml";
/// What a finished run leaves in its folder.
const RESULTS: [&str; 2] = ["results.json", "report.html"];
/// Where the engine looks for models; see `forwhy_engine::pull`.
const MODELS_VARIABLE: &str = "FORWHY_MODELS";
/// The exit code of a panic, which is never a reason to skip.
const PANIC: i32 = 101;

/// A step that ended well.
struct Step {
    name: &'static str,
    seconds: f64,
}

/// The steps so far, in order.
#[derive(Default)]
struct Suite {
    steps: Vec<Step>,
}

/// Runs the suite.
pub(crate) fn run() -> Result<()> {
    let mut suite = Suite::default();
    let outcome = steps(&mut suite);
    suite.summarise(&outcome);
    outcome.map(|_| ())
}

/// Whether the real model was there.
enum RealModel {
    Ran,
    Skipped,
}

fn steps(suite: &mut Suite) -> Result<RealModel> {
    suite.step("format", || succeed(&mut cargo("fmt --all --check")))?;
    suite.step("clippy", || {
        succeed(&mut cargo("clippy --workspace --all-targets -- -D warnings"))
    })?;
    suite.step("tests", workspace_tests)?;
    suite.step("tidy", || tidy::run(&Repository::here()?))?;
    suite.step("release build", || succeed(&mut cargo("build --release -p forwhy")))?;
    if let Some(reason) = suite.step("real model: pull", pull)? {
        println!("SKIPPED: real model: {reason}");
        return Ok(RealModel::Skipped);
    }
    suite.step("real model: engine", || {
        let test = "test --release -p forwhy-engine --test real_model -- --nocapture";
        succeed(&mut cargo(test))
    })?;
    suite.step("real model: study", miniature_study)?;
    Ok(RealModel::Ran)
}

impl Suite {
    /// Runs a step under a heading, and notes how long it took.
    fn step<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n=== {name}");
        let start = Instant::now();
        let result = work();
        let seconds = start.elapsed().as_secs_f64();
        match &result {
            Ok(_) => println!("=== {name}: {seconds:.1} s"),
            Err(_) => println!("=== {name}: FAILED after {seconds:.1} s"),
        }
        self.steps.push(Step { name, seconds });
        result.with_context(|| format!("step \"{name}\" failed, and nothing after it was run"))
    }

    fn summarise(&self, outcome: &Result<RealModel>) {
        println!("\n=== summary");
        for (index, step) in self.steps.iter().enumerate() {
            let failed = outcome.is_err() && index + 1 == self.steps.len();
            let word = if failed { "FAILED" } else { "ok" };
            println!("{:20} {:8.1} s  {word}", step.name, step.seconds);
        }
        let total: f64 = self.steps.iter().map(|s| s.seconds).sum();
        match outcome {
            Ok(RealModel::Ran) => println!("all steps passed in {total:.0} s"),
            Ok(RealModel::Skipped) => {
                println!("all steps passed in {total:.0} s, those with the real model left out");
            }
            Err(_) => println!("FAILED after {total:.0} s"),
        }
    }
}

/// Unit, integration and doc tests. They see no model: they must pass without one, and the suite
/// runs those that want one later, in release.
fn workspace_tests() -> Result<()> {
    let nothing = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut command = cargo("test --workspace");
    command.env(MODELS_VARIABLE, nothing.path());
    // the same numbers on every machine; the tests of bf16 name their kernels
    command.env("FORWHY_KERNELS", "f32");
    if std::env::var_os("INSTA_UPDATE").is_none() {
        command.env("INSTA_UPDATE", "no");
    }
    succeed(&mut command)
}

/// Has the model fetched. Gives the reason where it cannot be had.
fn pull() -> Result<Option<String>> {
    let mut command = cargo("run --quiet --release -p forwhy -- model pull");
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start `{}`", shown(&command)))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        print!("{}", String::from_utf8_lossy(&output.stdout));
        return Ok(None);
    }
    match output.status.code() {
        None | Some(PANIC) => bail!("`{}` broke ({}):\n{said}", shown(&command), output.status),
        Some(_) => Ok(Some(reason(&said, output.status))),
    }
}

/// The first line of the error in what a command said.
fn reason(said: &str, status: ExitStatus) -> String {
    let line = said.lines().find_map(|line| line.trim().strip_prefix("error: "));
    let line = line.or_else(|| said.lines().map(str::trim).find(|line| !line.is_empty()));
    match line {
        Some(line) => line.trim_end_matches(':').to_string(),
        None => format!("the pull ended without a word ({status})"),
    }
}

/// Runs the miniature study in a new folder, which is kept if something is wrong.
fn miniature_study() -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let run = folder.path().join("miniature");
    let outcome = study_in(&run);
    if outcome.is_err() {
        let kept = folder.keep();
        println!("the run folder is kept: {}", kept.join("miniature").display());
    }
    outcome
}

fn study_in(run: &Path) -> Result<()> {
    let mut command = cargo("run --quiet --release -p forwhy -- run");
    succeed(command.arg(STUDY).arg("--folder").arg(run))?;
    results_are_there(run)
}

fn results_are_there(run: &Path) -> Result<()> {
    for name in RESULTS {
        let length = std::fs::metadata(run.join(name)).map(|m| m.len());
        let length = length.with_context(|| format!("the study left no {name}"))?;
        if length == 0 {
            bail!("the study left an empty {name}");
        }
    }
    Ok(())
}

/// `cargo` with these arguments, at the root of the repository.
fn cargo(arguments: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments.split_whitespace()).current_dir(root());
    command
}

/// Runs a command whose output the user sees, and expects success.
fn succeed(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command.status();
    let status = status.with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

fn shown(command: &Command) -> String {
    let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
    format!("cargo {}", arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn the_reason_is_the_first_line_of_the_error() {
        let failed = ExitStatus::from_raw(2 << 8);
        let said = "warning: slow\nerror: pip could not fetch it:\nno network\nfetch it by hand";
        assert_eq!(reason(said, failed), "pip could not fetch it");
        assert_eq!(reason("\n  no place\nmore", failed), "no place");
        assert!(reason("", failed).contains("exit status: 2"));
    }

    #[test]
    fn a_step_that_fails_is_named_and_noted() {
        let mut suite = Suite::default();
        let error = suite.step("clippy", || -> Result<()> { bail!("warnings") }).unwrap_err();
        let said = format!("{error:#}");
        assert_eq!(said, "step \"clippy\" failed, and nothing after it was run: warnings");
        assert_eq!(suite.steps.len(), 1);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a fixture of the test")]
    fn a_run_folder_without_results_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let check = || results_are_there(folder.path()).map_err(|e| format!("{e:#}"));
        assert!(check().unwrap_err().contains("no results.json"));
        std::fs::write(folder.path().join(RESULTS[0]), "{}").unwrap();
        std::fs::write(folder.path().join(RESULTS[1]), "").unwrap();
        assert!(check().unwrap_err().contains("an empty report.html"));
        std::fs::write(folder.path().join(RESULTS[1]), "<p>").unwrap();
        assert_eq!(check(), Ok(()));
    }
}
