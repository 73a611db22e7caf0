//! One model, with several adapters, that writes for many callers at once on a thread of its own.
//!
//! 1. [`Host::start`] takes the model and its adapters, hashes the weights of each, and starts.
//! 2. [`Host::write`] hands over an order with a listener; the thread calls it with each token.
//! 3. Between two decoding steps the thread takes new orders in and drops those that nobody waits for
//!    any more ([`crate::schedule`]).
//!
//! The adapters share the base's weights: the one in use is merged into them, as in training and
//! evaluation, so a served checkpoint computes what the study measured. While several are asked for,
//! they take turns of [`TURN`] steps; what was begun with one waits for its next turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use forwhy_core::model::Model as _;

use crate::error::EngineError;
use crate::llama::{Llama, NamedTensor, Scope};
use crate::local::{LocalError, LocalModel};
use crate::schedule::{Drawn, End, Limits, Order, Outcome, Scheduler, Ticket};

/// Steps that an adapter computes while another has work.
const TURN: usize = 48;

/// Trained tensors that make another model of the base.
pub struct Adapter {
    /// What callers ask for.
    pub name: String,
    /// What was trained.
    pub scope: Scope,
    /// The trained tensors, as `Llama::export_scope` gives them.
    pub weights: Vec<NamedTensor>,
}

/// A model that callers can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Names its weights, as [`forwhy_core::model::Identity`] does.
    pub revision: String,
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A token, and whether it is the last.
    Token(Drawn, Option<End>),
    /// There will be no more.
    Failed(EngineError),
}

/// Called with what happens to a sequence; says whether it should go on. It is dropped when the
/// sequence is over.
pub type Listener = Box<dyn FnMut(Heard) -> bool + Send>;

/// Called with the result of a reading.
pub type Answer = Box<dyn FnOnce(Result<Vec<Drawn>, EngineError>) + Send>;

/// The model's thread is gone: it stopped, or it panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model no longer answers: it was stopped or failed; start it anew")]
pub struct Gone;

