//! Preallocated activations. They grow to the largest pack seen and are never shrunk.

use crate::attention;
use crate::buffer::Buf;
use crate::ops::norm;
use crate::shape::Shape;

/// Rows of logits alive at a time.
pub(crate) const HEAD_ROWS: usize = 256;

/// What the forward pass of a block leaves for its backward pass.
pub(crate) struct Saved {
    pub(crate) input: Buf,
    pub(crate) inv1: Buf,
    pub(crate) qkv: Buf,
    /// q and k before their norms, `[r, (n+k)d]`; empty without norms.
    pub(crate) qk: Buf,
    pub(crate) lse: Buf,
    pub(crate) att: Buf,
    pub(crate) mid: Buf,
    pub(crate) inv2: Buf,
    pub(crate) gate_up: Buf,
}

impl Saved {
    fn new(shape: &Shape, r: usize) -> Self {
        Saved {
            input: Buf::zeroed(r * shape.hidden),
            inv1: Buf::zeroed(r),
            qkv: Buf::zeroed(r * shape.qkv_width()),
            qk: Buf::zeroed(if shape.qk_norm { r * shape.qk_width() } else { 0 }),
            lse: Buf::zeroed(r * shape.heads),
            att: Buf::zeroed(r * shape.attention_width()),
            mid: Buf::zeroed(r * shape.hidden),
            inv2: Buf::zeroed(r),
            gate_up: Buf::zeroed(r * 2 * shape.mlp),
        }
    }
}

/// Buffers of the head, for [`HEAD_ROWS`] rows.
pub(crate) struct HeadSpace {
    pub(crate) x: Buf,
    pub(crate) normed: Buf,
    pub(crate) inv: Buf,
    pub(crate) logits: Buf,
    pub(crate) dnormed: Buf,
    pub(crate) dx: Buf,
    /// Partial sums of the gradient of the final norm.
    pub(crate) sums: Buf,
}

impl HeadSpace {
    fn new(shape: &Shape) -> Self {
        let wide = || Buf::zeroed(HEAD_ROWS * shape.hidden);
        HeadSpace {
            x: wide(),
            normed: wide(),
            inv: Buf::zeroed(HEAD_ROWS),
            logits: Buf::zeroed(HEAD_ROWS * shape.vocab),
            dnormed: wide(),
            dx: wide(),
            sums: Buf::zeroed(norm::partial_sums(HEAD_ROWS, shape.hidden)),
        }
    }
}

/// Buffers that live within one block.
pub(crate) struct Scratch {
    /// `[r,h]`
    pub(crate) normed: Buf,
    /// `[r,f]`
    pub(crate) act: Buf,
    /// `[r, max(h, nd)]`, backward only
    pub(crate) dnormed: Buf,
    /// `[r, (n+2k)d]`, backward only
    pub(crate) dqkv: Buf,
    pub(crate) attention: attention::Scratch,
    /// Partial sums of the gradients of norms, backward only
    pub(crate) sums: Buf,
}

/// All activations of a model.
pub(crate) struct Space {
    rows: usize,
    /// The residual stream, `[r,h]`.
    pub(crate) stream: Buf,
    /// Its gradient; backward only.
    pub(crate) dstream: Buf,
    pub(crate) scratch: Scratch,
    /// For blocks that keep nothing.
    pub(crate) passing: Option<Saved>,
    /// For the top blocks, in their order.
    pub(crate) kept: Vec<Saved>,
    /// In place of `kept` where activations are computed again: the blocks' inputs, `[r,h]`.
    pub(crate) inputs: Vec<Buf>,
    pub(crate) head: Option<HeadSpace>,
}

impl Space {
    /// No memory yet.
    pub(crate) fn empty() -> Self {
        let none = || Buf::zeroed(0);
        let attention = attention::Scratch::empty();
        let (normed, act, dnormed, dqkv, sums) = (none(), none(), none(), none(), none());
        let scratch = Scratch { normed, act, dnormed, dqkv, attention, sums };
        let (stream, dstream) = (none(), none());
        let (kept, inputs) = (Vec::new(), Vec::new());
        Space { rows: 0, stream, dstream, scratch, passing: None, kept, inputs, head: None }
    }

    /// Makes room for `rows` rows, of which the top `kept` blocks keep their activations, or only
    /// their inputs if they are to `recompute` the rest.
    pub(crate) fn reserve(&mut self, shape: &Shape, rows: usize, kept: usize, recompute: bool) {
        if rows > self.rows {
            *self = Space { head: self.head.take(), ..Space::empty() };
            // packs differ by a few rows: do not start anew for each
            let rows = rows.next_multiple_of(128);
            self.rows = rows;
            self.stream = Buf::zeroed(rows * shape.hidden);
            self.scratch.normed = Buf::zeroed(rows * shape.hidden);
            self.scratch.act = Buf::zeroed(rows * shape.mlp);
        }
        let rows = self.rows;
        if (recompute || kept < shape.layers) && self.passing.is_none() {
            self.passing = Some(Saved::new(shape, rows));
        }
        if kept > 0 && self.dstream.is_empty() {
            self.dstream = Buf::zeroed(rows * shape.hidden);
            let widest = shape.hidden.max(shape.attention_width());
            self.scratch.dnormed = Buf::zeroed(rows * widest);
            self.scratch.dqkv = Buf::zeroed(rows * shape.qkv_width());
            let widest = shape.hidden.max(2 * shape.head_dim);
            self.scratch.sums = Buf::zeroed(norm::partial_sums(rows, widest));
        }
        while recompute && self.inputs.len() < kept {
            self.inputs.push(Buf::zeroed(rows * shape.hidden));
        }
        while !recompute && self.kept.len() < kept {
            self.kept.push(Saved::new(shape, rows));
        }
    }

    /// The head's buffers.
    pub(crate) fn head(&mut self, shape: &Shape) -> &mut HeadSpace {
        self.head.get_or_insert_with(|| HeadSpace::new(shape))
    }
}
