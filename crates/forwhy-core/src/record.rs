//! Data rows as they stand in files: one JSON object a line. [`parse_rows`] reads a whole file or
//! nothing: the first bad line is named with its number and the reason.
//!
//! A row is either a chat (loss on the assistant's turns) or a document (loss on all tokens). Its
//! tags say what distance from an evaluation is computed from.
//!
//! 1. [`openai`] is the form in files;
//! 2. [`turns`] says what a chat with its tools has to be.

mod openai;
mod turns;

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::chat::{Message, Role};
use crate::tool::ToolDefinition;

/// One row of training data. In files, messages and tools have OpenAI's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "openai::RowForm", into = "openai::RowForm")]
pub struct Row {
    /// Unique within its file.
    pub id: String,
    /// A chat; or absent, if the row is a document.
    pub messages: Vec<Message>,
    /// What the assistant may call in the chat.
    pub tools: Vec<ToolDefinition>,
    /// A document; or absent, if the row is a chat.
    pub text: Option<String>,
    /// What kind of row this is.
    pub tags: Tags,
    /// Where it comes from.
    pub source: String,
}

/// What a row is about, for the distance between data and evaluations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tags {
    /// Who faces the dilemma: `ai`, `user`, `third-party` or `nobody`.
    pub who: Who,
    /// Whether the row shows tools or acts.
    pub tools: bool,
    /// `chat` or `document`.
    pub format: Format,
    /// The kind of harm at stake (a kind's id, a family such as `deception`), or `none`.
    pub harm: String,
    /// The trade or field of life.
    pub domain: String,
}

/// Who faces the dilemma of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// The AI itself.
    Ai,
    /// The user who asks.
    User,
    /// Somebody told about.
    ThirdParty,
    /// There is no dilemma.
    Nobody,
}

/// Shape of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Turns with roles.
    Chat,
    /// Running text.
    Document,
}

impl Row {
    /// The texts a model learns to write: the words of the assistant's turns, or the document.
    pub fn answers(&self) -> impl Iterator<Item = &str> {
        self.said_by(true).filter(|text| !text.is_empty())
    }

    /// The texts a model only reads: system and user turns, results of tools.
    pub fn prompts(&self) -> impl Iterator<Item = &str> {
        self.said_by(false).filter(|_| self.text.is_none())
    }

    fn said_by(&self, assistant: bool) -> impl Iterator<Item = &str> {
        let turns = self.messages.iter();
        turns
            .filter(move |m| (m.role == Role::Assistant) == assistant)
            .map(|m| m.content.as_str())
            .chain(self.text.as_deref())
    }

    /// Every text in it, each once: words, thoughts, the texts in arguments of calls and in definitions
    /// of tools (without the quotes and escapes of JSON).
    pub fn texts(&self) -> Vec<Cow<'_, str>> {
        let mut texts: Vec<Cow<'_, str>> = Vec::new();
        for message in &self.messages {
            texts.push(message.content.as_str().into());
            texts.extend(message.reasoning.as_deref().map(Cow::from));
            for call in &message.tool_calls {
                texts.push(call.name.as_str().into());
                match serde_json::from_str(&call.arguments) {
                    Ok(arguments) => inner_texts(&arguments, &mut texts),
                    Err(_) => texts.push(call.arguments.as_str().into()),
                }
            }
        }
        for tool in &self.tools {
            texts.extend([tool.name.as_str().into(), tool.description.as_str().into()]);
            inner_texts(&tool.parameters, &mut texts);
        }
        texts.extend(self.text.as_deref().map(Cow::from));
        texts
    }
}

