"""Rows of a SQLite cursor as a DataFrame, without ever holding all of them as Python objects."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Row = tuple[Any, ...]
PIECE = 20_000
"""Rows held as tuples at a time: of 200,000 rows with 29 columns the tuples weigh three times as much as the frame."""


class Cursor(Protocol):
    """What is asked of the driver's cursor."""

    def fetchmany(self, size: int = ..., /) -> Sequence[Any]: ...
    def fetchall(self) -> Sequence[Any]: ...


def frame_of(cursor: Cursor, names: Sequence[str]) -> "pd.DataFrame":
    """The rows that are left, with the columns that `DataFrame.from_records` makes of them."""
    import pandas as pd
    import pyarrow as pa

    pieces: list[pa.Table] = []
    rows = cursor.fetchmany(PIECE)
    if len(rows) == PIECE and len({*names}) == len(names):
        try:
            while rows:
                pieces.append(_table(rows, names))
                rows = cursor.fetchmany(PIECE)
            whole: pd.DataFrame = pa.concat_tables(pieces, promote_options="permissive").to_pandas()
            pieces.clear()
            release_memory()
            return whole
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            pass  # a column mixes kinds of values: pandas keeps them as objects
    read = [row for piece in pieces for row in _rows(piece)]
    return pd.DataFrame.from_records([*read, *rows, *cursor.fetchall()], columns=list(names))


def release_memory() -> None:
    """Give memory of what is gone back to the system, which an allocator keeps for later: as much as a large frame."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def values_of(column: "pd.Series[Any]") -> list[Any]:
    """The values of a column as Python objects; equal texts are one object, where `tolist` makes one for every row."""
    import numpy as np
    import pandas as pd

    if not isinstance(column.dtype, pd.StringDtype):
        return column.tolist()
    codes, texts = pd.factorize(column)
    known = np.array([*texts.tolist(), column.dtype.na_value], dtype=object)  # code -1, the last: no text
    return known[codes].tolist()  # type: ignore[no-any-return]


def _table(rows: Sequence[Row], names: Sequence[str]) -> "pa.Table":
    """Raises ArrowInvalid or ArrowTypeError for mixed values, and for blobs: Arrow makes blobs of texts beside them."""
    import pyarrow as pa

    table = pa.table([pa.array(column) for column in zip(*rows, strict=True)], names=list(names))
    if any(pa.types.is_binary(kind) for kind in table.schema.types):
        raise pa.ArrowInvalid("blobs")
    return table


def _rows(piece: "pa.Table") -> Iterator[Row]:
    return zip(*(column.to_pylist() for column in piece.columns), strict=True)
