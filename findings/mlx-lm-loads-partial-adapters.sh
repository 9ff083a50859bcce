#!/usr/bin/env bash
# mlx_lm loads an adapter that lacks half of its layers, or every lora_b, without an error or a warning.
#
# Seen with mlx-lm 0.32.2 and mlx 0.32.4 (CPU). `load_adapters` reads the configuration (here: all four layers), makes
# adapter layers for it, and loads the file with strict=False. It checks names and shapes of what is there, and not what
# is missing: a file of two layers of four is a model half tuned, and one without lora_b is the base under the adapter's
# name. A cut download, or files of two runs side by side, is all it takes. Expected: an error that names the missing tensors.
#
# Output seen:
#   mlx-lm 0.32.2, mlx 0.32.4
#   whole file        loads; logits move by 2.5235
#   two layers of 4   loads; logits move by 1.7043
#   without lora_b    loads; logits move by 0.0000
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "mlx[cpu]==0.32.4" "mlx-lm==0.32.2"
cd "$folder"
cat > look.py <<'P'
import importlib.metadata as metadata
import json
import warnings
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters

warnings.simplefilter("error")
print("mlx-lm", metadata.version("mlx-lm") + ", mlx", metadata.version("mlx"))
lora = {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": ["self_attn.q_proj", "self_attn.v_proj"]}
tokens = mx.array([[5, 9, 2, 7, 1, 20, 31]])


def base():
    mx.random.seed(0)
    return llama.Model(llama.ModelArgs(model_type="llama", hidden_size=64, num_hidden_layers=4, intermediate_size=96,
                                       num_attention_heads=4, rms_norm_eps=1e-5, vocab_size=128))


model = base()
model.freeze()
linear_to_lora_layers(model, 4, lora)
mx.random.seed(1)
tensors = {name: mx.random.normal(tensor.shape) * 0.1 for name, tensor in tree_flatten(model.trainable_parameters())}
files = {
    "whole file": tensors,
    "two layers of 4": {n: t for n, t in tensors.items() if ".layers.2." in n or ".layers.3." in n},
    "without lora_b": {n: t for n, t in tensors.items() if "lora_b" not in n},
}
moved = {}
untouched = base()(tokens)
for name, kept in files.items():
    folder = Path(name)
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"), kept)
    (folder / "adapter_config.json").write_text(
        json.dumps({"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": lora})
    )
    loaded = load_adapters(base(), str(folder))
    moved[name] = mx.abs(loaded(tokens) - untouched).max().item()
    print(f"{name:<17} loads; logits move by {moved[name]:.4f}")
assert moved["whole file"] > 0.01 and moved["two layers of 4"] > 0.01
assert moved["whole file"] != moved["two layers of 4"] and moved["without lora_b"] == 0, "the behaviour changed"
P
"venv/bin/python" look.py
