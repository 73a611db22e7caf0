//! Tests of the whole model and of training.

use forwhy_core::seed::stream;

use super::*;
use crate::checks::{assert_gradient, tiny_shape};
use crate::pack::Target;
use crate::trainer::{TrainConfig, Trainer};

fn model(shape: Shape) -> Llama {
    let mut model = Llama::random(shape, 7, 1).unwrap();
    // larger than at the start of training, norms and biases off their special values
    let noise = crate::checks::noise(model.weights.len(), 8);
    model.weights.iter_mut().zip(noise).for_each(|(w, n)| *w = *w * 3.0 + 0.05 * n);
    model
}

fn ids(n: usize, seed: u64) -> Vec<u32> {
    let mut draws = stream(&["ids", &seed.to_string()]);
    (0..n).map(|_| draws.below(tiny_shape().vocab) as u32).collect()
}

fn sequence(n: usize, seed: u64) -> Pack {
    let mut pack = Pack::new();
    let trained: Vec<bool> = (0..n).map(|i| i > n / 4).collect();
    pack.push_sequence(&ids(n, seed), &trained);
    pack
}

/// A prompt with continuations and a second sequence, weights other than 1.
fn mixed() -> Pack {
    let mut pack = sequence(40, 1);
    let prompt = pack.push_segment(ids(150, 2), None);
    pack.push_continuation(prompt, &ids(9, 3), 0);
    pack.push_continuation(prompt, &ids(5, 4), 2);
    pack.push_target(Target { row: 20, id: 3, weight: 2.5 });
    pack
}

fn loss(model: &mut Llama, pack: &Pack) -> f64 {
    let logprobs = &model.logprobs(std::slice::from_ref(pack)).unwrap()[0];
    let each = logprobs.iter().zip(pack.targets());
    -each.map(|(l, t)| f64::from(*l) * f64::from(t.weight)).sum::<f64>()
}

fn flat_gradient(model: &mut Llama, pack: &Pack) -> (f64, Vec<f32>) {
    let mut g = vec![9.0; model.layout.len()];
    let sink = Gradient::Flat { g: &mut g, from: 0, add: false };
    let loss = model.gradient(pack, 0, sink).unwrap();
    (loss, g)
}

fn close(a: &[f32], b: &[f32], share: f64) -> bool {
    let norm =
        |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    assert_eq!(a.len(), b.len());
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) <= share * norm(&mut b.iter().copied())
}

#[test]
fn every_tensors_gradient_agrees_with_finite_differences() {
    let (llama, qwen2) = (tiny_shape(), Shape { qkv_bias: true, ..tiny_shape() });
    let biased = Shape { o_bias: true, mlp_bias: true, tied_head: false, ..qwen2.clone() };
    let qwen3 = Shape { qk_norm: true, head_dim: 24, ..tiny_shape() };
    for shape in [llama, qwen2, biased, qwen3] {
        let mut model = model(shape);
        let pack = mixed();
        let (total, g) = flat_gradient(&mut model, &pack);
        assert!((total - loss(&mut model, &pack)).abs() < 1e-3 * total, "two ways to the loss");
        let start = model.weights.to_vec();
        let tensors = model.layout.tensors().to_vec();
        let scale = pack.target_weight();
        let model = std::cell::RefCell::new(model);
        for tensor in tensors {
            let at = tensor.range();
            if tensor.name.ends_with("k_proj.bias") {
                continue; // the softmax does not see it: its gradient is noise around 0
            }
            let mean: Vec<f32> = g[at.clone()].iter().map(|g| g / scale as f32).collect();
            assert_gradient(&tensor.name, &start[at.clone()], &mean, |w| {
                let model = &mut *model.borrow_mut();
                model.weights[at.clone()].copy_from_slice(w);
                let loss = loss(model, &pack) / scale;
                model.weights[at.clone()].copy_from_slice(&start[at.clone()]);
                loss
            });
        }
    }
}

