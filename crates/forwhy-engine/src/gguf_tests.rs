use super::*;
use forwhy_store::atomic;
use tempfile::TempDir;

/// Builds GGUF files piece by piece.
#[derive(Clone)]
struct Builder {
    meta: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<u64>, u32, u64)>,
    counts: Option<(u64, u64)>,
    data: Vec<u8>,
}

fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes(), s.as_bytes()].concat()
}

fn int(n: u32) -> Vec<u8> {
    [4u32.to_le_bytes(), n.to_le_bytes()].concat()
}

fn float(x: f32) -> Vec<u8> {
    [6u32.to_le_bytes(), x.to_le_bytes()].concat()
}

fn string(s: &str) -> Vec<u8> {
    [8u32.to_le_bytes().to_vec(), text(s)].concat()
}

fn strings(items: &[&str]) -> Vec<u8> {
    let mut bytes = [9u32.to_le_bytes(), 8u32.to_le_bytes()].concat();
    bytes.extend((items.len() as u64).to_le_bytes());
    items.iter().for_each(|s| bytes.extend(text(s)));
    bytes
}

fn ints(items: &[i32]) -> Vec<u8> {
    let mut bytes = [9u32.to_le_bytes(), 5u32.to_le_bytes()].concat();
    bytes.extend((items.len() as u64).to_le_bytes());
    items.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
    bytes
}

const TEMPLATE: &str = "{% for m in messages %}{{ m.content + '<end>' }}{% endfor %}";

impl Builder {
    /// A complete Llama of one block: hidden 4, two heads of 2, one key/value head, vocabulary 4.
    fn tiny() -> Self {
        let mut b =
            Builder { meta: Vec::new(), tensors: Vec::new(), counts: None, data: Vec::new() };
        let mut meta = |key: &str, value: Vec<u8>| b.meta.push((key.into(), value));
        meta("general.architecture", string("llama"));
        meta("general.name", string("tiny"));
        for (key, n) in [
            ("block_count", 1),
            ("context_length", 32),
            ("embedding_length", 4),
            ("feed_forward_length", 4),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
        ] {
            meta(&format!("llama.{key}"), int(n));
        }
        meta("llama.attention.layer_norm_rms_epsilon", float(1e-5));
        meta("tokenizer.ggml.model", string("gpt2"));
        meta("tokenizer.ggml.pre", string("smollm"));
        meta("tokenizer.ggml.tokens", strings(&["<end>", "a", "b", "ab"]));
        meta("tokenizer.ggml.token_type", ints(&[3, 1, 1, 1]));
        meta("tokenizer.ggml.merges", strings(&["a b"]));
        meta("tokenizer.ggml.eos_token_id", int(0));
        meta("tokenizer.chat_template", string(TEMPLATE));
        b.tensor("token_embd.weight", &[4, 4]);
        b.tensor("output_norm.weight", &[4]);
        for name in ["attn_norm", "ffn_norm"] {
            b.tensor(&format!("blk.0.{name}.weight"), &[4]);
        }
        for name in ["attn_q", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
            b.tensor(&format!("blk.0.{name}.weight"), &[4, 4]);
        }
        for name in ["attn_k", "attn_v"] {
            b.tensor(&format!("blk.0.{name}.weight"), &[4, 2]);
        }
        b
    }

    /// An f32 tensor with the elements 0, 1, 2, ...
    fn tensor(&mut self, name: &str, shape: &[u64]) {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.tensors.push((name.into(), shape.to_vec(), 0, self.data.len() as u64));
        let elements = shape.iter().product::<u64>();
        (0..elements).for_each(|i| self.data.extend((i as f32).to_le_bytes()));
    }

