//! The addresses behind one name: which takes the next request, and when.
//!
//! 1. [`Pool::acquire`] waits for an address that is not resting, not paused, within its rates and
//!    below its concurrency; the least loaded one takes the request.
//! 2. [`Slot::finish`] tells how it went: concurrency rises or falls, the address may be ejected.
//!    A slot that is dropped (its request was cancelled) is free again and says nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Limits;
use super::aimd::Aimd;
use super::breaker::{Breaker, Gate};
use super::bucket::Bucket;

/// How a request went, as far as limits care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// An answer, or a refusal that says nothing about the server's state.
    Answered,
    /// Too much at once; no new request for this long.
    Overloaded {
        /// What the server asks to wait, capped.
        pause: Option<Duration>,
    },
    /// No answer, or none that can be read.
    Failed,
}

/// No answer came from anywhere for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silent {
    /// For how long.
    pub silent: Duration,
}

/// Addresses and their limits.
#[derive(Debug)]
pub struct Pool {
    started: Instant,
    patience: Duration,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    addresses: Vec<Address>,
    /// The last answer, or the start.
    last_answer: Duration,
    /// Failures since then.
    failures: u64,
}

#[derive(Debug)]
struct Address {
    aimd: Aimd,
    breaker: Breaker,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    paused_until: Duration,
    in_flight: usize,
}

impl Pool {
    /// `addresses` addresses with the same limits each.
    pub fn new(addresses: usize, limits: &Limits) -> Pool {
        let address = || Address {
            aimd: Aimd::new(limits.start, limits.connections),
            breaker: Breaker::default(),
            requests: limits.requests_per_minute.map(Bucket::per_minute),
            tokens: limits.tokens_per_minute.map(Bucket::per_minute),
            paused_until: Duration::ZERO,
            in_flight: 0,
        };
        let addresses = (0..addresses).map(|_| address()).collect();
        Pool {
            started: Instant::now(),
            patience: Limits::secs(limits.patience_secs),
            inner: Mutex::new(Inner { addresses, last_answer: Duration::ZERO, failures: 0 }),
            changed: Notify::new(),
        }
    }

    /// A place for a request of about `tokens` tokens, as soon as there is one.
    pub async fn acquire(&self, tokens: f64) -> Result<Slot<'_>, Silent> {
        loop {
            let changed = self.changed.notified();
            match self.try_acquire(tokens)? {
                Ok(slot) => return Ok(slot),
                // Either ends the wait; then it is looked again.
                Err(wait) => drop(tokio::time::timeout(wait, changed).await),
            }
        }
    }

    /// A slot, or how long to wait at most before looking again.
    fn try_acquire(&self, tokens: f64) -> Result<Result<Slot<'_>, Duration>, Silent> {
        let now = self.now();
        let mut inner = self.lock();
        let silent = now.saturating_sub(inner.last_answer);
        if inner.failures > 0 && silent > self.patience && inner.all_rest(now) {
            return Err(Silent { silent });
        }
        let mut best: Option<(usize, f64)> = None;
        let mut soonest = Duration::from_secs(1);
        for (i, address) in inner.addresses.iter().enumerate() {
            match address.wait(tokens, now) {
                None => {
                    let load = address.in_flight as f64 / address.aimd.allowed().max(1) as f64;
                    if best.is_none_or(|(_, least)| load < least) {
                        best = Some((i, load));
                    }
                }
                Some(wait) => soonest = soonest.min(wait),
            }
        }
        let Some((at, _)) = best else {
            return Ok(Err(soonest.max(Duration::from_millis(1))));
        };
        let address = &mut inner.addresses[at];
        address.in_flight += 1;
        address.requests.iter_mut().for_each(|b| b.take(1.0, now));
        address.tokens.iter_mut().for_each(|b| b.take(tokens, now));
        Ok(Ok(Slot { pool: self, address: at, sent: now }))
    }

    /// Requests in flight, and how many may be, over all addresses.
    pub fn load(&self) -> (usize, usize) {
        let inner = self.lock();
        let sum = |f: fn(&Address) -> usize| inner.addresses.iter().map(f).sum();
        (sum(|a| a.in_flight), sum(|a| a.aimd.allowed()))
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn all_rest(&self, now: Duration) -> bool {
        self.addresses.iter().all(|a| a.breaker.gate(now) != Gate::Open)
    }
}

