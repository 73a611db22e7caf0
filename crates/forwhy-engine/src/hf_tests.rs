use super::*;

use forwhy_core::chat::Message;
use std::fs;
use tempfile::TempDir;

use crate::weights::{self, load_into};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny")
}

/// A copy of the fixture that a test may damage.
fn copy() -> TempDir {
    let dir = TempDir::new().unwrap();
    let names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    for name in names {
        fs::copy(fixture().join(name), dir.path().join(name)).unwrap();
    }
    dir
}

fn refused(dir: &TempDir) -> String {
    weights::open(dir.path()).err().expect("the directory is refused").to_string()
}

/// The fixture with one key of a JSON file set.
fn with(file: &str, key: &str, value: Value) -> TempDir {
    let dir = copy();
    let mut json = read_json(&dir.path().join(file)).unwrap();
    json[key] = value;
    atomic::write_json(&dir.path().join(file), &json).unwrap();
    dir
}

fn params(model: &ModelFiles) -> Vec<f32> {
    let layout = Layout::new(model.source.shape());
    let mut params = vec![0.0; layout.len()];
    load_into(model.source.as_ref(), &layout, &mut params).unwrap();
    params
}

#[test]
fn what_is_exported_is_the_same_model() {
    let model = weights::open(&fixture()).unwrap();
    let dir = TempDir::new().unwrap();
    let before = params(&model);
    export(dir.path(), model.source.shape(), &before, &model.tokenizer).unwrap();
    let again = weights::open(dir.path()).unwrap();
    assert_eq!(again.source.shape(), model.source.shape());
    assert_eq!(params(&again), before);
    let chat = [Message::user("Hello 12"), Message::assistant("yes")];
    let ids = |m: &ModelFiles| m.tokenizer.chat(&chat, &[], false).unwrap();
    assert_eq!(ids(&again), ids(&model));
    assert_eq!(again.tokenizer.end_of_turn(), model.tokenizer.end_of_turn());
}

#[test]
fn the_token_that_begins_a_text_is_exported() {
    let dir = with("tokenizer_config.json", "bos_token", json!("<|im_start|>"));
    let path = dir.path().join("tokenizer_config.json");
    let mut settings = read_json(&path).unwrap();
    let template = settings["chat_template"].as_str().unwrap();
    settings["chat_template"] = format!("{{{{ bos_token }}}}{template}").into();
    atomic::write_json(&path, &settings).unwrap();
    let model = weights::open(dir.path()).unwrap();
    let to = TempDir::new().unwrap();
    export(to.path(), model.source.shape(), &params(&model), &model.tokenizer).unwrap();
    let again = weights::open(to.path()).unwrap();
    let text = |m: &ModelFiles| m.tokenizer.chat_text(&[Message::user("Hi")], &[], true).unwrap();
    assert!(text(&model).starts_with("<|im_start|><|im_start|>"));
    assert_eq!(text(&again), text(&model));
}

#[test]
fn the_hash_covers_tokens_settings_and_template() {
    let hash = |dir: &TempDir| weights::open(dir.path()).unwrap().source.hash();
    let plain = hash(&copy());
    assert_eq!(plain, hash(&copy()));
    assert_ne!(plain, hash(&with("tokenizer_config.json", "note", json!("x"))));
    assert_ne!(plain, hash(&with("tokenizer.json", "padding", json!({"x": 1}))));
    let dir = copy();
    let template = read_json(&dir.path().join("tokenizer_config.json")).unwrap();
    let template = template["chat_template"].as_str().unwrap();
    atomic::write(&dir.path().join("chat_template.jinja"), template.as_bytes()).unwrap();
    assert_ne!(plain, hash(&dir));
}

