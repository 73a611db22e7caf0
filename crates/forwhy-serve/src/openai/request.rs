//! Bodies as plans: every field is honoured, or refused by name.

use std::sync::Arc;

use forwhy_core::chat::{Message, Role};
use forwhy_core::model::Sampling;
use forwhy_core::seed;
use forwhy_core::tool::{ToolCall, ToolDefinition};
use forwhy_engine::calls::CallFormat;
use forwhy_engine::schedule::{Order, Steer};
use forwhy_engine::spelling::Watch;
use forwhy_model::wire::openai::{
    ChatMessage, ChatRequest, CompletionRequest, Prompt, ResponseFormat, Stop, StreamOptions, Tool,
    ToolChoice,
};
use serde_json::{Map, Value};

use super::Shared;
use super::penalties::Penalties;
use super::refusal::Refusal;

/// Alternatives to a token that can be asked for.
const MOST_ALTERNATIVES: u8 = 20;
/// Samples of one prompt.
const MOST_SAMPLES: u32 = 1024;
/// Tokens of a completion that does not say how many.
const COMPLETION_TOKENS: usize = 16;

/// What to write.
pub struct Plan {
    /// The model's name, and its index.
    pub model: (String, usize),
    /// Token ids; several only for completions.
    pub prompts: Vec<Arc<[u32]>>,
    /// Samples of each prompt.
    pub n: usize,
    /// How to sample; `stop` is in `watch`, the seed in `seed`.
    pub sampling: Sampling,
    /// The request's seed.
    pub seed: Option<u64>,
    /// Alternatives to give with each token's log-probability.
    pub alternatives: Option<usize>,
    /// What to look out for in the text.
    pub watch: Watch,
    /// How calls are written; None if none are asked for.
    pub format: Option<CallFormat>,
    /// Whether the prompt comes before the completion.
    pub echo: bool,
    /// Whether the reply comes in pieces, and whether the last one says the usage.
    pub stream: Option<StreamOptions>,
    penalties: Option<Penalties>,
}

impl Plan {
    /// The order for sample `index` of all. `request` names the request, for seeds of its own.
    pub(super) fn order(&self, index: usize, request: u64, session: &str) -> Order {
        let sample = (index % self.n).to_string();
        let seed = match self.seed {
            // The first sample is the one that the engine gives for this seed.
            Some(seed) if index.is_multiple_of(self.n) => seed,
            Some(seed) => seed::number(&["sample", &seed.to_string(), &sample]),
            None => seed::number(&["request", session, &request.to_string(), &index.to_string()]),
        };
        let steer = self.penalties.clone().map(|p| Box::new(p) as Box<dyn Steer>);
        Order {
            prompt: self.prompts[index / self.n].clone(),
            sampling: Sampling { seed, ..self.sampling.clone() },
            alternatives: self.alternatives.unwrap_or(0),
            steer,
        }
    }

    /// Sequences to write.
    pub fn sequences(&self) -> usize {
        self.prompts.len() * self.n
    }
}

/// The fields that both kinds of requests have.
struct Knobs<'a> {
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i32>,
    n: Option<u32>,
    stop: Option<&'a Stop>,
    seed: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<&'a Map<String, Value>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

/// The fields of [`Knobs`] out of either kind of request.
macro_rules! knobs {
    ($request:expr) => {
        Knobs {
            temperature: $request.temperature,
            top_p: $request.top_p,
            top_k: $request.top_k,
            n: $request.n,
            stop: $request.stop.as_ref(),
            seed: $request.seed,
            presence_penalty: $request.presence_penalty,
            frequency_penalty: $request.frequency_penalty,
            logit_bias: $request.logit_bias.as_ref(),
            stream: $request.stream,
            stream_options: $request.stream_options,
        }
    };
}

