//! Training: gradients of packs are summed, divided by the weight of their targets, clipped and
//! applied. Splitting a batch into packs, or packing more into one, gives the same step.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::buffer::Buf;
use crate::error::EngineError;
use crate::llama::gradient::Gradient;
use crate::llama::{Llama, Scope};
use crate::optim::{self, Update};
use crate::pack::Pack;
use crate::profile::{Part, span};

pub use crate::optim::TrainConfig;

/// Trains a model in place.
pub struct Trainer<'a> {
    model: &'a mut Llama,
    config: TrainConfig,
    /// First trained block.
    first: usize,
    /// The trained range of the flat buffer; for LoRA that of the adapters.
    range: Range<usize>,
    g: Buf,
    m: Buf,
    v: Buf,
    step: u64,
}

/// One step, as a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepReport {
    /// Number of the step, counted from 1.
    pub step: u64,
    /// Weighted mean over the targets, nats a token.
    pub loss: f64,
    /// Length of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f32,
    /// Token rows of the packs given to the step; a pack without a target counts, though it is not
    /// computed.
    pub tokens: usize,
    /// Sum of the targets' weights.
    pub target_weight: f64,
}

/// Everything that a resumed run needs, besides the data and the frozen weights.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainState {
    /// What was trained, and how.
    pub config: TrainConfig,
    /// Steps done.
    pub step: u64,
    /// Trained parameters, in the order of the buffer.
    pub params: Vec<f32>,
    /// First moments.
    pub m: Vec<f32>,
    /// Second moments.
    pub v: Vec<f32>,
}

impl<'a> Trainer<'a> {
    /// A trainer at step 0. With [`Scope::Lora`] the model gets new adapters, unless it has adapters of
    /// this rank and alpha already, which are trained on.
    pub fn new(model: &'a mut Llama, config: TrainConfig) -> Result<Self, EngineError> {
        config.validate(model.shape().layers)?;
        let (first, range) = match config.scope {
            Scope::All => (0, 0..model.layout.len()),
            Scope::Top(top) => {
                let first = model.shape().layers - top;
                (first, model.layout.blocks_from(first))
            }
            Scope::Lora { rank, alpha } => (0, 0..model.adapt(rank, alpha, config.seed)?),
        };
        if !matches!(config.scope, Scope::Lora { .. }) && model.adapters.is_some() {
            let reason = "the model has adapters; remove them before training its weights";
            return Err(EngineError::Mismatch(reason.into()));
        }
        model.change_from(first);
        let zeros = || Buf::zeroed(range.len());
        let (g, m, v) = (zeros(), zeros(), zeros());
        Ok(Trainer { model, config, first, range, g, m, v, step: 0 })
    }

