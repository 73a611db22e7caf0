//! Tool calls in the model's own format, out of the text of a reply.
//!
//! The format is the one that the chat template teaches; a model whose template knows none of them
//! cannot call tools. A call that cannot be read is said to be broken; its text stays where it was.

use forwhy_core::seed;
use forwhy_core::tool::ToolCall;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::spelling::Watch;

/// How a family writes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFormat {
    /// `<tool_call>{"name": .., "arguments": {..}}</tool_call>`, after any text (Hermes, Qwen).
    Hermes,
    /// The whole reply is `{"name": .., "parameters": {..}}`, several divided by `;` (Llama 3).
    Llama3,
    /// `[TOOL_CALLS][{"name": .., "arguments": {..}}]`, or `[TOOL_CALLS]name[ARGS]{..}` (Mistral).
    Mistral,
}

/// A reply taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spoken {
    /// What is not a call. Broken calls stand here as they were written.
    pub text: String,
    /// The calls, in order.
    pub calls: Vec<ToolCall>,
    /// Why a call could not be read.
    pub broken: Option<String>,
}

const HERMES: (&str, &str) = ("<tool_call>", "</tool_call>");
const PYTHON: &str = "<|python_tag|>";
const MISTRAL: &str = "[TOOL_CALLS]";
const MISTRAL_ARGS: &str = "[ARGS]";

impl CallFormat {
    /// The format that a chat template teaches. None if it teaches none of these.
    pub fn of_template(template: &str) -> Option<Self> {
        let has = |text: &str| template.contains(text);
        match () {
            () if has(HERMES.0) => Some(CallFormat::Hermes),
            () if has(MISTRAL) => Some(CallFormat::Mistral),
            () if has("\"parameters\": dictionary of argument name") || has(PYTHON) => {
                Some(CallFormat::Llama3)
            }
            () => None,
        }
    }

    /// What a stream has to hold back because it may be a call.
    pub fn watch(self, stop: Vec<String>) -> Watch {
        let (hold, hold_object) = match self {
            CallFormat::Hermes => (HERMES.0, false),
            CallFormat::Llama3 => (PYTHON, true),
            CallFormat::Mistral => (MISTRAL, false),
        };
        Watch { stop, hold: vec![hold.into()], hold_object }
    }

    /// Takes the reply to `prompt` apart. Calls without an id of their own get one that is always the
    /// same for this reply to this prompt: some templates show ids to the model, and a chat that is
    /// repeated should stay the same chat.
    pub fn read(self, text: &str, prompt: &[u32]) -> Spoken {
        let mut spoken = match self {
            CallFormat::Hermes => hermes(text),
            CallFormat::Llama3 => llama3(text),
            CallFormat::Mistral => mistral(text),
        };
        for (index, call) in spoken.calls.iter_mut().enumerate().filter(|(_, c)| c.id.is_empty()) {
            call.id = call_id(prompt, text, index);
        }
        if spoken.broken.is_some() {
            spoken.text = text.into();
        }
        spoken
    }
}

/// Nine letters and digits, as Mistral's template demands.
fn call_id(prompt: &[u32], text: &str, index: usize) -> String {
    let prompt: Vec<String> = prompt.iter().map(u32::to_string).collect();
    let mut draws = seed::stream(&["tool call", &prompt.join(" "), text, &index.to_string()]);
    let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    (0..9).map(|_| char::from(letters[draws.below(letters.len())])).collect()
}

/// A call as JSON. Other keys are let be: families add their own (`type`).
#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    id: Option<String>,
    name: String,
    #[serde(default, alias = "parameters")]
    arguments: Option<Box<RawValue>>,
}

impl Written {
    fn call(self) -> ToolCall {
        let raw = self.arguments.as_ref().map_or("{}", |raw| raw.get());
        // A JSON text inside a JSON string is what other servers' clients send back.
        let arguments = serde_json::from_str::<String>(raw).unwrap_or_else(|_| raw.into());
        ToolCall { id: self.id.unwrap_or_default(), name: self.name, arguments }
    }
}

/// One call, or why it is none.
fn one(json: &str) -> Result<ToolCall, String> {
    let written = serde_json::from_str::<Written>(json.trim());
    written.map(Written::call).map_err(|e| format!("a tool call cannot be read: {e}"))
}

fn hermes(text: &str) -> Spoken {
    let (mut spoken, mut rest) = (Spoken::default(), text);
    while let Some((before, after)) = rest.split_once(HERMES.0) {
        spoken.text.push_str(before);
        // The end of the turn may stand for the last closing tag.
        let (body, later) = after.split_once(HERMES.1).unwrap_or((after, ""));
        match one(body) {
            Ok(call) => spoken.calls.push(call),
            Err(why) => spoken.broken = spoken.broken.or(Some(why)),
        }
        rest = later;
    }
    spoken.text.push_str(rest);
    if !spoken.calls.is_empty() {
        spoken.text = spoken.text.trim().into();
    }
    spoken
}

/// A reply that begins with `{` but is not about a tool is an answer in JSON.
fn llama3(text: &str) -> Spoken {
    let plain = Spoken { text: text.into(), ..Spoken::default() };
    let (before, body) = match text.split_once(PYTHON) {
        Some((before, body)) => (before.trim(), body),
        None if text.trim_start().starts_with('{') => ("", text),
        None => return plain,
    };
    let tagged = body.len() < text.len();
    let mut stream = serde_json::Deserializer::from_str(body.trim()).into_iter::<&RawValue>();
    let mut calls = Vec::new();
    let mut rest = body.trim();
    while !rest.is_empty() {
        let object = stream.next().unwrap_or_else(|| unreachable!("the rest is not empty"));
        let call = object.map_err(|e| format!("a tool call cannot be read: {e}"));
        let length = stream.byte_offset();
        match call.and_then(|raw| one(raw.get())) {
            Ok(call) => calls.push(call),
            Err(why) if tagged || rest.contains("\"name\"") => {
                return Spoken { broken: Some(why), ..plain };
            }
            Err(_) => return plain,
        }
        rest = rest[length..].trim_start().trim_start_matches(';').trim_start();
        stream = serde_json::Deserializer::from_str(rest).into_iter();
    }
    Spoken { text: before.into(), calls, broken: None }
}

