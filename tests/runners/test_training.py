"""The training loop: its schedule, its random choices, and that it does what a plain loop does."""

import math
from dataclasses import replace

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx import nn
from mlx.utils import tree_flatten, tree_map

from rhodb.errors import InputError
from runners.backend.lora import install_lora, lora_layers, lora_weights, remove_lora
from runners.backend.sampling import PairSampler, text_batches
from runners.backend.scoring import PairText, score_pairs
from runners.backend.tokenizer import encode
from runners.backend.training import TrainingDivergedError, TrainSpec, learning_rate, train
from runners.seeds import SeedStreams

TEXTS = [f"text number {n} says {'so ' * (n % 4)}much" for n in range(10)]
POOLS = {
    "factual": [PairText(prompt=None, positive=f"{n} is right", negative=f"{n} is very wrong") for n in range(6)],
    "bias": [
        PairText(prompt=f"who is {n}? ", positive=f"who is {n}? unknown", negative=f"who is {n}? the old one")
        for n in range(6)
    ],
}
SPEC = TrainSpec(
    rho_weight=0.5, margin=0.2, accumulation=2, lr=1e-2, lora_rank=4, lora_alpha=8.0, pairs_per_step=2, max_tokens=64
)


def run(loaded, spec=SPEC, seed=1, pools=POOLS, texts=TEXTS):
    """Rows without their times, and the trained weights; the model is put back."""
    result = train(loaded, texts, pools, spec, SeedStreams(seed))
    weights = {name: np.array(value) for name, value in lora_weights(loaded.model).items()}
    remove_lora(loaded)
    return [replace(row, seconds=0.0) for row in result.rows], weights, result


def same(left, right):
    return all(np.array_equal(left[name], right[name]) for name in left)


def test_learning_rate_by_hand():
    """Ten updates, two of them warm-up: up to 1 at the second, then down by 1/9 each."""
    rates = [learning_rate(update, updates=10, lr=1.0, warmup=0.2) for update in range(1, 11)]
    assert rates == pytest.approx([0.5, 1.0, *(k / 9 for k in range(8, 0, -1))])
    assert [learning_rate(u, updates=3, lr=0.6, warmup=0.0) for u in (1, 2, 3)] == pytest.approx([0.6, 0.4, 0.2])
    assert learning_rate(1, updates=1, lr=0.1, warmup=0.5) == 0.1


def test_steps_updates_and_rates(tiny_model):
    rows, _, result = run(tiny_model, replace(SPEC, epochs=1.5, accumulation=3, warmup=0.5))
    assert (result.steps, result.updates) == (8, 3)  # 15 texts in batches of 2, then groups of 3, 3 and 2
    assert [row.step for row in rows] == list(range(1, 9))
    assert [row.grad_norm is not None for row in rows] == [False, False, True] * 2 + [False, True]
    assert [row.lr for row in rows] == pytest.approx([1e-2] * 3 + [2 / 3 * 1e-2] * 3 + [1 / 3 * 1e-2] * 2)
    assert all(row.pairs == 2 and 0 <= row.active_pairs <= 2 for row in rows)
    assert result.ce_loss == pytest.approx(np.mean([row.ce_loss for row in rows[-2:]]))


