//! Commands and studies that the documents show exist.
//!
//! The commands are read from the source: the variants of `enum Command` in `commands.rs`, and,
//! where a variant holds `noun::Command`, those of `commands/<noun>.rs`.

use std::collections::BTreeMap;

use super::Finding;
use super::documents::{code_blocks, current};
use crate::repository::Repository;
use crate::rust::{Source, line};

const COMMANDS: &str = "crates/forwhy/src/commands.rs";
const NOUNS: &str = "crates/forwhy/src/commands";

/// Command names, each with the verbs that must follow it, if any.
type Tree = BTreeMap<String, Vec<String>>;

/// Lines of code blocks that call `forwhy` or this tool name commands that exist.
pub(super) fn commands(repository: &Repository) -> Vec<Finding> {
    let tree = match tree(repository) {
        Ok(tree) => tree,
        Err(why) => return vec![Finding::of(COMMANDS, why)],
    };
    let mut found = Vec::new();
    for (path, text) in current(repository) {
        for block in code_blocks(text) {
            let mut at = block.start;
            for shown in text[block].split_inclusive('\n') {
                if let Some(what) = wrong(shown, &tree) {
                    found.push(Finding::at(path, line(text, at), what));
                }
                at += shown.len();
            }
        }
    }
    found
}

/// What is wrong with the line of a code block, if it calls one of our commands.
fn wrong(shown: &str, tree: &Tree) -> Option<String> {
    let shown = shown.trim();
    let shown = shown.strip_prefix("$ ").unwrap_or(shown);
    if let Some(rest) = shown.strip_prefix("cargo xtask ") {
        let word = words(rest).next()?;
        let known = crate::COMMANDS.contains(&word) || word.starts_with('-');
        return (!known).then(|| format!("shows `cargo xtask {word}`, which does not exist"));
    }
    let mut words = words(arguments(shown)?);
    let noun = words.next()?;
    let Some(verbs) = tree.get(noun) else {
        return (!noun.starts_with('-') && noun != "help")
            .then(|| format!("shows `forwhy {noun}`, which does not exist"));
    };
    let verb = words.next().unwrap_or("");
    let known = verbs.is_empty() || verb.starts_with('-') || verbs.iter().any(|v| v == verb);
    (!known).then(|| {
        let verbs = verbs.join("|");
        format!("shows `forwhy {noun} {verb}`, but the verbs of {noun} are {verbs}")
    })
}

/// The arguments of a call of the `forwhy` command, by name or through cargo.
fn arguments(shown: &str) -> Option<&str> {
    if let Some(rest) = shown.strip_prefix("forwhy ") {
        return Some(rest);
    }
    let (cargo, rest) = shown.strip_prefix("cargo run ")?.split_once("-- ")?;
    let mut options = cargo.split_whitespace();
    let other = options.any(|o| o == "--example" || o == "--bin");
    let package = cargo.split_whitespace().skip_while(|o| *o != "-p" && *o != "--package").nth(1);
    (!other && package.is_none_or(|p| p == "forwhy")).then_some(rest)
}

/// The words up to a comment of the shell.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().take_while(|w| !w.starts_with('#'))
}

fn tree(repository: &Repository) -> Result<Tree, String> {
    let source = rust(repository, COMMANDS)?;
    let mut tree = Tree::new();
    for (name, holds) in variants(source)? {
        let verbs = match holds.split_once("::Command") {
            Some((noun, _)) => {
                let noun = noun.rsplit(['(', ':']).next().unwrap_or(noun).trim();
                let verbs = variants(rust(repository, &format!("{NOUNS}/{noun}.rs"))?)?;
                verbs.into_iter().map(|(verb, _)| verb).collect()
            }
            None => Vec::new(),
        };
        tree.insert(name, verbs);
    }
    Ok(tree)
}

fn rust<'a>(repository: &'a Repository, path: &str) -> Result<&'a Source, String> {
    let file = repository.file(path).and_then(|f| f.rust.as_ref());
    file.ok_or_else(|| format!("{path} is missing, so the commands are unknown"))
}

/// The variants of `enum Command`: name on the command line, and what it holds.
fn variants(source: &Source) -> Result<Vec<(String, &str)>, String> {
    let missing = || "has no `enum Command {`, so the commands are unknown".to_string();
    let start = *source.find("enum Command {").first().ok_or_else(missing)?;
    let body = &source.code[start + "enum Command {".len()..];
    let mut variants = Vec::new();
    let (mut depth, mut begin) = (0usize, 0);
    for (at, byte) in body.bytes().enumerate() {
        let ends = depth == 0 && matches!(byte, b',' | b'}');
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if ends {
            variants.extend(variant(&body[begin..at]));
            begin = at + 1;
        }
        if ends && byte == b'}' {
            return Ok(variants);
        }
    }
    Err(missing())
}

