//! Decoding behind prompts of 64 tokens, one and sixteen replies at once, against transformers: in f32;
//! in bf16; with weights of bf16 alone against transformers' bf16 (f32 where the processor has no
//! bf16); and with weights of 8 bits against f32.

use super::Row;
use super::table::RATE;
use super::turns::Programs;

pub(super) fn rows() -> Vec<Row> {
    let row = |name, argument| Row {
        name,
        group: "generate",
        programs: Programs::Engine,
        argument,
        measures: &[RATE],
    };
    vec![
        row("generate batch 1 f32", "generate-1"),
        row("generate batch 16 f32", "generate-16"),
        row("generate batch 1 bf16", "generate-1-bf16"),
        row("generate batch 16 bf16", "generate-16-bf16"),
        row("generate batch 1, ours bf16 weights", "generate-1-w16"),
        row("generate batch 16, ours bf16 weights", "generate-16-w16"),
        row("generate batch 1, ours q8", "generate-1-q8"),
        row("generate batch 16, ours q8", "generate-16-q8"),
    ]
}
