//! What the events add up to: the state of each request, and totals. Kept in memory, about 90 bytes a
//! request, and rebuilt from the segments at each start.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::event::{BatchRecord, Event, Place, Reason, SpecRecord, Verdict};
use crate::budget::{Spent, Usd};
use crate::key::Key;

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Known and stored, not sent; or an attempt failed and another may follow.
    Planned,
    /// Part of a batch that may have been submitted.
    Reserved,
    /// In flight, or lost with its process.
    Submitted,
    /// Its reply is stored and not read yet.
    Received,
    /// Answered.
    Accepted,
    /// Given up, or failed in its last attempt so far.
    Rejected,
}

impl State {
    /// All, in the order in which they are shown.
    pub const ALL: [State; 6] = [
        State::Planned,
        State::Reserved,
        State::Submitted,
        State::Received,
        State::Accepted,
        State::Rejected,
    ];

    /// The word in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Planned => "planned",
            State::Reserved => "reserved",
            State::Submitted => "submitted",
            State::Received => "received",
            State::Accepted => "accepted",
            State::Rejected => "rejected",
        }
    }
}

/// What is known of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub state: State,
    /// Why not answered, if rejected.
    pub reason: Option<Reason>,
    /// Times it was sent, as far as we know.
    pub attempts: u16,
    /// Of these, lost in flight.
    pub lost: u16,
    /// To whom.
    pub spec: u16,
    /// The bytes to send.
    pub body: Place,
    /// The last bytes that came.
    pub reply: Option<Place>,
    /// Cost of all attempts.
    pub cost: Usd,
    /// Reserve of the attempt in flight.
    pub reserved: Usd,
    /// Tokens of the last reply that said so.
    pub prompt_tokens: u32,
    /// Tokens of the last reply that said so.
    pub completion_tokens: u32,
    /// Duration of the last attempt.
    pub millis: u32,
}

/// Sums over all attempts of all runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Money.
    pub spent: Spent,
    /// Attempts: requests sent.
    pub attempts: u64,
    /// Attempts that were in flight when their process died.
    pub lost_in_flight: u64,
    /// Attempts whose reply said nothing of tokens, so that their cost is an estimate.
    pub without_usage: u64,
    /// Tokens read, where known.
    pub prompt_tokens: u64,
    /// Tokens written, where known.
    pub completion_tokens: u64,
    /// Attempts without an answer, by reason.
    pub failures: BTreeMap<Reason, u64>,
    /// Processes that wrote to this ledger.
    pub sessions: u64,
    /// Start of the first of them, milliseconds since 1970.
    pub first_ms: Option<u64>,
}

/// All requests of a ledger.
#[derive(Debug, Default)]
pub struct Index {
    entries: HashMap<Key, Entry>,
    /// Which batch a reserved request waits for.
    waiting: HashMap<Key, String>,
    /// By number.
    pub specs: BTreeMap<u16, SpecRecord>,
    /// By our name, in order of their names.
    pub batches: BTreeMap<String, BatchRecord>,
    /// Sums.
    pub totals: Totals,
    /// The furthest body that an event points to.
    pub high: Option<Place>,
    /// Events that point to a request whose own record is damaged or missing.
    pub orphans: u64,
}

impl Index {
    /// The entry of `key`.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// How many requests are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The keys in `state`, sorted, so that the order of work does not depend on hashing.
    pub fn keys_in(&self, state: State) -> Vec<Key> {
        #[allow(clippy::iter_over_hash_type, reason = "sorted before anything sees the order")]
        let mut keys: Vec<Key> =
            self.entries.iter().filter(|(_, e)| e.state == state).map(|(k, _)| *k).collect();
        keys.sort_unstable();
        keys
    }

