//! Sentencepiece tokenizers in all the forms of `scripts/sentencepiece.py`, against transformers.

use super::super::{ChatParts, ChatTokenizer, Rendered};
use super::*;
use crate::spelling::{Spelling, TextStream, Watch};
use forwhy_core::chat::{Message, Role};

use proptest::prelude::*;

fn fixture() -> Value {
    let text = include_str!("../../tests/fixtures/sentencepiece.json");
    serde_json::from_str(text).unwrap()
}

/// A form's `tokenizer.json`.
fn file(fixture: &Value, case: &Value) -> Value {
    let mut file = case["file"].clone();
    file["model"] = fixture["model"].clone();
    for (key, value) in case["model"].as_object().unwrap() {
        file["model"][key] = value.clone();
    }
    file
}

fn with_template(file: Value, template: &str) -> ChatTokenizer {
    let token = |text: &str| Some(text.to_string());
    let end_of_turn = "</s>".to_string();
    let (template, begin) = (template.to_string(), token("<s>"));
    let parts = ChatParts { template, end_of_turn, pad: token("<unk>"), begin };
    ChatTokenizer::from_json(file, parts).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Every form with a tokenizer for each template that it is tried with.
fn forms(fixture: &Value) -> Vec<(String, Vec<ChatTokenizer>)> {
    let cases = fixture["cases"].as_array().unwrap();
    let of_form = |case: &Value| {
        let templates = case["chats"].as_object().unwrap().keys();
        let of = |name: &String| {
            with_template(file(fixture, case), fixture["templates"][name].as_str().unwrap())
        };
        (case["name"].as_str().unwrap().to_string(), templates.map(of).collect())
    };
    cases.iter().map(of_form).collect()
}

#[test]
fn texts_of_every_form_get_the_ids_of_transformers_and_come_back_as_there() {
    let fixture = fixture();
    for case in fixture["cases"].as_array().unwrap() {
        let t = with_template(file(&fixture, case), "");
        let texts = fixture["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap());
        for (text, want) in texts.zip(case["texts"].as_array().unwrap()) {
            let got = t.encode(text);
            assert_eq!(got, ids(&want["ids"]), "{}: {text:?}", case["name"]);
            assert_eq!(t.decode(&got), want["decoded"].as_str().unwrap(), "{}", case["name"]);
        }
        for want in case["decodes"].as_array().unwrap() {
            assert_eq!(t.decode(&ids(&want["ids"])), want["text"].as_str().unwrap(), "{want}");
        }
    }
}

#[test]
fn chats_of_every_form_get_the_ids_of_apply_chat_template_and_no_second_begin() {
    let fixture = fixture();
    let chats: Vec<Vec<Message>> = fixture["chats"].as_array().unwrap().iter().map(chat).collect();
    for case in fixture["cases"].as_array().unwrap() {
        for (name, rows) in case["chats"].as_object().unwrap() {
            let t =
                with_template(file(&fixture, case), fixture["templates"][name].as_str().unwrap());
            for row in rows.as_array().unwrap() {
                let chat = &chats[row["chat"].as_u64().unwrap() as usize];
                let text = t.chat_text(chat, &[], row["prompt"] == true).unwrap();
                let what = format!("{} {name}: {text:?}", case["name"]);
                let got = t.chat(chat, &[], row["prompt"] == true);
                // Behind anything but a space, such a `</s>` is no token; transformers sees none either.
                if case["name"] == "llama2_normalized" && name != "llama2" {
                    let none = ids(&row["ids"]).iter().filter(|id| **id == 2).count() == 0;
                    assert!(got.is_ok() || none || name == "next_to_control", "{what}");
                    continue;
                }
                // Mistral's writes the system text only while the last turn is the user's.
                if matches!(got, Err(TokenizerError::NotPrefix { .. })) {
                    assert!(name == "mistral" && chat[0].role == Role::System, "{what}");
                    continue;
                }
                let got = got.unwrap_or_else(|error| panic!("{what}: {error}"));
                // One unknown token may span the end of a prompt and an answer: the cut divides it.
                let spans =
                    case["name"] == "fused_unknown" && got.ids.len() > ids(&row["ids"]).len();
                assert!(spans || got.ids == ids(&row["ids"]), "{what}: {:?}", got.ids);
                assert_eq!(got.text_of(0..got.ids.len()), text, "{what}");
            }
        }
    }
}

fn chat(messages: &Value) -> Vec<Message> {
    serde_json::from_value(messages.clone()).unwrap()
}

#[test]
fn scored_pieces_are_merged_in_the_order_of_transformers() {
    let fixture = fixture();
    let vocab = fixture["model"]["vocab"].as_object().unwrap();
    let mut texts: Vec<(u64, String)> =
        vocab.iter().map(|(text, id)| (id.as_u64().unwrap(), text.clone())).collect();
    texts.sort();
    let texts: Vec<String> = texts.into_iter().map(|(_, text)| text).collect();
    let scores: Vec<f64> = serde_json::from_value(fixture["scores"].clone()).unwrap();
    let whole: Vec<u32> = (0..259).collect();
    let got = super::super::merges_of(&texts, &scores, &whole);
    let want: Vec<[String; 2]> =
        serde_json::from_value(fixture["model"]["merges"].clone()).unwrap();
    let want: Vec<String> = want.iter().map(|pair| pair.join(" ")).collect();
    assert_eq!(got, want);
}

/// Without a system turn: Mistral writes it only while the last turn is the user's.
fn turns(texts: &[String]) -> Vec<Message> {
    let turn = |(i, text): (usize, &String)| match i % 2 {
        0 => Message::user(text),
        _ => Message::assistant(text),
    };
    texts.iter().enumerate().map(turn).collect()
}

/// The trained runs of tokens.
fn runs(rendered: &Rendered) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for index in (0..rendered.ids.len()).filter(|i| rendered.trained[*i]) {
        match runs.last_mut().filter(|run| run.end == index) {
            Some(run) => run.end += 1,
            None => runs.push(index..index + 1),
        }
    }
    runs
}

/// A text as it is sent while it is written.
fn streamed(spelling: &Spelling, before: &[u32], ids: &[u32]) -> String {
    let (mut stream, mut last) = (TextStream::new(Watch::default()), before.last().copied());
    let mut text = String::new();
    for id in ids {
        let piece = stream.push(spelling.bytes_behind(last, *id));
        assert!(!piece.contains('\u{fffd}'), "half a character was sent");
        text.push_str(&piece);
        last = Some(*id);
    }
    text + &stream.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_chat_begins_with_its_prompt_and_trains_and_spells_what_the_model_writes(
        texts in prop::collection::vec("[ -~\u{2581}\n]{0,12}|[ aü😀]{1,5}|</s>|<s> x|a<tool>b", 2..5),
    ) {
        let texts: Vec<String> = texts[..texts.len() / 2 * 2].to_vec();
        let chat = turns(&texts);
        for (form, tokenizers) in FORMS.with(|forms| forms.clone()).iter() {
            for t in tokenizers {
                check_chat(form, t, &chat)?;
            }
        }
    }

    #[test]
    fn text_of_its_own_cannot_smuggle_control_tokens(text in "(<s>|</s>|<unk>| |a|\u{2581}|<tool>){0,6}") {
        for (form, tokenizers) in FORMS.with(|forms| forms.clone()).iter() {
            let steering = tokenizers[0].encode(&text).iter().any(|id| [1, 2].contains(id));
            prop_assert!(!steering, "{form}: {text:?}");
        }
    }
}

thread_local! {
    static FORMS: std::rc::Rc<Vec<(String, Vec<ChatTokenizer>)>> = forms(&fixture()).into();
}

fn check_chat(
    form: &str,
    t: &ChatTokenizer,
    chat: &[Message],
) -> Result<(), proptest::test_runner::TestCaseError> {
    let spelling = Spelling::of(t);
    // A template that writes no answer apart from questions has nothing to train.
    let Ok(whole) = t.chat(chat, &[], false) else { return Ok(()) };
    let text = t.chat_text(chat, &[], false).unwrap();
    prop_assert_eq!(whole.text_of(0..whole.ids.len()), &text, "{}", form);
    let runs = runs(&whole);
    for (turn, run) in (1..chat.len()).step_by(2).zip(&runs) {
        let prompt = t.chat(&chat[..turn], &[], true).unwrap();
        prop_assert_eq!(&whole.ids[..run.start], &prompt.ids[..], "{}", form);
        let (answer, end) = whole.ids[run.clone()].split_at(run.len() - 1);
        prop_assert_eq!(end, [t.end_of_turn()]);
        let spelt = streamed(&spelling, &prompt.ids, answer);
        prop_assert_eq!(&spelt, &spelling.text_behind(&prompt.ids, answer));
        let written = whole.text_of(run.start..run.end - 1).replace(SPACE, " ");
        // Some files lose spaces (`always` writes none where there is one, flags take them away), and
        // those without bytes lose characters; transformers decodes such answers so, too.
        let loses = form.starts_with("always") || form.contains("flags");
        let spaceless = |text: &str| text.split_whitespace().collect::<String>();
        let same = match loses {
            true => spaceless(&spelt) == spaceless(&written),
            false => spelt == written,
        };
        prop_assert!(same || form.contains("unknown"), "{form}: {spelt:?} {written:?}");
    }
    Ok(())
}
