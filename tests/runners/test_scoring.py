"""However texts are batched, shared or spread over cores, the scores are those of one text at a time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx import nn
from mlx_lm.tuner.utils import linear_to_lora_layers
from tiny_model import make_tiny_model

from rhodb.errors import InputError
from runners.backend import passes, rows
from runners.backend.blas import blas_info
from runners.backend.models import LoadedModel
from runners.backend.proof import proven
from runners.backend.rows import Side
from runners.backend.scoring import PairScore, PairText, SideScore, pair_sides, score_pairs, score_plain, score_texts
from runners.backend.tokenizer import encode

PROMPT = "the river that runs in the land: "
PAIRS = [
    PairText(prompt=PROMPT, positive=PROMPT + "on and on", negative=PROMPT + "a wall"),
    PairText(prompt=None, positive="one text", negative="the other is a good deal longer than that one"),
    PairText(prompt=None, positive="the same beginning, one end", negative="the same beginning, another"),
    PairText(prompt="Q", positive="Q1", negative="Q22222222222"),
    PairText(prompt=PROMPT, positive=PROMPT + "é😀", negative=PROMPT + "é😀 and more"),
    PairText(prompt=None, positive="equal texts", negative="equal texts"),
    PairText(prompt=None, positive="xy", negative="xyz" * 40),
]


def _sides(scores: list[PairScore]) -> Iterator[SideScore]:
    for score in scores:
        yield score.positive
        yield score.negative


def _assert_same(found: list[PairScore], expected: list[PairScore]) -> None:
    for a, b in zip(_sides(found), _sides(expected), strict=True):
        assert (a.tokens, a.answer_tokens, a.truncated) == (b.tokens, b.answer_tokens, b.truncated)
        assert a.ce == pytest.approx(b.ce, abs=1e-4)
        assert a.answer_ce == (None if b.answer_ce is None else pytest.approx(b.answer_ce, abs=1e-4))


def _install_lora(loaded: LoadedModel) -> None:
    keys = [f"self_attn.{name}_proj" for name in "qko"]
    linear_to_lora_layers(loaded.model, 2, {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": keys})
    key = mx.random.key(3)
    for name, layer in loaded.model.named_modules():
        if name.endswith("_proj") and "lora_b" in layer:
            layer.lora_b = 0.3 * mx.random.normal(layer.lora_b.shape, key=key)
    loaded.model.eval()


def test_batched_equals_one_by_one(tiny_model: LoadedModel) -> None:
    _assert_same(score_pairs(tiny_model, PAIRS), score_plain(tiny_model, PAIRS))


def test_plain_is_the_definition(tiny_model: LoadedModel) -> None:
    """Against a float64 computation from the model's logits."""
    text = PAIRS[0].positive
    ids = encode(tiny_model.tokenizer, text)
    logits = np.array(tiny_model.model(mx.array([ids]))[0]).astype(np.float64)
    losses = [np.log(np.exp(row).sum()) - row[target] for row, target in zip(logits, ids[1:], strict=False)]
    answer = len(encode(tiny_model.tokenizer, text[len(PROMPT) :]))
    score = score_plain(tiny_model, PAIRS[:1])[0].positive
    assert score.tokens == len(ids) - 1
    assert score.ce == pytest.approx(np.mean(losses), abs=1e-5)
    assert score.answer_tokens == answer
    assert score.answer_ce == pytest.approx(np.mean(losses[-answer:]), abs=1e-5)


def test_lora_layers_count(tiny_model: LoadedModel) -> None:
    before = score_pairs(tiny_model, PAIRS)
    _install_lora(tiny_model)
    after = score_pairs(tiny_model, PAIRS)
    _assert_same(after, score_plain(tiny_model, PAIRS))
    assert abs(after[0].positive.ce - before[0].positive.ce) > 1e-2


def test_quantised_layers_count(tiny_model: LoadedModel) -> None:
    nn.quantize(tiny_model.model, group_size=32, bits=4)
    _assert_same(score_pairs(tiny_model, PAIRS), score_plain(tiny_model, PAIRS))


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_traditional": True},
        {"tie_word_embeddings": False},
        {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
        {
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ],
    ids=["traditional rope", "own head", "sliding window", "scaled rope"],
)
def test_other_architectures(changes: dict[str, object]) -> None:
    loaded = make_tiny_model(**changes)
    _assert_same(score_pairs(loaded, PAIRS), score_plain(loaded, PAIRS))


