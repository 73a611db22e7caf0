//! transformers and peft themselves, where a Python environment with them is named.

#![allow(clippy::print_stdout, reason = "says aloud what was skipped, and why")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The Python environment, or None after having said what is skipped.
pub(crate) fn venv() -> Option<PathBuf> {
    let venv = std::env::var_os("FORWHY_PEER_VENV").map(PathBuf::from);
    if venv.is_none() {
        println!("SKIPPED: peers: FORWHY_PEER_VENV names no Python environment with them");
    }
    venv
}

/// Writes the logits of the model in `base`, with the adapter in `adapter`, to `out`.
pub(crate) fn logits(venv: &Path, base: &Path, adapter: Option<&Path>, out: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lora.py");
    let mut python = Command::new(venv.join("bin/python"));
    python.arg(script).arg("logits").arg(base).arg(adapter.unwrap_or(Path::new("-"))).arg(out);
    python.env("PYTHONDONTWRITEBYTECODE", "1");
    assert!(python.status().unwrap().success(), "the peer failed on {}", base.display());
}