def plain_sft(loaded, spec, seed):
    """SFT as one would write it without this package: one text at a time, MLX's losses."""
    streams = SeedStreams(seed)
    install_lora(loaded, rank=spec.lora_rank, alpha=spec.lora_alpha, targets=spec.lora_targets, streams=streams)
    model = loaded.model
    optimizer = optim.AdamW(learning_rate=spec.lr, weight_decay=spec.weight_decay)
    batches = text_batches(len(TEXTS), epochs=spec.epochs, batch_size=spec.batch_size, streams=streams)
    updates = math.ceil(len(batches) / spec.accumulation)
    losses, total, size = [], None, 0
    for number, batch in enumerate(batches, start=1):
        ids = [encode(loaded.tokenizer, TEXTS[index]) for index in batch]

        def loss(ids=ids):
            sums = [
                nn.losses.cross_entropy(model(mx.array([t[:-1]]))[0], mx.array(t[1:]), reduction="sum") for t in ids
            ]
            return mx.stack(sums).sum() / sum(len(t) - 1 for t in ids)

        value, gradient = nn.value_and_grad(model, loss)()
        losses.append(value.item())
        total = gradient if total is None else tree_map(lambda a, b: a + b, total, gradient)
        size += 1
        if size == spec.accumulation or number == len(batches):
            optimizer.learning_rate = learning_rate(
                math.ceil(number / spec.accumulation), updates=updates, lr=spec.lr, warmup=spec.warmup
            )
            optimizer.update(model, tree_map(lambda g, n=size: g / n, total))
            total, size = None, 0
    weights = {name: np.array(value) for name, value in lora_weights(model).items()}
    remove_lora(loaded)
    return losses, weights


def test_without_weight_it_is_plain_sft_step_for_step(tiny_model):
    spec = replace(SPEC, rho_weight=0.0, accumulation=3, epochs=2.0)
    losses, expected = plain_sft(tiny_model, spec, seed=1)
    rows, weights, _ = run(tiny_model, spec, pools={})
    assert [row.ce_loss for row in rows] == pytest.approx(losses, abs=1e-4)
    assert all(row.rho_loss is None and row.pairs is None for row in rows)
    assert weights.keys() == expected.keys()
    moved = max(float(np.abs(value).max()) for name, value in expected.items() if name.endswith("lora_b"))
    assert moved > 1e-3
    assert max(float(np.abs(weights[n] - expected[n]).max()) for n in weights) < 0.01 * moved


def test_contrastive_only_takes_the_same_steps_without_sft(tiny_model):
    rows, _, result = run(tiny_model, replace(SPEC, use_sft=False))
    assert result.steps == 5
    assert all(row.ce_loss is None and row.rho_loss is not None for row in rows)


@pytest.mark.parametrize("contrast", ["text", "answer"])
def test_training_widens_the_gap(tiny_model, contrast):
    pairs = [pair for pool in POOLS.values() for pair in pool]

    def gap():
        return np.mean([s.negative.ce - s.positive.ce for s in score_pairs(tiny_model, pairs)])

    before = gap()
    train(tiny_model, TEXTS, POOLS, replace(SPEC, use_sft=False, epochs=4.0, contrast=contrast), SeedStreams(0))
    assert gap() > before + 0.1
    remove_lora(tiny_model)
    assert gap() == before


def test_same_seed_same_everything_different_seed_different_everything(tiny_model):
    rows, weights, _ = run(tiny_model, seed=4)
    again, weights_again, _ = run(tiny_model, seed=4)
    other, weights_other, _ = run(tiny_model, seed=5)
    assert rows == again
    assert same(weights, weights_again)
    assert not same(weights, weights_other)
    assert [row.ce_loss for row in rows] != [row.ce_loss for row in other]
    orders = [text_batches(10, epochs=1, batch_size=2, streams=SeedStreams(seed)) for seed in (4, 5)]
    assert orders[0] != orders[1]
    draws = [
        [PairSampler(POOLS, per_step=2, shuffle=False, streams=SeedStreams(seed)).draw() for _ in range(1)]
        for seed in (4, 5)
    ]
    assert draws[0] != draws[1]


def test_every_epoch_is_a_new_permutation():
    batches = text_batches(7, epochs=2.5, batch_size=3, streams=SeedStreams(0))
    order = [index for batch in batches for index in batch]
    assert len(order) == 18
    assert [len(batch) for batch in batches] == [3] * 6
    assert sorted(order[:7]) == sorted(order[7:14]) == list(range(7))
    assert order[:7] != order[7:14]


