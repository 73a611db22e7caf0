//! What `scripts/tiny_llama.py` and `scripts/families.py` wrote, and comparisons with it: a model as
//! transformers saved it, and what transformers and PyTorch compute with it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod peer;

use std::ops::Range;
use std::path::{Path, PathBuf};

use forwhy_engine::buffer::Buf;
use forwhy_engine::kernels::Kernels;
use forwhy_engine::llama::{Llama, Scope};
use forwhy_engine::pack::Pack;
use forwhy_engine::safetensors::Safetensors;
use forwhy_engine::shape::Layout;
use forwhy_engine::trainer::{StepReport, TrainConfig, Trainer};
use forwhy_engine::weights::{self, ModelFiles, load_into};
use serde_json::Value;

const THREADS: usize = 2;

/// A folder of `tests/fixtures`.
pub(crate) fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder)
}

/// All weights of opened files, in the order of the layout.
pub(crate) fn params(files: &ModelFiles) -> Buf {
    let layout = Layout::new(files.source.shape());
    let mut params = Buf::zeroed(layout.len());
    load_into(files.source.as_ref(), &layout, &mut params).unwrap();
    params
}

/// A model of opened files.
pub(crate) fn llama(files: &ModelFiles) -> Llama {
    let mut model = Llama::new(files.source.shape().clone(), params(files), THREADS).unwrap();
    // the fixtures are f32's: so on a machine that would choose other kernels
    model.set_kernels(Kernels::F32).unwrap();
    model
}

/// The gradient of one parameter, and what PyTorch has.
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) got: Vec<f32>,
    pub(crate) want: Vec<f32>,
}

/// One fixture.
pub(crate) struct Trace {
    pub(crate) dir: PathBuf,
    /// `expected.json`.
    pub(crate) expected: Value,
    tensors: Safetensors,
}

impl Trace {
    pub(crate) fn open(folder: &str) -> Self {
        let dir = fixtures(folder);
        let json = std::fs::read(dir.join("expected.json")).unwrap();
        let expected = serde_json::from_slice(&json).unwrap();
        let tensors = Safetensors::open(&dir.join("expected.safetensors")).unwrap();
        Trace { dir, expected, tensors }
    }

    /// The same batches, with the logits in another file.
    pub(crate) fn expecting(self, logits: &Path) -> Self {
        Trace { tensors: Safetensors::open(logits).unwrap(), ..self }
    }

    pub(crate) fn model(&self) -> Llama {
        llama(&weights::open(&self.dir).unwrap())
    }

    /// The batches of the trace, one pack each.
    pub(crate) fn packs(&self) -> Vec<Pack> {
        let batches = self.expected["batches"].as_array().unwrap().iter();
        let packs = batches.map(|batch| {
            let trained: Vec<bool> = serde_json::from_value(batch["trained"].clone()).unwrap();
            let mut pack = Pack::new();
            pack.push_sequence(&ids(batch), &trained);
            pack
        });
        packs.collect()
    }

    fn checked(&self) -> usize {
        self.expected["checked_batch"].as_u64().unwrap() as usize
    }

    /// The trace's settings. Decay falls on all parameters, as in the script.
    pub(crate) fn config(&self) -> TrainConfig {
        config_of(&self.expected["train"], Scope::All)
    }

    /// The log-probabilities over the vocabulary are those of transformers, within `within`.
    pub(crate) fn check_logits(&self, model: &mut Llama, within: f64) {
        let ids = ids(&self.expected["batches"][self.checked()]);
        let mut pack = Pack::new();
        pack.push_sequence(&ids, &vec![true; ids.len()]);
        let rows = model.distributions(&pack).unwrap();
        let (_, shape, logits) = self.tensors.tensor("logits").unwrap();
        let stride = self.expected["logit_stride"].as_u64().unwrap() as usize;
        for (want, got) in logits.chunks_exact(shape[1]).zip(rows.iter().step_by(stride)) {
            check_row(want, got, within, &self.dir);
        }
    }

    /// Loss and every parameter's gradient are those of PyTorch.
    pub(crate) fn check_gradients(&self) {
        let (loss, gradients) = self.gradients(&mut self.model());
        close(loss, self.expected["loss"].as_f64().unwrap(), 1e-5, "loss");
        for Parameter { name, got, want } in gradients {
            let largest = want.iter().fold(0f32, |a, x| a.max(x.abs()));
            // A key bias moves all scores of a query alike: without norms its gradient is noise.
            if name.ends_with("k_proj.bias") && largest < 1e-6 {
                continue;
            }
            for (g, w) in got.iter().zip(&want) {
                let off = (g - w).abs() / largest;
                assert!(off < 1e-3, "gradient of {name}: {g}, PyTorch has {w}");
            }
        }
    }

    /// The loss of the checked batch, and every parameter's gradient beside PyTorch's.
    pub(crate) fn gradients(&self, model: &mut Llama) -> (f64, Vec<Parameter>) {
        let layout = model.layout().clone();
        // With beta1 = 0 and no clipping the first moment after one step is the gradient itself.
        let config = TrainConfig { beta1: 0.0, clip_norm: 0.0, ..self.config() };
        let mut trainer = Trainer::new(model, config).unwrap();
        let report = trainer.step(&[self.packs().swap_remove(self.checked())]).unwrap();
        let gradient = trainer.save().m;
        let of = |name: &str, range: Range<usize>| Parameter {
            name: name.into(),
            got: gradient[range].to_vec(),
            want: self.tensors.tensor(name).unwrap().2,
        };
        let parameters = layout.tensors().iter().map(|t| of(&t.name, t.range()));
        (report.loss, parameters.collect())
    }

    /// Steps `steps` of the trace on `trainer`: loss, gradient norm and rate are PyTorch's.
    pub(crate) fn follow(&self, trainer: &mut Trainer, steps: Range<usize>) -> Vec<StepReport> {
        let packs = self.packs();
        let reports = steps.map(|step| {
            let report = trainer.step(&packs[step % packs.len()..][..1]).unwrap();
            let want = &self.expected["trace"][step];
            let number = |key: &str| want[key].as_f64().unwrap();
            let what = |name: &str| format!("{name} of step {step} of {}", self.dir.display());
            close(report.loss, number("loss"), 1e-3, &what("loss"));
            close(report.grad_norm, number("grad_norm"), 1e-3, &what("gradient norm"));
            let rate = f64::from(report.learning_rate);
            close(rate, number("learning_rate"), 1e-5, &what("learning rate"));
            report
        });
        reports.collect()
    }
}

/// The settings of a script's training, as it wrote them.
pub(crate) fn config_of(written: &Value, scope: Scope) -> TrainConfig {
    let x = |key: &str| written[key].as_f64().unwrap();
    TrainConfig {
        scope,
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

fn check_row(want: &[f32], got: &[f32], within: f64, what: &Path) {
    let total = want.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
    for (w, g) in want.iter().zip(got) {
        let want = f64::from(*w) - total;
        let off = (want - f64::from(*g)).abs();
        assert!(off < within, "{}: log-probability {g}, expected {want}", what.display());
    }
}

fn ids(batch: &Value) -> Vec<u32> {
    serde_json::from_value(batch["ids"].clone()).unwrap()
}

pub(crate) fn close(got: f64, want: f64, relative: f64, what: &str) {
    let off = (got - want).abs() / want.abs().max(1e-6);
    assert!(off <= relative, "{what}: {got}, PyTorch has {want} (relative difference {off:.1e})");
}
