"""Make `peft_reference.json`: what PEFT writes for adapters of a tiny Llama, and the logits that it computes with them.

Run once, in an environment of its own, with torch, transformers and peft: `python make_peft_reference.py`. Weights are
not stored: both sides draw a tensor from its name (`drawn`).
"""

import json
import platform
import tempfile
import zlib
from pathlib import Path

import numpy as np

CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 264,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
CASES = {
    "lora": {"r": 4, "lora_alpha": 10, "target_modules": ["q_proj", "v_proj"]},
    "rslora": {"r": 4, "lora_alpha": 10, "target_modules": ["q_proj", "v_proj"], "use_rslora": True},
    "patterns": {
        "r": 4,
        "lora_alpha": 10,
        "target_modules": ["q_proj", "k_proj", "down_proj"],
        "rank_pattern": {"down_proj": 2, "layers.1.self_attn.q_proj": 6},
        "alpha_pattern": {"k_proj": 3, "^model.layers.0.mlp.down_proj": 7},
    },
    "dora": {"r": 3, "lora_alpha": 6, "target_modules": ["q_proj", "up_proj"], "use_dora": True},
    "dora, rslora": {"r": 3, "lora_alpha": 6, "target_modules": ["o_proj"], "use_dora": True, "use_rslora": True},
    "all linear": {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"},
    "expression": {"r": 2, "lora_alpha": 4, "target_modules": r".*layers\.1\..*(gate|up)_proj"},
    "one layer": {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "mlp.down_proj"], "layers_to_transform": [1]},
    "exclusion": {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "exclude_modules": ["0.self_attn.q_proj"]},
}  # fmt: skip
TOKENS = [5, 9, 2, 7, 1, 200, 31]
SHOWN = 6
"""Logits kept of each position: the first ones."""


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor's numbers, from its name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.normal(0, 0.2, shape)
    if "norm" in name or "magnitude" in name:
        values = 1 + values
    return values.astype(np.float32)


def main() -> None:
    """Write the file beside this script."""
    import peft
    import torch
    import transformers
    from safetensors import safe_open

    def base() -> torch.nn.Module:
        told = transformers.LlamaConfig(**CONFIG, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
        model = transformers.LlamaForCausalLM(told).double().eval()
        fill(model)
        return model

    def fill(model: torch.nn.Module) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora" not in name:
                    plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
                    parameter.copy_(torch.from_numpy(drawn(plain, tuple(parameter.shape))))

    def logits(model: torch.nn.Module) -> list[list[float]]:
        with torch.no_grad():
            return model(torch.tensor([TOKENS])).logits[0, :, :SHOWN].tolist()

    found = {"base": {"logits": logits(base())}}
    for case, options in CASES.items():
        model = peft.get_peft_model(base(), peft.LoraConfig(task_type="CAUSAL_LM", **options)).double().eval()
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora" in name:
                    saved = name.replace(".default", "")
                    saved = saved.removesuffix(".weight") if "magnitude" in saved else saved
                    parameter.copy_(torch.from_numpy(drawn(saved, tuple(parameter.shape))))
            model.save_pretrained(folder)
            with safe_open(Path(folder) / "adapter_model.safetensors", framework="np") as file:
                shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
                for name, shape in shapes.items():
                    assert np.array_equal(file.get_tensor(name), drawn(name, tuple(shape))), name
            config = json.loads((Path(folder) / "adapter_config.json").read_text())
        found[case] = {"config": config, "shapes": shapes, "logits": logits(model)}
    versions = {m.__name__: m.__version__ for m in (peft, torch, transformers)}
    report = {"made_with": versions | {"python": platform.python_version()}, "cases": found}
    Path(__file__).with_name("peft_reference.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
