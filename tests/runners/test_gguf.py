"""Local GGUF files: weights by the format's definitions, logits by mlx_lm, tokens by transformers; the rest refused."""

import sys

import gguf
import mlx.core as mx
import numpy as np
import pytest
import regex
from gguf import GGMLQuantizationType as Q
from gguf.quants import quantize
from mlx.utils import tree_flatten
from tiny_model import make_tiny_model
from transformers import GPT2Tokenizer, Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from rhodb.errors import InputError
from runners.backend.gguf import PACKAGE, find_packaged_gguf, load_local_gguf
from runners.backend.gguf_models import _TENSORS, _TOP
from runners.backend.models import load_model
from runners.backend.tokenizer import _LLAMA3, PRE_TOKENIZERS, encode

TOKENS = mx.array([[5, 9, 2, 7, 1, 200, 31]])
ARCHITECTURES = {
    "llama": {},
    "llama untied with biases": {"tie_word_embeddings": False, "attention_bias": True},
    "llama of wide heads": {"head_dim": 16},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": False},
    "qwen3": {"model_type": "qwen3", "head_dim": 16},
}
TEXTS = [
    "Don't count 12345, naïve café!",
    "  two  spaces\n\nand lines\t",
    "x = 3.14; 東京 😀 it's",
    "<|user|>hi<|end|>",
]


def f32(words: np.ndarray) -> np.ndarray:
    return words.view(np.float16).astype(np.float32)


def decoded(blocks: np.ndarray, kind: Q) -> np.ndarray:
    """Packed rows as numbers, by the definitions in GGML's specification."""
    b = blocks.reshape(-1, gguf.GGML_QUANT_SIZES[kind][1])
    nibbles = lambda bytes_: np.concatenate([bytes_ & 15, bytes_ >> 4], axis=1).astype(np.float32)  # noqa: E731
    if kind == Q.Q8_0:
        values = f32(b[:, :2].copy()) * b[:, 2:].view(np.int8)
    elif kind == Q.Q4_0:
        values = f32(b[:, :2].copy()) * (nibbles(b[:, 2:]) - 8)
    elif kind == Q.Q4_1:
        values = f32(b[:, :2].copy()) * nibbles(b[:, 4:]) + f32(b[:, 2:4].copy())
    elif kind == Q.Q4_K:
        d, least, packed, weights = f32(b[:, :2].copy()), f32(b[:, 2:4].copy()), b[:, 4:16], b[:, 16:]
        scales = [packed[:, j] & 63 if j < 4 else packed[:, j + 4] & 15 | packed[:, j - 4] >> 6 << 4 for j in range(8)]
        minima = [packed[:, j + 4] & 63 if j < 4 else packed[:, j + 4] >> 4 | packed[:, j] >> 6 << 4 for j in range(8)]
        parts = []
        for j in range(8):
            part = weights[:, j // 2 * 32 : j // 2 * 32 + 32] >> (j % 2 * 4) & 15
            parts.append(d * scales[j][:, None] * part - least * minima[j][:, None])
        values = np.concatenate(parts, axis=1)
    else:
        assert kind == Q.Q6_K
        low, high, scales, d = b[:, :128], b[:, 128:192], b[:, 192:208].view(np.int8), f32(b[:, 208:].copy())
        parts = []
        for i in range(8):  # 32 weights each
            half, quarter = divmod(i, 4)
            four = low[:, half * 64 + quarter % 2 * 32 :][:, :32] >> (quarter // 2 * 4) & 15
            two = high[:, half * 32 : half * 32 + 32] >> (quarter * 2) & 3
            scale = np.repeat(scales[:, 2 * i : 2 * i + 2], 16, axis=1)
            parts.append(d * scale * ((four | two << 4).astype(np.int32) - 32))
        values = np.concatenate(parts, axis=1)
    return values.reshape(*blocks.shape[:-1], -1)


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp's converter permutes q and k."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write(path, loaded, kind=Q.F32, *, drop=(), extra=None, pre="smollm", model="gpt2", **settings):
    """A GGUF file of a tiny model whose matrices are of type `kind`; returns name -> packed matrix."""
    c = loaded.config
    arch, heads = c["model_type"], c["num_attention_heads"]
    writer = gguf.GGUFWriter(str(path), settings.pop("architecture", arch))
    head_dim = c.get("head_dim")
    told = {
        "context_length": 512, "embedding_length": c["hidden_size"], "block_count": c["num_hidden_layers"],
        "feed_forward_length": c["intermediate_size"], "attention.head_count": heads,
        "attention.head_count_kv": c["num_key_value_heads"], "attention.layer_norm_rms_epsilon": c["rms_norm_eps"],
        "rope.freq_base": float(c["rope_theta"]),
    }  # fmt: skip
    if head_dim is not None:
        told |= {"attention.key_length": head_dim, "attention.value_length": head_dim}
    told |= settings
    for name, value in told.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array}
        add[type(value)](f"{arch}.{name}", value)
    inner = loaded.tokenizer.backend_tokenizer
    tokens = [inner.id_to_token(i) for i in range(c["vocab_size"])]
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if t.startswith("<|") else 1 for t in tokens])
    writer.add_token_merges(["Ġ t", "h e", "Ġt he", "i n", "Ġ a", "o n"])
    writer.add_eos_token_id(tokens.index("<|end|>"))
    here = {v: k for k, v in (_TENSORS | _TOP).items()}
    packed = {}
    for name, tensor in [*tree_flatten(loaded.model.parameters()), *(extra or {}).items()]:
        values, path_, leaf = np.array(tensor), *name.rpartition(".")[::2]
        if path_.startswith("model.layers."):
            _, _, block, part = path_.split(".", 3)
            target = f"blk.{block}.{here[part]}.{leaf}"
            if arch == "llama" and here[part] in ("attn_q", "attn_k"):
                values = interleaved(values, heads if here[part] == "attn_q" else c["num_key_value_heads"])
        else:
            target = f"{here[path_]}.{leaf}" if path_ in here else name
        if target in drop:
            continue
        own = kind if values.ndim == 2 else Q.F32
        raw = values
        if values.dtype != np.int32:
            raw = values.astype(np.float16) if own == Q.F16 else values if own == Q.F32 else quantize(values, own)
        packed[name] = raw
        writer.add_tensor(target, raw, raw_dtype=None if values.dtype == np.int32 else own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return packed


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_file_of_plain_tensors_is_the_model_that_it_was_made_of(architecture, tmp_path):
    source = make_tiny_model(**ARCHITECTURES[architecture])
    write(tmp_path / "tiny é.gguf", source)
    loaded = load_model(str(tmp_path / "tiny é.gguf"))
    assert np.array_equal(np.array(loaded.model(TOKENS)), np.array(source.model(TOKENS)))
    for text in TEXTS:
        assert encode(loaded.tokenizer, text) == encode(source.tokenizer, text)
    record = loaded.record
    assert record.quantization == "GGUF F32, expanded" and record.source.endswith("tiny é.gguf")
    assert record.architecture == source.config["model_type"]


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_rotary_scaling_of_llama_3_is_found_again(factor, tmp_path):
    told = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}  # fmt: skip
    source = make_tiny_model(rope_theta=500000.0, rope_scaling=told)
    divisors = []
    for wavelength in 2 * np.pi * 500000.0 ** (np.arange(4) / 4):  # as llama.cpp's converter computes them
        if wavelength < 8192 / 4:
            divisors.append(1.0)
        elif wavelength > 8192 / 1:
            divisors.append(factor)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    assert 1 < divisors[2] < factor == divisors[3]
    write(tmp_path / "tiny.gguf", source, extra={"rope_freqs.weight": mx.array(divisors)})
    loaded = load_model(str(tmp_path / "tiny.gguf"))
    long = mx.array([list(range(5, 255))])
    assert np.array_equal(np.array(loaded.model(long)), np.array(source.model(long)))
    assert not np.allclose(
        np.array(make_tiny_model(rope_theta=500000.0).model(long)), np.array(source.model(long)), atol=1e-3
    )


