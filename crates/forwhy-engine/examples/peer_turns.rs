//! Our side of `cargo xtask bench-peers`: one row of its table, measured once for each line on stdin.
//!
//! usage: peer_turns train|train-lora|head|generate-1|generate-16, alone: in f32; with -bf16 behind it: in
//! bf16, generate also with -w16 or -q8: weights of 16 or 8 bits; train with -2t behind all that: on two threads
//!
//! It says who it is in a line of JSON, or why it does not measure here; then it answers each line with
//! a line of figures by name, on one thread if nothing is said, at the size of SmolLM2-135M with random weights.
//! `scripts/peer_turns.py` is the peer.

mod usage;

use std::io::{BufRead, Write};
use std::time::Instant;

use forwhy_core::model::Sampling;
use forwhy_core::seed::stream;
use forwhy_engine::generate::{DecodeWeights, Job};
use forwhy_engine::kernels::{self, HeadProbe, Kernels};
use forwhy_engine::llama::{Llama, Scope};
use forwhy_engine::pack::Pack;
use forwhy_engine::shape::Shape;
use forwhy_engine::trainer::{TrainConfig, Trainer};
use serde_json::{Value, json};

use usage::{cpu_secs, peak_mib};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Sequences and tokens of a training step.
const TRAIN: (usize, usize) = (2, 512);
/// Tokens of a prompt, and of a reply.
const GENERATE: (usize, usize) = (64, 32);

fn main() -> Outcome {
    let row = std::env::args().nth(1).unwrap_or_default();
    let (row, threads) = row.strip_suffix("-2t").map_or((&row[..], 1), |row| (row, 2));
    let products = row.strip_suffix("-bf16");
    let kernels = match products {
        None => Kernels::F32,
        Some(_) => kernels::chosen()?,
    };
    if products.is_some() && kernels == Kernels::F32 {
        return say(
            &json!({ "not_here": "products are f32 here; `forwhy doctor` shows the kernels" }),
        );
    }
    let lora = Scope::Lora { rank: 16, alpha: 32.0 };
    match products.unwrap_or(row) {
        "train" => train(kernels, Scope::All, threads),
        "train-lora" => train(kernels, lora, threads),
        "head" => head(kernels),
        "generate-1" => generate(kernels, 1, DecodeWeights::Own),
        "generate-16" => generate(kernels, 16, DecodeWeights::Own),
        "generate-1-w16" => generate(kernels, 1, DecodeWeights::Bf16),
        "generate-16-w16" => generate(kernels, 16, DecodeWeights::Bf16),
        "generate-1-q8" => generate(kernels, 1, DecodeWeights::Q8),
        "generate-16-q8" => generate(kernels, 16, DecodeWeights::Q8),
        other => {
            Err(format!("peer_turns {other:?}: no such row; the head of the file has them").into())
        }
    }
}

/// Says who is ready; then one measurement a line.
fn turns(what: &str, mut measure: impl FnMut() -> Outcome<Value>) -> Outcome {
    let who = format!("forwhy {}, {what}", env!("CARGO_PKG_VERSION"));
    say(&json!({ "ready": who }))?;
    for line in std::io::stdin().lock().lines() {
        line?;
        say(&measure()?)?;
    }
    Ok(())
}

/// A line, at once.
fn say(line: &Value) -> Outcome {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn train(kernels: Kernels, scope: Scope, threads: usize) -> Outcome {
    let mut model = Llama::random(Shape::smollm2_135m(), 1, threads)?;
    model.set_kernels(kernels)?;
    let mut draws = stream(&["peer turns"]);
    let mut pack = Pack::new();
    for _ in 0..TRAIN.0 {
        let ids: Vec<u32> = (0..=TRAIN.1).map(|_| draws.below(49_152) as u32).collect();
        pack.push_sequence(&ids, &vec![true; ids.len()]);
    }
    let tokens = pack.rows() as f64;
    let config = TrainConfig { scope, total_steps: 1000, ..TrainConfig::default() };
    let mut trainer = Trainer::new(&mut model, config)?;
    let packs = [pack];
    trainer.step(&packs)?;
    turns(kernels.name(), || {
        let (start, clock) = (cpu_secs(), Instant::now());
        trainer.step(&packs)?;
        let (cpu, wall) = (cpu_secs() - start, clock.elapsed().as_secs_f64());
        Ok(json!({
            "tokens_per_cpu_sec": tokens / cpu,
            "tokens_per_sec": tokens / wall,
            "peak_mib": peak_mib(),
        }))
    })
}

fn head(kernels: Kernels) -> Outcome {
    let mut probe = HeadProbe::new(kernels, TRAIN.0 * TRAIN.1, 576, 49_152);
    probe.step();
    turns(kernels.name(), || {
        let start = cpu_secs();
        std::hint::black_box(probe.step());
        Ok(json!({ "cpu_secs": cpu_secs() - start, "peak_mib": peak_mib() }))
    })
}

/// The rate of decoding: a long reply's time less that of one token.
fn generate(kernels: Kernels, replies: usize, weights: DecodeWeights) -> Outcome {
    let mut model = Llama::random(Shape::smollm2_135m(), 1, 1)?;
    model.set_kernels(kernels)?;
    model.set_decode_weights(weights);
    let mut draws = stream(&["peer turns"]);
    let mut prompt = || (0..GENERATE.0).map(|_| draws.below(49_152) as u32).collect::<Vec<_>>();
    let prompts: Vec<Vec<u32>> = (0..replies).map(|_| prompt()).collect();
    let mut spent = |max_tokens| -> Outcome<f64> {
        let sampling = Sampling { temperature: 0.0, max_tokens, ..Sampling::default() };
        let jobs: Vec<Job> =
            prompts.iter().map(|prompt| Job { prompt, sampling: &sampling }).collect();
        let start = cpu_secs();
        model.generate(&jobs, &[], &|_, _| false)?;
        Ok(cpu_secs() - start)
    };
    spent(2)?;
    turns(&format!("{}, decoding weights {weights:?}", kernels.name()), || {
        let decoding = spent(1 + GENERATE.1)? - spent(1)?;
        let rate = (replies * GENERATE.1) as f64 / decoding;
        Ok(json!({ "tokens_per_cpu_sec": rate, "peak_mib": peak_mib() }))
    })
}