#[test]
fn shards_are_read_as_one_model() {
    let dir = copy();
    let whole = Safetensors::open(&dir.path().join("model.safetensors")).unwrap();
    let tensors: Vec<_> = whole.names().into_iter().map(|n| whole.tensor(n).unwrap()).collect();
    let mut map = serde_json::Map::new();
    for (i, half) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
        let name = format!("model-{i}.safetensors");
        half.iter().for_each(|t| drop(map.insert(t.0.clone(), name.clone().into())));
        let parts: Vec<_> = half.iter().map(|t| (t.0.as_str(), &t.1[..], &t.2[..])).collect();
        let write =
            |out: &mut dyn std::io::Write| safetensors::write(out, &BTreeMap::new(), &parts);
        atomic::write_with(&dir.path().join(name), write).unwrap();
    }
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    atomic::write_json(&index, &json!({"weight_map": map})).unwrap();
    let sharded = weights::open(dir.path()).unwrap();
    assert_eq!(params(&sharded), params(&weights::open(&fixture()).unwrap()));

    map.insert("x".into(), "../elsewhere.safetensors".into());
    atomic::write_json(&index, &json!({"weight_map": map})).unwrap();
    assert!(refused(&dir).contains("is no name of a safetensors file"));
}

#[test]
fn fault_39_pickle_checkpoints_are_refused_by_name() {
    let dir = copy();
    fs::rename(dir.path().join("model.safetensors"), dir.path().join("pytorch_model.bin")).unwrap();
    assert!(refused(&dir).contains("pytorch_model.bin is a pickle checkpoint"));
    let alone = weights::open(&dir.path().join("pytorch_model.bin")).err().unwrap().to_string();
    assert!(alone.contains("can run code"), "{alone}");
}

#[test]
fn fault_39_code_hooks_are_refused() {
    for file in ["config.json", "tokenizer_config.json"] {
        let hook = json!({"AutoTokenizer": ["code.Tokenizer", null]});
        assert!(refused(&with(file, "auto_map", hook)).contains("auto_map"), "{file}");
    }
}

#[test]
fn fault_39_what_would_be_computed_wrongly_is_named() {
    let config = |key: &str, value: Value| refused(&with("config.json", key, value));
    assert!(config("model_type", json!("gemma3")).contains("\"gemma3\""));
    assert!(
        config("attention_bias", json!(true))
            .contains("no tensor model.layers.0.self_attn.q_proj.bias")
    );
    assert!(
        config("mlp_bias", json!(true)).contains("no tensor model.layers.0.mlp.gate_proj.bias")
    );
    assert!(config("quantization_config", json!({"bits": 4})).contains("quantization_config = "));
    assert!(config("partial_rotary_factor", json!(0.5)).contains("partial_rotary_factor"));
    assert!(config("hidden_act", json!("gelu")).contains("hidden_act = \"gelu\""));
    for kind in ["yarn", "longrope", "dynamic"] {
        let scaled = json!({"rope_type": kind, "factor": 8.0});
        assert!(config("rope_parameters", scaled).contains("rope_parameters = "), "{kind}");
    }
    let by_layer = json!({"full_attention": {"rope_theta": 1e4}});
    assert!(config("rope_parameters", by_layer).contains("rope_parameters = "));
    let partial = json!({"rope_type": "llama3", "factor": 8.0});
    assert!(config("rope_parameters", partial).contains("low_freq_factor is null"));
    let shrinks = json!({"rope_type": "linear", "factor": 0.5});
    assert!(config("rope_parameters", shrinks).contains("rope_scaling = Linear"));
    assert!(config("hidden_size", json!(64)).contains("config.json says"));
    assert!(config("num_hidden_layers", json!(3)).contains("no tensor model.layers.2."));
    assert!(config("num_hidden_layers", json!(1)).contains("is not part of a model"));
    assert!(config("vocab_size", json!(-1)).contains("vocab_size is -1"));
    assert!(config("rms_norm_eps", Value::Null).contains("rms_norm_eps"));
    let settings = |key: &str| refused(&with("tokenizer_config.json", key, Value::Null));
    assert!(settings("chat_template").contains("no chat template"));
}

#[test]
fn a_directory_that_is_no_model_says_what_is_expected() {
    let dir = TempDir::new().unwrap();
    assert!(refused(&dir).contains("expected config.json"));
    let dir = copy();
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    assert!(refused(&dir).contains("expected tokenizer.json"));
    let dir = copy();
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    assert!(refused(&dir).contains("expected model.safetensors"));
    let dir = copy();
    let weights = weights::open(&dir.path().join("model.safetensors")).err().unwrap();
    assert!(weights.to_string().contains("give the directory"));
}
