"""A tiny language model with random weights, for tests that need a real one but not a good one."""

import importlib
from pathlib import Path
from typing import Any

from runners.backend.models import LoadedModel, model_record
from runners.backend.tokenizer import build_bpe_tokenizer

# isort: split
import mlx.core as mx
from mlx_lm.utils import MODEL_REMAPPING
from tokenizers.pre_tokenizers import ByteLevel

TINY_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 264,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
_MERGES = ["Ġ t", "h e", "Ġt he", "i n", "Ġ a", "o n"]
_CHAT = "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}"


def make_tiny_model(seed: int = 0, **changes: Any) -> LoadedModel:
    """A random model of 264 tokens (all bytes, six merges, two special ones), float32; a Llama unless changed."""
    mx.random.seed(seed)
    config = TINY_CONFIG | changes
    kind = config["model_type"]
    architecture = importlib.import_module(f"mlx_lm.models.{MODEL_REMAPPING.get(kind, kind)}")
    model = architecture.Model(architecture.ModelArgs.from_dict(config))
    # Twice the usual spread, so that texts differ in cross-entropy by far more than rounding does.
    model.update(_spread(model.parameters()))
    model.eval()
    mx.eval(model.parameters())
    tokens = [*sorted(ByteLevel.alphabet()), *(m.replace(" ", "") for m in _MERGES), "<|end|>", "<|user|>"]
    tokenizer = build_bpe_tokenizer(
        tokens=tokens,
        merges=_MERGES,
        special=["<|end|>", "<|user|>"],
        eos="<|end|>",
        pad="<|end|>",
        chat_template=_CHAT,
    )
    record = model_record(
        key="tiny", source="tests", revision=None, fingerprint=f"tiny-{seed}", model=model, config=config
    )
    return LoadedModel(record=record, model=model, tokenizer=tokenizer, config=config)


def _spread(parameters: Any) -> Any:
    from mlx.utils import tree_map

    return tree_map(lambda p: p * 2.0 if p.ndim == 2 else p, parameters)


def save_tiny_model(folder: Path, loaded: LoadedModel | None = None) -> Path:
    """Write a tiny model to a folder in MLX format, which `load_model` reads."""
    from mlx_lm.utils import save_config, save_model

    loaded = loaded or make_tiny_model()
    save_model(folder, loaded.model)
    save_config(dict(loaded.config), folder / "config.json")
    loaded.tokenizer.save_pretrained(folder)
    return folder
