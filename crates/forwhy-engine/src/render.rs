//! Chats as text, by the model's own Jinja template, rendered as transformers' `apply_chat_template`
//! renders it.
//!
//! 1. [`Turns::new`] makes of messages and tool definitions the dictionaries that transformers
//!    passes: `tool_calls` as `{id, type, function: {name, arguments}}` with the arguments parsed
//!    where they are a JSON object (else the text itself), thoughts as `reasoning_content`, `tools` in
//!    OpenAI's form, or none.
//! 2. [`Template::render`] runs the template: block tags swallow their line (`trim_blocks`,
//!    `lstrip_blocks`), `raise_exception` and `tojson` are there, `documents` is none. Using an unknown
//!    variable is an error except in a test (`{% if tools_in_user_message %}`), and a template cannot
//!    run for ever (fuel).
//!
//! 3. [`Template::unwritten`] names what of a chat the template would leave out of training.
//!
//! One thing differs: there is no `strftime_now`, so that the same chat is the same text on every
//! day. Templates that test for it (Llama 3) then write the date that they have for this case.

mod unwritten;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, from_args};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, context};

use forwhy_core::chat::{Message, Role};
use forwhy_core::tool::{ToolCall, ToolDefinition};
use serde_json::{Value as Json, json};

use crate::python_json::to_python_json;

/// Instructions a template may execute in one rendering: far above any real template and chat.
const FUEL: u64 = 10_000_000;

/// A compiled chat template.
pub struct Template {
    env: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

/// A template that does not compile, or refuses a chat.
#[derive(Debug, thiserror::Error)]
#[error("the chat template of the model: {what}: {source}")]
pub struct RenderError {
    what: &'static str,
    #[source]
    source: Error,
}

/// A chat as a template sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Turns {
    /// One object a message.
    messages: Vec<Json>,
    /// One object a tool that may be called.
    tools: Vec<Json>,
}

impl Turns {
    /// A chat in which `tools` may be called.
    pub fn new(messages: &[Message], tools: &[ToolDefinition]) -> Self {
        let messages = messages.iter().map(turn).collect();
        Turns { messages, tools: tools.iter().map(definition).collect() }
    }

    /// The first `turns` messages, with all tools.
    pub fn first(&self, turns: usize) -> Self {
        Turns { messages: self.messages[..turns].to_vec(), tools: self.tools.clone() }
    }

    /// Which messages are the assistant's.
    pub fn assistant(&self) -> impl Iterator<Item = usize> {
        let turns = self.messages.iter().enumerate();
        turns.filter(|(_, m)| m["role"] == Role::Assistant.as_str()).map(|(index, _)| index)
    }

    /// The same chat with another text in a message.
    pub fn with_content(&self, index: usize, content: &str) -> Self {
        let mut turns = self.clone();
        turns.messages[index]["content"] = json!(content);
        turns
    }

    /// Every text in it, names and keys included, changed by `change`.
    pub fn map_texts(&self, change: &dyn Fn(&str) -> String) -> Self {
        let all = |values: &[Json]| values.iter().map(|v| map_texts(v, change)).collect();
        Turns { messages: all(&self.messages), tools: all(&self.tools) }
    }

    /// Whether `c` occurs in any text of it.
    pub fn contains(&self, c: char) -> bool {
        let all = self.messages.iter().chain(&self.tools);
        // JSON text escapes control characters, quotes and backslashes only.
        all.into_iter().any(|value| value.to_string().contains(c))
    }
}

fn map_texts(value: &Json, change: &dyn Fn(&str) -> String) -> Json {
    match value {
        Json::String(text) => Json::String(change(text)),
        Json::Array(items) => items.iter().map(|v| map_texts(v, change)).collect(),
        Json::Object(map) => {
            let pairs = map.iter().map(|(k, v)| (change(k), map_texts(v, change)));
            Json::Object(pairs.collect())
        }
        plain => plain.clone(),
    }
}

fn turn(message: &Message) -> Json {
    let mut turn = json!({"role": message.role.as_str(), "content": message.content});
    // Templates ask whether a key is there (`'tool_calls' in message`), so an empty one is not.
    if !message.tool_calls.is_empty() {
        turn["tool_calls"] = message.tool_calls.iter().map(call).collect();
    }
    if let Some(id) = &message.tool_call_id {
        turn["tool_call_id"] = json!(id);
    }
    if let Some(thoughts) = &message.reasoning {
        turn["reasoning_content"] = json!(thoughts);
    }
    turn
}

