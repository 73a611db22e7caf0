//! What has come so far, and what is drawn for the next request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forwhy_core::seed::stream;
use serde::{Deserialize, Serialize};

use super::batch::Batches;
use super::fault::Fault;
use super::script::Script;

/// What has come so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests for a reply, in batches too.
    pub requests: u64,
    /// Different bodies among them.
    pub distinct: u64,
    /// Requests that bore a key.
    pub with_key: u64,
    /// Connections.
    pub connections: u64,
    /// Most requests at once.
    pub peak_in_flight: usize,
    /// Batches that were taken.
    pub batches: u64,
    /// How requests came out: `answered`, `full`, or the fault's name.
    pub outcomes: BTreeMap<String, u64>,
}

impl Counts {
    /// How many requests came out so.
    pub fn outcome(&self, name: &str) -> u64 {
        self.outcomes.get(name).copied().unwrap_or(0)
    }
}

/// What is drawn for a request.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    /// BLAKE3 of its body, in hexadecimal.
    pub(super) key: String,
    /// How often the body came before.
    pub(super) times: u32,
    pub(super) latency: Duration,
    pub(super) fault: Option<Fault>,
}

/// Shared by all connections.
pub(super) struct State {
    inner: Mutex<Inner>,
}

struct Inner {
    script: Arc<Script>,
    counts: Counts,
    in_flight: usize,
    by_key: BTreeMap<[u8; 32], u32>,
    batches: Batches,
}

/// A request that is being answered.
pub(super) struct Busy<'a>(&'a State);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

impl State {
    pub(super) fn new(script: Script) -> Self {
        let inner = Inner {
            script: Arc::new(script),
            counts: Counts::default(),
            in_flight: 0,
            by_key: BTreeMap::new(),
            batches: Batches::default(),
        };
        State { inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Counts stay true to what was counted, also if a task died while it held them.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn script(&self) -> Arc<Script> {
        Arc::clone(&self.lock().script)
    }

    pub(super) fn play(&self, script: Script) {
        self.lock().script = Arc::new(script);
    }

    pub(super) fn connected(&self) {
        self.lock().counts.connections += 1;
    }

    /// A request is there; it ends when the result is dropped.
    pub(super) fn begin(&self, with_key: bool) -> Busy<'_> {
        let mut inner = self.lock();
        inner.in_flight += 1;
        inner.counts.peak_in_flight = inner.counts.peak_in_flight.max(inner.in_flight);
        inner.counts.with_key += u64::from(with_key);
        Busy(self)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// Counts an outcome.
    pub(super) fn note(&self, outcome: impl Into<String>) {
        *self.lock().counts.outcomes.entry(outcome.into()).or_default() += 1;
    }

    /// Counts a request for a reply by its body and draws what happens to it.
    pub(super) fn draw(&self, body: &[u8], script: &Script) -> Drawn {
        let hash = blake3::hash(body);
        let (number, times) = {
            let mut inner = self.lock();
            let number = inner.counts.requests;
            inner.counts.requests += 1;
            let times = inner.by_key.entry(*hash.as_bytes()).or_default();
            *times += 1;
            (number, *times - 1)
        };
        let key = hash.to_hex().to_string();
        let (seed, again) = (script.seed.to_string(), times.to_string());
        let mut draws = stream(&["mock", &seed, &key, &again]);
        let latency = script.latency(draws.unit());
        let mut fault = None;
        for rule in script.faults.iter().filter(|rule| rule.fault != Fault::LoseSubmitReply) {
            // Each rule draws, so that one rule more does not move the draws of those before it.
            let strikes = rule.strikes(number, times, body, draws.unit());
            fault = fault.or(strikes.then(|| rule.fault.clone()));
        }
        Drawn { key, times, latency, fault }
    }

    pub(super) fn counts(&self) -> Counts {
        let inner = self.lock();
        Counts { distinct: inner.by_key.len() as u64, ..inner.counts.clone() }
    }

    pub(super) fn by_key(&self) -> BTreeMap<String, u32> {
        let inner = self.lock();
        let hex = |(key, times): (&[u8; 32], &u32)| {
            (blake3::Hash::from_bytes(*key).to_hex().to_string(), *times)
        };
        inner.by_key.iter().map(hex).collect()
    }

    /// Works on the batches.
    pub(super) fn batches<T>(&self, work: impl FnOnce(&mut Batches) -> T) -> T {
        work(&mut self.lock().batches)
    }

    /// Counts a batch that was taken.
    pub(super) fn took_batch(&self) {
        self.lock().counts.batches += 1;
    }
}
