//! Faults 3, 4 and 6 anew, and what must survive a process that dies anywhere.

use proptest::prelude::*;
use serde_json::json;

use super::view::{self, Row};
use super::*;
use crate::budget::price::Price;
use crate::wire::{Dialect, Settings};

fn clock() -> Clock {
    Arc::new(|| 1_700_000_000_000)
}

fn spec() -> SpecRecord {
    SpecRecord {
        name: "m".into(),
        dialect: Dialect::Compatible,
        settings: Settings::new(Dialect::Compatible, "m"),
        identity: "declared:1".into(),
        endpoints: vec!["http://127.0.0.1:1/v1".into()],
        price: Some(Price::parse("1/2").unwrap()),
    }
}

fn question(n: u32) -> (Key, Vec<u8>) {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": format!("q{n}")}]});
    let key = Key::of(Dialect::Compatible, &body, "declared:1", 0);
    (key, crate::wire::canonical(&body))
}

fn answer(text: &str) -> Vec<u8> {
    json!({"id": "r", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}})
    .to_string()
    .into_bytes()
}

/// Sends question `n`, up to and including the step named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Submitted,
    Received,
    Judged,
}

fn ask(ledger: &Ledger, n: u32, until: Step) -> Key {
    let (key, body) = question(n);
    let sample = format!("s{n}");
    let number = ledger.spec(&spec()).unwrap();
    let reserve = Usd(1000);
    let what =
        Submission { key, spec: number, replicate: 0, sample: &sample, body: &body, reserve };
    let attempt = ledger.submit(&what, 0).unwrap();
    if until >= Step::Received {
        let bytes = answer(&sample);
        let stored = ledger.receive(key, attempt, 7, Head::ok(), bytes).unwrap();
        if until == Step::Judged {
            let judged = judge::judge_stored(&spec(), spec().price.as_ref(), reserve, &stored);
            ledger.judge(key, attempt, &judged).unwrap();
        }
    }
    key
}

