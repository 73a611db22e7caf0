//! `cargo xtask faults`: the tests that are named after a fault.
//!
//! A fault is something that goes wrong outside of our code (a crash, a full disk, a hostile file)
//! and has a number. A test that plants one is named `fault_NN_what_must_happen`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::repository::Repository;

/// What each fault is, by number from 1.
const FAULTS: [&str; 40] = [
    "killed at any point, then resumed",
    "killed while resuming",
    "torn last record",
    "flipped bit in a segment",
    "disk full",
    "two processes on one run folder",
    "resumed after a change of configuration",
    "resumed with more samples",
    "usage and time across resumes",
    "file system without locks",
    "log of five gigabytes",
    "too many requests",
    "provider overloaded",
    "refused for good (400 to 404)",
    "server that stalls",
    "connection reset after the request",
    "success without an answer",
    "answer cut off or filtered",
    "provider down throughout",
    "healthy endpoint that never answers",
    "hostile bytes in an answer",
    "killed worker of a cluster",
    "missing shard reported as success",
    "one shard run twice",
    "verdict that cannot be read",
    "judge that refuses",
    "forged verdict in a transcript",
    "instructions to the auditor",
    "turns without text",
    "branches and prefills",
    "budget under many calls at once",
    "unknown price",
    "secrets in records",
    "key sent to another host",
    "hostile text in a page",
    "path that leaves the folder",
    "request from another site",
    "hostile names in a simulated world",
    "hostile model file",
    "bad data file",
];

/// A test that plants a fault.
struct Test<'a> {
    name: &'a str,
    path: &'a str,
    line: usize,
}

/// The tests of each fault with their places, then the faults without one.
pub(crate) fn overview(repository: &Repository) -> String {
    let tests = tests(repository);
    let mut out = String::new();
    for (number, tests) in &tests {
        let what = number.checked_sub(1).and_then(|i| FAULTS.get(i));
        let what = what.copied().unwrap_or("no such fault; the numbers end at 40");
        writeln!(out, "{number:2}  {what}").ok();
        for test in tests {
            writeln!(out, "      {}  {}:{}", test.name, test.path, test.line).ok();
        }
    }
    let missing: Vec<usize> = (1..=FAULTS.len()).filter(|n| !tests.contains_key(n)).collect();
    let with = FAULTS.len() - missing.len();
    let count: usize = tests.values().map(Vec::len).sum();
    writeln!(out, "\n{count} tests of {with} faults; without a test:").ok();
    for number in missing {
        writeln!(out, "{number:2}  {}", FAULTS[number - 1]).ok();
    }
    out
}

fn tests(repository: &Repository) -> BTreeMap<usize, Vec<Test<'_>>> {
    let mut tests: BTreeMap<usize, Vec<Test>> = BTreeMap::new();
    for (file, source) in repository.rust() {
        for (at, _) in source.code.match_indices("fn fault_") {
            let name = &source.code[at + "fn ".len()..];
            let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_'));
            let name = &name[..end.unwrap_or(name.len())];
            let number = name.split('_').nth(1).and_then(|n| n.parse().ok());
            if let Some(number) = number {
                let test = Test { name, path: &file.path, line: source.line(at) };
                tests.entry(number).or_default().push(test);
            }
        }
    }
    tests
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::planted::files;

    #[test]
    fn tests_are_listed_by_fault_with_their_places() {
        let here = files(&[(
            "crates/forwhy-store/src/lock.rs",
            "#[test]\nfn fault_6_second_is_refused() {}\n// fn fault_7_in_a_comment()\n",
        )]);
        let overview = overview(&here);
        let expected = " 6  two processes on one run folder\n      \
                        fault_6_second_is_refused  crates/forwhy-store/src/lock.rs:2\n";
        assert!(overview.starts_with(expected), "{overview}");
        assert!(overview.contains("1 tests of 1 faults"));
        assert!(overview.contains("\n 7  resumed after a change of configuration\n"));
    }

    #[test]
    fn a_number_without_a_fault_is_said() {
        let here = files(&[("a.rs", "fn fault_41_x() {}\nfn fault_0_y() {}")]);
        assert_eq!(overview(&here).matches("no such fault").count(), 2);
    }
}