    fn set(mut self, key: &str, value: Vec<u8>) -> Self {
        let place = self.meta.iter_mut().find(|(k, _)| k == key);
        match place {
            Some(pair) => pair.1 = value,
            None => self.meta.push((key.into(), value)),
        }
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let counts = self.counts.unwrap_or((self.tensors.len() as u64, self.meta.len() as u64));
        let mut bytes = [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec()].concat();
        bytes.extend([counts.0.to_le_bytes(), counts.1.to_le_bytes()].concat());
        for (key, value) in &self.meta {
            bytes.extend([text(key), value.clone()].concat());
        }
        for (name, shape, kind, at) in &self.tensors {
            bytes.extend([text(name), (shape.len() as u32).to_le_bytes().to_vec()].concat());
            shape.iter().for_each(|d| bytes.extend(d.to_le_bytes()));
            bytes.extend([kind.to_le_bytes().to_vec(), at.to_le_bytes().to_vec()].concat());
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }

    fn open(&self) -> Result<ModelFiles, WeightError> {
        open_bytes(&self.bytes())
    }

    fn refused(&self) -> String {
        self.open().err().expect("the file is refused").to_string()
    }
}

fn open_bytes(bytes: &[u8]) -> Result<ModelFiles, WeightError> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("m.gguf");
    atomic::write(&path, bytes).unwrap();
    open(&path)
}

