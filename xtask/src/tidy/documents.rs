//! The documents are there, name what is there, and their links lead somewhere.

use super::Finding;
use super::prompts::resolve;
use crate::repository::Repository;
use crate::rust::{line, whole_words};

/// What a newcomer expects at the root.
const REQUIRED: [&str; 9] = [
    ".ci/run",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "DESIGN.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "LOG.md",
    "README.md",
];
const MAP: &str = "ARCHITECTURE.md";
/// Tell what was, so they may name what is gone.
const HISTORY: [&str; 2] = ["CHANGELOG.md", "LOG.md"];
/// Folders whose paths are checked where a document names them in code type.
const FOLDERS: [&str; 6] = ["assets/", "crates/", "docs/", "scripts/", "studies/", "xtask/"];

/// The documents that describe the repository as it is: those at the root and in `docs/`.
pub(super) fn current(repository: &Repository) -> impl Iterator<Item = (&str, &str)> {
    let is_current = |path: &str| {
        path.ends_with(".md")
            && (!path.contains('/') || path.starts_with("docs/"))
            && !HISTORY.contains(&path)
    };
    let texts = repository.files.iter().filter_map(|f| Some((f.path.as_str(), f.text.as_deref()?)));
    texts.filter(move |(path, _)| is_current(path))
}

pub(super) fn exist(repository: &Repository) -> Vec<Finding> {
    let missing = REQUIRED.iter().filter(|path| repository.file(path).is_none());
    missing.map(|path| Finding::of(path, "is missing; write it".into())).collect()
}

pub(super) fn crates_are_named(repository: &Repository) -> Vec<Finding> {
    // A map that is missing is reported by `exist`; here every crate of it is missing too.
    let map = repository.text(MAP).unwrap_or("");
    let unnamed = repository.packages.iter().filter(|p| !names(map, &p.name));
    unnamed
        .map(|p| {
            Finding::of(MAP, format!("does not name the crate {}; say what it is for", p.name))
        })
        .collect()
}

/// Whether `text` has `name` where neither letter nor hyphen continues it.
fn names(text: &str, name: &str) -> bool {
    let bare = |c: Option<char>| c.is_none_or(|c| c != '-');
    whole_words(text, name).into_iter().any(|at| {
        bare(text[..at].chars().next_back()) && bare(text[at + name.len()..].chars().next())
    })
}

/// Links of the Markdown files to files of the repository.
pub(super) fn links(repository: &Repository) -> Vec<Finding> {
    let markdown = repository.files.iter().filter(|f| f.path.ends_with(".md"));
    let mut found = Vec::new();
    for (path, text) in markdown.filter_map(|f| Some((f.path.as_str(), f.text.as_deref()?))) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (at, target) in targets(text) {
            let there =
                resolve(folder, target).is_some_and(|to| to.is_empty() || repository.has(&to));
            if !there {
                let what = format!("links to `{target}`, which does not exist");
                found.push(Finding::at(path, line(text, at), what));
            }
        }
    }
    found
}

/// Targets of `[text](target)` outside of code blocks that are files, without their anchors.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let blocks = code_blocks(text);
    let in_block = |at: usize| blocks.iter().any(|b| b.contains(&at));
    let links = text.match_indices("](").map(|(at, _)| at + 2).filter(|at| !in_block(*at));
    links
        .filter_map(|at| {
            let target = text[at..].split([')', ' ', '\n']).next()?;
            let file = target.split('#').next()?;
            let outside = target.contains("://") || target.starts_with("mailto:");
            (!outside && !file.is_empty()).then_some((at, file))
        })
        .collect()
}

/// The insides of fenced code blocks.
pub(super) fn code_blocks(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut blocks = Vec::new();
    let mut open: Option<usize> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let next = at + line.len();
        if line.trim_start().starts_with("```") {
            match open.take() {
                Some(start) => blocks.push(start..at),
                None => open = Some(next),
            }
        }
        at = next;
    }
    blocks.extend(open.map(|start| start..text.len()));
    blocks
}

/// Paths in code type, such as `crates/forwhy-core`, in documents that say how things are.
pub(super) fn paths(repository: &Repository) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in current(repository) {
        let mut at = 0;
        for (index, piece) in text.split('`').enumerate() {
            let is_path = index % 2 == 1 && FOLDERS.iter().any(|f| piece.starts_with(f));
            let is_plain = !piece.contains(|c: char| c.is_whitespace() || "<>*{}$:".contains(c));
            if is_path && is_plain && !repository.has(piece) {
                let what = format!("names `{piece}`, which does not exist");
                found.push(Finding::at(path, line(text, at), what));
            }
            at += piece.len() + 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::planted::{files, package, packages};
    use crate::tidy::shown;

    #[test]
    fn a_missing_document_is_named() {
        let there: Vec<(&str, &str)> =
            REQUIRED.iter().filter(|p| **p != "LOG.md").map(|p| (*p, "text")).collect();
        assert_eq!(shown(&exist(&files(&there))), ["LOG.md: is missing; write it"]);
    }

    #[test]
    fn a_crate_that_the_map_leaves_out_is_found() {
        let mut here = packages(vec![package("forwhy", &[], &[]), package("forwhy-lab", &[], &[])]);
        assert_eq!(crates_are_named(&here).len(), 2, "no map at all");
        here.files = files(&[(MAP, "| forwhy-lab | studies |\nforwhyish, pre-forwhy")]).files;
        let found = shown(&crates_are_named(&here));
        assert_eq!(found, ["ARCHITECTURE.md: does not name the crate forwhy; say what it is for"]);
        here.files = files(&[(MAP, "`forwhy-lab`, then `forwhy`.")]).files;
        assert!(crates_are_named(&here).is_empty());
    }

    #[test]
    fn a_link_to_nothing_is_found_with_its_line() {
        let text = "[a](docs/a.md) [b](docs/gone.md#x)\n[c](https://x.y/z) [d](#there) [e](docs/)\n\
                    ```\n[f](gone)\n```\n[g](../out.md)";
        let here = files(&[("README.md", text), ("docs/a.md", "[up](../README.md) [no](b.md)")]);
        let expected = [
            "README.md:1: links to `docs/gone.md`, which does not exist",
            "README.md:6: links to `../out.md`, which does not exist",
            "docs/a.md:1: links to `b.md`, which does not exist",
        ];
        assert_eq!(shown(&links(&here)), expected);
    }

    #[test]
    fn a_path_that_is_gone_is_found_but_not_in_the_history() {
        let text = "`crates/forwhy-a/src/lib.rs`, `crates/gone.rs`,\n`crates/<name>/src`, `studies/*.toml`, `x/y`";
        let here = files(&[
            (MAP, text),
            ("LOG.md", "`crates/older.rs`"),
            ("crates/forwhy-a/src/lib.rs", ""),
        ]);
        let expected = ["ARCHITECTURE.md:1: names `crates/gone.rs`, which does not exist"];
        assert_eq!(shown(&paths(&here)), expected);
    }

    #[test]
    fn a_code_block_that_never_ends_reaches_the_end() {
        assert_eq!(code_blocks("a\n```\nb\n```\nc\n```sh\nd"), [6..8, 20..21]);
    }
}
