//! Replies that are no answers, and answers that ended otherwise than well.

use forwhy_core::model::Ended;
use forwhy_model::ledger::event::Reason;
use forwhy_model::ledger::view;
use forwhy_serve::mock::{Fault, FaultRule, Script};

use super::*;

#[tokio::test]
async fn fault_17_a_success_without_an_answer_is_never_an_empty_answer() {
    for (fault, reason) in [
        (Fault::EmptyChoices, Reason::Malformed),
        (Fault::EmptyContent, Reason::Empty),
        (Fault::ThoughtsOnly, Reason::Empty),
        (Fault::TruncatedJson, Reason::Malformed),
        (Fault::Html, Reason::Malformed),
        (Fault::WrongModel { model: "m-small".into() }, Reason::WrongServed),
    ] {
        let mock = playing(Script::failing([FaultRule::always(fault.clone())]));
        let trial = Trial::new(&[&mock]).limits(|l| l.retries = 0);
        let client = trial.client().await;
        let refusal = one(&client, 0).await.unwrap().result.unwrap_err();
        assert_eq!(refusal.reason, reason, "{fault:?}: {refusal}");
        let entry = client.ledger().entry(&prepared(&client, 0).key).unwrap();
        assert!(entry.reply.is_some(), "{fault:?}: the bytes are kept");
        assert!(entry.cost > Usd(0), "{fault:?}: it was paid for");
    }
}

#[tokio::test]
async fn fault_18_truncation_filter_and_refusal_stay_with_the_answer() {
    let finish = |reason: &str| Fault::Finish { reason: reason.into() };
    for (fault, expected) in [
        (finish("length"), Ended::Truncated),
        (finish("content_filter"), Ended::Refused { why: "content_filter".into() }),
        (Fault::Refusal, Ended::Refused { why: "I cannot help with that.".into() }),
    ] {
        let mock = playing(Script::failing([FaultRule::always(fault.clone())]));
        let trial = Trial::new(&[&mock]);
        let client = trial.client().await;
        let fresh = one(&client, 0).await.unwrap();
        let stored = one(&client, 0).await.unwrap();
        assert!(!fresh.from_ledger && stored.from_ledger);
        assert_eq!(fresh.result.unwrap().ended, expected, "{fault:?}");
        assert_eq!(stored.result.unwrap().ended, expected, "{fault:?} from the ledger");
        assert_eq!(mock.counts().requests, 1);
    }
}

#[tokio::test]
async fn fault_21_hostile_bytes_are_read_or_refused_and_the_ledger_stays_whole() {
    let cases = [
        (Fault::LoneSurrogate, None),
        (Fault::Nul, None),
        (Fault::NanLogprob, None),
        (Fault::Huge { bytes: 10 << 20 }, None),
        (Fault::Deep { depth: 500 }, Some(Reason::Malformed)),
        (Fault::DuplicateKeys, Some(Reason::Malformed)),
    ];
    let at = |i: usize, fault: &Fault| FaultRule {
        when: Some(format!("item {i}")),
        ..FaultRule::always(fault.clone())
    };
    let rules = cases.iter().enumerate().map(|(i, (fault, _))| at(i, fault));
    let mock = playing(Script::failing(rules));
    let trial = Trial::new(&[&mock]).limits(|l| l.retries = 0);
    let client = trial.client().await;
    for (i, (fault, expected)) in cases.iter().enumerate() {
        let result = one(&client, i).await.unwrap().result;
        assert_eq!(result.err().map(|r| r.reason), *expected, "{fault:?}");
    }
    drop(client);
    let mut lines = 0;
    for path in forwhy_store::list(trial.ledger_folder()).unwrap() {
        if path.extension().is_none_or(|e| e != "seg") {
            continue;
        }
        let text = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(&line[9..]).unwrap();
            lines += 1;
        }
    }
    assert!(lines >= 3 * cases.len(), "{lines} lines");
    let verified = view::verify(trial.ledger_folder()).unwrap();
    assert!(verified.damaged.is_empty(), "{verified:?}");
}
