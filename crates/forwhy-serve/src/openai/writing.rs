//! From tokens to pieces of a reply.
//!
//! A [`Writer`] listens on the model's thread for one sequence. It turns tokens into text, ends the
//! sequence at a stop text, takes tool calls out, and sends pieces that never wait for their reader:
//! what a sequence can send is bounded by its `max_tokens`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forwhy_engine::calls::{CallFormat, Spoken};
use forwhy_engine::host::{Heard, Listener};
use forwhy_engine::schedule::{Drawn, End};
use forwhy_engine::spelling::{Spelling, TextStream};
use tokio::sync::mpsc;

use super::refusal::Refusal;
use super::request::Plan;
use super::{Places, Shared};

/// A piece of one sequence.
pub(super) struct Piece {
    /// Which sequence of the plan.
    pub(super) index: usize,
    pub(super) what: What,
}

pub(super) enum What {
    /// New text (maybe none), and the tokens since the last piece.
    Text(String, Vec<Drawn>),
    /// The last piece.
    End(Ending),
    Failed(Refusal),
}

/// How a sequence ended.
pub(super) struct Ending {
    /// Text that was not sent yet.
    pub(super) rest: String,
    /// Tokens that were not sent yet.
    pub(super) tokens: Vec<Drawn>,
    /// The whole reply, taken apart.
    pub(super) spoken: Spoken,
    /// Whether `max_tokens` cut it off.
    pub(super) cut: bool,
    /// Tokens drawn, the end token too.
    pub(super) drawn: usize,
}

impl Ending {
    /// The wire's word for it.
    pub(super) fn finish_reason(&self) -> &'static str {
        match self.cut {
            true => "length",
            false if self.spoken.calls.is_empty() => "stop",
            false => "tool_calls",
        }
    }
}

/// The pieces of all sequences of a plan. Whoever drops this leaves the line, and what was being
/// written for him stops.
pub(super) struct Pieces {
    receiver: mpsc::UnboundedReceiver<Piece>,
    left: Arc<AtomicBool>,
    open: usize,
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

impl Pieces {
    /// The next piece; None when all sequences ended.
    pub(super) async fn next(&mut self) -> Option<Piece> {
        if self.open == 0 {
            return None;
        }
        let gone = Piece { index: 0, what: What::Failed(Refusal::gone()) };
        let piece = self.receiver.recv().await.unwrap_or(gone);
        match piece.what {
            What::Text(..) => {}
            What::End(_) => self.open -= 1,
            What::Failed(_) => self.open = 0,
        }
        Some(piece)
    }

    /// Waits for all: how each of `sequences` ended, with every token of it; `None` where nothing was
    /// to be written.
    pub(super) async fn whole(mut self, sequences: usize) -> Result<Vec<Option<Ending>>, Refusal> {
        let mut tokens: Vec<Vec<Drawn>> = vec![Vec::new(); sequences];
        let mut endings: Vec<Option<Ending>> = tokens.iter().map(|_| None).collect();
        while let Some(Piece { index, what }) = self.next().await {
            match what {
                What::Text(_, new) => tokens[index].extend(new),
                What::End(mut ending) => {
                    tokens[index].append(&mut ending.tokens);
                    ending.tokens = std::mem::take(&mut tokens[index]);
                    endings[index] = Some(ending);
                }
                What::Failed(refusal) => return Err(refusal),
            }
        }
        Ok(endings)
    }
}

/// Hands all sequences of a plan to the model.
pub(super) fn start(
    shared: &Shared,
    plan: &Plan,
    request: u64,
    places: &Arc<Places>,
) -> Result<Pieces, Refusal> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let left = Arc::new(AtomicBool::new(false));
    let open = if plan.sampling.max_tokens == 0 { 0 } else { plan.sequences() };
    let pieces = Pieces { receiver, left: left.clone(), open };
    for index in 0..open {
        let order = plan.order(index, request, &shared.settings.session);
        let writer = Writer {
            index,
            text: TextStream::new(plan.watch.clone()),
            spelling: shared.spelling.clone(),
            format: plan.format,
            logprobs: plan.alternatives.is_some(),
            last: order.prompt.last().copied(),
            prompt: order.prompt.clone(),
            tokens: Vec::new(),
            drawn: 0,
            sender: sender.clone(),
            _places: places.clone(),
        };
        let written = shared.host.write(plan.model.1, order, writer.listener(), left.clone());
        written.map_err(|_gone| Refusal::gone())?;
    }
    Ok(pieces)
}

struct Writer {
    index: usize,
    text: TextStream,
    spelling: Arc<Spelling>,
    format: Option<CallFormat>,
    logprobs: bool,
    prompt: Arc<[u32]>,
    /// The token before the next.
    last: Option<u32>,
    /// Tokens that were not sent yet.
    tokens: Vec<Drawn>,
    drawn: usize,
    sender: mpsc::UnboundedSender<Piece>,
    /// Given back when all writers of the request are gone.
    _places: Arc<Places>,
}

impl Writer {
    fn listener(mut self) -> Listener {
        Box::new(move |heard| match heard {
            Heard::Failed(error) => {
                self.send(What::Failed(Refusal::engine(&error)));
                false
            }
            Heard::Token(drawn, end) => self.take(drawn, end),
        })
    }

    fn take(&mut self, drawn: Drawn, end: Option<End>) -> bool {
        self.drawn += 1;
        let mut new = String::new();
        // The end token is no text.
        if end != Some(End::Token) {
            new = self.text.push(self.spelling.bytes_behind(self.last, drawn.id));
            self.last = Some(drawn.id);
            if self.logprobs {
                self.tokens.push(drawn);
            }
        }
        if end.is_some() || self.text.stopped() {
            self.finish(new, end == Some(End::Limit) && !self.text.stopped());
            return false;
        }
        if new.is_empty() {
            return !self.sender.is_closed();
        }
        let tokens = std::mem::take(&mut self.tokens);
        self.send(What::Text(new, tokens))
    }

    fn finish(&mut self, mut rest: String, cut: bool) {
        rest.push_str(&self.text.finish());
        let whole = self.text.text();
        let spoken = match self.format {
            Some(format) => format.read(whole, &self.prompt),
            None => Spoken { text: whole.into(), ..Spoken::default() },
        };
        if spoken.calls.is_empty() || spoken.broken.is_some() {
            rest.push_str(self.text.held());
        }
        let (tokens, drawn) = (std::mem::take(&mut self.tokens), self.drawn);
        self.send(What::End(Ending { rest, tokens, spoken, cut, drawn }));
    }

    fn send(&self, what: What) -> bool {
        self.sender.send(Piece { index: self.index, what }).is_ok()
    }
}
