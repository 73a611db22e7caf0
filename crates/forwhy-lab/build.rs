//! Puts the code revision into the binary, so that every record can say what made it.

use std::path::Path;
use std::process::Command;

/// What the binary is made of, from the top of the repository: watched, and compared with the
/// revision. A change there recompiles this crate, which depends on nearly all of it anyway.
const CODE: [&str; 3] = ["crates", "Cargo.toml", "Cargo.lock"];

fn main() {
    let git_state = ["HEAD", "index", "refs/heads"].map(|file| format!(".git/{file}"));
    for path in CODE.iter().map(ToString::to_string).chain(git_state) {
        let path = format!("../../{path}");
        // Cargo takes a path that is not there for one that changes every time.
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let revision = git(&["rev-parse", "HEAD"]).unwrap_or_default();
    let code = CODE.map(|path| format!(":/{path}"));
    // Without optional locks `git status` leaves the index alone, whose change would run this again.
    let mut status = vec!["--no-optional-locks", "status", "--porcelain", "--"];
    status.extend(code.iter().map(String::as_str));
    let modified = match git(&status) {
        Some(list) if revision.len() >= 40 => (!list.is_empty()).to_string(),
        _ => String::new(),
    };
    println!("cargo:rustc-env=FORWHY_REVISION={revision}");
    println!("cargo:rustc-env=FORWHY_MODIFIED={modified}");
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_string())
}
