//! A random Llama of two blocks with a byte-level vocabulary and a ChatML template, written as a
//! directory in Hugging Face layout: `config.json`, `model.safetensors`, `tokenizer.json`,
//! `tokenizer_config.json`.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use forwhy_core::seed::stream;
use serde_json::{Map, Value, json};

/// Width of the residual stream.
pub const HIDDEN: usize = 64;
/// Blocks.
pub const LAYERS: usize = 2;
/// Query heads.
pub const HEADS: usize = 4;
/// Key/value heads.
pub const KV_HEADS: usize = 2;
/// Size of a head.
pub const HEAD_DIM: usize = 16;
/// Width of the MLP.
pub const MLP: usize = 128;
/// 256 bytes and three control tokens.
pub const VOCAB: usize = 259;
/// Longest sequence.
pub const MAX_POSITIONS: usize = 4096;
/// Control tokens, from id 256 on.
pub const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// ChatML, as SmolLM2 writes it, without a default system turn.
pub const TEMPLATE: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// What a model is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads, of [`HEAD_DIM`].
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of the MLP.
    pub mlp: usize,
    /// Words (of letters, digits and spaces) that are one token, as is each of their beginnings.
    pub words: Vec<String>,
}

impl Default for Size {
    fn default() -> Self {
        Size { hidden: HIDDEN, heads: HEADS, kv_heads: KV_HEADS, mlp: MLP, words: Vec::new() }
    }
}

impl Size {
    /// Pairs that become one token, in the order of the words; a beginning that words share stands
    /// here once.
    fn merges(&self) -> Vec<[String; 2]> {
        let mut merges: Vec<[String; 2]> = Vec::new();
        for word in &self.words {
            let letters: Vec<String> =
                word.replace(' ', "\u{120}").chars().map(String::from).collect();
            for end in 1..letters.len() {
                let pair = [letters[..end].concat(), letters[end].clone()];
                if !merges.contains(&pair) {
                    merges.push(pair);
                }
            }
        }
        merges
    }

    fn vocab(&self) -> usize {
        VOCAB + self.merges().len()
    }
}

/// Writes the model with the weights of `seed` into `dir`, which must exist.
pub fn tiny_model_dir(dir: &Path, seed: u64) -> io::Result<()> {
    model_dir(dir, &Size::default(), seed)
}

/// As [`tiny_model_dir`], of another size.
pub fn model_dir(dir: &Path, size: &Size, seed: u64) -> io::Result<()> {
    let write = |name: &str, bytes: &[u8]| write_file(&dir.join(name), bytes);
    write("config.json", config(size).to_string().as_bytes())?;
    write("tokenizer.json", tokenizer(size).to_string().as_bytes())?;
    write("tokenizer_config.json", tokenizer_config().to_string().as_bytes())?;
    write("model.safetensors", &safetensors(size, seed))
}

/// Writes a file of a fixture.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    File::create(path)?.write_all(bytes)
}

fn config(size: &Size) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size.hidden,
        "intermediate_size": size.mlp,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": HEAD_DIM,
        "vocab_size": size.vocab(),
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "max_position_embeddings": MAX_POSITIONS,
        "attention_bias": false,
        "mlp_bias": false,
        "hidden_act": "silu",
        "bos_token_id": 257,
        "eos_token_id": 258,
        "pad_token_id": 258,
        "torch_dtype": "float32",
    })
}

fn tokenizer_config() -> Value {
    json!({
        "bos_token": CONTROL[1],
        "eos_token": CONTROL[2],
        "pad_token": CONTROL[2],
        "chat_template": TEMPLATE,
        "model_max_length": MAX_POSITIONS,
        "tokenizer_class": "GPT2Tokenizer",
    })
}

/// Byte-level BPE: every byte is a token, and the words of `size`.
fn tokenizer(size: &Size) -> Value {
    let mut vocab = Map::new();
    for (byte, letter) in byte_letters().into_iter().enumerate() {
        vocab.insert(letter.to_string(), json!(byte));
    }
    for (i, token) in CONTROL.iter().enumerate() {
        vocab.insert((*token).to_string(), json!(256 + i));
    }
    let merges = size.merges();
    for (i, pair) in merges.iter().enumerate() {
        vocab.insert(pair.concat(), json!(VOCAB + i));
    }
    let added = CONTROL.iter().enumerate().map(|(i, token)| {
        json!({
            "id": 256 + i, "content": token, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        })
    });
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges,
        },
    })
}

/// The letter that stands for each byte in GPT-2's byte-level vocabulary: printable bytes for
/// themselves, the others from U+0100 on.
fn byte_letters() -> Vec<char> {
    let mut spare = (0x100u32..).filter_map(char::from_u32);
    let printable = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    (0..=255u8)
        .map(|b| if printable(b) { char::from(b) } else { spare.next().unwrap_or_default() })
        .collect()
}

/// Names and sizes of all tensors.
fn tensors(size: &Size) -> Vec<(String, Vec<usize>)> {
    let (hidden, mlp) = (size.hidden, size.mlp);
    let mut all = vec![("model.embed_tokens.weight".to_string(), vec![size.vocab(), hidden])];
    let (q, kv) = (size.heads * HEAD_DIM, size.kv_heads * HEAD_DIM);
    for layer in 0..LAYERS {
        let block: [(&str, &[usize]); 9] = [
            ("input_layernorm", &[hidden]),
            ("self_attn.q_proj", &[q, hidden]),
            ("self_attn.k_proj", &[kv, hidden]),
            ("self_attn.v_proj", &[kv, hidden]),
            ("self_attn.o_proj", &[hidden, q]),
            ("post_attention_layernorm", &[hidden]),
            ("mlp.gate_proj", &[mlp, hidden]),
            ("mlp.up_proj", &[mlp, hidden]),
            ("mlp.down_proj", &[hidden, mlp]),
        ];
        let named = |(name, shape): &(&str, &[usize])| {
            (format!("model.layers.{layer}.{name}.weight"), shape.to_vec())
        };
        all.extend(block.iter().map(named));
    }
    all.push(("model.norm.weight".into(), vec![hidden]));
    all
}

/// Header length, header, data: norms 1, all else normal with deviation 0.08.
fn safetensors(size: &Size, seed: u64) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape) in tensors(size) {
        let begin = data.len();
        let mut draws = stream(&["tiny model", &seed.to_string(), &name]);
        for _ in 0..shape.iter().product() {
            let norm = shape.len() == 1;
            let value = if norm { 1.0 } else { (0.08 * draws.normal()) as f32 };
            data.extend(value.to_le_bytes());
        }
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(name, entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_letter() {
        let mut letters = byte_letters();
        assert_eq!((letters[usize::from(b' ')], letters[usize::from(b'a')]), ('Ġ', 'a'));
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), 256);
    }

    #[test]
    fn a_seed_makes_the_same_model_twice() {
        let size = Size::default();
        assert_eq!(safetensors(&size, 3), safetensors(&size, 3));
        assert_ne!(safetensors(&size, 3), safetensors(&size, 4));
    }
}
