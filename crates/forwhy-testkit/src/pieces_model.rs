//! A random model with a sentencepiece tokenizer and the chat template of its family, as a folder.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::tiny_model::{Size, model_dir, write_file};

const FIXTURE: &str = include_str!("../../forwhy-engine/tests/fixtures/sentencepiece.json");
const LLAMA2: &str = include_str!("../../forwhy-engine/scripts/templates/llama2.jinja");
const MISTRAL: &str = include_str!("../../forwhy-engine/scripts/templates/mistral.jinja");

/// Forms of the fixture (`scripts/sentencepiece.py`), with the templates that go with them.
pub const FAMILIES: [(&str, &str); 3] =
    [("llama2", LLAMA2), ("mistral3", MISTRAL), ("mistral3_legacy", MISTRAL)];

/// Writes the model with the weights of `seed` into `dir`, which must exist.
pub fn pieces_model_dir(dir: &Path, family: (&str, &str), seed: u64) -> io::Result<()> {
    // As many rows of embedding as the vocabulary has tokens, and a few more.
    let size = Size { words: vec!["a".repeat(200)], ..Size::default() };
    model_dir(dir, &size, seed)?;
    let fixture: Value = serde_json::from_str(FIXTURE)?;
    let cases = fixture["cases"].as_array().into_iter().flatten();
    let case = cases.into_iter().find(|case| case["name"] == family.0);
    let case = case.ok_or_else(|| io::Error::other(format!("no form {}", family.0)))?;
    let mut tokenizer = case["file"].clone();
    tokenizer["model"] = fixture["model"].clone();
    let settings = json!({
        "chat_template": family.1, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "tokenizer_class": "LlamaTokenizer",
    });
    write_file(&dir.join("tokenizer.json"), tokenizer.to_string().as_bytes())?;
    write_file(&dir.join("tokenizer_config.json"), settings.to_string().as_bytes())
}
