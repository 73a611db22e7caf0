//! A program that measures once for each line that it is sent, and answers with a line of JSON.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::root;

/// What is built and run with cargo for our side of the engine's rows; an example, so that no user
/// gets it.
const EXAMPLE: [&str; 5] = ["--release", "-p", "forwhy-engine", "--example", "peer_turns"];
/// The peers' side of them.
const ENGINES_PEER: &str = "crates/forwhy-engine/scripts/peer_turns.py";
/// Both sides of the rows of requests: it measures other processes.
const REQUESTS: &str = "crates/forwhy-serve/scripts/peer_requests.py";

/// Figures by name.
pub(super) type Figures = Map<String, Value>;

/// What a program says that cannot measure its row on this machine.
#[derive(Debug)]
pub(super) struct NotHere(String);

impl std::error::Error for NotHere {}

impl std::fmt::Display for NotHere {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        to.write_str(&self.0)
    }
}

/// A started program.
pub(super) struct Player {
    /// Who it says it is: program and versions.
    pub(super) name: String,
    child: Child,
    /// None: told to end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// The two programs of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Programs {
    /// The engine, against PyTorch and transformers.
    Engine,
    /// `forwhy ask`, against inspect_ai.
    Requests,
}

impl Programs {
    pub(super) const ALL: [Programs; 2] = [Programs::Engine, Programs::Requests];

    /// Builds our side, so that no measurement waits for it.
    pub(super) fn build(self) -> Result<()> {
        let arguments: &[&str] = match self {
            Programs::Engine => &EXAMPLE,
            Programs::Requests => &["--release", "-p", "forwhy"],
        };
        let status = cargo().arg("build").args(arguments).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "cargo build {} failed", arguments.join(" "));
        Ok(())
    }

    /// Our side.
    pub(super) fn ours(self, argument: &str) -> Result<Player> {
        let player = match self {
            Programs::Engine => {
                Player::start(cargo().args(["run", "--quiet"]).args(EXAMPLE).args(["--", argument]))
            }
            Programs::Requests => requests(Path::new("python3"), "ours"),
        };
        player.context("our side")
    }

    /// The peer's side.
    pub(super) fn peer(self, python: &Path, argument: &str) -> Result<Player> {
        match self {
            Programs::Engine => {
                Player::start(Command::new(python).arg(root().join(ENGINES_PEER)).arg(argument))
            }
            Programs::Requests => requests(python, "peer"),
        }
    }
}

fn requests(python: &Path, side: &str) -> Result<Player> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), Into::into);
    let forwhy = target.join("release/forwhy");
    Player::start(Command::new(python).arg(root().join(REQUESTS)).arg(side).arg(forwhy))
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

impl Player {
    /// Starts it and waits until it says that it is ready.
    fn start(command: &mut Command) -> Result<Self> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = BufReader::new(output.context("it has no output")?);
        let mut player = Player { name: String::new(), child, input, output };
        let said = player.hear()?;
        let text = |key: &str| said.get(key).and_then(Value::as_str);
        match (text("ready"), text("not_here")) {
            (Some(name), _) => player.name = name.into(),
            (None, Some(why)) => return Err(NotHere(why.into()).into()),
            (None, None) => bail!("it said {said:?} in place of who it is"),
        }
        Ok(player)
    }

    /// One measurement.
    pub(super) fn turn(&mut self) -> Result<Figures> {
        let input = self.input.as_mut().context("it was told to end")?;
        input.write_all(b"go\n").context("it no longer listens")?;
        self.hear()
    }

    fn hear(&mut self) -> Result<Figures> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "it ended without an answer; what it said is above");
        figures(&line)
    }
}

impl Drop for Player {
    /// Ends it: a closed input is its end.
    fn drop(&mut self) {
        self.input = None;
        if let Err(error) = self.child.wait() {
            eprintln!("{}: {error}", self.name);
        }
    }
}

fn figures(line: &str) -> Result<Figures> {
    match serde_json::from_str(line) {
        Ok(Value::Object(figures)) => Ok(figures),
        _ => bail!("it said {:?}, expected a line of JSON", line.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Player> {
        Player::start(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn a_program_answers_each_turn() {
        let script = r#"echo '{"ready":"me 1"}'; while read x; do echo '{"cpu_secs":2}'; done"#;
        let mut player = shell(script).unwrap();
        assert_eq!(player.name, "me 1");
        for _ in 0..2 {
            assert_eq!(player.turn().unwrap()["cpu_secs"], 2);
        }
    }

    #[test]
    fn a_program_that_cannot_measure_here_says_why() {
        let error = shell(r#"echo '{"not_here":"no bf16"}'"#).err().unwrap();
        assert_eq!(error.downcast_ref::<NotHere>().unwrap().to_string(), "no bf16");
    }

    #[test]
    fn a_program_that_fails_or_babbles_is_an_error() {
        assert!(shell("exit 1").is_err());
        let error = shell("echo hello").err().unwrap().to_string();
        assert!(error.contains("\"hello\", expected a line of JSON"), "{error}");
        let mut ends = shell(r#"echo '{"ready":"x"}'"#).unwrap();
        assert!(ends.turn().is_err());
    }
}
