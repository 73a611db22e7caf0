//! Sizes of a Llama-family model, and where each of its tensors lies in one flat buffer.
//!
//! Letters used throughout this crate: r rows (tokens of a pack), t positions, h hidden, v vocabulary,
//! f width of the MLP, n query heads, k key/value heads, d size of a head.
//!
//! The flat buffer holds the blocks from the first to the last, then the final norm, the embedding
//! and, if it is not tied, the head. So the top k blocks are one range of it, and q, k, v (and gate,
//! up) lie side by side and are used as one matrix.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Sizes of a decoder of the Llama family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Number of blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Size of one head; even.
    pub head_dim: usize,
    /// Width of the gated MLP.
    pub mlp: usize,
    /// Entries of the embedding.
    pub vocab: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_eps: f32,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// Whether the head is the embedding.
    pub tied_head: bool,
    /// Whether q, k and v have biases (Qwen2).
    pub qkv_bias: bool,
    /// Whether q and k are normalised per head (Qwen3).
    pub qk_norm: bool,
    /// Longest sequence.
    pub max_positions: usize,
}

/// A shape that this engine cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model shape: {field} = {value}: {reason}")]
pub struct ShapeError {
    /// The field at fault.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// Why it cannot be run, and what would do.
    pub reason: String,
}

/// Most elements of a model: 2^36 (256 GiB in f32). Larger headers are taken for corrupt.
const MAX_ELEMENTS: u128 = 1 << 36;

impl Shape {
    /// That of SmolLM2-135M, for benches.
    pub fn smollm2_135m() -> Self {
        Shape {
            layers: 30,
            hidden: 576,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            mlp: 1536,
            vocab: 49_152,
            rms_eps: 1e-5,
            rope_theta: 1e5,
            tied_head: true,
            qkv_bias: false,
            qk_norm: false,
            max_positions: 8192,
        }
    }

    /// Rows of the fused q, k, v matrix: (n + 2k) d.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Width of the attention's output: n d.
    pub fn attention_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Refuses what cannot be run, before any memory is taken.
    pub fn validate(&self) -> Result<(), ShapeError> {
        let sizes = [
            ("layers", self.layers, 1 << 12),
            ("hidden", self.hidden, 1 << 20),
            ("heads", self.heads, 1 << 12),
            ("kv_heads", self.kv_heads, 1 << 12),
            ("head_dim", self.head_dim, 1 << 12),
            ("mlp", self.mlp, 1 << 22),
            ("vocab", self.vocab, 1 << 24),
            ("max_positions", self.max_positions, 1 << 24),
        ];
        for (field, size, most) in sizes {
            if size == 0 || size > most {
                return Err(fail(field, size, &format!("expected 1 to {most}")));
            }
        }
        self.validate_attention()?;
        if !(self.rms_eps.is_finite() && self.rms_eps > 0.0) {
            return Err(fail("rms_eps", self.rms_eps, "expected a small positive number"));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 1.0) {
            return Err(fail("rope_theta", self.rope_theta, "expected a number above 1"));
        }
        match self.elements() {
            n if n > MAX_ELEMENTS => {
                Err(fail("elements", n, &format!("more than {MAX_ELEMENTS}, the file is corrupt")))
            }
            _ => Ok(()),
        }
    }

    fn validate_attention(&self) -> Result<(), ShapeError> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            let reason = format!("expected a divisor of heads = {}", self.heads);
            return Err(fail("kv_heads", self.kv_heads, &reason));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(fail("head_dim", self.head_dim, "expected an even number"));
        }
        if self.qk_norm {
            let reason = "this engine has no q/k norms yet (Qwen3); use a Llama or Qwen2 model";
            return Err(fail("qk_norm", true, reason));
        }
        Ok(())
    }

    /// Elements of all tensors, without overflow.
    fn elements(&self) -> u128 {
        let wide = |n: usize| n as u128;
        let (h, f) = (wide(self.hidden), wide(self.mlp));
        let qkv = wide(self.heads + 2 * self.kv_heads) * wide(self.head_dim);
        let attention = (h + 1) * qkv + h * wide(self.heads) * wide(self.head_dim);
        let block = attention + 3 * h * f + 2 * h;
        wide(self.layers) * block + h + 2 * wide(self.vocab) * h
    }
}

fn fail(field: &'static str, value: impl ToString, reason: &str) -> ShapeError {
    ShapeError { field, value: value.to_string(), reason: reason.into() }
}

/// One tensor of the flat buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Hugging Face name, e.g. `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Offset in the flat buffer, in elements.
    pub at: usize,
    /// Sizes, row-major: `[out, in]` for a matrix, `[n]` for a vector.
    pub shape: Vec<usize>,
}

