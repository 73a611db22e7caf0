//! A training step of 2 x 512 tokens at the size of SmolLM2-135M, of all weights and of adapters of
//! rank 16, against PyTorch with fused AdamW (and peft): in f32, and in bf16 against its autocast.

use super::table::RATE;
use super::turns::Programs;
use super::{Better, Measure, Row};

const PEAK: Measure = Measure { figure: "peak_mib", unit: "MiB peak", better: Better::Lower };

pub(super) fn rows() -> Vec<Row> {
    let row = |name, argument| Row {
        name,
        group: "train",
        programs: Programs::Engine,
        argument,
        measures: &[RATE, PEAK],
    };
    vec![
        row("train f32", "train"),
        row("train-lora f32", "train-lora"),
        row("train bf16", "train-bf16"),
        row("train-lora bf16", "train-lora-bf16"),
    ]
}
