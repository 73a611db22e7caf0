//! One kernel with data of its own, for benches. Sizes are the caller's; values are arbitrary.

use std::iter::repeat_with;

use super::Kernels;
use crate::attention::{Attention, Kept, Scratch};
use crate::buffer::Buf;
use crate::decode::{self, Cache, Cursor};
use crate::error::EngineError;
use crate::linear::Linear;
use crate::llama::Llama;
use crate::llama::head::loss_gradient;
use crate::llama::space::HEAD_ROWS;
use crate::pack::{Pack, Rows, Target};
use crate::shape::Shape;

/// Numbers between -0.5 and 0.5.
fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5).collect()
}

/// A linear layer: `rows` x `inp` to `rows` x `out`.
pub struct LinearProbe {
    layer: Linear,
    w: Vec<f32>,
    x: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
}

impl LinearProbe {
    /// With arbitrary weights and inputs.
    pub fn new(kernels: Kernels, rows: usize, inp: usize, out: usize) -> Self {
        LinearProbe {
            layer: Linear { at: 0, out, inp, kernels },
            w: values(out * inp),
            x: values(rows * inp),
            y: values(rows * out),
            dx: vec![0.0; rows * inp],
            dw: vec![0.0; out * inp],
        }
    }

    /// Multiplications and additions of each of its products.
    pub fn flop(&self) -> u64 {
        2 * (self.layer.out * self.x.len()) as u64
    }

    /// y = x W^T.
    pub fn forward(&mut self) {
        self.layer.fwd(&self.w, &self.x, &mut self.y, false);
    }

    /// The same, for few rows.
    pub fn forward_few(&mut self) {
        self.layer.fwd_few(&self.w, &self.x, &mut self.y, false);
    }

    /// dx = dy W.
    pub fn input_gradient(&mut self) {
        self.layer.dx(&self.w, &self.y, &mut self.dx);
    }

    /// dW = dy^T x.
    pub fn weight_gradient(&mut self) {
        self.layer.dw(&self.y, &self.x, &mut self.dw, false);
    }
}

/// Causal attention of one block over one sequence.
pub struct AttentionProbe {
    attention: Attention,
    rows: Rows,
    qkv: Buf,
    out: Buf,
    lse: Buf,
    dqkv: Buf,
    scratch: Scratch,
}

impl AttentionProbe {
    /// A sequence of `tokens` in a model of this shape.
    pub fn new(kernels: Kernels, shape: &Shape, tokens: usize) -> Result<Self, EngineError> {
        let mut pack = Pack::new();
        pack.push_segment(vec![0; tokens], None);
        let width = tokens * shape.qkv_width();
        Ok(AttentionProbe {
            attention: Attention::new(shape, kernels),
            rows: pack.resolve(shape)?.clone(),
            qkv: Buf::copied(&values(width)),
            out: Buf::zeroed(tokens * shape.attention_width()),
            lse: Buf::zeroed(tokens * shape.heads),
            dqkv: Buf::zeroed(width),
            scratch: Scratch::empty(),
        })
    }

    /// The output of all heads.
    pub fn forward(&mut self) {
        let AttentionProbe { attention, rows, qkv, out, lse, scratch, .. } = self;
        attention.forward(rows, qkv, out, lse, scratch);
    }

    /// The gradient of q, k and v, after `forward`.
    pub fn backward(&mut self) {
        let AttentionProbe { attention, rows, qkv, out, lse, dqkv, scratch } = self;
        attention.backward(rows, Kept { qkv, out, lse }, out, dqkv, scratch);
    }
}

/// The head with its loss: linear and cross-entropy, forward and backward, in chunks of rows.
pub struct HeadProbe {
    head: Linear,
    w: Vec<f32>,
    x: Vec<f32>,
    logits: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
}

impl HeadProbe {
    /// `rows` rows of `hidden`, and a vocabulary of `vocab`.
    pub fn new(kernels: Kernels, rows: usize, hidden: usize, vocab: usize) -> Self {
        HeadProbe {
            head: Linear { at: 0, out: vocab, inp: hidden, kernels },
            w: values(vocab * hidden),
            x: values(rows * hidden),
            logits: vec![0.0; HEAD_ROWS * vocab],
            dx: vec![0.0; rows * hidden],
            dw: vec![0.0; vocab * hidden],
        }
    }

    /// The loss, summed over the rows; gradients of x and of the weights.
    pub fn step(&mut self) -> f64 {
        let HeadProbe { head, w, x, logits, dx, dw } = self;
        let part = HEAD_ROWS * head.inp;
        let mut nats = 0.0;
        for (chunk, (x, dx)) in x.chunks(part).zip(dx.chunks_mut(part)).enumerate() {
            let n = x.len() / head.inp;
            let target = |row| Target { row, id: (row * 31 % head.out) as u32, weight: 1.0 };
            let wanted: Vec<Target> = (0..n).map(target).collect();
            let logits = &mut logits[..n * head.out];
            head.fwd(w, x, logits, false);
            nats += loss_gradient(*head, w, &wanted, logits, dx, |dlogits| {
                head.dw(dlogits, x, dw, chunk > 0);
            });
        }
        nats
    }
}

/// A decoding step of several sequences behind one prompt.
pub struct DecodeProbe {
    model: Llama,
    prompt: Cache,
    sequences: usize,
    context: usize,
}

impl DecodeProbe {
    /// `sequences` sequences with a prompt of `context` tokens.
    pub fn new(mut model: Llama, sequences: usize, context: usize) -> Result<Self, EngineError> {
        let shape = model.shape().clone();
        let mut pack = Pack::new();
        pack.push_segment(vec![0; context], None);
        let rows = pack.resolve(&shape)?;
        let mut prompt = Cache::new(&shape);
        model.in_pool(|model| {
            model.prefill(rows, &[], &mut |block, qkv| prompt.push(&shape, block, qkv));
        });
        Ok(DecodeProbe { model, prompt, sequences, context })
    }

    /// The logits of the next token of each sequence.
    pub fn step(&mut self) -> Vec<f32> {
        let DecodeProbe { model, prompt, sequences, context } = self;
        let none = || Cache::new(model.shape());
        let mut own: Vec<Cache> = repeat_with(none).take(*sequences).collect();
        let cursor = |own| Cursor { id: 1, position: *context as u32, prompt: &*prompt, own };
        let mut cursors: Vec<Cursor> = own.iter_mut().map(cursor).collect();
        model.in_pool(|model| decode::step(model, &mut cursors))
    }
}
