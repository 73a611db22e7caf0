//! `POST /v1/completions`: plain continuations, and with `echo` and `logprobs` the scores of a text.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use forwhy_engine::schedule::Drawn;
use forwhy_model::wire::openai::{
    CompletionChoice, CompletionLogprobs, CompletionRequest, CompletionResponse, TokenUsage,
};
use futures_util::stream;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::chat::{DONE, event, event_stream, text};
use super::refusal::Refusal;
use super::request::{self, Plan};
use super::writing::{self, Ending, Piece, Pieces, What};
use super::{Ours, Shared, door};

/// Answers a completion, whole or streamed.
pub(super) async fn answer(State(shared): Ours, body: Body) -> Result<Response, Refusal> {
    let asked: CompletionRequest = door::read(&shared, body).await?;
    let plan = request::completion(&shared, &asked)?;
    let places = shared.take_places(plan.sequences())?;
    let number = shared.next_request();
    let pieces = writing::start(&shared, &plan, number, &places)?;
    let reply = Reply { id: shared.reply_id("cmpl", number), shared, plan };
    if reply.plan.stream.is_some() {
        return Ok(streamed(reply, pieces));
    }
    let echoed = match reply.plan.echo {
        true => reply.read_prompts().await?,
        false => reply.plan.prompts.iter().map(|_| Tokens::default()).collect(),
    };
    let written = reply.written(pieces, &echoed).await?;
    drop(places);
    Ok(axum::Json(written).into_response())
}

struct Reply {
    id: String,
    shared: Arc<Shared>,
    plan: Plan,
}

/// Tokens with their log-probabilities; the first of a prompt has none.
#[derive(Clone, Default)]
struct Tokens {
    text: String,
    first: Option<u32>,
    rest: Vec<Drawn>,
}

impl Reply {
    /// The prompts, scored if log-probabilities were asked for.
    async fn read_prompts(&self) -> Result<Vec<Tokens>, Refusal> {
        let tokenizer = self.shared.host.model().tokenizer();
        let mut all = Vec::new();
        for ids in &self.plan.prompts {
            let text = tokenizer.decode(ids);
            let rest = match self.plan.alternatives {
                Some(alternatives) => self.read(ids, alternatives).await?,
                None => Vec::new(),
            };
            all.push(Tokens { text, first: ids.first().copied(), rest });
        }
        Ok(all)
    }

    async fn read(&self, ids: &[u32], alternatives: usize) -> Result<Vec<Drawn>, Refusal> {
        let (sender, receiver) = oneshot::channel();
        // A caller who left does not hear the answer.
        let answer = Box::new(move |read| drop(sender.send(read)));
        let asked = self.shared.host.read(self.plan.model.1, ids.to_vec(), alternatives, answer);
        asked.map_err(|_gone| Refusal::gone())?;
        let read = receiver.await.map_err(|_gone| Refusal::gone())?;
        read.map_err(|error| Refusal::engine(&error))
    }

    async fn written(
        &self,
        pieces: Pieces,
        echoed: &[Tokens],
    ) -> Result<CompletionResponse, Refusal> {
        let written = pieces.whole(self.plan.sequences()).await?;
        let drawn = written.iter().flatten().map(|ending| ending.drawn).sum();
        let choices = written.iter().enumerate().map(|(index, ending)| {
            let before = &echoed[index / self.plan.n];
            // No ending: nothing was to be written.
            let reason = ending.as_ref().map_or("length", Ending::finish_reason);
            let written = ending.as_ref().map_or("", |ending| ending.spoken.text.as_str());
            let new = ending.as_ref().map_or(&[][..], |ending| &ending.tokens);
            CompletionChoice {
                index: index as u32,
                text: format!("{}{written}", before.text),
                logprobs: self.logprobs(before.first, before.rest.iter().chain(new), 0),
                finish_reason: Some(reason.into()),
            }
        });
        Ok(self.response(choices.collect(), Some(self.usage(drawn))))
    }