fn open(folder: &Path) -> (Ledger, Opening) {
    Ledger::open(folder, clock()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    for file in forwhy_store::list(from).unwrap() {
        if file.extension().is_some_and(|e| e == "seg") {
            std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn an_answered_request_is_known_after_a_restart_and_so_is_its_cost() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open(dir.path());
    let key = ask(&ledger, 1, Step::Judged);
    drop(ledger);
    let (ledger, opening) = open(dir.path());
    let entry = ledger.entry(&key).unwrap();
    assert!(entry.is_done() && opening.requests == 1 && opening.lost_in_flight == 0);
    // 10 tokens at 1 and 5 at 2 dollars per million.
    assert_eq!(entry.cost, Usd(20_000));
    assert_eq!(ledger.totals().spent.known, Usd(20_000));
    assert_eq!((ledger.totals().sessions, ledger.totals().attempts), (2, 1));
    let stored = ledger.reply(&key, entry.reply.unwrap()).unwrap();
    assert_eq!(stored.bytes.0, answer("s1"));
}

#[test]
fn fault_1_a_reply_that_reached_us_is_never_asked_again_wherever_the_process_died() {
    for (step, lost, done) in
        [(Step::Submitted, 1, false), (Step::Received, 0, true), (Step::Judged, 0, true)]
    {
        let dir = tempfile::tempdir().unwrap();
        let dead = tempfile::tempdir().unwrap();
        let (ledger, _) = open(dir.path());
        let key = ask(&ledger, 1, step);
        copy(dir.path(), dead.path());
        let (after, opening) = open(dead.path());
        let entry = after.entry(&key).unwrap();
        assert_eq!((opening.lost_in_flight, entry.is_done()), (lost, done), "{step:?}");
        // Nothing is lost twice, and what was lost counts as dearly as it can have been.
        drop(after);
        let (again, opening) = open(dead.path());
        assert_eq!(opening.lost_in_flight, 0);
        assert_eq!(again.totals().lost_in_flight, lost);
        assert_eq!(again.totals().spent.estimated, Usd(1000 * lost));
    }
}

#[test]
fn fault_3_a_tear_in_either_file_costs_no_whole_reply() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open(dir.path());
    let first = ask(&ledger, 1, Step::Judged);
    let second = ask(&ledger, 2, Step::Judged);
    drop(ledger);
    for stem in [STATES, BODIES] {
        let whole = std::fs::read(files::path(dir.path(), stem, 1)).unwrap();
        // In the last third all of the second request's records end. The store's own tests cut at
        // every byte; opening a ledger waits for the disk, so here every eleventh must do.
        for cut in ((whole.len() * 2 / 3)..whole.len()).step_by(11) {
            let dead = tempfile::tempdir().unwrap();
            copy(dir.path(), dead.path());
            let torn = files::path(dead.path(), stem, 1);
            forwhy_store::atomic::write(&torn, &whole[..cut]).unwrap();
            let (after, opening) = open(dead.path());
            assert_eq!(opening.damaged().count(), 0, "{stem} cut at {cut}");
            let entry = after.entry(&first).unwrap();
            assert!(entry.is_done(), "{stem} cut at {cut}");
            assert_eq!(after.reply(&first, entry.reply.unwrap()).unwrap().bytes.0, answer("s1"));
            if stem == STATES {
                // The bodies are whole: the second reply is found there.
                let entry = after.entry(&second).unwrap();
                assert!(entry.is_done(), "states cut at {cut}: {entry:?}");
            }
        }
    }
}

#[test]
fn fault_4_a_flipped_bit_names_file_offset_and_sample_and_spares_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open(dir.path());
    let keys: Vec<Key> = (0..3).map(|n| ask(&ledger, n, Step::Judged)).collect();
    let place = ledger.entry(&keys[1]).unwrap().reply.unwrap();
    drop(ledger);
    let path = files::path(dir.path(), BODIES, 1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[place.offset() as usize + 40] ^= 4;
    forwhy_store::atomic::write(&path, &bytes).unwrap();
    let (ledger, _) = open(dir.path());
    for (n, key) in keys.iter().enumerate() {
        let read = ledger.reply(key, ledger.entry(key).unwrap().reply.unwrap());
        assert_eq!(read.is_ok(), n != 1, "{n}");
        if let Err(error) = read {
            let text = error.to_string();
            let offset = format!("bodies-00001.seg, byte {}", place.offset());
            assert!(text.contains("\"s1\"") && text.contains(&offset), "{text}");
        }
    }
    drop(ledger);
    let verified = view::verify(dir.path()).unwrap();
    assert_eq!(verified.damaged.len(), 1);
    assert_eq!(verified.damaged[0].0.as_deref(), Some("s1"));
}

#[test]
fn fault_4_states_that_are_damaged_are_made_again_from_the_bodies() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open(dir.path());
    let keys: Vec<Key> = (0..3).map(|n| ask(&ledger, n, Step::Judged)).collect();
    drop(ledger);
    let path = files::path(dir.path(), STATES, 1);
    let whole = std::fs::read(&path).unwrap();
    let lines: Vec<usize> =
        whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
    // Any one event after the spec: of the first request, or of the second.
    for line in lines.iter().skip(1).take(8) {
        let dead = tempfile::tempdir().unwrap();
        copy(dir.path(), dead.path());
        let mut bytes = whole.clone();
        bytes[line + 20] ^= 1;
        forwhy_store::atomic::write(&files::path(dead.path(), STATES, 1), &bytes).unwrap();
        let (after, opening) = open(dead.path());
        assert_eq!(opening.damaged().count(), 1);
        for key in &keys {
            assert!(after.entry(key).is_some_and(|e| e.is_done()), "line at {line}");
        }
    }
}

#[test]
fn fault_6_a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_ledger, _) = open(dir.path());
    let error = Ledger::open(dir.path(), clock()).unwrap_err();
    assert!(error.to_string().contains("is in use by process"), "{error}");
}

#[test]
fn fault_9_costs_and_attempts_of_all_runs_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let (key, body) = question(1);
    for run in 1..=3 {
        let (ledger, _) = open(dir.path());
        let number = ledger.spec(&spec()).unwrap();
        assert_eq!(number, 1, "one spec, however many runs");
        let reserve = Usd(500);
        let what =
            Submission { key, spec: number, replicate: 0, sample: "s", body: &body, reserve };
        let attempt = ledger.submit(&what, 0).unwrap();
        assert_eq!(attempt, run);
        let cost = Cost::at_most(reserve);
        let detail = "reset".to_string();
        let failure = Failure { reason: Reason::Broken, detail, cost, millis: 3 };
        ledger.fail(key, attempt, failure).unwrap();
    }
    let (index, _) = view::index(dir.path()).unwrap();
    assert_eq!(index.totals.spent.estimated, Usd(1500));
    assert_eq!(index.totals.failures[&Reason::Broken], 3);
    assert_eq!((index.totals.sessions, index.get(&key).unwrap().attempts), (3, 3));
    assert!(!index.get(&key).unwrap().is_done());
}

