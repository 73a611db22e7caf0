//! The weights that decoding steps multiply with: the model's own, or a copy in another form.
//!
//! A model makes its copy ([`Converted`]) before a step that needs one, and drops it when its weights
//! change; a step multiplies with [`Products`].

mod eight;

use std::collections::BTreeMap;

use self::eight::Eight;
use crate::few::Half;
use crate::linear::Linear;
use crate::llama::plan::Plan;
use crate::tiles::Panels;

/// What a decoding step multiplies with. Prompts are read, and texts are scored, with the model's own
/// weights whatever is set here. What is not the model's own as it stands is a copy, made anew at the
/// first step after the weights have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DecodeWeights {
    /// The model's own weights, computed with as everywhere: in f32, or in bf16 where
    /// [`crate::kernels`] says so (then packed, with half the bytes of f32 beside it).
    #[default]
    Own,
    /// All weights rounded to bf16, everything else in f32: nothing is lost of weights that come from
    /// files of bf16 (replies then have the bits of f32), but adapters that are merged in are rounded.
    /// Half the bytes of f32, beside it.
    Bf16,
    /// The linear layers rounded to 8 bits, 128 weights a scale, and their inputs to 16 bits: close
    /// to f32, not equal. About a quarter of the bytes of f32, beside it.
    Q8,
}

/// The weights that the linear layers of a step read.
#[derive(Clone, Copy)]
pub(crate) enum Products<'a> {
    F32(&'a [f32]),
    Tiles(&'a Tiles),
    Bf16(&'a Half),
    Q8(&'a Eight),
}

/// The linear layers in panels of tiles, by their place in the flat buffer.
type Tiles = BTreeMap<usize, Panels>;

/// The weights of decoding steps, made of the model's own.
pub(crate) enum Converted {
    Tiles(Tiles),
    Bf16(Half),
    Q8(Eight),
}

impl Converted {
    /// None where the model's own are used as they are.
    pub(crate) fn new(weights: DecodeWeights, plan: &Plan, w: &[f32]) -> Option<Self> {
        match weights {
            DecodeWeights::Own => {
                let panels = plan.linears().map(|layer| Some((layer.at, layer.panels(w)?)));
                Some(Converted::Tiles(panels.collect::<Option<Tiles>>()?))
            }
            DecodeWeights::Bf16 => Some(Converted::Bf16(Half::new(w))),
            DecodeWeights::Q8 => Some(Converted::Q8(Eight::new(plan, w))),
        }
    }

    /// What a step multiplies with.
    pub(crate) fn products(&self) -> Products<'_> {
        match self {
            Converted::Tiles(tiles) => Products::Tiles(tiles),
            Converted::Bf16(half) => Products::Bf16(half),
            Converted::Q8(eight) => Products::Q8(eight),
        }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Converted::Tiles(tiles) => tiles.values().map(Panels::bytes).sum(),
            Converted::Bf16(half) => half.bytes(),
            Converted::Q8(eight) => eight.bytes(),
        }
    }
}

impl Products<'_> {
    /// y[r,out] = x[r,inp] W^T, or y += it.
    pub(crate) fn fwd(self, layer: Linear, x: &[f32], y: &mut [f32], add: bool) {
        match self {
            Products::F32(w) => layer.fwd_few(w, x, y, add),
            Products::Tiles(tiles) => layer.fwd_panels(&tiles[&layer.at], x, y, add),
            Products::Bf16(half) => layer.fwd_few_half(half, x, y, add),
            Products::Q8(eight) => eight.of(layer).fwd(x, y, add),
        }
    }
}
