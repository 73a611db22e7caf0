//! What is sent in each dialect, and what is made of every odd reply.

mod bodies;
mod odd_replies;
mod replies;

use forwhy_core::chat::Message;
use forwhy_core::model::{GenerateRequest, Sampling};
use forwhy_core::tool::{ToolCall, ToolDefinition};
use serde_json::{Value, json};

use super::*;

/// A chat with a tool call and its result.
fn agentic() -> GenerateRequest {
    let call =
        ToolCall { id: "c1".into(), name: "read".into(), arguments: r#"{"b":1,"a":2}"#.into() };
    let parameters = json!({"type": "object", "properties": {"b": {}, "a": {}}});
    GenerateRequest {
        messages: vec![
            Message::system("Be brief."),
            Message::user("Look."),
            Message { tool_calls: vec![call], ..Message::assistant("") },
            Message::tool_result("c1", "seen"),
        ],
        tools: vec![ToolDefinition {
            name: "read".into(),
            description: "Reads.".into(),
            parameters,
        }],
        sampling: Sampling { temperature: 0.7, max_tokens: 100, seed: 7, ..Sampling::default() },
    }
}

fn plain() -> GenerateRequest {
    let sampling = Sampling { max_tokens: 10, ..Sampling::default() };
    GenerateRequest { messages: vec![Message::user("Hi")], tools: Vec::new(), sampling }
}

fn settings(dialect: Dialect) -> Settings {
    Settings::new(dialect, "m")
}

fn sent(dialect: Dialect, request: &GenerateRequest, settings: &Settings) -> String {
    String::from_utf8(canonical(&body(dialect, request, settings).unwrap())).unwrap()
}

fn read_json(dialect: Dialect, value: &Value) -> Received {
    read(dialect, &settings(dialect), &Head::ok(), value.to_string().as_bytes())
}

fn stream_head() -> Head {
    Head { content_type: Some("text/event-stream; charset=utf-8".into()), ..Head::ok() }
}

/// The events as a stream, with `[DONE]` behind them in the dialects that have it.
fn streamed(dialect: Dialect, settings: &Settings, events: &[Value]) -> Received {
    let mut bytes: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    if dialect != Dialect::Anthropic {
        bytes.push_str("data: [DONE]\n\n");
    }
    read(dialect, settings, &stream_head(), bytes.as_bytes())
}

fn answer(received: Received) -> Answer {
    match received {
        Received::Answer(answer) => *answer,
        other => panic!("no answer: {other:?}"),
    }
}

/// A reply of chat completions with one thing changed.
fn completion(change: impl FnOnce(&mut Value)) -> Value {
    let mut reply = json!({
        "id": "r1", "model": "m", "system_fingerprint": "fp",
        "choices": [{"index": 0, "finish_reason": "stop",
                     "message": {"role": "assistant", "content": "Hello"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    });
    change(&mut reply);
    reply
}

/// A reply of Anthropic's messages with one thing changed.
fn message(change: impl FnOnce(&mut Value)) -> Value {
    let mut reply = json!({
        "id": "r1", "type": "message", "role": "assistant", "model": "m",
        "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    });
    change(&mut reply);
    reply
}
