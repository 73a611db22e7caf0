//! Progress of requests on stderr: a line that is rewritten on a terminal, a line now and then
//! elsewhere, or JSON events.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use forwhy_model::progress::{Event, Progress, Tick};

/// How often a line is written where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);
/// Retries that are shown one by one; the rest are only counted.
const SHOWN_RETRIES: u64 = 20;

/// Somebody at a terminal, or a program.
pub(crate) struct Watch {
    json: bool,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Instant>,
    retries: u64,
    drawn: bool,
}

impl Watch {
    /// Events as JSON, or lines for people.
    pub(crate) fn new(json: bool) -> Watch {
        let terminal = std::io::stderr().is_terminal() && !json;
        Watch { json, terminal, state: Mutex::default() }
    }

    /// Ends the line that is rewritten.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut state.drawn) {
            say("");
        }
    }

    fn tick(&self, tick: &Tick) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.terminal {
            state.drawn = true;
            draw(&format!("\r\x1b[2K{}", line(tick)));
            return;
        }
        let is_last = tick.done >= tick.total;
        if is_last || state.last.is_none_or(|last| last.elapsed() >= EVERY) {
            state.last = Some(Instant::now());
            say(&line(tick));
        }
    }

    fn retried(&self, text: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.retries += 1;
        match state.retries {
            n if n <= SHOWN_RETRIES => self.note(&mut state, text),
            n if n == SHOWN_RETRIES + 1 => {
                self.note(&mut state, "further retries are counted, and stand in the ledger");
            }
            _ => {}
        }
    }

    fn note(&self, state: &mut State, text: &str) {
        if std::mem::take(&mut state.drawn) {
            draw("\r\x1b[2K");
        }
        say(text);
    }
}

impl Progress for Watch {
    fn event(&self, event: &Event) {
        if self.json {
            // An event is made of texts and numbers, which always encode.
            say(&serde_json::to_string(event).unwrap_or_default());
            return;
        }
        match event {
            Event::Tick(tick) => self.tick(tick),
            Event::Retried { sample, attempt, reason, detail, wait_secs } => self.retried(&format!(
                "retry {sample}: attempt {attempt} failed, {reason}: {}; again in {wait_secs:.1} s",
                short(detail)
            )),
            Event::Rejected { sample, reason, detail } => {
                self.retried(&format!("no answer to {sample}: {reason}: {}", short(detail)));
            }
            Event::Probed { setting, proved, evidence } => {
                let word = if *proved { "proved" } else { "NOT PROVED" };
                say(&format!("check {setting}: {word}, {}", short(evidence)));
            }
            Event::Ejected { address } => {
                say(&format!("{address} fails most requests and is left alone for a while"));
            }
            Event::Batch { id, provider_id, what, requests } => {
                let provider = provider_id.as_deref().unwrap_or("no id yet");
                say(&format!("batch {id} ({provider}): {what}, {requests} requests"));
            }
            Event::Answered { .. } => {}
        }
    }
}

fn line(tick: &Tick) -> String {
    let mut text = format!(
        "{}/{} done, {} answered ({} from the ledger), {} without an answer, {} retries, {} of {} \
         in flight, {} spent",
        tick.done,
        tick.total,
        tick.answered,
        tick.from_ledger,
        tick.rejected,
        tick.retries,
        tick.in_flight,
        tick.allowed,
        tick.spent.total(),
    );
    if let Some(rate) = tick.per_sec {
        text += &format!(", {rate:.1}/s");
    }
    if let Some(eta) = tick.eta_secs.filter(|_| tick.done < tick.total) {
        text += &format!(", {} left", humantime::format_duration(Duration::from_secs(eta as u64)));
    }
    if let Some(projected) = tick.projected.filter(|_| tick.done < tick.total) {
        text += &format!(", {projected} in all as measured");
    }
    text
}

/// The start of a text, on one line, without control characters.
fn short(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(160).collect()
}

/// A line on stderr.
#[allow(clippy::print_stderr, reason = "progress goes to stderr here")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

#[allow(clippy::print_stderr, reason = "progress goes to stderr here")]
fn draw(text: &str) {
    eprint!("{text}");
}
