#!/usr/bin/env bash
# mlx_lm's `fuse` of a LoRA adapter into a 4-bit model quantises the sum again, and rounding takes most of a small adapter.
#
# Seen with mlx-lm 0.32.2 and mlx 0.32.4 (CPU). A tiny random Llama, 4-bit, with a small adapter: loaded beside the packed
# weights, as `mlx_lm.load(model, adapter_path=...)` does, the adapter moves the logits; after `fuse()` (the default of
# `mlx_lm.fuse`) the error against that is twice the whole effect. Nothing is said about it. Expected: the tuned model, or a
# warning. `fuse(dequantize=True)` keeps the adapter.
#
# Output seen:
#   mlx-lm 0.32.2, mlx 0.32.4
#   effect of the adapter on the logits (RMS)             0.00288
#   error of the model fused and quantised again (RMS)    0.00599
#   error of the model fused with dequantize=True (RMS)   0.00000
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "mlx[cpu]==0.32.4" "mlx-lm==0.32.2"
cd "$folder"
cat > look.py <<'P'
import importlib.metadata as metadata

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten
from mlx_lm.models import llama
from mlx_lm.tuner.utils import linear_to_lora_layers

print("mlx-lm", metadata.version("mlx-lm") + ", mlx", metadata.version("mlx"))
mx.random.seed(0)
model = llama.Model(llama.ModelArgs(model_type="llama", hidden_size=128, num_hidden_layers=4, intermediate_size=256,
                                    num_attention_heads=4, rms_norm_eps=1e-5, vocab_size=256))
nn.quantize(model, group_size=64, bits=4)
tokens = mx.array([list(range(5, 60))])
base = model(tokens)
linear_to_lora_layers(model, 4, {"rank": 8, "scale": 2.0, "dropout": 0.0})
tuned_layers = [(name, layer) for name, layer in model.named_modules() if hasattr(layer, "fuse")]
for _, layer in tuned_layers:
    layer.lora_b = mx.random.normal(layer.lora_b.shape) * 2e-4
tuned = model(tokens)


def rms(x):
    return mx.sqrt(mx.mean(mx.square(x))).item()


def fused(**options):
    model.update_modules(tree_unflatten([(name, layer.fuse(**options)) for name, layer in tuned_layers]))
    return model(tokens)


effect, packed, kept = rms(tuned - base), rms(fused() - tuned), rms(fused(dequantize=True) - tuned)
print(f"effect of the adapter on the logits (RMS)             {effect:.5f}")
print(f"error of the model fused and quantised again (RMS)    {packed:.5f}")
print(f"error of the model fused with dequantize=True (RMS)   {kept:.5f}")
assert effect > 1e-4 and kept < effect / 50
assert packed > 0.5 * effect, "the behaviour changed"
P
"venv/bin/python" look.py
