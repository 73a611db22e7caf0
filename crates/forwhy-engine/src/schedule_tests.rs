//! The scheduler against plain generation, and its bounds.

use super::*;
use crate::checks::tiny_shape;
use crate::generate::Job;
use std::collections::BTreeMap;

const END: u32 = 3;

fn model() -> Llama {
    let mut model = Llama::random(tiny_shape(), 7, 1).unwrap();
    model.weights.iter_mut().for_each(|w| *w *= 3.0);
    model
}

fn prompts() -> [Vec<u32>; 3] {
    [vec![5; 7], (10..150).collect(), vec![9]]
}

fn sampling(seed: u64, max_tokens: usize) -> Sampling {
    Sampling { max_tokens, seed, ..Sampling::default() }
}

fn order(prompt: &[u32], seed: u64, max_tokens: usize) -> Order {
    let sampling = sampling(seed, max_tokens);
    Order { prompt: prompt.into(), sampling, alternatives: 0, steer: None }
}

fn scheduler(sequences: usize, rows: usize) -> Scheduler {
    Scheduler::new(Limits { sequences, rows }, &[END])
}

/// The drawn tokens of each sequence, end token included.
type Written = BTreeMap<Ticket, Vec<Drawn>>;

fn note(written: &mut Written, outcomes: Vec<(Ticket, Outcome)>) {
    for (ticket, outcome) in outcomes {
        match outcome {
            Outcome::Drawn(drawn, _) => written.entry(ticket).or_default().push(drawn),
            Outcome::Failed(error) => panic!("{error}"),
        }
    }
}

fn finish(scheduler: &mut Scheduler, model: &mut Llama) -> Written {
    let mut written = Written::new();
    while !scheduler.is_idle() {
        note(&mut written, scheduler.step(model));
    }
    written
}

fn plain(model: &mut Llama, order: &Order) -> (Vec<u32>, Vec<f32>) {
    let job = Job { prompt: &order.prompt, sampling: &order.sampling };
    let written = model.generate(&[job], &[END], &|_, _| false).unwrap().remove(0);
    (written.ids, written.logprobs)
}

fn assert_plain(model: &mut Llama, order: &Order, got: &[Drawn]) {
    let (ids, logprobs) = plain(model, order);
    let got_ids: Vec<u32> = got.iter().map(|d| d.id).filter(|id| *id != END).collect();
    assert_eq!(got_ids, ids);
    assert_eq!(got.len(), logprobs.len());
    let apart = got.iter().zip(&logprobs).map(|(a, b)| (a.logprob - b).abs());
    assert!(apart.fold(0f32, f32::max) < 1e-4);
}

#[test]
fn who_joins_late_writes_what_it_would_write_alone() {
    let (mut model, prompts) = (model(), prompts());
    let mut scheduler = scheduler(4, 10_000);
    let (mut written, mut orders) = (Written::new(), BTreeMap::new());
    for round in 0..12u64 {
        let make = || order(&prompts[round as usize % 3], round / 2, 5 + round as usize);
        orders.insert(scheduler.submit(&model, make()).unwrap(), make());
        note(&mut written, scheduler.step(&mut model));
        note(&mut written, scheduler.step(&mut model));
    }
    for (ticket, drawn) in finish(&mut scheduler, &mut model) {
        written.entry(ticket).or_default().extend(drawn);
    }
    assert_eq!(written.len(), orders.len());
    for (ticket, order) in orders {
        assert_plain(&mut model, &order, &written[&ticket]);
        let mut alone = self::scheduler(4, 10_000);
        let own = alone.submit(&model, order).unwrap();
        assert_eq!(finish(&mut alone, &mut model)[&own], written[&ticket], "to the last bit");
    }
}

#[test]
fn short_memory_pauses_the_young_and_changes_no_reply() {
    let (mut model, prompts) = (model(), prompts());
    let mut scheduler = scheduler(8, 40);
    let make = |seed: u64| order(&prompts[seed as usize % 2 * 2], seed, 30);
    let tickets: Vec<Ticket> =
        (0..6).map(|seed| scheduler.submit(&model, make(seed)).unwrap()).collect();
    let (mut written, mut most) = (Written::new(), 0);
    while !scheduler.is_idle() {
        note(&mut written, scheduler.step(&mut model));
        most = most.max(scheduler.rows());
    }
    assert!(most <= 40 + 37, "{most} rows: the limit, and the oldest beyond it");
    for (seed, ticket) in tickets.iter().enumerate() {
        assert_plain(&mut model, &make(seed as u64), &written[ticket]);
    }
}

