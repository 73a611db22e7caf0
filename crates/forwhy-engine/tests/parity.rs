//! A tiny random Llama against transformers and PyTorch (`scripts/tiny_llama.py`): logits, loss,
//! every gradient, and twenty steps of training.

#![allow(clippy::unwrap_used, reason = "a test whose set-up fails has failed")]

use std::path::Path;

use forwhy_engine::buffer::Buf;
use forwhy_engine::checkpoint::Checkpoint;
use forwhy_engine::llama::{Llama, Scope};
use forwhy_engine::pack::Pack;
use forwhy_engine::safetensors::Safetensors;
use forwhy_engine::shape::Layout;
use forwhy_engine::trainer::{StepReport, TrainConfig, Trainer};
use forwhy_engine::weights::{self, load_into};
use serde_json::Value;

const THREADS: usize = 2;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny").join(name)
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap()
}

fn tensors() -> Safetensors {
    Safetensors::open(&fixture("expected.safetensors")).unwrap()
}

fn model() -> Llama {
    let files = weights::open(&fixture("")).unwrap();
    let shape = files.source.shape().clone();
    let layout = Layout::new(&shape);
    let mut params = Buf::zeroed(layout.len());
    load_into(files.source.as_ref(), &layout, &mut params).unwrap();
    Llama::new(shape, params, THREADS).unwrap()
}

/// The batches of the trace, one pack each.
fn packs(expected: &Value) -> Vec<Pack> {
    let batches = expected["batches"].as_array().unwrap().iter();
    let packs = batches.map(|batch| {
        let ids: Vec<u32> = serde_json::from_value(batch["ids"].clone()).unwrap();
        let trained: Vec<bool> = serde_json::from_value(batch["trained"].clone()).unwrap();
        let mut pack = Pack::new();
        pack.push_sequence(&ids, &trained);
        pack
    });
    packs.collect()
}

fn checked_pack(expected: &Value) -> Pack {
    packs(expected).swap_remove(expected["checked_batch"].as_u64().unwrap() as usize)
}

/// The trace's settings. Decay falls on all parameters, as in the script.
fn config(expected: &Value) -> TrainConfig {
    let x = |key: &str| expected["train"][key].as_f64().unwrap();
    TrainConfig {
        scope: Scope::All,
        learning_rate: x("learning_rate") as f32,
        warmup_steps: x("warmup_steps") as usize,
        total_steps: x("total_steps") as usize,
        min_lr_share: x("min_lr_share") as f32,
        beta1: x("beta1") as f32,
        beta2: x("beta2") as f32,
        eps: x("eps") as f32,
        weight_decay: x("weight_decay") as f32,
        clip_norm: x("clip_norm") as f32,
        ..TrainConfig::default()
    }
}

fn close(got: f64, want: f64, relative: f64, what: &str) {
    let off = (got - want).abs() / want.abs().max(1e-6);
    assert!(off <= relative, "{what}: {got}, PyTorch has {want} (relative difference {off:.1e})");
}

#[test]
fn logits_are_those_of_transformers() {
    let expected = expected();
    let batch = &expected["batches"][expected["checked_batch"].as_u64().unwrap() as usize];
    let ids: Vec<u32> = serde_json::from_value(batch["ids"].clone()).unwrap();
    let mut pack = Pack::new();
    pack.push_sequence(&ids, &vec![true; ids.len()]);
    let rows = model().distributions(&pack).unwrap();
    let (_, shape, logits) = tensors().tensor("logits").unwrap();
    let stride = expected["logit_stride"].as_u64().unwrap() as usize;
    for (want, got) in logits.chunks_exact(shape[1]).zip(rows.iter().step_by(stride)) {
        let total = want.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
        for (w, g) in want.iter().zip(got) {
            let off = (f64::from(*w) - total - f64::from(*g)).abs();
            assert!(off < 1e-4, "log-probability {g}, transformers has {}", f64::from(*w) - total);
        }
    }
}