/// A variant's name on the command line and what it holds, without its attributes.
fn variant(text: &str) -> Option<(String, &str)> {
    let mut text = text.trim();
    while text.starts_with('#') {
        text = text.split_once(']')?.1.trim_start();
    }
    let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
    let (name, holds) = text.split_at(end);
    (!name.is_empty()).then(|| (kebab(name), holds))
}

fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// Study files that the documents name exist.
pub(super) fn studies(repository: &Repository) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in current(repository) {
        for (at, _) in text.match_indices("studies/") {
            let is_name = |c: char| c.is_alphanumeric() || "_-/.".contains(c);
            let name = text[at..].split(|c| !is_name(c)).next().unwrap_or("");
            if name.ends_with(".toml") && repository.file(name).is_none() {
                let what = format!("names the study `{name}`, which does not exist");
                found.push(Finding::at(path, line(text, at), what));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::planted::files;
    use crate::tidy::shown;

    const SOURCE: &str = "#[derive(Subcommand)]\nenum Command {\n    /// Run, go, do.\n    \
        Run(run::Arguments),\n    #[command(subcommand)]\n    Model(model::Command),\n    \
        SelfTest { deep: bool },\n    Doctor,\n}\nfn main() {}\n";
    const MODEL: &str = "pub(crate) enum Command {\n    Pull,\n    Inspect {\n        /// A, b.\n        \
        path: Option<PathBuf>,\n    },\n}\n";

    fn with_readme(readme: &str) -> Repository {
        files(&[
            (COMMANDS, SOURCE),
            ("crates/forwhy/src/commands/model.rs", MODEL),
            ("README.md", readme),
            ("studies/quick.toml", ""),
        ])
    }

    #[test]
    fn the_tree_of_commands_is_read_from_the_source() {
        let tree = tree(&with_readme("")).unwrap();
        assert_eq!(tree.keys().collect::<Vec<_>>(), ["doctor", "model", "run", "self-test"]);
        assert_eq!(tree["model"], ["pull", "inspect"]);
        assert!(tree["run"].is_empty() && tree["self-test"].is_empty());
    }

    #[test]
    fn the_real_tree_of_commands_has_the_main_ones() {
        let tree = tree(&Repository::here().unwrap()).unwrap();
        assert!(tree.contains_key("run") && tree["model"].contains(&"pull".to_string()));
    }

    #[test]
    fn a_command_that_does_not_exist_is_found_with_its_line() {
        let readme = "forwhy is prose\n```sh\nforwhy run a.toml\n$ forwhy fly\nforwhy model push\n\
                      cargo run --release -- walk\ncargo xtask tset\n```\n";
        let expected = [
            "README.md:4: shows `forwhy fly`, which does not exist",
            "README.md:5: shows `forwhy model push`, but the verbs of model are pull|inspect",
            "README.md:6: shows `forwhy walk`, which does not exist",
            "README.md:7: shows `cargo xtask tset`, which does not exist",
        ];
        assert_eq!(shown(&commands(&with_readme(readme))), expected);
    }

    #[test]
    fn commands_that_exist_and_other_programs_pass() {
        let readme = "```\nforwhy --help\nforwhy model pull   # 93 MB\ncargo xtask test\ncargo build\n\
                      cargo run --release -p forwhy -- self-test\ncargo run -p other -- fly\n\
                      cargo run --example fly -- x\nforwhy doctor\n```\n";
        assert_eq!(shown(&commands(&with_readme(readme))), [""; 0]);
    }

    #[test]
    fn without_the_source_of_the_commands_the_rule_fails_instead_of_passing() {
        let found = shown(&commands(&files(&[("README.md", "")])));
        assert!(found[0].contains("the commands are unknown"), "{found:?}");
        let found = shown(&commands(&files(&[(COMMANDS, "enum Other {}")])));
        assert!(found[0].contains("no `enum Command {`"), "{found:?}");
    }

    #[test]
    fn a_study_that_does_not_exist_is_found() {
        let found = shown(&studies(&with_readme("studies/quick.toml,\nstudies/slow.toml")));
        assert_eq!(
            found,
            ["README.md:2: names the study `studies/slow.toml`, which does not exist"]
        );
    }
}
