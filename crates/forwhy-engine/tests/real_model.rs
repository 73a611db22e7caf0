//! The real small model against numbers that transformers, PyTorch and Hugging Face's tokenizers
//! made from the same file (`scripts/smollm2.py`). Runs only where the model is found; says
//! `SKIPPED: real model` otherwise.

#![allow(clippy::unwrap_used, reason = "a test whose set-up fails has failed")]
#![allow(clippy::print_stdout, reason = "says aloud what was skipped, and why")]

mod traces;

use std::path::Path;

use forwhy_core::chat::{Message, Role};
use forwhy_core::model::Sampling;
use forwhy_engine::generate::{DecodeWeights, Job, Written};
use forwhy_engine::kernels::Kernels;
use forwhy_engine::llama::{Llama, Scope};
use forwhy_engine::pack::Pack;
use forwhy_engine::shape::Layout;
use forwhy_engine::trainer::Trainer;
use forwhy_engine::weights::{self, ModelFiles};
use forwhy_engine::{hf, pull};
use serde_json::Value;

use traces::{config_of, llama, params};

const THREADS: usize = 2;
/// BLAKE3 of the file from which the numbers were made.
const HASH: &str = "5f4fa13bfc6dd4a91fd00e22974a9c4e9ed628fd7d7f307398ddf30260d6b2c3";

/// The model's files, or None after having said why.
fn model() -> Option<ModelFiles> {
    let skipped = |why: String| {
        println!("SKIPPED: real model: {why}");
        None
    };
    match pull::find() {
        Ok(Some(path)) => {
            let files = weights::open(&path).expect("a model that is found can be read");
            let other = files.source.hash() != HASH;
            if other {
                skipped("another model is set; no numbers for it".into())
            } else {
                Some(files)
            }
        }
        Ok(None) => skipped("not found; `forwhy model pull` fetches it".into()),
        Err(error) => skipped(error.to_string()),
    }
}

fn expected() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/smollm2.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn texts_get_the_ids_of_hugging_face() {
    let Some(model) = model() else { return };
    let expected = expected();
    for case in expected["texts"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let got = model.tokenizer.encode(text);
        assert_eq!(got, ids(&case["ids"]), "{text:?}");
        assert!(got.iter().all(|id| *id > 16), "{text:?} gave a control token");
    }
}

#[test]
fn chats_get_the_text_and_ids_of_transformers() {
    let Some(model) = model() else { return };
    for case in expected()["chats"].as_array().unwrap() {
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let prompt = messages.last().unwrap().role != Role::Assistant;
        let text = model.tokenizer.chat_text(&messages, &[], prompt).unwrap();
        assert_eq!(text, case["text"].as_str().unwrap());
        let chat = model.tokenizer.chat(&messages, &[], prompt).unwrap();
        assert_eq!(chat.ids, ids(&case["ids"]), "{text:?}");
    }
}

fn pack_of(ids: &[u32]) -> Pack {
    let mut pack = Pack::new();
    pack.push_sequence(ids, &vec![true; ids.len()]);
    pack
}

fn perplexity(llama: &mut Llama, pack: &Pack) -> f64 {
    let logprobs = llama.logprobs(std::slice::from_ref(pack)).unwrap().swap_remove(0);
    (-logprobs.iter().map(|x| f64::from(*x)).sum::<f64>() / logprobs.len() as f64).exp()
}

#[test]
fn perplexity_and_logits_are_those_of_transformers() {
    let Some(files) = model() else { return };
    let expected = expected();
    let paragraph = &expected["paragraph"];
    let ids = ids(&paragraph["ids"]);
    assert_eq!(files.tokenizer.encode(&files.tokenizer.decode(&ids)), ids);
    let mut llama = llama(&files);
    let pack = pack_of(&ids);
    let (got, want) = (perplexity(&mut llama, &pack), paragraph["perplexity"].as_f64().unwrap());
    let off = (got / want - 1.0).abs();
    assert!(off < 1e-4, "perplexity {got}, transformers has {want}");

    let rows = llama.distributions(&pack).unwrap();
    let logits = expected["logits"].as_array().unwrap();
    let number = |i: usize, key: &str| logits[i][key].as_f64().unwrap();
    let at = |i: usize| rows[number(i, "position") as usize][number(i, "id") as usize];
    for (i, _) in logits.iter().enumerate() {
        // Logits are compared up to the row's constant: against the first one of the same row.
        let first = (0..i).find(|j| logits[*j]["position"] == logits[i]["position"]).unwrap_or(i);
        let got = f64::from(at(i)) - f64::from(at(first));
        let want = number(i, "value") - number(first, "value");
        assert!((got - want).abs() < 2e-3, "{}: {got}, transformers has {want}", logits[i]);
    }
}