impl Address {
    /// `None` if a request may go now, else how long until it is worth looking again.
    fn wait(&self, tokens: f64, now: Duration) -> Option<Duration> {
        let is_free = match self.breaker.gate(now) {
            Gate::Open => self.in_flight < self.aimd.allowed(),
            Gate::Probe => self.in_flight == 0,
            Gate::Closed(until) => return Some(until - now),
        };
        let paused = self.paused_until.saturating_sub(now);
        let bucket =
            |b: &Option<Bucket>, amount| b.as_ref().map_or(Duration::ZERO, |b| b.wait(amount, now));
        let wait = paused.max(bucket(&self.requests, 1.0)).max(bucket(&self.tokens, tokens));
        match (is_free, wait) {
            (true, Duration::ZERO) => None,
            (true, wait) => Some(wait),
            // Somebody's end will wake us.
            (false, wait) => Some(wait.max(Duration::from_secs(1))),
        }
    }
}

/// A request in flight at one address.
#[derive(Debug)]
pub struct Slot<'a> {
    pool: &'a Pool,
    address: usize,
    sent: Duration,
}

impl Slot<'_> {
    /// Which address.
    pub fn address(&self) -> usize {
        self.address
    }

    /// Frees the slot and learns from how it went. True if the address is ejected by it.
    pub fn finish(self, went: Went) -> bool {
        let now = self.pool.now();
        let mut inner = self.pool.lock();
        if went == Went::Failed {
            inner.failures += 1;
        } else {
            // A server that says that it is overloaded is there.
            (inner.last_answer, inner.failures) = (now, 0);
        }
        let address = &mut inner.addresses[self.address];
        match went {
            Went::Answered => {
                address.aimd.answered();
                address.breaker.succeeded();
                false
            }
            Went::Overloaded { pause } => {
                address.aimd.overloaded(self.sent, now);
                address.breaker.succeeded();
                let until = now + pause.unwrap_or(Duration::ZERO);
                address.paused_until = address.paused_until.max(until);
                false
            }
            Went::Failed => address.breaker.failed(now),
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.pool.lock().addresses[self.address].in_flight -= 1;
        // One place became free, and the limit may have risen by one.
        self.pool.changed.notify_one();
        self.pool.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: usize) -> Limits {
        Limits { connections, start: connections, patience_secs: 30.0, ..Limits::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_in_flight_than_allowed_and_each_end_lets_one_in() {
        let pool = Pool::new(1, &limits(2));
        let first = pool.acquire(1.0).await.unwrap();
        let _second = pool.acquire(1.0).await.unwrap();
        assert!(pool.try_acquire(1.0).unwrap().is_err());
        first.finish(Went::Answered);
        assert_eq!(pool.load(), (1, 2));
        pool.acquire(1.0).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn fault_12_a_pause_holds_and_ends() {
        let pool = Pool::new(1, &limits(2));
        let pause = Some(Duration::from_secs(20));
        pool.acquire(1.0).await.unwrap().finish(Went::Overloaded { pause });
        let before = Instant::now();
        pool.acquire(1.0).await.unwrap();
        let waited = before.elapsed();
        assert!((20..=21).contains(&waited.as_secs()), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn fault_20_traffic_moves_to_the_address_that_answers() {
        let pool = Pool::new(2, &limits(4));
        let mut went_to = [0, 0];
        for _ in 0..60 {
            let slot = pool.acquire(1.0).await.unwrap();
            went_to[slot.address()] += 1;
            let went = if slot.address() == 0 { Went::Failed } else { Went::Answered };
            slot.finish(went);
        }
        assert_eq!(went_to[0], 6, "six failures are enough to judge by");
    }

    #[tokio::test(start_paused = true)]
    async fn fault_19_silence_everywhere_ends_after_the_patience() {
        let pool = Pool::new(2, &limits(4));
        let silent = loop {
            match pool.acquire(1.0).await {
                Ok(slot) => {
                    slot.finish(Went::Failed);
                }
                Err(silent) => break silent,
            }
        };
        assert!((30..300).contains(&silent.silent.as_secs()), "{silent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_is_dropped_is_free_again() {
        let pool = Pool::new(1, &limits(1));
        drop(pool.acquire(1.0).await.unwrap());
        assert_eq!(pool.load(), (0, 1));
    }
}
