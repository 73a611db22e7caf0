//! Many requests at once: as many tasks as may be in flight, fed from an iterator, so that memory
//! does not grow with their number.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Ask, Client, Refusal, Settled, Stopped};
use crate::budget::Usd;
use crate::check::{self, Needs};
use crate::key::Key;
use crate::progress::{Event, Tick};
use crate::wire::Answer;

/// How often a [`Tick`] is sent.
const TICK: Duration = Duration::from_millis(500);
/// Answers before a cost is projected.
const LEAST_FOR_PROJECTION: u64 = 5;

/// How a run came out. [`Sums::stopped`] says why it ended early, if it did.
#[derive(Debug, Default)]
pub struct Sums {
    /// The last state.
    pub last: Tick,
    /// Given up, by reason.
    pub refusals: std::collections::BTreeMap<crate::ledger::event::Reason, u64>,
    /// Why the run ended before all were asked.
    pub stopped: Option<Stopped>,
}

/// How a run is watched and kept within bounds.
pub struct Terms<'a> {
    /// Requests in all, for rates.
    pub total: u64,
    /// Whether settings are proved on the wire before the first request that needs them.
    pub check: bool,
    /// Asked between requests: if it says no, those in flight are awaited and the rest is left.
    pub go_on: &'a dyn Fn() -> bool,
}

/// Answers all that `asks` gives. Requests with one key are asked once.
pub async fn answer_all<E>(
    client: &Arc<Client>,
    terms: &Terms<'_>,
    asks: impl IntoIterator<Item = Result<Ask, E>>,
) -> Result<Sums, E> {
    let mut run = Run::new(client, terms);
    let mut asks = asks.into_iter();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let limits = client.limits();
    let width = limits.connections.saturating_mul(client.record().endpoints.len());
    let mut is_open = true;
    loop {
        while is_open && run.tasks.len() < width {
            if !(terms.go_on)() {
                run.stop(Stopped::OnRequest);
            }
            match asks.next().filter(|_| run.sums.stopped.is_none()) {
                Some(ask) => run.begin(ask?).await,
                None => is_open = false,
            }
        }
        is_open &= run.sums.stopped.is_none();
        let Some(ended) = next_of(&mut run.tasks, &mut ticks).await else {
            if run.tasks.is_empty() {
                run.tick();
                return Ok(run.sums);
            }
            run.tick();
            continue;
        };
        run.end(ended);
    }
}

/// The next task that ends, or `None` at a tick or when there is none.
async fn next_of(tasks: &mut JoinSet<Ended>, ticks: &mut tokio::time::Interval) -> Option<Ended> {
    use std::future::poll_fn;
    use std::task::Poll;
    poll_fn(|context| {
        match tasks.poll_join_next(context) {
            Poll::Ready(Some(Ok(ended))) => return Poll::Ready(Some(ended)),
            Poll::Ready(None) => return Poll::Ready(None),
            // A task that panicked: its request stays submitted, and the next run finds it lost.
            Poll::Ready(Some(Err(_))) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        ticks.poll_tick(context).map(|_| None)
    })
    .await
}

type Ended = (Key, Arc<str>, Result<Settled, Stopped>);

struct Run<'a> {
    client: &'a Arc<Client>,
    started: Instant,
    /// Spent before this run.
    before: Usd,
    tasks: JoinSet<Ended>,
    /// Keys in flight, with further rows that wait for the same answer.
    waiting: HashMap<Key, Vec<Arc<str>>>,
    sums: Sums,
    /// What was proved; `None` if nothing is to be.
    proved: Option<check::Proved>,
}

