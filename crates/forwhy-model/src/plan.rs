//! What asking a file of requests would take, before anything is sent.

use std::path::Path;

use serde::Serialize;

use crate::budget::Usd;
use crate::client::{BYTES_PER_TOKEN, prepare};
use crate::ledger::LedgerError;
use crate::ledger::event::SpecRecord;
use crate::ledger::index::{Index, State};
use crate::ledger::view;
use crate::requests::{RowError, Rows};

/// Requests, tokens, dollars, minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// Rows, times replicates.
    pub requests: u64,
    /// Of these, answered in the ledger already.
    pub answered: u64,
    /// Of these, asking again is pointless.
    pub given_up: u64,
    /// To be sent.
    pub to_send: u64,
    /// Tokens to read, at four bytes a token of the body.
    pub prompt_tokens_estimated: u64,
    /// Tokens to write at most.
    pub completion_tokens_most: u64,
    /// Cost at the estimate above and the most that may be written; absent if no price is known.
    pub usd_estimated: Option<Usd>,
    /// What the budget sets aside at most, one request after the other; absent if no price is known.
    pub usd_most: Option<Usd>,
    /// Mean cost of an answered request of this model in the ledger.
    pub usd_each_measured: Option<Usd>,
    /// Mean seconds of an answered request of this model in the ledger.
    pub secs_each_measured: Option<f64>,
    /// At that duration, with all connections in use; absent before the first answers.
    pub minutes_measured: Option<f64>,
}

/// A plan that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A row cannot be used.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Plans `replicates` draws of each row of `requests`. Reads the ledger, if there is one; changes
/// nothing.
pub fn plan(
    requests: &Path,
    replicates: u64,
    record: &SpecRecord,
    ledger: &Path,
    connections: usize,
) -> Result<Plan, PlanError> {
    crate::requests::check(requests, record)?;
    let index = match view::index(ledger) {
        Ok((index, _)) => index,
        Err(LedgerError::Absent { .. }) => Index::default(),
        Err(error) => return Err(error.into()),
    };
    let mut plan = Plan::default();
    let (mut prompt_bytes, mut most) = (0, Usd(0));
    for row in Rows::open(requests)? {
        let row = row?;
        let (first, id) = (row.replicate, row.id.clone());
        let request = row.request();
        for replicate in first..first.saturating_add(replicates) {
            let Ok(ask) = prepare(record, &id, replicate, &request) else { continue };
            plan.requests += 1;
            match index.get(&ask.key).filter(|entry| entry.is_done()) {
                Some(entry) if entry.state == State::Accepted => plan.answered += 1,
                Some(_) => plan.given_up += 1,
                None => {
                    plan.to_send += 1;
                    prompt_bytes += ask.body.len() as u64;
                    plan.completion_tokens_most += ask.max_tokens;
                    let price = record.price.as_ref();
                    let worst = price.map(|p| p.worst(ask.body.len(), ask.max_tokens));
                    most = most.plus(worst.unwrap_or(Usd(0)));
                }
            }
        }
    }
    plan.prompt_tokens_estimated = (prompt_bytes as f64 / BYTES_PER_TOKEN).ceil() as u64;
    plan.usd_most = record.price.as_ref().map(|_| most);
    plan.usd_estimated = record.price.as_ref().map(|price| {
        price.worst(plan.prompt_tokens_estimated as usize, plan.completion_tokens_most)
    });
    plan.measure(&index, record, connections);
    Ok(plan)
}

impl Plan {
    /// Takes means over what this model has answered in the ledger.
    fn measure(&mut self, index: &Index, record: &SpecRecord, connections: usize) {
        let numbers: Vec<u16> =
            index.specs.iter().filter(|(_, s)| *s == record).map(|(n, _)| *n).collect();
        let (mut n, mut millis, mut cost) = (0u64, 0u64, Usd(0));
        for key in index.keys_in(State::Accepted) {
            if let Some(entry) = index.get(&key).filter(|e| numbers.contains(&e.spec)) {
                (n, millis, cost) =
                    (n + 1, millis + u64::from(entry.millis), cost.plus(entry.cost));
            }
        }
        if n == 0 {
            return;
        }
        let secs = millis as f64 / n as f64 / 1e3;
        self.secs_each_measured = Some(secs);
        self.usd_each_measured = record.price.as_ref().map(|_| Usd(cost.0 / n));
        let rounds = self.to_send as f64 / connections.max(1) as f64;
        self.minutes_measured = Some(secs * rounds / 60.0);
    }
}
