"""Vectors of texts, each computed once: those that the warehouse in use holds are taken from it.

Which warehouse that is, the command line says around everything that it runs (`kept_in`), since runners do not open
warehouses. Without one, vectors are computed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from rhodb.records import ModelRecord, digest

if TYPE_CHECKING:
    from runners.backend.embedding import Embedder


class VectorCache(Protocol):
    """A place that keeps vectors by model and SHA-256 of the text; vectors as little-endian float32 bytes."""

    def read(self, model: ModelRecord, hashes: Sequence[str]) -> Mapping[str, bytes]: ...

    def write(self, model: ModelRecord, vectors: Mapping[str, bytes]) -> None: ...


_cache: ContextVar[VectorCache | None] = ContextVar("vector cache", default=None)


@contextmanager
def kept_in(cache: VectorCache) -> Iterator[None]:
    """Inside the block, vectors are looked up in this cache and added to it."""
    token = _cache.set(cache)
    try:
        yield
    finally:
        _cache.reset(token)


def vectors_of(
    embedder: "Embedder", texts: Sequence[str], *, on_progress: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    """(N, width) vectors of norm 1, in the order of the texts."""
    cache = _cache.get()
    hashes = [digest(text) for text in texts]
    known = dict(cache.read(embedder.record, sorted(set(hashes)))) if cache else {}
    missing = {key: text for key, text in zip(hashes, texts, strict=True) if key not in known}
    computed = embedder.embed(list(missing.values()), on_progress=on_progress)
    fresh = {key: row.astype("<f4").tobytes() for key, row in zip(missing, computed, strict=True)}
    if cache and fresh:
        cache.write(embedder.record, fresh)
    known |= fresh
    joined = b"".join(known[key] for key in hashes)
    return np.frombuffer(joined, "<f4").reshape(len(texts), -1).astype(np.float32)
