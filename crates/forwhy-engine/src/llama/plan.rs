//! Where the parameters of each block lie in the flat buffer, fused where they are used together.

use std::ops::Range;

use crate::linear::Linear;
use crate::shape::{Layout, Shape};

/// Parameters of one block.
pub(crate) struct Block {
    pub(crate) norm1: Range<usize>,
    /// Rows: query heads, key heads, value heads.
    pub(crate) qkv: Linear,
    pub(crate) qkv_bias: Option<Range<usize>>,
    pub(crate) o: Linear,
    pub(crate) norm2: Range<usize>,
    /// Rows: gate, up.
    pub(crate) gate_up: Linear,
    pub(crate) down: Linear,
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
    pub(crate) fn new(shape: &Shape, layout: &Layout) -> Self {
        let range = |name: &str| {
            let tensor = layout.tensor(name);
            tensor.map_or_else(|| unreachable!("the layout has {name}"), |t| t.range())
        };
        let (h, v) = (shape.hidden, shape.vocab);
        let matrix = |name: &str, out, inp| Linear { at: range(name).start, out, inp };
        let block = |i: usize| {
            let name = |rest: &str| format!("model.layers.{i}.{rest}");
            let bias = |from: &str, to: &str| range(&name(from)).start..range(&name(to)).end;
            let mat = |rest: &str, out, inp| matrix(&name(rest), out, inp);
            Block {
                norm1: range(&name("input_layernorm.weight")),
                qkv: mat("self_attn.q_proj.weight", shape.qkv_width(), h),
                qkv_bias: shape
                    .qkv_bias
                    .then(|| bias("self_attn.q_proj.bias", "self_attn.v_proj.bias")),
                o: mat("self_attn.o_proj.weight", h, shape.attention_width()),
                norm2: range(&name("post_attention_layernorm.weight")),
                gate_up: mat("mlp.gate_proj.weight", 2 * shape.mlp, h),
                down: mat("mlp.down_proj.weight", h, shape.mlp),
            }
        };
        let embed = matrix("model.embed_tokens.weight", v, h);
        let head = if shape.tied_head { embed } else { matrix("lm_head.weight", v, h) };
        let blocks = (0..shape.layers).map(block).collect();
        Plan { blocks, norm: range("model.norm.weight"), embed, head }
    }
}

impl Plan {
    /// The embedding's weights.
    pub(crate) fn embed_of<'a>(&self, w: &'a [f32]) -> &'a [f32] {
        &w[self.embed.at..][..self.embed.out * self.embed.inp]
    }
}