fn mistral(text: &str) -> Spoken {
    let Some((before, body)) = text.split_once(MISTRAL) else {
        return Spoken { text: text.into(), ..Spoken::default() };
    };
    let calls = match body.trim_start().starts_with('[') {
        true => serde_json::from_str::<Vec<Written>>(body.trim())
            .map(|all| all.into_iter().map(Written::call).collect())
            .map_err(|e| format!("a list of tool calls cannot be read: {e}")),
        false => body.split(MISTRAL).map(named).collect(),
    };
    let text = before.trim().to_string();
    match calls {
        Ok(calls) => Spoken { text, calls, broken: None },
        Err(why) => Spoken { text, calls: Vec::new(), broken: Some(why) },
    }
}

/// `name[ARGS]{..}`
fn named(call: &str) -> Result<ToolCall, String> {
    let bad = |why: &str| format!("a tool call cannot be read: {why}");
    let (name, arguments) =
        call.split_once(MISTRAL_ARGS).ok_or_else(|| bad("no [ARGS] after the name"))?;
    let (name, arguments) = (name.trim(), arguments.trim());
    if name.is_empty() {
        return Err(bad("no name"));
    }
    match serde_json::from_str::<Value>(arguments) {
        Ok(_) => Ok(ToolCall { id: String::new(), name: name.into(), arguments: arguments.into() }),
        Err(e) => Err(bad(&e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CallFormat::{Hermes, Llama3, Mistral};

    /// Names and arguments of the calls.
    fn calls(spoken: &Spoken) -> Vec<(&str, &str)> {
        spoken.calls.iter().map(|c| (c.name.as_str(), c.arguments.as_str())).collect()
    }

    #[test]
    fn the_template_names_the_format() {
        for (template, format) in [
            ("a <tool_call> b", Some(Hermes)),
            ("a [TOOL_CALLS] b", Some(Mistral)),
            ("a <|python_tag|> b", Some(Llama3)),
            ("{{ messages }}", None),
        ] {
            assert_eq!(CallFormat::of_template(template), format);
        }
    }

    #[test]
    fn each_format_is_read_and_arguments_stay_as_written() {
        let spoken = Hermes.read(
            "I look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":  1.50}}\n</tool_call>\n\
             <tool_call>{\"name\": \"g\", \"arguments\": \"{}\"}",
            &[1],
        );
        assert_eq!(calls(&spoken), [("f", "{\"a\":  1.50}"), ("g", "{}")]);
        assert_eq!((spoken.text.as_str(), spoken.broken), ("I look.", None));
        let spoken = Llama3.read(
            "{\"name\": \"f\", \"parameters\": {\"a\": 1}}; {\"name\": \"g\", \"parameters\": {}}",
            &[1],
        );
        assert_eq!(calls(&spoken), [("f", "{\"a\": 1}"), ("g", "{}")]);
        assert_eq!(spoken.text, "");
        let list =
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"123456789\"}]";
        let spoken = Mistral.read(list, &[1]);
        assert_eq!(
            (calls(&spoken), spoken.calls[0].id.as_str()),
            (vec![("f", "{\"a\": 1}")], "123456789")
        );
        let spoken = Mistral.read("[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[ARGS]{}", &[1]);
        assert_eq!(calls(&spoken), [("f", "{\"a\": 1}"), ("g", "{}")]);
    }

    #[test]
    fn broken_calls_are_said_and_their_text_is_kept() {
        for (format, text) in [
            (Hermes, "x <tool_call>{\"name\": \"f\", \"arguments\": {\"a\": }}</tool_call>"),
            (Hermes, "<tool_call>{\"name\": \"f\", \"argu"),
            (Hermes, "<tool_call>{\"arguments\": {}}</tool_call>"),
            (Llama3, "{\"name\": \"f\", \"parameters\": {"),
            (Llama3, "<|python_tag|>print(1)"),
            (Mistral, "[TOOL_CALLS][{\"name\": \"f\""),
            (Mistral, "[TOOL_CALLS]f[ARGS]{\"a\""),
            (Mistral, "[TOOL_CALLS]f"),
        ] {
            let spoken = format.read(text, &[1]);
            assert!(spoken.broken.is_some(), "{text}");
            assert_eq!(spoken.text, text);
        }
    }

    #[test]
    fn text_without_a_call_is_text() {
        for (format, text) in [
            (Hermes, " plain { \"name\" } "),
            (Llama3, "{\"city\": \"Oslo\"}"),
            (Llama3, "a {\"name\": 1}"),
            (Mistral, "[TOOL] x"),
        ] {
            let spoken = format.read(text, &[1]);
            assert_eq!(spoken, Spoken { text: text.into(), ..Spoken::default() });
        }
    }

    #[test]
    fn ids_are_those_of_the_reply_and_never_twice_in_it() {
        let two = "<tool_call>{\"name\": \"f\"}</tool_call>".repeat(2);
        let ids = |prompt: u32| {
            let calls = Hermes.read(&two, &[prompt]).calls;
            calls.into_iter().map(|c| c.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
        assert_ne!(ids(1)[0], ids(1)[1]);
        assert!(ids(1)[0].len() == 9 && ids(1)[0].bytes().all(|b| b.is_ascii_alphanumeric()));
    }
}
