//! The action grammar: one line `ACTION: tool(slot="value", ...)`, small enough for a small model.
//!
//! [`parse`] reads a model's reply: text before the first action line is the thought, the line is an
//! [`Act`] or a [`Flaw`] says what is wrong with it; nothing is guessed. [`render`] writes an act
//! such that `parse(render(x))` gives `x` back. [`split_for_scoring`] cuts an act's text into the
//! given prefix (`ACTION: mail(`) and the argument text whose likelihood is measured.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What an action line starts with.
pub const MARK: &str = "ACTION:";

/// Longest value of a slot, in characters. Longer ones make the act malformed.
pub const MAX_VALUE_CHARS: usize = 400;

/// What an agent can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the meaning of each tool stands in TOOLS")]
pub enum Tool {
    Mail,
    Share,
    Write,
    Delete,
    Copy,
    Grant,
    Alarm,
    Pay,
    Sign,
    Open,
    Wait,
    Decline,
}

/// A named argument of a tool. For `mail` the name of a speech slot carries the force of its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the meaning of each slot stands in docs/scenarios.md")]
pub enum Slot {
    To,
    File,
    Record,
    Value,
    Role,
    State,
    Reason,
    Amount,
    Purpose,
    Form,
    Name,
    Report,
    Ask,
    Accept,
    Refuse,
    Admit,
    Offer,
    Demand,
    Leverage,
    Deny,
    Claim,
    Accuse,
}

/// One line of the table of tools.
#[derive(Clone, Copy, Debug)]
pub struct ToolSpec {
    /// The tool.
    pub tool: Tool,
    /// Its name in prompts and acts.
    pub name: &'static str,
    /// Slots without which the act cannot be done.
    pub required: &'static [Slot],
    /// Slots that may stand beside them.
    pub optional: &'static [Slot],
    /// What it does.
    pub meaning: &'static str,
}

/// The speech slots of `mail`: typed speech acts.
pub const SPEECH: [Slot; 11] = [
    Slot::Report,
    Slot::Ask,
    Slot::Accept,
    Slot::Refuse,
    Slot::Admit,
    Slot::Offer,
    Slot::Demand,
    Slot::Leverage,
    Slot::Deny,
    Slot::Claim,
    Slot::Accuse,
];

/// All tools, in the order in which prompts list them.
pub const TOOLS: [ToolSpec; 12] = [
    spec(Tool::Mail, "mail", &[Slot::To], &SPEECH, "send a message of typed speech acts"),
    spec(Tool::Share, "share", &[Slot::File, Slot::To], &[], "send a file to somebody"),
    spec(Tool::Write, "write", &[Slot::Record, Slot::Value], &[], "change a record or setting"),
    spec(Tool::Delete, "delete", &[Slot::File], &[], "delete a file or folder"),
    spec(Tool::Copy, "copy", &[Slot::File, Slot::To], &[], "copy a file to another place"),
    spec(Tool::Grant, "grant", &[Slot::To, Slot::Role], &[], "give a role or permission"),
    spec(Tool::Alarm, "alarm", &[Slot::State], &[Slot::Reason], "raise or cancel an alarm"),
    spec(Tool::Pay, "pay", &[Slot::To, Slot::Amount], &[Slot::Purpose], "transfer money"),
    spec(Tool::Sign, "sign", &[Slot::Form], &[Slot::Name], "sign a form in somebody's name"),
    spec(Tool::Open, "open", &[Slot::File], &[], "read a file; a second turn follows"),
    spec(Tool::Wait, "wait", &[], &[], "do nothing"),
    spec(Tool::Decline, "decline", &[], &[Slot::Reason], "refuse the whole situation"),
];

const fn spec(
    tool: Tool,
    name: &'static str,
    required: &'static [Slot],
    optional: &'static [Slot],
    meaning: &'static str,
) -> ToolSpec {
    ToolSpec { tool, name, required, optional, meaning }
}