#[test]
fn a_prompt_is_read_once_for_all_its_samples_and_forgotten_when_room_is_short() {
    let (mut model, prompts) = (model(), prompts());
    let mut scheduler = scheduler(8, 300);
    let shared: Arc<[u32]> = prompts[1].as_slice().into();
    for seed in 0..4 {
        let order = Order { prompt: shared.clone(), ..order(&[1], seed, 4) };
        scheduler.submit(&model, order).unwrap();
    }
    scheduler.step(&mut model);
    assert_eq!((scheduler.prompts.read.len(), scheduler.rows()), (1, 144));
    finish(&mut scheduler, &mut model);
    assert_eq!(scheduler.rows(), 140, "kept for the next");
    scheduler.submit(&model, order(&[7; 200], 0, 4)).unwrap();
    finish(&mut scheduler, &mut model);
    assert_eq!(scheduler.rows(), 200, "the older made room");
    scheduler.forget_prompts();
    assert_eq!(scheduler.rows(), 0);
}

#[test]
fn a_cancelled_sequence_frees_its_place_and_leaves_the_others_alone() {
    let (mut model, prompts) = (model(), prompts());
    let mut scheduler = scheduler(2, 10_000);
    let submit = |s: &mut Scheduler, model: &Llama, seed| {
        s.submit(model, order(&prompts[0], seed, 20)).unwrap()
    };
    let tickets = [0, 1, 2, 3].map(|seed| submit(&mut scheduler, &model, seed));
    let mut written = Written::new();
    note(&mut written, scheduler.step(&mut model));
    assert_eq!((scheduler.running(), scheduler.waiting()), (2, 2));
    scheduler.cancel(tickets[0]);
    scheduler.cancel(tickets[2]);
    scheduler.cancel(tickets[2]);
    for (ticket, drawn) in finish(&mut scheduler, &mut model) {
        written.entry(ticket).or_default().extend(drawn);
    }
    assert!(!written.contains_key(&tickets[2]) && written[&tickets[0]].len() == 1);
    for seed in [1, 3] {
        let ticket = &tickets[seed as usize];
        assert_plain(&mut model, &order(&prompts[0], seed, 20), &written[ticket]);
    }
}

#[test]
fn impossible_orders_are_refused_at_the_door() {
    let model = model();
    let mut scheduler = scheduler(2, 100);
    assert!(matches!(
        scheduler.submit(&model, order(&[5, 6], 0, 1023)),
        Err(EngineError::TooLong { tokens: 1025, limit: 1024 })
    ));
    for bad in [order(&[], 0, 5), order(&[9999], 0, 5), order(&[5], 0, 0)] {
        assert!(matches!(scheduler.submit(&model, bad), Err(EngineError::Pack(_))));
    }
    assert!(scheduler.is_idle());
}

#[test]
fn alternatives_are_the_likeliest_tokens_and_reading_agrees_with_writing() {
    let mut model = model();
    let mut scheduler = scheduler(2, 1000);
    let order = Order { alternatives: 3, ..order(&[5, 6, 7], 4, 6) };
    let ticket = scheduler.submit(&model, order).unwrap();
    let written = finish(&mut scheduler, &mut model).remove(&ticket).unwrap();
    let ids: Vec<u32> = [5, 6, 7].into_iter().chain(written.iter().map(|d| d.id)).collect();
    let read = model.read_text(&ids, 3).unwrap();
    assert_eq!(read.len(), ids.len() - 1);
    for (written, read) in written.iter().zip(&read[2..]) {
        assert_eq!(written.id, read.id);
        assert!((written.logprob - read.logprob).abs() < 1e-4);
        let falls = read.alternatives.windows(2).all(|pair| pair[0].1 >= pair[1].1);
        assert!(falls && read.alternatives.len() == 3 && read.alternatives[0].1 >= read.logprob);
        let apart = written.alternatives.iter().zip(&read.alternatives);
        assert!(apart.into_iter().all(|(a, b)| (a.1 - b.1).abs() < 1e-4));
    }
    assert!(model.read_text(&[5], 3).unwrap().is_empty());
}

/// Allows one token.
struct Only(u32);

impl Steer for Only {
    fn adjust(&mut self, logits: &mut [f32]) {
        let kept = logits[self.0 as usize];
        logits.fill(f32::NEG_INFINITY);
        logits[self.0 as usize] = kept;
    }
    fn took(&mut self, id: u32) {
        assert_eq!(id, self.0);
        self.0 += 1;
    }
}

#[test]
fn steering_decides_the_draw_but_not_the_reported_probability() {
    let mut model = model();
    let mut scheduler = scheduler(2, 1000);
    let order = Order { steer: Some(Box::new(Only(20))), ..order(&[5, 6, 7], 4, 4) };
    let ticket = scheduler.submit(&model, order).unwrap();
    let written = finish(&mut scheduler, &mut model).remove(&ticket).unwrap();
    assert_eq!(written.iter().map(|d| d.id).collect::<Vec<_>>(), [20, 21, 22, 23]);
    assert!(written.iter().all(|d| d.logprob < -0.1), "not 0, as a forced draw would have");
}
