//! A local model behind [`forwhy_core::model::Model`]: chats in, texts and log-probabilities out.
//!
//! 1. `load` reads weights into the flat buffer and keeps the tokenizer.
//! 2. `generate` and `score` render chats, compute in batches and give each request its own answer or
//!    error.
//! 3. `with_llama` lends the model to a trainer; `export_scope` and `import_scope` move trained
//!    tensors out and in.

use std::sync::{Arc, Mutex, MutexGuard};

use forwhy_core::chat::Message;
use forwhy_core::model::{
    BoxFuture, Capabilities, Continuation, Ended, GenerateRequest, Identity, Model, ModelError,
    Reply, Sampling, Score, ScoreRequest, Usage,
};
use forwhy_core::tool::ToolDefinition;

use crate::buffer::Buf;
use crate::calls::CallFormat;
use crate::error::EngineError;
use crate::generate::{DecodeWeights, Job, Written};
use crate::kernels::Kernels;
use crate::llama::{Llama, NamedTensor, Scope};
use crate::pack::Pack;
use crate::score::Branches;
use crate::shape::{Layout, Shape};
use crate::spelling::Spelling;
use crate::tokenizer::{ChatTokenizer, SequenceError};
use crate::trunk::TrunkCache;
use crate::weights::{ModelFiles, WeightError, load_into};

/// Replies decoded together, at most.
const BATCH: usize = 64;
/// Cached rows of a batch, at most (in SmolLM2-135M a row is 46 KB).
const BATCH_ROWS: usize = 12_288;
/// Tokens of plain text computed as one sequence.
const TEXT_WINDOW: usize = 1024;

/// A model on this machine.
pub struct LocalModel {
    name: String,
    base: String,
    tokenizer: ChatTokenizer,
    spelling: Spelling,
    shape: Shape,
    threads: usize,
    state: Mutex<State>,
}

struct State {
    llama: Llama,
    /// None: the weights may have changed since it was computed.
    revision: Option<String>,
}

/// Why a local model cannot be loaded or asked.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Its files.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// A computation.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A chat that cannot be rendered.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// Nothing to measure.
    #[error("nothing to measure: {0}")]
    Empty(String),
}

impl LocalModel {
    /// Reads a model's weights; it will compute with `threads` threads.
    pub fn load(files: ModelFiles, threads: usize) -> Result<Self, LocalError> {
        let shape = files.source.shape().clone();
        shape.validate().map_err(EngineError::Shape)?;
        if files.tokenizer.vocab_size() > shape.vocab {
            let (tokens, rows) = (files.tokenizer.vocab_size(), shape.vocab);
            let what = format!("the tokenizer has {tokens} tokens, the embedding {rows} rows");
            return Err(EngineError::Mismatch(what).into());
        }
        let layout = Layout::new(&shape);
        let mut weights = Buf::zeroed(layout.len());
        load_into(&*files.source, &layout, &mut weights)?;
        let llama = Llama::new(shape, weights, threads)?;
        let (shape, threads) = (llama.shape().clone(), llama.threads());
        let base = files.source.hash();
        let state = Mutex::new(State { llama, revision: Some(base.clone()) });
        let ModelFiles { name, tokenizer, .. } = files;
        let spelling = Spelling::of(&tokenizer);
        Ok(LocalModel { name, base, tokenizer, spelling, shape, threads, state })
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.tokenizer
    }

    /// Its sizes.
    pub fn shape(&self) -> Shape {
        self.shape.clone()
    }

    /// Threads that it computes with.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Hash of the files that it was loaded from.
    pub fn base_hash(&self) -> &str {
        &self.base
    }

    /// What computes its products.
    pub fn kernels(&self) -> Result<Kernels, EngineError> {
        Ok(self.lock()?.llama.kernels())
    }

    /// What decoding steps multiply with from now on; all else stays as it is. The identity says what is
    /// not f32, so that no answer is taken for one of another setting.
    pub fn set_decode_weights(&self, weights: DecodeWeights) -> Result<(), EngineError> {
        self.lock()?.llama.set_decode_weights(weights);
        Ok(())
    }