    fn usage(&self, drawn: usize) -> TokenUsage {
        let read: usize = self.plan.prompts.iter().map(|ids| ids.len()).sum();
        TokenUsage::new(read as u64, drawn as u64)
    }

    /// The four lists, the first token's offset being `offset` characters.
    fn logprobs<'a>(
        &self,
        first: Option<u32>,
        rest: impl Iterator<Item = &'a Drawn>,
        mut offset: usize,
    ) -> Option<CompletionLogprobs> {
        let wanted = self.plan.alternatives?;
        let spelling = &self.shared.spelling;
        let mut lists = CompletionLogprobs::default();
        let mut push = |token: String, logprob, top: Option<Map<String, Value>>| {
            lists.text_offset.push(offset);
            offset += token.chars().count();
            lists.tokens.push(token);
            lists.token_logprobs.push(logprob);
            lists.top_logprobs.push(top);
        };
        if let Some(first) = first {
            // As in the text: without a space that the tokenizer wrote in front.
            push(self.shared.host.model().tokenizer().decode(&[first]), None, None);
        }
        for drawn in rest {
            let mut top = Map::new();
            for (id, logprob) in &drawn.alternatives {
                // Tokens that are no whole characters may share a text; the likelier one stays.
                top.entry(text(spelling, *id)).or_insert_with(|| (*logprob).into());
            }
            push(text(spelling, drawn.id), Some(drawn.logprob), (wanted > 0).then_some(top));
        }
        Some(lists)
    }

    fn response(
        &self,
        choices: Vec<CompletionChoice>,
        usage: Option<TokenUsage>,
    ) -> CompletionResponse {
        CompletionResponse {
            id: self.id.clone(),
            object: "text_completion".into(),
            created: (self.shared.settings.clock)(),
            model: self.plan.model.0.clone(),
            choices,
            usage,
            system_fingerprint: Some(
                self.shared.host.variants()[self.plan.model.1].revision.clone(),
            ),
        }
    }
}

/// What a stream has yet to say.
struct Streaming {
    reply: Reply,
    pieces: Pieces,
    /// Characters that each choice has said.
    said: Vec<usize>,
    drawn: usize,
    over: bool,
}

fn streamed(reply: Reply, pieces: Pieces) -> Response {
    let said = vec![0; reply.plan.sequences()];
    let state = Streaming { reply, pieces, said, drawn: 0, over: false };
    let events = stream::unfold(state, |mut state| async move {
        let bytes = state.next().await?;
        Some((Ok::<Bytes, Infallible>(bytes), state))
    });
    event_stream(Body::from_stream(events))
}

impl Streaming {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        match self.pieces.next().await {
            Some(Piece { index, what: What::Text(text, tokens) }) => {
                Some(self.chunk(index, text, &tokens, None))
            }
            Some(Piece { index, what: What::End(ending) }) => {
                self.drawn += ending.drawn;
                let reason = ending.finish_reason();
                Some(self.chunk(index, ending.rest, &ending.tokens, Some(reason)))
            }
            Some(Piece { what: What::Failed(refusal), .. }) => {
                self.over = true;
                Some(event(&refusal.body_json()))
            }
            None => {
                self.over = true;
                let options = self.reply.plan.stream.unwrap_or_default();
                let last = self.reply.response(Vec::new(), Some(self.reply.usage(self.drawn)));
                let mut bytes =
                    if options.include_usage { event(&last).to_vec() } else { Vec::new() };
                bytes.extend_from_slice(DONE.as_bytes());
                Some(bytes.into())
            }
        }
    }

    fn chunk(
        &mut self,
        index: usize,
        text: String,
        tokens: &[Drawn],
        finish_reason: Option<&str>,
    ) -> Bytes {
        let offset = self.said[index];
        self.said[index] += text.chars().count();
        let logprobs = self.reply.logprobs(None, tokens.iter(), offset);
        let finish_reason = finish_reason.map(String::from);
        let choice = CompletionChoice { index: index as u32, text, logprobs, finish_reason };
        event(&self.reply.response(vec![choice], None))
    }
}
