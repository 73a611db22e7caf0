//! A tiny random model of each family against transformers and PyTorch (`scripts/families.py`): logits,
//! loss, every gradient, fifty steps of training; the same weights from GGUF files and after export.

#![allow(clippy::unwrap_used, reason = "a test whose set-up fails has failed")]

mod traces;

use forwhy_engine::shape::{Family, RopeScaling};
use forwhy_engine::trainer::Trainer;
use forwhy_engine::{hf, weights};

use traces::{Trace, fixtures, llama, params, peer};

/// Between them: linear and Llama 3's scaling in the old and the new layout of config.json, biases of
/// q, k, v and of everything, norms of q and k, heads wider and narrower than hidden / heads, a
/// sliding window, tied and untied heads, one file and several, f32, f16 and bf16.
const FAMILIES: [&str; 6] = ["llama2", "llama3", "llama-biases", "qwen2.5", "qwen3", "mistral"];
const IN_GGUF: [&str; 3] = ["llama3-released", "qwen2.5", "qwen3"];

fn trace(name: &str) -> Trace {
    Trace::open(&format!("families/{name}"))
}

fn open(name: &str) -> weights::ModelFiles {
    weights::open(&fixtures("families").join(name)).unwrap()
}

#[test]
fn logits_of_every_family_are_those_of_transformers() {
    for name in FAMILIES {
        trace(name).check_logits(&mut trace(name).model(), 1e-4);
    }
}

#[test]
fn gradients_of_every_family_are_those_of_pytorch() {
    for name in FAMILIES {
        trace(name).check_gradients();
    }
}

#[test]
fn fifty_steps_of_training_every_family_follow_pytorch() {
    for name in FAMILIES {
        let mut model = trace(name).model();
        let mut trainer = Trainer::new(&mut model, trace(name).config()).unwrap();
        trace(name).follow(&mut trainer, 0..50);
    }
}

#[test]
fn the_configurations_are_read_as_what_they_are() {
    let shape = |name: &str| open(name).source.shape().clone();
    assert_eq!(shape("llama2").rope_scaling, RopeScaling::Linear { factor: 4.0 });
    assert!(matches!(
        shape("llama3").rope_scaling,
        RopeScaling::Llama3 { original_max_positions: 32, .. }
    ));
    let biased = shape("llama-biases");
    assert!(biased.qkv_bias && biased.o_bias && biased.mlp_bias);
    assert_eq!(shape("qwen2.5").family(), Some(Family::Qwen2));
    let qwen3 = shape("qwen3");
    assert_eq!((qwen3.family(), qwen3.head_dim), (Some(Family::Qwen3), 12));
    assert_eq!(shape("mistral").max_positions, 64, "the sliding window");
}

#[test]
fn a_gguf_file_gives_the_model_of_the_directory() {
    for name in IN_GGUF {
        let (dir, file) = (open(name), open(&format!("{name}/model.gguf")));
        let (a, b) = (dir.source.shape(), file.source.shape());
        let slowed = |shape: &forwhy_engine::shape::Shape| shape.rope_scaling.scaled(1e-4) as f32;
        assert!((slowed(a) / slowed(b) - 1.0).abs() < 1e-5, "{name}");
        assert_eq!((a.rope_theta, a.head_dim, a.family()), (b.rope_theta, b.head_dim, b.family()));
        assert!(params(&dir)[..] == params(&file)[..], "{name}");
        assert_eq!(dir.tokenizer.encode("Hello 12"), file.tokenizer.encode("Hello 12"));
    }
}

#[test]
fn every_family_is_exported_as_it_was_read() {
    for name in FAMILIES.into_iter().chain(["llama3-released"]) {
        let files = open(name);
        let dir = tempfile::tempdir().unwrap();
        hf::export(dir.path(), files.source.shape(), &params(&files), &files.tokenizer).unwrap();
        let again = weights::open(dir.path()).unwrap();
        assert_eq!(again.source.shape(), files.source.shape(), "{name}");
        assert!(params(&again)[..] == params(&files)[..], "{name}");
    }
}

#[test]
fn texts_beyond_the_sliding_window_are_refused_by_name() {
    let mut model = llama(&open("mistral"));
    let mut pack = forwhy_engine::pack::Pack::new();
    // The last token is predicted, not read.
    pack.push_sequence(&[5; 66], &[true; 66]);
    let error = model.logprobs(&[pack]).unwrap_err().to_string();
    assert!(error.contains("sliding window"), "{error}");
}

#[test]
fn transformers_loads_every_exported_family_with_the_same_logits() {
    let Some(venv) = peer::venv() else { return };
    for name in FAMILIES {
        let (files, dir) = (open(name), tempfile::tempdir().unwrap());
        let (folder, out) = (dir.path().join("model"), dir.path().join("logits.safetensors"));
        hf::export(&folder, files.source.shape(), &params(&files), &files.tokenizer).unwrap();
        peer::logits(&venv, &folder, None, &out);
        trace(name).expecting(&out).check_logits(&mut llama(&files), 1e-4);
    }
}
