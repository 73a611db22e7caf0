"""Writes tests/fixtures/families: a random model of each family as transformers saves it, what
transformers and PyTorch compute with it in f32 (logits, loss, every gradient, fifty steps of
training), and for some the same weights as a GGUF file.

    python families.py OUT_DIR        (torch 2.15, transformers 5.23, gguf 0.19)
"""

import json
import shutil
import sys
from pathlib import Path

import gguf
import torch
import transformers as hf

import tiny_llama

TRAIN = tiny_llama.TRAIN | dict(learning_rate=3e-3, warmup_steps=5, total_steps=50)
COMMON = dict(
    vocab_size=288,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    rms_norm_eps=1e-6,
    initializer_range=0.2,
    attn_implementation="eager",
    bos_token_id=None,
    eos_token_id=2,
    pad_token_id=2,
)
# Within 48 tokens, so that the scaling is seen.
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=500000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
# As released, for the GGUF file, whose reader knows these numbers.
RELEASED = LLAMA3 | dict(original_max_position_embeddings=8192)

# name -> (configuration, class, dtype of the file, GGUF architecture)
FAMILIES = {
    "llama2": (
        hf.LlamaConfig(**COMMON | dict(num_key_value_heads=4), tie_word_embeddings=False,
                       rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)),
        hf.LlamaForCausalLM, torch.float16, None,
    ),
    "llama3": (
        hf.LlamaConfig(**COMMON, tie_word_embeddings=True, rope_parameters=LLAMA3),
        hf.LlamaForCausalLM, torch.float32, None,
    ),
    "llama3-released": (
        hf.LlamaConfig(**COMMON, tie_word_embeddings=False, rope_parameters=RELEASED),
        hf.LlamaForCausalLM, torch.float16, "llama",
    ),
    "llama-biases": (
        hf.LlamaConfig(**COMMON, tie_word_embeddings=False, attention_bias=True, mlp_bias=True),
        hf.LlamaForCausalLM, torch.bfloat16, None,
    ),
    "qwen2.5": (
        hf.Qwen2Config(**COMMON, tie_word_embeddings=True, use_sliding_window=False,
                       rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
        hf.Qwen2ForCausalLM, torch.bfloat16, "qwen2",
    ),
    "qwen3": (
        hf.Qwen3Config(**COMMON | dict(intermediate_size=32), head_dim=12, tie_word_embeddings=False,
                       rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
        hf.Qwen3ForCausalLM, torch.float16, "qwen3",
    ),
    "mistral": (
        hf.MistralConfig(**COMMON, head_dim=10, tie_word_embeddings=False, sliding_window=64),
        hf.MistralForCausalLM, torch.float16, None,
    ),
}


def model(config, kind, dtype):
    torch.manual_seed(21)
    net = kind(config).float()
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "norm" in name:
                p.add_(0.2 * torch.randn_like(p))
            elif name.endswith("bias"):
                p.copy_(0.2 * torch.randn_like(p))
    return net.to(dtype)


def to_gguf(path, net, dtype, arch, tokenizer):
    """The weights as llama.cpp's converter stores them."""
    config = net.config
    heads, kv = config.num_attention_heads, config.num_key_value_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    rope = config.rope_parameters
    w = gguf.GGUFWriter(path, arch)
    w.add_name("tiny " + arch)
    w.add_block_count(config.num_hidden_layers)
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_key_length(dim)
    w.add_value_length(dim)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_rope_freq_base(rope["rope_theta"])
    vocab = sorted(tokenizer["model"]["vocab"].items(), key=lambda pair: pair[1])
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list([text for text, _ in vocab])
    special = {t["id"] for t in tokenizer["added_tokens"]}
    kinds = gguf.TokenType
    w.add_token_types([kinds.CONTROL if i in special else kinds.NORMAL for _, i in vocab])
    w.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    w.add_eos_token_id(2)
    w.add_chat_template(tiny_llama.TEMPLATE)
    kind = getattr(gguf.MODEL_ARCH, arch.upper())
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    tied = config.tie_word_embeddings
    for name, tensor in net.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        data = tensor.float().numpy()
        if arch == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            n = heads if "q_proj" in name else kv
            data = data.reshape(n, 2, dim // 2, -1).swapaxes(1, 2).reshape(data.shape)
        if dtype == torch.float16 and data.ndim == 2:
            data = data.astype("float16")
        w.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), data.copy())
    if rope["rope_type"] == "llama3":
        plain = rope["rope_theta"] ** -(torch.arange(0, dim, 2).double() / dim)
        w.add_tensor("rope_freqs.weight", (plain / net.model.rotary_emb.inv_freq).float().numpy())
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def old_layout(path):
    """config.json as transformers 4 wrote it."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = dict(type=rope.pop("rope_type"), **rope)
    path.write_text(json.dumps(config, indent=2) + "\n")


def main(out):
    for name, (config, kind, dtype, arch) in FAMILIES.items():
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tok = tiny_llama.tokenizer(folder)
        net = model(config, kind, dtype)
        # Qwen3 in several files, everything else in one.
        shards = "20KB" if name == "qwen3" else "1GB"
        net.save_pretrained(folder, max_shard_size=shards)
        (folder / "generation_config.json").unlink(missing_ok=True)
        # What the file holds is what is computed with; and the angles are not rounded to its dtype.
        net = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        if name == "llama2":
            old_layout(folder / "config.json")
        if arch:
            tokenizer = json.loads((folder / "tokenizer.json").read_text())
            to_gguf(folder / "model.gguf", net, dtype, arch, tokenizer)
        about = "written by scripts/families.py; see there"
        # This one is there for its GGUF file, which has to give the same weights.
        if name != "llama3-released":
            tiny_llama.expectations(folder, net, tok, TRAIN, about)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
