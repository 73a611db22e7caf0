//! Metadata and tensor names of the architectures `llama` (Mistral and SmolLM2 are stored as it),
//! `qwen2` and `qwen3`.

use super::{Gguf, Value};
use crate::shape::{RopeScaling, Shape};
use crate::weights::WeightError;

/// Divisors of Llama 3's rotary angles, one a pair of elements; the metadata do not name them.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The architectures that are computed.
const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// Dimensions, from the metadata and from which tensors there are.
pub(super) fn shape_of(file: &Gguf) -> Result<Shape, WeightError> {
    let path = &file.path;
    let architecture = file.text("general.architecture")?;
    if !ARCHITECTURES.contains(&architecture) {
        let what = format!(
            "architecture {architecture:?}; \"llama\", \"qwen2\" and \"qwen3\" are supported in GGUF"
        );
        return Err(WeightError::unsupported(path, what));
    }
    let key = |rest: &str| format!("{architecture}.{rest}");
    let count = |rest: &str| file.count(&key(rest));
    let count_or = |rest: &str, default: usize| file.count_or(&key(rest), default);
    let (heads, hidden) = (count("attention.head_count")?, count("embedding_length")?);
    let head_dim = count_or("attention.key_length", hidden / heads.max(1))?;
    for turned in ["rope.dimension_count", "attention.value_length"] {
        if count_or(turned, head_dim)? != head_dim {
            let what = format!("{}, which differs from the size of a head", key(turned));
            return Err(WeightError::unsupported(path, what));
        }
    }
    let embedding = file.entry("token_embd.weight")?;
    let positions = count("context_length")?;
    let has = |tensor: &str| file.tensors.contains_key(tensor);
    let rope_theta = match file.meta.get(&key("rope.freq_base")) {
        None => 10_000.0,
        Some(_) => file.float(&key("rope.freq_base"))?,
    };
    let mut shape = Shape {
        layers: count("block_count")?,
        hidden,
        heads,
        kv_heads: count_or("attention.head_count_kv", heads)?,
        head_dim,
        mlp: count("feed_forward_length")?,
        vocab: embedding.shape[0],
        rms_eps: file.float(&key("attention.layer_norm_rms_epsilon"))? as f32,
        rope_theta,
        tied_head: !has("output.weight"),
        qkv_bias: architecture == "qwen2" || has("blk.0.attn_q.bias"),
        qk_norm: architecture == "qwen3",
        o_bias: has("blk.0.attn_output.bias"),
        mlp_bias: has("blk.0.ffn_down.bias"),
        rope_scaling: linear_scaling(file, architecture)?,
        max_positions: positions.min(count_or("attention.sliding_window", positions)?),
    };
    check_blocks(file, shape.layers)?;
    let broken = |e: crate::shape::ShapeError| WeightError::broken(path, e.to_string());
    shape.validate().map_err(broken)?;
    if architecture == "llama" && has(ROPE_FACTORS) {
        shape.rope_scaling = llama3_scaling(file, &shape)?;
    }
    Ok(shape)
}

/// The block count is believed only if the table has such a block: it sizes everything after.
fn check_blocks(file: &Gguf, layers: usize) -> Result<(), WeightError> {
    if layers > file.tensors.len() {
        let why = format!("{layers} blocks promised, {} tensors present", file.tensors.len());
        return Err(WeightError::broken(&file.path, why));
    }
    Ok(())
}

/// The scaling that the metadata name.
fn linear_scaling(file: &Gguf, architecture: &str) -> Result<RopeScaling, WeightError> {
    let key = |rest: &str| format!("{architecture}.rope.scaling.{rest}");
    match file.meta.get(&key("type")) {
        None => Ok(RopeScaling::None),
        Some(Value::Text(kind)) if kind == "none" => Ok(RopeScaling::None),
        Some(Value::Text(kind)) if kind == "linear" => {
            Ok(RopeScaling::Linear { factor: file.float(&key("factor"))? })
        }
        Some(other) => {
            let what = format!("rotary scaling {other:?}; \"linear\" is supported");
            Err(WeightError::unsupported(&file.path, what))
        }
    }
}

/// The parameters of Llama 3's scaling, from the divisors that they gave: the largest is the factor,
/// the others have stood at 1, 4 and 8192 in every release since 3.1. They are believed only if all
/// divisors follow from them.
fn llama3_scaling(file: &Gguf, shape: &Shape) -> Result<RopeScaling, WeightError> {
    let mut divisors = vec![0f32; shape.head_dim / 2];
    file.read(ROPE_FACTORS, &mut divisors)?;
    let largest = divisors.iter().fold(1f32, |most, x| most.max(*x));
    let scaling = RopeScaling::Llama3 {
        factor: f64::from(largest),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_positions: 8192,
    };
    let fits = divisors.iter().enumerate().all(|(j, divisor)| {
        let rate = shape.rope_theta.powf(-(j as f64) / divisors.len() as f64);
        let off = rate / scaling.scaled(rate) / f64::from(*divisor) - 1.0;
        off.abs() < 1e-3
    });
    if !fits || !shape.rope_scaling.is_none() {
        let what = format!("{ROPE_FACTORS}: not the scaling of Llama 3.1 and later");
        return Err(WeightError::unsupported(&file.path, what));
    }
    Ok(scaling)
}

/// The GGUF name of a Hugging Face tensor name.
pub(super) fn stored_name(name: &str) -> Option<String> {
    match name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".into()),
        "model.norm.weight" => return Some("output_norm.weight".into()),
        "lm_head.weight" => return Some("output.weight".into()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, ending) = part.rsplit_once('.')?;
    let stored = match part {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "self_attn.o_proj" => "attn_output",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{stored}.{ending}"))
}