@pytest.mark.parametrize("kind", [Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q8_0])
def test_packed_files_compute_what_their_numbers_say(kind, tmp_path):
    source = make_tiny_model()
    packed = write(tmp_path / "tiny.gguf", source, kind)
    expected = make_tiny_model()
    for name, tensor in tree_flatten(source.model.parameters()):
        if tensor.ndim == 2:
            heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
            if kind == Q.BF16:
                values = np.left_shift(packed[name].view(np.uint16).astype(np.uint32), 16).view(np.float32)
            else:
                values = packed[name].astype(np.float32) if kind == Q.F16 else decoded(packed[name], kind)
            if heads is not None:
                values = values.reshape(heads, -1, 2, 32).swapaxes(1, 2).reshape(values.shape)
            assert np.abs(values - np.array(tensor)).max() < 0.3  # the same matrix, coarser
            expected.model.load_weights([(name, mx.array(values))], strict=False)
    loaded = load_model(str(tmp_path / "tiny.gguf"))
    for (name, a), (_, b) in zip(
        sorted(tree_flatten(loaded.model.parameters())), sorted(tree_flatten(expected.model.parameters())), strict=True
    ):
        assert np.array(a) == pytest.approx(np.array(b), rel=1e-6, abs=1e-7), name
    assert np.array(loaded.model(TOKENS)) == pytest.approx(np.array(expected.model(TOKENS)), abs=1e-4)


