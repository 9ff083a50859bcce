"""Results kept in the warehouse: an unchanged warehouse answers at once, a changed one says what moved.

A result belongs to a study, its options, the fingerprint of every row that went into it, and the version of rhodb.
Studies of findings, of quantities and of the landscape differ in what they load and in their documents only.
"""

import gc
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from analysis import documents
from analysis.answers import Answer
from analysis.findings import Result
from analysis.landscape.result import Tables
from rhodb import __version__
from rhodb.records import canonical_json

if TYPE_CHECKING:
    import pandas as pd

    from analysis.answers import AnswerOptions, AnswerStudy
    from analysis.landscape.load import LandscapeOptions
    from analysis.landscape.studies import LandscapeStudy
    from analysis.study import Study, StudyOptions
    from rhodb.warehouse import Warehouse

    Options = StudyOptions | LandscapeOptions

MOST_STORED = 20_000
"""Findings up to which a result is kept: some 40 MiB of JSON."""
R = TypeVar("R", Result, Answer, Tables)


@dataclass(frozen=True, kw_only=True)
class Answered(Generic[R]):
    """A result, and whether it was read rather than computed."""

    result: R
    fingerprint: str
    from_store: bool


def fingerprint(parts: "Iterable[pd.DataFrame | npt.NDArray[Any]]") -> str:
    """SHA-256 over the rows and arrays that go into a study."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype} {part.shape}".encode() + np.ascontiguousarray(part).tobytes())
            continue
        from pandas.util import hash_pandas_object

        digest.update(",".join(part.columns).encode())
        if len(part):
            digest.update(np.asarray(hash_pandas_object(part, index=False)).tobytes())
    return digest.hexdigest()


def parameters(options: "Options") -> str:
    """The options as canonical JSON."""
    given = asdict(options)
    if not given.get("ignore"):  # older results have no such option
        given.pop("ignore", None)
    return canonical_json(documents.plain(given))


def answer(wh: "Warehouse", study: "Study", options: "StudyOptions") -> Answered[Result]:
    """The stored result for the rows as they are now, if this version computed it; else a new one (not yet stored)."""
    held = [study.load(wh, options)]
    mark = fingerprint(held)

    def compute() -> Result:
        # Handed over, so that a study of very many rows can let go of them.
        return study.compute(held.pop(), options, np.random.default_rng(options.seed))

    return _answered(wh, study.name, options, mark, compute, documents.result_of)


def answer_quantities(
    wh: "Warehouse", study: "AnswerStudy", options: "AnswerOptions", *, drawing: bool = False
) -> Answered[Answer]:
    """The same for a study of quantities. Figures need what is not stored: with `drawing` it is computed anew."""
    inputs, frame = study.load(wh, options)
    beside = [part for _, part in sorted(frame.attrs.items(), key=str)]

    def compute() -> Answer:
        return study.compute(frame, inputs, options, np.random.default_rng(options.seed))

    def read(document: Mapping[str, Any]) -> Answer:
        return documents.answer_of(document, study.narrowed(inputs, options))

    return _answered(wh, study.name, options, fingerprint([frame, *beside]), compute, read, anew=drawing)


def answer_tables(
    wh: "Warehouse", study: "LandscapeStudy", options: "LandscapeOptions", *, drawing: bool = False
) -> Answered[Tables]:
    """The same for a study of the landscape."""
    loaded = study.load(wh, options)
    return _answered(
        wh, study.name, options, fingerprint(loaded.inputs()), lambda: study.compute(loaded, options),
        documents.tables_of, anew=drawing,
    )  # fmt: skip


def _answered(
    wh: "Warehouse",
    study: str,
    options: "Options",
    mark: str,
    compute: Callable[[], R],
    read: Callable[[Mapping[str, Any]], R],
    *,
    anew: bool = False,
) -> Answered[R]:
    rows = wh.rows(
        "SELECT result FROM analysis_results WHERE study = :study AND parameters = :parameters "
        "AND input_fingerprint = :mark AND version = :version",
        study=study, parameters=parameters(options), mark=mark, version=__version__,
    )  # fmt: skip
    if rows and not anew:
        return Answered(result=read(documents.read(rows[0]["result"])), fingerprint=mark, from_store=True)
    with no_garbage_collection():
        result = compute()
    return Answered(result=result, fingerprint=mark, from_store=bool(rows))


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Results are trees of many small objects: looking for cycles among them again and again takes a quarter longer."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def too_large(result: Result | Answer | Tables) -> bool:
    """Whether a result is not kept: it would weigh more than the rows that it is made from."""
    return isinstance(result, Result) and len(result.findings) > MOST_STORED


def store(wh: "Warehouse", options: "Options", answered: Answered[R]) -> None:
    """Keep a result that is not `too_large`; one from an older version of rhodb over the same rows is replaced."""
    from sqlalchemy import text

    key = {
        "study": answered.result.study, "parameters": parameters(options), "input_fingerprint": answered.fingerprint,
    }  # fmt: skip
    with wh.write() as connection:
        connection.execute(
            text(
                "DELETE FROM analysis_results WHERE study = :study AND parameters = :parameters "
                "AND input_fingerprint = :input_fingerprint"
            ),
            key,
        )
        connection.execute(
            text(
                "INSERT INTO analysis_results (study, parameters, input_fingerprint, result, created_at, version) "
                "VALUES (:study, :parameters, :input_fingerprint, :result, :created_at, :version)"
            ),
            key
            | {
                "result": documents.text_of(answered.result),
                "created_at": datetime.now(UTC).isoformat(timespec="microseconds"),
                "version": __version__,
            },
        )


def last_two(wh: "Warehouse", study: str, options: "Options") -> list[tuple[str, Mapping[str, Any]]]:
    """The documents of the newest stored results of a study with these options, newest first: when, and what."""
    rows = wh.rows(
        "SELECT created_at, result FROM analysis_results WHERE study = :study AND parameters = :parameters "
        "ORDER BY created_at DESC, id DESC LIMIT 2",
        study=study, parameters=parameters(options),
    )  # fmt: skip
    return [(row["created_at"], documents.read(row["result"])) for row in rows]