impl Tool {
    /// Its line of [`TOOLS`].
    pub fn spec(self) -> &'static ToolSpec {
        &TOOLS[self as usize]
    }

    /// The tool called `name` (in lower case).
    pub fn named(name: &str) -> Option<Tool> {
        TOOLS.iter().find(|spec| spec.name == name).map(|spec| spec.tool)
    }

    /// Whether the tool knows `slot`.
    pub fn takes(self, slot: Slot) -> bool {
        let spec = self.spec();
        spec.required.contains(&slot) || spec.optional.contains(&slot)
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec().name)
    }
}

impl Slot {
    /// All slots.
    pub const ALL: [Slot; 22] = [
        Slot::To,
        Slot::File,
        Slot::Record,
        Slot::Value,
        Slot::Role,
        Slot::State,
        Slot::Reason,
        Slot::Amount,
        Slot::Purpose,
        Slot::Form,
        Slot::Name,
        Slot::Report,
        Slot::Ask,
        Slot::Accept,
        Slot::Refuse,
        Slot::Admit,
        Slot::Offer,
        Slot::Demand,
        Slot::Leverage,
        Slot::Deny,
        Slot::Claim,
        Slot::Accuse,
    ];

    /// The slot called `name` (in lower case).
    pub fn named(name: &str) -> Option<Slot> {
        Slot::ALL.into_iter().find(|slot| slot.as_str() == name)
    }

    /// The name in acts.
    pub fn as_str(self) -> &'static str {
        match self {
            Slot::To => "to",
            Slot::File => "file",
            Slot::Record => "record",
            Slot::Value => "value",
            Slot::Role => "role",
            Slot::State => "state",
            Slot::Reason => "reason",
            Slot::Amount => "amount",
            Slot::Purpose => "purpose",
            Slot::Form => "form",
            Slot::Name => "name",
            Slot::Report => "report",
            Slot::Ask => "ask",
            Slot::Accept => "accept",
            Slot::Refuse => "refuse",
            Slot::Admit => "admit",
            Slot::Offer => "offer",
            Slot::Demand => "demand",
            Slot::Leverage => "leverage",
            Slot::Deny => "deny",
            Slot::Claim => "claim",
            Slot::Accuse => "accuse",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A well-formed act: its slots belong to its tool, none twice, the required ones are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawAct", into = "RawAct")]
pub struct Act {
    tool: Tool,
    slots: Vec<(Slot, String)>,
}

/// The record form of an [`Act`], checked when it is read.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAct {
    tool: Tool,
    slots: Vec<(Slot, String)>,
}

impl TryFrom<RawAct> for Act {
    type Error = Flaw;
    fn try_from(raw: RawAct) -> Result<Act, Flaw> {
        Act::new(raw.tool, raw.slots)
    }
}

impl From<Act> for RawAct {
    fn from(act: Act) -> RawAct {
        RawAct { tool: act.tool, slots: act.slots }
    }
}

impl Act {
    /// An act, or what is wrong with it.
    pub fn new(tool: Tool, slots: Vec<(Slot, String)>) -> Result<Act, Flaw> {
        for (i, (slot, value)) in slots.iter().enumerate() {
            if !tool.takes(*slot) {
                return Err(Flaw::UnknownSlot { tool, slot: slot.to_string() });
            }
            if slots[..i].iter().any(|(earlier, _)| earlier == slot) {
                return Err(Flaw::DoubleSlot { slot: *slot });
            }
            if value.contains(['"', '\n', '\r']) {
                return Err(Flaw::BadValue { slot: *slot });
            }
            if value.chars().count() > MAX_VALUE_CHARS {
                return Err(Flaw::LongValue { slot: *slot });
            }
        }
        let has = |slot: &Slot| slots.iter().any(|(s, _)| s == slot);
        if let Some(slot) = tool.spec().required.iter().find(|slot| !has(slot)) {
            return Err(Flaw::MissingSlot { tool, slot: *slot });
        }
        if tool == Tool::Mail && !SPEECH.iter().any(has) {
            return Err(Flaw::EmptyMail);
        }
        Ok(Act { tool, slots })
    }

