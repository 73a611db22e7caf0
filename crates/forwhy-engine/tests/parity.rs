//! A tiny random Llama against transformers and PyTorch (`scripts/tiny_llama.py`): logits, loss,
//! every gradient, and twenty steps of training; adapters in the format of peft, in and out
//! (`scripts/lora.py`).

#![allow(clippy::unwrap_used, reason = "a test whose set-up fails has failed")]

mod traces;

use std::path::PathBuf;

use forwhy_engine::checkpoint::Checkpoint;
use forwhy_engine::llama::{Llama, Scope};
use forwhy_engine::shape::Shape;
use forwhy_engine::trainer::{TrainConfig, Trainer};
use forwhy_engine::weights::{self, ModelFiles};
use forwhy_engine::{hf, peft};
use forwhy_store::atomic;
use serde_json::Value;

use traces::{Trace, fixtures, llama, params, peer};

#[test]
fn logits_are_those_of_transformers() {
    let trace = Trace::open("tiny");
    trace.check_logits(&mut trace.model(), 1e-4);
}

#[test]
fn loss_and_every_gradient_are_those_of_pytorch() {
    Trace::open("tiny").check_gradients();
}

#[test]
fn twenty_steps_of_training_follow_pytorch() {
    let trace = Trace::open("tiny");
    let mut model = trace.model();
    let mut trainer = Trainer::new(&mut model, trace.config()).unwrap();
    trace.follow(&mut trainer, 0..20);
}

#[test]
fn a_run_resumed_from_a_checkpoint_file_equals_an_uninterrupted_one() {
    let trace = Trace::open("tiny");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("step-8.safetensors");
    for scope in [Scope::All, Scope::Top(1), Scope::Lora { rank: 2, alpha: 4.0 }] {
        let config = TrainConfig { scope, ..trace.config() };
        let packs = trace.packs();
        let mut whole = trace.model();
        let mut trainer = Trainer::new(&mut whole, config.clone()).unwrap();
        for i in 0..8 {
            trainer.step(&packs[i % 4..][..1]).unwrap();
        }
        let state = trainer.save();
        let weights = trainer.model().export_scope(scope).unwrap();
        Checkpoint::of_run("base".into(), weights, state).save(&path).unwrap();
        let rest: Vec<_> = (8..12).map(|i| trainer.step(&packs[i % 4..][..1]).unwrap()).collect();

        let mut resumed = trace.model();
        let mut trainer = Trainer::new(&mut resumed, config).unwrap();
        let checkpoint = Checkpoint::load(&path, "base").unwrap();
        trainer.restore(&checkpoint.train_state().unwrap()).unwrap();
        let again: Vec<_> = (8..12).map(|i| trainer.step(&packs[i % 4..][..1]).unwrap()).collect();
        assert_eq!(rest, again, "{scope:?}");
        assert!(whole.weights() == resumed.weights(), "{scope:?}");

        let mut only_evaluated = trace.model();
        only_evaluated.import_scope(scope, &checkpoint.weights).unwrap();
        assert_eq!(only_evaluated.export_scope(scope).unwrap(), checkpoint.weights);
    }
}

fn tiny() -> ModelFiles {
    weights::open(&fixtures("tiny")).unwrap()
}

#[test]
fn an_adapter_of_peft_gives_the_logits_of_peft() {
    let files = tiny();
    let (scope, tensors) = peft::open(&fixtures("peft"), files.source.shape()).unwrap();
    // Rank 4 and alpha 3, rank-stabilised: 3 / sqrt(4) = 6 / 4.
    assert_eq!(scope, Scope::Lora { rank: 4, alpha: 6.0 });
    let mut model = llama(&files);
    model.import_scope(scope, &tensors).unwrap();
    let trace = Trace::open("tiny").expecting(&fixtures("peft/expected.safetensors"));
    trace.check_logits(&mut model, 1e-4);
    assert_eq!(model.export_scope(scope).unwrap(), tensors);
}

#[test]
fn an_adapter_is_exported_as_it_was_read_and_targets_the_same_projections() {
    let shape = tiny().source.shape().clone();
    let (scope, tensors) = peft::open(&fixtures("peft"), &shape).unwrap();
    let Scope::Lora { rank, alpha } = scope else { panic!("an adapter has the scope of adapters") };
    let dir = tempfile::tempdir().unwrap();
    peft::export(dir.path(), (rank, alpha), &tensors, "tiny").unwrap();
    assert_eq!(peft::open(dir.path(), &shape).unwrap(), (scope, tensors));
    let config = std::fs::read(dir.path().join("adapter_config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["target_modules"], serde_json::json!(["down_proj", "q_proj", "v_proj"]));
}

#[test]
fn fault_39_adapters_that_would_be_computed_wrongly_are_named() {
    let shape = tiny().source.shape().clone();
    let with = |key: &str, value: Value| {
        let dir = tempfile::tempdir().unwrap();
        let config = std::fs::read(fixtures("peft/adapter_config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&config).unwrap();
        config[key] = value;
        atomic::write_json(&dir.path().join("adapter_config.json"), &config).unwrap();
        let file = "adapter_model.safetensors";
        std::fs::copy(fixtures("peft").join(file), dir.path().join(file)).unwrap();
        peft::open(dir.path(), &shape).unwrap_err().to_string()
    };
    assert!(with("use_dora", true.into()).contains("use_dora = true"));
    assert!(with("bias", "all".into()).contains("bias = \"all\""));
    assert!(with("peft_type", "LOHA".into()).contains("peft_type = \"LOHA\""));
    assert!(with("modules_to_save", serde_json::json!(["lm_head"])).contains("modules_to_save"));
    assert!(with("rank_pattern", serde_json::json!({"q_proj": 2})).contains("rank_pattern"));
    assert!(with("r", 8.into()).contains("has shape [4, 32], expected [8, 32]"));
    assert!(with("lora_alpha", Value::Null).contains("lora_alpha is null"));
    let one = Shape { layers: 1, ..shape.clone() };
    let extra = peft::open(&fixtures("peft"), &one).unwrap_err().to_string();
    assert!(extra.contains("layers.1") && extra.contains("on no projection"), "{extra}");
}

/// A trained adapter on all projections.
fn trained(model: &mut Llama, scope: Scope) {
    let trace = Trace::open("tiny");
    let config = TrainConfig { scope, ..trace.config() };
    Trainer::new(model, config).unwrap().step(&trace.packs()[..1]).unwrap();
}

#[test]
fn peft_and_transformers_load_what_is_exported_with_the_same_logits() {
    let Some(venv) = peer::venv() else { return };
    let (files, scope) = (tiny(), Scope::Lora { rank: 2, alpha: 4.0 });
    let mut model = llama(&files);
    trained(&mut model, scope);
    let dir = tempfile::tempdir().unwrap();
    let (adapter, merged) = (dir.path().join("adapter"), dir.path().join("merged"));
    let tensors = model.export_scope(scope).unwrap();
    peft::export(&adapter, (2, 4.0), &tensors, "tiny").unwrap();
    hf::export(&merged, files.source.shape(), model.weights(), &files.tokenizer).unwrap();
    for (base, adapter) in [(fixtures("tiny"), Some(&adapter)), (merged, None)] {
        let out = dir.path().join("logits.safetensors");
        peer::logits(&venv, &base, adapter.map(PathBuf::as_path), &out);
        Trace::open("tiny").expecting(&out).check_logits(&mut model, 1e-4);
    }
    assert!(params(&files)[..] != model.weights()[..]);
}
