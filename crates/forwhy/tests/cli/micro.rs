//! A micro study in a temporary folder, and the program run on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

use forwhy_core::results::Results;
use forwhy_testkit::micro_study::{micro_study, write};
use serde_json::Value;
use tempfile::TempDir;

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn new(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The outcome as one text for a snapshot.
    pub(crate) fn all(&self) -> String {
        format!("exit {:?}\n--- stdout\n{}--- stderr\n{}", self.code, self.out, self.err)
    }

    /// Asserts the exit code, showing everything if it is another.
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.all());
        self
    }
}

/// A folder with a micro study; commands run in it and see no model and no cache but its own.
pub(crate) struct Micro {
    dir: TempDir,
}

impl Micro {
    /// A new study that has not been run.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        micro_study(dir.path()).unwrap();
        Micro { dir }
    }

    /// A study with a finished run in the folder `run`.
    pub(crate) fn finished() -> Self {
        let micro = Micro::new();
        copy(&reference().join("run"), &micro.path("run"));
        micro
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        write(&self.path(name), text).unwrap();
    }

    /// Replaces `from`, which must be there, once.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} holds no {from:?}");
        self.write(name, &text.replacen(from, to, 1));
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        command_in(self.dir.path(), arguments)
    }

    pub(crate) fn forwhy(&self, arguments: &[&str]) -> Said {
        Said::new(self.command(arguments).output().unwrap())
    }

    /// `forwhy run study.toml --folder run`.
    pub(crate) fn run(&self) -> Said {
        self.forwhy(&RUN)
    }

    /// The same, not waited for.
    pub(crate) fn start(&self) -> Child {
        let mut command = self.command(&RUN);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The results of `run`, times left out.
    pub(crate) fn results(&self) -> Value {
        results_in(&self.path("run"))
    }

    /// Names of everything that is not part of a fresh study.
    pub(crate) fn created(&self) -> Vec<String> {
        let fresh = ["assets", "model", "study.toml"];
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|n| !fresh.contains(&n.as_str())).collect()
    }
}

pub(crate) const RUN: [&str; 4] = ["run", "study.toml", "--folder", "run"];

/// Waits for a started command.
pub(crate) fn wait(child: Child) -> Said {
    Said::new(child.wait_with_output().unwrap())
}

pub(crate) fn command_in(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forwhy"));
    command.args(arguments).current_dir(dir).stdin(Stdio::null());
    command.env_remove("FORWHY_MODELS").env_remove("COLUMNS");
    // the same numbers on every machine
    command.env("FORWHY_KERNELS", "f32");
    command.env("HOME", dir.join("home")).env("XDG_CACHE_HOME", dir.join("cache"));
    command
}

/// A finished run that nobody changes, made once for all tests.
pub(crate) fn reference() -> &'static Path {
    static REFERENCE: OnceLock<PathBuf> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("micro-study");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).unwrap();
        }
        micro_study(&dir).unwrap();
        Said::new(command_in(&dir, &RUN).output().unwrap()).ends(0);
        dir
    })
}

/// Results of a run folder without times, read strictly first.
pub(crate) fn results_in(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("results.json")).unwrap();
    Results::from_json(&text).unwrap();
    let mut value = serde_json::from_str(&text).unwrap();
    redact(&mut value);
    value
}

/// Takes out what differs between two runs of the same study.
fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                if key.ends_with("_secs") || key == "started" || key == "finished" {
                    *value = Value::from("redacted");
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

/// All files below `folder` with their time of change.
pub(crate) fn changed_at(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let mut all = BTreeMap::new();
    for path in forwhy_store::list(folder).unwrap() {
        if path.is_dir() {
            all.extend(changed_at(&path));
        } else {
            let time = std::fs::metadata(&path).unwrap().modified().unwrap();
            all.insert(path, time);
        }
    }
    all
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for path in forwhy_store::list(from).unwrap() {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// The lines of a file of records.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(String::from).collect()
}
