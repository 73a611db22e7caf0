//! The local model, from files to replies, on the tiny random model.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use forwhy_core::chat::Message;
use forwhy_core::model::{
    Continuation, Ended, GenerateRequest, Model, ModelError, Sampling, ScoreRequest,
};
use forwhy_testkit::pieces_model::{FAMILIES, pieces_model_dir};
use forwhy_testkit::tiny_model::tiny_model_dir;

use super::LocalModel;
use crate::generate::DecodeWeights;
use crate::kernels::Kernels;
use crate::llama::Scope;
use crate::pack::Pack;
use crate::trainer::{TrainConfig, Trainer};
use crate::weights;

fn model() -> LocalModel {
    let dir = tempfile::tempdir().unwrap();
    tiny_model_dir(dir.path(), 1).unwrap();
    LocalModel::load(weights::open(dir.path()).unwrap(), 1).unwrap()
}

/// The futures of a local model are ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a local model waits for nobody"),
    }
}

fn request(text: &str, sampling: Sampling) -> GenerateRequest {
    GenerateRequest { messages: vec![Message::user(text)], tools: Vec::new(), sampling }
}

fn score(model: &LocalModel, prefix: &str, text: &str) -> Vec<f32> {
    let continuation = Continuation { prefix: prefix.into(), text: text.into() };
    let request =
        ScoreRequest { messages: vec![Message::user("Hi")], continuations: vec![continuation] };
    now(model.score(&[request])).remove(0).unwrap().remove(0).logprobs
}

#[test]
fn each_request_gets_its_own_reply_or_error() {
    let model = model();
    let sampling = Sampling { max_tokens: 5, logprobs: true, ..Sampling::default() };
    let bad = Sampling { top_p: 0.0, ..sampling.clone() };
    let requests = [
        request("a", sampling.clone()),
        request("b", bad),
        request(&"x".repeat(5000), sampling.clone()),
        request("c", Sampling { max_tokens: 9999, ..sampling }),
    ];
    let replies = now(model.generate(&requests));
    let first = replies[0].as_ref().unwrap();
    assert_eq!(first.logprobs.as_ref().unwrap().len() as u64, first.usage.completion_tokens);
    assert!(matches!(&replies[1], Err(ModelError::BadRequest(why)) if why.contains("top_p")));
    assert!(matches!(replies[2], Err(ModelError::TooLong { limit: 4096, .. })));
    let last = replies[3].as_ref().unwrap();
    assert!(last.effective.max_tokens < 4096, "what was really used is said");
}

#[test]
fn a_stop_text_ends_the_reply_and_is_not_part_of_it() {
    let model = model();
    let sampling = Sampling { max_tokens: 60, seed: 3, ..Sampling::default() };
    let free = now(model.generate(&[request("a", sampling.clone())])).remove(0).unwrap();
    let stop: String = free.text.chars().skip(10).take(1).collect();
    let sampling = Sampling { stop: vec![stop.clone()], ..sampling };
    let reply = now(model.generate(&[request("a", sampling)])).remove(0).unwrap();
    assert_eq!(reply.ended, Ended::Complete);
    assert_eq!(reply.text, free.text[..free.text.find(&stop).unwrap()]);
}

#[test]
fn a_score_covers_text_and_end_token_but_not_the_prefix() {
    let model = model();
    let whole = score(&model, "", "ab cd");
    assert_eq!(whole.len(), 6, "five bytes and the end of turn");
    let tail = score(&model, "ab", " cd");
    assert_eq!(tail.len(), 4);
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(close(&whole[2..], &tail));
    let smuggled = score(&model, "", "<|im_end|>");
    assert_eq!(smuggled.len(), 11, "control text in a continuation is plain text");
}

#[test]
fn fault_40_empty_scores_and_texts_are_errors() {
    let model = model();
    let none = ScoreRequest { messages: vec![Message::user("Hi")], continuations: vec![] };
    let empty = Continuation { prefix: "a".into(), text: String::new() };
    let blank = ScoreRequest { continuations: vec![empty], ..none.clone() };
    for answer in now(model.score(&[none, blank])) {
        assert!(matches!(answer, Err(ModelError::BadRequest(_))));
    }
    assert!(model.perplexity("").is_err());
    assert!(model.token_distributions(&[vec![Message::user("a")]]).is_err());
}

#[test]
fn training_changes_revision_and_scores_and_import_brings_both_back() {
    let model = model();
    assert_eq!(model.identity().revision, model.base_hash());
    let (before, start) = (score(&model, "", "yes"), model.export_scope(Scope::Top(1)).unwrap());
    let chat = [Message::user("Hi"), Message::assistant("yes")];
    let rendered = model.tokenizer().chat(&chat, &[], false).unwrap();
    let mut pack = Pack::new();
    pack.push_sequence(&rendered.ids, &rendered.trained);
    let scope = Scope::Top(1);
    let lent = model.with_llama(|llama| {
        let config = TrainConfig { scope, learning_rate: 1e-2, ..TrainConfig::default() };
        let mut trainer = Trainer::new(llama, config).unwrap();
        (0..5).for_each(|_| {
            trainer.step(std::slice::from_ref(&pack)).unwrap();
        });
    });
    lent.unwrap();
    let after = score(&model, "", "yes");
    assert!(after.iter().sum::<f32>() > before.iter().sum::<f32>() + 1.0);
    let trained = model.identity();
    assert!(trained.revision.starts_with("weights:"));
    let tensors = model.export_scope(scope).unwrap();
    model.import_scope(scope, &start).unwrap();
    assert_eq!(score(&model, "", "yes"), before);
    model.import_scope(scope, &tensors).unwrap();
    assert_eq!(model.identity(), trained);
}