impl<'a> Run<'a> {
    fn new(client: &'a Arc<Client>, terms: &Terms<'_>) -> Run<'a> {
        let tick = Tick { total: terms.total, ..Tick::default() };
        Run {
            client,
            started: Instant::now(),
            before: client.budget().spent().total(),
            tasks: JoinSet::new(),
            waiting: HashMap::new(),
            sums: Sums { last: tick, ..Sums::default() },
            proved: terms.check.then(check::Proved::default),
        }
    }

    /// Proves what `needs` asks for and was not proved yet. Nothing is sent if all is.
    async fn prove(&mut self, needs: Needs) -> bool {
        let Some(proved) = &mut self.proved else { return true };
        match check::prove(self.client, proved, needs).await {
            Ok(()) => true,
            Err(stopped) => {
                self.stop(stopped);
                false
            }
        }
    }

    async fn begin(&mut self, ask: Ask) {
        if let Some(rows) = self.waiting.get_mut(&ask.key) {
            rows.push(Arc::clone(&ask.sample));
            return;
        }
        // What is in the ledger needs no task.
        match self.client.stored(&ask.key) {
            Ok(Some(result)) => {
                let settled = Settled { from_ledger: true, retries: 0, result };
                self.count(&ask.sample, &settled);
            }
            Err(stopped) => self.damaged_or_stopped(&ask.sample, stopped),
            Ok(None) => {
                if !self.prove(ask.needs).await {
                    return;
                }
                self.waiting.insert(ask.key, Vec::new());
                let client = Arc::clone(self.client);
                self.tasks.spawn(async move {
                    let settled = client.answer(&ask).await;
                    (ask.key, ask.sample, settled)
                });
            }
        }
    }

    fn end(&mut self, (key, sample, settled): Ended) {
        let others = self.waiting.remove(&key).unwrap_or_default();
        match settled {
            Ok(settled) => {
                self.count(&sample, &settled);
                let shared = Settled { from_ledger: true, ..settled };
                others.iter().for_each(|sample| self.count(sample, &shared));
            }
            Err(stopped) => self.damaged_or_stopped(&sample, stopped),
        }
    }

    /// A stored reply that is damaged costs its row; everything else stops the run.
    fn damaged_or_stopped(&mut self, sample: &Arc<str>, stopped: Stopped) {
        use crate::ledger::LedgerError::Damaged;
        use crate::ledger::event::Reason::Malformed;

        match stopped {
            Stopped::Ledger(error @ Damaged { .. }) => {
                let refusal = Refusal { reason: Malformed, detail: error.to_string() };
                let result: Result<Box<Answer>, Refusal> = Err(refusal);
                self.count(sample, &Settled { from_ledger: true, retries: 0, result });
            }
            stopped => self.stop(stopped),
        }
    }

    /// The first reason is kept: those of the other tasks follow from it.
    fn stop(&mut self, why: Stopped) {
        self.sums.stopped.get_or_insert(why);
    }

    fn count(&mut self, sample: &Arc<str>, settled: &Settled) {
        let last = &mut self.sums.last;
        last.done += 1;
        let sample = sample.to_string();
        let event = match &settled.result {
            Ok(answer) => {
                last.answered += 1;
                last.from_ledger += u64::from(settled.from_ledger);
                let ended = answer.finish_reason.clone().unwrap_or_default();
                Event::Answered { sample, from_ledger: settled.from_ledger, ended, millis: 0 }
            }
            Err(Refusal { reason, detail }) => {
                last.rejected += 1;
                *self.sums.refusals.entry(*reason).or_default() += 1;
                Event::Rejected { sample, reason: *reason, detail: detail.clone() }
            }
        };
        self.client.progress().event(&event);
    }

    fn tick(&mut self) {
        let last = &mut self.sums.last;
        last.retries = self.client.retries();
        (last.in_flight, last.allowed) = self.client.load();
        last.spent = self.client.budget().spent();
        let sent = last.answered - last.from_ledger;
        let secs = self.started.elapsed().as_secs_f64();
        last.per_sec = (sent > 0 && secs > 0.0).then(|| sent as f64 / secs);
        let left = last.total.saturating_sub(last.done) as f64;
        last.eta_secs = last.per_sec.map(|rate| left / rate);
        let here = last.spent.total().minus(self.before).dollars();
        last.projected = (sent >= LEAST_FOR_PROJECTION)
            .then(|| here / sent as f64 * left)
            .and_then(|more| Some(last.spent.total().plus(Usd::from_dollars(more)?)));
        self.client.progress().event(&Event::Tick(self.sums.last.clone()));
    }
}
