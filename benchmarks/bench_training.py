"""Training speed with the embedded model on real texts, as ratios within one process.

    python benchmarks/bench_training.py [--steps 8]

1. A rho-guided step (2 SFT texts, 4 pairs) against a loop with one forward pass for the SFT batch and one for each
   pair text, in plain MLX with OpenBLAS loaded as well.
2. An SFT step (2 x 128 tokens) against mlx_lm's own trainer.

The two sides take turns, step by step, so that a busy machine slows both. CPU seconds are printed beside wall
seconds: on a shared machine they are the steadier measure.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runners.backend.device import device_name
from runners.backend.lora import install_lora, lora_layers
from runners.backend.models import LoadedModel, load_model
from runners.backend.scoring import PairText
from runners.backend.stepper import Stepper
from runners.backend.tokenizer import encode
from runners.probes import load_probe_sets, select_pairs
from runners.seeds import SeedStreams

# isort: split
import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
from mlx import nn
from mlx.utils import tree_map
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs
from mlx_lm.tuner.trainer import train as mlx_lm_train

RHO_WEIGHT, MARGIN, MAX_TOKENS, SFT_TOKENS = 0.2, 0.1, 256, 128
BEHAVIORS = ("bias", "factual", "sycophancy", "toxicity")
STREAMS = SeedStreams(0)


class Timer:
    """Wall and CPU seconds of repeated actions."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def __call__(self, action: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = action()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        return result

    def __str__(self) -> str:
        return f"{statistics.median(self.wall):.2f} s a step ({statistics.median(self.cpu):.2f} s CPU)"


def ratios(slow: Timer, fast: Timer) -> str:
    wall = statistics.median(a / b for a, b in zip(slow.wall, fast.wall, strict=True))
    cpu = statistics.median(a / b for a, b in zip(slow.cpu, fast.cpu, strict=True))
    return f"{wall:.2f} (CPU time {cpu:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8, help="measured steps a side; default: %(default)s")
    steps = parser.parse_args().steps
    print(f"device {device_name()}, {steps} steps a side, medians")
    pools = real_pools()
    rho_guided(with_lora(), pools, steps)
    sft_only(with_lora(), with_lora(), pools, steps)


def with_lora() -> LoadedModel:
    """The embedded model with LoRA layers a little away from their start."""
    loaded = load_model("smollm2-135m")
    install_lora(loaded, rank=8, alpha=16.0, targets=("q_proj", "k_proj", "o_proj"), streams=STREAMS)
    rng = np.random.default_rng(0)
    for _, layer in lora_layers(loaded.model):
        layer.lora_b = mx.array(rng.normal(0, 1e-3, layer.lora_b.shape).astype("float32"))
    mx.eval(loaded.model.parameters())
    return loaded


def real_pools() -> dict[str, list[PairText]]:
    uses = select_pairs(load_probe_sets(), behaviors=BEHAVIORS, split="none", per_behavior=None)
    pools: dict[str, list[PairText]] = {behavior: [] for behavior in BEHAVIORS}
    for use in uses:
        probe = use.probe
        if probe.negative is not None:
            pools[use.behavior].append(PairText(prompt=probe.prompt, positive=probe.positive, negative=probe.negative))
    return pools


def draws(pools: dict[str, list[PairText]], steps: int) -> list[tuple[list[str], list[PairText]]]:
    """Each step's SFT texts and pairs, one a behavior."""
    rng = np.random.default_rng(1)
    every = [pair.positive for pool in pools.values() for pair in pool]
    return [
        (
            [every[int(index)] for index in rng.integers(len(every), size=2)],
            [pool[int(rng.integers(len(pool)))] for pool in pools.values()],
        )
        for _ in range(steps)
    ]


def rho_guided(loaded: LoadedModel, pools: dict[str, list[PairText]], steps: int) -> None:
    stepper = Stepper(loaded, rho_weight=RHO_WEIGHT, margin=MARGIN, max_tokens=MAX_TOKENS, contrast="text")
    separate, ours = Timer(), Timer()
    tokens, active, largest, peak = [], [], 0.0, 0
    for number, (texts, pairs) in enumerate(draws(pools, steps + 1)):
        if number == 1:  # the first step warms both up
            separate, ours = Timer(), Timer()
        expected, _ = separate(lambda texts=texts, pairs=pairs: separate_passes(loaded, texts, pairs))
        with stepper.ready(texts):
            mx.reset_peak_memory()
            loss, count = ours(lambda texts=texts, pairs=pairs: stepper.step(texts, pairs))
            peak = max(peak, mx.get_peak_memory())
        tokens.append(count)
        active.append(loss.active_pairs or 0)
        largest = max(largest, abs(expected - (loss.ce or 0.0) - RHO_WEIGHT * (loss.rho or 0.0)))
    print(f"\nrho-guided step: 2 SFT texts, 4 pairs, {statistics.mean(tokens):.0f} tokens, ", end="")
    print(f"{statistics.mean(active) / 4:.0%} of the pairs active, losses within {largest:.1e}")
    print(f"  a pass for the SFT batch and each pair text  {separate}")
    print(f"  rhodb                                        {ours}")
    print(f"  ratio                                        {ratios(separate, ours)}, target 2")
    print(f"  peak memory of MLX in rhodb's steps          {peak / 2**30:.2f} GiB, model included")


