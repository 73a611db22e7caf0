"""The peer of `cargo run --release -p forwhy-engine --example trainstep -- 2 512 4`: full training
steps of a random model of SmolLM2-135M's shape in PyTorch f32 on one thread, with AdamW.

usage: python torch_trainstep.py BATCH LENGTH STEPS [fused]      (needs torch and transformers)

Run the two by turns and compare medians: tokens a CPU-second, and peak resident memory.
"""
import resource
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

batch, length, steps = (int(a) for a in sys.argv[1:4])
torch.set_num_threads(1)
torch.manual_seed(0)
shape = LlamaConfig(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
    num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=8192,
    rms_norm_eps=1e-5, rope_theta=1e5, tie_word_embeddings=True, attn_implementation="sdpa",
)
model = LlamaForCausalLM(shape).train()
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused="fused" in sys.argv[4:])
ids = torch.randint(0, shape.vocab_size, (batch, length))
for step in range(steps):
    start = time.process_time()
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    spent = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"torch {torch.__version__} step {step} loss {loss.item():.4f} CPU {spent:.2f} s "
          f"{batch * length / spent:.1f} tok/CPU-s, peak {peak} MiB", flush=True)
