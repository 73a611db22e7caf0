use super::super::{BpeParts, PreTokenizer};
use super::*;
use crate::calls::CallFormat;
use forwhy_core::chat::Role;
use forwhy_core::tool::ToolCall;
use proptest::prelude::*;
use serde_json::json;

/// A family's own template, its control tokens (the last ends a turn), and what opens a turn.
struct Family {
    template: &'static str,
    control: &'static [&'static str],
    opens: &'static [&'static str],
    tools: bool,
    thinks: bool,
    speaks_beside_calls: bool,
}

const QWEN2: Family = Family {
    template: include_str!("../../scripts/templates/qwen2.5.jinja"),
    control: &["<|im_start|>", "<|im_end|>"],
    opens: &["<|im_start|>assistant\n"],
    tools: true,
    thinks: false,
    speaks_beside_calls: true,
};
const QWEN3: Family =
    Family { template: include_str!("../../scripts/templates/qwen3.jinja"), thinks: true, ..QWEN2 };
const LLAMA3: Family = Family {
    template: include_str!("../../scripts/templates/llama3.jinja"),
    control: &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    opens: &["<|start_header_id|>assistant<|end_header_id|>\n\n"],
    tools: true,
    thinks: false,
    speaks_beside_calls: false,
};
const MISTRAL: Family = Family {
    template: include_str!("../../scripts/templates/mistral.jinja"),
    control: &["[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "</s>"],
    opens: &["[/INST]", "[/TOOL_RESULTS]"],
    ..LLAMA3
};
const LLAMA2: Family = Family {
    template: include_str!("../../scripts/templates/llama2.jinja"),
    control: &["</s>"],
    opens: &["[/INST]"],
    tools: false,
    ..LLAMA3
};
const SMOLLM2: Family = Family {
    template: include_str!("../../scripts/templates/smollm2.jinja"),
    tools: false,
    ..QWEN2
};
const FAMILIES: [Family; 6] = [QWEN2, QWEN3, LLAMA3, MISTRAL, LLAMA2, SMOLLM2];

impl Family {
    fn tools(&self) -> Vec<ToolDefinition> {
        if self.tools { look() } else { Vec::new() }
    }
}

fn tokenizer(template: &str, control: &[&str]) -> ChatTokenizer {
    let mut vocab: Vec<String> = control.iter().map(|t| t.to_string()).collect();
    let end_of_turn = vocab.len() as u32 - 1;
    let control = (0..=end_of_turn).collect();
    vocab.extend(('!'..='~').map(String::from));
    vocab.extend(["Ġ", "Ċ", "ĊĊ", "Ġa"].map(String::from));
    let merges = ["Ċ Ċ", "Ġ a"].map(String::from).to_vec();
    let (pre, template) = (PreTokenizer::SmolLm, template.into());
    let (whole, pad, begin, unknown) = (Vec::new(), end_of_turn, None, None);
    ChatTokenizer::from_bpe(BpeParts {
        vocab,
        merges,
        pre,
        control,
        whole,
        end_of_turn,
        pad,
        begin,
        unknown,
        template,
    })
    .unwrap()
}

fn of(family: &Family) -> ChatTokenizer {
    tokenizer(family.template, family.control)
}

fn look() -> Vec<ToolDefinition> {
    let parameters = json!({"type": "object", "properties": {"at": {"type": "string"}}});
    vec![ToolDefinition { name: "look".into(), description: "Looks.".into(), parameters }]
}

fn thinking(thoughts: &str, mut turn: Message) -> Message {
    turn.reasoning = Some(thoughts.into());
    turn
}

fn calling(text: &str, at: &str) -> Message {
    let (id, name) = ("a1b2c3d4e".to_string(), "look".to_string());
    let arguments = json!({"at": at}).to_string();
    let tool_calls = vec![ToolCall { id, name, arguments }];
    Message { tool_calls, ..Message::assistant(text) }
}

/// The texts of sequences, what is trained between `⟦` and `⟧`.
fn shown(t: &ChatTokenizer, sequences: &[Rendered]) -> Vec<String> {
    let show = |s: &Rendered| -> String {
        let pairs: Vec<(u32, bool)> =
            s.ids.iter().copied().zip(s.trained.iter().copied()).collect();
        let pieces = pairs.chunk_by(|a, b| a.1 == b.1).map(|piece| {
            let text = t.decode(&piece.iter().map(|p| p.0).collect::<Vec<_>>());
            if piece[0].1 { format!("⟦{text}⟧") } else { text }
        });
        pieces.collect()
    };
    sequences.iter().map(show).collect()
}

#[test]
fn a_single_turn_of_qwen3_has_the_empty_thoughts_that_the_model_writes() {
    let t = of(&QWEN3);
    let chat = [Message::user("q"), Message::assistant("a")];
    let shown = shown(&t, &t.training_sequences(&chat, &[]).unwrap());
    let want = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n⟦<think>\n\n</think>\n\na<|im_end|>⟧";
    assert_eq!(shown, [want]);
}

#[test]
fn turns_whose_thoughts_are_taken_out_later_are_trained_with_them_each_behind_its_own_prompt() {
    let t = of(&QWEN3);
    let chat = [
        Message::user("q"),
        thinking("hm", Message::assistant("a")),
        Message::user("r"),
        thinking("ha", Message::assistant("b")),
    ];
    let first = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(
        shown(&t, &t.training_sequences(&chat, &[]).unwrap()),
        [
            format!("{first}⟦<think>\nhm\n</think>\n\na<|im_end|>⟧"),
            format!(
                "{first}a<|im_end|>\n<|im_start|>user\nr<|im_end|>\n<|im_start|>assistant\n\
                 ⟦<think>\nha\n</think>\n\nb<|im_end|>⟧"
            ),
        ]
    );
}

#[test]
fn a_system_text_that_wanders_with_the_last_question_stands_where_each_request_has_it() {
    let t = of(&MISTRAL);
    let chat = [
        Message::system("S"),
        Message::user("q"),
        Message::assistant("a"),
        Message::user("r"),
        Message::assistant("b"),
    ];
    assert_eq!(
        shown(&t, &t.training_sequences(&chat, &[]).unwrap()),
        ["[INST] S\n\nq[/INST]⟦ a</s>⟧", "[INST] q[/INST] a</s>[INST] S\n\nr[/INST]⟦ b</s>⟧"]
    );
}

#[test]
fn a_chain_of_calls_with_its_thoughts_stays_one_sequence_up_to_the_next_question() {
    let t = of(&QWEN3);
    let chat = [
        Message::user("q"),
        thinking("one", calling("", "x")),
        Message::tool_result("a1b2c3d4e", "found"),
        thinking("two", Message::assistant("a")),
        Message::user("r"),
        Message::assistant("b"),
    ];
    let shown = shown(&t, &t.training_sequences(&chat, &look()).unwrap());
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert_eq!(shown[0].matches('⟦').count(), 2);
    assert!(shown[0].contains("⟦<think>\none\n</think>\n\n<tool_call>\n{\"name\": \"look\""));
    assert!(!shown[1].contains("\none\n"), "{}", shown[1]);
    assert!(shown[1].ends_with("assistant\n⟦<think>\n\n</think>\n\nb<|im_end|>⟧"));
}

#[test]
fn what_a_template_leaves_out_is_refused_by_its_place() {
    let refused = |family: &Family, chat: &[Message]| {
        of(family).training_sequences(chat, &look()).unwrap_err().to_string()
    };
    let with = |turn: Message| [Message::user("q"), turn];
    let said = refused(&LLAMA3, &with(calling("I look.", "x")));
    assert!(said.contains("the text of messages[1] (assistant) beside its tool calls"), "{said}");
    let said = refused(&MISTRAL, &with(thinking("hm", Message::assistant("a"))));
    assert!(said.contains("the thoughts of messages[1] (assistant)"), "{said}");
    let plain = "{% for m in messages %}{{ m.role + m.content }}<end>{% endfor %}\
        {% if add_generation_prompt %}assistant{% endif %}";
    let family = Family { template: plain, control: &["<end>"], ..QWEN2 };
    let said = refused(&family, &with(Message::assistant("a")));
    assert!(said.contains("does not write the definition of the tool \"look\""), "{said}");
    let deaf = plain.replacen("m.content", "('' if m.role == 'tool' else m.content)", 1);
    let calls = "{{ tools | tojson if tools }}{% for m in messages %}\
        {{ m.tool_calls | tojson if m.tool_calls }}{% endfor %}";
    let result = Message::tool_result("a1b2c3d4e", "found");
    let chat = [Message::user("q"), calling("", "x"), result, Message::assistant("a")];
    let t = tokenizer(&format!("{calls}{deaf}"), &["<end>"]);
    let said = t.training_sequences(&chat, &look()).unwrap_err().to_string();
    assert!(said.contains("the text of messages[2] (tool)"), "{said}");
    let mute = tokenizer(&format!("{{{{ tools | tojson if tools }}}}{plain}"), &["<end>"]);
    let said = mute.training_sequences(&chat, &look()).unwrap_err().to_string();
    assert!(said.contains("the name of messages[1].tool_calls[0]"), "{said}");
}

#[test]
fn a_turn_that_does_not_follow_its_prompt_is_refused() {
    let changing = "{% for m in messages %}{{ m.content }}<end>{% endfor %}\
        {% if add_generation_prompt %}GO{% endif %}";
    let t = tokenizer(changing, &["<end>"]);
    let chat = [Message::user("q"), Message::assistant("a")];
    let error = t.training_sequences(&chat, &[]).unwrap_err();
    let SequenceError::Tokenizer(TokenizerError::NotPrefix { turn: 2 }) = error else {
        panic!("{error}");
    };
}

/// What a chat is made of: a system text, and questions with calls and an answer each.
type Texts = (Option<String>, Vec<(String, Vec<[String; 3]>, String)>, bool);

fn texts() -> impl Strategy<Value = Texts> {
    let text = || "[ -;=-~\n]{0,8}|<\\|im_end\\|>|</s>|<\\|eot_id\\|>";
    let call = prop::array::uniform3(text());
    let round = (text(), prop::collection::vec(call, 0..3), text());
    (prop::option::of(text()), prop::collection::vec(round, 1..4), any::<bool>())
}

/// The chat of `texts`, with what the family can write.
fn chat(family: &Family, (system, rounds, thoughts): &Texts) -> Vec<Message> {
    let thoughts = *thoughts && family.thinks;
    let think = |text: &str, turn| if thoughts { thinking(text, turn) } else { turn };
    let mut chat: Vec<Message> = system.iter().map(Message::system).collect();
    for (question, calls, answer) in rounds {
        chat.push(Message::user(question));
        for [beside, at, result] in calls.iter().filter(|_| family.tools) {
            let said = if family.speaks_beside_calls { beside } else { "" };
            chat.push(think(at, calling(said, at)));
            chat.push(Message::tool_result("a1b2c3d4e", result));
        }
        chat.push(think(question, Message::assistant(answer)));
    }
    chat
}

/// What the template writes for the last turn of `chat`: everything behind the last opening of a turn.
fn written(
    t: &ChatTokenizer,
    family: &Family,
    chat: &[Message],
    tools: &[ToolDefinition],
) -> String {
    let text = t.chat_text(chat, tools, false).unwrap();
    let opened = |open: &&str| text.rfind(*open).map(|at| at + open.len());
    let begin = family.opens.iter().filter_map(opened).max().unwrap();
    text[begin..].trim_end_matches('\n').into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_turn_is_trained_once_behind_its_own_prompt_as_the_template_writes_it(texts in texts()) {
        for family in FAMILIES {
            let (t, tools, chat) = (of(&family), family.tools(), chat(&family, &texts));
            let sequences = t.training_sequences(&chat, &tools).unwrap();
            let mut produced: Vec<Vec<bool>> =
                sequences.iter().map(|s| vec![false; s.ids.len()]).collect();
            for turn in (0..chat.len()).filter(|i| chat[*i].role == Role::Assistant) {
                let prompt = t.chat(&chat[..turn], &tools, true).unwrap().ids;
                let own = written(&t, &family, &chat[..=turn], &tools);
                let here = |s: &Rendered| {
                    let rest = s.ids.strip_prefix(&prompt[..])?;
                    let end = rest.iter().position(|id| *id == t.end_of_turn())? + 1;
                    (t.decode(&rest[..end]) == own).then_some(prompt.len()..prompt.len() + end)
                };
                let holders = sequences.iter().enumerate().filter_map(|(i, s)| {
                    here(s).filter(|range| s.trained[range.start]).map(|range| (i, range))
                });
                let holders: Vec<_> = holders.collect();
                prop_assert_eq!(holders.len(), 1, "turn {} of {:?}", turn, shown(&t, &sequences));
                produced[holders[0].0][holders[0].1.clone()].fill(true);
            }
            let trained: Vec<&Vec<bool>> = sequences.iter().map(|s| &s.trained).collect();
            prop_assert_eq!(produced.iter().collect::<Vec<_>>(), trained);
        }
    }

    #[test]
    fn a_chat_that_is_not_rewritten_is_the_sequence_that_it_was_to_the_id(texts in texts()) {
        for family in [QWEN2, LLAMA3, LLAMA2, SMOLLM2] {
            let (t, tools, chat) = (of(&family), family.tools(), chat(&family, &texts));
            let mut whole = t.chat(&chat, &tools, false).unwrap();
            let end = whole.trained.iter().rposition(|t| *t).unwrap() + 1;
            whole.truncate(end);
            prop_assert_eq!(t.training_sequences(&chat, &tools).unwrap(), [whole]);
        }
    }

    #[test]
    fn a_trained_call_is_read_back_as_the_call_that_it_was(at in "[ -~\n]{0,12}") {
        for family in [QWEN2, QWEN3, LLAMA3, MISTRAL] {
            let t = of(&family);
            let chat = [Message::user("q"), calling("", &at)];
            let [sequence] = &t.training_sequences(&chat, &look()).unwrap()[..] else { panic!() };
            let begin = sequence.trained.iter().position(|t| *t).unwrap();
            let reply = &sequence.ids[begin..sequence.ids.len() - 1];
            let format = CallFormat::of_template(family.template).unwrap();
            let calls = format.read(&t.decode(reply), &[1]).calls;
            prop_assert_eq!(calls.len(), 1);
            let arguments: serde_json::Value = serde_json::from_str(&calls[0].arguments).unwrap();
            prop_assert_eq!((calls[0].name.as_str(), arguments), ("look", json!({"at": at})));
        }
    }
}
