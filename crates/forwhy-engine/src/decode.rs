//! One token for each of several sequences, over their caches of keys and values.
//!
//! A sequence reads the cached rows of its prompt, which sequences with the same prompt share, then
//! its own: [`attend`]. Its logits have the same bits whichever sequences are decoded beside it; so
//! weights in another form ([`Converted`]), where they are set, serve every step, whatever the batch.

mod attend;
mod cache;
mod eight;

use std::collections::BTreeMap;

use self::attend::attend;
pub(crate) use self::cache::Cache;
use self::eight::Eight;
use crate::few::Half;
use crate::generate::DecodeWeights;
use crate::linear::Linear;
use crate::llama::Llama;
use crate::llama::plan::{Plan, add_bias};
use crate::ops::rope::Turn;
use crate::ops::{norm, rope, swiglu};
use crate::profile::{Part, span};
use crate::tiles::Panels;

/// A sequence in the middle of being written.
pub(crate) struct Cursor<'a> {
    /// The last token, not yet in the cache.
    pub(crate) id: u32,
    /// Its position.
    pub(crate) position: u32,
    /// The prompt's rows.
    pub(crate) prompt: &'a Cache,
    /// Rows of the tokens after it.
    pub(crate) own: &'a mut Cache,
}

/// The weights that the linear layers of a step read.
#[derive(Clone, Copy)]
enum Products<'a> {
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
    fn fwd(self, layer: Linear, x: &[f32], y: &mut [f32], add: bool) {
        match self {
            Products::F32(w) => layer.fwd_few(w, x, y, add),
            Products::Tiles(tiles) => layer.fwd_panels(&tiles[&layer.at], x, y, add),
            Products::Bf16(half) => layer.fwd_few_half(half, x, y, add),
            Products::Q8(eight) => eight.of(layer).fwd(x, y, add),
        }
    }
}

/// Logits[b,v] of the next token of each sequence; the caches grow by one row.
pub(crate) fn step(model: &mut Llama, cursors: &mut [Cursor]) -> Vec<f32> {
    model.ready_decode_weights();
    let Llama { shape, plan, weights: w, table, converted, .. } = model;
    let products = match converted {
        None => Products::F32(w),
        Some(Converted::Tiles(tiles)) => Products::Tiles(tiles),
        Some(Converted::Bf16(half)) => Products::Bf16(half),
        Some(Converted::Q8(eight)) => Products::Q8(eight),
    };
    let (b, h) = (cursors.len(), shape.hidden);
    let positions: Vec<u32> = cursors.iter().map(|c| c.position).collect();
    table.reach(positions.iter().max().map_or(0, |p| *p as usize + 1));
    let mut stream = Vec::with_capacity(b * h);
    for cursor in cursors.iter() {
        stream.extend_from_slice(&w[plan.embed.at + cursor.id as usize * h..][..h]);
    }
    let (mut normed, mut inv) = (vec![0f32; b * h], vec![0f32; b]);
    let (mut qkv, mut att) =
        (vec![0f32; b * shape.qkv_width()], vec![0f32; b * shape.attention_width()]);
    let (mut gate_up, mut act) = (vec![0f32; b * 2 * shape.mlp], vec![0f32; b * shape.mlp]);
    for (index, block) in plan.blocks.iter().enumerate() {
        norm::forward(&stream, &w[block.norm1.clone()], shape.rms_eps, &mut normed, &mut inv);
        span(Part::LinearFwd, || products.fwd(block.qkv, &normed, &mut qkv, false));
        block.finish_qkv(shape, w, &mut qkv, &mut []);
        rope::turn(table, &positions, &mut qkv, shape.heads + shape.kv_heads, Turn::Forward);
        span(Part::Attention, || attend(shape, index, cursors, &qkv, &mut att));
        span(Part::LinearFwd, || products.fwd(block.o, &att, &mut stream, true));
        add_bias(w, &block.o_bias, &mut stream);
        norm::forward(&stream, &w[block.norm2.clone()], shape.rms_eps, &mut normed, &mut inv);
        span(Part::LinearFwd, || products.fwd(block.gate_up, &normed, &mut gate_up, false));
        add_bias(w, &block.gate_up_bias, &mut gate_up);
        swiglu::forward(&gate_up, &mut act, shape.mlp);
        span(Part::LinearFwd, || products.fwd(block.down, &act, &mut stream, true));
        add_bias(w, &block.down_bias, &mut stream);
    }
    norm::forward(&stream, &w[plan.norm.clone()], shape.rms_eps, &mut normed, &mut inv);
    let mut logits = vec![0f32; b * shape.vocab];
    span(Part::Head, || products.fwd(plan.head, &normed, &mut logits, false));
    logits
}
