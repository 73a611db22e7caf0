//! Tensors in and out by name, and adapters.

use forwhy_core::seed::stream;

use super::{Llama, Scope};
use crate::buffer::Buf;
use crate::error::EngineError;
use crate::lora::{self, Adapters, Place};

/// A tensor by name: Hugging Face name, sizes, values.
pub type NamedTensor = (String, Vec<usize>, Vec<f32>);

impl Llama {
    /// The tensors that training in `scope` changes. For LoRA these are the adapters; of a model
    /// without any, new ones that change nothing (B zero, A from a stream of its own).
    pub fn export_scope(&self, scope: Scope) -> Result<Vec<NamedTensor>, EngineError> {
        let Scope::Lora { rank, alpha } = scope else {
            let places = self.places(scope)?.into_iter();
            let named = places.map(|(name, shape, at)| (name, shape, self.weights[at].to_vec()));
            return Ok(named.collect());
        };
        check_lora(rank, alpha)?;
        let (tensors, values) = match &self.adapters {
            None => {
                let new = self.new_adapters(rank, alpha, "start");
                (new.tensors(), new.flat)
            }
            Some(_) => {
                let adapters = self.adapters_like(rank, alpha)?;
                (adapters.tensors(), Buf::copied(&adapters.flat))
            }
        };
        let tensors = tensors.into_iter();
        Ok(tensors.map(|(name, shape, at)| (name, shape, values[at].to_vec())).collect())
    }

    /// Puts back what `export_scope` gave: exactly the tensors of `scope`, of the same sizes.
    /// Adapters of another kind are taken off. What does not fit is refused before anything changes.
    pub fn import_scope(
        &mut self,
        scope: Scope,
        tensors: &[NamedTensor],
    ) -> Result<(), EngineError> {
        let places = self.places(scope)?;
        check_names(&places, tensors)?;
        match scope {
            Scope::Lora { rank, alpha } => {
                if self.adapters_like(rank, alpha).is_err() {
                    self.remove_adapters();
                }
                self.adapt(rank, alpha, 0)?;
            }
            Scope::Top(top) => {
                self.remove_adapters();
                self.change_from(self.shape.layers - top);
            }
            Scope::All => {
                self.remove_adapters();
                self.change_all();
            }
        }
        for ((_, _, at), (_, _, values)) in places.into_iter().zip(tensors) {
            match &mut self.adapters {
                Some(adapters) => adapters.flat[at].copy_from_slice(values),
                None => self.weights[at].copy_from_slice(values),
            }
        }
        self.in_pool(|model| {
            if let Some(adapters) = &model.adapters {
                adapters.merge(&mut model.weights);
            }
        });
        Ok(())
    }

    /// Where the tensors of `scope` lie, in the weights or in adapters of that kind.
    fn places(&self, scope: Scope) -> Result<Vec<Place>, EngineError> {
        if let Scope::Lora { rank, alpha } = scope {
            check_lora(rank, alpha)?;
            return Ok(lora::places(&self.shape, &self.layout, rank));
        }
        let range = self.scope_range(scope)?;
        let inside = self.layout.tensors().iter().filter(|t| range.contains(&t.at));
        Ok(inside.map(|t| (t.name.clone(), t.shape.clone(), t.range())).collect())
    }

    /// Takes the adapters off: the weights are those of the base model again.
    pub fn remove_adapters(&mut self) {
        if let Some(adapters) = self.adapters.take() {
            adapters.unmerge(&mut self.weights);
            self.change_all();
        }
    }

    fn scope_range(&self, scope: Scope) -> Result<std::ops::Range<usize>, EngineError> {
        match scope {
            Scope::Top(top) if top > self.shape.layers => {
                let layers = self.shape.layers;
                Err(EngineError::Config(format!("scope top {top}: the model has {layers} blocks")))
            }
            Scope::Top(top) => Ok(self.layout.blocks_from(self.shape.layers - top)),
            _ => Ok(0..self.layout.len()),
        }
    }

    fn adapters_like(&self, rank: usize, alpha: f32) -> Result<&Adapters, EngineError> {
        let adapters = self.adapters.as_ref().filter(|a| a.rank == rank && a.alpha == alpha);
        let missing = || format!("the model has no adapters of rank {rank} and alpha {alpha}");
        adapters.ok_or_else(|| EngineError::Mismatch(missing()))
    }

    /// Adapters of this rank and alpha, new ones (which change nothing yet) if there are none; gives
    /// the number of their parameters.
    pub(crate) fn adapt(
        &mut self,
        rank: usize,
        alpha: f32,
        seed: u64,
    ) -> Result<usize, EngineError> {
        self.change_all();
        if self.adapters.is_none() {
            self.adapters = Some(self.new_adapters(rank, alpha, &seed.to_string()));
        }
        self.adapters_like(rank, alpha).map(|a| a.flat.len())
    }

    /// Adapters of the weights as they are, which change nothing yet. `name` names the draws of A.
    fn new_adapters(&self, rank: usize, alpha: f32, name: &str) -> Adapters {
        let mut draws = stream(&["lora", name]);
        Adapters::new(&self.shape, &self.layout, &self.weights, (rank, alpha), &mut draws)
    }

    /// Blocks from `first` on are about to change.
    pub(crate) fn change_from(&mut self, first: usize) {
        self.converted = None;
        if self.trunk.as_ref().is_some_and(|trunk| trunk.blocks() > first) {
            self.change_all();
        }
    }
}

fn check_lora(rank: usize, alpha: f32) -> Result<(), EngineError> {
    if rank == 0 || !(alpha.is_finite() && alpha > 0.0) {
        let what = format!("LoRA of rank {rank} and alpha {alpha}: expected positive numbers");
        return Err(EngineError::Config(what));
    }
    Ok(())
}

fn check_names(places: &[Place], tensors: &[NamedTensor]) -> Result<(), EngineError> {
    let fail = |what: String| Err(EngineError::Mismatch(what));
    if places.len() != tensors.len() {
        return fail(format!("{} tensors given, the scope has {}", tensors.len(), places.len()));
    }
    for ((name, shape, at), (given, given_shape, values)) in places.iter().zip(tensors) {
        if name != given || shape != given_shape || at.len() != values.len() {
            return fail(format!("tensor {given} {given_shape:?}, expected {name} {shape:?}"));
        }
    }
    Ok(())
}