/// Keys and texts of a JSON value.
fn inner_texts(value: &Value, texts: &mut Vec<Cow<'_, str>>) {
    match value {
        Value::String(text) => texts.push(text.clone().into()),
        Value::Array(items) => items.iter().for_each(|item| inner_texts(item, texts)),
        Value::Object(map) => map.iter().for_each(|(key, item)| {
            texts.push(key.clone().into());
            inner_texts(item, texts);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A line that is not a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct RowError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what was expected.
    pub reason: String,
}

/// Longest accepted line: longer ones are an error, not an allocation.
pub const MAX_LINE_BYTES: usize = 8 << 20;

/// All rows of a JSON Lines file, or the first error. An empty file is an error.
pub fn parse_rows(bytes: &[u8]) -> Result<Vec<Row>, RowError> {
    let fail = |line: usize, reason: String| RowError { line, reason };
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(fail(
            1,
            "the file starts with a byte order mark; save it as plain UTF-8".into(),
        ));
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let number = index + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() && number > rows.len() && bytes_end_here(bytes, number) {
            continue;
        }
        let row = parse_row(line).map_err(|reason| fail(number, reason))?;
        if let Some(first) = seen.insert(row.id.clone(), number) {
            return Err(fail(number, format!("id {:?} stands in line {first} already", row.id)));
        }
        rows.push(row);
    }
    if rows.is_empty() {
        return Err(fail(1, "the file holds no row".into()));
    }
    Ok(rows)
}

/// Whether line `number` is the empty piece behind the last line break.
fn bytes_end_here(bytes: &[u8], number: usize) -> bool {
    number == bytes.iter().filter(|b| **b == b'\n').count() + 1
}

fn parse_row(line: &[u8]) -> Result<Row, String> {
    if line.len() > MAX_LINE_BYTES {
        return Err(format!("{} bytes in one line, at most {MAX_LINE_BYTES}", line.len()));
    }
    let text = std::str::from_utf8(line).map_err(|e| format!("not UTF-8: {e}"))?;
    if text.trim().is_empty() {
        return Err("the line is empty".into());
    }
    let form: openai::RowForm =
        serde_json::from_str(text).map_err(|error| place_of_fault(text, &error))?;
    let row = Row::try_from(form)?;
    check_row(&row)?;
    Ok(row)
}

/// What does not fit the form, with its place in the row. Paths cost time, so only a line that has
/// failed is read for one.
fn place_of_fault(text: &str, error: &serde_json::Error) -> String {
    let mut json = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, openai::RowForm>(&mut json) {
        // Text that is no JSON at all has no place but its column.
        Err(found) if error.is_data() && found.path().iter().next().is_some() => found.to_string(),
        _ => error.to_string(),
    }
}

fn check_row(row: &Row) -> Result<(), String> {
    if row.id.trim().is_empty() {
        return Err("id: it is empty".into());
    }
    match (&row.text, row.messages.is_empty()) {
        (None, true) => return Err("neither `messages` nor `text`".into()),
        (Some(_), false) => {
            return Err("both `messages` and `text`: a row is one or the other".into());
        }
        (Some(text), true) if text.trim().is_empty() => return Err("`text` is empty".into()),
        _ => {}
    }
    let shape = if row.text.is_some() { Format::Document } else { Format::Chat };
    if row.tags.format != shape {
        return Err(format!("tags.format is {:?}, the row is a {shape:?}", row.tags.format));
    }
    match (&row.text, row.tools.is_empty()) {
        (None, _) => turns::check(row),
        (Some(_), true) => Ok(()),
        (Some(_), false) => Err("tools: a document has none".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(id: &str) -> String {
        format!(
            r#"{{"id":"{id}","messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":"a"}}],"tags":{{"who":"nobody","tools":false,"format":"chat","harm":"none","domain":"test"}},"source":"test"}}"#
        )
    }

    fn error(text: &str) -> String {
        parse_rows(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_row_round_trips() {
        let rows = parse_rows(format!("{}\r\n{}\n", line("a"), line("b")).as_bytes()).unwrap();
        assert_eq!(rows.len(), 2);
        let again = serde_json::to_string(&rows[0]).unwrap();
        assert_eq!(again, line("a"));
    }

    #[test]
    fn fault_40_bad_data_names_line_and_reason() {
        assert_eq!(
            error(""),
            "line 1: the line is empty".replace("the line is empty", "the file holds no row")
        );
        assert!(error("\u{feff}{}").contains("byte order mark"));
        assert_eq!(
            error(&format!("{}\n{}\n", line("a"), line("a"))),
            "line 2: id \"a\" stands in line 1 already"
        );
        assert!(
            error(&line("a").replace("\"user\"", "\"human\"")).contains("unknown variant `human`")
        );
        assert_eq!(
            error(&line("a").replace("\"q\"", "\" \"")),
            "line 1: messages[0].content: the user's turn is empty"
        );
        assert!(
            error(&format!("{}\n\n{}", line("a"), line("b")))
                .starts_with("line 2: the line is empty")
        );
        assert!(error(&format!("{}\n{{", line("a"))).starts_with("line 2: EOF"));
        assert_eq!(
            error(&line("a").replace("assistant", "user")),
            "line 1: messages[1].role: the user's turn, expected the assistant's"
        );
        assert!(error(&format!("{} x", line("a"))).starts_with("line 1: trailing characters"));
    }

    #[test]
    fn fault_40_other_encodings_and_long_lines_are_refused() {
        let mut latin = line("a").into_bytes();
        latin[8] = 0xe9;
        assert!(parse_rows(&latin).unwrap_err().reason.starts_with("not UTF-8"));
        let long = vec![b'x'; MAX_LINE_BYTES + 1];
        assert!(parse_rows(&long).unwrap_err().reason.contains("bytes in one line"));
    }

    /// A row with a call, its result and an answer.
    fn called() -> Value {
        let mut row: Value = serde_json::from_str(&line("a")).unwrap();
        row["tags"]["tools"] = true.into();
        let parameters = json!({"type": "object", "properties": {"to": {"type": "string"}}});
        let mail = json!({"name": "mail", "description": "Sends.", "parameters": parameters});
        row["tools"] = json!([{"type": "function", "function": mail}]);
        let function = json!({"name": "mail", "arguments": "{\"to\": \"Ms \\\"X\\\"\"}"});
        row["messages"] = json!([
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": null,
             "tool_calls": [{"id": "1", "type": "function", "function": function}]},
            {"role": "tool", "content": "", "tool_call_id": "1"},
            {"role": "assistant", "content": "a"},
        ]);
        row
    }

    /// What is said of the row after a change at `pointer`.
    fn fault(pointer: &str, value: Value) -> String {
        let mut row = called();
        match row.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                match row.pointer_mut(parent).unwrap() {
                    Value::Array(items) => items.push(value),
                    parent => parent[key] = value,
                }
            }
        }
        let said = error(&row.to_string());
        said.strip_prefix("line 1: ").unwrap().to_string()
    }

    #[test]
    fn a_row_with_calls_and_results_round_trips() {
        let rows = parse_rows(called().to_string().as_bytes()).unwrap();
        let call = &rows[0].messages[1].tool_calls[0];
        assert_eq!((call.id.as_str(), call.name.as_str()), ("1", "mail"));
        assert_eq!(rows[0].tools[0].name, "mail");
        let again = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!(again, called());
        // The forms that other tools write.
        let mut other = called();
        let call = &mut other["messages"][1]["tool_calls"][0];
        call["function"]["arguments"] = json!({"to": "Ms \"X\""});
        call.as_object_mut().unwrap().remove("type");
        other["messages"][1]["reasoning_content"] = "hm".into();
        other["messages"][2]["name"] = "mail".into();
        let row = &parse_rows(other.to_string().as_bytes()).unwrap()[0];
        assert_eq!(row.messages[1].tool_calls[0].arguments, r#"{"to":"Ms \"X\""}"#);
        assert_eq!(row.messages[1].reasoning.as_deref(), Some("hm"));
    }

    /// Where in the row, what stands there instead (JSON), and what is said of it.
    const MISFITS: [(&str, &str, &str); 17] = [
        (
            "/messages/1/tool_calls/0/function/name",
            r#""post""#,
            r#"messages[1].tool_calls[0].function.name: "post" is not among the row's tools"#,
        ),
        (
            "/messages/1/tool_calls/0/function/arguments",
            r#""[1]""#,
            r#"messages[1].tool_calls[0].function.arguments: expected the text of a JSON object, got "[1]""#,
        ),
        ("/messages/1/tool_calls/0/id", r#"" ""#, "messages[1].tool_calls[0].id: it is empty"),
        (
            "/messages/2/tool_call_id",
            r#""2""#,
            r#"messages[2].tool_call_id: no call "2" waits for a result"#,
        ),
        (
            "/messages/2/tool_call_id",
            "null",
            "messages[2].tool_call_id: missing: which call does it answer?",
        ),
        (
            "/messages/2/role",
            r#""user""#,
            "messages[2].tool_call_id: only a tool's turn has one, this is the user's",
        ),
        (
            "/messages/2",
            r#"{"role": "user", "content": "q"}"#,
            r#"messages[2].role: the user's turn, expected a tool's with the result of call "1""#,
        ),
        ("/messages/2/name", r#""post""#, r#"messages[2].name: "post", but its call is to "mail""#),
        (
            "/messages/0/name",
            r#""Ann""#,
            "messages[0].name: chat templates do not show it to the model; leave it out",
        ),
        ("/messages/0/content", "null", "messages[0].content: missing; only a call needs none"),
        (
            "/messages/0/reasoning",
            r#""hm""#,
            "messages[0].reasoning: only the assistant thinks, this is the user's turn",
        ),
        ("/messages/3/content", r#""""#, "messages[3].content: the assistant's turn is empty"),
        (
            "/messages/3/role",
            r#""tool""#,
            "messages[3].tool_call_id: missing: which call does it answer?",
        ),
        (
            "/tools/0/function/parameters",
            "[]",
            "tools[0].function.parameters: expected a JSON schema, an object",
        ),
        (
            "/tools/1",
            r#"{"function": {"name": "mail"}}"#,
            r#"tools[1].function.name: "mail" is defined already"#,
        ),
        ("/tags/tools", "false", "tags.tools: false, but the row defines tools"),
        (
            "/messages/4",
            r#"{"role": "user", "content": "q"}"#,
            "messages: the last turn must be the assistant's",
        ),
    ];

    #[test]
    fn fault_40_calls_that_do_not_fit_are_named_by_their_place() {
        for (pointer, value, want) in MISFITS {
            assert_eq!(fault(pointer, serde_json::from_str(value).unwrap()), want);
        }
        let begins = |pointer: &str, value: &str, want: &str| {
            let said = fault(pointer, value.into());
            assert!(said.starts_with(want), "{said}");
        };
        let call = "messages[1].tool_calls[0]";
        let broken = format!("{call}.function.arguments: expected the text of a JSON object");
        begins("/messages/1/tool_calls/0/function/arguments", "{\"to\": ", &broken);
        let kind = format!("{call}.type: unknown variant `code`");
        begins("/messages/1/tool_calls/0/type", "code", &kind);
        let index = format!("{call}.index: unknown field `index`");
        begins("/messages/1/tool_calls/0/index", "0", &index);
        begins("/messages/1/weight", "0", "messages[1].weight: unknown field `weight`");
    }

    #[test]
    fn texts_in_calls_results_and_definitions_are_among_the_texts() {
        let row = &parse_rows(called().to_string().as_bytes()).unwrap()[0];
        let texts = row.texts();
        for text in ["q", "Ms \"X\"", "Sends.", "a", "mail", "to"] {
            assert!(texts.iter().any(|t| t == text), "{text}");
        }
        assert_eq!(row.answers().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn answers_and_prompts_are_told_apart() {
        let row = &parse_rows(line("a").as_bytes()).unwrap()[0];
        assert_eq!(row.answers().collect::<Vec<_>>(), ["a"]);
        assert_eq!(row.prompts().collect::<Vec<_>>(), ["q"]);
    }
}