#[test]
fn the_row_order_of_llama_cpp_in_q_and_k_would_be_noticed() {
    let Some(files) = model() else { return };
    let (shape, mut params) = (files.source.shape().clone(), params(&files));
    for tensor in Layout::new(&shape).tensors() {
        if tensor.name.contains("q_proj") || tensor.name.contains("k_proj") {
            let rows = &mut params[tensor.range()];
            rows.chunks_exact_mut(shape.head_dim * shape.hidden)
                .for_each(|head| interleave(head, shape.hidden));
        }
    }
    let mut llama = Llama::new(shape, params, THREADS).unwrap();
    llama.set_kernels(Kernels::F32).unwrap();
    let paragraph = &expected()["paragraph"];
    let got = perplexity(&mut llama, &pack_of(&ids(&paragraph["ids"])));
    let number = |key: &str| paragraph[key].as_f64().unwrap();
    assert!((got / number("perplexity_permuted") - 1.0).abs() < 1e-3, "{got}");
    assert!(got > 4.0 * number("perplexity"), "{got}");
}

/// Rows (half, i) of a head in the order (i, half).
fn interleave(head: &mut [f32], columns: usize) {
    let ours = head.to_vec();
    let half = ours.len() / columns / 2;
    for (to, row) in head.chunks_exact_mut(columns).enumerate() {
        let from = (to % 2) * half + to / 2;
        row.copy_from_slice(&ours[from * columns..(from + 1) * columns]);
    }
}

/// Tokens that must be the same with weights of 8 bits.
const SAME: usize = 12;

#[test]
fn greedy_replies_in_8_bits_begin_as_those_of_f32() {
    let Some(files) = model() else { return };
    let mut llama = llama(&files);
    let sampling = Sampling { temperature: 0.0, max_tokens: 32, ..Sampling::default() };
    for question in
        ["What is the capital of France?", "Name three colours.", "Write a short story."]
    {
        let chat = files.tokenizer.chat(&[Message::user(question)], &[], true).unwrap();
        let mut write = |weights| -> Written {
            llama.set_decode_weights(weights);
            let job = Job { prompt: &chat.ids, sampling: &sampling };
            let ends = [files.tokenizer.end_of_turn()];
            llama.generate(&[job], &ends, &|_, _| false).unwrap().remove(0)
        };
        let (plain, eight) = (write(DecodeWeights::Own), write(DecodeWeights::Q8));
        let pairs = plain.ids.iter().zip(&eight.ids);
        let same = pairs.take_while(|(a, b)| a == b).count();
        let logprobs = plain.logprobs.iter().zip(&eight.logprobs).take(same);
        let off = logprobs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        println!("{question} {same} of {} tokens are the same, off by {off:.4}", plain.ids.len());
        assert!(same >= SAME.min(plain.ids.len()) && off < 0.1, "{question}: {same}, {off}");
    }
}

#[test]
fn training_the_top_blocks_follows_pytorch() {
    let Some(files) = model() else { return };
    let expected = expected();
    let top = expected["top_blocks"].as_u64().unwrap() as usize;
    let config = config_of(&expected["train"], Scope::Top(top));
    let tokens = expected["train_tokens"].as_u64().unwrap() as usize;
    let pack = pack_of(&ids(&expected["paragraph"]["ids"])[..tokens]);
    let mut llama = llama(&files);
    let mut trainer = Trainer::new(&mut llama, config).unwrap();
    for (step, want) in expected["trace"].as_array().unwrap().iter().enumerate() {
        let report = trainer.step(std::slice::from_ref(&pack)).unwrap();
        for (key, got) in [("loss", report.loss), ("grad_norm", report.grad_norm)] {
            let off = (got / want[key].as_f64().unwrap() - 1.0).abs();
            assert!(off < 1e-3, "{key} of step {step}: {got}, PyTorch has {}", want[key]);
        }
    }
}

#[test]
fn the_export_is_the_same_model() {
    let Some(files) = model() else { return };
    let dir = tempfile::tempdir().unwrap();
    let llama = llama(&files);
    hf::export(dir.path(), llama.shape(), llama.weights(), &files.tokenizer).unwrap();
    let again = weights::open(dir.path()).unwrap();
    let name = "model.layers.7.self_attn.q_proj.weight";
    let tensor = llama.layout().tensor(name).unwrap();
    let mut q = vec![0.0; tensor.range().len()];
    again.source.read(name, &mut q).unwrap();
    assert!(q == llama.weights()[tensor.range()]);
    let chat = [Message::user("What is 12 + 30?"), Message::assistant("42")];
    let rendered = |files: &ModelFiles| files.tokenizer.chat(&chat, &[], false).unwrap();
    assert_eq!(rendered(&again), rendered(&files));
}
