//! What of a chat a template would leave out, so that nobody trains on less than stands in the data.
//!
//! Templates drop things in silence: definitions of tools, words beside a call, thoughts. A part is
//! written if another text in its place gives another rendering. Each is looked for where it counts:
//! what is read in the prompt of the next assistant's turn, what is said at the end of its own turn.

use forwhy_core::chat::Role;
use serde_json::{Value as Json, json};

use super::{RenderError, Template, Turns};

/// Put beside a text to see whether the rendering changes; no template trims or parses it away.
const OTHER: &str = "x";

impl Template {
    /// The first part of `chat` that no training sequence would hold, in words.
    pub fn unwritten(&self, chat: &Turns) -> Result<Option<String>, RenderError> {
        let mut from = 0;
        for index in chat.assistant() {
            let read = Written::new(self, chat.first(index), true)?;
            let tools = if from == 0 { chat.tools.len() } else { 0 };
            let missing = (0..tools).find_map(|tool| read.lacks_tool(tool));
            let missing = missing.or_else(|| (from..index).find_map(|i| read.lacks_content(i)));
            if missing.is_some() {
                return Ok(missing);
            }
            let said = Written::new(self, chat.first(index + 1), false)?;
            if let Some(missing) = said.lacks_of_turn(index) {
                return Ok(Some(missing));
            }
            from = index + 1;
        }
        Ok(None)
    }
}

/// A rendering with what it is of.
struct Written<'a> {
    template: &'a Template,
    chat: Turns,
    prompt: bool,
    text: String,
}

impl<'a> Written<'a> {
    fn new(template: &'a Template, chat: Turns, prompt: bool) -> Result<Self, RenderError> {
        let text = template.render(&chat, prompt)?;
        Ok(Written { template, chat, prompt, text })
    }

    /// Whether the rendering stays the same under a change. A template that refuses the changed chat
    /// has looked at it.
    fn ignores(&self, change: impl FnOnce(&mut Turns)) -> bool {
        let mut other = self.chat.clone();
        change(&mut other);
        self.template.render(&other, self.prompt).is_ok_and(|text| text == self.text)
    }

    fn lacks_tool(&self, tool: usize) -> Option<String> {
        let name = &self.chat.tools[tool]["function"]["name"];
        let ignored = self.ignores(|c| extend(&mut c.tools[tool]["function"]["name"]));
        ignored.then(|| format!("the definition of the tool {name}"))
    }

    fn lacks_content(&self, index: usize) -> Option<String> {
        let message = &self.chat.messages[index];
        let role = message["role"].as_str().unwrap_or_default();
        let beside = match message.get("tool_calls") {
            Some(_) => " beside its tool calls",
            None => "",
        };
        let what = || format!("the text of messages[{index}] ({role}){beside}");
        self.lacks(index, "content").then(what)
    }

    /// Words, thoughts and calls of the assistant's turn.
    fn lacks_of_turn(&self, index: usize) -> Option<String> {
        let thoughts = || {
            let what = || format!("the thoughts of messages[{index}] ({})", Role::Assistant);
            self.lacks(index, "reasoning_content").then(what)
        };
        let calls = self.chat.messages[index]["tool_calls"].as_array().map_or(0, Vec::len);
        let of_calls = || (0..calls).find_map(|call| self.lacks_call(index, call));
        self.lacks_content(index).or_else(thoughts).or_else(of_calls)
    }

    fn lacks_call(&self, index: usize, call: usize) -> Option<String> {
        let name = self.ignores(|c| extend(&mut function(c, index, call)["name"]));
        let arguments = self.ignores(|c| {
            let arguments = &mut function(c, index, call)["arguments"];
            *arguments = json!({OTHER: arguments.take()});
        });
        let missing = match (name, arguments) {
            (true, _) => "the name",
            (_, true) => "the arguments",
            _ => return None,
        };
        Some(format!("{missing} of messages[{index}].tool_calls[{call}]"))
    }

    /// Whether a text of a message is there and makes no difference.
    fn lacks(&self, index: usize, key: &str) -> bool {
        let given = self.chat.messages[index][key].as_str().unwrap_or_default();
        !given.trim().is_empty() && self.ignores(|c| extend(&mut c.messages[index][key]))
    }
}

fn function(chat: &mut Turns, index: usize, call: usize) -> &mut Json {
    &mut chat.messages[index]["tool_calls"][call]["function"]
}

fn extend(text: &mut Json) {
    *text = Json::from(format!("{OTHER}{}{OTHER}", text.as_str().unwrap_or_default()));
}
