//! What made a run: code revision and machine.

use forwhy_core::results::{Machine, Maybe};
use forwhy_engine::kernels::Kernels;
use serde::{Deserialize, Serialize};

/// Code and machine of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Version of forwhy.
    pub version: String,
    /// Commit that this program was built from.
    pub revision: Maybe<String>,
    /// Whether code differed from that commit when it was built.
    pub modified: Maybe<bool>,
    /// The machine.
    pub machine: Machine,
}

/// The environment of this process, computing with `threads` threads.
pub fn current(threads: usize) -> Environment {
    let built_in = |text: &str| (!text.is_empty()).then(|| text.to_string());
    let no_git = "built outside a git checkout";
    Environment {
        version: env!("CARGO_PKG_VERSION").into(),
        revision: Maybe::from_option(built_in(env!("FORWHY_REVISION")), no_git),
        modified: Maybe::from_option(env!("FORWHY_MODIFIED").parse().ok(), no_git),
        machine: Machine {
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            cpu: Maybe::from_option(cpu_name(), "the system does not tell"),
            threads: threads as u64,
            features: features(),
        },
    }
}

fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// Instruction sets that matter to the engine's kernels, of those that this machine has.
fn features() -> Vec<String> {
    let mut found: Vec<&str> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ];
        found.extend(known.iter().filter(|(_, have)| *have).map(|(name, _)| *name));
    }
    if Kernels::Amx.available() {
        found.push("amx-bf16");
    }
    found.iter_mut().map(|name| name.to_string()).collect()
}