#[test]
fn a_whole_model_is_read() {
    let model = Builder::tiny().open().unwrap();
    assert_eq!(model.name, "tiny");
    let shape = model.source.shape();
    assert_eq!((shape.layers, shape.heads, shape.kv_heads, shape.head_dim), (1, 2, 1, 2));
    assert!(shape.tied_head);
    assert_eq!(model.tokenizer.encode("abba"), [3, 2, 1]);
    let mut norm = [9.0; 4];
    model.source.read("model.norm.weight", &mut norm).unwrap();
    assert_eq!(norm, [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(model.source.hash().len(), 64);
    assert!(model.source.read("model.norm.weight", &mut [0.0; 3]).is_err());
}

#[test]
fn rows_of_q_and_k_return_to_the_order_of_two_halves() {
    // Two heads of four rows, one column; llama.cpp wrote Hugging Face's rows 0 1 2 3 as 0 2 1 3.
    let mut rows = [0.0, 2.0, 1.0, 3.0, 10.0, 12.0, 11.0, 13.0];
    unpermute(&mut rows, 2, 4);
    assert_eq!(rows, [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0]);
}

#[test]
fn fault_39_a_truncated_file_is_refused_wherever_it_ends() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("m.gguf");
    atomic::write(&path, &Builder::tiny().bytes()).unwrap();
    assert!(open(&path).is_ok());
    let file = File::options().write(true).open(&path).unwrap();
    for length in (0..file.metadata().unwrap().len()).rev() {
        file.set_len(length).unwrap();
        assert!(open(&path).is_err(), "cut off at {length}");
    }
}

#[test]
fn fault_39_counts_that_cannot_be_true_are_refused_before_memory_is_taken() {
    let counts = |tensors, pairs| Builder { counts: Some((tensors, pairs)), ..Builder::tiny() };
    assert!(counts(1 << 63, 16).refused().contains("9223372036854775808 tensors promised"));
    assert!(counts(11, u64::MAX).refused().contains("metadata pairs promised"));
    let long_list = [9u32.to_le_bytes(), 4u32.to_le_bytes(), [0xff; 4], [0x7f; 4]].concat();
    let b = Builder::tiny().set("x", long_list);
    assert!(b.refused().contains("x promised"), "{}", b.refused());
    let long_text = [8u32.to_le_bytes(), [0xff; 4], [0xff; 4]].concat();
    assert!(Builder::tiny().set("x", long_text).refused().contains("bytes of text promised"));
    let mut huge = Builder::tiny();
    huge.tensors[0].1 = vec![1 << 62, 1 << 62];
    assert!(huge.refused().contains("larger than the file"));
    let blocks = Builder::tiny().set("llama.block_count", int(u32::MAX));
    assert!(blocks.refused().contains("4294967295 blocks promised"));
    let heads = Builder::tiny().set("llama.attention.head_count", int(0));
    assert!(heads.refused().contains("heads = 0"), "{}", heads.refused());
}

#[test]
fn fault_39_offsets_outside_or_on_another_tensor_are_refused() {
    let mut outside = Builder::tiny();
    outside.tensors[3].3 = 1 << 40;
    assert!(outside.refused().contains("ends behind the file"));
    let mut wraps = Builder::tiny();
    wraps.tensors[3].3 = u64::MAX - 31;
    assert!(wraps.refused().contains("ends behind the file"));
    let mut overlap = Builder::tiny();
    overlap.tensors[3].3 = 0;
    assert!(overlap.refused().contains("overlap"));
    let mut odd = Builder::tiny();
    odd.tensors[3].3 += 4;
    assert!(odd.refused().contains("not aligned to 32"));
}

/// Sentencepiece's vocabulary, its merges left to the scores.
fn pieces() -> Builder {
    let mut b = Builder::tiny();
    b.tensors.remove(0);
    b.tensor("token_embd.weight", &[4, 9]);
    let tokens = ["<unk>", "<s>", "<end>", "<0xC3>", "<0xBC>", "\u{2581}", "a", "b", "ab"];
    b.set("tokenizer.ggml.model", string("llama"))
        .set("tokenizer.ggml.tokens", strings(&tokens))
        .set("tokenizer.ggml.scores", floats(&[0.0, 0.0, 0.0, 0.0, 0.0, -2.0, -3.0, -4.0, -1.0]))
        .set("tokenizer.ggml.token_type", ints(&[2, 3, 3, 6, 6, 1, 1, 1, 1]))
        .set("tokenizer.ggml.bos_token_id", int(1))
        .set("tokenizer.ggml.eos_token_id", int(2))
}

fn floats(items: &[f32]) -> Vec<u8> {
    let mut bytes = [9u32.to_le_bytes(), 6u32.to_le_bytes()].concat();
    bytes.extend((items.len() as u64).to_le_bytes());
    items.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
    bytes
}

#[test]
fn a_vocabulary_of_scored_pieces_is_read() {
    let with = pieces().open().unwrap().tokenizer;
    assert_eq!(with.encode("ab a"), [5, 8, 5, 6]);
    assert_eq!(with.encode("\u{fc}x"), [5, 3, 4, 0]);
    assert_eq!(with.decode(&[5, 8, 5, 3, 4]), "ab \u{fc}");
    assert_eq!((with.begin(), with.end_of_turn(), with.vocab_size()), (Some("<s>"), 2, 9));
    // GGUF type 7 is a bool.
    let no = [7u32.to_le_bytes().to_vec(), vec![0]].concat();
    let without = pieces().set("tokenizer.ggml.add_space_prefix", no).open().unwrap().tokenizer;
    assert_eq!(without.encode("ab a"), [8, 5, 6]);
}

#[test]
fn fault_39_scores_that_do_not_fit_are_refused() {
    let few = pieces().set("tokenizer.ggml.scores", floats(&[0.0]));
    assert!(few.refused().contains("9 tokens, but 1 scores"));
    let none = pieces().set("tokenizer.ggml.scores", strings(&["x"]));
    assert!(none.refused().contains("tokenizer.ggml.scores"));
    let nan = pieces().set("tokenizer.ggml.scores", floats(&[f32::NAN; 9]));
    assert!(nan.refused().contains("a list of numbers"));
}

#[test]
fn fault_39_what_is_not_supported_is_named() {
    let mut quantised = Builder::tiny();
    quantised.tensors[0].2 = 12;
    assert!(quantised.refused().contains("token_embd.weight has type Q4_K"));
    let mamba = Builder::tiny().set("general.architecture", string("mamba"));
    assert!(mamba.refused().contains("architecture \"mamba\""));
    let tekken = Builder::tiny().set("tokenizer.ggml.pre", string("tekken"));
    assert!(tekken.refused().contains("pre-tokenizer \"tekken\""));
    let pieces = Builder::tiny().set("tokenizer.ggml.model", string("t5"));
    assert!(pieces.refused().contains("tokenizer \"t5\""));
    let yarn = Builder::tiny().set("llama.rope.scaling.type", string("yarn"));
    assert!(yarn.refused().contains("yarn"));
    let mut extra = Builder::tiny();
    extra.tensor("blk.0.attn_q_norm.weight", &[2]);
    assert!(extra.refused().contains("attn_q_norm.weight is not part of a model"));
    let mut factors = Builder::tiny();
    factors.tensor("rope_freqs.weight", &[1]);
    assert!(factors.refused().contains("rope_freqs.weight: not the scaling of Llama 3.1"));
    let mut lacking = Builder::tiny();
    lacking.tensors.pop();
    assert!(lacking.refused().contains("no tensor blk.0.attn_v.weight"));
    let mut version = Builder::tiny().bytes();
    version[4] = 1;
    assert!(open_bytes(&version).err().unwrap().to_string().contains("version 1"));
    let other = open_bytes(&[b'P'; 64]).err().unwrap().to_string();
    assert!(other.contains("not a GGUF file"));
}

#[test]
fn fault_39_contradictions_are_refused() {
    let wide = Builder::tiny().set("llama.feed_forward_length", int(8));
    assert!(wide.refused().contains("has shape"));
    let typed = Builder::tiny().set("llama.block_count", string("one"));
    assert!(typed.refused().contains("llama.block_count has another type"));
    let tokens = Builder::tiny().set("tokenizer.ggml.tokens", strings(&["<end>", "a", "b"]));
    assert!(tokens.refused().contains("3 tokens, but 4 token types"));
    let merge = Builder::tiny().set("tokenizer.ggml.merges", strings(&["ab"]));
    assert!(merge.refused().contains("merge \"ab\""));
    let eos = Builder::tiny().set("tokenizer.ggml.eos_token_id", int(99));
    assert!(eos.refused().contains("token id 99"));
    let mut twice = Builder::tiny();
    twice.meta.push(("general.name".into(), string("again")));
    assert!(twice.refused().contains("general.name occurs twice"));
    let mut nan = Builder::tiny();
    nan.data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let model = nan.open().unwrap();
    let read = model.source.read("model.embed_tokens.weight", &mut [0.0; 16]);
    assert!(read.unwrap_err().to_string().contains("element 0 of tensor model.embed_tokens"));
}

#[test]
fn fault_39_a_changed_byte_is_read_or_refused_but_never_panics() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("m.gguf");
    let whole = Builder::tiny().bytes();
    atomic::write(&path, &whole).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    let mut draws = forwhy_core::seed::stream(&["changed bytes"]);
    for at in 0..whole.len() {
        file.write_all_at(&[draws.bits() as u8], at as u64).unwrap();
        if let Ok(model) = open(&path) {
            let layout = crate::shape::Layout::new(model.source.shape());
            let mut params = vec![0.0; layout.len()];
            // Either way is fine: a number may be as good as another, or none.
            crate::weights::load_into(model.source.as_ref(), &layout, &mut params).ok();
        }
        file.write_all_at(&whole[at..=at], at as u64).unwrap();
    }
}

#[test]
fn fault_39_lists_that_would_take_many_times_the_files_size_are_refused() {
    let bytes = |n: usize| {
        let head = [9u32.to_le_bytes().to_vec(), 0u32.to_le_bytes().to_vec()].concat();
        [head, (n as u64).to_le_bytes().to_vec(), vec![7; n]].concat()
    };
    assert!(Builder::tiny().set("x", bytes(1000)).open().is_ok());
    let why = Builder::tiny().set("x", bytes(1 << 19)).refused();
    assert!(why.contains("the list x has 524288 items, too many"), "{why}");
    let half = bytes(20_000);
    let halves = (0..9).fold(Builder::tiny(), |b, i| b.set(&format!("x{i}"), half.clone()));
    assert!(halves.refused().contains("too many"), "all lists together");
}
