//! Continuous batching: sequences join and leave a running batch between two decoding steps.
//!
//! 1. [`Scheduler::submit`] checks an [`Order`] and puts it in line.
//! 2. [`Scheduler::step`] admits who fits, reads the prompts of new ones, and draws one token for each
//!    running sequence; who reached its end is gone afterwards.
//! 3. [`Scheduler::cancel`] takes a sequence out at any time, e.g. when a stop text was seen.
//!
//! A prompt is read alone, so that its rows do not depend on who else is there, and its rows are
//! shared by all sequences that begin with it, also by later ones while there is room. What is drawn
//! comes from the sequence's own random stream. So a reply depends on its prompt and its seed alone, to
//! the last bit of its log-probabilities: [`crate::decode`] gives the same bits in any company.
//!
//! Memory is bounded by rows of keys and values. Nobody is thrown out when they run short: the youngest
//! sequences pause, the oldest always goes on, and what it frees wakes the others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use forwhy_core::model::Sampling;
use forwhy_core::seed::Stream;
use rayon::prelude::*;

use crate::decode::{self, Cache, Cursor};
use crate::error::EngineError;
use crate::llama::Llama;
use crate::ops::loss;
use crate::pack::Pack;
use crate::sample::choose;

/// Rows of prompts read between two steps, unless one prompt has more: the wait of the others.
const PREFILL_ROWS: usize = 1024;
/// Rows that must be free for a new sequence to grow into, at most.
const HEADROOM: usize = 128;

/// Sizes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sequences decoded together, at most.
    pub sequences: usize,
    /// Rows of keys and values of all prompts and sequences (in SmolLM2-135M a row is 46 KB). The
    /// oldest sequence may go beyond.
    pub rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { sequences: 64, rows: 12_288 }
    }
}

/// Changes what a sequence may draw: biases, penalties, a grammar.
pub trait Steer: Send {
    /// Changes the logits of the next draw. At least one must stay finite.
    fn adjust(&mut self, logits: &mut [f32]);
    /// `id` was drawn.
    fn took(&mut self, id: u32);
}

/// A sequence to write.
pub struct Order {
    /// Token ids so far; not empty.
    pub prompt: Arc<[u32]>,
    /// How to sample; its `stop` texts are the caller's business.
    pub sampling: Sampling,
    /// Likeliest tokens to report with each drawn one.
    pub alternatives: usize,
    /// Changes the draws.
    pub steer: Option<Box<dyn Steer>>,
}

/// Names a sequence of one scheduler.
pub type Ticket = u64;

/// A token with its log-probability under the model: temperature 1, nothing adjusted.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// The token.
    pub id: u32,
    /// Its natural log-probability.
    pub logprob: f32,
    /// The likeliest tokens at this place, likeliest first, equals by id.
    pub alternatives: Vec<(u32, f32)>,
}

/// Why a sequence has no next token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The drawn token is an end token.
    Token,
    /// `max_tokens` are drawn.
    Limit,
}

/// What a step did for one sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A token, and whether it is the last.
    Drawn(Drawn, Option<End>),
    /// It cannot go on and is gone.
    Failed(EngineError),
}

/// Sequences under way and in line.
pub struct Scheduler {
    limits: Limits,
    ends: Vec<u32>,
    next: Ticket,
    line: VecDeque<(Ticket, Order)>,
    /// Oldest first.
    live: Vec<Live>,
    prompts: Prompts,
}

/// A sequence under way.
struct Live {
    ticket: Ticket,
    order: Order,
    prompt: Arc<Prompt>,
    stream: Stream,
    own: Cache,
    drawn: usize,
    last: Option<u32>,
    paused: bool,
}

/// A prompt that was read.
struct Prompt {
    /// When it was read, to put those who share it side by side.
    serial: u64,
    rows: usize,
    cache: Cache,
    logits: Vec<f32>,
}

/// Prompts that are in use or may be of use again.
#[derive(Default)]
struct Prompts {
    read: BTreeMap<Arc<[u32]>, (u64, Arc<Prompt>)>,
    clock: u64,
}

impl Scheduler {
    /// Nobody there yet; a sequence ends with one of the tokens `ends`.
    pub fn new(limits: Limits, ends: &[u32]) -> Self {
        let (line, live, prompts) = (VecDeque::new(), Vec::new(), Prompts::default());
        Scheduler { limits, ends: ends.to_vec(), next: 0, line, live, prompts }
    }

    /// Puts a sequence in line, if the model can write it.
    pub fn submit(&mut self, llama: &Llama, order: Order) -> Result<Ticket, EngineError> {
        let (tokens, limit) = (order.prompt.len() + order.sampling.max_tokens, llama.shape());
        if tokens > limit.max_positions {
            return Err(EngineError::TooLong { tokens, limit: limit.max_positions });
        }
        if order.sampling.max_tokens == 0 {
            return Err(EngineError::Pack("a reply of no tokens".into()));
        }
        let mut pack = Pack::new();
        pack.push_segment(order.prompt.to_vec(), None);
        pack.resolve(llama.shape())?;
        self.next += 1;
        self.line.push_back((self.next, order));
        Ok(self.next)
    }

