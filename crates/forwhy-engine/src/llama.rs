//! The model: weights in one flat buffer, explicit forward and backward on preallocated activations.
//!
//! 1. A pack is resolved into rows.
//! 2. `forward`: embedding and blocks; the trained ones keep their activations.
//! 3. `head`: logits of target rows, log-probabilities or loss with its gradient.
//! 4. `backward`: the trained blocks from the top, gradients into a range of the flat buffer or into
//!    adapters.

mod backward;
pub(crate) mod forward;
pub(crate) mod gradient;
pub(crate) mod head;
pub(crate) mod plan;
pub(crate) mod space;
mod tensors;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use forwhy_core::seed::stream;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::gradient::Gradient;
use self::plan::Plan;
use self::space::Space;
pub use self::tensors::NamedTensor;
use crate::buffer::Buf;
use crate::decode_weights::{Converted, DecodeWeights};
use crate::error::EngineError;
use crate::kernels::{self, Kernels};
use crate::lora::Adapters;
use crate::ops::loss;
use crate::ops::rope::Table;
use crate::pack::{Pack, Rows};
use crate::shape::{Layout, Shape};
use crate::threads::Threads;
use crate::trunk::TrunkCache;

/// Receives the turned q, k, v of each block.
type Store<'a> = dyn FnMut(usize, &[f32]) + Send + 'a;

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Scope {
    /// Every parameter.
    All,
    /// The top blocks; embedding, head and final norm stay.
    Top(usize),
    /// Adapters on all seven projections of every block.
    Lora {
        /// Width of the adapters.
        rank: usize,
        /// The product is scaled by alpha / rank.
        alpha: f32,
    },
}

/// A model of the Llama family.
pub struct Llama {
    pub(crate) shape: Shape,
    pub(crate) layout: Layout,
    kernels: Kernels,
    pub(crate) plan: Plan,
    pub(crate) weights: Buf,
    pub(crate) adapters: Option<Adapters>,
    pub(crate) space: Space,
    pub(crate) table: Table,
    pub(crate) threads: Threads,
    trunk: Option<Arc<TrunkCache>>,
    recompute: bool,
    decode_weights: DecodeWeights,
    /// The weights of decoding steps, if others than its own; None until the next step needs them.
    pub(crate) converted: Option<Converted>,
}

impl Llama {
    /// A model with these weights, in the order of [`Layout`], that computes with `threads` threads.
    pub fn new(shape: Shape, weights: Buf, threads: usize) -> Result<Self, EngineError> {
        shape.validate()?;
        let kernels = kernels::chosen()?;
        let layout = Layout::new(&shape);
        if weights.len() != layout.len() {
            let (have, want) = (weights.len(), layout.len());
            return Err(EngineError::Mismatch(format!("{have} weights, the shape has {want}")));
        }
        let (plan, table) = (Plan::new(&shape, &layout, kernels), Table::new(&shape));
        let (space, threads) = (Space::empty(), Threads::new(threads)?);
        Ok(Llama {
            shape,
            layout,
            kernels,
            plan,
            weights,
            adapters: None,
            space,
            table,
            threads,
            trunk: None,
            recompute: false,
            decode_weights: DecodeWeights::Own,
            converted: None,
        })
    }

