//! A row as it stands in a file: messages and tools in the form of OpenAI's fine-tuning files, which
//! is also the form of its requests.
//!
//! `{"role": "assistant", "content": null, "tool_calls": [{"id": .., "type": "function", "function":
//! {"name": .., "arguments": "{..}"}}]}`, `{"role": "tool", "tool_call_id": .., "content": ..}`, and
//! `tools: [{"type": "function", "function": {"name", "description", "parameters"}}]`. Arguments may
//! also be the JSON object itself, as transformers has it, thoughts may be called `reasoning_content`.
//! [`super::turns`] checks what the parts have to do with one another.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Row, Tags};
use crate::chat::{Message, Role};
use crate::tool::{ToolCall, ToolDefinition};

/// A line of a file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowForm {
    id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    messages: Vec<TurnForm>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    tags: Tags,
    source: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TurnForm {
    role: Role,
    content: Option<String>,
    #[serde(default, alias = "reasoning_content", skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
    /// Of a result: the tool that was called. It says nothing that the call does not say.
    #[serde(default, skip_serializing)]
    name: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallForm {
    id: String,
    #[serde(default, rename = "type")]
    kind: Kind,
    function: CalledForm,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CalledForm {
    name: String,
    arguments: Value,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolForm {
    #[serde(default, rename = "type")]
    kind: Kind,
    function: FunctionForm,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FunctionForm {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default = "no_parameters")]
    parameters: Value,
}

/// The only sort of tool.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Function,
}

/// As `forwhy serve` takes a tool without any.
fn no_parameters() -> Value {
    json!({"type": "object", "properties": {}})
}

impl TryFrom<RowForm> for Row {
    type Error = String;

    fn try_from(form: RowForm) -> Result<Self, String> {
        let RowForm { id, messages, tools, text, tags, source } = form;
        check_names(&messages)?;
        let messages = messages.into_iter().enumerate().map(|(i, turn)| message(i, turn));
        let tool = |ToolForm { function, .. }| {
            let FunctionForm { name, description, parameters } = function;
            ToolDefinition { name, description, parameters }
        };
        let messages = messages.collect::<Result<_, _>>()?;
        let tools = tools.into_iter().map(tool).collect();
        Ok(Row { id, messages, tools, text, tags, source })
    }
}

fn message(index: usize, turn: TurnForm) -> Result<Message, String> {
    let TurnForm { role, content, reasoning, tool_calls, tool_call_id, .. } = turn;
    let content = match content {
        Some(content) => content,
        None if !tool_calls.is_empty() => String::new(),
        None => return Err(format!("messages[{index}].content: missing; only a call needs none")),
    };
    let calls = tool_calls.into_iter().enumerate().map(|(n, call)| {
        let CallForm { id, function: CalledForm { name, arguments }, .. } = call;
        let at = || format!("messages[{index}].tool_calls[{n}].function.arguments");
        let arguments = arguments_text(arguments).map_err(|why| format!("{}: {why}", at()))?;
        Ok(ToolCall { id, name, arguments })
    });
    let tool_calls = calls.collect::<Result<_, String>>()?;
    Ok(Message { reasoning, tool_calls, tool_call_id, ..Message::new(role, content) })
}

/// A JSON object as text. What a model would learn from anything else is to break its calls.
fn arguments_text(arguments: Value) -> Result<String, String> {
    let wanted = "expected the text of a JSON object";
    match arguments {
        Value::Object(_) => Ok(arguments.to_string()),
        Value::String(text) => match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(_)) => Ok(text),
            Ok(_) => Err(format!("{wanted}, got {text:?}")),
            Err(e) => Err(format!("{wanted}, got {text:?} ({e})")),
        },
        other => Err(format!("{wanted}, got {other}")),
    }
}

/// A result may name its tool, if it names the one that was called.
fn check_names(messages: &[TurnForm]) -> Result<(), String> {
    for (i, turn) in messages.iter().enumerate() {
        let Some(name) = &turn.name else { continue };
        if turn.role != Role::Tool {
            let why = "chat templates do not show it to the model; leave it out";
            return Err(format!("messages[{i}].name: {why}"));
        }
        let before = messages[..i].iter().rev().flat_map(|m| &m.tool_calls);
        let call = before.into_iter().find(|call| Some(&call.id) == turn.tool_call_id.as_ref());
        if let Some(call) = call.filter(|call| call.function.name != *name) {
            let called = &call.function.name;
            return Err(format!("messages[{i}].name: {name:?}, but its call is to {called:?}"));
        }
    }
    Ok(())
}

impl From<Row> for RowForm {
    fn from(row: Row) -> Self {
        let Row { id, messages, tools, text, tags, source } = row;
        let tool = |ToolDefinition { name, description, parameters }| {
            let function = FunctionForm { name, description, parameters };
            ToolForm { kind: Kind::Function, function }
        };
        let messages = messages.into_iter().map(turn).collect();
        RowForm { id, messages, tools: tools.into_iter().map(tool).collect(), text, tags, source }
    }
}

fn turn(message: Message) -> TurnForm {
    let Message { role, content, tool_calls, tool_call_id, reasoning, .. } = message;
    let call = |ToolCall { id, name, arguments }| CallForm {
        id,
        kind: Kind::Function,
        function: CalledForm { name, arguments: Value::String(arguments) },
    };
    TurnForm {
        role,
        content: Some(content).filter(|text| !text.is_empty() || tool_calls.is_empty()),
        reasoning,
        tool_calls: tool_calls.into_iter().map(call).collect(),
        tool_call_id,
        name: None,
    }
}