    /// Lends the model, e.g. to a [`crate::trainer::Trainer`]; its revision is computed anew after.
    /// Like every call, it is refused after one that panicked: nobody knows what that left behind.
    pub fn with_llama<T>(&self, work: impl FnOnce(&mut Llama) -> T) -> Result<T, EngineError> {
        let mut state = self.lock()?;
        state.revision = None;
        Ok(work(&mut state.llama))
    }

    /// The tensors that training in `scope` changes.
    pub fn export_scope(&self, scope: Scope) -> Result<Vec<NamedTensor>, EngineError> {
        self.lock()?.llama.export_scope(scope)
    }

    /// Puts back what `export_scope` gave. Adapters of another kind are taken off.
    pub fn import_scope(&self, scope: Scope, tensors: &[NamedTensor]) -> Result<(), EngineError> {
        self.with_llama(|llama| llama.import_scope(scope, tensors))?
    }

    /// Uses `cache` from now on; see [`Llama::set_trunk_cache`].
    pub fn set_trunk_cache(&self, cache: Option<Arc<TrunkCache>>) -> Result<(), EngineError> {
        self.lock()?.llama.set_trunk_cache(cache)
    }

    /// log p over the vocabulary, rows of v, at each token that the assistant writes in the chats.
    pub fn token_distributions(&self, chats: &[Vec<Message>]) -> Result<Vec<Vec<f32>>, LocalError> {
        let mut result = Vec::new();
        for chat in chats {
            let mut pack = Pack::new();
            for rendered in self.tokenizer.training_sequences(chat, &[])? {
                pack.push_sequence(&rendered.ids, &rendered.trained);
            }
            if pack.targets().is_empty() {
                return Err(LocalError::Empty("a chat without an assistant's turn".into()));
            }
            result.extend(self.lock()?.llama.distributions(&pack)?);
        }
        Ok(result)
    }

    /// Sum of nats over the tokens of a plain text, and how many were predicted. Long texts are cut
    /// into windows of 1024 tokens, whose first tokens are not predicted.
    pub fn perplexity(&self, text: &str) -> Result<(f64, usize), LocalError> {
        let ids = self.tokenizer.encode(text);
        let mut state = self.lock()?;
        let window = TEXT_WINDOW.min(state.llama.shape().max_positions);
        let (mut nats, mut tokens) = (0.0, 0);
        for ids in ids.chunks(window).filter(|ids| ids.len() > 1) {
            let mut pack = Pack::new();
            pack.push_sequence(ids, &vec![true; ids.len()]);
            let logprobs = state.llama.logprobs(&[pack])?.concat();
            nats -= logprobs.iter().map(|x| f64::from(*x)).sum::<f64>();
            tokens += logprobs.len();
        }
        match tokens {
            0 => Err(LocalError::Empty("the text has fewer than two tokens".into())),
            _ => Ok((nats, tokens)),
        }
    }

