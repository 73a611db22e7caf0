//! `config.json` and [`Shape`]: what transformers writes of Llama, Qwen2 (and 2.5), Qwen3 and Mistral
//! models, read and written. Whatever changes what such a model computes and is not known here is
//! refused by its key.

use std::path::Path;

use serde_json::{Value, json};

use crate::shape::{Family, RopeScaling, Shape};
use crate::tokenizer::ChatTokenizer;
use crate::weights::WeightError;

/// The keys of one file, with errors that name them.
struct Config<'a> {
    path: &'a Path,
    json: &'a Value,
}

/// Dimensions, from the keys that transformers writes.
pub(super) fn shape_of(path: &Path, json: &Value) -> Result<Shape, WeightError> {
    let config = Config { path, json };
    let kind = json["model_type"].as_str().unwrap_or("(none)");
    if !["llama", "qwen2", "qwen3", "mistral"].contains(&kind) {
        let what = format!(
            "model_type {kind:?}; \"llama\", \"qwen2\", \"qwen3\" and \"mistral\" are supported"
        );
        return Err(WeightError::unsupported(path, what));
    }
    config.refuse_variants()?;
    let (hidden, heads) = (config.count("hidden_size")?, config.count("num_attention_heads")?);
    // What transformers takes for a key that is not there.
    let head_dim = if kind == "qwen3" { 128 } else { hidden / heads.max(1) };
    let bias = json["attention_bias"] == true;
    let shape = Shape {
        layers: config.count("num_hidden_layers")?,
        hidden,
        heads,
        kv_heads: match kind {
            "llama" => config.count_or("num_key_value_heads", heads)?,
            _ => config.count("num_key_value_heads")?,
        },
        head_dim: config.count_or("head_dim", head_dim)?,
        mlp: config.count("intermediate_size")?,
        vocab: config.count("vocab_size")?,
        rms_eps: config.number(json, "rms_norm_eps")? as f32,
        rope_theta: config.rope_theta()?,
        tied_head: json["tie_word_embeddings"].as_bool().unwrap_or(false),
        qkv_bias: kind == "qwen2" || (kind != "mistral" && bias),
        qk_norm: kind == "qwen3",
        o_bias: ["llama", "qwen3"].contains(&kind) && bias,
        mlp_bias: kind == "llama" && json["mlp_bias"] == true,
        rope_scaling: config.rope_scaling()?,
        max_positions: config.positions(kind)?,
    };
    shape.validate().map_err(|e| WeightError::broken(path, e.to_string()))?;
    Ok(shape)
}

impl Config<'_> {
    fn count(&self, key: &str) -> Result<usize, WeightError> {
        let value = &self.json[key];
        let n = value.as_u64().and_then(|n| u32::try_from(n).ok());
        n.map(|n| n as usize)
            .ok_or_else(|| WeightError::broken(self.path, format!("{key} is {value}")))
    }

    fn count_or(&self, key: &str, default: usize) -> Result<usize, WeightError> {
        if self.json[key].is_null() { Ok(default) } else { self.count(key) }
    }

    fn number(&self, of: &Value, key: &str) -> Result<f64, WeightError> {
        let value = of[key].as_f64();
        value.ok_or_else(|| WeightError::broken(self.path, format!("{key} is {}", of[key])))
    }

    fn refuse(&self, key: &str) -> WeightError {
        let value = &self.json[key];
        WeightError::unsupported(self.path, format!("{key} = {value} is not supported"))
    }

    /// The positions, or the sliding window of the attention where that is shorter.
    fn positions(&self, kind: &str) -> Result<usize, WeightError> {
        let positions = self.count("max_position_embeddings")?;
        let window = match kind {
            // Mistral's class takes 4096 if the key is missing, and none if it is null.
            "mistral" if self.json.get("sliding_window").is_none() => 4096,
            "mistral" => self.count_or("sliding_window", positions)?,
            _ if self.json["use_sliding_window"] == true => self.count("sliding_window")?,
            _ => positions,
        };
        Ok(positions.min(window))
    }

    /// The newer `rope_parameters`, or the older `rope_scaling`; null if neither is there.
    fn rope(&self) -> (&'static str, &Value) {
        match &self.json["rope_parameters"] {
            Value::Null => ("rope_scaling", &self.json["rope_scaling"]),
            parameters => ("rope_parameters", parameters),
        }
    }

    fn rope_theta(&self) -> Result<f64, WeightError> {
        let places = [&self.json["rope_parameters"], self.json];
        match places.into_iter().find(|place| !place["rope_theta"].is_null()) {
            Some(place) => self.number(place, "rope_theta"),
            None => Ok(10_000.0),
        }
    }

    fn rope_scaling(&self) -> Result<RopeScaling, WeightError> {
        let (key, rope) = self.rope();
        let kind = rope.get("rope_type").or_else(|| rope.get("type"));
        let number = |name: &str| self.number(rope, name);
        match kind.map(|k| k.as_str().unwrap_or_default()) {
            // Parameters by layer type have objects in them and no type of their own.
            None if rope.as_object().is_some_and(|r| r.values().any(Value::is_object)) => {
                Err(self.refuse(key))
            }
            None | Some("default") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: number("factor")? }),
            Some("llama3") => Ok(RopeScaling::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_max_positions: number("original_max_position_embeddings")? as usize,
            }),
            Some(_) => Err(self.refuse(key)),
        }
    }

    /// Settings that change what the model computes and that the engine does not know.
    fn refuse_variants(&self) -> Result<(), WeightError> {
        if !self.json["quantization_config"].is_null() {
            return Err(self.refuse("quantization_config"));
        }
        let part =
            |of: &Value| of["partial_rotary_factor"].as_f64().is_some_and(|share| share != 1.0);
        if part(self.json) || part(self.rope().1) {
            let what = "rotary embedding of a part of each head (partial_rotary_factor)";
            return Err(WeightError::unsupported(self.path, what));
        }
        match &self.json["hidden_act"] {
            Value::Null => Ok(()),
            Value::String(act) if act == "silu" => Ok(()),
            _ => Err(self.refuse("hidden_act")),
        }
    }
}

/// What transformers needs to load a model of this shape.
pub(super) fn config_of(shape: &Shape, tokenizer: &ChatTokenizer) -> Value {
    let (kind, class) = match shape.family() {
        Some(Family::Qwen3) => ("qwen3", "Qwen3ForCausalLM"),
        Some(Family::Qwen2) => ("qwen2", "Qwen2ForCausalLM"),
        Some(Family::Llama) => ("llama", "LlamaForCausalLM"),
        None => unreachable!("a shape that is no family's is refused when it is made"),
    };
    json!({
        "architectures": [class],
        "model_type": kind,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.max_positions,
        "rms_norm_eps": f64::from(shape.rms_eps),
        // The layout that old and new versions of transformers read.
        "rope_theta": shape.rope_theta,
        "rope_scaling": rope_of(&shape.rope_scaling),
        "use_sliding_window": false,
        "tie_word_embeddings": shape.tied_head,
        "attention_bias": shape.o_bias,
        "mlp_bias": shape.mlp_bias,
        "hidden_act": "silu",
        "eos_token_id": tokenizer.end_of_turn(),
        "pad_token_id": tokenizer.pad(),
        "torch_dtype": "float32",
    })
}

fn rope_of(scaling: &RopeScaling) -> Value {
    match scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        } => {
            json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_positions,
            })
        }
    }
}
