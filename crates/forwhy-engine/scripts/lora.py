"""LoRA adapters on tests/fixtures/tiny by peft (torch 2.15, transformers 5.23, peft 0.21).

    python lora.py fixture BASE OUT             tests/fixtures/peft: an adapter, and its logits
    python lora.py logits BASE ADAPTER OUT      the logits of BASE with ADAPTER (or `-`)

The ids are those of the checked batch of BASE_IDS, and every LOGIT_STRIDE-th row is kept.
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import tiny_llama

IDS = Path(__file__).parent.parent / "tests/fixtures/tiny/expected.json"


def load(base):
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")


def save_logits(model, path):
    data = json.loads(IDS.read_text())
    ids = torch.tensor(data["batches"][data["checked_batch"]]["ids"])
    with torch.no_grad():
        rows = model(ids[None]).logits[0][:: tiny_llama.LOGIT_STRIDE].contiguous()
    save_file({"logits": rows}, path)
    path.chmod(0o644)


def fixture(base, out):
    torch.manual_seed(22)
    # Rank-stabilised and on some projections only: both have to be seen.
    config = LoraConfig(
        r=4, lora_alpha=3, target_modules=["q_proj", "v_proj", "down_proj"], use_rslora=True,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(load(base), config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.copy_(0.2 * torch.randn_like(p))
    out.mkdir(parents=True, exist_ok=True)
    model.peft_config["default"].base_model_name_or_path = "tiny"
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    (out / "adapter_model.safetensors").chmod(0o644)
    save_logits(model, out / "expected.safetensors")


def main(command, base, *rest):
    if command == "fixture":
        return fixture(base, Path(rest[0]))
    adapter, out = rest
    model = load(base)
    if adapter != "-":
        model = PeftModel.from_pretrained(model, adapter)
    save_logits(model, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