#[test]
fn packed_sequences_give_the_losses_and_gradients_of_separate_ones() {
    let mut model = model(tiny_shape());
    let (one, two) = (sequence(33, 1), sequence(200, 2));
    let mut both = one.clone();
    let trained: Vec<bool> = (0..200).map(|i| i > 50).collect();
    both.push_sequence(&ids(200, 2), &trained);
    let apart = model.logprobs(&[one.clone(), two.clone()]).unwrap().concat();
    let packed = model.logprobs(std::slice::from_ref(&both)).unwrap().concat();
    assert!(close(&packed, &apart, 1e-6));
    let (_, mut sum) = flat_gradient(&mut model, &one);
    let sink = Gradient::Flat { g: &mut sum, from: 0, add: true };
    model.gradient(&two, 0, sink).unwrap();
    assert!(close(&flat_gradient(&mut model, &both).1, &sum, 1e-5));
}

#[test]
fn sequences_that_share_their_beginning_give_the_losses_and_gradients_of_separate_ones() {
    let mut model = model(tiny_shape());
    let (begin, mut sum) = (ids(70, 3), Vec::new());
    let sequences = [ids(40, 4), ids(55, 5)].map(|end| [begin.clone(), end].concat());
    // The second does not train what the first has trained of the shared part.
    let masks = [30, 80].map(|from| (0..).map(|i| i >= from).take(125).collect::<Vec<bool>>());
    let masks = [&masks[0][..110], &masks[1]];
    let both = [(&sequences[0][..], masks[0]), (&sequences[1][..], masks[1])];
    let shared = Pack::sharing(&both);
    let mut losses = Vec::new();
    for (ids, trained) in both {
        let mut pack = Pack::new();
        pack.push_sequence(ids, trained);
        losses.extend(model.logprobs(std::slice::from_ref(&pack)).unwrap().concat());
        let gradient = flat_gradient(&mut model, &pack).1;
        sum.resize(gradient.len(), 0.0);
        sum.iter_mut().zip(&gradient).for_each(|(sum, g)| *sum += g);
    }
    assert!(shared.rows() < 70 + 40 + 55 && shared.targets().len() == losses.len());
    assert!(close(&model.logprobs(std::slice::from_ref(&shared)).unwrap()[0], &losses, 1e-5));
    assert!(close(&flat_gradient(&mut model, &shared).1, &sum, 1e-5));
}

#[test]
fn a_shared_prefix_gives_the_scores_of_separate_sequences() {
    let mut model = model(tiny_shape());
    let (prompt, ends) = (ids(140, 5), [ids(12, 6), ids(3, 7), ids(1, 8)]);
    let mut shared = Pack::new();
    let root = shared.push_segment(prompt.clone(), None);
    ends.iter().for_each(|end| shared.push_continuation(root, end, 0));
    let apart: Vec<Pack> = ends
        .iter()
        .map(|end| {
            let all = [prompt.clone(), end.clone()].concat();
            let mut pack = Pack::new();
            let trained: Vec<bool> = (0..all.len()).map(|i| i >= prompt.len()).collect();
            pack.push_sequence(&all, &trained);
            pack
        })
        .collect();
    let apart = model.logprobs(&apart).unwrap().concat();
    assert!(close(&model.logprobs(&[shared]).unwrap()[0], &apart, 1e-5));
}

fn config(scope: Scope) -> TrainConfig {
    TrainConfig {
        scope,
        learning_rate: 1e-2,
        warmup_steps: 2,
        total_steps: 8,
        ..Default::default()
    }
}

const SCOPES: [Scope; 3] = [Scope::All, Scope::Top(1), Scope::Lora { rank: 4, alpha: 8.0 }];

#[test]
fn training_lowers_the_loss_in_every_scope_and_leaves_the_rest_alone() {
    for scope in SCOPES {
        let mut model = model(tiny_shape());
        let before = model.weights.to_vec();
        let packs = [sequence(60, 1), sequence(30, 2)];
        let mut trainer = Trainer::new(&mut model, config(scope)).unwrap();
        let losses: Vec<f64> = (0..8).map(|_| trainer.step(&packs).unwrap().loss).collect();
        assert!(losses[7] < losses[0] - 0.3, "{scope:?}: {losses:?}");
        let changed = |from: usize| model.weights[from..] != before[from..];
        let top = model.layout.blocks_from(1);
        let lower = model.weights[..top.start] != before[..top.start];
        assert_eq!(lower, !matches!(scope, Scope::Top(_)), "{scope:?}");
        assert_eq!(changed(top.end), scope == Scope::All, "{scope:?}");
        model.remove_adapters();
        assert_eq!(model.weights[..] == before[..], matches!(scope, Scope::Lora { .. }));
    }
}

