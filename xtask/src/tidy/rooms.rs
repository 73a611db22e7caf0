//! No empty rooms: a crate exists when it has something in it.

use super::Finding;
use crate::repository::{Package, Repository};

/// Lines of code, comments and tests left out.
const LEAST_LINES: usize = 30;

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let of = |package: &Package| {
        let lines = code_lines(repository, package);
        let what = format!(
            "has {lines} lines of code; a crate has at least {LEAST_LINES}, or it does not exist"
        );
        (lines < LEAST_LINES).then(|| Finding::of(&package.folder, what))
    };
    repository.packages.iter().filter_map(of).collect()
}

fn code_lines(repository: &Repository, package: &Package) -> usize {
    let sources = format!("{}/src/", package.folder);
    let inside = repository.rust().filter(|(f, _)| f.path.starts_with(&sources) && !f.is_test);
    inside.map(|(_, source)| source.code_lines()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::planted::files;
    use crate::tidy::shown;

    #[test]
    fn a_crate_of_comments_and_tests_is_an_empty_room() {
        let lib = "//! Much to come.\n".repeat(50)
            + "#[cfg(test)]\nmod tests {\n"
            + &"    fn a() {}\n".repeat(50)
            + "}\npub fn b() {}\n";
        let here = files(&[("crates/forwhy-attic/src/lib.rs", &lib)]);
        let found = shown(&check(&here));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("crates/forwhy-attic: has 1 lines of code"), "{found:?}");
    }

    #[test]
    fn code_in_modules_counts() {
        let module = "pub fn a() {}\n".repeat(LEAST_LINES);
        let here =
            files(&[("crates/forwhy-lab/src/lib.rs", ""), ("crates/forwhy-lab/src/a.rs", &module)]);
        assert!(check(&here).is_empty());
    }
}
