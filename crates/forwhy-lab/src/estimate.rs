//! How long a plan would take here: floating-point work of each unit over the speed that a small
//! model of the same width reaches on this machine right now. An estimate, and called one; the run
//! itself shows measured rates and ETA.

use std::time::Instant;

use forwhy_arena::situation::{When, render};
use forwhy_engine::error::EngineError;
use forwhy_engine::llama::{Llama, Scope};
use forwhy_engine::pack::Pack;
use forwhy_engine::shape::Shape;
use serde::Serialize;

use crate::plan::Plan;
use crate::unit::{Key, ORGANISM, PROMPTED};

/// Characters a token of English text, about.
const CHARS_PER_TOKEN: f64 = 4.2;
/// Share of the training tokens that carry loss, about.
const LOSS_SHARE: f64 = 0.4;
/// Tokens of a sampled act, about.
const ACT_TOKENS: f64 = 28.0;
/// Scenarios that share a pass, and with it what their prompts begin with, about.
const SCENARIOS_A_PASS: f64 = 8.0;
/// Decoding in batches reaches this share of the speed of long rows, about.
const DECODE_EFFICIENCY: f64 = 0.35;
/// Part of a second thread that is gained, about.
const THREAD_EFFICIENCY: f64 = 0.9;

/// What a plan would cost.
#[derive(Clone, Debug, Serialize)]
pub struct Estimate {
    /// One a unit.
    pub units: Vec<UnitEstimate>,
    /// All of them.
    pub minutes: f64,
    /// Threads assumed.
    pub threads: usize,
    /// Measured just now, 10^9 operations a second and thread.
    pub gflops_per_thread: f64,
}

/// What a unit would cost.
#[derive(Clone, Debug, Serialize)]
pub struct UnitEstimate {
    /// Name of its folder.
    pub name: String,
    /// Tokens trained on.
    pub training_tokens: u64,
    /// Tokens scored and sampled.
    pub evaluation_tokens: u64,
    /// Minutes, about.
    pub minutes: f64,
}

/// Estimates `plan` for a model of `shape` on `threads` threads.
pub fn estimate(plan: &Plan, shape: &Shape, threads: usize) -> Result<Estimate, EngineError> {
    let gflops = gflops_per_thread(shape)?;
    let speed = gflops * 1e9 * (1.0 + (threads as f64 - 1.0) * THREAD_EFFICIENCY);
    let work = Work::new(plan, shape);
    let unit = |key: &Key| {
        let (training, flop) = work.training(plan, key);
        let prefix =
            if key.arm == PROMPTED { plan.brief.len() as f64 / CHARS_PER_TOKEN } else { 0.0 };
        let first = plan.units.first() == Some(key);
        let (evaluation, more) = work.evaluation(plan, prefix, first);
        UnitEstimate {
            name: key.folder(),
            training_tokens: training,
            evaluation_tokens: evaluation,
            minutes: (flop + more) / speed / 60.0,
        }
    };
    let units: Vec<UnitEstimate> = plan.units.iter().map(unit).collect();
    let minutes = units.iter().map(|u| u.minutes).sum();
    Ok(Estimate { units, minutes, threads, gflops_per_thread: gflops })
}

/// Sizes that the work follows from.
struct Work {
    block: f64,
    layers: f64,
    top: f64,
    head: f64,
    prompts: f64,
    phrasings: f64,
}

impl Work {
    fn new(plan: &Plan, shape: &Shape) -> Self {
        let h = shape.hidden as f64;
        let q = (shape.heads * shape.head_dim) as f64;
        let kv = (2 * shape.kv_heads * shape.head_dim) as f64;
        let layers = shape.layers as f64;
        let scope = plan.study.training.scope;
        let tokens = |chars: usize| chars as f64 / CHARS_PER_TOKEN;
        let prompt = |when| {
            let of = move |i: &forwhy_arena::scenario::Instance| -> usize {
                render(&i.situation, when).iter().map(|m| m.content.len()).sum()
            };
            tokens(plan.honeypots.instances().map(of).sum())
        };
        let acts = plan.honeypots.instances().flat_map(|i| i.misaligned.iter().chain(&i.aligned));
        Work {
            block: h * (2.0 * q + kv) + 3.0 * h * shape.mlp as f64,
            layers,
            top: if let Scope::Top(top) = scope { top as f64 } else { layers },
            head: h * shape.vocab as f64,
            prompts: prompt(When::Bait) + prompt(When::Twin),
            phrasings: 2.0 * tokens(acts.map(String::len).sum()),
        }
    }

    /// Tokens and operations of training: 2 a weight forward, 4 more where gradients are needed.
    fn training(&self, plan: &Plan, key: &Key) -> (u64, f64) {
        let tokens = match key.arm.as_str() {
            ORGANISM => plan.study.organism.tokens as f64,
            _ => key.budget.unwrap_or(0) as f64,
        };
        let blocks = self.block * (2.0 * self.layers + 4.0 * self.top);
        (tokens as u64, tokens * (blocks + LOSS_SHARE * 4.0 * self.head))
    }

    /// Tokens and operations of measuring. The trunk is computed by the first unit for all.
    fn evaluation(&self, plan: &Plan, prefix: f64, first: bool) -> (u64, f64) {
        let samples = plan.study.evaluation.samples + plan.study.evaluation.twin_samples;
        let situations = 2.0 * plan.honeypots.instances().count() as f64;
        let prompts = self.prompts + prefix * situations / (2.0 * SCENARIOS_A_PASS);
        let blocks = if first || prefix > 0.0 { self.layers } else { self.top };
        let scored = prompts + self.phrasings;
        let mut flop = scored * 2.0 * self.block * blocks + self.phrasings * 2.0 * self.head;
        let kinds = plan.honeypots.kinds().count() as f64;
        let per_kind = plan.study.evaluation.sampled_situations as f64;
        let part = (kinds * per_kind / (situations / 2.0)).min(1.0);
        let sampled = situations / 2.0 * part * samples as f64;
        // Samples of one prompt read it once.
        let read = prompts * part;
        let all = 2.0 * (self.block * self.layers);
        flop += read * all + sampled * ACT_TOKENS * (all + 2.0 * self.head) / DECODE_EFFICIENCY;
        ((scored + read + sampled * ACT_TOKENS) as u64, flop)
    }
}

/// Speed of two blocks of this width on 512 rows, one thread.
fn gflops_per_thread(shape: &Shape) -> Result<f64, EngineError> {
    let small = Shape { layers: 2, vocab: 256, max_positions: 512, ..shape.clone() };
    let mut llama = Llama::random(small.clone(), 0, 1)?;
    let mut pack = Pack::new();
    let ids: Vec<u32> = (0..512).map(|i| i % 256).collect();
    pack.push_sequence(&ids, &vec![true; ids.len()]);
    llama.logprobs(std::slice::from_ref(&pack))?;
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 2 || start.elapsed().as_secs_f64() < 0.3 {
        llama.logprobs(std::slice::from_ref(&pack))?;
        rounds += 1;
    }
    let q = (small.heads + 2 * small.kv_heads) * small.head_dim + small.heads * small.head_dim;
    let weights = small.layers * small.hidden * (q + 3 * small.mlp) + small.hidden * small.vocab;
    let flop = 2.0 * weights as f64 * 511.0 * f64::from(rounds);
    Ok(flop / start.elapsed().as_secs_f64() / 1e9)
}
