"""Writes tests/fixtures/smollm2.json: what transformers and PyTorch (f32) compute with the weights
of SmolLM2-135M-Instruct as the `gguf` package dequantises them, and what Hugging Face's tokenizers
make of texts and chats.

    python smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf OUT.json
    (torch 2.15, transformers 5.23, tokenizers 0.23, gguf 0.19)

llama.cpp stores the rows of q and k in another order; with that order left as it is the perplexity
of the paragraph is several times as high, which the file records as `perplexity_permuted`.
"""

import json
import math
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.dont_write_bytecode = True
from tiny_llama import TEXT, TRAIN, loss_of, trace
from tokenizer_cases import CHATS, TEXTS

TOP, TRAIN_TOKENS, STEPS = 2, 64, 5
TRAIN.update(learning_rate=5e-4, warmup_steps=2, total_steps=STEPS)


def contents(reader):
    return {key: field.contents() for key, field in reader.fields.items()}


def tokenizer(meta):
    """As SmolLM2's own: digits one by one, GPT-2's byte level, control tokens before both."""
    tokens = meta["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ")) for m in meta["tokenizer.ggml.merges"]]
    tok = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tok.decoder = decoders.ByteLevel()
    return tok


def chat_tokenizer(meta):
    tok = tokenizer(meta)
    kinds = zip(meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"])
    tok.add_special_tokens([AddedToken(t, normalized=False) for t, kind in kinds if kind == 3])
    return PreTrainedTokenizerFast(tokenizer_object=tok, chat_template=meta["tokenizer.chat_template"])


def unpermute(w, heads):
    """llama.cpp's order of rows to Hugging Face's."""
    rows, columns = w.shape
    return w.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(w.shape)


def model(reader, meta, restore):
    config = LlamaConfig(
        vocab_size=len(meta["tokenizer.ggml.tokens"]),
        hidden_size=meta["llama.embedding_length"],
        intermediate_size=meta["llama.feed_forward_length"],
        num_hidden_layers=meta["llama.block_count"],
        num_attention_heads=meta["llama.attention.head_count"],
        num_key_value_heads=meta["llama.attention.head_count_kv"],
        max_position_embeddings=meta["llama.context_length"],
        rms_norm_eps=meta["llama.attention.layer_norm_rms_epsilon"],
        rope_theta=meta["llama.rope.freq_base"],
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    names = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    state = {}
    for tensor in reader.tensors:
        w = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            if restore and parts[2] in heads:
                w = unpermute(w, heads[parts[2]])
            name = f"model.layers.{parts[1]}.{names[parts[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[parts[0]]
        state[name] = torch.from_numpy(np.ascontiguousarray(w))
    net = LlamaForCausalLM(config).float().eval()
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected, (missing, unexpected)
    net.tie_weights()
    return net


def perplexity(net, ids):
    with torch.no_grad():
        loss, logits = loss_of(net, ids, torch.ones(len(ids)))
    return math.exp(loss.item()), logits


def top_block_trace(net, ids):
    """Training the top blocks only, on one row of fixed tokens, all of them targets."""
    net.requires_grad_(False)
    net.model.layers[-TOP:].requires_grad_(True)
    return trace(net, [(ids, torch.ones(len(ids)))])


def main(path, out):
    reader = gguf.GGUFReader(path)
    meta = contents(reader)
    plain, chat = tokenizer(meta), chat_tokenizer(meta)
    ids = torch.tensor(plain.encode(TEXT).ids)
    permuted, _ = perplexity(model(reader, meta, restore=False), ids)
    net = model(reader, meta, restore=True)
    right, logits = perplexity(net, ids)
    row = len(ids) - 2  # the last whose next token is known
    picked = [(p, int(i)) for p in (0, 9, 63, row) for i in logits[p].topk(4).indices.tolist() + [17, 900, 20000, 49151]]
    chats = []
    for messages in CHATS:
        prompt = messages[-1]["role"] != "assistant"
        made = chat.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=False)
        text = chat.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False)
        chats.append(dict(messages=messages, text=text, ids=made))
    data = dict(
        about="written by scripts/smollm2.py; see there",
        paragraph=dict(ids=ids.tolist(), perplexity=right, perplexity_permuted=permuted),
        logits=[dict(position=p, id=i, value=logits[p, i].item()) for p, i in picked],
        top_blocks=TOP,
        train=TRAIN,
        train_tokens=TRAIN_TOKENS,
        trace=top_block_trace(net, ids[:TRAIN_TOKENS]),
        texts=[dict(text=t, ids=plain.encode(t).ids) for t in TEXTS],
        chats=chats,
    )
    out.write_text(json.dumps(data, ensure_ascii=True) + "\n")
    print(f"{len(ids)} ids, perplexity {right:.4f}, permuted {permuted:.4f}, trace {data['trace']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
