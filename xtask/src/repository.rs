//! What the rules look at: the files that git knows or would add, and the crates as cargo sees
//! them. Rules are functions of a [`Repository`], so that tests can plant faults in a small one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::rust::Source;

/// The state of the working tree.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    /// Sorted by path.
    pub(crate) files: Vec<File>,
    /// The crates of the workspace.
    pub(crate) packages: Vec<Package>,
}

/// A file.
#[derive(Debug)]
pub(crate) struct File {
    /// From the root, with forward slashes.
    pub(crate) path: String,
    /// The content, or None where it is not text.
    pub(crate) text: Option<String>,
    /// The parsed content of a Rust file.
    pub(crate) rust: Option<Source>,
    /// Whether all of it is only compiled for tests, examples, benches or build scripts.
    pub(crate) is_test: bool,
}

/// A crate of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// The crate's folder from the root.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
}

/// A dependency of a crate.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Whether only tests, examples and benches use it.
    pub(crate) is_dev: bool,
}

impl Repository {
    /// The repository that this tool was built in.
    pub(crate) fn here() -> Result<Self> {
        let root = root();
        let mut files = Vec::new();
        for path in listed(&root)? {
            let full = root.join(&path);
            // Git also lists what was deleted and not yet committed.
            if full.is_file() {
                let bytes = std::fs::read(&full).with_context(|| format!("cannot read {path}"))?;
                files.push((path, text_of(bytes)));
            }
        }
        Ok(Self::new(files, packages(&root)?))
    }

    /// A repository of these files and crates.
    pub(crate) fn new(files: Vec<(String, Option<String>)>, packages: Vec<Package>) -> Self {
        let mut files: Vec<File> = files
            .into_iter()
            .map(|(path, text)| {
                let rust = text.as_deref().filter(|_| path.ends_with(".rs")).map(Source::parse);
                let is_test = is_test_path(&path);
                File { path, text, rust, is_test }
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let declared: BTreeSet<String> = files
            .iter()
            .filter_map(|f| Some((f, f.rust.as_ref()?)))
            .flat_map(|(file, source)| source.test_modules(&file.path))
            .collect();
        for file in &mut files {
            file.is_test |= declared.contains(&file.path);
        }
        Self { files, packages }
    }

    /// The text of the file at `path`, if it is there and is text.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.file(path)?.text.as_deref()
    }

    /// The file at `path`.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.binary_search_by(|f| f.path.as_str().cmp(path)).ok().map(|i| &self.files[i])
    }

    /// Whether `path` is a file or a folder that holds one.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let folder = format!("{path}/");
        self.files.iter().any(|f| f.path == path || f.path.starts_with(&folder))
    }

    /// The Rust files.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&File, &Source)> {
        self.files.iter().filter_map(|f| Some((f, f.rust.as_ref()?)))
    }

    /// The name of the crate that holds `path`.
    pub(crate) fn crate_of(&self, path: &str) -> Option<&str> {
        let holds = |p: &&Package| {
            path.strip_prefix(p.folder.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        self.packages.iter().find(holds).map(|p| p.name.as_str())
    }
}

/// The root of the repository that this tool was built in.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Tracked files, and untracked ones that are not ignored.
fn listed(root: &Path) -> Result<Vec<String>> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    // In a container the clone may belong to another user than the one who runs the tests.
    let safe = format!("safe.directory={}", root.display());
    let mut git = Command::new("git");
    let output = output(git.args(["-c", &safe]).args(arguments).current_dir(root))?;
    let paths: BTreeSet<&str> = output.split('\0').filter(|p| !p.is_empty()).collect();
    Ok(paths.into_iter().map(String::from).collect())
}

fn packages(root: &Path) -> Result<Vec<Package>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let text = output(Command::new(cargo).args(arguments).current_dir(root))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata is no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    packages.iter().map(|p| package(root, p)).collect()
}

fn package(root: &Path, package: &Value) -> Result<Package> {
    let name = package["name"].as_str().context("a package has no name")?.to_string();
    let manifest = package["manifest_path"].as_str().context("a package has no manifest")?;
    let folder = Path::new(manifest).parent().unwrap_or(Path::new(""));
    let folder = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().into_owned();
    let listed = package["dependencies"].as_array().context("a package lists no dependencies")?;
    let dependencies = listed.iter().map(dependency).collect::<Result<_>>()?;
    Ok(Package { name, folder, dependencies })
}