impl Tensor {
    /// Its place in the flat buffer.
    pub fn range(&self) -> Range<usize> {
        self.at..self.at + self.shape.iter().product::<usize>()
    }
}

/// Where each tensor of a model lies in its flat buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<Tensor>,
    len: usize,
    blocks: Vec<Range<usize>>,
}

impl Layout {
    /// The layout of a valid shape.
    pub fn new(shape: &Shape) -> Self {
        let mut layout = Layout { tensors: Vec::new(), len: 0, blocks: Vec::new() };
        for block in 0..shape.layers {
            let from = layout.len;
            layout.push_block(shape, &format!("model.layers.{block}."));
            layout.blocks.push(from..layout.len);
        }
        layout.push("model.norm.weight".into(), &[shape.hidden]);
        layout.push("model.embed_tokens.weight".into(), &[shape.vocab, shape.hidden]);
        if !shape.tied_head {
            layout.push("lm_head.weight".into(), &[shape.vocab, shape.hidden]);
        }
        layout
    }

    fn push_block(&mut self, s: &Shape, prefix: &str) {
        let (h, q, k) = (s.hidden, s.heads * s.head_dim, s.kv_heads * s.head_dim);
        let mut push = |name: &str, shape: &[usize]| self.push(format!("{prefix}{name}"), shape);
        push("input_layernorm.weight", &[h]);
        push("self_attn.q_proj.weight", &[q, h]);
        push("self_attn.k_proj.weight", &[k, h]);
        push("self_attn.v_proj.weight", &[k, h]);
        if s.qkv_bias {
            push("self_attn.q_proj.bias", &[q]);
            push("self_attn.k_proj.bias", &[k]);
            push("self_attn.v_proj.bias", &[k]);
        }
        push("self_attn.o_proj.weight", &[h, q]);
        push("post_attention_layernorm.weight", &[h]);
        push("mlp.gate_proj.weight", &[s.mlp, h]);
        push("mlp.up_proj.weight", &[s.mlp, h]);
        push("mlp.down_proj.weight", &[h, s.mlp]);
    }

    fn push(&mut self, name: String, shape: &[usize]) {
        let tensor = Tensor { name, at: self.len, shape: shape.to_vec() };
        self.len = tensor.range().end;
        self.tensors.push(tensor);
    }

    /// All tensors, in the order of the buffer.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// Elements of the flat buffer.
    #[expect(clippy::len_without_is_empty, reason = "a model is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Range of the blocks from `first` to the last.
    pub fn blocks_from(&self, first: usize) -> Range<usize> {
        let end = self.blocks.last().map_or(0, |b| b.end);
        self.blocks.get(first).map_or(end, |b| b.start)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Shape {
        Shape {
            layers: 2,
            hidden: 64,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            mlp: 96,
            vocab: 300,
            rms_eps: 1e-5,
            rope_theta: 1e4,
            tied_head: true,
            qkv_bias: false,
            qk_norm: false,
            max_positions: 512,
        }
    }

    #[test]
    fn tensors_fill_the_buffer_without_gaps() {
        for (tied_head, qkv_bias) in [(true, false), (false, true)] {
            let layout = Layout::new(&Shape { tied_head, qkv_bias, ..tiny() });
            let mut at = 0;
            for tensor in layout.tensors() {
                assert_eq!(tensor.at, at, "{}", tensor.name);
                at = tensor.range().end;
            }
            assert_eq!(at, layout.len());
        }
    }

    #[test]
    fn the_top_blocks_are_one_range_below_the_final_norm() {
        let layout = Layout::new(&tiny());
        let top = layout.blocks_from(1);
        let at = |name: &str| layout.tensor(name).unwrap().at;
        assert_eq!(top.start, at("model.layers.1.input_layernorm.weight"));
        assert_eq!(top.end, at("model.norm.weight"));
        assert!(layout.blocks_from(2).is_empty());
    }

    #[test]
    fn fault_39_absurd_sizes_are_refused_by_name() {
        tiny().validate().unwrap();
        let refused = |s: Shape| s.validate().unwrap_err().field;
        assert_eq!(refused(Shape { vocab: usize::MAX, ..tiny() }), "vocab");
        assert_eq!(refused(Shape { layers: 0, ..tiny() }), "layers");
        assert_eq!(refused(Shape { kv_heads: 3, ..tiny() }), "kv_heads");
        assert_eq!(refused(Shape { qk_norm: true, ..tiny() }), "qk_norm");
        assert_eq!(refused(Shape { rms_eps: f32::NAN, ..tiny() }), "rms_eps");
        let huge = Shape { layers: 4096, hidden: 1 << 20, mlp: 1 << 22, ..tiny() };
        assert_eq!(refused(huge), "elements");
    }
}