/// A chat as a plan.
pub(super) fn chat(shared: &Shared, request: &ChatRequest) -> Result<Plan, Refusal> {
    refuse_unhonoured(request)?;
    let variant = shared.variant(&request.model)?;
    let mut plan = plan(shared, (request.model.clone(), variant), &knobs!(request))?;
    plan.alternatives = match (request.logprobs.unwrap_or(false), request.top_logprobs) {
        (false, None | Some(0)) => None,
        (false, Some(_)) => return Err(Refusal::field("top_logprobs", "needs logprobs = true")),
        (true, most) => Some(alternatives("top_logprobs", most.unwrap_or(0))?),
    };
    let messages = messages(&request.messages)?;
    let tools = tools(request)?;
    if !tools.is_empty() {
        let format = shared.format.ok_or_else(|| {
            let why = "the chat template of this model has no format for tool calls that is known \
                       here (Hermes and Qwen, Llama 3, Mistral)";
            Refusal::field("tools", why)
        })?;
        plan.format = Some(format);
        plan.watch = format.watch(plan.watch.stop);
    }
    let prompt = render(shared, &messages, &tools)?;
    let asked = match (request.max_completion_tokens, request.max_tokens) {
        (Some(a), Some(b)) if a != b => {
            let why = "is another number than max_completion_tokens";
            return Err(Refusal::field("max_tokens", why));
        }
        (a, b) => a.or(b),
    };
    plan.sampling.max_tokens = room(shared, &prompt, asked, "max_completion_tokens")?;
    plan.prompts = vec![prompt.into()];
    Ok(plan)
}

/// A completion as a plan. `max_tokens` may be 0 if the prompt is to be echoed.
pub(super) fn completion(shared: &Shared, request: &CompletionRequest) -> Result<Plan, Refusal> {
    let variant = shared.variant(&request.model)?;
    let mut plan = plan(shared, (request.model.clone(), variant), &knobs!(request))?;
    if request.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
        return Err(Refusal::field("suffix", "filling in is not offered here"));
    }
    if request.best_of.is_some_and(|best_of| best_of as usize != plan.n) {
        return Err(Refusal::field("best_of", "only the value of n is honoured here"));
    }
    plan.alternatives = request.logprobs.map(|most| alternatives("logprobs", most)).transpose()?;
    plan.echo = request.echo.unwrap_or(false);
    if plan.echo && plan.stream.is_some() {
        return Err(Refusal::field("echo", "not together with stream"));
    }
    plan.prompts = prompts(shared, &request.prompt)?;
    let longest = plan.prompts.iter().max_by_key(|ids| ids.len());
    let longest = longest.ok_or_else(|| Refusal::field("prompt", "there is none"))?;
    plan.sampling.max_tokens = match request.max_tokens {
        Some(0) if plan.echo => 0,
        asked => {
            let usual = u32::try_from(COMPLETION_TOKENS).unwrap_or(u32::MAX);
            room(shared, longest, Some(asked.unwrap_or(usual)), "max_tokens")?
        }
    };
    Ok(plan)
}

fn plan(shared: &Shared, model: (String, usize), knobs: &Knobs) -> Result<Plan, Refusal> {
    let vocab = shared.host.model().shape().vocab;
    let n = match knobs.n.unwrap_or(1) {
        n @ 1..=MOST_SAMPLES => n as usize,
        n => return Err(Refusal::field("n", format!("{n}: expected 1 to {MOST_SAMPLES}"))),
    };
    let stop = knobs.stop.map_or(&[][..], Stop::texts).to_vec();
    if stop.iter().any(String::is_empty) {
        return Err(Refusal::field("stop", "an empty text would stop everything"));
    }
    let stream = match (knobs.stream.unwrap_or(false), knobs.stream_options) {
        (false, Some(_)) => return Err(Refusal::field("stream_options", "needs stream = true")),
        (false, None) => None,
        (true, options) => Some(options.unwrap_or_default()),
    };
    let presence = within("presence_penalty", knobs.presence_penalty.unwrap_or(0.0), -2.0, 2.0)?;
    let frequency = within("frequency_penalty", knobs.frequency_penalty.unwrap_or(0.0), -2.0, 2.0)?;
    let bias = knobs.logit_bias.map(|map| bias(map, vocab)).transpose()?.unwrap_or_default();
    let sampling = Sampling {
        temperature: within("temperature", knobs.temperature.unwrap_or(1.0), 0.0, 100.0)?,
        top_p: match knobs.top_p.unwrap_or(1.0) {
            top_p if top_p > 0.0 && top_p <= 1.0 => top_p,
            top_p => {
                let why = format!("{top_p}: expected above 0, at most 1");
                return Err(Refusal::field("top_p", why));
            }
        },
        top_k: match knobs.top_k.unwrap_or(0) {
            -1 | 0 => 0,
            top_k @ 1.. => top_k as usize,
            top_k => {
                return Err(Refusal::field("top_k", format!("{top_k}: expected -1, 0 or more")));
            }
        },
        ..Sampling::default()
    };
    Ok(Plan {
        model,
        prompts: Vec::new(),
        n,
        sampling,
        seed: knobs.seed.map(i64::cast_unsigned),
        alternatives: None,
        watch: Watch { stop, ..Watch::default() },
        format: None,
        echo: false,
        stream,
        penalties: Penalties::new(presence, frequency, bias),
    })
}