@pytest.mark.parametrize("kind", [Q.Q4_K, Q.Q6_K])
def test_blocks_of_256_are_read_by_their_definition(kind, tmp_path):
    """Q4_K is the type that MLX reads wrongly."""
    from runners.backend.gguf_file import PackageFile

    blocks = np.random.default_rng(0).integers(0, 256, (4, 2 * gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    scales = blocks.reshape(8, -1)
    half = np.array([0.01, 0.02], np.float16).view(np.uint8)
    scales[:, slice(0, 4) if kind == Q.Q4_K else slice(208, 210)] = half if kind == Q.Q4_K else half[:2]
    writer = gguf.GGUFWriter(str(tmp_path / "t.gguf"), "llama")
    writer.add_tensor("t.weight", blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = np.array(PackageFile(tmp_path / "t.gguf").tensor("t.weight"))
    assert read.shape == (4, 512)
    assert read == pytest.approx(decoded(blocks, kind), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "gemma2"}, "of the architecture 'gemma2' are not read here; known are llama, qwen2"),
        ({"rope.scaling.type": "yarn"}, "setting llama.rope.scaling.type = 'yarn' is not known"),
        ({"expert_count": 8}, "setting llama.expert_count = 8 is not known"),
        ({"attention.head_count_kv": [2, 1]}, "head_count_kv differs from layer to layer"),
        ({"rope.dimension_count": 4}, "rope.dimension_count is 4, but its heads have 8"),
        ({"extra": {"rope_freqs.weight": mx.array([1.0, 1, 3, 8])}}, "rope_freqs.weight are not the divisors of Llama"),
        ({"extra": {"rope_long.weight": mx.ones(4)}}, "tensor rope_long.weight has no place in mlx_lm's llama"),
        ({"extra": {"v.weight": mx.ones((2, 4), dtype=mx.int32)}}, "tensor v.weight is of type I32"),
        ({"drop": ("blk.1.ffn_up.weight",)}, "layers.1.mlp.up_proj.weight"),
        ({"model": "llama"}, "tokenizer is llama/smollm; known are gpt2/smollm"),
        ({"pre": "tekken"}, "tokenizer is gpt2/tekken"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_name(options, message, tmp_path):
    path = tmp_path / "tiny.gguf"
    write(path, make_tiny_model(), **options)
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        load_model(str(path))


@pytest.mark.parametrize("share", [0.999, 0.5, 0.01])
def test_a_cut_file_is_refused(share, tmp_path):
    path = tmp_path / "tiny.gguf"
    write(path, make_tiny_model())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match="cannot be read"):
        load_model(str(path))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"this is not a model" * 100)
    with pytest.raises(InputError, match="cannot be read"):
        load_model(str(tmp_path / "a.gguf"))
    (tmp_path / "b.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"is a file; give a folder in MLX format or a \.gguf file"):
        load_model(str(tmp_path / "b.bin"))


def test_without_the_package_it_is_named(tmp_path, monkeypatch):
    write(tmp_path / "tiny.gguf", make_tiny_model())
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.delitem(sys.modules, "runners.backend.gguf_file", raising=False)
    monkeypatch.delattr("runners.backend.gguf_file", raising=False)
    with pytest.raises(InputError, match=r"install rhodb\[gguf\]"):
        load_model(str(tmp_path / "tiny.gguf"))


@pytest.mark.parametrize(("pre", "library"), [("qwen2", Qwen2Tokenizer), ("gpt-2", GPT2Tokenizer)])
def test_tokens_are_those_of_the_models_own_tokenizer(pre, library, tmp_path):
    source = make_tiny_model()
    write(tmp_path / "tiny.gguf", source, pre=pre)
    inner = source.tokenizer.backend_tokenizer
    vocabulary = {inner.id_to_token(i): i for i in range(264)}
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("Ġ", "a"), ("o", "n")]
    reference = library(vocab=vocabulary, merges=merges, eos_token="<|end|>", unk_token="<|end|>", pad_token="<|end|>")
    reference.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    loaded = load_model(str(tmp_path / "tiny.gguf"))
    for text in [*TEXTS, "cafe\u0301 in the tin", "A the\u00a0then"]:
        assert encode(loaded.tokenizer, text) == reference.encode(text, add_special_tokens=False), text


def test_texts_are_cut_as_the_patterns_say():
    for pre, pattern in (("qwen2", PRETOKENIZE_REGEX), ("llama-bpe", _LLAMA3)):
        for text in TEXTS:
            cut = [text[a:b] for _, (a, b) in PRE_TOKENIZERS[pre].pre_tokenize_str(text)]
            assert cut == regex.findall(pattern, text)


def test_a_run_takes_a_gguf_file(rhodb, tiny_probes_folder, tmp_path):
    path = tmp_path / "tiny 'ü'.gguf"
    write(path, make_tiny_model(), Q.Q8_0)
    done = rhodb("run", "fidelity-bench", "--preset", "quick", "--model", path, "--probes", tiny_probes_folder,
                 "--max-length", "64", "--behaviors", "factual")  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_embedded_file_is_read_alike_by_both_readers(smollm2):
    path = find_packaged_gguf(PACKAGE)[0]
    again = load_local_gguf(path, key="again")
    for (name, a), (_, b) in zip(
        sorted(tree_flatten(again.model.parameters())), sorted(tree_flatten(smollm2.model.parameters())), strict=True
    ):
        assert np.abs(np.array(a) - np.array(b)).max() < 1e-6, name
    for text in TEXTS:
        assert encode(again.tokenizer, text) == encode(smollm2.tokenizer, text)