#[test]
fn lora_gradients_agree_with_finite_differences() {
    let mut model = model(tiny_shape());
    let n = model.adapt(4, 8.0, 1).unwrap();
    let mut adapters = model.adapters.take().unwrap();
    adapters.flat.iter_mut().zip(crate::checks::noise(n, 3)).for_each(|(a, n)| *a = 0.05 * n);
    adapters.merge(&mut model.weights);
    let (pack, mut g) = (mixed(), vec![0.0; n]);
    let sink = Gradient::Adapters { adapters: &mut adapters, g: &mut g };
    model.gradient(&pack, 0, sink).unwrap();
    let start = adapters.flat.to_vec();
    let scale = pack.target_weight();
    g.iter_mut().for_each(|g| *g /= scale as f32);
    let both = std::cell::RefCell::new((model, adapters));
    let tensors = both.borrow().1.tensors();
    for (name, _, at) in tensors {
        assert_gradient(&name, &start[at.clone()], &g[at.clone()], |w| {
            let (model, adapters) = &mut *both.borrow_mut();
            adapters.flat[at.clone()].copy_from_slice(w);
            adapters.merge(&mut model.weights);
            adapters.flat[at.clone()].copy_from_slice(&start[at.clone()]);
            loss(model, &pack) / scale
        });
    }
}

