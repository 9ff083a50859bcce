"""A large SELECT comes as the frame that pandas makes of all rows at once, whatever is in them."""

import sqlite3

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from rhodb import frames
from rhodb.frames import frame_of, values_of

VALUE = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=3), st.binary(max_size=3)
)


class Given:
    """A cursor over rows of one's own."""

    def __init__(self, rows):
        self.rows = list(rows)

    def fetchmany(self, size, /):
        taken, self.rows = self.rows[:size], self.rows[size:]
        return taken

    def fetchall(self):
        return self.fetchmany(len(self.rows))


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(frames, "PIECE", 3)


@pytest.mark.parametrize(
    "columns",
    [
        {"text": ["a", None, "λ"] * 3, "null": [None] * 9, "number": [0.5, -0.0, None] * 3, "count": range(9)},
        {"late": [None] * 7 + ["a", None], "numbers": [1, 2, 3, 4.5, 5, None, 7, 8, 9]},
        {"mixed": [1, 2, 3, 4, "a", 6, 7, 8, 9]},
        {"mixed": ["a", "b", "c", 4, 5, 6, "g", "h", "i"]},
        {"blob": [b"a", None, b"c"] * 3},
        {"text_then_blob": ["a", "b", "c", "d", b"e", "f", "g", b"h", "i"]},
        {"large": [2**62 + 1, 2, 3, 4.5, 5, 6, 7, 8, 9]},
        {"whole_pieces": [1, 2, 3, 4, 5, 6]},
    ],
)
def test_pieces_make_the_frame_of_all_rows(columns):
    rows = list(zip(*columns.values(), strict=True))
    assert_frame_equal(frame_of(Given(rows), list(columns)), pd.DataFrame.from_records(rows, columns=list(columns)))


@given(st.data())
def test_any_rows_make_the_frame_that_pandas_makes(data):
    kinds = data.draw(st.lists(st.sampled_from([st.none(), st.integers(-9, 9), st.floats(-9, 9), st.text(max_size=2),
                                                st.binary(max_size=2), VALUE]), min_size=1, max_size=3))  # fmt: skip
    rows = data.draw(st.lists(st.tuples(*(st.none() | kind for kind in kinds)), max_size=10))
    names = [f"c{i}" for i in range(len(kinds))]
    assert_frame_equal(frame_of(Given(rows), names), pd.DataFrame.from_records(rows, columns=names))


def test_columns_of_one_name_and_no_rows_are_frames_too():
    rows = [(i, i + 1) for i in range(7)]
    assert_frame_equal(frame_of(Given(rows), ["a", "a"]), pd.DataFrame.from_records(rows, columns=["a", "a"]))
    assert frame_of(Given([]), ["a", "b"]).columns.tolist() == ["a", "b"]


def test_a_cursor_of_sqlite_is_read_to_its_end():
    cursor = sqlite3.connect(":memory:").execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8) SELECT i, 'seed ' || i FROM n"
    )
    frame = frame_of(cursor, ["i", "name"])
    assert frame["i"].tolist() == list(range(1, 9)) and frame["name"].iloc[-1] == "seed 8"


@given(st.one_of(*(st.lists(st.none() | kind) for kind in (st.text(max_size=2), st.integers(-9, 9), st.floats(-9, 9)))))
def test_values_of_a_column_are_those_of_pandas_and_equal_texts_are_one_object(values):
    column = pd.Series(values)
    found = values_of(column)
    assert_frame_equal(pd.DataFrame({"c": found}), pd.DataFrame({"c": column.tolist()}))
    texts = [value for value in found if isinstance(value, str)]
    assert len({id(text) for text in texts if len(text) > 1}) == len({text for text in texts if len(text) > 1})
