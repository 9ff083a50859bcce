"""Results of studies that go through the warehouse's store."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from rhodb.cli.output import doing, note

if TYPE_CHECKING:
    from analysis.answers import Answer
    from analysis.findings import Result
    from analysis.landscape.load import LandscapeOptions
    from analysis.landscape.result import Tables
    from analysis.stored import Answered
    from analysis.study import StudyOptions
    from rhodb.warehouse import Warehouse

R = TypeVar("R", "Result", "Answer", "Tables")
Chosen = TypeVar("Chosen", bound="StudyOptions | LandscapeOptions")


def kept(db: str | None, ask: "Callable[[Warehouse], tuple[Answered[R], Chosen]]") -> "tuple[R, Chosen]":
    """What `ask` answers over the warehouse opened for reading, and its options; stored where it is new."""
    with doing("reading rows and computing"):
        return _kept(db, ask)


def _kept(db: str | None, ask: "Callable[[Warehouse], tuple[Answered[R], Chosen]]") -> "tuple[R, Chosen]":
    from analysis.stored import MOST_STORED, store, too_large
    from rhodb.errors import DatabaseError
    from rhodb.warehouse import Warehouse

    with Warehouse.open(db, create=False, read_only=True) as wh:
        answered, options = ask(wh)
    if too_large(answered.result):
        note(f"note: the result is not stored: it has more than {MOST_STORED} findings")
    elif not answered.from_store:
        try:
            with Warehouse.open(db, create=False) as wh:
                store(wh, options, answered)
        except DatabaseError as error:
            note(f"note: the result is not stored: {error}")
    return answered.result, options
