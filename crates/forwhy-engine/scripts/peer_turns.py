"""The peer's side of `cargo xtask bench-peers`: one row of its table in PyTorch and transformers on one
thread (two with -2t), measured once for each line on stdin. Our side is `examples/peer_turns.rs`.

usage: python peer_turns.py train|train-lora|head|generate-1|generate-16, with -bf16, -w16 or -q8
behind it, and -2t behind that
(needs torch and transformers; train-lora needs peft)

-bf16: training and head under autocast to bf16; -bf16 and -w16: generation with a model in bf16 where the processor has
instructions for it, and in f32 where that is faster, because it has none. -q8: f32.
"""
import contextlib
import json
import resource
import sys
import time

import torch

HIDDEN, VOCAB = 576, 49152
BATCH, LENGTH = 2, 512
PROMPT, REPLY = 64, 32

THREADS = 2 if sys.argv[1].endswith("-2t") else 1
ROW = sys.argv[1].removesuffix("-2t").removesuffix("-q8").replace("-w16", "-bf16")
BF16 = ROW.endswith("-bf16")
ROW = ROW.removesuffix("-bf16")
HAS_BF16 = any(name in open("/proc/cpuinfo").read() for name in ["avx512_bf16", "amx_bf16"])

torch.set_num_threads(THREADS)
torch.manual_seed(0)


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def model():
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=8192,
        rms_norm_eps=1e-5, rope_theta=1e5, tie_word_embeddings=True, attn_implementation="sdpa",
        bos_token_id=None, eos_token_id=None, pad_token_id=0,
    ))


def versions():
    import transformers

    generates = "bf16" if HAS_BF16 else "f32 (no bf16 instructions)"
    how = "f32" if not BF16 else generates if ROW.startswith("generate") else "autocast to bf16"
    return f"torch {torch.__version__}, transformers {transformers.__version__}, {how}"


def autocast():
    return torch.autocast("cpu", torch.bfloat16) if BF16 else contextlib.nullcontext()


def train(lora):
    net = model().train()
    if lora:
        from peft import LoraConfig, get_peft_model

        targets = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()
        net = get_peft_model(net, LoraConfig(r=16, lora_alpha=32, target_modules=targets))
    trained = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=True)
    ids = torch.randint(0, VOCAB, (BATCH, LENGTH))

    def step():
        start, clock = time.process_time(), time.perf_counter()
        with autocast():
            loss = net(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        cpu, wall = time.process_time() - start, time.perf_counter() - clock
        rates = {"tokens_per_cpu_sec": BATCH * LENGTH / cpu, "tokens_per_sec": BATCH * LENGTH / wall}
        return rates | {"peak_mib": peak_mib()}

    step()
    step()
    return step


def head():
    x = torch.randn(BATCH * LENGTH, HIDDEN, requires_grad=True)
    w = (torch.randn(VOCAB, HIDDEN) * 0.02).requires_grad_()
    wanted = torch.randint(0, VOCAB, (BATCH * LENGTH,))

    def step():
        x.grad = w.grad = None
        start = time.process_time()
        with autocast():
            logits = torch.nn.functional.linear(x, w)
            loss = torch.nn.functional.cross_entropy(logits, wanted)
        loss.backward()
        return {"cpu_secs": time.process_time() - start, "peak_mib": peak_mib()}

    step()
    return step


def generate(replies):
    net = model().eval()
    if BF16 and HAS_BF16:
        net = net.bfloat16()
    ids = torch.randint(1, VOCAB, (replies, PROMPT))

    @torch.inference_mode()
    def spent(tokens):
        start = time.process_time()
        net.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                     max_new_tokens=tokens, min_new_tokens=tokens)
        return time.process_time() - start

    def step():
        rate = replies * REPLY / (spent(1 + REPLY) - spent(1))
        return {"tokens_per_cpu_sec": rate, "peak_mib": peak_mib()}

    spent(2)
    return step


ROWS = {
    "train": lambda: train(False),
    "train-lora": lambda: train(True),
    "head": head,
    "generate-1": lambda: generate(1),
    "generate-16": lambda: generate(16),
}

measure = ROWS[ROW]()
print(json.dumps({"ready": versions()}), flush=True)
for _ in sys.stdin:
    print(json.dumps(measure()), flush=True)
