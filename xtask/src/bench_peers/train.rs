//! A training step of 2 x 512 tokens at the size of SmolLM2-135M, of all weights and of adapters of
//! rank 16, against PyTorch with fused AdamW (and peft): in f32, and in bf16 against its autocast; on one thread by CPU time, on two by
//! wall time.

use super::table::RATE;
use super::turns::Programs;
use super::{Better, Measure, Row};

const WALL: Measure =
    Measure { figure: "tokens_per_sec", unit: "tokens/s (wall)", better: Better::Higher };
const PEAK: Measure = Measure { figure: "peak_mib", unit: "MiB peak", better: Better::Lower };

pub(super) fn rows() -> Vec<Row> {
    let measured = |name, argument, measures| Row {
        name,
        group: "train",
        programs: Programs::Engine,
        argument,
        measures,
    };
    let row = |name, argument| measured(name, argument, &[RATE, PEAK]);
    let two_threads = |name, argument| measured(name, argument, &[WALL]);
    vec![
        row("train f32", "train"),
        row("train-lora f32", "train-lora"),
        row("train bf16", "train-bf16"),
        row("train-lora bf16", "train-lora-bf16"),
        two_threads("train f32, 2 threads", "train-2t"),
        two_threads("train bf16, 2 threads", "train-bf16-2t"),
    ]
}
