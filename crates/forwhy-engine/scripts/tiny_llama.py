"""Writes tests/fixtures/tiny: a random Llama of 26 thousand weights as transformers saves it, and
what transformers and PyTorch compute with it (f32): logits, loss, every gradient, and a training
trace.

    python tiny_llama.py OUT_DIR        (torch 2.15, transformers 5.23, tokenizers 0.23)

The trace is plain PyTorch: torch.optim.AdamW, clip_grad_norm_, linear warm-up and cosine decay.
Weight decay falls on all trained parameters.
"""

import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

TEXT = Path(__file__).with_name("paragraph.txt").read_text()
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LOGIT_STRIDE = 4  # every fourth position is kept, to keep the fixture small
TRAIN = dict(
    learning_rate=1e-2,
    warmup_steps=4,
    total_steps=20,
    min_lr_share=0.1,
    beta1=0.9,
    beta2=0.95,
    eps=1e-8,
    weight_decay=0.1,
    clip_norm=1.0,
)


def tokenizer(out):
    """Byte-level BPE with digits one by one; 3 control tokens, 256 bytes, 29 merges."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tok.decoder = decoders.ByteLevel()
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=288, special_tokens=control, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tok.train_from_iterator([TEXT], trainer)
    tok.save(str(out / "tokenizer.json"), pretty=False)
    settings = {"chat_template": TEMPLATE, "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    return tok


def model():
    torch.manual_seed(20)
    config = LlamaConfig(
        vocab_size=288,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        # Large enough that logits differ by whole units, as a trained model's do.
        initializer_range=0.2,
        attn_implementation="eager",
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=2,
    )
    model = LlamaForCausalLM(config).float()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.add_(0.2 * torch.randn_like(p))
    return model


def rate(t, step):
    """Learning rate of a step counted from 0."""
    if step < t["warmup_steps"]:
        return t["learning_rate"] * (step + 1) / t["warmup_steps"]
    share = (step - t["warmup_steps"]) / (t["total_steps"] - t["warmup_steps"])
    cosine = 0.5 * (1 + math.cos(math.pi * share))
    return t["learning_rate"] * (t["min_lr_share"] + (1 - t["min_lr_share"]) * cosine)


def loss_of(model, ids, trained):
    """Mean cross-entropy over the tokens that are trained (never the first)."""
    logits = model(ids[None]).logits[0]
    losses = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
    return (losses * trained[1:]).sum() / trained[1:].sum(), logits


def trace(model, batches, train=TRAIN):
    """Trains what requires a gradient; loss, gradient norm and learning rate of each step."""
    params = [p for p in model.parameters() if p.requires_grad]
    betas = (train["beta1"], train["beta2"])
    optim = torch.optim.AdamW(
        params, lr=1.0, betas=betas, eps=train["eps"], weight_decay=train["weight_decay"]
    )
    steps = []
    for step in range(train["total_steps"]):
        optim.param_groups[0]["lr"] = rate(train, step)
        optim.zero_grad()
        loss, _ = loss_of(model, *batches[step % len(batches)])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(params, train["clip_norm"])
        optim.step()
        steps.append(dict(loss=loss.item(), grad_norm=norm.item(), learning_rate=rate(train, step)))
    return steps


def expectations(out, net, tok, train=TRAIN, about="written by scripts/tiny_llama.py; see there"):
    """Writes what transformers and PyTorch compute with `net`."""
    ids = torch.tensor(tok.encode(TEXT).ids)
    batches = []
    for i in range(4):
        row = ids[i * 48 : i * 48 + 48]
        trained = torch.ones(48)
        trained[: 5 * i] = 0  # other masks in each batch
        batches.append((row, trained))
    loss, logits = loss_of(net, *batches[1])
    loss.backward()
    grads = {name: p.grad.clone() for name, p in net.named_parameters()}
    rows = logits.detach()[::LOGIT_STRIDE].contiguous()
    save_file(grads | {"logits": rows}, out / "expected.safetensors")
    for path in out.glob("*.safetensors"):
        path.chmod(0o644)
    net.zero_grad()
    data = dict(
        about=about,
        batches=[dict(ids=r.tolist(), trained=[bool(t) for t in m]) for r, m in batches],
        checked_batch=1,
        logit_stride=LOGIT_STRIDE,
        loss=loss.item(),
        train=train,
        trace=trace(net, batches, train),
    )
    (out / "expected.json").write_text(json.dumps(data) + "\n")
    print(f"{len(ids)} ids, loss {loss.item():.4f}, trace {[round(s['loss'], 3) for s in data['trace']]}")


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    tok = tokenizer(out)
    net = model()
    net.save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    expectations(out, net, tok)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
