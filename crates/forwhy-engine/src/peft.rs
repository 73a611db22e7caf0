//! LoRA adapters in the format of Hugging Face's `peft`: a folder with `adapter_config.json` and
//! `adapter_model.safetensors`.
//!
//! - [`open`] reads one as the tensors that [`crate::llama::Llama::import_scope`] takes. Whatever
//!   would change what the adapter computes and is not done here (DoRA, ranks by module, trained
//!   biases or whole modules, tensors of other layers) is refused by its key or name.
//! - [`export`] writes one that `peft` loads.
//!
//! The engine has adapters on all seven projections. A projection that the folder does not target has
//! zeros for A and B: it computes nothing, its gradients are zero, and [`export`] leaves it out again.
//! Rank-stabilised adapters (scale alpha / sqrt(r)) are read as plain ones with another alpha.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use forwhy_store::{FileError, atomic};
use serde_json::{Value, json};

use crate::llama::{NamedTensor, Scope};
use crate::lora::places;
use crate::safetensors::{self, Safetensors};
use crate::shape::{Layout, Shape};
use crate::weights::WeightError;

/// What peft puts before the name that a tensor has in the model.
const PREFIX: &str = "base_model.model.";
/// Largest configuration that is read.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Largest rank that is believed.
const MAX_RANK: u64 = 1 << 12;

/// Keys that have to be absent, null, false or empty, because they change what is computed.
const REFUSED: [&str; 15] = [
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "fan_in_fan_out",
    "lora_bias",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
];

/// Adapters for a model of `shape`: their scope and tensors.
pub fn open(dir: &Path, shape: &Shape) -> Result<(Scope, Vec<NamedTensor>), WeightError> {
    let path = dir.join("adapter_config.json");
    if !path.exists() {
        let why = "expected adapter_config.json and adapter_model.safetensors there";
        return Err(WeightError::NoModel { path: dir.into(), why: why.into() });
    }
    let bytes =
        atomic::read(&path, MAX_CONFIG_BYTES).map_err(|e| WeightError::io(&path)(e.source))?;
    let config: Value =
        serde_json::from_slice(&bytes).map_err(|e| WeightError::broken(&path, e.to_string()))?;
    let (rank, alpha) = scale_of(&path, &config)?;
    let file = Safetensors::open(&dir.join("adapter_model.safetensors"))?;
    let tensors = tensors_of(&file, dir, shape, rank)?;
    Ok((Scope::Lora { rank, alpha }, tensors))
}

/// Rank, and the alpha that gives the scale by alpha / rank.
fn scale_of(path: &Path, config: &Value) -> Result<(usize, f32), WeightError> {
    let refuse = |key: &str| {
        let what = format!("{key} = {} is not supported in an adapter", config[key]);
        Err(WeightError::unsupported(path, what))
    };
    if config["peft_type"] != "LORA" {
        return refuse("peft_type");
    }
    if !(config["bias"].is_null() || config["bias"] == "none") {
        return refuse("bias");
    }
    let off = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    if let Some(key) = REFUSED.into_iter().find(|key| !off(&config[*key])) {
        return refuse(key);
    }
    let broken = |key: &str| WeightError::broken(path, format!("{key} is {}", config[key]));
    let rank = config["r"].as_u64().filter(|r| (1..=MAX_RANK).contains(r));
    let rank = rank.ok_or_else(|| broken("r"))? as usize;
    let alpha = config["lora_alpha"].as_f64().filter(|a| a.is_finite() && *a > 0.0);
    let alpha = alpha.ok_or_else(|| broken("lora_alpha"))?;
    let stabilised = if config["use_rslora"] == true { (rank as f64).sqrt() } else { 1.0 };
    Ok((rank, (alpha * stabilised) as f32))
}

fn tensors_of(
    file: &Safetensors,
    dir: &Path,
    shape: &Shape,
    rank: usize,
) -> Result<Vec<NamedTensor>, WeightError> {
    let mut left: BTreeSet<String> = file.names().into_iter().map(String::from).collect();
    let mut tensors = Vec::new();
    for (name, sizes, at) in places(shape, &Layout::new(shape), rank) {
        let stored = format!("{PREFIX}{name}");
        let mut values = vec![0.0; at.len()];
        if left.remove(&stored) {
            let found = file.shape(&stored).unwrap_or_default();
            if found != sizes {
                let why = format!("tensor {stored} has shape {found:?}, expected {sizes:?}");
                return Err(WeightError::broken(dir, why));
            }
            file.read(&stored, &mut values)?;
        }
        tensors.push((name, sizes, values));
    }
    if let Some(name) = left.first() {
        let what = format!("tensor {name} is on no projection that the engine adapts");
        return Err(WeightError::unsupported(dir, what));
    }
    let names: BTreeSet<&str> = file.names().into_iter().collect();
    for name in &names {
        let other = match name.contains("lora_A") {
            true => name.replace("lora_A", "lora_B"),
            false => name.replace("lora_B", "lora_A"),
        };
        if !names.contains(other.as_str()) {
            return Err(WeightError::NoTensor { path: dir.into(), name: other });
        }
    }
    match names.is_empty() {
        true => Err(WeightError::broken(dir, "the adapter has no tensor")),
        false => Ok(tensors),
    }
}

/// Writes adapters of `rank` and `alpha`, as [`crate::llama::Llama::export_scope`] gives them. `base`
/// says which model they are for: a path or a name on the hub.
pub fn export(
    dir: &Path,
    (rank, alpha): (usize, f32),
    tensors: &[NamedTensor],
    base: &str,
) -> Result<(), FileError> {
    // A and B of one projection follow each other.
    let adapted: Vec<&NamedTensor> = tensors
        .chunks(2)
        .filter(|pair| pair.iter().any(|(_, _, values)| values.iter().any(|x| *x != 0.0)))
        .flatten()
        .collect();
    let names: Vec<String> = adapted.iter().map(|t| format!("{PREFIX}{}", t.0)).collect();
    let stored: Vec<(&str, &[usize], &[f32])> =
        names.iter().zip(&adapted).map(|(name, t)| (name.as_str(), &t.1[..], &t.2[..])).collect();
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    atomic::write_with(&dir.join("adapter_model.safetensors"), |out| {
        safetensors::write(out, &metadata, &stored)
    })?;
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": target_modules(tensors, &adapted),
        "bias": "none",
        "fan_in_fan_out": false,
        "use_rslora": false,
        "inference_mode": true,
    });
    // Last: a folder with its configuration is complete.
    atomic::write_json(&dir.join("adapter_config.json"), &config)
}

/// The short names of the adapted projections; full names if one is adapted in some blocks only.
fn target_modules(all: &[NamedTensor], adapted: &[&NamedTensor]) -> BTreeSet<String> {
    let module = |t: &NamedTensor| t.0.split(".lora_").next().unwrap_or_default().to_string();
    let short = |full: &str| full.rsplit('.').next().unwrap_or_default().to_string();
    let full: BTreeSet<String> = adapted.iter().map(|t| module(t)).collect();
    let names: BTreeSet<String> = full.iter().map(|name| short(name)).collect();
    let meant = all.iter().map(module).filter(|name| names.contains(&short(name)));
    if meant.collect::<BTreeSet<_>>() == full { names } else { full }
}
