//! One token for each of several sequences, over their caches of keys and values.
//!
//! A sequence reads the cached rows of its prompt, which sequences with the same prompt share, then
//! its own: [`attend`]. Its logits have the same bits whichever sequences are decoded beside it; so
//! weights in another form ([`Converted`]), where they are set, serve every step, whatever the batch.

mod attend;
mod cache;

use self::attend::attend;
pub(crate) use self::cache::Cache;
use crate::decode_weights::{Converted, Products};
use crate::llama::Llama;
use crate::llama::plan::add_bias;
use crate::ops::rope::Turn;
use crate::ops::{norm, rope, swiglu};
use crate::profile::{Part, span};

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

/// Logits[b,v] of the next token of each sequence; the caches grow by one row.
pub(crate) fn step(model: &mut Llama, cursors: &mut [Cursor]) -> Vec<f32> {
    model.ready_decode_weights();
    let Llama { shape, plan, weights: w, table, converted, .. } = model;
    let products = converted.as_ref().map_or(Products::F32(w), Converted::products);
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
