//! A host with several adapters, on the tiny random model.

use std::sync::mpsc::{Receiver, channel};

use forwhy_core::chat::Message;
use forwhy_core::model::Sampling;
use forwhy_testkit::tiny_model::tiny_model_dir;

use super::*;
use crate::pack::Pack;
use crate::trainer::{TrainConfig, Trainer};
use crate::weights;

fn model() -> LocalModel {
    let dir = tempfile::tempdir().unwrap();
    tiny_model_dir(dir.path(), 1).unwrap();
    LocalModel::load(weights::open(dir.path()).unwrap(), 1).unwrap()
}

/// Tensors of some training steps, which leave the model trained.
fn trained(model: &LocalModel, name: &str, scope: Scope) -> Adapter {
    let chat = [Message::user("Hi"), Message::assistant(name)];
    let rendered = model.tokenizer().chat(&chat, &[], false).unwrap();
    let mut pack = Pack::new();
    pack.push_sequence(&rendered.ids, &rendered.trained);
    let lent = model.with_llama(|llama| {
        let config = TrainConfig { scope, learning_rate: 1e-2, ..TrainConfig::default() };
        let mut trainer = Trainer::new(llama, config).unwrap();
        (0..8).for_each(|_| {
            trainer.step(std::slice::from_ref(&pack)).unwrap();
        });
    });
    lent.unwrap();
    let weights = model.export_scope(scope).unwrap();
    Adapter { name: name.into(), scope, weights }
}

fn adapters() -> Vec<Adapter> {
    let lora = Scope::Lora { rank: 4, alpha: 8.0 };
    [("yes", lora), ("no", lora), ("why", Scope::Top(1))]
        .map(|(name, scope)| trained(&model(), name, scope))
        .into()
}

fn host() -> Host {
    Host::start(model(), "base", adapters(), Limits::default()).unwrap()
}

fn order(host: &Host, seed: u64, max_tokens: usize) -> Order {
    let ids = host.model().tokenizer().chat(&[Message::user("Hi")], &[], true).unwrap().ids;
    let sampling = Sampling { seed, max_tokens, ..Sampling::default() };
    Order { prompt: ids.into(), sampling, alternatives: 0, steer: None }
}

fn never() -> Arc<AtomicBool> {
    Arc::default()
}

fn listen(host: &Host, variant: usize, order: Order) -> Receiver<Heard> {
    let (sender, receiver) = channel();
    let listener = Box::new(move |heard| sender.send(heard).is_ok());
    host.write(variant, order, listener, never()).unwrap();
    receiver
}

fn ids(heard: Receiver<Heard>) -> Vec<u32> {
    let ids = heard.into_iter().map(|heard| match heard {
        Heard::Token(drawn, _) => drawn.id,
        Heard::Failed(error) => panic!("{error}"),
    });
    ids.collect()
}

#[test]
fn each_variant_has_its_own_revision_and_the_base_that_of_its_files() {
    let (host, model) = (host(), model());
    let revisions: Vec<&str> = host.variants().iter().map(|v| v.revision.as_str()).collect();
    assert_eq!(revisions[0], model.base_hash());
    for (adapter, revision) in adapters().iter().zip(&revisions[1..]) {
        model.import_scope(adapter.scope, &adapter.weights).unwrap();
        assert_eq!(model.identity().revision, **revision);
        let base = Adapter {
            weights: self::model().export_scope(Scope::All).unwrap(),
            scope: Scope::All,
            name: String::new(),
        };
        model.import_scope(base.scope, &base.weights).unwrap();
    }
    let distinct: std::collections::BTreeSet<&str> = revisions.iter().copied().collect();
    assert_eq!(distinct.len(), 4);
}

#[test]
fn variants_asked_for_at_the_same_time_answer_as_if_alone() {
    let host = host();
    let ask = |variant: usize, seed| listen(&host, variant, order(&host, seed, 120));
    let together: Vec<_> = (0..12).map(|i| ask(i % 4, i as u64 / 4)).collect();
    let together: Vec<Vec<u32>> = together.into_iter().map(ids).collect();
    let alone = self::host();
    for (i, reply) in together.iter().enumerate() {
        assert_eq!(ids(listen(&alone, i % 4, order(&alone, i as u64 / 4, 120))), *reply);
    }
    assert_ne!(together[0], together[1]);
}

#[test]
fn who_left_frees_the_place_also_while_in_line() {
    let limits = Limits { sequences: 1, ..Limits::default() };
    let host = Host::start(model(), "base", Vec::new(), limits).unwrap();
    let (sender, receiver) = channel();
    let first = listen(
        &host,
        0,
        Order {
            sampling: Sampling { max_tokens: 4000, temperature: 0.0, ..Sampling::default() },
            ..order(&host, 0, 1)
        },
    );
    let left = never();
    let hear = {
        let sender = sender.clone();
        Box::new(move |heard| sender.send(heard).is_ok())
    };
    host.write(0, order(&host, 1, 4000), hear, left.clone()).unwrap();
    left.store(true, Ordering::Relaxed);
    drop(first);
    let last = ids(listen(&host, 0, order(&host, 2, 3)));
    drop(sender);
    assert!(!last.is_empty() && receiver.into_iter().next().is_none(), "it never began");
}

#[test]
fn readings_and_refusals_come_back_and_a_stop_finishes_what_runs() {
    let host = host();
    let (sender, receiver) = channel();
    let answer = Box::new(move |read| sender.send(read).unwrap());
    host.read(1, vec![72, 105, 33], 2, answer).unwrap();
    let read = receiver.recv().unwrap().unwrap();
    assert_eq!(read.iter().map(|d| d.id).collect::<Vec<_>>(), [105, 33]);
    assert_eq!(read[0].alternatives.len(), 2);
    let refused = listen(&host, 0, order(&host, 0, 5000)).recv().unwrap();
    assert!(matches!(refused, Heard::Failed(EngineError::TooLong { limit: 4096, .. })));
    let running = listen(&host, 2, order(&host, 3, 30));
    host.stop().unwrap();
    assert!(!ids(running).is_empty() && !host.is_alive());
    let late = host.write(0, order(&host, 0, 1), Box::new(|_| true), never());
    assert_eq!(late, Err(Gone));
}

#[test]
fn adapters_that_do_not_fit_and_names_that_clash_are_refused() {
    let start = |adapters| Host::start(model(), "base", adapters, Limits::default());
    let [mut yes, mut no, _] = <[Adapter; 3]>::try_from(adapters()).ok().unwrap();
    yes.name = "base".into();
    assert!(matches!(start(vec![yes]), Err(HostError::Name(name)) if name == "base"));
    no.weights.pop();
    let error = start(vec![no]).err().unwrap().to_string();
    assert!(error.starts_with("adapter no: mismatch"), "{error}");
}