    /// One update from all `packs` together.
    pub fn step(&mut self, packs: &[Pack]) -> Result<StepReport, EngineError> {
        let target_weight: f64 = packs.iter().map(Pack::target_weight).sum();
        if target_weight <= 0.0 {
            return Err(EngineError::Pack("a step without a target trains nothing".into()));
        }
        let mut total = 0.0;
        for (index, pack) in packs.iter().filter(|p| p.target_weight() > 0.0).enumerate() {
            total += self.add_gradient(pack, index > 0)?;
        }
        let g = &self.g;
        let length = self.model.in_pool(|_| span(Part::Optimiser, || optim::norm(g)));
        let grad_norm = length / target_weight;
        if !grad_norm.is_finite() {
            return Err(EngineError::NotFinite { what: format!("the gradient ({grad_norm})") });
        }
        let learning_rate = self.config.learning_rate_at(self.step as usize);
        let clip = f64::from(self.config.clip_norm);
        let shrink = if clip > 0.0 && grad_norm > clip { clip / grad_norm } else { 1.0 };
        self.step += 1;
        let scale = (shrink / target_weight) as f32;
        self.apply(Update::new(&self.config, self.step, learning_rate, scale));
        Ok(StepReport {
            step: self.step,
            loss: total / target_weight,
            grad_norm,
            learning_rate,
            tokens: packs.iter().map(Pack::rows).sum(),
            target_weight,
        })
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// The model as it is now.
    pub fn model(&self) -> &Llama {
        self.model
    }

    /// The gradient of a pack's summed loss, into or onto `self.g`.
    fn add_gradient(&mut self, pack: &Pack, add: bool) -> Result<f64, EngineError> {
        let g = &mut self.g[..];
        if !matches!(self.config.scope, Scope::Lora { .. }) {
            let g = Gradient::Flat { g, from: self.range.start, add };
            return self.model.gradient(pack, self.first, g);
        }
        if !add {
            g.fill(0.0);
        }
        let adapters = self.model.adapters.take();
        let mut adapters = adapters.unwrap_or_else(|| unreachable!("made in `new`"));
        let result = self.model.gradient(
            pack,
            self.first,
            Gradient::Adapters { adapters: &mut adapters, g },
        );
        self.model.adapters = Some(adapters);
        result
    }

    fn apply(&mut self, update: Update) {
        let Trainer { model, first, range, g, m, v, .. } = self;
        model.change_from(*first);
        model.in_pool(|model| {
            span(Part::Optimiser, || match &mut model.adapters {
                None => update.apply(&mut model.weights[range.clone()], g, m, v),
                Some(adapters) => {
                    update.apply(&mut adapters.flat, g, m, v);
                    adapters.merge(&mut model.weights);
                }
            });
        });
    }

    /// The state after the steps done so far.
    pub fn save(&self) -> TrainState {
        let params = match &self.model.adapters {
            None => self.model.weights[self.range.clone()].to_vec(),
            Some(adapters) => adapters.flat.to_vec(),
        };
        let (config, step) = (self.config.clone(), self.step);
        TrainState { config, step, params, m: self.m.to_vec(), v: self.v.to_vec() }
    }

    /// Continues from a saved state: the steps after are those of an uninterrupted run, to the bit.
    pub fn restore(&mut self, state: &TrainState) -> Result<(), EngineError> {
        let n = self.range.len();
        if state.config != self.config {
            let reason =
                "the saved state was trained with other settings; start a new run for them";
            return Err(EngineError::Mismatch(reason.into()));
        }
        if [&state.params, &state.m, &state.v].iter().any(|part| part.len() != n) {
            let have = state.params.len();
            return Err(EngineError::Mismatch(format!("{have} saved parameters, expected {n}")));
        }
        self.m.copy_from_slice(&state.m);
        self.v.copy_from_slice(&state.v);
        self.step = state.step;
        let range = self.range.clone();
        self.model.change_from(self.first);
        self.model.in_pool(|model| match &mut model.adapters {
            None => model.weights[range].copy_from_slice(&state.params),
            Some(adapters) => {
                adapters.flat.copy_from_slice(&state.params);
                adapters.merge(&mut model.weights);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::checks::tiny_shape;

    #[test]
    fn a_step_and_a_restored_state_let_go_of_activations_of_changed_blocks() {
        let mut model = Llama::random(tiny_shape(), 7, 1).unwrap();
        let mut pack = Pack::new();
        pack.push_sequence(&[1, 2, 3, 4], &[true; 4]);
        let packs = [pack];
        let config = TrainConfig { learning_rate: 1e-2, total_steps: 4, ..TrainConfig::default() };
        let mut trainer =
            Trainer::new(&mut model, TrainConfig { scope: Scope::All, ..config }).unwrap();
        let state = trainer.save();
        for restored in [false, true] {
            let cache = Arc::new(trainer.model.trunk_cache(1, 1 << 20).unwrap());
            trainer.model.set_trunk_cache(Some(cache.clone())).unwrap();
            if restored {
                trainer.restore(&state).unwrap();
            } else {
                trainer.step(&packs).unwrap();
            }
            let seen = cache.stats();
            trainer.model.logprobs(&packs).unwrap();
            assert_eq!(cache.stats(), seen, "restored: {restored}");
        }
    }
}
