//! The byte-level BPE tokenizer in a GGUF file's metadata.

use super::{Gguf, Value};
use crate::tokenizer::{BpeParts, PreTokenizer};
use crate::weights::WeightError;

/// Values of `tokenizer.ggml.token_type`.
const CONTROL: Value = Value::Int(3);
const USER_DEFINED: Value = Value::Int(4);

/// Vocabulary, merges, control tokens and template.
pub(super) fn tokenizer_parts(file: &Gguf) -> Result<BpeParts, WeightError> {
    let path = &file.path;
    let pre = pre_tokenizer(file)?;
    let kinds = file.list("tokenizer.ggml.token_type")?;
    let vocab = file.texts("tokenizer.ggml.tokens")?;
    if kinds.len() != vocab.len() {
        let why = format!("{} tokens, but {} token types", vocab.len(), kinds.len());
        return Err(WeightError::broken(path, why));
    }
    let of_kind = |wanted: &Value| {
        let all = kinds.iter().enumerate();
        all.filter(|(_, kind)| *kind == wanted).map(|(i, _)| i as u32).collect()
    };
    let eos = file.count("tokenizer.ggml.eos_token_id")?;
    let begin = match file.meta.contains_key("tokenizer.ggml.bos_token_id") {
        true => Some(file.count("tokenizer.ggml.bos_token_id")? as u32),
        false => None,
    };
    Ok(BpeParts {
        control: of_kind(&CONTROL),
        whole: of_kind(&USER_DEFINED),
        vocab,
        merges: file.texts("tokenizer.ggml.merges")?,
        pre,
        end_of_turn: eos as u32,
        pad: file.count_or("tokenizer.ggml.padding_token_id", eos)? as u32,
        begin,
        template: file.text("tokenizer.chat_template")?.to_string(),
    })
}

fn pre_tokenizer(file: &Gguf) -> Result<PreTokenizer, WeightError> {
    let model = file.text("tokenizer.ggml.model")?;
    // Only GPT-2's has a pre-tokenizer.
    let pre = if model == "gpt2" { file.text("tokenizer.ggml.pre")? } else { "" };
    match pre {
        "smollm" => Ok(PreTokenizer::SmolLm),
        "llama-bpe" => Ok(PreTokenizer::Llama3),
        "qwen2" => Ok(PreTokenizer::Qwen2),
        _ => {
            let what = format!(
                "tokenizer {model:?} with pre-tokenizer {pre:?}; in GGUF \"gpt2\" with \"smollm\", \
                 \"llama-bpe\" or \"qwen2\" is supported (a directory with tokenizer.json works for \
                 others)"
            );
            Err(WeightError::unsupported(&file.path, what))
        }
    }
}
