//! Where the wall time of a step goes. Spans never nest; the counters are global, for benches.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// A part of the work.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    LinearFwd,
    LinearDx,
    LinearDw,
    Head,
    Attention,
    AttentionBwd,
    Norm,
    Rope,
    Swiglu,
    Loss,
    Embedding,
    Optimiser,
    Sampling,
}

const NAMES: [&str; 13] = [
    "linear fwd",
    "linear dx",
    "linear dw",
    "head products",
    "attention fwd",
    "attention bwd",
    "rmsnorm, copies",
    "rope",
    "swiglu",
    "cross-entropy",
    "embedding",
    "optimiser",
    "sampling",
];

static SPENT: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];

/// Runs `work` and books its time.
pub(crate) fn span<T>(part: Part, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    SPENT[part as usize].fetch_add(start.elapsed().as_nanos() as u64, Relaxed);
    result
}

/// Wall seconds by part since the last call, over all models of this process.
pub fn take() -> Vec<(&'static str, f64)> {
    let seconds = SPENT.iter().map(|s| s.swap(0, Relaxed) as f64 / 1e9);
    NAMES.into_iter().zip(seconds).collect()
}