fn call(call: &ToolCall) -> Json {
    let parsed = serde_json::from_str(&call.arguments).ok().filter(Json::is_object);
    let arguments = parsed.unwrap_or_else(|| Json::from(call.arguments.as_str()));
    let function = json!({"name": call.name, "arguments": arguments});
    json!({"id": call.id, "type": "function", "function": function})
}

fn definition(tool: &ToolDefinition) -> Json {
    let ToolDefinition { name, description, parameters } = tool;
    let function = json!({"name": name, "description": description, "parameters": parameters});
    json!({"type": "function", "function": function})
}

impl Template {
    /// Compiles `source`; `bos` and `eos` are the texts of the tokens that templates name so.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, RenderError> {
        let fail = |source| RenderError { what: "cannot be compiled", source };
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(fail)?);
        env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        env.set_fuel(Some(FUEL));
        env.set_unknown_method_callback(python_method);
        env.add_function("raise_exception", raise_exception);
        env.add_filter("tojson", to_json);
        env.add_template_owned("chat", source.to_string()).map_err(fail)?;
        Ok(Template { env, source: source.into(), bos: bos.into(), eos: eos.into() })
    }

    /// The template's own text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The chat as text, with the opening of an assistant turn at its end if asked for.
    pub fn render(&self, chat: &Turns, add_generation_prompt: bool) -> Result<String, RenderError> {
        let fail = |source| RenderError { what: "refuses this chat", source };
        let tools = match chat.tools.is_empty() {
            true => Value::from(()),
            false => Value::from(Serde(&chat.tools)),
        };
        let variables = context! {
            messages => Value::from(Serde(&chat.messages)),
            add_generation_prompt,
            tools,
            documents => Value::from(()),
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        self.env.get_template("chat").and_then(|t| t.render(variables)).map_err(fail)
    }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// The filter `tojson` as transformers has it.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let fail = |e: serde_json::Error| Error::new(ErrorKind::BadSerialization, e.to_string());
    let value = serde_json::to_value(value).map_err(fail)?;
    Ok(Value::from_safe_string(to_python_json(&value, indent, ascii.unwrap_or(false))))
}

/// The methods of Python's `str` and `dict` that chat templates call.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let unknown = || Error::from(ErrorKind::UnknownMethod);
    let Some(text) = value.as_str() else {
        return match method {
            "items" => state.apply_filter("items", std::slice::from_ref(value)),
            "keys" => value.try_iter().map(Iterator::collect),
            "values" => {
                let keys = value.try_iter()?;
                keys.map(|key| value.get_item(&key)).collect()
            }
            "get" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                let found = value.get_item(&key)?;
                let default = default.unwrap_or(Value::from(()));
                Ok(if found.is_undefined() { default } else { found })
            }
            _ => Err(unknown()),
        };
    };
    let plain = match method {
        "upper" => text.to_uppercase(),
        "lower" => text.to_lowercase(),
        "title" | "capitalize" => return state.apply_filter(method, std::slice::from_ref(value)),
        "strip" | "lstrip" | "rstrip" => strip(text, method, args)?,
        "replace" => {
            let (from, to): (&str, &str) = from_args(args)?;
            text.replace(from, to)
        }
        "startswith" => return from_args(args).map(|(s,): (&str,)| text.starts_with(s).into()),
        "endswith" => return from_args(args).map(|(s,): (&str,)| text.ends_with(s).into()),
        "split" => {
            let (border,): (Option<&str>,) = from_args(args)?;
            return Ok(match border {
                Some(border) => text.split(border).map(Value::from).collect(),
                None => text.split_whitespace().map(Value::from).collect(),
            });
        }
        _ => return Err(unknown()),
    };
    Ok(plain.into())
}

fn strip(text: &str, method: &str, args: &[Value]) -> Result<String, Error> {
    let (set,): (Option<&str>,) = from_args(args)?;
    let inside = |c: char| set.map_or(c.is_whitespace(), |set| set.contains(c));
    let text = if method == "rstrip" { text } else { text.trim_start_matches(inside) };
    Ok(if method == "lstrip" { text } else { text.trim_end_matches(inside) }.into())
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