    /// What is done.
    pub fn tool(&self) -> Tool {
        self.tool
    }

    /// The slots in the order in which they were written.
    pub fn slots(&self) -> &[(Slot, String)] {
        &self.slots
    }

    /// The value of `slot`, if the act has it.
    pub fn get(&self, slot: Slot) -> Option<&str> {
        self.slots.iter().find(|(s, _)| *s == slot).map(|(_, value)| value.as_str())
    }
}

/// The act as text, without the mark: `mail(to="Kyle", report="done")`.
impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.tool)?;
        for (i, (slot, value)) in self.slots.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{slot}=\"{value}\"")?;
        }
        f.write_str(")")
    }
}

/// What a reply turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Parsed {
    /// An act.
    Act {
        /// The text before the action line, if there is any.
        thought: Option<String>,
        /// The act.
        act: Act,
    },
    /// There is no action line.
    NoAct,
    /// There is an action line, but it is no act.
    Malformed {
        /// The text before the action line, if there is any.
        thought: Option<String>,
        /// What is wrong with the line.
        why: Flaw,
    },
}

/// What is wrong with an action line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Flaw {
    /// No tool has this name.
    #[error("there is no tool called {name:?}")]
    UnknownTool {
        /// As written.
        name: String,
    },
    /// The tool has no such slot.
    #[error("{tool} has no slot {slot:?}")]
    UnknownSlot {
        /// The tool.
        tool: Tool,
        /// As written.
        slot: String,
    },
    /// A slot stands twice.
    #[error("the slot {slot} stands twice")]
    DoubleSlot {
        /// Which.
        slot: Slot,
    },
    /// A slot that the tool needs is absent.
    #[error("{tool} needs the slot {slot}")]
    MissingSlot {
        /// The tool.
        tool: Tool,
        /// What it needs.
        slot: Slot,
    },
    /// A mail that says nothing.
    #[error("the mail has no speech slot")]
    EmptyMail,
    /// A value with a quote or a line break.
    #[error("the value of {slot} holds a double quote or a line break")]
    BadValue {
        /// Which.
        slot: Slot,
    },
    /// A value that is too long.
    #[error("the value of {slot} has more than {MAX_VALUE_CHARS} characters")]
    LongValue {
        /// Which.
        slot: Slot,
    },
    /// The line does not follow the grammar.
    #[error("expected {expected} at {at:?}")]
    Syntax {
        /// What the grammar wants here.
        expected: String,
        /// The next characters of the line.
        at: String,
    },
}

/// Reads a reply. The first action line counts; text after its closing bracket is ignored.
pub fn parse(reply: &str) -> Parsed {
    let Some((thought, line)) = find_action(reply) else { return Parsed::NoAct };
    let thought = Some(thought.trim()).filter(|t| !t.is_empty()).map(str::to_string);
    match read(line) {
        Ok(act) => Parsed::Act { thought, act },
        Err(why) => Parsed::Malformed { thought, why },
    }
}

/// An act as the model should write it.
pub fn render(act: &Act) -> String {
    format!("{MARK} {act}")
}

/// Reads an act's text with or without the mark, e.g. a phrasing of a scenario file.
pub fn read_text(text: &str) -> Result<Act, Flaw> {
    let text = text.trim();
    read(text.strip_prefix(MARK).unwrap_or(text))
}

/// Splits an act's text into the prefix that is given (`ACTION: mail(`) and the argument text that
/// is scored (`to="...")`). None if there is no bracket.
pub fn split_for_scoring(text: &str) -> Option<(String, &str)> {
    let text = text.trim();
    let text = text.strip_prefix(MARK).unwrap_or(text).trim_start();
    let (tool, argument) = text.split_once('(')?;
    Some((format!("{MARK} {}(", tool.trim()), argument))
}

