//! Training in bf16: as close to PyTorch's f32 as PyTorch's own bf16 is (`scripts/bf16.py`), with every
//! kernel that this machine has; the one of plain code is everywhere.

#![allow(clippy::unwrap_used, reason = "a test whose set-up fails has failed")]
#![allow(clippy::print_stderr, reason = "what was not tested is said, and how close the rest came")]

mod traces;

use std::collections::BTreeMap;

use forwhy_engine::kernels::Kernels;
use forwhy_engine::llama::Llama;
use forwhy_engine::trainer::Trainer;
use serde::Deserialize;

use traces::Trace;

const FAMILIES: [&str; 6] = ["llama2", "llama3", "llama-biases", "qwen2.5", "qwen3", "mistral"];

/// What `scripts/bf16.py` wrote.
#[derive(Deserialize)]
struct Peer {
    runs: Vec<PeerRun>,
}

#[derive(Deserialize)]
struct PeerRun {
    /// |difference to f32| / |f32|, by parameter.
    gradient_errors: BTreeMap<String, f64>,
    losses: Vec<f64>,
}

fn peer(trace: &Trace) -> Peer {
    serde_json::from_slice(&std::fs::read(trace.dir.join("bf16.json")).unwrap()).unwrap()
}

fn kernels() -> Vec<Kernels> {
    let bf16 = Kernels::ALL.into_iter().filter(|k| *k != Kernels::F32);
    let (here, missing): (Vec<Kernels>, Vec<Kernels>) = bf16.partition(|k| k.available());
    if !missing.is_empty() {
        eprintln!("not run, for want of a processor that has them: {missing:?}");
    }
    here
}

/// Calls `check` with every family and kernel.
fn each(mut check: impl FnMut(&str, &Trace, &mut Llama)) {
    for kernels in kernels() {
        for name in FAMILIES {
            let trace = Trace::open(&format!("families/{name}"));
            let mut model = trace.model();
            model.set_kernels(kernels).unwrap();
            check(&format!("{name}, {}", kernels.name()), &trace, &mut model);
        }
    }
}

fn length(x: impl Iterator<Item = f32>) -> f64 {
    x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

fn most(x: impl Iterator<Item = f64>) -> f64 {
    x.fold(0.0, f64::max)
}

#[test]
fn gradients_in_bf16_leave_f32_no_further_than_those_of_pytorch() {
    each(|what, trace, model| {
        let runs = peer(trace).runs;
        let theirs = |name: &str| most(runs.iter().map(|run| run.gradient_errors[name]));
        let parameters = trace.gradients(model).1;
        let compared = parameters.iter().filter(|p| !p.name.ends_with("k_proj.bias"));
        let errors: Vec<(f64, f64)> = compared
            .map(|p| {
                let off = length(p.got.iter().zip(&p.want).map(|(got, want)| got - want));
                let (ours, theirs) = (off / length(p.want.iter().copied()), theirs(&p.name));
                assert!(
                    ours <= 2.0 * theirs,
                    "{what}, {}: {ours:.1e}, PyTorch {theirs:.1e}",
                    p.name
                );
                (ours, theirs)
            })
            .collect();
        let (ours, theirs): (Vec<f64>, Vec<f64>) = errors.into_iter().unzip();
        let (ours, theirs) = (mean(&ours), mean(&theirs));
        eprintln!("{what}: gradients off by {ours:.1e}, PyTorch {theirs:.1e}");
        assert!(ours > 1e-4, "{what}: {ours:.1e}: this is not bf16");
        assert!(ours <= theirs, "{what}: {ours:.1e}, PyTorch's bf16 {theirs:.1e}");
    });
}

/// Which step deviates most is chance, so what is compared is the deviation over all steps, and over
/// all families together; half as much again is allowed for, since rounding is chance too.
#[test]
fn fifty_steps_in_bf16_leave_f32_no_further_than_those_of_pytorch() {
    let (mut ours, mut theirs) = (BTreeMap::<&str, Vec<f64>>::new(), Vec::new());
    each(|what, trace, model| {
        let loss = |i: usize| trace.expected["trace"][i]["loss"].as_f64().unwrap();
        let off = |losses: &[f64]| -> Vec<f64> {
            losses.iter().enumerate().map(|(i, x)| (x - loss(i)).abs()).collect()
        };
        let mut trainer = Trainer::new(model, trace.config()).unwrap();
        let packs = trace.packs();
        let step = |i: usize| trainer.step(&packs[i % packs.len()..][..1]).unwrap().loss;
        let here = off(&(0..50).map(step).collect::<Vec<f64>>());
        let peers: Vec<f64> = peer(trace).runs.iter().flat_map(|run| off(&run.losses)).collect();
        eprintln!("{what}: losses off by {:.1e}, PyTorch {:.1e}", mean(&here), mean(&peers));
        ours.entry(model.kernels().name()).or_default().extend(here);
        theirs.extend(peers);
    });
    let (theirs, furthest) = (mean(&theirs), most(theirs.iter().copied()));
    for (kernels, ours) in ours {
        let most = most(ours.iter().copied());
        assert!(
            mean(&ours) <= 1.5 * theirs,
            "{kernels}: {:.1e}, PyTorch {theirs:.1e}",
            mean(&ours)
        );
        assert!(most <= 1.5 * furthest, "{kernels}: {most:.1e} at most, PyTorch {furthest:.1e}");
    }
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}