    /// Takes a sequence out; one that is not there any more is no error.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.line.retain(|(waiting, _)| *waiting != ticket);
        self.live.retain(|live| live.ticket != ticket);
    }

    /// Whether a step would do nothing.
    pub fn is_idle(&self) -> bool {
        self.line.is_empty() && self.live.is_empty()
    }

    /// Sequences that are being written.
    pub fn running(&self) -> usize {
        self.live.len()
    }

    /// Sequences in line.
    pub fn waiting(&self) -> usize {
        self.line.len()
    }

    /// Forgets prompts that nobody uses now.
    pub fn forget_prompts(&mut self) {
        self.prompts.read.retain(|_, (_, prompt)| Arc::strong_count(prompt) > 1);
    }

    /// One token for each running sequence, in the order of their tickets. `llama` must be the same,
    /// with the same weights, in all steps.
    pub fn step(&mut self, llama: &mut Llama) -> Vec<(Ticket, Outcome)> {
        let mut outcomes = self.admit(llama);
        self.pause_beyond_memory();
        outcomes.extend(self.advance(llama));
        let over = |outcome: &Outcome| !matches!(outcome, Outcome::Drawn(_, None));
        for (ticket, _) in outcomes.iter().filter(|(_, outcome)| over(outcome)) {
            self.cancel(*ticket);
        }
        outcomes.sort_by_key(|(ticket, _)| *ticket);
        outcomes
    }

    /// Rows in use: of the prompts once each, and of what was written after them.
    fn rows(&self) -> usize {
        self.prompts.rows() + self.live.iter().map(|live| live.drawn).sum::<usize>()
    }

    /// Admits sequences in the order of the line while they fit; gives those whose prompt cannot be
    /// read.
    fn admit(&mut self, llama: &mut Llama) -> Vec<(Ticket, Outcome)> {
        let (mut failed, mut read) = (Vec::new(), 0);
        while self.live.len() < self.limits.sequences && self.front_fits(read) {
            let Some((ticket, order)) = self.line.pop_front() else { break };
            let prompt = match self.prompts.get(&order.prompt) {
                Some(prompt) => Ok(prompt),
                None => {
                    read += order.prompt.len();
                    self.prompts.read(llama, &order.prompt)
                }
            };
            match prompt {
                Ok(prompt) => self.live.push(Live::new(ticket, order, prompt, llama)),
                Err(error) => failed.push((ticket, Outcome::Failed(error))),
            }
        }
        failed
    }

    /// Whether the first in line can start now, `read` rows of prompts having been read in this step.
    /// Prompts that nobody uses make room.
    fn front_fits(&mut self, read: usize) -> bool {
        let Some((_, order)) = self.line.front() else { return false };
        let known = self.prompts.read.contains_key(&order.prompt);
        let new = if known { 0 } else { order.prompt.len() };
        if read > 0 && read + new > PREFILL_ROWS {
            return false;
        }
        let most = self.limits.rows.saturating_sub(new + order.sampling.max_tokens.min(HEADROOM));
        let (prompt, own) = (order.prompt.clone(), self.rows() - self.prompts.rows());
        self.prompts.shrink(most.saturating_sub(own), &prompt);
        self.live.is_empty() || self.rows() <= most
    }

    /// The oldest runs; of the others as many as there are free rows, older ones first.
    fn pause_beyond_memory(&mut self) {
        let free = self.limits.rows.saturating_sub(self.rows());
        for (place, live) in self.live.iter_mut().enumerate() {
            live.paused = place >= free.max(1);
        }
    }

    fn advance(&mut self, llama: &mut Llama) -> Vec<(Ticket, Outcome)> {
        let (ends, vocab) = (&self.ends[..], llama.shape.vocab);
        let mut running: Vec<&mut Live> = self.live.iter_mut().filter(|l| !l.paused).collect();
        // sequences with the same prompt side by side: its rows are read while they are near
        running.sort_by_key(|live| (live.prompt.serial, live.ticket));
        llama.in_pool(|llama| {
            let mut cursors: Vec<Cursor> =
                running.iter_mut().filter_map(|live| live.cursor()).collect();
            let none = cursors.is_empty();
            let logits = if none { Vec::new() } else { decode::step(llama, &mut cursors) };
            let mut rows = logits.chunks_exact(vocab);
            let paired: Vec<_> = running
                .into_iter()
                .map(|live| {
                    let row = live.last.and_then(|_| rows.next());
                    (live, row)
                })
                .collect();
            let taken = paired.into_par_iter().map(|(live, row)| {
                let prompt = live.prompt.clone();
                (live.ticket, live.take(row.unwrap_or(&prompt.logits), ends))
            });
            taken.collect()
        })
    }
}

