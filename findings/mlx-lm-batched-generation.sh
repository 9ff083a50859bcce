#!/usr/bin/env bash
# mlx-lm 0.32.2 (mlx 0.32.4): prompts of different length that are answered in one batch get other probabilities than
# alone, without a word, in some families.
#
# Shorter prompts are padded on the left. Mamba reads the padding as text: only the longest prompt's probabilities are
# right. Gemma 2 has its scores in five dimensions and the batch's mask in four, so that a mask's rows are taken for
# key-value heads: with as many prompts as key-value heads (2 in the model below, 4 in Gemma 2 2B) both come out wrong;
# with another number it raises a ValueError.
#
# Seen: largest difference of a log probability of the first token, longest and shortest prompt:
#   gemma2 [11.0228, 5.9996]; three prompts: [broadcast_shapes] Shapes (3,1,11,11) and (3,2,2,11,11) cannot be broadcast.
#   mamba [0.0, 8.6238]
# rhodb compares a batch's log probabilities with the model's own call before it answers with batches
# (runners/backend/generation.py, tests/runners/test_model_matrix.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "mlx[cpu]==0.32.4" "mlx-lm==0.32.2"
cat > "$folder/batched.py" <<'PYTHON'
import importlib.metadata

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from mlx_lm.generate import BatchGenerator, generate_step
from mlx_lm.models import gemma2, mamba

print("mlx", importlib.metadata.version("mlx"), "mlx-lm", importlib.metadata.version("mlx-lm"))
prompts = [[5, 9, 2, 7, 3, 8, 11, 4, 6, 10, 12, 13], [21, 22, 23]]
sizes = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 264}
attention = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-5}
state = {"state_size": 4, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True, "time_step_rank": 4}
models = {
    "gemma2": gemma2.Model(gemma2.ModelArgs.from_dict(sizes | attention | {"model_type": "gemma2"})),
    "mamba": mamba.Model(mamba.ModelArgs.from_dict(sizes | state | {"model_type": "mamba"})),
}


def together(model, prompts):
    generator = BatchGenerator(model)
    uids = generator.insert([list(prompt) for prompt in prompts], [1] * len(prompts))
    found = {}
    while responses := generator.next_generated():
        found |= {response.uid: np.array(response.logprobs) for response in responses}
    generator.close()
    return [found[uid] for uid in uids]


differences = {}
for name, model in models.items():
    mx.random.seed(0)
    spread = tree_map(lambda p: 0.3 * mx.random.normal(p.shape) if p.ndim == 2 else p, model.parameters())
    model.update(spread)
    alone = [np.array(next(generate_step(mx.array(prompt), model, max_tokens=1))[1]) for prompt in prompts]
    batch = together(model, prompts)
    differences[name] = [float(np.abs(a - b).max()) for a, b in zip(alone, batch)]
    print(name, [round(value, 4) for value in differences[name]])
assert min(differences["gemma2"]) > 0.1
assert differences["mamba"][0] < 1e-4 and differences["mamba"][1] > 0.1
try:
    together(models["gemma2"], [*prompts, [31, 32]])
except ValueError as error:
    print("gemma2, three prompts:", error)
else:
    raise AssertionError("gemma2 took three prompts")
PYTHON
"$folder/venv/bin/python" "$folder/batched.py"