#[test]
fn accumulated_packs_give_the_step_of_one_pack() {
    let (one, two) = (sequence(33, 1), sequence(50, 2));
    let mut both = one.clone();
    let trained: Vec<bool> = (0..50).map(|i| i > 12).collect();
    both.push_sequence(&ids(50, 2), &trained);
    let run = |packs: &[Pack]| {
        let mut model = model(tiny_shape());
        let mut trainer = Trainer::new(&mut model, config(Scope::All)).unwrap();
        let report = trainer.step(packs).unwrap();
        (report, model.weights.to_vec())
    };
    let ((a, wa), (b, wb)) = (run(&[one, two]), run(&[both]));
    assert!((a.loss - b.loss).abs() < 1e-6 && (a.grad_norm / b.grad_norm - 1.0).abs() < 1e-5);
    assert!(close(&wa, &wb, 1e-4));
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one_to_the_bit() {
    for scope in SCOPES {
        let mut whole = model(tiny_shape());
        let mut trainer = Trainer::new(&mut whole, config(scope)).unwrap();
        let mut state = None;
        for step in 0..6 {
            if step == 3 {
                state = Some(trainer.save());
            }
            trainer.step(&[sequence(40, step)]).unwrap();
        }
        let mut resumed = model(tiny_shape());
        let mut trainer = Trainer::new(&mut resumed, config(scope)).unwrap();
        trainer.restore(&state.unwrap()).unwrap();
        (3..6).for_each(|step| {
            trainer.step(&[sequence(40, step)]).unwrap();
        });
        assert!(whole.weights[..] == resumed.weights[..], "{scope:?}");
    }
}

#[test]
fn recomputed_activations_give_the_same_bits() {
    for scope in SCOPES {
        let run = |recompute: bool| {
            let mut model = model(tiny_shape());
            model.set_recompute(recompute);
            let mut trainer = Trainer::new(&mut model, config(scope)).unwrap();
            let packs = [mixed(), sequence(40, 1)];
            let losses: Vec<f64> = (0..3).map(|_| trainer.step(&packs).unwrap().loss).collect();
            (losses, model.weights.to_vec())
        };
        assert!(run(true) == run(false), "{scope:?}");
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let run = |threads: usize| {
        let mut model = model(tiny_shape());
        model.threads = Threads::new(threads).unwrap();
        let mut trainer = Trainer::new(&mut model, config(Scope::All)).unwrap();
        let losses: Vec<f64> = (0..3).map(|_| trainer.step(&[mixed()]).unwrap().loss).collect();
        (losses, model.weights.to_vec())
    };
    let one = run(1);
    assert!(one == run(2) && one == run(3));
}

#[test]
fn the_trunk_cache_changes_nothing_and_is_refused_for_another_trunk() {
    let mut model = model(tiny_shape());
    let cache = Arc::new(model.trunk_cache(1, 1 << 20).unwrap());
    let plain = model.logprobs(&[mixed()]).unwrap();
    model.set_trunk_cache(Some(cache.clone())).unwrap();
    let first = model.logprobs(&[mixed()]).unwrap();
    let second = model.logprobs(&[mixed()]).unwrap();
    assert!(plain == first && first == second);
    assert_eq!((cache.stats().hits, cache.stats().misses), (1, 1));
    Trainer::new(&mut model, config(Scope::Top(1))).unwrap().step(&[mixed()]).unwrap();
    assert_eq!(cache.stats().hits, 2, "training above the trunk uses it");
    model.set_trunk_cache(Some(cache.clone())).unwrap();
    Trainer::new(&mut model, config(Scope::All)).unwrap().step(&[mixed()]).unwrap();
    assert_eq!(cache.stats().hits, 2, "training the trunk lets go of it");
    assert!(model.set_trunk_cache(Some(cache)).is_err());
}

#[test]
fn exported_tensors_bring_back_the_trained_model() {
    for scope in SCOPES {
        let mut trained = model(tiny_shape());
        Trainer::new(&mut trained, config(scope)).unwrap().step(&[mixed()]).unwrap();
        let tensors = trained.export_scope(scope).unwrap();
        let mut fresh = model(tiny_shape());
        fresh.import_scope(scope, &tensors).unwrap();
        assert!(fresh.weights[..] == trained.weights[..], "{scope:?}");
        assert!(fresh.import_scope(scope, &tensors[1..]).is_err());
    }
}

#[test]
fn a_model_without_adapters_exports_some_that_change_nothing_and_takes_them_back() {
    let scope = Scope::Lora { rank: 4, alpha: 8.0 };
    let mut model = model(tiny_shape());
    let before = model.weights.to_vec();
    let start = model.export_scope(scope).unwrap();
    assert!(start == model.export_scope(scope).unwrap());
    model.import_scope(scope, &start).unwrap();
    assert!(model.weights[..] == before[..]);
    Trainer::new(&mut model, config(scope)).unwrap().step(&[mixed()]).unwrap();
    assert!(model.weights[..] != before[..]);
    model.import_scope(scope, &start).unwrap();
    assert!(model.weights[..] == before[..]);
    assert!(model.export_scope(scope).unwrap() == start);
    assert!(model.export_scope(Scope::Lora { rank: 0, alpha: 8.0 }).is_err());
}

#[test]
fn an_import_replaces_other_adapters_and_a_refused_one_changes_nothing() {
    let (small, large) = (Scope::Lora { rank: 2, alpha: 8.0 }, Scope::Lora { rank: 4, alpha: 8.0 });
    let mut fresh = model(tiny_shape());
    let before = fresh.weights.to_vec();
    let tensors = fresh.export_scope(large).unwrap();
    Trainer::new(&mut fresh, config(small)).unwrap().step(&[mixed()]).unwrap();
    let trained = fresh.weights.to_vec();
    assert!(fresh.import_scope(large, &tensors[1..]).is_err());
    assert!(fresh.import_scope(Scope::All, &tensors).is_err());
    assert!(fresh.weights[..] == trained[..] && fresh.export_scope(small).is_ok());
    fresh.import_scope(large, &tensors).unwrap();
    assert!(fresh.weights[..] == before[..]);
    assert!(fresh.export_scope(large).unwrap() == tensors);
}

#[test]
fn a_trunk_cache_of_the_same_weights_in_another_shape_is_refused() {
    let one = Llama::random(tiny_shape(), 7, 1).unwrap();
    let cache = Arc::new(one.trunk_cache(1, 1 << 20).unwrap());
    let turned = Shape { rope_theta: 77.0, ..tiny_shape() };
    let mut two = Llama::random(turned, 7, 1).unwrap();
    assert!(one.weights[..] == two.weights[..]);
    assert!(two.set_trunk_cache(Some(cache)).is_err());
}

#[test]
fn fault_40_a_step_without_targets_is_refused() {
    let mut model = model(tiny_shape());
    let mut pack = Pack::new();
    pack.push_sequence(&[1, 2, 3], &[false; 3]);
    let mut trainer = Trainer::new(&mut model, config(Scope::All)).unwrap();
    assert!(trainer.step(&[pack]).unwrap_err().to_string().contains("without a target"));
    assert_eq!(trainer.steps_done(), 0);
}