#[test]
fn a_reader_that_learned_something_reads_again_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open(dir.path());
    let key = ask(&ledger, 1, Step::Received);
    // An older reader took the reply for nothing.
    let (reason, detail) = (Reason::Malformed, "unreadable".to_string());
    let verdict = Verdict::Rejected { reason, detail };
    let judged = Judgement { verdict, cost: Cost::known(Usd(7)), tokens: None };
    ledger.judge(key, 1, &judged).unwrap();
    assert!(!ledger.entry(&key).unwrap().is_done());
    let reparsed = view::reparse(&ledger).unwrap();
    assert_eq!((reparsed.read, reparsed.changed), (1, 1));
    let entry = ledger.entry(&key).unwrap();
    assert!(entry.is_done() && entry.reason.is_none());
    assert_eq!((entry.cost, entry.attempts), (Usd(7), 1));
    assert_eq!(view::reparse(&ledger).unwrap().changed, 0);
}

#[test]
fn a_list_shows_requests_in_the_order_of_their_first_sending() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open(dir.path());
    ask(&ledger, 2, Step::Judged);
    ask(&ledger, 1, Step::Submitted);
    let (index, _) = view::index(dir.path()).unwrap();
    let mut rows: Vec<Row> = Vec::new();
    view::rows(dir.path(), &index, &mut |row| rows.push(row)).unwrap();
    assert_eq!(rows.iter().map(|r| r.sample.as_str()).collect::<Vec<_>>(), ["s2", "s1"]);
    assert_eq!((rows[0].state, rows[1].state), (State::Accepted, State::Submitted));
    assert_eq!((rows[0].tokens, rows[1].tokens), (Some((10, 5)), None));
    let shown = view::show(dir.path(), "s2").unwrap();
    assert_eq!((shown.events.len(), shown.replies.len()), (4, 1));
    assert!(shown.request.contains("\"q2\""));
    assert!(view::show(dir.path(), "s9").unwrap_err().to_string().contains("no request s9"));
}

#[test]
fn a_folder_without_a_ledger_is_no_empty_ledger() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(view::index(dir.path()).unwrap_err(), LedgerError::Absent { .. }));
}

#[test]
fn a_batch_is_known_before_it_is_submitted() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open(dir.path());
    let number = ledger.spec(&spec()).unwrap();
    let (key, body) = question(1);
    let (reserve, sample) = (Usd(5), "s");
    let item = Submission { key, spec: number, replicate: 0, sample, body: &body, reserve };
    let mut batch = BatchRecord {
        id: "b1".into(),
        spec: number,
        requests: 1,
        at_ms: 1,
        provider_id: None,
        ended: false,
    };
    ledger.reserve(&batch, &[item]).unwrap();
    drop(ledger);
    let (ledger, opening) = open(dir.path());
    assert_eq!((opening.lost_in_flight, ledger.open_batches()), (0, vec![batch.clone()]));
    assert_eq!(ledger.entry(&key).unwrap().state, State::Reserved);
    batch.ended = true;
    ledger.batch(&batch).unwrap();
    assert!(ledger.open_batches().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Whatever was done, and wherever the two files are cut: no whole reply is lost, and every
    /// request that is not answered was lost in flight or had not been sent.
    #[test]
    fn fault_1_any_death_leaves_every_whole_reply(
        steps in prop::collection::vec(0..3u8, 1..6),
        cut_states in 0.0..1.0f64,
        cut_bodies in 0.0..1.0f64,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let dead = tempfile::tempdir().unwrap();
        let (ledger, _) = open(dir.path());
        for (n, step) in steps.iter().enumerate() {
            let until = [Step::Submitted, Step::Received, Step::Judged][usize::from(*step)];
            ask(&ledger, n as u32, until);
        }
        copy(dir.path(), dead.path());
        let bodies = files::path(dead.path(), BODIES, 1);
        let whole = std::fs::read(&bodies).unwrap();
        let kept = &whole[..(whole.len() as f64 * cut_bodies) as usize];
        // Bodies are written before the states that name them; a state may be cut freely.
        let states = files::path(dead.path(), STATES, 1);
        let all_states = std::fs::read(&states).unwrap();
        let kept_states = if kept.len() == whole.len() { all_states.len() } else { 0 };
        let kept_states = kept_states.max((all_states.len() as f64 * cut_states) as usize);
        forwhy_store::atomic::write(&states, &all_states[..kept_states]).unwrap();
        let (after, opening) = open(dead.path());
        prop_assert_eq!(opening.damaged().count(), 0);
        let specs_known = after.spec_record(1).is_some();
        for (n, step) in steps.iter().enumerate() {
            let (key, _) = question(n as u32);
            let Some(entry) = after.entry(&key) else { continue };
            if *step > 0 && specs_known {
                prop_assert!(entry.is_done() || entry.state == State::Planned, "{:?}", entry);
                prop_assert!(entry.reply.is_some() == entry.is_done());
            }
        }
    }
}
