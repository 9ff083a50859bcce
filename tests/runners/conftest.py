"""Models for the tests: a tiny random one, and the embedded SmolLM2 for the slow tests."""

from typing import Any

import pytest

from runners.backend.models import LoadedModel, load_model, model_record
from runners.backend.tokenizer import build_bpe_tokenizer

# isort: split
import mlx.core as mx
from mlx_lm.models import llama
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
    """A random Llama of 264 tokens (all bytes, six merges, two special ones), float32."""
    mx.random.seed(seed)
    config = TINY_CONFIG | changes
    model = llama.Model(llama.ModelArgs.from_dict(config))
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


@pytest.fixture
def tiny_model() -> LoadedModel:
    """A fresh tiny model for each test, which may change it."""
    return make_tiny_model()


@pytest.fixture(scope="session")
def smollm2() -> LoadedModel:
    """The embedded model, shared by the slow tests: leave it as it is."""
    return load_model("smollm2-135m")
