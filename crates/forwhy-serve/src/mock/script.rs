//! What the model behind the mock server says, and how the server behaves.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fault::FaultRule;
use super::state::Drawn;

/// A whole script. Everything has a default: a server that answers each request with a short text
/// that names the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// Names the random draws.
    pub seed: u64,
    /// The key that requests must bear; any or none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The model's name in replies; the one asked for if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served_model: Option<String>,
    /// `system_fingerprint` of replies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Milliseconds before a reply: least and most, drawn for each.
    pub latency_ms: [u64; 2],
    /// More requests than this at once get 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<usize>,
    /// A batch has ended when it has been asked for this many times.
    pub batch_polls: u32,
    /// What is said; the first rule that fits.
    pub replies: Vec<ReplyRule>,
    /// What goes wrong; the first rule that strikes.
    pub faults: Vec<FaultRule>,
}

/// A script that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It is no script.
    #[error("the script is wrong: {0}")]
    Syntax(String),
    /// A share that is none.
    #[error("fault rule {rule}: the share must lie between 0 and 1, it is {share}")]
    Share {
        /// The rule, from 0.
        rule: usize,
        /// What stands there.
        share: f64,
    },
    /// Latencies in the wrong order.
    #[error("latency_ms: the least, {least}, is above the most, {most}")]
    Latency {
        /// The first number.
        least: u64,
        /// The second.
        most: u64,
    },
}

/// What is said to a request that fits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplyRule {
    /// The last turn holds this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// The chat holds so many assistant turns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<usize>,
    /// The model's name in the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The text.
    pub text: String,
    /// Instead of a text: one of so many words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<usize>,
    /// Thoughts, unless the request switches them off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Thoughts whatever the request says: a server that drops the setting.
    pub ignores_switch: bool,
    /// Tools that are called.
    pub tool_calls: Vec<ScriptedCall>,
}

/// A call that the model makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedCall {
    /// The tool.
    pub name: String,
    /// JSON text.
    pub arguments: String,
}

/// What the model says to one request.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) fingerprint: Option<String>,
    pub(super) text: String,
    pub(super) reasoning: Option<String>,
    pub(super) tool_calls: Vec<ScriptedCall>,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
}

impl Script {
    /// Reads a script from TOML.
    pub fn parse(text: &str) -> Result<Script, ScriptError> {
        let script: Script =
            toml::from_str(text).map_err(|e| ScriptError::Syntax(e.to_string()))?;
        let [least, most] = script.latency_ms;
        if least > most {
            return Err(ScriptError::Latency { least, most });
        }
        for (rule, fault) in script.faults.iter().enumerate() {
            if !(0.0..=1.0).contains(&fault.share) {
                return Err(ScriptError::Share { rule, share: fault.share });
            }
        }
        Ok(script)
    }

    /// A script with these faults and nothing else.
    pub fn failing(faults: impl IntoIterator<Item = FaultRule>) -> Self {
        Script { faults: faults.into_iter().collect(), ..Script::default() }
    }

    pub(super) fn latency(&self, draw: f64) -> Duration {
        let [least, most] = self.latency_ms;
        let span = most.saturating_sub(least) as f64;
        Duration::from_millis(least).saturating_add(Duration::from_secs_f64(span * draw / 1000.0))
    }

    /// What the first rule that fits says to the body `asked`.
    pub(super) fn say(&self, asked: &Value, drawn: &Drawn) -> Said {
        let (last, turns) = last_turn(asked);
        let model = asked.get("model").and_then(Value::as_str).unwrap_or_default();
        let fits = |rule: &&ReplyRule| {
            rule.when.as_deref().is_none_or(|text| last.contains(text))
                && rule.turn.is_none_or(|turn| turn == turns)
                && rule.model.as_deref().is_none_or(|name| name == model)
        };
        let rule = self.replies.iter().find(fits).cloned().unwrap_or_else(|| ReplyRule {
            text: format!("reply to {}", &drawn.key[..8]),
            ..ReplyRule::default()
        });
        let text = rule.words.map_or(rule.text, words);
        let thinks = rule.ignores_switch || !switched_off(asked);
        let reasoning = rule.reasoning.filter(|_| thinks);
        let count = |text: &str| text.split_whitespace().count() as u64;
        Said {
            id: format!("mock-{}-{}", &drawn.key[..16], drawn.times),
            model: self.served_model.clone().unwrap_or_else(|| model.to_string()),
            fingerprint: self.fingerprint.clone(),
            prompt_tokens: asked.get("messages").map_or(0, |m| m.to_string().len() as u64 / 4),
            completion_tokens: (count(&text) + reasoning.as_deref().map_or(0, count)).max(1),
            text,
            reasoning,
            tool_calls: rule.tool_calls,
        }
    }
}

/// The text of the last turn, and the number of assistant turns.
fn last_turn(asked: &Value) -> (String, usize) {
    let messages = asked.get("messages").and_then(Value::as_array);
    let messages = messages.map(Vec::as_slice).unwrap_or_default();
    let turns = messages.iter().filter(|m| m["role"] == "assistant").count();
    let text = match messages.last().and_then(|m| m.get("content")) {
        Some(Value::String(text)) => text.clone(),
        Some(blocks) => blocks.to_string(),
        None => String::new(),
    };
    (text, turns)
}

/// Whether the request switches thinking off, in any dialect.
fn switched_off(asked: &Value) -> bool {
    let template = asked.get("chat_template_kwargs").and_then(Value::as_object);
    let by_template = template.is_some_and(|t| t.values().any(|v| *v == Value::Bool(false)));
    by_template
        || asked["reasoning"]["enabled"] == false
        || asked["reasoning_effort"] == "none"
        || asked["thinking"]["type"] == "disabled"
}

/// A text of `count` words, always the same.
fn words(count: usize) -> String {
    const WORDS: [&str; 16] = [
        "I", "have", "read", "the", "inbox", "and", "will", "answer", "each", "message", "with",
        "care", "for", "people", "policy", "facts",
    ];
    (0..count).map(|i| WORDS[(i * 7) % 16]).collect::<Vec<_>>().join(" ")
}
