//! Rows with calls, and rows that a template rewrites, from their file to a step.

use std::path::Path;

use forwhy_core::record::{self, Row};
use forwhy_core::results::Split;
use forwhy_engine::error::EngineError;
use forwhy_engine::llama::Scope;
use forwhy_engine::local::LocalModel;
use forwhy_engine::tokenizer::ChatTokenizer;
use forwhy_engine::trainer::TrainConfig;
use forwhy_engine::weights::{self, ModelFiles};

use super::*;
use crate::sft;

const QWEN2: &str = include_str!("../../forwhy-engine/scripts/templates/qwen2.5.jinja");
const QWEN3: &str = include_str!("../../forwhy-engine/scripts/templates/qwen3.jinja");

/// Two rows of a file as users have them: a call with its result, and two questions with thoughts.
const ROWS: &str = r#"{"id":"call","tools":[{"type":"function","function":{"name":"look","description":"Looks.","parameters":{"type":"object","properties":{"at":{"type":"string"}}}}}],"messages":[{"role":"user","content":"Is it wet?"},{"role":"assistant","content":null,"tool_calls":[{"id":"a1b2c3d4e","type":"function","function":{"name":"look","arguments":"{\"at\": \"sky\"}"}}]},{"role":"tool","tool_call_id":"a1b2c3d4e","content":"grey"},{"role":"assistant","content":"Yes."}],"tags":{"who":"nobody","tools":true,"format":"chat","harm":"none","domain":"test"},"source":"test"}
{"id":"turns","messages":[{"role":"user","content":"one"},{"role":"assistant","content":"eins"},{"role":"user","content":"two"},{"role":"assistant","content":"zwei"}],"tags":{"who":"nobody","tools":false,"format":"chat","harm":"none","domain":"test"},"source":"test"}
"#;

fn rows() -> Vec<Row> {
    record::parse_rows(ROWS.as_bytes()).unwrap()
}

/// The tiny model with another chat template.
fn model(template: &str) -> ModelFiles {
    let dir = tempfile::tempdir().unwrap();
    forwhy_testkit::tiny_model::tiny_model_dir(dir.path(), 1).unwrap();
    let file = dir.path().join("chat_template.jinja");
    forwhy_store::atomic::write(Path::new(&file), template.as_bytes()).unwrap();
    weights::open(dir.path()).unwrap()
}

fn decoded(tokenizer: &ChatTokenizer, pack: &Pack) -> String {
    tokenizer.decode(&pack.targets().iter().map(|t| t.id).collect::<Vec<_>>())
}

fn packed(template: &str) -> (String, Option<Split>, Prepared) {
    let files = model(template);
    let groups = groups(&rows(), &files.tokenizer, 4096).unwrap();
    let tokens = groups.iter().map(Group::tokens).sum();
    let prepared = prepare(&groups, tokens, 100_000, &["test"]).unwrap();
    assert_eq!((prepared.steps.len(), prepared.rows.len()), (1, 2), "every row once");
    assert_eq!(prepared.loss_tokens, prepared.steps[0].targets().len() as u64);
    assert_eq!(prepared.steps[0].target_weight(), prepared.loss_tokens as f64);
    (decoded(&files.tokenizer, &prepared.steps[0]), prepared.split, prepared)
}

#[test]
fn calls_and_answers_are_learned_and_neither_definitions_nor_results() {
    let (learned, split, _) = packed(QWEN2);
    assert_eq!(split, None);
    let call = "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"sky\"}}\n</tool_call><|im_end|>";
    let mut turns: Vec<&str> = learned.split_inclusive("<|im_end|>").collect();
    turns.sort_unstable();
    assert_eq!(turns, [call, "Yes.<|im_end|>", "eins<|im_end|>", "zwei<|im_end|>"]);
}

#[test]
fn rows_that_are_rewritten_are_counted_and_each_turn_is_learned_once() {
    let (learned, split, prepared) = packed(QWEN3);
    assert_eq!(split, Some(Split { rows: 2, sequences: 4 }));
    let turns: Vec<&str> = learned.split_inclusive("<|im_end|>").collect();
    assert_eq!(turns.len(), 4, "{turns:?}");
    assert!(turns.iter().all(|turn| turn.starts_with("<think>\n\n</think>\n\n")), "{turns:?}");
    let apart = rows().into_iter().map(|row| {
        let sequences = sequences(&row, &model(QWEN3).tokenizer).unwrap();
        sequences.iter().map(|s| s.ids.len()).sum::<usize>()
    });
    assert!(prepared.tokens < apart.sum::<usize>() as u64, "what is common is computed once");
}

#[test]
fn answers_to_one_prompt_with_other_tools_are_apart() {
    let mut rows = vec![rows().remove(0); 2];
    for (row, id) in rows.iter_mut().zip(["a", "b"]) {
        row.id = id.into();
        row.messages.truncate(2);
    }
    let files = model(QWEN2);
    let count = |rows: &[Row]| groups(rows, &files.tokenizer, 4096).unwrap().len();
    assert_eq!(count(&rows), 1);
    rows[1].tools[0].description = "Stares.".into();
    assert_eq!(count(&rows), 2);
}

#[test]
fn a_template_without_tools_is_refused_with_the_row() {
    let files = model(forwhy_testkit::tiny_model::TEMPLATE);
    let error = groups(&rows(), &files.tokenizer, 4096).unwrap_err().to_string();
    let want = "row call: the chat template of the model does not write the definition of the tool";
    assert!(error.starts_with(want), "{error}");
}

#[test]
fn a_model_learns_from_rows_with_calls_under_templates_that_rewrite_and_that_do_not() {
    for template in [QWEN2, QWEN3] {
        let step = packed(template).2.steps.remove(0);
        let steps = vec![step; 8];
        let model = LocalModel::load(model(template), 1).unwrap();
        let total_steps = steps.len();
        let config = TrainConfig {
            scope: Scope::All,
            learning_rate: 1e-2,
            total_steps,
            ..Default::default()
        };
        let mut losses = Vec::new();
        let lent = model.with_llama(|llama| {
            sft::run::<EngineError>(llama, &config, &steps, None, |report, _| {
                losses.push(report.loss);
                Ok(())
            })
        });
        lent.unwrap().unwrap();
        assert!(losses[7] < 0.7 * losses[0], "{losses:?}");
    }
}