    /// Random weights, for tests and benches: norms 1, all else normal with deviation 0.02.
    pub fn random(shape: Shape, seed: u64, threads: usize) -> Result<Self, EngineError> {
        shape.validate()?;
        let layout = Layout::new(&shape);
        let mut weights = Buf::zeroed(layout.len());
        let mut draws = stream(&["random model", &seed.to_string()]);
        for tensor in layout.tensors() {
            let norm = tensor.name.ends_with("norm.weight");
            // sum of four 16-bit uniforms: normal enough, and quick for 10^8 weights
            let mut draw = || {
                let bits = draws.bits();
                let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xffff).sum();
                (sum as f32 / 65536.0 - 2.0) * 1.732 * 0.02
            };
            let w = &mut weights[tensor.range()];
            w.iter_mut().for_each(|w| *w = if norm { 1.0 } else { draw() });
        }
        Llama::new(shape, weights, threads)
    }

    /// Its sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Where its tensors lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All weights, adapters merged in.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Threads that it computes with.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// What computes its products.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Computes with `kernels` from now on; refused where the machine does not have them.
    pub fn set_kernels(&mut self, kernels: Kernels) -> Result<(), EngineError> {
        if !kernels.available() {
            let name = kernels.name();
            return Err(EngineError::Kernels(format!("this machine has no kernels {name}")));
        }
        self.kernels = kernels;
        self.plan = Plan::new(&self.shape, &self.layout, kernels);
        self.change_all();
        Ok(())
    }

    /// Whether training computes a block's activations again in the backward pass instead of keeping
    /// them: the same gradients, to the bit, for less memory and about a quarter more time.
    pub fn set_recompute(&mut self, recompute: bool) {
        if self.recompute != recompute {
            self.space = Space::empty();
        }
        self.recompute = recompute;
    }

    /// What decoding steps multiply with from now on.
    pub fn set_decode_weights(&mut self, weights: DecodeWeights) {
        self.decode_weights = weights;
        self.converted = None;
    }

    /// What decoding steps multiply with.
    pub fn decode_weights(&self) -> DecodeWeights {
        self.decode_weights
    }

    /// Makes the weights of decoding steps, if they are others than its own and not there yet; gives
    /// their bytes of memory.
    pub(crate) fn ready_decode_weights(&mut self) -> usize {
        if self.converted.is_none() {
            self.converted = Converted::new(self.decode_weights, &self.plan, &self.weights);
        }
        self.converted.as_ref().map_or(0, Converted::bytes)
    }

    /// Log-probability (nats) of each target of each pack, in order. Weights do not count.
    pub fn logprobs(&mut self, packs: &[Pack]) -> Result<Vec<Vec<f32>>, EngineError> {
        packs.iter().map(|pack| self.pack_logprobs(pack)).collect()
    }

    fn pack_logprobs(&mut self, pack: &Pack) -> Result<Vec<f32>, EngineError> {
        let (mut result, vocab) = (vec![0f32; pack.targets().len()], self.shape.vocab);
        // several targets may share a row: its logits are computed once
        let mut by_row: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, target) in pack.targets().iter().enumerate() {
            by_row.entry(target.row).or_default().push(i);
        }
        let (rows, targets): (Vec<usize>, Vec<Vec<usize>>) = by_row.into_iter().unzip();
        let id = |i: &usize| pack.targets()[*i].id;
        let wanted: Vec<Vec<u32>> = targets.iter().map(|t| t.iter().map(id).collect()).collect();
        self.pack_logits(pack, &rows, |first, logits| {
            let chunk = first..first + logits.len() / vocab;
            let found = loss::log_probabilities(logits, &wanted[chunk.clone()], vocab);
            for (i, x) in targets[chunk].concat().into_iter().zip(found.concat()) {
                result[i] = x;
            }
        })?;
        match result.iter().all(|x: &f32| x.is_finite()) {
            true => Ok(result),
            false => Err(EngineError::NotFinite { what: "a log-probability".into() }),
        }
    }

    /// log p over the vocabulary at each target of `pack`: rows of v.
    pub fn distributions(&mut self, pack: &Pack) -> Result<Vec<Vec<f32>>, EngineError> {
        let (mut result, vocab) = (Vec::new(), self.shape.vocab);
        let rows: Vec<usize> = pack.targets().iter().map(|t| t.row).collect();
        self.pack_logits(pack, &rows, |_, logits| {
            loss::log_softmax(logits, vocab);
            result.extend(logits.chunks_exact(vocab).map(<[f32]>::to_vec));
        })?;
        Ok(result)
    }

    pub(crate) fn pack_logits(
        &mut self,
        pack: &Pack,
        wanted: &[usize],
        each: impl FnMut(usize, &mut [f32]) + Send,
    ) -> Result<(), EngineError> {
        let rows = pack.resolve(&self.shape)?;
        self.in_pool(|model| {
            let none = model.shape.layers;
            model.blocks_forward(rows, none, Some(pack.hash()), None);
            model.each_logits(wanted, each);
        });
        Ok(())
    }

    /// Runs the blocks and hands over keys and values; gives the logits of `rows_wanted`.
    pub(crate) fn prefill(
        &mut self,
        rows: &Rows,
        rows_wanted: &[usize],
        store: &mut Store,
    ) -> Vec<Vec<f32>> {
        let vocab = self.shape.vocab;
        let mut result = Vec::new();
        let none = self.shape.layers;
        self.blocks_forward(rows, none, None, Some(store));
        self.each_logits(rows_wanted, |_, logits| {
            result.extend(logits.chunks_exact(vocab).map(<[f32]>::to_vec));
        });
        result
    }

    /// Sum of weight * nats over the pack's targets; gradients of that sum into `g`.
    pub(crate) fn gradient(
        &mut self,
        pack: &Pack,
        first: usize,
        mut g: Gradient,
    ) -> Result<f64, EngineError> {
        let rows = pack.resolve(&self.shape)?;
        let loss = self.in_pool(|model| {
            model.blocks_forward(rows, first, Some(pack.hash()), None);
            let loss = model.head_gradient(pack.targets(), rows.ids.len(), &mut g);
            model.blocks_backward(rows, first, &mut g);
            loss
        });
        match loss.is_finite() {
            true => Ok(loss),
            false => Err(EngineError::NotFinite { what: format!("the loss ({loss})") }),
        }
    }

    /// Runs `work` on the model's own threads.
    pub(crate) fn in_pool<T: Send>(&mut self, work: impl FnOnce(&mut Llama) -> T + Send) -> T {
        let threads = self.threads.clone();
        threads.run(|| work(self))
    }

    /// An empty cache of at most `max_bytes` for the lower blocks of this model, below the top `top`.
    pub fn trunk_cache(&self, top: usize, max_bytes: usize) -> Result<TrunkCache, EngineError> {
        let blocks = self.shape.layers.checked_sub(top).filter(|b| *b > 0 && top > 0);
        let blocks = blocks.ok_or_else(|| {
            let layers = self.shape.layers;
            EngineError::Mismatch(format!("a trunk below the top {top} of {layers} blocks"))
        })?;
        Ok(TrunkCache::new(blocks, self.trunk_hash(blocks), max_bytes))
    }

    /// Uses `cache` from now on (`None`: none). Refused if it was made for another trunk.
    pub fn set_trunk_cache(&mut self, cache: Option<Arc<TrunkCache>>) -> Result<(), EngineError> {
        if let Some(cache) = &cache
            && (cache.blocks() >= self.shape.layers
                || self.trunk_hash(cache.blocks()) != cache.trunk())
        {
            let reason = "the trunk cache was made for other lower blocks; make a new one";
            return Err(EngineError::Mismatch(reason.into()));
        }
        self.trunk = cache;
        Ok(())
    }

    /// All weights change: what was made of them no longer holds.
    pub(crate) fn change_all(&mut self) {
        self.trunk = None;
        self.converted = None;
    }

    fn trunk_hash(&self, blocks: usize) -> [u8; 32] {
        let below = ..self.layout.blocks_from(blocks).start;
        let weights = hash(&[&self.weights[below], self.plan.embed_of(&self.weights)]);
        // The same weights compute something else with other angles, another epsilon, other kernels.
        let mut hasher = blake3::Hasher::new();
        hasher.update(json!((&self.shape, self.kernels)).to_string().as_bytes());
        hasher.update(weights.as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// BLAKE3 of all weights as little-endian f32, hex.
    pub fn weights_hash(&self) -> String {
        hash(&[&self.weights]).to_hex().to_string()
    }
}

fn hash(parts: &[&[f32]]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for chunk in parts.iter().flat_map(|part| part.chunks(1 << 14)) {
        let bytes: Vec<u8> = chunk.iter().flat_map(|w| w.to_le_bytes()).collect();
        hasher.update(&bytes);
    }
    hasher.finalize()
}
