"""Forward passes over batches of rows, as fast as the device allows: (rows, model) -> cross-entropies of texts."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Barrier

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from runners.backend.blas import blas_threads
from runners.backend.cores import cores
from runners.backend.device import is_cpu
from runners.backend.forward import Forward
from runners.backend.rows import Batch, Side, make_batches, pair_rows, single_row

Progress = Callable[[int, int], None]
"""(texts done, texts in all)"""
Losses = NDArray[np.float32]
"""(K,) cross-entropies of terms or of a text's scored tokens, nats."""

CPU_BUDGET, GPU_BUDGET = 512, 16384
"""Padded tokens of a batch. On a CPU larger ones fall out of the cache."""
GPU_LENGTH_MULTIPLE = 16
CPU_LOGIT_ROWS, GPU_LOGIT_ROWS = 256, 1024
"""Positions whose logits exist at a time."""
_NUMPY_ROWS = 16
"""Rows of logits that NumPy reduces at a time, so that they stay in the cache."""


def plan_batches(sides: Sequence[Side], *, paired: bool) -> list[Batch]:
    """Rows of texts (`paired`: of each two in turn, sharing their beginning) in batches that suit the device."""
    if paired:
        rows = [row for i in range(0, len(sides), 2) for row in pair_rows(i, sides[i], i + 1, sides[i + 1])]
    else:
        rows = [single_row(index, side) for index, side in enumerate(sides)]
    if is_cpu():
        return make_batches(rows, budget=CPU_BUDGET)
    return make_batches(rows, budget=GPU_BUDGET, multiple=GPU_LENGTH_MULTIPLE)


def text_losses(
    forward: Forward, batches: Sequence[Batch], count: int, on_progress: Progress | None = None
) -> list[Losses]:
    """Cross-entropies of each of the `count` texts that the batches are made of: token t of a text is element t - 1."""
    losses: dict[int, Losses] = {}
    for batch, ce in _run(forward, batches):
        losses.update(_by_side(batch, ce))
        if on_progress is not None:
            on_progress(len(losses), count)
    return [losses[index] for index in range(count)]


def _run(forward: Forward, batches: Sequence[Batch]) -> Iterator[tuple[Batch, Losses]]:
    """Cross-entropies of the batches' terms, as they are finished.

    On a CPU, MLX runs everything but matrix products on one thread. So each core computes batches of its own with
    single-threaded BLAS, which busy neighbours also slow far less. A batch's result does not depend on the others.
    """
    workers = min(cpu_workers(), len(batches)) if is_cpu() else 1
    if workers <= 1:
        for batch in batches:
            yield batch, _batch_ce(forward, batch)
        return
    mx.eval(forward.model.parameters())  # a lazy array belongs to its maker's thread
    with blas_threads(1), ThreadPoolExecutor(workers, thread_name_prefix="score") as pool:
        futures = {pool.submit(_batch_ce, forward, batch): batch for batch in batches}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()  # after an error or Ctrl-C nobody wants the rest
            list(pool.map(_release_thread, [Barrier(workers)] * workers))


def _release_thread(everyone: Barrier) -> None:
    """Run once in each thread of a pool: end the stream that MLX gave it.

    A stream is a thread, too, and processes have been seen to abort at exit with streams left over.
    """
    everyone.wait()
    mx.clear_streams()


def cpu_workers() -> int:
    """Batches to compute at a time: one a core."""
    return cores()


def _batch_ce(forward: Forward, batch: Batch) -> Losses:
    """(K,) cross-entropy of every term of the batch, row after row, nats."""
    hidden = forward.hidden(batch)
    real = batch.real()
    states = hidden.reshape(-1, hidden.shape[-1])[mx.array(real)]
    sources, targets = _terms(batch)
    token_ce = _numpy_ce if is_cpu() else _mlx_ce
    return token_ce(states, forward.logits, sources, targets)


def _terms(batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The batch's terms: (index among its real positions, target token)."""
    starts = np.cumsum([0] + [len(row) for row in batch.rows])
    sources = np.concatenate([start + row.sources for start, row in zip(starts, batch.rows, strict=False)])
    return sources.astype(np.int64), np.concatenate([row.targets for row in batch.rows]).astype(np.int64)


def _mlx_ce(
    states: mx.array,
    project: Callable[[mx.array], mx.array],
    sources: NDArray[np.int64],
    targets: NDArray[np.int64],
) -> Losses:
    """Cross-entropies, logits a chunk at a time, all on the device. `sources` ascend within a row's branches."""
    parts = np.empty(len(sources), np.float32)
    for start in range(0, states.shape[0], GPU_LOGIT_ROWS):
        chosen = np.flatnonzero((sources >= start) & (sources < start + GPU_LOGIT_ROWS))
        logits = project(states[start : start + GPU_LOGIT_ROWS]).astype(mx.float32)
        local = mx.array(sources[chosen] - start)
        picked = logits[local, mx.array(targets[chosen])]
        parts[chosen] = np.array(mx.logsumexp(logits, axis=-1)[local] - picked)
    return parts


def _numpy_ce(
    states: mx.array,
    project: Callable[[mx.array], mx.array],
    sources: NDArray[np.int64],
    targets: NDArray[np.int64],
) -> Losses:
    """The same with NumPy's exponential and pairwise sum: many times as fast as MLX's on a CPU, and more exact."""
    parts = np.empty(len(sources), np.float32)
    for start in range(0, states.shape[0], CPU_LOGIT_ROWS):
        chosen = np.flatnonzero((sources >= start) & (sources < start + CPU_LOGIT_ROWS))
        logits = np.asarray(project(states[start : start + CPU_LOGIT_ROWS]).astype(mx.float32))
        local = sources[chosen] - start
        parts[chosen] = _log_sum_exp(logits)[local] - logits[local, targets[chosen]]
    return parts


def _log_sum_exp(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """log sum exp over the last axis of (N, V), a few rows at a time; NumPy adds up in pairs, 1e-7 from float64."""
    result = np.empty(len(logits), np.float64)
    scratch = np.empty((_NUMPY_ROWS, logits.shape[1]), np.float32)
    for start in range(0, len(logits), _NUMPY_ROWS):
        rows = logits[start : start + _NUMPY_ROWS]
        highest = rows.max(axis=1, keepdims=True)
        shifted = np.subtract(rows, highest, out=scratch[: len(rows)])
        np.exp(shifted, out=shifted)
        result[start : start + len(rows)] = (
            np.log(shifted.sum(axis=1, dtype=np.float32).astype(np.float64)) + highest[:, 0]
        )
    return result


def _by_side(batch: Batch, ce: Losses) -> dict[int, Losses]:
    """Each side's terms in the order of its text."""
    result: dict[int, Losses] = {}
    start = 0
    for row in batch.rows:
        own = ce[start : start + len(row.targets)]
        result.update({index: own[terms] for index, terms in row.members})
        start += len(row.targets)
    return result