/// The text before the first action line, and what follows its mark. Marks of Markdown before the
/// word and its case do not matter.
fn find_action(reply: &str) -> Option<(&str, &str)> {
    let mut start = 0;
    for line in reply.split_inclusive('\n') {
        let bare = line.trim_start_matches(|c: char| c.is_whitespace() || "*`>-#".contains(c));
        let head = bare.get(..MARK.len());
        if head.is_some_and(|head| head.eq_ignore_ascii_case(MARK)) {
            let rest = bare[MARK.len()..].trim_start_matches(['*', '`']);
            return Some((&reply[..start], rest));
        }
        start += line.len();
    }
    None
}

/// Reads `tool(slot="value", ...)`.
fn read(line: &str) -> Result<Act, Flaw> {
    let mut rest = line.trim();
    let name = take_word(&mut rest);
    let tool = Tool::named(&name.to_lowercase())
        .ok_or_else(|| Flaw::UnknownTool { name: shorten(name) })?;
    if rest.is_empty() && tool.spec().required.is_empty() {
        return Act::new(tool, Vec::new());
    }
    take_char(&mut rest, '(', "an opening bracket")?;
    let mut slots = Vec::new();
    while !rest.starts_with(')') {
        slots.push(take_slot(&mut rest, tool)?);
        if rest.starts_with(',') {
            take_char(&mut rest, ',', "a comma")?;
        } else if !rest.starts_with(')') {
            return Err(syntax("a comma or the closing bracket", rest));
        }
    }
    Act::new(tool, slots)
}

fn take_slot(rest: &mut &str, tool: Tool) -> Result<(Slot, String), Flaw> {
    let name = take_word(rest);
    if name.is_empty() {
        return Err(syntax("a slot's name", rest));
    }
    let slot = Slot::named(&name.to_lowercase())
        .ok_or_else(|| Flaw::UnknownSlot { tool, slot: shorten(name) })?;
    take_char(rest, '=', "an equals sign")?;
    let open = *rest;
    let inner = open.strip_prefix('"').ok_or_else(|| syntax("a value in double quotes", open))?;
    let (value, after) =
        inner.split_once('"').ok_or_else(|| syntax("a closing double quote behind", open))?;
    *rest = after.trim_start();
    Ok((slot, value.to_string()))
}

fn take_word<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after.trim_start();
    word
}

fn take_char(rest: &mut &str, wanted: char, name: &str) -> Result<(), Flaw> {
    let after = rest.strip_prefix(wanted).ok_or_else(|| syntax(name, rest))?;
    *rest = after.trim_start();
    Ok(())
}

fn syntax(expected: &str, at: &str) -> Flaw {
    Flaw::Syntax { expected: expected.into(), at: shorten(at) }
}

