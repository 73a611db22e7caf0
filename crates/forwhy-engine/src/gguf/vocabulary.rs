//! The BPE tokenizer in a GGUF file's metadata: byte-level, or sentencepiece's, which has a score for
//! each token where the other has merges.

use super::{Gguf, Value};
use crate::tokenizer::{BpeParts, PreTokenizer, merges_of};
use crate::weights::WeightError;

/// Values of `tokenizer.ggml.token_type`.
const NORMAL: Value = Value::Int(1);
const UNKNOWN: Value = Value::Int(2);
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
    let ids = |wanted: &dyn Fn(&Value) -> bool| -> Vec<u32> {
        let all = kinds.iter().enumerate();
        all.filter(|(_, kind)| wanted(kind)).map(|(i, _)| i as u32).collect()
    };
    let merges = match pre {
        PreTokenizer::Pieces { .. } => {
            merges_of(&vocab, &scores(file, vocab.len())?, &ids(&|kind| *kind != NORMAL))
        }
        _ => file.texts("tokenizer.ggml.merges")?,
    };
    let eos = file.count("tokenizer.ggml.eos_token_id")?;
    let begin = match file.meta.contains_key("tokenizer.ggml.bos_token_id") {
        true => Some(file.count("tokenizer.ggml.bos_token_id")? as u32),
        false => None,
    };
    Ok(BpeParts {
        control: ids(&|kind| *kind == CONTROL || *kind == UNKNOWN),
        whole: ids(&|kind| *kind == USER_DEFINED),
        unknown: ids(&|kind| *kind == UNKNOWN).first().copied(),
        vocab,
        merges,
        pre,
        end_of_turn: eos as u32,
        pad: file.count_or("tokenizer.ggml.padding_token_id", eos)? as u32,
        begin,
        template: file.text("tokenizer.chat_template")?.to_string(),
    })
}

fn pre_tokenizer(file: &Gguf) -> Result<PreTokenizer, WeightError> {
    let model = file.text("tokenizer.ggml.model")?;
    if model == "llama" {
        let prefix = file.count_or("tokenizer.ggml.add_space_prefix", 1)? == 1;
        return Ok(PreTokenizer::Pieces { prefix });
    }
    // Only GPT-2's has a pre-tokenizer.
    let pre = if model == "gpt2" { file.text("tokenizer.ggml.pre")? } else { "" };
    match pre {
        "smollm" => Ok(PreTokenizer::SmolLm),
        "llama-bpe" => Ok(PreTokenizer::Llama3),
        "qwen2" => Ok(PreTokenizer::Qwen2),
        _ => {
            let what = format!(
                "tokenizer {model:?} with pre-tokenizer {pre:?}; in GGUF \"llama\", and \"gpt2\" with \
                 \"smollm\", \"llama-bpe\" or \"qwen2\", are supported (a directory with \
                 tokenizer.json works for others)"
            );
            Err(WeightError::unsupported(&file.path, what))
        }
    }
}

/// The score of each token.
fn scores(file: &Gguf, tokens: usize) -> Result<Vec<f64>, WeightError> {
    let key = "tokenizer.ggml.scores";
    let scores = file.list(key)?.iter().map(|score| match score {
        Value::Float(score) if !score.is_nan() => Ok(*score),
        _ => Err(file.missing(key, "a list of numbers")),
    });
    let scores = scores.collect::<Result<Vec<_>, _>>()?;
    match scores.len() == tokens {
        true => Ok(scores),
        false => {
            let why = format!("{tokens} tokens, but {} scores", scores.len());
            Err(WeightError::broken(&file.path, why))
        }
    }
}
