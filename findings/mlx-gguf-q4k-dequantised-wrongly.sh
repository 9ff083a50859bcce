#!/usr/bin/env bash
# mlx.core.load reads Q4_K tensors of GGUF files without an error, and gives wrong weights.
#
# Seen with mlx 0.32.4 (CPU) and gguf 0.19.0, the format's own Python package. In a block of 256 weights Q4_K keeps eight
# sub-blocks of 32, each with a scale and a minimum of its own. MLX gives the second of each two sub-blocks the scale and
# minimum of the first. The same file's Q4_0, Q4_1 and Q8_0 tensors are right, and types that MLX does not know raise, so
# nobody expects this of the most common type of all. Expected: the numbers of the format's definition, or an error.
#
# Output seen:
#   mlx 0.32.4, gguf 0.19.0
#   Q8_0   largest error 0.0000
#   Q4_1   largest error 0.0000
#   Q4_K   largest error 7.8231 of weights up to 8.8, sub-blocks that are right: 0 2 4 6
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "mlx[cpu]==0.32.4" "gguf==0.19.0"
cd "$folder"
cat > look.py <<'P'
import importlib.metadata as metadata

import gguf
import mlx.core as mx
import numpy as np
from gguf.quants import dequantize, quantize

rng = np.random.default_rng(0)
plain = rng.normal(size=(4, 256)).astype(np.float32)
Q = gguf.GGMLQuantizationType
blocks = {"Q8_0": quantize(plain, Q.Q8_0), "Q4_1": quantize(plain, Q.Q4_1)}
# A block of Q4_K: two float16 (scale of scales, scale of minima), 12 bytes of 6-bit scales, 128 bytes of 4-bit weights.
q4k = rng.integers(0, 256, size=(4, 144), dtype=np.uint8)
q4k[:, :4] = np.array([[0.01, 0.01]] * 4, np.float16).view(np.uint8)
blocks["Q4_K"] = q4k

writer = gguf.GGUFWriter("tiny.gguf", "llama")
for name, data in blocks.items():
    writer.add_tensor(name + ".weight", data, raw_dtype=Q[name])
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

print("mlx", metadata.version("mlx") + ", gguf", metadata.version("gguf"))
loaded = mx.load("tiny.gguf")
errors = {}
for name, data in blocks.items():
    right = dequantize(data, Q[name])
    weight = loaded[name + ".weight"]
    if name + ".scales" in loaded:
        scales, biases = (loaded[f"{name}.{part}"].astype(mx.float32) for part in ("scales", "biases"))
        weight = mx.dequantize(weight, scales, biases, group_size=32, bits=weight.shape[-1] * 32 // 256)
    error = np.abs(np.array(weight.astype(mx.float32)) - right)
    errors[name] = error.reshape(4, 8, 32).max(axis=(0, 2))
    line = f"{name:<6} largest error {error.max():.4f}"
    if name == "Q4_K":
        good = " ".join(str(i) for i, e in enumerate(errors[name]) if e < 0.01)
        line += f" of weights up to {np.abs(right).max():.1f}, sub-blocks that are right: {good}"
    print(line)
assert errors["Q8_0"].max() < 0.01 and errors["Q4_1"].max() < 0.01
assert [bool(e < 0.01) for e in errors["Q4_K"]] == [True, False] * 4, "the behaviour changed"
P
"venv/bin/python" look.py
