//! Tensors in and out by name, and adapters.

use forwhy_core::seed::stream;

use super::{Llama, Scope};
use crate::error::EngineError;
use crate::lora::Adapters;

/// A tensor by name: Hugging Face name, sizes, values.
pub type NamedTensor = (String, Vec<usize>, Vec<f32>);

impl Llama {
    /// The tensors that training in `scope` changes. For LoRA these are the adapters.
    pub fn export_scope(&self, scope: Scope) -> Result<Vec<NamedTensor>, EngineError> {
        let Scope::Lora { rank, alpha } = scope else {
            let range = self.scope_range(scope)?;
            let inside = self.layout.tensors().iter().filter(|t| range.contains(&t.at));
            let named =
                inside.map(|t| (t.name.clone(), t.shape.clone(), self.weights[t.range()].to_vec()));
            return Ok(named.collect());
        };
        let adapters = self.adapters_like(rank, alpha)?;
        let tensors = adapters.tensors().into_iter();
        Ok(tensors.map(|(name, shape, at)| (name, shape, adapters.flat[at].to_vec())).collect())
    }

    /// Puts back what `export_scope` gave: exactly the tensors of `scope`, of the same sizes.
    pub fn import_scope(
        &mut self,
        scope: Scope,
        tensors: &[NamedTensor],
    ) -> Result<(), EngineError> {
        if let Scope::Lora { rank, alpha } = scope {
            self.adapt(rank, alpha, 0)?;
        }
        let places: Vec<_> = match (&self.adapters, scope) {
            (Some(adapters), Scope::Lora { .. }) => adapters.tensors(),
            _ => {
                let range = self.scope_range(scope)?;
                let inside = self.layout.tensors().iter().filter(|t| range.contains(&t.at));
                inside.map(|t| (t.name.clone(), t.shape.clone(), t.range())).collect()
            }
        };
        check_names(&places, tensors)?;
        self.remove_adapters_unless(scope);
        match scope {
            Scope::Top(top) => self.forget_trunk_below(self.shape.layers - top),
            _ => self.forget_trunk(),
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

    /// Takes the adapters off: the weights are those of the base model again.
    pub fn remove_adapters(&mut self) {
        if let Some(adapters) = self.adapters.take() {
            adapters.unmerge(&mut self.weights);
            self.forget_trunk();
        }
    }

    fn remove_adapters_unless(&mut self, scope: Scope) {
        if !matches!(scope, Scope::Lora { .. }) {
            self.remove_adapters();
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
        self.forget_trunk();
        if self.adapters.is_none() {
            let mut draws = stream(&["lora", &seed.to_string()]);
            let size = (rank, alpha);
            let adapters =
                Adapters::new(&self.shape, &self.layout, &self.weights, size, &mut draws);
            self.adapters = Some(adapters);
        }
        self.adapters_like(rank, alpha).map(|a| a.flat.len())
    }

    /// Blocks from `first` on are about to change.
    pub(crate) fn forget_trunk_below(&mut self, first: usize) {
        if self.trunk.as_ref().is_some_and(|trunk| trunk.blocks() > first) {
            self.forget_trunk();
        }
    }
}

type Place = (String, Vec<usize>, std::ops::Range<usize>);

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
