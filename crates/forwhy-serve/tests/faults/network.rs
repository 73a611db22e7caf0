//! Servers that push back, break off, or never answer.

use std::time::Duration;

use forwhy_model::client::Stopped;
use forwhy_model::ledger::event::Reason;
use forwhy_model::progress::Event;
use forwhy_serve::mock::{Fault, FaultRule, Script};

use super::*;

#[tokio::test]
async fn fault_12_every_form_of_retry_after_is_waited_out_within_the_cap() {
    let past = "Wed, 21 Oct 2015 07:28:00 GMT";
    let far = "Wed, 21 Oct 2099 07:28:00 GMT";
    for wait in [Some("0.1"), Some("89"), Some("inf"), Some("-1"), Some(past), Some(far), None] {
        let fault = Fault::RateLimit { retry_after: wait.map(String::from) };
        let mock = playing(Script::failing([FaultRule::first_times(fault, 1)]));
        let trial = Trial::new(&[&mock]).limits(|l| l.retry_after_cap_secs = 0.3);
        let client = trial.client().await;
        assert!(one(&client, 0).await.unwrap().result.is_ok(), "{wait:?}");
        let [(reason, secs)] = trial.watched.retries()[..] else {
            panic!("{wait:?}: not one retry")
        };
        assert_eq!(reason, Reason::RateLimited);
        assert!((0.0..=1.0).contains(&secs), "{wait:?}: waited {secs} s");
    }
}

#[tokio::test]
async fn fault_12_concurrency_falls_under_429_and_rises_again() {
    let mock = playing(Script { max_in_flight: Some(4), latency_ms: [2, 6], ..Script::default() });
    let trial = Trial::new(&[&mock]).limits(|l| (l.connections, l.start) = (64, 64));
    let client = trial.client().await;
    let first = many(&client, 120).await;
    assert!(first.stopped.is_none());
    assert_eq!(first.last.answered, 120);
    let fallen = client.load().1;
    assert!(fallen < 64, "{fallen} are still allowed at once");
    assert!(mock.counts().outcome("full") > 0);
    mock.play(Script::default());
    for start in (120..700).step_by(58) {
        assert_eq!(those(&client, start..start + 58).await.last.answered, 58);
    }
    assert!(client.load().1 > fallen, "{fallen} before, {} now", client.load().1);
}

#[tokio::test]
async fn fault_13_overload_is_waited_out_and_counted_apart() {
    for (fault, streamed) in [
        (Fault::Overload { status: 529 }, false),
        (Fault::Overload { status: 503 }, false),
        (Fault::OverloadInside, false),
        (Fault::OverloadInside, true),
    ] {
        for dialect in [Dialect::Compatible, Dialect::Anthropic] {
            let mock = playing(Script::failing([FaultRule::first_times(fault.clone(), 1)]));
            let trial = Trial::new(&[&mock]).dialect(dialect).limits(|l| l.retries = 0);
            let trial = if streamed { trial.streamed() } else { trial };
            let client = trial.client().await;
            assert!(one(&client, 0).await.unwrap().result.is_ok(), "{fault:?} {dialect:?}");
            let reasons: Vec<Reason> = trial.watched.retries().iter().map(|(r, _)| *r).collect();
            assert_eq!(reasons, [Reason::Overloaded], "{fault:?} {dialect:?}");
            assert_eq!(client.ledger().totals().failures[&Reason::Overloaded], 1);
        }
    }
}

#[tokio::test]
async fn fault_14_refusals_for_good_are_not_asked_again() {
    for (code, reason) in [(400, Reason::BadRequest), (404, Reason::NotFound)] {
        let message = "no".to_string();
        let rule = FaultRule { to: Some(1), ..FaultRule::always(Fault::Status { code, message }) };
        let mock = playing(Script::failing([rule]));
        let trial = Trial::new(&[&mock]).limits(|l| l.connections = 1);
        let client = trial.client().await;
        let sums = many(&client, 3).await;
        assert_eq!((sums.last.answered, sums.last.rejected), (2, 1));
        assert_eq!(sums.refusals[&reason], 1);
        assert_eq!(mock.counts().requests, 3);
    }
}

#[tokio::test]
async fn fault_14_the_run_stops_after_identical_auth_failures() {
    for code in [401, 403] {
        let fault = Fault::Status { code, message: "this key is revoked".into() };
        let mock = playing(Script::failing([FaultRule::always(fault)]));
        let trial = Trial::new(&[&mock]).limits(|l| (l.connections, l.start) = (1, 1));
        let client = trial.client().await;
        let stopped = many(&client, 100).await.stopped.unwrap();
        assert!(matches!(stopped, Stopped::Same { times: 3, reason: Reason::Auth, .. }));
        assert!(stopped.to_string().contains("this key is revoked"), "{stopped}");
        assert_eq!(mock.counts().requests, 3);
    }
}