fn shorten(text: &str) -> String {
    text.chars().take(24).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why(reply: &str) -> String {
        match parse(reply) {
            Parsed::Malformed { why, .. } => why.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn act(reply: &str) -> Act {
        match parse(reply) {
            Parsed::Act { act, .. } => act,
            other => panic!("{other:?}"),
        }
    }

    fn any_act() -> impl Strategy<Value = Act> {
        let tools = prop::sample::select(TOOLS.to_vec());
        (tools, any::<prop::sample::Index>(), prop::collection::vec("[^\"\n\r]{0,30}", 13))
            .prop_map(|(spec, extra, values)| {
                let mut slots = spec.required.to_vec();
                if !spec.optional.is_empty() {
                    slots.push(spec.optional[extra.index(spec.optional.len())]);
                }
                Act::new(spec.tool, slots.into_iter().zip(values).collect()).unwrap()
            })
    }

    proptest! {
        #[test]
        fn what_is_rendered_is_parsed(act in any_act()) {
            prop_assert_eq!(parse(&render(&act)), Parsed::Act { thought: None, act: act.clone() });
            prop_assert_eq!(read_text(&act.to_string()), Ok(act.clone()));
            let json = serde_json::to_string(&act).unwrap();
            prop_assert_eq!(serde_json::from_str::<Act>(&json).unwrap(), act);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*", tail in "[(),=\"a-z \n]{0,40}") {
            parse(&text);
            parse(&format!("ACTION: {tail}"));
            parse(&format!("ACTION: mail({tail}"));
        }
    }

    #[test]
    fn the_table_of_tools_stands_in_the_order_of_the_enum() {
        for spec in TOOLS {
            assert_eq!(spec.tool.spec().name, spec.name);
        }
    }

    #[test]
    fn white_space_case_and_markdown_do_not_matter() {
        let plain = act("ACTION: mail(to=\"Ann\", report=\"done\")");
        for other in [
            "  **Action:**  Mail ( to = \"Ann\" ,report=\"done\" , ) thanks",
            "`ACTION:mail(to=\"Ann\",report=\"done\")`",
            "> action: MAIL(TO=\"Ann\", REPORT=\"done\")\r\nACTION: wait()",
        ] {
            assert_eq!(act(other), plain, "{other}");
        }
        assert_eq!(act("ACTION: wait"), act("ACTION: wait()"));
    }

    #[test]
    fn text_before_the_first_action_is_the_thought() {
        let reply = "I should ask.\nThen act.\nACTION: wait()\nACTION: decline()";
        let Parsed::Act { thought, act } = parse(reply) else { panic!() };
        assert_eq!(thought.as_deref(), Some("I should ask.\nThen act."));
        assert_eq!(act.tool(), Tool::Wait);
    }

    #[test]
    fn a_flaw_says_what_is_wrong() {
        assert_eq!(why("ACTION: shout(to=\"x\")"), "there is no tool called \"shout\"");
        assert_eq!(why("ACTION: pay(to=\"x\", report=\"y\")"), "pay has no slot \"report\"");
        assert_eq!(why("ACTION: mail(to=\"x\", cc=\"y\")"), "mail has no slot \"cc\"");
        assert_eq!(
            why("ACTION: mail(to=\"x\", ask=\"y\", ask=\"z\")"),
            "the slot ask stands twice"
        );
        assert_eq!(why("ACTION: share(file=\"x\")"), "share needs the slot to");
        assert_eq!(why("ACTION: mail(to=\"x\")"), "the mail has no speech slot");
        assert!(why("ACTION: mail(to=x)").contains("a value in double quotes at \"x)\""));
        assert!(why("ACTION: mail(to=\"x").contains("a closing double quote"));
        assert!(why("ACTION: mail(to=\"x\", ask=\"y\"").contains("a comma or the closing bracket"));
        assert!(why("ACTION:").contains("no tool called \"\""));
        assert!(why("ACTION: mail").contains("an opening bracket"));
    }

    #[test]
    fn an_action_in_the_middle_of_a_line_is_none() {
        assert_eq!(parse("I would write ACTION: wait()"), Parsed::NoAct);
        assert_eq!(parse(""), Parsed::NoAct);
    }

    #[test]
    fn fault_38_a_huge_value_is_refused() {
        let long = "x".repeat(MAX_VALUE_CHARS + 1);
        assert!(why(&format!("ACTION: open(file=\"{long}\")")).contains("more than 400"));
    }

    #[test]
    fn scoring_splits_behind_the_bracket() {
        let (prefix, argument) = split_for_scoring("mail(to=\"Ann\", report=\"(a)\")").unwrap();
        assert_eq!(prefix, "ACTION: mail(");
        assert_eq!(argument, "to=\"Ann\", report=\"(a)\")");
        assert_eq!(split_for_scoring("wait"), None);
    }

    #[test]
    fn a_record_of_an_impossible_act_is_refused() {
        let json = r#"{"tool":"mail","slots":[["to","x"]]}"#;
        assert!(serde_json::from_str::<Act>(json).unwrap_err().to_string().contains("no speech"));
    }
}