def test_tree_rows_know_the_windows_of_the_layers_and_the_rotary_embeddings_are_put_back(tiny_model) -> None:
    windowed = make_tiny_model(sliding_window=8, layer_types=["sliding_attention", "full_attention"])
    for loaded in (tiny_model, windowed):
        rope = loaded.model.layers[0].self_attn.rope
        with proven(loaded, pair_sides(loaded, PAIRS, 256), 256) as forward:
            assert forward.trees and loaded.model.layers[0].self_attn.rope is not rope
        assert loaded.model.layers[0].self_attn.rope is rope


def test_wrapped_layers_keep_their_effect(tiny_model: LoadedModel) -> None:
    class Steered(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer, self.use_sliding = layer, False  # mlx_lm's plain pass asks for the latter

        def __call__(self, x: mx.array, mask: object = None, cache: object = None) -> mx.array:
            return self.layer(x, mask, cache=cache) + 0.5

    before = score_pairs(tiny_model, PAIRS)
    tiny_model.model.model.layers[1] = Steered(tiny_model.model.model.layers[1])
    after = score_pairs(tiny_model, PAIRS)
    _assert_same(after, score_plain(tiny_model, PAIRS))
    assert abs(after[0].positive.ce - before[0].positive.ce) > 1e-3


def test_the_same_call_gives_identical_floats(tiny_model: LoadedModel) -> None:
    assert score_pairs(tiny_model, PAIRS * 20) == score_pairs(tiny_model, PAIRS * 20)


def test_workers_do_not_change_a_digit(tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "cpu_workers", lambda: 4)
    many = score_pairs(tiny_model, PAIRS * 40)
    monkeypatch.setattr(passes, "cpu_workers", lambda: 2)
    assert score_pairs(tiny_model, PAIRS * 40) == many


def test_a_failure_in_a_worker_reaches_the_caller(tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("too much")

    monkeypatch.setattr(passes, "cpu_workers", lambda: 2)
    monkeypatch.setattr(passes, "_batch_ce", fail)
    threads = blas_info().threads
    with pytest.raises(MemoryError, match="too much"):
        score_pairs(tiny_model, PAIRS * 20)
    assert blas_info().threads == threads


def test_a_process_that_scored_exits_cleanly() -> None:
    code = (
        "from tiny_model import make_tiny_model\nfrom runners.backend import passes\npasses.cpu_workers = lambda: 2\n"
        "texts = [f'text number {i}' * 5 for i in range(100)]\n"
        "from runners.backend.scoring import score_texts\nprint(len(score_texts(make_tiny_model(), texts)))"
    )
    folders = [str(Path(__file__).parents[1]), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "100"), done.stderr


def test_texts_are_scored_in_the_order_given(tiny_model: LoadedModel) -> None:
    texts = [pair.negative for pair in PAIRS]
    scores = score_texts(tiny_model, texts)
    for text, score in zip(texts, scores, strict=True):
        assert score.ce == pytest.approx(score_texts(tiny_model, [text])[0].ce, abs=1e-4)
        assert score.answer_tokens is None
    assert score_texts(tiny_model, []) == []
    assert score_pairs(tiny_model, []) == []


def test_progress_counts_every_text(tiny_model: LoadedModel) -> None:
    seen: list[tuple[int, int]] = []
    score_pairs(tiny_model, PAIRS * 30, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (420, 420)


def test_a_long_text_keeps_its_beginning(tiny_model: LoadedModel) -> None:
    pair = PairText(prompt=None, positive="ab" * 100, negative="short")
    score = score_pairs(tiny_model, [pair], max_tokens=50)[0]
    assert (score.positive.tokens, score.positive.truncated) == (49, True)
    assert (score.negative.truncated, score.negative.tokens) == (False, 4)
    (kept,) = score_texts(tiny_model, ["ab" * 25])
    assert score.positive.ce == pytest.approx(kept.ce, abs=1e-4)


def test_a_long_prompt_never_swallows_the_answer(tiny_model: LoadedModel) -> None:
    prompt = "0123456789" * 10
    pair = PairText(prompt=prompt, positive=prompt + "yes", negative=prompt + "never")
    score = score_pairs(tiny_model, [pair], max_tokens=40)[0]
    assert (score.positive.answer_tokens, score.negative.answer_tokens) == (3, 5)
    assert score.positive.truncated
    assert score.negative.truncated
    # Both lost the same 65 tokens on the left, so the longer text has exactly 40.
    (kept,) = score_texts(tiny_model, [pair.negative[65:]])
    assert score.negative.tokens == 39
    assert score.negative.ce == pytest.approx(kept.ce, abs=1e-4)


def test_an_answer_longer_than_the_limit_is_cut_at_its_end(tiny_model: LoadedModel) -> None:
    prompt = "z" * 60
    pair = PairText(prompt=prompt, positive=prompt + "q" * 60, negative=prompt + "k")
    score = score_pairs(tiny_model, [pair], max_tokens=20)[0]
    assert (score.positive.answer_tokens, score.negative.answer_tokens) == (19, 1)
    _assert_same([score], score_plain(tiny_model, [pair], max_tokens=20))


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (PairText(prompt=None, positive="", negative="ok"), "pair 1, positive text '' has 0 tokens"),
        (PairText(prompt=None, positive="ok", negative="x"), "pair 1, negative text 'x' has 1 tokens"),
        (PairText(prompt="ab", positive="ab", negative="abc"), "pair 1, positive text 'ab' has no answer"),
        (PairText(prompt="ab", positive="abc", negative="xyz"), "does not begin with its prompt 'ab'"),
    ],
)
def test_a_pair_that_cannot_be_scored_is_named(tiny_model: LoadedModel, pair: PairText, message: str) -> None:
    with pytest.raises(InputError, match=message):
        score_pairs(tiny_model, [PAIRS[0], pair])


def test_a_limit_without_a_scored_token_is_refused(tiny_model: LoadedModel) -> None:
    with pytest.raises(InputError, match="max_tokens must be at least 2, got 1"):
        score_pairs(tiny_model, PAIRS, max_tokens=1)


_IDS = st.lists(st.integers(0, 3), min_size=2, max_size=12).map(tuple)


@given(_IDS, _IDS)
def test_a_tree_row_predicts_exactly_the_tokens_of_both_texts(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    if first[0] != second[0]:
        second = first[:1] + second[1:]
    row = rows.tree_row(0, Side(ids=first, answer_from=None), 1, Side(ids=second, answer_from=None))
    assert set(row.sources) == set(range(len(row)))
    (batch,) = rows.make_batches([row], budget=1, multiple=4)
    visible = batch.visible()[0, 0]
    for (_, terms), ids in zip(row.members, (first, second), strict=True):
        assert tuple(row.targets[terms]) == ids[1:]
        for step, source in enumerate(row.sources[terms]):
            # What the predicting position sees is the text up to there, each token at its place in the text.
            seen = np.flatnonzero(visible[source])
            assert tuple(row.tokens[seen]) == ids[: step + 1]
            assert list(row.positions[seen]) == list(range(step + 1))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(20, 200), st.integers(1, 8))
@settings(deadline=None)
def test_batches_hold_every_row_once_and_keep_to_the_budget(lengths: list[int], budget: int, multiple: int) -> None:
    made = [rows.single_row(i, Side(ids=(1,) * (n + 1), answer_from=None)) for i, n in enumerate(lengths)]
    batches = rows.make_batches(made, budget=budget, multiple=multiple)
    assert sorted(row.members[0][0] for batch in batches for row in batch.rows) == list(range(len(lengths)))
    for batch in batches:
        assert batch.tokens.size <= budget or len(batch.rows) == 1
        assert batch.tokens.shape[1] % multiple == 0
        assert len(batch.real()) == sum(len(row) for row in batch.rows)


@pytest.mark.slow
def test_smollm2_batched_equals_one_by_one(smollm2: LoadedModel) -> None:
    """The plain pass sums exponentials of 49,152 logits in MLX's naive order, off by up to 2.5e-4 itself."""
    found = score_pairs(smollm2, PAIRS[:3])
    texts = [text for pair in PAIRS[:3] for text in (pair.positive, pair.negative)]
    for text, side in zip(texts, _sides(found), strict=True):
        ids = mx.array(encode(smollm2.tokenizer, text))
        logits = np.array(smollm2.model(ids[None])[0, :-1]).astype(np.float64)
        targets = np.array(ids)[1:]
        losses = np.log(np.exp(logits).sum(axis=-1)) - logits[np.arange(len(targets)), targets]
        assert side.ce == pytest.approx(losses.mean(), abs=1e-4)