def separate_passes(loaded: LoadedModel, texts: Sequence[str], pairs: Sequence[PairText]) -> tuple[float, Any]:
    """Loss and gradient as one would first write them."""
    model, tokenizer = loaded.model, loaded.tokenizer
    ids = [encode(tokenizer, text)[:MAX_TOKENS] for text in texts]
    lengths = mx.array([len(row) - 1 for row in ids])[:, None]
    width = max(map(len, ids))
    padded = mx.array([row + [0] * (width - len(row)) for row in ids])

    def text_ce(text: str) -> mx.array:
        row = mx.array([encode(tokenizer, text)[:MAX_TOKENS]])
        return nn.losses.cross_entropy(model(row[:, :-1]), row[:, 1:]).mean()

    def loss() -> mx.array:
        mask = mx.arange(width - 1)[None] < lengths
        sft = (nn.losses.cross_entropy(model(padded[:, :-1]), padded[:, 1:]) * mask).sum() / mask.sum()
        hinges = [mx.maximum(0.0, text_ce(p.positive) - text_ce(p.negative) + MARGIN) for p in pairs]
        return sft + RHO_WEIGHT * mx.stack(hinges).mean()

    value, gradient = nn.value_and_grad(model, loss)()
    mx.eval(value, gradient)
    return float(value.item()), gradient


class TakeTurns(TrainingCallback):  # type: ignore[misc]
    """After each of mlx_lm's iterations, one of ours; mlx_lm does not count the time of a callback."""

    def __init__(self, ours: Callable[[], None]) -> None:
        self.ours = ours
        self.theirs = Timer()
        self._cpu = time.process_time()

    def on_train_loss_report(self, train_info: dict[str, float]) -> None:
        self.theirs.wall.append(1 / train_info["iterations_per_second"])
        self.theirs.cpu.append(time.process_time() - self._cpu)
        self.ours()
        self._cpu = time.process_time()


def sft_only(theirs: LoadedModel, ours: LoadedModel, pools: dict[str, list[PairText]], steps: int) -> None:
    """Forward, backward and an AdamW update on 2 texts of 128 tokens."""
    material = " ".join(pair.positive for pool in pools.values() for pair in pool)
    rows = np.array(encode(ours.tokenizer, material[:200_000])[: 64 * SFT_TOKENS]).reshape(-1, SFT_TOKENS)
    texts = [ours.tokenizer.decode(row.tolist()) for row in rows]
    stepper = Stepper(ours, rho_weight=0.0, margin=0.0, max_tokens=SFT_TOKENS, contrast="text")
    optimizer = optim.AdamW(learning_rate=1e-5)
    timer = Timer()
    batches = iter(range(0, len(texts), 2))

    def update(batch: list[str]) -> None:
        loss, _ = stepper.step(batch, [])
        optimizer.update(ours.model, tree_map(lambda g: g, loss.gradient))
        mx.eval(ours.model.trainable_parameters(), optimizer.state)

    def turn() -> None:
        start = next(batches)
        with stepper.ready(texts):
            timer(lambda: update(texts[start : start + 2]))

    callback = TakeTurns(turn)
    warm = 2
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArgs(
            batch_size=2,
            iters=steps + warm,
            steps_per_report=1,
            steps_per_eval=10**9,
            steps_per_save=10**9,
            max_seq_length=SFT_TOKENS + 1,
            adapter_file=str(Path(folder) / "adapters.safetensors"),
        )
        data = [(row.tolist(), 0) for row in rows]
        mlx_lm_train(theirs.model, optim.AdamW(learning_rate=1e-5), data, args=arguments, training_callback=callback)
    for side in (callback.theirs, timer):
        side.wall, side.cpu = side.wall[warm:], side.cpu[warm:]
    print("\nSFT step: 2 texts of 128 tokens")
    print(f"  mlx_lm.tuner.train  {callback.theirs}")
    print(f"  rhodb               {timer}")
    print(f"  ratio               {ratios(callback.theirs, timer)}, target 0.9")


if __name__ == "__main__":
    main()
