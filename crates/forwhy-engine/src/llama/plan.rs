//! Where the parameters of each block lie in the flat buffer, fused where they are used together.

use std::ops::Range;

use crate::kernels::Kernels;
use crate::linear::Linear;
use crate::ops::qk_norm::QkNorm;
use crate::shape::{Layout, Shape};

/// Parameters of one block.
pub(crate) struct Block {
    pub(crate) norm1: Range<usize>,
    /// Rows: query heads, key heads, value heads.
    pub(crate) qkv: Linear,
    pub(crate) qkv_bias: Option<Range<usize>>,
    /// The weights of q's norm, then of k's.
    pub(crate) qk_norm: Option<Range<usize>>,
    pub(crate) o: Linear,
    pub(crate) o_bias: Option<Range<usize>>,
    pub(crate) norm2: Range<usize>,
    /// Rows: gate, up.
    pub(crate) gate_up: Linear,
    pub(crate) gate_up_bias: Option<Range<usize>>,
    pub(crate) down: Linear,
    pub(crate) down_bias: Option<Range<usize>>,
}

impl Block {
    /// What follows the product that gives qkv[r, (n+2k)d]: its bias and the norms of q and k, whose
    /// input is copied into `kept` (unless that is empty).
    pub(crate) fn finish_qkv(&self, shape: &Shape, w: &[f32], qkv: &mut [f32], kept: &mut [f32]) {
        add_bias(w, &self.qkv_bias, qkv);
        if let Some(range) = &self.qk_norm {
            QkNorm::new(shape, &w[range.clone()]).forward(qkv, kept);
        }
    }
}

/// Adds the bias at `place`, if there is one, to each row of x.
pub(crate) fn add_bias(w: &[f32], place: &Option<Range<usize>>, x: &mut [f32]) {
    let Some(place) = place else { return };
    let bias = &w[place.clone()];
    for row in x.chunks_exact_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
    }
}

/// Parameters of the model.
pub(crate) struct Plan {
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm: Range<usize>,
    pub(crate) embed: Linear,
    /// The embedding, if tied.
    pub(crate) head: Linear,
}

impl Plan {
    pub(crate) fn new(shape: &Shape, layout: &Layout, kernels: Kernels) -> Self {
        let range = |name: &str| {
            let tensor = layout.tensor(name);
            tensor.map_or_else(|| unreachable!("the layout has {name}"), |t| t.range())
        };
        let (h, v) = (shape.hidden, shape.vocab);
        let matrix = |name: &str, out, inp| Linear { at: range(name).start, out, inp, kernels };
        let block = |i: usize| {
            let name = |rest: &str| format!("model.layers.{i}.{rest}");
            let joined = |wanted: bool, from: &str, to: &str| {
                wanted.then(|| range(&name(from)).start..range(&name(to)).end)
            };
            let mat = |rest: &str, out, inp| matrix(&name(rest), out, inp);
            Block {
                norm1: range(&name("input_layernorm.weight")),
                qkv: mat("self_attn.q_proj.weight", shape.qkv_width(), h),
                qkv_bias: joined(shape.qkv_bias, "self_attn.q_proj.bias", "self_attn.v_proj.bias"),
                qk_norm: joined(
                    shape.qk_norm,
                    "self_attn.q_norm.weight",
                    "self_attn.k_norm.weight",
                ),
                o: mat("self_attn.o_proj.weight", h, shape.attention_width()),
                o_bias: joined(shape.o_bias, "self_attn.o_proj.bias", "self_attn.o_proj.bias"),
                norm2: range(&name("post_attention_layernorm.weight")),
                gate_up: mat("mlp.gate_proj.weight", 2 * shape.mlp, h),
                gate_up_bias: joined(shape.mlp_bias, "mlp.gate_proj.bias", "mlp.up_proj.bias"),
                down: mat("mlp.down_proj.weight", h, shape.mlp),
                down_bias: joined(shape.mlp_bias, "mlp.down_proj.bias", "mlp.down_proj.bias"),
            }
        };
        let embed = matrix("model.embed_tokens.weight", v, h);
        let head = if shape.tied_head { embed } else { matrix("lm_head.weight", v, h) };
        let blocks = (0..shape.layers).map(block).collect();
        Plan { blocks, norm: range("model.norm.weight"), embed, head }
    }
}

impl Plan {
    /// Every linear layer.
    pub(crate) fn linears(&self) -> impl Iterator<Item = Linear> {
        let blocks = self.blocks.iter().flat_map(|b| [b.qkv, b.o, b.gate_up, b.down]);
        blocks.chain([self.head])
    }

    /// The embedding's weights.
    pub(crate) fn embed_of<'a>(&self, w: &'a [f32]) -> &'a [f32] {
        &w[self.embed.at..][..self.embed.out * self.embed.inp]
    }
}
