"""Writes bf16.json beside each model of tests/fixtures/families: how far PyTorch's own bf16 (autocast
on the CPU, master weights in f32; attention written out and fused) leaves PyTorch's f32, in the
gradient of every parameter and in the losses of the fifty steps that expected.json holds.

    python bf16.py FAMILIES_DIR        (torch 2.15, transformers 5.23)
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import tiny_llama


def load(folder, attention):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention
    )


def autocast(net):
    """`net`, whose forward pass runs under autocast; logits are f32 again."""

    def forward(*args, **kwargs):
        with torch.autocast("cpu", torch.bfloat16):
            out = inner(*args, **kwargs)
        out.logits = out.logits.float()
        return out

    inner, net.forward = net.forward, forward
    return net


def gradient_error(net, batch, want):
    """Largest |difference| / |f32 gradient| (Euclidean) over the parameters."""
    loss, _ = tiny_llama.loss_of(net, *batch)
    loss.backward()
    errors = {}
    for name, p in net.named_parameters():
        # the gradient of a key bias is noise in any format
        if not name.endswith("k_proj.bias"):
            errors[name] = ((p.grad - want[name]).norm() / want[name].norm()).item()
    net.zero_grad()
    return errors


def main(families):
    for folder in sorted(path.parent for path in families.glob("*/expected.json")):
        expected = json.loads((folder / "expected.json").read_text())
        batches = [
            (torch.tensor(b["ids"]), torch.tensor(b["trained"]).float()) for b in expected["batches"]
        ]
        want = load_file(folder / "expected.safetensors")
        out = dict(about="written by scripts/bf16.py; see there", runs=[])
        for attention in ["eager", "sdpa"]:
            net = autocast(load(folder, attention))
            errors = gradient_error(net, batches[expected["checked_batch"]], want)
            steps = tiny_llama.trace(net, batches, expected["train"])
            losses = [step["loss"] for step in steps]
            out["runs"].append(dict(attention=attention, gradient_errors=errors, losses=losses))
            off = max(abs(a - b["loss"]) for a, b in zip(losses, expected["trace"]))
            print(f"{folder.name} {attention}: gradients {max(errors.values()):.1e}, losses {off:.1e}")
        (folder / "bf16.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