    /// An error after a panic inside a computation: weights may be half written.
    fn lock(&self) -> Result<MutexGuard<'_, State>, EngineError> {
        self.state.lock().or(Err(EngineError::FailedBefore))
    }

    fn prompt(
        &self,
        messages: &[Message],
        tools: &[ToolDefinition],
    ) -> Result<Vec<u32>, ModelError> {
        let rendered = self.tokenizer.chat(messages, tools, true);
        rendered.map(|r| r.ids).map_err(|e| ModelError::BadRequest(e.to_string()))
    }

    fn write_all(&self, requests: &[GenerateRequest]) -> Vec<Result<Reply, ModelError>> {
        let planned: Vec<_> = requests.iter().map(|request| self.plan(request)).collect();
        let ready: Vec<&Planned> = planned.iter().flatten().collect();
        let mut replies = batches(&ready).into_iter().flat_map(|batch| self.write_batch(batch));
        let mut next = || replies.next().unwrap_or_else(|| unreachable!("a reply for each plan"));
        planned
            .iter()
            .map(|plan| plan.as_ref().map_err(Clone::clone).and_then(|_| next()))
            .collect()
    }

    fn plan(&self, request: &GenerateRequest) -> Result<Planned, ModelError> {
        check_sampling(&request.sampling)?;
        let calls = (!request.tools.is_empty()).then(|| self.call_format()).transpose()?;
        let prompt = self.prompt(&request.messages, &request.tools)?;
        let limit = self.shape.max_positions;
        if prompt.len() >= limit {
            return Err(ModelError::TooLong { tokens: prompt.len(), limit });
        }
        let mut effective = request.sampling.clone();
        effective.max_tokens = effective.max_tokens.min(limit - prompt.len());
        Ok(Planned { prompt, effective, calls })
    }

    /// How this model writes tool calls.
    fn call_format(&self) -> Result<CallFormat, ModelError> {
        CallFormat::of_template(self.tokenizer.template()).ok_or_else(|| {
            let what = "call tools: its chat template has no format for calls".into();
            ModelError::Unsupported { model: self.name.clone(), what }
        })
    }

    fn write_batch(&self, batch: &[&Planned]) -> Vec<Result<Reply, ModelError>> {
        let jobs: Vec<Job> =
            batch.iter().map(|p| Job { prompt: &p.prompt, sampling: &p.effective }).collect();
        let stops = |index: usize, ids: &[u32]| {
            let Planned { prompt, effective, .. } = batch[index];
            let stop = &effective.stop;
            !stop.is_empty() && cut(&self.spelling.text_behind(prompt, ids), stop).is_some()
        };
        // A model trained on documents may end a turn as it ends a document.
        let ends = [self.tokenizer.end_of_turn(), self.tokenizer.end_of_text()];
        let written = self.lock().and_then(|mut s| s.llama.generate(&jobs, &ends, &stops));
        match written {
            Ok(written) => {
                batch.iter().zip(written).map(|(plan, w)| Ok(self.reply(plan, w))).collect()
            }
            Err(e) => batch.iter().map(|_| Err(failed(&e))).collect(),
        }
    }

    fn reply(&self, plan: &Planned, written: Written) -> Reply {
        let mut text = self.spelling.text_behind(&plan.prompt, &written.ids);
        if let Some(at) = cut(&text, &plan.effective.stop) {
            text.truncate(at);
        }
        let usage = Usage {
            prompt_tokens: plan.prompt.len() as u64,
            completion_tokens: written.logprobs.len() as u64,
        };
        let logprobs = plan.effective.logprobs.then_some(written.logprobs);
        let (effective, mut ended, mut tool_calls) =
            (plan.effective.clone(), written.ended, Vec::new());
        if let Some(format) = plan.calls {
            let spoken = format.read(&text, &plan.prompt);
            (text, tool_calls) = (spoken.text, spoken.calls);
            // A call that the limit cut off is truncated, not malformed.
            if let (Some(why), Ended::Complete) = (spoken.broken, &ended) {
                ended = Ended::Malformed { why };
            }
        }
        let (reasoning, sealed) = (None, Vec::new());
        Reply { text, reasoning, sealed, tool_calls, ended, usage, logprobs, effective }
    }

    fn score_all(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<Score>, ModelError>> {
        let planned: Vec<_> = requests.iter().map(|request| self.branches(request)).collect();
        let ready: Vec<Branches> = planned.iter().flatten().cloned().collect();
        let scored = self.lock().and_then(|mut state| state.llama.score(&ready));
        let mut scores = match scored {
            Ok(scores) => scores.into_iter(),
            Err(e) => return planned.into_iter().map(|p| p.and(Err(failed(&e)))).collect(),
        };
        let mut next = || scores.next().unwrap_or_else(|| unreachable!("scores for each plan"));
        let scores = |all: Vec<Vec<f32>>| all.into_iter().map(|logprobs| Score { logprobs });
        planned.into_iter().map(|plan| plan.map(|_| scores(next()).collect())).collect()
    }

    fn branches(&self, request: &ScoreRequest) -> Result<Branches, ModelError> {
        let bad = |what: &str| Err(ModelError::BadRequest(what.into()));
        if request.continuations.is_empty() {
            return bad("nothing to score: no continuation");
        }
        if request.continuations.iter().any(|c| c.text.is_empty()) {
            return bad("a continuation with an empty text");
        }
        let prompt = self.prompt(&request.messages, &[])?;
        let ends = request.continuations.iter().map(|c| self.end(&prompt, c)).collect();
        let branches = Branches { prompt, ends };
        let checked = self.lock().and_then(|state| branches.check(&state.llama));
        checked.map_err(|e| failed(&e))?;
        Ok(branches)
    }

    /// Ids of prefix, text and end of turn as the template writes them behind the prompt; how many
    /// belong to the prefix.
    fn end(&self, prompt: &[u32], continuation: &Continuation) -> (Vec<u32>, usize) {
        let Continuation { prefix, text } = continuation;
        let (lead, tail) = self.tokenizer.blanks();
        let mut ids = Vec::new();
        let text = if prefix.is_empty() {
            format!("{lead}{text}{tail}")
        } else {
            ids = self.tokenizer.encode_behind(prompt, &format!("{lead}{prefix}"));
            format!("{text}{tail}")
        };
        let given = ids.len();
        let before = if ids.is_empty() { prompt } else { &ids };
        let text = self.tokenizer.encode_behind(before, &text);
        ids.extend(text);
        ids.push(self.tokenizer.end_of_turn());
        (ids, given)
    }
}