fn within(name: &str, value: f32, least: f32, most: f32) -> Result<f32, Refusal> {
    match value {
        value if value >= least && value <= most => Ok(value),
        value => Err(Refusal::field(name, format!("{value}: expected {least} to {most}"))),
    }
}

fn alternatives(name: &str, most: u8) -> Result<usize, Refusal> {
    match most {
        0..=MOST_ALTERNATIVES => Ok(most.into()),
        most => Err(Refusal::field(name, format!("{most}: at most {MOST_ALTERNATIVES}"))),
    }
}

fn bias(map: &Map<String, Value>, vocab: usize) -> Result<Vec<(u32, f32)>, Refusal> {
    let each = map.iter().map(|(key, value)| {
        let name = format!("logit_bias.{key}");
        let id = key.parse::<u32>().ok().filter(|id| (*id as usize) < vocab);
        let id = id.ok_or_else(|| Refusal::field(&name, format!("no token id below {vocab}")))?;
        let bias = value.as_f64().unwrap_or(f64::NAN) as f32;
        Ok((id, within(&name, bias, -100.0, 100.0)?))
    });
    each.collect()
}

/// Tokens that may be written after `prompt`.
fn room(
    shared: &Shared,
    prompt: &[u32],
    asked: Option<u32>,
    field: &str,
) -> Result<usize, Refusal> {
    let limit = shared.host.model().shape().max_positions;
    let free = limit.saturating_sub(prompt.len());
    match asked.map_or(free, |asked| asked as usize) {
        0 if free > 0 => Err(Refusal::field(field, "0: expected at least 1")),
        wanted if wanted > free || free == 0 => {
            Err(Refusal::too_long(prompt.len() + wanted.max(1), limit))
        }
        wanted => Ok(wanted),
    }
}

/// Fields that are known on the wire and cannot be honoured here.
fn refuse_unhonoured(request: &ChatRequest) -> Result<(), Refusal> {
    let constrained = "constrained decoding is not offered here; ask for it in words and check";
    match &request.response_format {
        None | Some(ResponseFormat::Text) => {}
        Some(_) => return Err(Refusal::field("response_format", constrained)),
    }
    match &request.tool_choice {
        None => {}
        Some(ToolChoice::Mode(mode)) if ["auto", "none"].contains(&mode.as_str()) => {}
        Some(_) => {
            return Err(Refusal::field(
                "tool_choice",
                format!("not \"auto\" or \"none\": {constrained}"),
            ));
        }
    }
    if request.parallel_tool_calls == Some(false) {
        let why = "false: the model alone decides how many tools it calls";
        return Err(Refusal::field("parallel_tool_calls", why));
    }
    if request.store == Some(true) {
        return Err(Refusal::field("store", "nothing is kept here"));
    }
    let refused = [
        ("reasoning_effort", request.reasoning_effort.is_some()),
        (
            "chat_template_kwargs",
            request.chat_template_kwargs.as_ref().is_some_and(|m| !m.is_empty()),
        ),
        ("metadata", request.metadata.as_ref().is_some_and(|m| !m.is_empty())),
    ];
    match refused.iter().find(|(_, given)| *given) {
        Some((field, _)) => Err(Refusal::field(field, "has no meaning here; leave it out")),
        None => Ok(()),
    }
}

