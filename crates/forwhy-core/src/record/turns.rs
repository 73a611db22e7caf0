//! What a row's chat has to be: an optional system turn, questions and answers by turns, and between
//! them calls of tools that the row defines, each with its result. The first fault is named by its
//! place in the row.

use std::collections::BTreeSet;

use super::Row;
use crate::chat::{Message, Role};
use crate::tool::{ToolCall, ToolDefinition};

/// Checks messages and tools of a row that is a chat.
pub(super) fn check(row: &Row) -> Result<(), String> {
    let names = check_tools(&row.tools)?;
    // Ids of calls whose result has not come yet, and who spoke last.
    let mut open: Vec<&str> = Vec::new();
    let mut last = None;
    for (i, message) in row.messages.iter().enumerate() {
        let place = |field: &str, why: String| format!("messages[{i}].{field}: {why}");
        check_fields(message).map_err(|(field, why)| place(field, why))?;
        if i == 0 && message.role == Role::System {
            continue;
        }
        check_order(message.role, last, &open).map_err(|why| place("role", why))?;
        match message.role {
            Role::Tool => {
                let id = message.tool_call_id.as_deref().unwrap_or_default();
                let found = open.iter().position(|call| *call == id);
                let unknown =
                    || place("tool_call_id", format!("no call {id:?} waits for a result"));
                open.remove(found.ok_or_else(unknown)?);
            }
            Role::Assistant => {
                open = check_calls(&message.tool_calls, &names)
                    .map_err(|(n, field, why)| place(&format!("tool_calls[{n}].{field}"), why))?;
            }
            Role::User | Role::System => {}
        }
        last = Some(message.role);
    }
    if last != Some(Role::Assistant) {
        return Err("messages: the last turn must be the assistant's".into());
    }
    if !row.tools.is_empty() && !row.tags.tools {
        return Err("tags.tools: false, but the row defines tools".into());
    }
    Ok(())
}

/// The tools' names.
fn check_tools(tools: &[ToolDefinition]) -> Result<BTreeSet<&str>, String> {
    let mut names = BTreeSet::new();
    for (i, tool) in tools.iter().enumerate() {
        let place = |field: &str, why: String| Err(format!("tools[{i}].function.{field}: {why}"));
        if tool.name.trim().is_empty() {
            return place("name", "it is empty".into());
        }
        if !names.insert(tool.name.as_str()) {
            return place("name", format!("{:?} is defined already", tool.name));
        }
        if !tool.parameters.is_object() {
            return place("parameters", "expected a JSON schema, an object".into());
        }
    }
    Ok(names)
}

/// Which fields a turn of its role has.
fn check_fields(message: &Message) -> Result<(), (&'static str, String)> {
    let role = message.role;
    let calls = !message.tool_calls.is_empty();
    if calls && role != Role::Assistant {
        return Err((
            "tool_calls",
            format!("only the assistant calls tools, this is the {role}'s turn"),
        ));
    }
    if message.reasoning.is_some() && role != Role::Assistant {
        return Err(("reasoning", format!("only the assistant thinks, this is the {role}'s turn")));
    }
    match (&message.tool_call_id, role) {
        (None, Role::Tool) => {
            return Err(("tool_call_id", "missing: which call does it answer?".into()));
        }
        (Some(_), other) if other != Role::Tool => {
            return Err((
                "tool_call_id",
                format!("only a tool's turn has one, this is the {role}'s"),
            ));
        }
        _ => {}
    }
    // A tool may well say nothing, and a call needs no words.
    if message.content.trim().is_empty() && role != Role::Tool && !calls {
        return Err(("content", format!("the {role}'s turn is empty")));
    }
    Ok(())
}

fn check_order(role: Role, last: Option<Role>, open: &[&str]) -> Result<(), String> {
    let want = match last {
        None => Role::User,
        Some(Role::Assistant) if open.is_empty() => Role::User,
        Some(Role::Assistant) => Role::Tool,
        Some(Role::Tool) if !open.is_empty() => Role::Tool,
        Some(_) => Role::Assistant,
    };
    match (role == want, open.first()) {
        (true, _) => Ok(()),
        (false, None) => Err(format!("the {role}'s turn, expected the {want}'s")),
        (false, Some(call)) => {
            Err(format!("the {role}'s turn, expected a tool's with the result of call {call:?}"))
        }
    }
}

/// The ids of the calls; or which call, which field of it, and why.
fn check_calls<'a>(
    calls: &'a [ToolCall],
    names: &BTreeSet<&str>,
) -> Result<Vec<&'a str>, (usize, &'static str, String)> {
    let mut ids: Vec<&str> = Vec::new();
    for (n, ToolCall { id, name, .. }) in calls.iter().enumerate() {
        if id.trim().is_empty() {
            return Err((n, "id", "it is empty".into()));
        }
        if ids.contains(&id.as_str()) {
            return Err((n, "id", format!("{id:?} names another call of this turn already")));
        }
        if !names.contains(name.as_str()) {
            return Err((n, "function.name", format!("{name:?} is not among the row's tools")));
        }
        ids.push(id);
    }
    Ok(ids)
}