fn dependency(dependency: &Value) -> Result<Dependency> {
    let name = dependency["name"].as_str().context("a dependency has no name")?.to_string();
    Ok(Dependency { name, is_dev: dependency["kind"].as_str() == Some("dev") })
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} wrote no UTF-8"))
}

fn text_of(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// Whether cargo compiles the file at `path` only for tests, examples, benches or a build script.
fn is_test_path(path: &str) -> bool {
    let inside = match path.strip_prefix("crates/") {
        Some(rest) => rest.split_once('/').map_or("", |(_, inside)| inside),
        None => path.strip_prefix("xtask/").unwrap_or(""),
    };
    inside == "build.rs"
        || ["tests/", "examples/", "benches/"].iter().any(|f| inside.starts_with(f))
}

/// Builders for planted faults.
#[cfg(test)]
pub(crate) mod planted {
    use super::{Dependency, Package, Repository};

    /// A repository of `files`, each (path, text), and a crate `forwhy-x` for each `crates/forwhy-x`.
    pub(crate) fn files(files: &[(&str, &str)]) -> Repository {
        let folders: std::collections::BTreeSet<&str> = files
            .iter()
            .filter_map(|(path, _)| path.strip_prefix("crates/")?.split('/').next())
            .collect();
        let packages = folders.into_iter().map(|name| package(name, &[], &[])).collect();
        let files = files.iter().map(|(p, t)| (p.to_string(), Some(t.to_string()))).collect();
        Repository::new(files, packages)
    }

    /// A repository of `packages` without files.
    pub(crate) fn packages(packages: Vec<Package>) -> Repository {
        Repository::new(Vec::new(), packages)
    }

    /// A crate `name` in `crates/name`.
    pub(crate) fn package(name: &str, uses: &[&str], dev: &[&str]) -> Package {
        let of = |names: &[&str], is_dev| -> Vec<Dependency> {
            names.iter().map(|n| Dependency { name: n.to_string(), is_dev }).collect()
        };
        let dependencies = [of(uses, false), of(dev, true)].concat();
        Package { name: name.into(), folder: format!("crates/{name}"), dependencies }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_lists_this_file_and_its_crate() {
        let here = Repository::here().unwrap();
        let path = "xtask/src/repository.rs";
        assert!(here.file(path).is_some_and(|f| f.rust.is_some() && !f.is_test));
        assert_eq!(here.crate_of(path), Some("xtask"));
        assert!(here.has("xtask/src") && here.has("xtask/src/") && !here.has("xtask/sr"));
    }

    #[test]
    fn test_files_are_known_by_place_and_by_declaration() {
        let here = planted::files(&[
            ("crates/forwhy-a/build.rs", ""),
            ("crates/forwhy-a/src/lib.rs", "#[cfg(test)]\nmod checks;\nmod deep;"),
            ("crates/forwhy-a/src/checks.rs", ""),
            ("crates/forwhy-a/src/deep.rs", "#[cfg(test)]\n#[path = \"deep_t.rs\"]\nmod t;\n"),
            ("crates/forwhy-a/src/deep_t.rs", ""),
            ("crates/forwhy-a/src/tests/real.rs", ""),
            ("crates/forwhy-a/tests/it.rs", ""),
        ]);
        let tests: Vec<&str> =
            here.files.iter().filter(|f| f.is_test).map(|f| f.path.as_str()).collect();
        let expected = ["build.rs", "src/checks.rs", "src/deep_t.rs", "tests/it.rs"];
        assert_eq!(tests, expected.map(|p| format!("crates/forwhy-a/{p}")));
    }

    #[test]
    fn a_binary_file_has_no_text() {
        assert_eq!(text_of(vec![0xff, 0xfe]), None);
        assert_eq!(text_of(b"a\0b".to_vec()), None);
        assert_eq!(text_of(b"ab".to_vec()).as_deref(), Some("ab"));
    }
}
