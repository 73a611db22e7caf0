//! Streamed replies, from the bytes of the whole stream.

use forwhy_core::tool::ToolCall;
use serde_json::Value;

use super::read::{content, finish, logprobs, served, usage};
use crate::wire::draft::{Draft, malformed, text_at};
use crate::wire::received::{Head, Received};
use crate::wire::{json, sse, status};

pub(super) fn read(head: &Head, bytes: &[u8]) -> Received {
    stream(head, bytes).unwrap_or_else(|odd| odd)
}

fn stream(head: &Head, bytes: &[u8]) -> Result<Received, Received> {
    let mut draft = Draft::default();
    let (mut pieces, mut done) = (0, false);
    for event in sse::events(bytes) {
        if event.data.trim() == "[DONE]" {
            done = true;
            break;
        }
        let parsed = match json::parse(event.data.as_bytes()) {
            Ok(parsed) => parsed,
            Err(error) => return malformed(format!("piece {pieces} is no JSON: {error}")),
        };
        parsed.mended.into_iter().for_each(|what| draft.mend(what));
        piece(&mut draft, head, &parsed.value)?;
        pieces += 1;
    }
    if pieces == 0 {
        return malformed("the stream is empty");
    }
    if draft.finish_reason.is_none() {
        let how = if done { "was ended" } else { "broke off" };
        return malformed(format!(
            "the stream {how} after {pieces} pieces without a finish_reason"
        ));
    }
    Ok(finish(draft))
}

fn piece(draft: &mut Draft, head: &Head, value: &Value) -> Result<(), Received> {
    if let Some(error) = status::inside_success(head, value) {
        return Err(error);
    }
    served(draft, value);
    usage(draft, value);
    let choices = value.get("choices").and_then(Value::as_array);
    for choice in choices.into_iter().flatten() {
        if choice.get("index").and_then(Value::as_u64).unwrap_or(0) != 0 {
            return malformed("a second choice where one was asked for");
        }
        if let Some(error) = status::inside_success(head, choice) {
            return Err(error);
        }
        if let Some(delta) = choice.get("delta") {
            content(draft, delta)?;
            let calls = delta.get("tool_calls").and_then(Value::as_array);
            for call in calls.into_iter().flatten() {
                more_of_a_call(draft, call)?;
            }
        }
        logprobs(draft, choice);
        draft.finish_reason = text_at(choice, "finish_reason").or(draft.finish_reason.take());
    }
    Ok(())
}

/// Begins the call that a piece names, or adds to it. Without an index, an id begins a call.
fn more_of_a_call(draft: &mut Draft, piece: &Value) -> Result<(), Received> {
    let id = text_at(piece, "id").filter(|id| !id.is_empty());
    let known = draft.tool_calls.len();
    let place = match piece.get("index").and_then(Value::as_u64) {
        Some(index) => index as usize,
        None if id.is_some() || known == 0 => known,
        None => known - 1,
    };
    if place > known {
        return malformed(format!("tool call {place} of a stream stands before call {known}"));
    }
    if place == known {
        if id.is_none() {
            draft.mend("a tool call without an id got one");
        }
        let id = id.unwrap_or_else(|| format!("call_{place}"));
        draft.tool_calls.push(ToolCall { id, name: String::new(), arguments: String::new() });
    }
    let call = &mut draft.tool_calls[place];
    let more = |key: &str| piece.get("function").and_then(|f| f.get(key)?.as_str());
    call.name.push_str(more("name").unwrap_or_default());
    call.arguments.push_str(more("arguments").unwrap_or_default());
    if call.name.is_empty() {
        return malformed(format!("tool call {place} of a stream names no tool"));
    }
    Ok(())
}
