//! What happens during a run, for whoever watches it. Nothing of it decides anything.

use serde::Serialize;

use crate::budget::{Spent, Usd};
use crate::ledger::event::Reason;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A probe of a setting came back.
    Probed {
        /// The setting.
        setting: String,
        /// Whether the reply proves it.
        proved: bool,
        /// What was seen.
        evidence: String,
    },
    /// A request was answered.
    Answered {
        /// The user's id.
        sample: String,
        /// The answer was in the ledger already; nothing was sent.
        from_ledger: bool,
        /// How it ended.
        ended: String,
        /// Duration of the last attempt.
        millis: u32,
    },
    /// A request will be sent again.
    Retried {
        /// The user's id.
        sample: String,
        /// The attempt that failed.
        attempt: u16,
        /// Why.
        reason: Reason,
        /// The server's words, or what was seen.
        detail: String,
        /// Seconds until then, at least.
        wait_secs: f64,
    },
    /// A request was given up.
    Rejected {
        /// The user's id.
        sample: String,
        /// Why.
        reason: Reason,
        /// The server's words, or what was seen.
        detail: String,
    },
    /// An address is left alone for a while: most of its requests fail.
    Ejected {
        /// Its base address.
        address: String,
    },
    /// A batch changed its state.
    Batch {
        /// Our name of it.
        id: String,
        /// The provider's.
        provider_id: Option<String>,
        /// What happened, in a word.
        what: String,
        /// How many requests it has.
        requests: u32,
    },
    /// Where the run stands; sent from time to time.
    Tick(Tick),
}

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tick {
    /// Requests answered or given up.
    pub done: u64,
    /// Requests in all.
    pub total: u64,
    /// Of those done: answered.
    pub answered: u64,
    /// Of those: by the ledger.
    pub from_ledger: u64,
    /// Given up.
    pub rejected: u64,
    /// Attempts that were repeated.
    pub retries: u64,
    /// Requests in flight, and how many may be.
    pub in_flight: usize,
    /// See there.
    pub allowed: usize,
    /// Answers a second, of those that were sent in this run.
    pub per_sec: Option<f64>,
    /// Seconds left at this rate.
    pub eta_secs: Option<f64>,
    /// Money, all runs.
    pub spent: Spent,
    /// What all will have cost at the mean cost so far, once some answers are there.
    pub projected: Option<Usd>,
}

/// Somebody who watches.
pub trait Progress: Send + Sync {
    /// Takes an event. Must not block.
    fn event(&self, event: &Event);
}

/// Nobody watches.
#[derive(Debug)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn event(&self, _: &Event) {}
}
