//! Who may use whom. The table is the one of ARCHITECTURE.md; a crate that is not in it has no
//! place in the house yet.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use crate::repository::{Package, Repository};

/// A crate and the crates of ours that it may use, without the prefix `forwhy-`.
type Room = (&'static str, &'static [&'static str]);

const HOUSE: [Room; 15] = [
    ("core", &[]),
    ("stats", &[]),
    ("store", &["core"]),
    ("model", &["core", "store"]),
    ("engine", &["core", "store"]),
    ("arena", &["core", "stats"]),
    ("evals", &["core", "stats", "store", "arena"]),
    ("forge", &["core", "stats", "store", "arena"]),
    ("train", &["core", "store", "arena", "engine"]),
    ("serve", &["core", "store", "model", "engine", "arena"]),
    ("lab", &["core", "stats", "store", "model", "engine", "arena", "evals", "forge", "train"]),
    ("report", &["core"]),
    (
        "forwhy",
        &[
            "core", "stats", "store", "model", "engine", "arena", "evals", "forge", "train",
            "serve", "lab", "report",
        ],
    ),
    ("testkit", &["core"]),
    ("xtask", &[]),
];

/// Used for training, so that no way may lead from it to [`HELD_OUT`].
const TRAINING: [&str; 2] = ["forge", "train"];
const HELD_OUT: &str = "evals";
/// What any crate may use for its tests.
const FIXTURES: &str = "testkit";

/// Crates that open sockets, and the crates of ours that may.
const SOCKET_CRATES: [&str; 10] = [
    "attohttpc",
    "axum",
    "curl",
    "hyper",
    "isahc",
    "reqwest",
    "tokio",
    "tonic",
    "tungstenite",
    "ureq",
];
pub(super) const SPEAKERS: [&str; 2] = ["forwhy-model", "forwhy-serve"];

/// Every dependency among our crates is allowed by the table.
pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    repository.packages.iter().flat_map(|p| of_package(p, &repository.packages)).collect()
}

fn of_package(package: &Package, all: &[Package]) -> Vec<Finding> {
    let Some((_, allowed)) = HOUSE.iter().find(|(name, _)| *name == short(&package.name)) else {
        let what = "is not in the table of layers (xtask/src/tidy/layers.rs)";
        return vec![Finding::of(&package.name, what.into())];
    };
    let ours = package.dependencies.iter().filter(|d| all.iter().any(|p| p.name == d.name));
    ours.filter(|d| {
        let name = short(&d.name);
        !(allowed.contains(&name) || d.is_dev && (name == FIXTURES || d.name == package.name))
    })
    .map(|d| {
        let how = if d.is_dev { "its tests use" } else { "uses" };
        let may = if allowed.is_empty() { "nothing of ours".into() } else { allowed.join(", ") };
        let fixtures = if d.is_dev { ", and testkit for its tests" } else { "" };
        let what = format!("{how} {}, but it may use only: {may}{fixtures}", d.name);
        Finding::of(&package.name, what)
    })
    .collect()
}

/// Nothing that is used for training reaches the evaluations, directly, through others, or in tests.
pub(super) fn held_out(repository: &Repository) -> Vec<Finding> {
    let packages = &repository.packages;
    let path_to_evals = |from: &str| {
        let package = packages.iter().find(|p| short(&p.name) == from)?;
        let path = path(packages, &package.name, &format!("forwhy-{HELD_OUT}"))?;
        let what = format!(
            "reaches the held-out evaluations through {}; training must never see them",
            path.join(" -> ")
        );
        Some(Finding::of(&package.name, what))
    };
    TRAINING.iter().filter_map(|from| path_to_evals(from)).collect()
}

/// A shortest chain of dependencies of any kind from one crate of ours to another.
fn path<'a>(packages: &'a [Package], from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let by_name: BTreeMap<&str, &Package> = packages.iter().map(|p| (p.name.as_str(), p)).collect();
    let mut seen = BTreeSet::from([from]);
    let mut ways = vec![vec![from]];
    while !ways.is_empty() {
        if let Some(way) = ways.iter().find(|way| way.last().is_some_and(|end| *end == to)) {
            return Some(way.clone());
        }
        let mut longer = Vec::new();
        for way in &ways {
            let Some(package) = way.last().and_then(|end| by_name.get(end)) else { continue };
            for next in package.dependencies.iter().map(|d| d.name.as_str()) {
                if seen.insert(next) {
                    longer.push([way.as_slice(), &[next]].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

/// Only [`SPEAKERS`] depend on a crate that opens sockets.
pub(super) fn sockets(repository: &Repository) -> Vec<Finding> {
    let silent = repository.packages.iter().filter(|p| !SPEAKERS.contains(&p.name.as_str()));
    silent
        .flat_map(|p| p.dependencies.iter().map(move |d| (p, d)))
        .filter(|(_, d)| SOCKET_CRATES.contains(&d.name.as_str()))
        .map(|(p, d)| {
            let what = format!("uses {}; only {} open sockets", d.name, SPEAKERS.join(" and "));
            Finding::of(&p.name, what)
        })
        .collect()
}

fn short(name: &str) -> &str {
    name.strip_prefix("forwhy-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::planted::{package, packages};
    use crate::tidy::shown;

    /// The layers as they should be, in short.
    fn house() -> Vec<Package> {
        vec![
            package("forwhy-core", &["serde"], &["proptest", "forwhy-testkit"]),
            package("forwhy-arena", &["forwhy-core"], &[]),
            package("forwhy-evals", &["forwhy-arena", "forwhy-core"], &[]),
            package("forwhy-train", &["forwhy-arena"], &["forwhy-testkit"]),
            package("forwhy-forge", &["forwhy-arena"], &[]),
            package("forwhy-testkit", &["forwhy-core"], &[]),
            package("forwhy", &["forwhy-evals", "forwhy-train", "forwhy-forge"], &[]),
        ]
    }

    fn with(name: &str, uses: &[&str], dev: &[&str]) -> Repository {
        let mut all = house();
        all.retain(|p| p.name != name);
        all.push(package(name, uses, dev));
        packages(all)
    }

    /// Holds for the repository as it is, whatever the other rules say.
    #[test]
    fn nothing_used_for_training_depends_on_the_evaluations() {
        let here = Repository::here().unwrap();
        for name in TRAINING {
            assert!(here.packages.iter().any(|p| short(&p.name) == name), "{name} is gone");
        }
        assert!(here.packages.iter().any(|p| short(&p.name) == HELD_OUT));
        assert_eq!(shown(&held_out(&here)), [""; 0]);
    }

    #[test]
    fn the_layers_of_this_repository_hold() {
        let here = Repository::here().unwrap();
        assert_eq!(shown(&check(&here)), [""; 0]);
        assert_eq!(shown(&sockets(&here)), [""; 0]);
    }

    #[test]
    fn a_sound_house_has_no_findings() {
        let here = packages(house());
        assert!(check(&here).is_empty() && held_out(&here).is_empty());
    }

    #[test]
    fn a_use_against_the_layers_is_found() {
        let found = shown(&check(&with("forwhy-core", &["forwhy-arena"], &[])));
        let expected = ["forwhy-core: uses forwhy-arena, but it may use only: nothing of ours"];
        assert_eq!(found, expected);
    }

    #[test]
    fn tests_may_add_the_fixtures_and_nothing_else() {
        let found = shown(&check(&with("forwhy-forge", &[], &["forwhy-train"])));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("forwhy-forge: its tests use forwhy-train"), "{found:?}");
        let found = shown(&check(&with("forwhy-forge", &["forwhy-testkit"], &[])));
        assert!(found[0].starts_with("forwhy-forge: uses forwhy-testkit"), "{found:?}");
    }

    #[test]
    fn a_crate_outside_the_table_is_found() {
        let found = shown(&check(&packages(vec![package("forwhy-attic", &[], &[])])));
        assert!(found[0].contains("forwhy-attic: is not in the table of layers"), "{found:?}");
    }

    #[test]
    fn a_way_to_the_evaluations_is_found_direct_indirect_and_in_tests() {
        let direct = with("forwhy-train", &["forwhy-evals"], &[]);
        let indirect = with("forwhy-arena", &["forwhy-evals"], &[]);
        let in_tests = with("forwhy-forge", &[], &["forwhy-evals"]);
        assert_eq!(shown(&held_out(&direct)).len(), 1);
        assert_eq!(shown(&held_out(&indirect)).len(), 2);
        let found = shown(&held_out(&in_tests));
        assert!(found[0].contains("through forwhy-forge -> forwhy-evals"), "{found:?}");
    }

    #[test]
    fn a_crate_that_opens_sockets_is_found() {
        let found = shown(&sockets(&with("forwhy-arena", &["reqwest"], &[])));
        assert!(found[0].starts_with("forwhy-arena: uses reqwest"), "{found:?}");
        assert!(sockets(&with("forwhy-model", &["reqwest"], &[])).is_empty());
    }
}