impl Live {
    fn new(ticket: Ticket, order: Order, prompt: Arc<Prompt>, llama: &Llama) -> Self {
        let (stream, own) = (Stream::from_number(order.sampling.seed), Cache::new(&llama.shape));
        Live { ticket, order, prompt, stream, own, drawn: 0, last: None, paused: false }
    }

    /// None before the first token, whose logits stand with the prompt.
    fn cursor(&mut self) -> Option<Cursor<'_>> {
        let position = (self.order.prompt.len() + self.drawn).checked_sub(1)?;
        let id = self.last?;
        let own = &mut self.own;
        Some(Cursor { id, position: position as u32, prompt: &self.prompt.cache, own })
    }

    fn take(&mut self, logits: &[f32], ends: &[u32]) -> Outcome {
        if !logits.iter().all(|x| x.is_finite()) {
            return Outcome::Failed(EngineError::NotFinite { what: "a logit".into() });
        }
        let sampling = &self.order.sampling;
        let id = match &mut self.order.steer {
            None => choose(logits, sampling, &mut self.stream).id,
            Some(steer) => {
                let mut adjusted = logits.to_vec();
                steer.adjust(&mut adjusted);
                let id = choose(&adjusted, sampling, &mut self.stream).id;
                steer.took(id);
                id
            }
        };
        self.drawn += 1;
        self.last = Some(id);
        let end = match () {
            () if ends.contains(&id) => Some(End::Token),
            () if self.drawn == sampling.max_tokens => Some(End::Limit),
            () => None,
        };
        Outcome::Drawn(drawn(logits, id, self.order.alternatives), end)
    }
}

impl Prompts {
    fn rows(&self) -> usize {
        self.read.values().map(|(_, prompt)| prompt.rows).sum()
    }

    fn get(&mut self, ids: &Arc<[u32]>) -> Option<Arc<Prompt>> {
        self.clock += 1;
        let (used, prompt) = self.read.get_mut(ids)?;
        *used = self.clock;
        Some(prompt.clone())
    }

    fn read(&mut self, llama: &mut Llama, ids: &Arc<[u32]>) -> Result<Arc<Prompt>, EngineError> {
        let (mut caches, mut logits) = llama.in_pool(|llama| llama.read_prompts(&[ids]))?;
        let (Some(cache), Some(logits)) = (caches.pop(), logits.pop()) else {
            unreachable!("one prompt was read")
        };
        self.clock += 1;
        let prompt = Arc::new(Prompt { serial: self.clock, rows: ids.len(), cache, logits });
        self.read.insert(ids.clone(), (self.clock, prompt.clone()));
        Ok(prompt)
    }

    /// Forgets unused prompts, the longest unused first, until at most `most` rows are left. `needed`
    /// stays.
    fn shrink(&mut self, most: usize, needed: &Arc<[u32]>) {
        while self.rows() > most {
            let unused = self
                .read
                .iter()
                .filter(|(ids, (_, p))| Arc::strong_count(p) == 1 && *ids != needed);
            let Some(ids) = unused.min_by_key(|(_, (used, _))| *used).map(|(ids, _)| ids.clone())
            else {
                return;
            };
            self.read.remove(&ids);
        }
    }
}

impl Llama {
    /// The log-probability of each id of a text but the first (which nothing predicts), with the
    /// `alternatives` likeliest at its place.
    pub fn read_text(
        &mut self,
        ids: &[u32],
        alternatives: usize,
    ) -> Result<Vec<Drawn>, EngineError> {
        let mut pack = Pack::new();
        pack.push_sequence(ids, &vec![true; ids.len()]);
        let (mut read, vocab) = (Vec::with_capacity(ids.len()), self.shape.vocab);
        if pack.targets().is_empty() {
            return Ok(read);
        }
        let wanted: Vec<usize> = pack.targets().iter().map(|target| target.row).collect();
        self.pack_logits(&pack, &wanted, |first, logits| {
            let rows = logits.par_chunks(vocab).zip(&ids[first + 1..]);
            read.par_extend(rows.map(|(row, id)| drawn(row, *id, alternatives)));
        })?;
        match read.iter().all(|drawn| drawn.logprob.is_finite()) {
            true => Ok(read),
            false => Err(EngineError::NotFinite { what: "a log-probability".into() }),
        }
    }
}

fn drawn(logits: &[f32], id: u32, alternatives: usize) -> Drawn {
    let mut logprobs = logits.to_vec();
    loss::log_softmax(&mut logprobs, logits.len());
    let order =
        |a: &u32, b: &u32| logprobs[*b as usize].total_cmp(&logprobs[*a as usize]).then(a.cmp(b));
    let mut ids: Vec<u32> = Vec::new();
    if alternatives > 0 {
        ids.extend(0..logits.len() as u32);
        let most = alternatives.min(ids.len());
        ids.select_nth_unstable_by(most - 1, order);
        ids.truncate(most);
        ids.sort_unstable_by(order);
    }
    let alternatives = ids.into_iter().map(|id| (id, logprobs[id as usize])).collect();
    Drawn { id, logprob: logprobs[id as usize], alternatives }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