    /// The keys whose reply stands at `end` or behind it, sorted.
    pub fn replies_from(&self, end: Place) -> Vec<Key> {
        #[allow(clippy::iter_over_hash_type, reason = "sorted before anything sees the order")]
        let mut keys: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, e)| e.reply.is_some_and(|place| place >= end))
            .map(|(k, _)| *k)
            .collect();
        keys.sort_unstable();
        keys
    }

    /// The requests that wait for the batch `id`, sorted, with their reserves.
    pub fn reserved_in(&self, id: &str) -> Vec<(Key, Usd)> {
        #[allow(clippy::iter_over_hash_type, reason = "sorted before anything sees the order")]
        let mut keys: Vec<(Key, Usd)> = self
            .waiting
            .iter()
            .filter(|(_, batch)| *batch == id)
            .filter_map(|(key, _)| Some((*key, self.entries.get(key)?)))
            .filter(|(_, entry)| entry.state == State::Reserved)
            .map(|(key, entry)| (key, entry.reserved))
            .collect();
        keys.sort_unstable();
        keys
    }

    /// How many requests stand where.
    pub fn counts(&self) -> BTreeMap<State, u64> {
        let mut counts: BTreeMap<State, u64> = State::ALL.into_iter().map(|s| (s, 0)).collect();
        #[allow(clippy::iter_over_hash_type, reason = "a count does not depend on the order")]
        for entry in self.entries.values() {
            *counts.entry(entry.state).or_default() += 1;
        }
        counts
    }

    /// Takes one event in.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Session { at_ms, .. } => {
                self.totals.sessions += 1;
                self.totals.first_ms = self.totals.first_ms.or(Some(*at_ms));
            }
            Event::Spec { spec, says } => {
                self.specs.insert(*spec, (**says).clone());
            }
            Event::Batch(batch) => {
                self.batches.insert(batch.id.clone(), batch.clone());
            }
            Event::Planned { key, spec, body, .. } => {
                self.seen(*body);
                self.entries.entry(*key).or_insert(Entry::planned(*spec, *body));
            }
            Event::Checked { .. } => {}
            _ => self.apply_to_entry(event),
        }
    }

    fn seen(&mut self, place: Place) {
        self.high = self.high.max(Some(place));
    }

    fn apply_to_entry(&mut self, event: &Event) {
        let key = match event {
            Event::Reserved { key, .. }
            | Event::Submitted { key, .. }
            | Event::Received { key, .. }
            | Event::Judged { key, .. }
            | Event::Reread { key, .. }
            | Event::Failed { key, .. }
            | Event::Lost { key, .. } => key,
            _ => return,
        };
        match event {
            Event::Received { reply, .. } => self.seen(*reply),
            Event::Reserved { batch, .. } => drop(self.waiting.insert(*key, batch.clone())),
            _ => {}
        }
        match self.entries.get_mut(key) {
            Some(entry) => entry.apply(event, &mut self.totals),
            None => {
                self.orphans += 1;
                // Money that was spent counts, whatever else is known of the request.
                if let Event::Judged { cost, .. }
                | Event::Failed { cost, .. }
                | Event::Lost { cost, .. } = event
                {
                    self.totals.spent.add(*cost);
                }
            }
        }
    }
}

impl Entry {
    fn planned(spec: u16, body: Place) -> Entry {
        Entry {
            state: State::Planned,
            reason: None,
            attempts: 0,
            lost: 0,
            spec,
            body,
            reply: None,
            cost: Usd(0),
            reserved: Usd(0),
            prompt_tokens: 0,
            completion_tokens: 0,
            millis: 0,
        }
    }

    fn apply(&mut self, event: &Event, totals: &mut Totals) {
        match event {
            Event::Reserved { nano_usd, .. } => {
                self.state = State::Reserved;
                self.reserved = *nano_usd;
            }
            Event::Submitted { attempt, nano_usd, .. } => {
                self.state = State::Submitted;
                self.reserved = *nano_usd;
                self.attempts = self.attempts.max(*attempt);
                totals.attempts += 1;
            }
            Event::Received { attempt, reply, millis, .. } => {
                // In a batch nothing says when a request is sent; its reply does.
                totals.attempts += u64::from(self.state == State::Reserved);
                self.state = State::Received;
                self.attempts = self.attempts.max(*attempt);
                self.reply = Some(*reply);
                self.millis = *millis;
            }
            Event::Judged { verdict, cost, tokens, .. } => {
                self.take(verdict);
                if let Verdict::Rejected { reason, .. } = verdict {
                    *totals.failures.entry(*reason).or_default() += 1;
                }
                self.settle(*cost, totals);
                totals.without_usage += u64::from(cost.estimated);
                if let Some(tokens) = tokens {
                    totals.prompt_tokens += tokens.0;
                    totals.completion_tokens += tokens.1;
                    self.prompt_tokens = u32::try_from(tokens.0).unwrap_or(u32::MAX);
                    self.completion_tokens = u32::try_from(tokens.1).unwrap_or(u32::MAX);
                }
            }
            Event::Reread { verdict, .. } => self.take(verdict),
            Event::Failed { reason, cost, millis, .. } => {
                (self.state, self.reason) = (State::Rejected, Some(*reason));
                self.millis = *millis;
                *totals.failures.entry(*reason).or_default() += 1;
                self.settle(*cost, totals);
            }
            Event::Lost { cost, .. } => {
                (self.state, self.reason, self.reply) = (State::Planned, None, None);
                self.lost = self.lost.saturating_add(1);
                totals.lost_in_flight += 1;
                self.settle(*cost, totals);
            }
            _ => {}
        }
    }

    fn take(&mut self, verdict: &Verdict) {
        (self.state, self.reason) = match verdict {
            Verdict::Accepted(_) => (State::Accepted, None),
            Verdict::Rejected { reason, .. } => (State::Rejected, Some(*reason)),
        };
    }

    fn settle(&mut self, cost: crate::budget::Cost, totals: &mut Totals) {
        self.cost = self.cost.plus(cost.nano_usd);
        self.reserved = Usd(0);
        totals.spent.add(cost);
    }

    /// Whether a run leaves this request alone: answered, or pointless to ask again.
    pub fn is_done(&self) -> bool {
        match self.state {
            State::Accepted => true,
            State::Rejected => self.reason.is_some_and(Reason::is_final),
            _ => false,
        }
    }
}