#[test]
fn distributions_and_perplexity_agree_with_scores() {
    let model = model();
    let chat = vec![Message::user("Hi"), Message::assistant("yes")];
    let rows = model.token_distributions(std::slice::from_ref(&chat)).unwrap();
    let ids =
        [&b"yes"[..].iter().map(|b| usize::from(*b)).collect::<Vec<_>>()[..], &[258]].concat();
    let picked: Vec<f32> = rows.iter().zip(ids).map(|(row, id)| row[id]).collect();
    let want = score(&model, "", "yes");
    assert_eq!(picked.len(), want.len());
    assert!(picked.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5));
    let (nats, tokens) = model.perplexity("Some plain text.").unwrap();
    assert_eq!(tokens, 15);
    assert!((3.0..9.0).contains(&(nats / 15.0)), "{nats}");
}

#[test]
fn a_model_that_panicked_is_not_used_again() {
    let model = model();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        model.with_llama(|_| panic!("planted"))
    }));
    assert!(panicked.is_err());
    let reply = now(model.generate(&[request("a", Sampling::default())])).remove(0);
    assert!(matches!(reply, Err(ModelError::Failed(why)) if why.contains("earlier call")));
    assert!(model.export_scope(Scope::All).is_err() && model.perplexity("some text").is_err());
    assert!(model.identity().revision.starts_with("unknown"));
}

#[test]
fn the_identity_says_that_replies_are_decoded_in_8_bits() {
    let model = model();
    let plain = model.identity().revision;
    model.set_decode_weights(DecodeWeights::Q8).unwrap();
    assert_eq!(model.identity().revision, format!("{plain}+q8"));
    let scored = score(&model, "", "Hello");
    model.set_decode_weights(DecodeWeights::Own).unwrap();
    assert_eq!(model.identity().revision, plain);
    assert_eq!(scored, score(&model, "", "Hello"), "texts are scored in f32 in any case");
}

#[test]
fn the_identity_says_that_products_are_in_bf16_and_of_which_kind() {
    let model = model();
    let plain = model.identity().revision;
    let scored = score(&model, "", "Hello");
    model.with_llama(|llama| llama.set_kernels(Kernels::Portable)).unwrap().unwrap();
    let revision = model.identity().revision;
    assert!(revision.ends_with("+bf16-portable") && revision != plain, "{revision}");
    assert_ne!(scored, score(&model, "", "Hello"), "texts are scored in bf16 then");
    assert_eq!(model.kernels().unwrap(), Kernels::Portable);
}

fn pieces_model(family: (&str, &str)) -> LocalModel {
    let dir = tempfile::tempdir().unwrap();
    pieces_model_dir(dir.path(), family, 1).unwrap();
    LocalModel::load(weights::open(dir.path()).unwrap(), 1).unwrap()
}

#[test]
fn a_scored_answer_has_the_tokens_and_log_probabilities_of_the_trained_one() {
    for family in FAMILIES {
        let model = pieces_model(family);
        let chat = [Message::user("Hi"), Message::assistant("The ferry, \u{1f600}")];
        let rendered = model.tokenizer().chat(&chat, &[], false).unwrap();
        let mut pack = Pack::new();
        pack.push_sequence(&rendered.ids, &rendered.trained);
        let trained = model.with_llama(|llama| llama.logprobs(&[pack]).unwrap().concat()).unwrap();
        let scored = score(&model, "", "The ferry, \u{1f600}");
        assert_eq!(scored.len(), trained.len(), "{}", family.0);
        assert!(scored.iter().zip(&trained).all(|(a, b)| (a - b).abs() < 1e-4), "{}", family.0);
        // The border stands where the prefix ends.
        let tail = score(&model, "The", " ferry, \u{1f600}");
        assert!(
            scored[scored.len() - tail.len()..]
                .iter()
                .zip(&tail)
                .all(|(a, b)| (a - b).abs() < 1e-4)
        );
    }
}

#[test]
fn a_reply_continues_its_prompt_with_all_its_spaces() {
    for family in FAMILIES {
        let model = pieces_model(family);
        let chat = [Message::user("Hi"), Message::assistant("The ferry")];
        let rendered = model.tokenizer().chat(&chat, &[], false).unwrap();
        let mut pack = Pack::new();
        pack.push_sequence(&rendered.ids, &rendered.trained);
        let lent = model.with_llama(|llama| {
            let config = TrainConfig { learning_rate: 1e-2, ..TrainConfig::default() };
            let mut trainer = Trainer::new(llama, config).unwrap();
            (0..40).for_each(|_| {
                trainer.step(std::slice::from_ref(&pack)).unwrap();
            });
        });
        lent.unwrap();
        let greedy = Sampling { temperature: 0.0, max_tokens: 20, ..Sampling::default() };
        let reply = now(model.generate(&[request("Hi", greedy)])).remove(0).unwrap();
        let text = model.tokenizer().chat_text(&chat, &[], false).unwrap();
        assert_eq!(reply.ended, Ended::Complete, "{}: {}", family.0, reply.text);
        assert!(text.ends_with(&format!("[/INST]{}</s>", reply.text)), "{text} {:?}", reply.text);
    }
}