fn tools(request: &ChatRequest) -> Result<Vec<ToolDefinition>, Refusal> {
    if request.tool_choice == Some(ToolChoice::Mode("none".into())) {
        return Ok(Vec::new());
    }
    let each = request.tools.iter().flatten().enumerate().map(|(i, tool)| {
        let Tool { kind, function } = tool;
        let refuse = |field: &str, why: &str| Refusal::field(&format!("tools[{i}].{field}"), why);
        if kind != "function" {
            return Err(refuse("type", "expected \"function\""));
        }
        if function.name.is_empty() {
            return Err(refuse("function.name", "expected a name"));
        }
        if function.strict == Some(true) {
            let why = "constrained decoding is not offered here; send false (inspect_ai: \
                       strict_tools=False)";
            return Err(refuse("function.strict", why));
        }
        let parameters = function.parameters.clone();
        let parameters = parameters.filter(|p| !p.is_null());
        Ok(ToolDefinition {
            name: function.name.clone(),
            description: function.description.clone().unwrap_or_default(),
            parameters: parameters
                .unwrap_or_else(|| serde_json::json!({"type": "object", "properties": {}})),
        })
    });
    each.collect()
}

fn messages(given: &[ChatMessage]) -> Result<Vec<Message>, Refusal> {
    if given.is_empty() {
        return Err(Refusal::field("messages", "there is none"));
    }
    given.iter().enumerate().map(|(i, message)| one_message(i, message)).collect()
}

fn one_message(i: usize, given: &ChatMessage) -> Result<Message, Refusal> {
    let refuse = |field: &str, why: &str| Refusal::field(&format!("messages[{i}].{field}"), why);
    let role = match given.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return Err(refuse("role", "expected system, developer, user, assistant or tool")),
    };
    let some = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    for (field, given) in [
        ("name", some(&given.name)),
        ("reasoning_content", some(&given.reasoning_content)),
        ("refusal", some(&given.refusal)),
    ] {
        if given {
            return Err(refuse(field, "chat templates do not show it to the model; leave it out"));
        }
    }
    let calls = given.tool_calls.iter().flatten().map(|call| ToolCall {
        id: call.id.clone(),
        name: call.function.name.clone(),
        arguments: call.function.arguments.clone(),
    });
    let tool_calls: Vec<ToolCall> = calls.collect();
    if role != Role::Assistant && !tool_calls.is_empty() {
        return Err(refuse("tool_calls", "only an assistant calls tools"));
    }
    let content = match &given.content {
        Some(content) => content.text(),
        None if !tool_calls.is_empty() => String::new(),
        None => return Err(refuse("content", "expected a text")),
    };
    Ok(Message {
        tool_calls,
        tool_call_id: given.tool_call_id.clone(),
        ..Message::new(role, content)
    })
}

fn render(
    shared: &Shared,
    messages: &[Message],
    tools: &[ToolDefinition],
) -> Result<Vec<u32>, Refusal> {
    let rendered = shared.host.model().tokenizer().chat(messages, tools, true);
    rendered.map(|r| r.ids).map_err(|e| Refusal::field("messages", e))
}

/// Texts are encoded as they stand: control tokens in them are mere text, and nothing is added.
fn prompts(shared: &Shared, prompt: &Prompt) -> Result<Vec<Arc<[u32]>>, Refusal> {
    let tokenizer = shared.host.model().tokenizer();
    let all: Vec<Vec<u32>> = match prompt {
        Prompt::Text(text) => vec![tokenizer.encode(text)],
        Prompt::Texts(texts) => texts.iter().map(|text| tokenizer.encode(text)).collect(),
        Prompt::Tokens(ids) => vec![ids.clone()],
        Prompt::TokenLists(lists) => lists.clone(),
    };
    let vocab = shared.host.model().shape().vocab;
    if all.iter().any(Vec::is_empty) {
        return Err(Refusal::field("prompt", "it has no token"));
    }
    if let Some(id) = all.iter().flatten().find(|id| **id as usize >= vocab) {
        return Err(Refusal::field("prompt", format!("token {id}: there are {vocab}")));
    }
    Ok(all.into_iter().map(Arc::from).collect())
}
