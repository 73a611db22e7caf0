//! Words that no file may hold: marks of unfinished work, paths of one machine, hosts of package
//! registries (the user's own settings say where packages come from). The words are put together
//! from pieces here, so that the rule can read its own source.

use super::Finding;
use crate::repository::Repository;
use crate::rust::{line, whole_words};

const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const MACHINE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];
const HOSTS: [&str; 5] = [
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
];

/// Written by cargo, which puts the registry's name there.
const LOCK_FILE: &str = "Cargo.lock";

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let texts = repository.files.iter().filter_map(|f| Some((f.path.as_str(), f.text.as_deref()?)));
    texts.flat_map(|(path, text)| in_text(path, text)).collect()
}

fn in_text(path: &str, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut report = |at: usize, word: &str, why: &str| {
        found.push(Finding::at(path, line(text, at), format!("`{word}`: {why}")));
    };
    for word in UNFINISHED {
        for at in whole_words(text, word) {
            report(at, word, "finish it, or write an issue");
        }
    }
    for word in MACHINE_PATHS {
        let places = text.match_indices(word).map(|(at, _)| at);
        for at in places.filter(|at| starts_path(text, *at)) {
            report(at, word, "a path of one machine");
        }
    }
    for word in HOSTS.into_iter().filter(|_| path != LOCK_FILE) {
        for at in whole_words(text, word) {
            report(at, word, "the user's own settings say where packages come from");
        }
    }
    found
}

/// Whether the slash at `at` begins a path, and does not go on with one.
fn starts_path(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    before.is_none_or(|c| !(c.is_alphanumeric() || "_-./".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::planted::files;
    use crate::tidy::shown;

    #[test]
    fn each_word_is_found_with_its_line() {
        for word in [&UNFINISHED[..], &MACHINE_PATHS, &HOSTS].concat() {
            let text = format!("first line\nsee {word}: later\n");
            for path in ["README.md", "crates/forwhy-lab/src/lib.rs", "assets/data/a.jsonl"] {
                let found = shown(&check(&files(&[(path, &text)])));
                assert_eq!(found.len(), 1, "{word} in {path}");
                assert!(found[0].starts_with(&format!("{path}:2: `{word}`")), "{found:?}");
            }
        }
    }

    #[test]
    fn parts_of_other_words_and_paths_are_let_be() {
        let text = format!(
            "{}S {}X src{} ./a{}b",
            UNFINISHED[0], UNFINISHED[2], MACHINE_PATHS[0], MACHINE_PATHS[1]
        );
        assert!(check(&files(&[("a.md", &text)])).is_empty());
    }

    #[test]
    fn the_lock_file_may_name_the_registry_and_nothing_else() {
        let text = format!("source = \"{}\"\n{}", HOSTS[0], UNFINISHED[0]);
        assert_eq!(check(&files(&[(LOCK_FILE, &text)])).len(), 1);
    }
}
