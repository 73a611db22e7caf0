//! Backward pass of one block, and of the trained blocks of a pack.

use super::Llama;
use super::forward::{Frame, block_forward};
use super::gradient::Gradient;
use super::plan::Block;
use super::space::{Saved, Scratch, Space};
use crate::attention::{self, Attention};
use crate::lora::Site;
use crate::ops::qk_norm::QkNorm;
use crate::ops::rope::Turn;
use crate::ops::{norm, rope, swiglu};
use crate::pack::Rows;
use crate::profile::{Part, span};

/// dx[r,h], the gradient behind a block, becomes the gradient before it.
fn block_backward(
    frame: Frame,
    (index, block): (usize, &Block),
    saved: &mut Saved,
    scratch: &mut Scratch,
    dx: &mut [f32],
    g: &mut Gradient,
) {
    mlp_backward(frame, (index, block), saved, scratch, dx, g);
    attention_backward(frame, (index, block), saved, scratch, dx, g);
}

/// dx is the gradient of the block's output and, through the residual, also of `mid`.
fn mlp_backward(
    frame: Frame,
    (index, block): (usize, &Block),
    saved: &mut Saved,
    scratch: &mut Scratch,
    dx: &mut [f32],
    g: &mut Gradient,
) {
    let (Frame { shape, w, .. }, r) = (frame, frame.r());
    let (h, f) = (shape.hidden, shape.mlp);
    let (act, gate_up) = (&mut scratch.act[..r * f], &mut saved.gate_up[..r * 2 * f]);
    span(Part::LinearDx, || block.down.dx(w, dx, act));
    span(Part::Swiglu, || swiglu::backward(gate_up, act, f));
    span(Part::LinearDw, || g.linear((index, Site::Down), block.down, dx, act));
    g.bias(&block.down_bias, dx);
    g.bias(&block.gate_up_bias, gate_up);
    let kept =
        norm::Kept { x: &saved.mid[..r * h], w: &w[block.norm2.clone()], inv: &saved.inv2[..r] };
    let (normed, dnormed) = (&mut scratch.normed[..r * h], &mut scratch.dnormed[..r * h]);
    span(Part::Norm, || norm::again(kept.x, kept.w, kept.inv, normed));
    span(Part::LinearDx, || block.gate_up.dx(w, gate_up, dnormed));
    span(Part::LinearDw, || g.linear((index, Site::GateUp), block.gate_up, gate_up, normed));
    let (dw, sums) = (g.vector(block.norm2.clone()), &mut scratch.sums);
    span(Part::Norm, || norm::backward(kept, dnormed, dx, dw, sums));
}

fn attention_backward(
    frame: Frame,
    (index, block): (usize, &Block),
    saved: &mut Saved,
    scratch: &mut Scratch,
    dx: &mut [f32],
    g: &mut Gradient,
) {
    let (Frame { shape, w, rows, table, kernels }, r) = (frame, frame.r());
    let h = shape.hidden;
    let att = &saved.att[..r * shape.attention_width()];
    let datt = &mut scratch.dnormed[..att.len()];
    span(Part::LinearDx, || block.o.dx(w, dx, datt));
    span(Part::LinearDw, || g.linear((index, Site::O), block.o, dx, att));
    g.bias(&block.o_bias, dx);
    let dqkv = &mut scratch.dqkv[..r * shape.qkv_width()];
    let kept = attention::Kept {
        qkv: &saved.qkv[..r * shape.qkv_width()],
        out: att,
        lse: &saved.lse[..r * shape.heads],
    };
    let (attention, units) = (Attention::new(shape, kernels), &mut scratch.attention);
    span(Part::AttentionBwd, || attention.backward(rows, kept, datt, dqkv, units));
    let turned = shape.heads + shape.kv_heads;
    span(Part::Rope, || rope::turn(table, &rows.positions, dqkv, turned, Turn::Backward));
    if let Some(place) = &block.qk_norm {
        let (norm, qk) = (QkNorm::new(shape, &w[place.clone()]), &saved.qk[..r * shape.qk_width()]);
        let (dw, sums) = (g.vector(place.clone()), &mut scratch.sums);
        span(Part::Norm, || norm.backward(qk, dqkv, dw, sums));
    }
    g.bias(&block.qkv_bias, dqkv);
    let kept =
        norm::Kept { x: &saved.input[..r * h], w: &w[block.norm1.clone()], inv: &saved.inv1[..r] };
    let (normed, dnormed) = (&mut scratch.normed[..r * h], &mut scratch.dnormed[..r * h]);
    span(Part::Norm, || norm::again(kept.x, kept.w, kept.inv, normed));
    span(Part::LinearDx, || block.qkv.dx(w, dqkv, dnormed));
    span(Part::LinearDw, || g.linear((index, Site::Qkv), block.qkv, dqkv, normed));
    let (dw, sums) = (g.vector(block.norm1.clone()), &mut scratch.sums);
    span(Part::Norm, || norm::backward(kept, dnormed, dx, dw, sums));
}

impl Llama {
    /// Gradients of the blocks from `first` on, after `blocks_forward` and `head_gradient`.
    pub(super) fn blocks_backward(&mut self, rows: &Rows, first: usize, g: &mut Gradient) {
        let Llama { shape, plan, weights, space, table, kernels, .. } = self;
        let frame = Frame { shape, w: weights, rows, table, kernels: *kernels };
        let Space { stream, dstream, scratch, passing, kept, inputs, .. } = space;
        let n = frame.r() * shape.hidden;
        let (stream, dx) = (&mut stream[..n], &mut dstream[..n]);
        for (index, block) in plan.blocks.iter().enumerate().skip(first).rev() {
            let saved = match (inputs.get(index - first), &mut *passing) {
                (Some(input), Some(saved)) => {
                    // the forward pass left those of the last block
                    if index + 1 < shape.layers {
                        stream.copy_from_slice(&input[..n]);
                        block_forward(frame, block, saved, scratch, stream);
                    }
                    saved
                }
                _ => &mut kept[index - first],
            };
            block_backward(frame, (index, block), saved, scratch, dx, g);
        }
        let tied = shape.tied_head;
        span(Part::Embedding, || g.embedding(plan.embed, &rows.ids, dx, !tied));
    }
}
