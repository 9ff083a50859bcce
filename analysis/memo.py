"""Results that several studies ask for in a row."""

import weakref
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


def of_last_frame(function: "Callable[[pd.DataFrame], T]") -> "Callable[[pd.DataFrame], T]":
    """Keep the result for the last frame as long as that lives. Frames are read, never changed in place."""
    last: list[tuple[weakref.ref[pd.DataFrame], T]] = []

    @wraps(function)
    def known(frame: "pd.DataFrame") -> T:
        if not last or last[0][0]() is not frame:
            result = function(frame)
            last[:] = [(weakref.ref(frame, lambda _: last.clear()), result)]
        return last[0][1]

    return known
