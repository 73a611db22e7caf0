//! Files stay small enough to read in one sitting.

use super::{Exception, Finding, excuse};
use crate::repository::Repository;

/// Lines of a Rust file, with its tests.
const MOST_LINES: usize = 800;
/// Lines of a `lib.rs`, which is a table of contents.
const MOST_LINES_LIB: usize = 150;
/// Lines of ARCHITECTURE.md, which is a map.
const MOST_LINES_MAP: usize = 400;

/// Longer files.
const LONG: [Exception; 0] = [];

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let findings = repository.files.iter().filter_map(|file| {
        let (most, advice) = limit(&file.path)?;
        let lines = file.text.as_deref()?.lines().count();
        let what = || format!("has {lines} lines, at most {most} are allowed; {advice}");
        (lines > most).then(|| Finding::of(&file.path, what()))
    });
    excuse(findings.collect(), &LONG)
}

fn limit(path: &str) -> Option<(usize, &'static str)> {
    match path.rsplit('/').next()? {
        "lib.rs" => Some((MOST_LINES_LIB, "move code to modules")),
        name if name.ends_with(".rs") => Some((MOST_LINES, "split it")),
        "ARCHITECTURE.md" => Some((MOST_LINES_MAP, "it is a map, not a manual")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::planted::files;
    use crate::tidy::shown;

    #[test]
    fn files_that_are_too_long_are_found() {
        for (name, most) in [("a.rs", 800), ("lib.rs", 150), ("ARCHITECTURE.md", 400)] {
            let path = format!("crates/forwhy-lab/src/{name}");
            assert!(check(&files(&[(&path, &"a\n".repeat(most))])).is_empty(), "{name}");
            let found = shown(&check(&files(&[(&path, &"a\n".repeat(most + 1))])));
            assert_eq!(found.len(), 1, "{name}");
            assert!(found[0].contains(&format!("has {} lines, at most {most}", most + 1)));
        }
    }

    #[test]
    fn other_files_have_no_limit() {
        assert!(check(&files(&[("assets/data.jsonl", &"a\n".repeat(9000))])).is_empty());
    }
}