#[test]
fn loss_and_every_gradient_are_those_of_pytorch() {
    let expected = expected();
    let mut model = model();
    let layout = model.layout().clone();
    // With beta1 = 0 and no clipping the first moment after one step is the gradient itself.
    let config = TrainConfig { beta1: 0.0, clip_norm: 0.0, ..config(&expected) };
    let mut trainer = Trainer::new(&mut model, config).unwrap();
    let report = trainer.step(&[checked_pack(&expected)]).unwrap();
    close(report.loss, expected["loss"].as_f64().unwrap(), 1e-5, "loss");
    let gradient = trainer.save().m;
    let wanted = tensors();
    for tensor in layout.tensors() {
        let (_, _, want) = wanted.tensor(&tensor.name).unwrap();
        let largest = want.iter().fold(0f32, |a, x| a.max(x.abs()));
        for (g, w) in gradient[tensor.range()].iter().zip(&want) {
            let off = (g - w).abs() / largest;
            assert!(off < 1e-3, "gradient of {}: {g}, PyTorch has {w}", tensor.name);
        }
    }
}

/// Steps `from..` of the trace on `trainer`, compared with PyTorch's.
fn follow(
    trainer: &mut Trainer,
    expected: &Value,
    steps: std::ops::Range<usize>,
) -> Vec<StepReport> {
    let packs = packs(expected);
    let reports = steps.map(|step| {
        let report = trainer.step(&packs[step % packs.len()..][..1]).unwrap();
        let want = &expected["trace"][step];
        let number = |key: &str| want[key].as_f64().unwrap();
        let what = |name: &str| format!("{name} of step {step}");
        close(report.loss, number("loss"), 1e-3, &what("loss"));
        close(report.grad_norm, number("grad_norm"), 1e-3, &what("gradient norm"));
        let rate = f64::from(report.learning_rate);
        close(rate, number("learning_rate"), 1e-5, &what("learning rate"));
        report
    });
    reports.collect()
}

#[test]
fn twenty_steps_of_training_follow_pytorch() {
    let expected = expected();
    let mut model = model();
    let mut trainer = Trainer::new(&mut model, config(&expected)).unwrap();
    follow(&mut trainer, &expected, 0..20);
}

#[test]
fn a_run_resumed_from_a_checkpoint_file_equals_an_uninterrupted_one() {
    let expected = expected();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("step-8.safetensors");
    for scope in [Scope::All, Scope::Top(1), Scope::Lora { rank: 2, alpha: 4.0 }] {
        let config = TrainConfig { scope, ..config(&expected) };
        let packs = packs(&expected);
        let mut whole = model();
        let mut trainer = Trainer::new(&mut whole, config.clone()).unwrap();
        for i in 0..8 {
            trainer.step(&packs[i % 4..][..1]).unwrap();
        }
        let state = trainer.save();
        let weights = trainer.model().export_scope(scope).unwrap();
        Checkpoint::of_run("base".into(), weights, state).save(&path).unwrap();
        let rest: Vec<_> = (8..12).map(|i| trainer.step(&packs[i % 4..][..1]).unwrap()).collect();

        let mut resumed = model();
        let mut trainer = Trainer::new(&mut resumed, config).unwrap();
        let checkpoint = Checkpoint::load(&path, "base").unwrap();
        trainer.restore(&checkpoint.train_state().unwrap()).unwrap();
        let again: Vec<_> = (8..12).map(|i| trainer.step(&packs[i % 4..][..1]).unwrap()).collect();
        assert_eq!(rest, again, "{scope:?}");
        assert!(whole.weights() == resumed.weights(), "{scope:?}");

        let mut only_evaluated = model();
        only_evaluated.import_scope(scope, &checkpoint.weights).unwrap();
        assert_eq!(only_evaluated.export_scope(scope).unwrap(), checkpoint.weights);
    }
}