/// Why a host cannot start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Two models of one name, or one without.
    #[error("model name {0:?}: each needs a name of its own (NAME=PATH)")]
    Name(String),
    /// An adapter that does not fit the model.
    #[error("adapter {name}: {source}")]
    Adapter {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: EngineError,
    },
    /// The model itself.
    #[error(transparent)]
    Model(#[from] LocalError),
    /// The thread could not be started.
    #[error("cannot start the model's thread: {0}")]
    Thread(#[from] std::io::Error),
}

enum Command {
    Write { variant: usize, order: Order, listener: Listener, left: Arc<AtomicBool> },
    Read { variant: usize, reading: Reading },
}

struct Reading {
    ids: Vec<u32>,
    alternatives: usize,
    answer: Answer,
}

/// A model at work.
pub struct Host {
    model: Arc<LocalModel>,
    variants: Vec<Variant>,
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Host {
    /// Starts `model`, callable by `name`, with adapters callable by theirs.
    pub fn start(
        model: LocalModel,
        name: &str,
        adapters: Vec<Adapter>,
        limits: Limits,
    ) -> Result<Self, HostError> {
        let names = std::iter::once(name).chain(adapters.iter().map(|a| a.name.as_str()));
        let names: Vec<String> = names.map(String::from).collect();
        for (i, name) in names.iter().enumerate() {
            if name.is_empty() || names[..i].contains(name) {
                return Err(HostError::Name(name.clone()));
            }
        }
        let mut wardrobe = Wardrobe::new(&model, adapters)?;
        let mut variants = Vec::new();
        for (index, name) in names.into_iter().enumerate() {
            let revision = wardrobe.revision(&model, index)?;
            variants.push(Variant { name, revision });
        }
        let model = Arc::new(model);
        let (sender, receiver) = mpsc::channel();
        let mut desk = Desk::new(model.clone(), wardrobe, limits);
        let thread =
            std::thread::Builder::new().name("model".into()).spawn(move || desk.work(&receiver))?;
        let (commands, thread) = (Mutex::new(Some(sender)), Mutex::new(Some(thread)));
        Ok(Host { model, variants, commands, thread })
    }

    /// The models that can be asked for, the base first.
    pub fn variants(&self) -> &[Variant] {
        &self.variants
    }

    /// The model, for its tokenizer and sizes. Its weights belong to the host.
    pub fn model(&self) -> &LocalModel {
        &self.model
    }

    /// Writes with the variant of this index. The listener is called on the model's thread and must
    /// not wait; when `left` becomes true, the sequence is dropped.
    pub fn write(
        &self,
        variant: usize,
        order: Order,
        listener: Listener,
        left: Arc<AtomicBool>,
    ) -> Result<(), Gone> {
        self.send(Command::Write { variant, order, listener, left })
    }

    /// Gives the log-probability of each id but the first, as [`Llama::read_text`] does.
    pub fn read(
        &self,
        variant: usize,
        ids: Vec<u32>,
        alternatives: usize,
        answer: Answer,
    ) -> Result<(), Gone> {
        self.send(Command::Read { variant, reading: Reading { ids, alternatives, answer } })
    }

    fn send(&self, command: Command) -> Result<(), Gone> {
        let commands = self.commands.lock().or(Err(Gone))?;
        commands.as_ref().ok_or(Gone)?.send(command).or(Err(Gone))
    }

    /// Whether orders can be given.
    pub fn is_alive(&self) -> bool {
        let running = |thread: &JoinHandle<()>| !thread.is_finished();
        self.thread.lock().is_ok_and(|thread| thread.as_ref().is_some_and(running))
    }

    /// Takes no more orders, finishes those that were given, and returns when all is done.
    pub fn stop(&self) -> Result<(), Gone> {
        drop(self.commands.lock().or(Err(Gone))?.take());
        let thread = self.thread.lock().or(Err(Gone))?.take();
        thread.map_or(Ok(()), |thread| thread.join().or(Err(Gone)))
    }
}

/// The base's weights and what can be merged into them. Index 0 is the base alone.
struct Wardrobe {
    adapters: Vec<Adapter>,
    /// The base's tensors that some adapter overwrites.
    original: Option<(Scope, Vec<NamedTensor>)>,
    worn: usize,
}

impl Wardrobe {
    fn new(model: &LocalModel, adapters: Vec<Adapter>) -> Result<Self, HostError> {
        let replaced = adapters.iter().filter_map(|adapter| match adapter.scope {
            Scope::Lora { .. } => None,
            Scope::Top(top) => Some(top),
            Scope::All => Some(usize::MAX),
        });
        let widest = replaced.max().map(|top| match top {
            usize::MAX => Scope::All,
            top => Scope::Top(top),
        });
        let save = |scope| Ok((scope, model.export_scope(scope)?));
        let original = widest.map(save).transpose().map_err(LocalError::Engine)?;
        Ok(Wardrobe { adapters, original, worn: 0 })
    }

    /// Merges an adapter and hashes what comes out.
    fn revision(&mut self, model: &LocalModel, variant: usize) -> Result<String, HostError> {
        if variant > 0 {
            let worn = model.with_llama(|llama| self.wear(llama, variant)).and_then(|done| done);
            worn.map_err(|source| {
                let name = self.adapters[variant - 1].name.clone();
                HostError::Adapter { name, source }
            })?;
        }
        Ok(model.identity().revision)
    }

    fn is_lora(&self, variant: usize) -> bool {
        let adapter = variant.checked_sub(1).map(|index| &self.adapters[index]);
        adapter.is_some_and(|adapter| matches!(adapter.scope, Scope::Lora { .. }))
    }

    /// Makes the weights those of a variant.
    fn wear(&mut self, llama: &mut Llama, variant: usize) -> Result<(), EngineError> {
        if self.worn == variant {
            return Ok(());
        }
        // One LoRA over another: `import_scope` starts from the base by itself.
        if !(self.is_lora(self.worn) && self.is_lora(variant)) {
            self.undress(llama)?;
        }
        if let Some(index) = variant.checked_sub(1) {
            let Adapter { scope, weights, .. } = &self.adapters[index];
            llama.import_scope(*scope, weights)?;
        }
        self.worn = variant;
        Ok(())
    }

    fn undress(&mut self, llama: &mut Llama) -> Result<(), EngineError> {
        if self.is_lora(self.worn) {
            llama.remove_adapters();
        } else if let (1.., Some((scope, tensors))) = (self.worn, &self.original) {
            llama.import_scope(*scope, tensors)?;
        }
        self.worn = 0;
        Ok(())
    }
}

/// Who waits for a sequence.
struct Waiting {
    listener: Listener,
    left: Arc<AtomicBool>,
}

/// The work for one variant.
struct Table {
    scheduler: Scheduler,
    waiting: BTreeMap<Ticket, Waiting>,
    readings: VecDeque<Reading>,
}

/// The thread's own state.
struct Desk {
    model: Arc<LocalModel>,
    wardrobe: Wardrobe,
    tables: Vec<Table>,
    now: usize,
    steps: usize,
}

impl Desk {
    fn new(model: Arc<LocalModel>, wardrobe: Wardrobe, limits: Limits) -> Self {
        let variants = wardrobe.adapters.len() + 1;
        let limits = Limits { rows: limits.rows / variants, ..limits };
        let tokenizer = model.tokenizer();
        // A model trained on documents may end a turn as it ends a document.
        let ends = [tokenizer.end_of_turn(), tokenizer.end_of_text()];
        let table = || Table {
            scheduler: Scheduler::new(limits, &ends),
            waiting: BTreeMap::new(),
            readings: VecDeque::new(),
        };
        let tables = (0..variants).map(|_| table()).collect();
        Desk { model, wardrobe, tables, now: 0, steps: 0 }
    }

    /// Until nobody can give orders any more and all are done.
    fn work(&mut self, commands: &mpsc::Receiver<Command>) {
        loop {
            if self.tables.iter().all(Table::is_idle) {
                match commands.recv() {
                    Ok(command) => self.take(command),
                    Err(mpsc::RecvError) => return,
                }
            }
            commands.try_iter().for_each(|command| self.take(command));
            self.tables.iter_mut().for_each(Table::drop_left);
            self.turn();
            let (model, now) = (self.model.clone(), self.now);
            let (wardrobe, table) = (&mut self.wardrobe, &mut self.tables[now]);
            let done = model.with_llama(|llama| {
                wardrobe.wear(llama, now)?;
                table.work(llama);
                Ok(())
            });
            if let Err(error) = done.and_then(|done| done) {
                self.tables[now].fail(&error);
            }
            self.steps += 1;
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Read { variant, reading } => self.tables[variant].readings.push_back(reading),
            Command::Write { variant, order, mut listener, left } => {
                let table = &mut self.tables[variant];
                let submitted = self.model.with_llama(|llama| table.scheduler.submit(llama, order));
                match submitted.and_then(|done| done) {
                    Ok(ticket) => {
                        table.waiting.insert(ticket, Waiting { listener, left });
                    }
                    Err(error) => {
                        listener(Heard::Failed(error));
                    }
                }
            }
        }
    }

    /// The next table with work, if this one has none or has had its turn.
    fn turn(&mut self) {
        if self.steps < TURN && !self.tables[self.now].is_idle() {
            return;
        }
        let others = (1..=self.tables.len()).map(|step| (self.now + step) % self.tables.len());
        let next = others.into_iter().find(|table| !self.tables[*table].is_idle());
        self.now = next.unwrap_or(self.now);
        self.steps = 0;
    }
}

impl Table {
    fn is_idle(&self) -> bool {
        self.scheduler.is_idle() && self.readings.is_empty()
    }

    /// Takes out whose caller is gone.
    fn drop_left(&mut self) {
        let gone = self.waiting.iter().filter(|(_, w)| w.left.load(Ordering::Relaxed));
        let gone: Vec<Ticket> = gone.map(|(ticket, _)| *ticket).collect();
        for ticket in gone {
            self.scheduler.cancel(ticket);
            self.waiting.remove(&ticket);
        }
    }

    /// One reading, and one token for each running sequence.
    fn work(&mut self, llama: &mut Llama) {
        if let Some(Reading { ids, alternatives, answer }) = self.readings.pop_front() {
            answer(llama.read_text(&ids, alternatives));
        }
        if self.scheduler.is_idle() {
            return;
        }
        for (ticket, outcome) in self.scheduler.step(llama) {
            let (heard, last) = match outcome {
                Outcome::Drawn(drawn, end) => (Heard::Token(drawn, end), end.is_some()),
                Outcome::Failed(error) => (Heard::Failed(error), true),
            };
            let Some(waiting) = self.waiting.get_mut(&ticket) else { continue };
            if !(waiting.listener)(heard) || last {
                self.scheduler.cancel(ticket);
                self.waiting.remove(&ticket);
            }
        }
    }

    /// The model cannot be used: everybody hears of it.
    fn fail(&mut self, error: &EngineError) {
        for (ticket, mut waiting) in std::mem::take(&mut self.waiting) {
            self.scheduler.cancel(ticket);
            (waiting.listener)(Heard::Failed(error.clone()));
        }
        for reading in self.readings.drain(..) {
            (reading.answer)(Err(error.clone()));
        }
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
