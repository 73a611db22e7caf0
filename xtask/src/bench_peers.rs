//! `cargo xtask bench-peers`: our speed and memory beside those of the programs people would otherwise
//! use, in one paired run.
//!
//! 1. [`Options::parse`] reads the arguments; each file under `bench_peers/` gives the rows of a group.
//! 2. A row's two programs ([`turns`]) are started and warm up, then measure by turns, ours first, once
//!    a round; while one measures the other waits on its input.
//! 3. [`table`] takes the medians and the ratio, above 1 where ours is better.
//!
//! A peer that is not there is named with the reason, and its row has ours alone.

mod generate;
mod head;
mod requests;
mod table;
mod train;
mod turns;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use self::table::{Better, Line, Measure};
use self::turns::{Figures, NotHere, Programs};
use crate::repository::root;

/// The environment variable that names the Python environment of the peers.
const VENV: &str = "FORWHY_PEER_VENV";
/// Fewest rounds: a median of fewer says little on a machine with other work.
const LEAST_ROUNDS: usize = 5;

/// A pair of programs, and what is compared.
struct Row {
    /// Name of the row in the table.
    name: &'static str,
    /// What `--only` picks it by.
    group: &'static str,
    /// The two programs.
    programs: Programs,
    /// The argument of both.
    argument: &'static str,
    measures: &'static [Measure],
}

/// All rows, by group.
fn rows() -> Vec<Row> {
    [train::rows(), generate::rows(), head::rows(), requests::rows()]
        .into_iter()
        .flatten()
        .collect()
}

/// What to measure, and how to say it.
#[derive(Debug, PartialEq)]
struct Options {
    only: Vec<String>,
    rounds: usize,
    json: bool,
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Options { only: Vec::new(), rounds: LEAST_ROUNDS, json: false };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{argument} needs a value"));
            match *argument {
                "--json" => options.json = true,
                "--only" => options.only.push((*value()?).into()),
                "--rounds" => options.rounds = value()?.parse().context("--rounds: a number")?,
                other => bail!("bench-peers has no option `{other}`; see `cargo xtask help`"),
            }
        }
        if options.rounds < LEAST_ROUNDS {
            bail!("--rounds {}: expected at least {LEAST_ROUNDS}", options.rounds);
        }
        let groups: Vec<&str> = rows().iter().map(|row| row.group).collect();
        match options.only.iter().find(|only| !groups.contains(&only.as_str())) {
            Some(only) => bail!("--only {only}: no such rows; see `cargo xtask help`"),
            None => Ok(options),
        }
    }

    fn picks(&self, row: &Row) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == row.group)
    }
}

/// Measures the rows and prints the table, or JSON; what is under way goes to stderr.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let picked: Vec<Row> = rows().into_iter().filter(|row| options.picks(row)).collect();
    for programs in Programs::ALL {
        if picked.iter().any(|row| row.programs == programs) {
            programs.build()?;
        }
    }
    eprintln!("{}", machine());
    let python = python();
    let (mut lines, mut missing) = (Vec::new(), Vec::new());
    for row in &picked {
        match measure(row, options.rounds, &python)? {
            Measured::Here(more) => lines.extend(more),
            Measured::NotHere(why) => missing.push(format!("{}: not measured: {why}", row.name)),
        }
    }
    match options.json {
        true => println!("{}", table::json(&lines)),
        false => print!("{}", table::text(&lines)),
    }
    missing.iter().for_each(|line| eprintln!("{line}"));
    Ok(())
}

/// What came of a row.
enum Measured {
    Here(Vec<Line>),
    /// Our side cannot measure it on this machine, and says why.
    NotHere(String),
}

/// The lines of one row.
fn measure(row: &Row, rounds: usize, python: &Result<PathBuf, String>) -> Result<Measured> {
    let mut ours = match row.programs.ours(row.argument) {
        Ok(ours) => ours,
        Err(error) => match error.downcast_ref::<NotHere>() {
            Some(why) => return Ok(Measured::NotHere(why.to_string())),
            None => return Err(error),
        },
    };
    let peer = python.clone().and_then(|python| {
        row.programs.peer(&python, row.argument).map_err(|error| format!("{error:#}"))
    });
    let mut peer = match peer {
        Ok(peer) => {
            eprintln!("{}: {} against {}", row.name, ours.name, peer.name);
            Some(peer)
        }
        Err(why) => {
            eprintln!("{}: PEER MISSING: {why}", row.name);
            None
        }
    };
    let (mut our_rounds, mut peer_rounds): (Vec<Figures>, Vec<Figures>) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        our_rounds.push(ours.turn()?);
        if let Some(peer) = &mut peer {
            peer_rounds.push(peer.turn()?);
        }
        eprintln!("  round {round} of {rounds}");
    }
    let line = |measure: &Measure| Line::new(row.name, measure, &our_rounds, &peer_rounds);
    Ok(Measured::Here(row.measures.iter().map(line).collect::<Result<_>>()?))
}

/// The peers' Python, or why there is none.
fn python() -> Result<PathBuf, String> {
    let Some(venv) = std::env::var_os(VENV) else {
        return Err(format!("{VENV} is not set: name a Python environment with the peers"));
    };
    let python = PathBuf::from(venv).join("bin/python");
    match python.is_file() {
        true => Ok(python),
        false => Err(format!("{VENV}: there is no {}", python.display())),
    }
}

/// The processor and its vector instructions, as Linux names them.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
    };
    let wanted =
        |feature: &&str| ["avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"].contains(feature);
    let features: Vec<&str> = field("flags").split(' ').filter(wanted).collect();
    let name = match field("model name") {
        "" => "unknown processor",
        name => name,
    };
    format!(
        "{name}: {}; medians; one thread and CPU time where nothing else is said",
        features.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_wrong_ones_are_refused() {
        let parsed = Options::parse(&["--only", "train", "--json", "--rounds", "7"]).unwrap();
        assert_eq!(parsed, Options { only: vec!["train".into()], rounds: 7, json: true });
        let refused = |arguments: &[&str]| Options::parse(arguments).unwrap_err().to_string();
        assert!(refused(&["--only", "trane"]).contains("no such rows"));
        assert!(refused(&["--only"]).contains("needs a value"));
        assert!(refused(&["--rounds", "2"]).contains("at least 5"));
        assert!(refused(&["--fast"]).contains("no option"));
    }

    #[test]
    fn rows_have_names_of_their_own_and_all_are_measured_without_a_choice() {
        let all = rows();
        let options = Options::parse(&[]).unwrap();
        assert!(all.iter().all(|row| options.picks(row) && !row.measures.is_empty()));
        let mut names: Vec<&str> = all.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
    }
}