#[tokio::test]
async fn fault_15_a_server_that_stalls_is_left_and_asked_again() {
    // The head of a reply has to come whole within the idle time, however it trickles.
    for (fault, idle, reason) in [
        (Fault::NeverAnswer, 1.0, Reason::Idle),
        (Fault::StallMidBody, 1.0, Reason::Idle),
        (Fault::Trickle { ms: 50 }, 1.0, Reason::Idle),
        (Fault::Trickle { ms: 50 }, 60.0, Reason::Deadline),
    ] {
        let mock = playing(Script::failing([FaultRule::first_times(fault.clone(), 1)]));
        let trial = Trial::new(&[&mock]).limits(|l| (l.idle_secs, l.total_secs) = (idle, 3.0));
        let client = trial.client().await;
        let sums = tokio::time::timeout(Duration::from_secs(60), many(&client, 3)).await.unwrap();
        assert_eq!(sums.last.answered, 3, "{fault:?}");
        let retries = trial.watched.retries();
        assert!(retries.iter().any(|(r, _)| *r == reason), "{fault:?}: {retries:?}");
        assert_eq!(client.load().0, 0, "{fault:?}: something is still in flight");
    }
}

#[tokio::test]
async fn fault_16_a_reset_after_the_request_is_asked_again_and_may_cost_twice() {
    for fault in
        [Fault::ResetAfterRequest, Fault::ResetMidBody, Fault::CloseMidBody, Fault::NotHttp]
    {
        let mock = playing(Script::failing([FaultRule::first_times(fault.clone(), 1)]));
        let trial = Trial::new(&[&mock]);
        let client = trial.client().await;
        let ask = prepared(&client, 0);
        assert!(client.answer(&ask).await.unwrap().result.is_ok(), "{fault:?}");
        let entry = client.ledger().entry(&ask.key).unwrap();
        assert_eq!((entry.attempts, mock.counts().requests), (2, 2), "{fault:?}");
        let spent = client.ledger().totals().spent;
        assert_eq!(spent.estimated, client.worst(&ask), "{fault:?}: the lost attempt at its worst");
        assert!(spent.known > Usd(0) && spent.total() == entry.cost, "{fault:?}");
    }
}

#[tokio::test]
async fn fault_19_a_provider_that_is_down_ends_the_run_with_what_there_is() {
    let fault = Fault::Status { code: 500, message: "down".into() };
    let mock = playing(Script::failing([FaultRule { from: Some(2), ..FaultRule::always(fault) }]));
    let trial = Trial::new(&[&mock])
        .limits(|l| (l.retries, l.given_up_in_a_row, l.connections, l.start) = (1, 3, 1, 1));
    let client = trial.client().await;
    let sums = many(&client, 1000).await;
    assert!(matches!(sums.stopped, Some(Stopped::GivenUp { times: 3, .. })), "{:?}", sums.stopped);
    assert_eq!(sums.last.answered, 2);
    assert_eq!(mock.counts().requests, 2 + 3 * 2);
}

#[tokio::test]
async fn fault_19_a_provider_that_goes_away_ends_the_run() {
    let mock = playing(Script::default());
    let trial = Trial::new(&[&mock])
        .limits(|l| (l.retries, l.given_up_in_a_row, l.patience_secs) = (1, 3, 15.0));
    let client = trial.client().await;
    assert_eq!(many(&client, 5).await.last.answered, 5);
    drop(mock);
    let sums = those(&client, 5..500).await;
    assert!(sums.stopped.is_some(), "{:?}", sums.last);
    // Only the connections that were kept open can have taken a request with them.
    let worst = client.worst(&prepared(&client, 5));
    let estimated = client.ledger().totals().spent.estimated;
    assert!(estimated.0 <= 5 * worst.0, "{estimated:?} for connections that were refused");
}

#[tokio::test]
async fn fault_20_an_address_that_is_healthy_and_never_answers_is_left() {
    let sick = playing(Script::failing([FaultRule::always(Fault::NeverAnswer)]));
    let well = playing(Script::default());
    let trial =
        Trial::new(&[&sick, &well]).limits(|l| (l.idle_secs, l.connections, l.start) = (1.0, 4, 4));
    let client = trial.client().await;
    let sums = many(&client, 80).await;
    assert_eq!(sums.last.answered, 80, "{:?}", sums.stopped);
    let ejected = trial.watched.events().into_iter().any(
        |event| matches!(event, Event::Ejected { address } if address.trim_end_matches('/') == sick.base()),
    );
    assert!(ejected, "the sick address was never left");
    let lost = sick.counts().requests;
    assert!(lost < 40, "{lost} requests went to an address that never answers");
}