def test_pairs_come_one_a_behavior_in_turn():
    sampler = PairSampler(POOLS, per_step=3, shuffle=False, streams=SeedStreams(0))
    extra = set()
    for _ in range(30):
        drawn = sampler.draw()
        bias = sum(pair in POOLS["bias"] for pair in drawn)
        assert len(drawn) == 3
        assert bias in (1, 2)
        extra.add(bias)
    assert extra == {1, 2}


def test_labels_are_swapped_anew_for_half_of_the_pairs():
    """Same pairs as without swaps; each step's swaps differ; the share is within 4 standard errors of 1/2."""
    straight = PairSampler(POOLS, per_step=4, shuffle=False, streams=SeedStreams(8))
    shuffled = PairSampler(POOLS, per_step=4, shuffle=True, streams=SeedStreams(8))
    patterns = set()
    for _ in range(200):
        pattern = []
        for pair, maybe in zip(straight.draw(), shuffled.draw(), strict=True):
            assert maybe in (pair, replace(pair, positive=pair.negative, negative=pair.positive))
            pattern.append(maybe != pair)
        patterns.add(tuple(pattern))
    assert len(patterns) == 16
    assert (straight.swapped, shuffled.drawn) == (0, 800)
    assert shuffled.swapped / 800 == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(800))


def test_the_result_reports_the_swapped_share(tiny_model):
    _, _, shuffled = run(tiny_model, replace(SPEC, shuffle_pairs=True))
    _, _, straight = run(tiny_model)
    assert straight.swapped_share is None
    assert shuffled.swapped_share * 10 == pytest.approx(round(shuffled.swapped_share * 10))
    assert 0 < shuffled.swapped_share < 1


def test_base_model_is_restored_and_serves_the_next_run(tiny_model):
    before = {name: np.array(value) for name, value in tree_flatten(tiny_model.model.parameters())}
    first, _, _ = run(tiny_model)
    after = {name: np.array(value) for name, value in tree_flatten(tiny_model.model.parameters())}
    assert before.keys() == after.keys()
    assert same(before, after)
    assert run(tiny_model)[0] == first


def test_long_texts_are_cut_and_counted(tiny_model):
    texts = ["short one", "long " * 50]
    rows, _, result = run(tiny_model, replace(SPEC, rho_weight=0.0, max_tokens=20), texts=texts)
    assert result.truncated == 1
    assert rows[0].tokens == 20 + len(encode(tiny_model.tokenizer, texts[0]))


def test_divergence_names_the_step_and_cleans_up(tiny_model):
    tiny_model.model.model.norm.weight = tiny_model.model.model.norm.weight * math.nan
    with pytest.raises(TrainingDivergedError, match="at step 1 ") as caught:
        run(tiny_model)
    assert caught.value.step == 1
    assert not lora_layers(tiny_model.model)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rho_weight": -0.1}, "rho_weight must be a finite number >= 0, got -0.1"),
        ({"margin": math.nan}, "margin must be a finite number >= 0"),
        ({"lr": 0.0}, "lr must be a finite number > 0"),
        ({"batch_size": 0}, "batch_size must be >= 1"),
        ({"warmup": 1.0}, "warmup must be in"),
        ({"use_sft": False, "rho_weight": 0.0}, "nothing to train"),
    ],
)
def test_wrong_specs_are_refused(change, sentence):
    with pytest.raises(InputError, match=sentence):
        replace(SPEC, **change)


def test_empty_input_is_refused_before_anything_happens(tiny_model):
    with pytest.raises(InputError, match="no SFT texts"):
        train(tiny_model, [], POOLS, SPEC, SeedStreams(0))
    with pytest.raises(InputError, match="no pairs"):
        train(tiny_model, TEXTS, {}, SPEC, SeedStreams(0))
    with pytest.raises(InputError, match="behavior 'bias' has no pairs"):
        train(tiny_model, TEXTS, {**POOLS, "bias": []}, SPEC, SeedStreams(0))
    assert not lora_layers(tiny_model.model)
