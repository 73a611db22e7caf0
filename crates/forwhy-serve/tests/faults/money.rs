//! Budgets and prices under load.

use forwhy_model::client::Stopped;
use forwhy_serve::mock::{Fault, FaultRule, Script};

use super::*;

#[tokio::test]
async fn fault_31_two_hundred_calls_on_the_budget_of_one_overshoot_by_none() {
    let mock = playing(Script { latency_ms: [5, 20], ..Script::default() });
    let mut trial = Trial::new(&[&mock]).limits(|l| (l.connections, l.start) = (200, 200));
    let worst = {
        let client = trial.client().await;
        client.worst(&prepared(&client, 199))
    };
    trial.cap = Some(worst);
    let spent = {
        let client = trial.client().await;
        let sums = many(&client, 200).await;
        assert!(matches!(sums.stopped, Some(Stopped::Budget(_))), "{:?}", sums.stopped);
        assert!(sums.last.answered >= 1, "the budget of one call pays for one call");
        assert_eq!(mock.counts().requests, sums.last.answered);
        client.budget().spent().total()
    };
    assert!(spent <= worst, "{spent} of {worst}");
    trial.cap = None;
    let client = trial.client().await;
    assert_eq!(many(&client, 200).await.last.answered, 200);
    let counts = mock.counts();
    assert_eq!((counts.requests, counts.distinct), (200, 200), "nothing was asked twice");
}

#[tokio::test]
async fn fault_32_a_reply_without_usage_costs_its_worst_case_and_not_nothing() {
    let mock = playing(Script::failing([FaultRule::always(Fault::NoUsage)]));
    let trial = Trial::new(&[&mock]);
    let client = trial.client().await;
    let ask = prepared(&client, 0);
    let settled = client.answer(&ask).await.unwrap();
    assert_eq!(settled.result.unwrap().usage, None);
    let totals = client.ledger().totals();
    assert_eq!(totals.spent.estimated, client.worst(&ask));
    assert_eq!((totals.spent.known, totals.without_usage), (Usd(0), 1));
    assert!(totals.spent.estimated > Usd(0));
}
