//! `cargo xtask tidy`: the rules of the repository.
//!
//! A rule is a function from a [`Repository`] to its [`Finding`]s, with tests that plant the fault
//! it is there for. Exceptions are lists in the code, each with its reason; an entry that excuses
//! nothing any more is itself a finding, so the lists can only shrink.

mod documents;
mod examples;
mod layers;
mod prompts;
mod rooms;
mod size;
mod sources;
mod words;

use anyhow::{Result, bail};

use crate::repository::Repository;

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// A file, a folder or a crate.
    pub(crate) place: String,
    /// The line, where the place is a file and one line is at fault.
    pub(crate) line: Option<usize>,
    /// What is wrong, and what to do.
    pub(crate) what: String,
}

impl Finding {
    fn at(place: &str, line: usize, what: String) -> Self {
        Self { place: place.into(), line: Some(line), what }
    }

    fn of(place: &str, what: String) -> Self {
        Self { place: place.into(), line: None, what }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.place, self.what),
            None => write!(f, "{}: {}", self.place, self.what),
        }
    }
}

/// An exception: a file that may break a rule, and why.
struct Exception {
    path: &'static str,
    #[expect(dead_code, reason = "read by people: an exception without a reason is none")]
    reason: &'static str,
}

type Rule = (&'static str, fn(&Repository) -> Vec<Finding>);

/// Every rule, by the name that `cargo xtask tidy` shows.
const RULES: [Rule; 17] = [
    ("layers: who may use whom", layers::check),
    ("layers: no training code reaches the evaluations", layers::held_out),
    ("layers: only two crates speak to a network", layers::sockets),
    ("sources: no sockets elsewhere", sources::network),
    ("sources: only the command prints", sources::printing),
    ("sources: files are written through forwhy-store", sources::writing),
    ("sources: unsafe only in the engine", sources::unsafe_code),
    ("sources: length of files", size::check),
    ("crates: no empty rooms", rooms::check),
    ("prompts: each is used", prompts::check),
    ("words: nothing left to do, no paths of a machine", words::check),
    ("documents: they exist", documents::exist),
    ("documents: ARCHITECTURE.md names every crate", documents::crates_are_named),
    ("documents: links lead somewhere", documents::links),
    ("documents: paths they name exist", documents::paths),
    ("documents: their commands exist", examples::commands),
    ("documents: their studies exist", examples::studies),
];

/// Checks every rule and lists what breaks it.
pub(crate) fn run(repository: &Repository) -> Result<()> {
    let mut broken = 0;
    for (name, rule) in RULES {
        let mut findings = rule(repository);
        findings.sort();
        findings.dedup();
        println!("{}  {name}", if findings.is_empty() { "ok    " } else { "FAILED" });
        for finding in &findings {
            println!("          {finding}");
        }
        broken += findings.len();
    }
    println!("{} rules, {} files, {broken} finding(s)", RULES.len(), repository.files.len());
    if broken > 0 {
        bail!("tidy: {broken} finding(s), listed above");
    }
    Ok(())
}

/// Drops the findings in excepted files, and reports exceptions that excused nothing.
fn excuse(findings: Vec<Finding>, exceptions: &[Exception]) -> Vec<Finding> {
    let stale = |e: &&Exception| findings.iter().all(|f| f.place != e.path);
    let mut kept: Vec<Finding> = exceptions
        .iter()
        .filter(stale)
        .map(|e| Finding::of(e.path, "has an exception that it no longer needs; drop it".into()))
        .collect();
    kept.extend(findings.into_iter().filter(|f| exceptions.iter().all(|e| e.path != f.place)));
    kept
}

/// For tests: findings as text.
#[cfg(test)]
fn shown(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: [Exception; 1] = [Exception { path: "old.rs", reason: "older than the rule" }];

    #[test]
    fn an_exception_excuses_its_file_alone() {
        let findings = ["old.rs", "new.rs"].map(|p| Finding::at(p, 3, "wrong".into()));
        assert_eq!(shown(&excuse(findings.to_vec(), &OLD)), ["new.rs:3: wrong"]);
    }

    #[test]
    fn an_exception_that_excuses_nothing_is_a_finding() {
        let kept = shown(&excuse(Vec::new(), &OLD));
        assert_eq!(kept, ["old.rs: has an exception that it no longer needs; drop it"]);
    }
}
