"""What a GGUF file of a known architecture says, in the words of mlx_lm: configuration, weights, tokenizer.

Everything in the file must be understood: an unknown setting, tensor or tokenizer is refused by name, since leaving it
out would give a model that computes something else.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

import mlx.core as mx
import numpy as np
from mlx_lm.tokenizer_utils import TokenizerWrapper
from numpy.typing import NDArray

from rhodb.errors import InputError
from runners.backend.tokenizer import PRE_TOKENIZERS, build_bpe_tokenizer

_TENSORS: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Name of a block's tensor in the file -> name in mlx_lm's models."""

_TOP: Final = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}

_ROPE: Final = "rope_freqs.weight"
_INTERLEAVED: Final = ("llama",)
"""Architectures whose q and k rows the format stores for interleaved rotary pairs."""

_KNOWN: Final = {
    *("context_length", "embedding_length", "block_count", "feed_forward_length", "vocab_size"),
    *("attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon"),
    *("attention.key_length", "attention.value_length", "rope.freq_base", "rope.dimension_count"),
}
_CONTROL, _USER_DEFINED = 3, 4  # token types in the GGUF specification


class GgufFile(Protocol):
    """A file, whoever reads it."""

    metadata: dict[str, Any]
    names: set[str]

    def tensor(self, name: str) -> mx.array: ...


def model_config(file: GgufFile) -> dict[str, Any]:
    """The file's metadata in the words of a `config.json`. Raises InputError for what mlx_lm would not be told."""
    told = file.metadata
    kind = told["general.architecture"]
    if kind not in ("llama", "qwen2", "qwen3"):
        raise InputError(f"GGUF files of the architecture {kind!r} are not read here; known are llama, qwen2 and qwen3")
    own = {name.removeprefix(f"{kind}."): value for name, value in told.items() if name.startswith(f"{kind}.")}
    for name, value in own.items():
        if name not in _KNOWN:
            raise InputError(f"the GGUF file's setting {kind}.{name} = {value!r} is not known here")
        if not isinstance(value, int | float):
            raise InputError(f"the GGUF file's setting {kind}.{name} differs from layer to layer")
    heads, hidden = own["attention.head_count"], own["embedding_length"]
    head_dim = own.get("attention.key_length", hidden // heads)
    for name in ("attention.value_length", "rope.dimension_count"):
        if own.get(name, head_dim) != head_dim:
            raise InputError(f"the GGUF file's {kind}.{name} is {own[name]}, but its heads have {head_dim} dimensions")
    config = {
        "model_type": kind,
        "hidden_size": hidden,
        "num_hidden_layers": own["block_count"],
        "intermediate_size": own["feed_forward_length"],
        "num_attention_heads": heads,
        "num_key_value_heads": own.get("attention.head_count_kv", heads),
        "rms_norm_eps": own["attention.layer_norm_rms_epsilon"],
        "vocab_size": own.get("vocab_size", len(told["tokenizer.ggml.tokens"])),
        "max_position_embeddings": own["context_length"],
        "rope_theta": own.get("rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in file.names,
    }
    if kind == "qwen3" or "attention.key_length" in own:
        config["head_dim"] = head_dim
    if kind == "llama" and "blk.0.attn_q.bias" in file.names:
        config["attention_bias"] = True
    if kind == "llama" and _ROPE in file.names:
        factors = np.array(file.tensor(_ROPE), np.float64)
        config["rope_scaling"] = llama3_scaling(factors, theta=config["rope_theta"], head_dim=head_dim)
    return config


def llama3_scaling(factors: NDArray[np.float64], *, theta: float, head_dim: int) -> dict[str, Any]:
    """The `rope_scaling` of Llama 3.1 and later, of which a GGUF file keeps only what each frequency is divided by.

    The factor is the largest divisor; the rest is the same in all of these models, which is tested on all divisors.
    Raises InputError where it is not.
    """
    low, high, context = 1.0, 4.0, 8192
    wavelengths = 2 * np.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = np.clip((context / wavelengths - low) / (high - low), 0, 1)
    factor = float(factors.max())
    if factors.shape != smooth.shape or not np.allclose(factors, 1 / ((1 - smooth) / factor + smooth), rtol=1e-4):
        raise InputError(f"the GGUF file's {_ROPE} are not the divisors of Llama 3.1 and later; others are not known")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": context,
    }


def gguf_weights(file: GgufFile, config: Mapping[str, Any]) -> Iterator[tuple[str, mx.array]]:
    """The file's tensors under mlx_lm's names; `load_weights` says which of the model's are missing.

    Raises InputError for a tensor that has no place.
    """
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    interleaved = config["model_type"] in _INTERLEAVED
    for name in sorted(file.names - ({_ROPE} if "rope_scaling" in config else set())):
        path, _, leaf = name.rpartition(".")
        block, _, part = path.removeprefix("blk.").partition(".")
        if path in _TOP:
            yield f"{_TOP[path]}.{leaf}", file.tensor(name)
        elif path.startswith("blk.") and part in _TENSORS:
            tensor = file.tensor(name)
            if interleaved and part in heads:
                tensor = split_rotary(tensor, heads[part])
            yield f"model.layers.{block}.{_TENSORS[part]}.{leaf}", tensor
        else:
            raise InputError(f"the GGUF file's tensor {name} has no place in mlx_lm's {config['model_type']}")


def gguf_tokenizer(metadata: Mapping[str, Any]) -> TokenizerWrapper:
    """The byte-level BPE tokenizer that the file describes."""
    kind, pre = metadata["tokenizer.ggml.model"], str(metadata.get("tokenizer.ggml.pre"))
    if kind != "gpt2" or pre not in PRE_TOKENIZERS:
        known = ", ".join(f"gpt2/{name}" for name in PRE_TOKENIZERS)
        raise InputError(f"the GGUF file's tokenizer is {kind}/{pre}; known are {known}")
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    types = metadata["tokenizer.ggml.token_type"]
    eos = metadata["tokenizer.ggml.eos_token_id"]
    named = list(zip(tokens, types, strict=True))
    bos = metadata.get("tokenizer.ggml.bos_token_id")
    add_bos = metadata.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe")
    return build_bpe_tokenizer(
        tokens=tokens,
        merges=metadata["tokenizer.ggml.merges"],
        special=[token for token, kind in named if kind == _CONTROL],
        added=[token for token, kind in named if kind == _USER_DEFINED],
        eos=tokens[eos],
        pad=tokens[metadata.get("tokenizer.ggml.padding_token_id", eos)],
        bos=tokens[bos] if add_bos and bos is not None else None,
        chat_template=metadata.get("tokenizer.chat_template"),
        pre=pre,
    )


def split_rotary(weight: mx.array, heads: int) -> mx.array:
    """Undo the file's interleaving of rotary pairs: rows (0, half, 1, half + 1, ...) of a head become (0, 1, ...).

    So the model has the layout of its original checkpoint, and adapters trained here fit that, too.
    """
    pairs = weight.reshape(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weight.shape)
