"""PEFT's adapters, against the logits that PEFT itself computed with them (`make_peft_reference.py`), and refusals."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from make_peft_reference import CONFIG, SHOWN, TOKENS, drawn
from mlx.utils import tree_flatten
from tiny_model import make_tiny_model, save_tiny_model

from rhodb.errors import InputError
from runners.backend.adapters import adapter_on, read_adapter
from runners.backend.weights import in_place, weights_digest

CASES = json.loads((Path(__file__).parent / "peft_reference.json").read_text(encoding="utf-8"))["cases"]


def make_base(**changes):
    """The reference's Llama."""
    loaded = make_tiny_model(**(CONFIG | changes))
    flat = tree_flatten(loaded.model.parameters())
    loaded.model.load_weights([(name, mx.array(drawn(name, tuple(p.shape)))) for name, p in flat])
    return loaded


def logits(loaded):
    return np.array(loaded.model(mx.array([TOKENS])))[0, :, :SHOWN]


def write(folder, case, change=None, **config):
    """The adapter as PEFT wrote it, with some tensors or settings changed."""
    shapes = CASES[case]["shapes"]
    tensors = {name: mx.array(drawn(name, tuple(shape))) for name, shape in shapes.items()}
    folder.mkdir(exist_ok=True)
    mx.save_safetensors(str(folder / "adapter_model.safetensors"), change(tensors) if change else tensors)
    (folder / "adapter_config.json").write_text(json.dumps(CASES[case]["config"] | config))
    return folder


@pytest.mark.parametrize("case", sorted(CASES))
def test_it_computes_what_peft_computes(case, tmp_path):
    loaded = make_base()
    before = weights_digest(loaded.model)
    base = np.array(CASES["base"]["logits"])
    if case == "base":
        assert logits(loaded) == pytest.approx(base, abs=2e-5)
        return
    adapter = read_adapter(loaded, write(tmp_path / "peft", case))
    assert (adapter.layout.written_by, adapter.missing) == ("PEFT", ())
    expected = np.array(CASES[case]["logits"])
    assert np.abs(expected - base).max() > 0.05
    for put in (in_place(loaded, adapter.fused().tensors), adapter_on(loaded, adapter)):
        with put:
            assert logits(loaded) == pytest.approx(expected, abs=2e-5)
    assert weights_digest(loaded.model) == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"modules_to_save": ["lm_head"]}, r"with modules_to_save = \['lm_head'\]"),
        ({"bias": "all"}, "with bias = 'all'"),
        ({"trainable_token_indices": [1]}, "with trainable_token_indices"),
        ({"invented_in_2030": True}, "with invented_in_2030 = True"),
        ({"init_lora_weights": "pissa"}, "'pissa' changes the base itself"),
        ({"target_modules": ["c_attn"]}, r"has none of its target_modules \['c_attn'\]"),
        ({"target_modules": None}, "names no target_modules"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens is a Embedding here"),
        ({"target_modules": ["q_proj"]}, r"v_proj\.lora_A\.weight .*has no place"),
        ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, r"4 of 12 tensors are missing"),
        ({"rank_pattern": {"q_proj": 5}}, r"q_proj\.lora_A\.weight .*has the shape \(4, 32\), expected \(5, 32\)"),
        ({"use_dora": True}, r"4 of 12 tensors are missing: .*lora_magnitude_vector"),
    ],
)
def test_what_would_compute_something_else_is_refused_by_name(config, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_adapter(make_base(), write(tmp_path / "peft", "lora", **config))


def test_one_for_a_part_that_the_model_lacks_is_named(tmp_path):
    folder = write(
        tmp_path / "peft", "lora", lambda t: t | {"base_model.model.lm_head.lora_A.weight": mx.zeros((4, 32))}
    )
    with pytest.raises(InputError, match=r"lm_head\.lora_A\.weight has no place"):
        read_adapter(make_base(), folder)


def test_weights_in_the_older_format_are_asked_for_in_the_newer(tmp_path):
    folder = write(tmp_path / "peft", "lora")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(
        InputError, match=r"has no adapter_model\.safetensors \(but adapter_model\.bin: save it as safetensors\)"
    ):
        read_adapter(make_base(), folder)


def test_the_leaderboard_takes_a_peft_folder(rhodb, tiny_probes_folder, tmp_path):
    base = save_tiny_model(tmp_path / "base", make_base())
    adapter = write(tmp_path / "a peft 'ü'", "dora")
    done = rhodb("run", "leaderboard", "--preset", "quick", "--model", base, "--probes", tiny_probes_folder,
                 "--max-length", "64", "--models", f"{base},{adapter}", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["executed"] == ["baseline", "base seed 42", "a peft 'ü' seed 42"]
