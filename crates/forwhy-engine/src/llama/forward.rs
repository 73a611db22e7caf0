//! Forward pass of one block, and of all blocks of a pack.

use super::plan::{Block, add_bias};
use super::space::{Saved, Scratch};
use super::{Llama, Store};
use crate::attention::Attention;
use crate::kernels::Kernels;
use crate::ops::rope::{Table, Turn};
use crate::ops::{norm, rope, swiglu};
use crate::pack::Rows;
use crate::profile::{Part, span};
use crate::shape::Shape;

/// What every block needs to know.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) w: &'a [f32],
    pub(crate) rows: &'a Rows,
    pub(crate) table: &'a Table,
    pub(crate) kernels: Kernels,
}

impl Frame<'_> {
    pub(crate) fn r(&self) -> usize {
        self.rows.ids.len()
    }
}

/// stream[r,h] goes through a block; `saved` keeps what its backward pass needs.
pub(crate) fn block_forward(
    frame: Frame,
    block: &Block,
    saved: &mut Saved,
    scratch: &mut Scratch,
    stream: &mut [f32],
) {
    let (Frame { shape, w, rows, table, kernels }, r) = (frame, frame.r());
    let (h, f) = (shape.hidden, shape.mlp);
    let normed = &mut scratch.normed[..r * h];
    let (inv1, inv2) = (&mut saved.inv1[..r], &mut saved.inv2[..r]);
    let qkv = &mut saved.qkv[..r * shape.qkv_width()];
    let att = &mut saved.att[..r * shape.attention_width()];
    let (mid, gate_up) = (&mut saved.mid[..r * h], &mut saved.gate_up[..r * 2 * f]);
    span(Part::Norm, || {
        saved.input[..r * h].copy_from_slice(stream);
        mid.copy_from_slice(stream);
        norm::forward(stream, &w[block.norm1.clone()], shape.rms_eps, normed, inv1);
    });
    span(Part::LinearFwd, || block.qkv.fwd(w, normed, qkv, false));
    let qk = &mut saved.qk[..if shape.qk_norm { r * shape.qk_width() } else { 0 }];
    span(Part::Norm, || block.finish_qkv(shape, w, qkv, qk));
    let turned = shape.heads + shape.kv_heads;
    span(Part::Rope, || rope::turn(table, &rows.positions, qkv, turned, Turn::Forward));
    let lse = &mut saved.lse[..r * shape.heads];
    let (attention, units) = (Attention::new(shape, kernels), &mut scratch.attention);
    span(Part::Attention, || attention.forward(rows, qkv, att, lse, units));
    // the residual is added by the product
    span(Part::LinearFwd, || block.o.fwd(w, att, mid, true));
    add_bias(w, &block.o_bias, mid);
    span(Part::Norm, || norm::forward(mid, &w[block.norm2.clone()], shape.rms_eps, normed, inv2));
    span(Part::LinearFwd, || block.gate_up.fwd(w, normed, gate_up, false));
    add_bias(w, &block.gate_up_bias, gate_up);
    let act = &mut scratch.act[..r * f];
    span(Part::Swiglu, || swiglu::forward(gate_up, act, f));
    span(Part::Norm, || stream.copy_from_slice(mid));
    span(Part::LinearFwd, || block.down.fwd(w, act, stream, true));
    add_bias(w, &block.down_bias, stream);
}

impl Llama {
    /// Runs all blocks: the residual stream behind the last is left in `space.stream`. Blocks from
    /// `keep_from` on keep their activations. `hash` allows the trunk cache; `store` takes keys and
    /// values.
    pub(super) fn blocks_forward(
        &mut self,
        rows: &Rows,
        keep_from: usize,
        hash: Option<[u8; 32]>,
        mut store: Option<&mut Store>,
    ) {
        let Llama { shape, plan, weights, space, table, trunk, recompute, kernels, .. } = self;
        table.reach(rows.longest());
        space.reserve(shape, rows.ids.len(), shape.layers - keep_from, *recompute);
        let frame = Frame { shape, w: weights, rows, table, kernels: *kernels };
        let stream = &mut space.stream[..frame.r() * shape.hidden];
        let trunk = trunk.as_ref().filter(|t| keep_from >= t.blocks());
        let cache = trunk.zip(hash).filter(|_| store.is_none());
        let hit = cache.and_then(|(trunk, hash)| trunk.get(&hash, frame.r()));
        let start = match (&hit, cache) {
            (Some(rows), Some((trunk, _))) => {
                stream.copy_from_slice(rows);
                trunk.blocks()
            }
            _ => {
                embed(frame, plan.embed.at, stream);
                0
            }
        };
        for (index, block) in plan.blocks.iter().enumerate().skip(start) {
            if let Some((trunk, hash)) = cache.filter(|(t, _)| hit.is_none() && t.blocks() == index)
            {
                trunk.put(hash, stream);
            }
            let saved = match index.checked_sub(keep_from) {
                Some(kept) if !*recompute => &mut space.kept[kept],
                Some(kept) => {
                    space.inputs[kept][..stream.len()].copy_from_slice(stream);
                    space.passing.as_mut().unwrap_or_else(|| unreachable!("reserved above"))
                }
                None => space.passing.as_mut().unwrap_or_else(|| unreachable!("reserved above")),
            };
            block_forward(frame, block, saved, &mut space.scratch, stream);
            if let Some(store) = &mut store {
                store(index, &saved.qkv[..frame.r() * shape.qkv_width()]);
            }
        }
    }
}

/// stream[r,h] = rows of the embedding.
fn embed(frame: Frame, at: usize, stream: &mut [f32]) {
    let h = frame.shape.hidden;
    span(Part::Embedding, || {
        for (row, id) in stream.chunks_exact_mut(h).zip(&frame.rows.ids) {
            row.copy_from_slice(&frame.w[at + *id as usize * h..][..h]);
        }
    });
}