/// A request that can be computed.
struct Planned {
    prompt: Vec<u32>,
    effective: Sampling,
    /// How calls are written; None if there are no tools.
    calls: Option<CallFormat>,
}

impl Model for LocalModel {
    fn identity(&self) -> Identity {
        let name = self.name.clone();
        let mut state = match self.lock() {
            Ok(state) => state,
            Err(error) => return Identity { name, revision: format!("unknown ({error})") },
        };
        let State { llama, revision } = &mut *state;
        let revision = revision.get_or_insert_with(|| format!("weights:{}", llama.weights_hash()));
        let decoding = match llama.decode_weights() {
            DecodeWeights::Own => "",
            DecodeWeights::Bf16 => "+w16",
            DecodeWeights::Q8 => "+q8",
        };
        let products = llama.kernels().suffix();
        Identity { name, revision: format!("{revision}{decoding}{products}") }
    }

    fn capabilities(&self) -> Capabilities {
        let tools = self.call_format().is_ok();
        Capabilities { score: true, logprobs: true, seed: true, tools }
    }

    fn generate<'a>(
        &'a self,
        requests: &'a [GenerateRequest],
    ) -> BoxFuture<'a, Vec<Result<Reply, ModelError>>> {
        Box::pin(async move { self.write_all(requests) })
    }

    fn score<'a>(
        &'a self,
        requests: &'a [ScoreRequest],
    ) -> BoxFuture<'a, Vec<Result<Vec<Score>, ModelError>>> {
        Box::pin(async move { self.score_all(requests) })
    }
}

/// Neighbours that are decoded together.
fn batches<'a>(mut rest: &'a [&'a Planned]) -> Vec<&'a [&'a Planned]> {
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let mut rows = 0;
        let fits = rest.iter().take(BATCH).take_while(|p| {
            rows += p.prompt.len() + p.effective.max_tokens;
            rows <= BATCH_ROWS
        });
        let (batch, later) = rest.split_at(fits.count().max(1));
        batches.push(batch);
        rest = later;
    }
    batches
}

/// Where the first stop text begins.
fn cut(text: &str, stop: &[String]) -> Option<usize> {
    stop.iter().filter(|s| !s.is_empty()).filter_map(|s| text.find(s.as_str())).min()
}

fn failed(error: &EngineError) -> ModelError {
    match error {
        EngineError::TooLong { tokens, limit } => {
            ModelError::TooLong { tokens: *tokens, limit: *limit }
        }
        other => ModelError::Failed(other.to_string()),
    }
}

fn check_sampling(s: &Sampling) -> Result<(), ModelError> {
    let bad = |what: String| Err(ModelError::BadRequest(what));
    if !(s.temperature.is_finite() && s.temperature >= 0.0) {
        return bad(format!("temperature = {}: expected 0 or more", s.temperature));
    }
    if !(s.top_p > 0.0 && s.top_p <= 1.0) {
        return bad(format!("top_p = {}: expected above 0, at most 1", s.top_p));
    }
    match s.max_tokens {
        0 => bad("max_tokens = 0: expected at least 1".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
