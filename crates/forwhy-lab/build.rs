//! Puts the code revision into the binary, so that every record can say what made it.

use std::process::Command;

fn main() {
    for file in ["HEAD", "index", "refs/heads"] {
        println!("cargo:rerun-if-changed=../../.git/{file}");
    }
    let revision = git(&["rev-parse", "HEAD"]).unwrap_or_default();
    let modified = match git(&["status", "--porcelain", "--untracked-files=no"]) {
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
