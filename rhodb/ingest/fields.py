"""Declared fields of a JSON object: name, key, type, required; one reader for all, whose errors say where."""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from rhodb.errors import InputError

Object = Mapping[str, Any]


class FormatError(InputError):
    """A file does not have the form that its format asks for. `path` is a JSON path, `reason` what is wrong there."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(f"${path}: {reason}")
        self.reason = reason
        self.path = path

    def under(self, prefix: str) -> "FormatError":
        """The same error, seen from further out."""
        return FormatError(self.reason, prefix + self.path)


@dataclass(frozen=True, kw_only=True)
class Field:
    """One value of an object."""

    name: str
    """What the importer calls it."""
    key: str
    """What the file calls it."""
    type: Callable[[Any], Any]
    """Turns the JSON value into the importer's; raises FormatError."""
    required: bool = False
    also: tuple[str, ...] = ()
    """Other keys that it may stand under, tried in order."""


def read(fields: Sequence[Field], value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The declared values by name (None: absent or null), and the entries that no field declares."""
    entries = mapping(value)
    values: dict[str, Any] = {}
    unread = dict(entries)
    for field in fields:
        key, raw = field.key, unread.pop(field.key, None)
        for other in field.also:
            second = unread.pop(other, None)
            if raw is None:
                key, raw = other, second
        if raw is None:
            if field.required:
                missing = "is null" if field.key in entries else "is missing"
                raise FormatError(missing, step(field.key))
            values[field.name] = None
            continue
        try:
            values[field.name] = field.type(raw)
        except FormatError as error:
            raise error.under(step(key)) from None
    return values, unread


def step(key: str | int) -> str:
    """One step of a JSON path."""
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if key.replace("_", "a").isalnum() else f"[{key!r}]"


def kind_of(value: Any) -> str:
    """What a JSON value is, for a message."""
    names: dict[type[Any], str] = {dict: "an object", bool: "a flag", type(None): "null"}
    if is_list(value):
        return "a list"
    if type(value) in names:
        return names[type(value)]
    return f"the text {value[:40]!r}" if isinstance(value, str) else f"the number {value}"


def mapping(value: Any) -> Object:
    if type(value) is not dict:
        raise FormatError(f"expected an object, got {kind_of(value)}")
    return value


def is_list(value: Any) -> bool:
    """Whether a JSON value is a list, in memory or in a large file."""
    return isinstance(value, Collection) and not isinstance(value, str | dict)


def items(value: Any) -> Collection[Any]:
    if not is_list(value):
        raise FormatError(f"expected a list, got {kind_of(value)}")
    found: Collection[Any] = value
    return found


def text(value: Any) -> str:
    if type(value) is not str:
        raise FormatError(f"expected a text, got {kind_of(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise FormatError("the text holds half a character (a lone surrogate)") from None
    if "\0" in value:
        raise FormatError("the text holds a NUL character")
    return value


def name(value: Any) -> str:
    """A text that is not empty."""
    if not text(value).strip():
        raise FormatError("expected a name, got an empty text")
    return str(value)


_WRITTEN = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""A number as JSON, Python and C write it. "0,5", "5 %" and "1_000" can be meant in more than one way."""
_texts: ContextVar[list[str] | None] = ContextVar("_texts", default=None)


@contextmanager
def noting_texts() -> Iterator[list[str]]:
    """The texts that were read as numbers in this block."""
    found: list[str] = []
    token = _texts.set(found)
    try:
        yield found
    finally:
        _texts.reset(token)


def unquoted(value: Any) -> Any:
    """A number that stands in quotes as the number, and noted; anything else as it is."""
    if type(value) is not str or not (_WRITTEN.fullmatch(value) or value.lower() == "nan"):
        return value
    if (noted := _texts.get()) is not None:
        noted.append(value)
    return int(value) if value.lstrip("+-").isdigit() and len(value) < 20 else float(value)


def number(value: Any) -> float:
    """A finite number; one in quotes is taken, and noted, where it can only be meant as a number."""
    if type(value) is float and -1e300 < value < 1e300:
        return value
    value = unquoted(value)
    if type(value) is not float and type(value) is not int:
        raise FormatError(f"expected a number, got {kind_of(value)}")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found) or abs(found) >= 1e300:
        raise FormatError(f"expected a finite number, got {found}")
    return found


def maybe_number(value: Any) -> float | None:
    """A number; NaN is how some programs write a missing one."""
    value = unquoted(value)
    return None if type(value) is float and math.isnan(value) else number(value)


def not_negative(value: Any) -> float:
    found = number(value)
    if found < 0:
        raise FormatError(f"expected a number >= 0, got {found}")
    return found


def share(value: Any) -> float:
    found = number(value)
    if not 0 <= found <= 1:
        raise FormatError(f"expected a share between 0 and 1, got {found}")
    return found


def maybe_share(value: Any) -> float | None:
    value = unquoted(value)
    return None if type(value) is float and math.isnan(value) else share(value)


def maybe_duration(value: Any) -> float | None:
    """Seconds; NaN is missing."""
    value = unquoted(value)
    return None if type(value) is float and math.isnan(value) else not_negative(value)


def count(value: Any) -> int:
    """A whole number >= 0 that fits 32 bits."""
    found = number(value)
    if found != int(found) or not 0 <= found < 2**31:
        raise FormatError(f"expected a whole number >= 0, got {value}")
    return int(found)


def seed(value: Any) -> int:
    value = unquoted(value)
    if type(value) is not int or not 0 <= value < 2**63:
        what = kind_of(value) if type(value) is not int else value
        raise FormatError(f"expected a seed (a whole number from 0 to 2^63 - 1), got {what}")
    return value


def flag(value: Any) -> int:
    if type(value) is not bool and value not in (0, 1):
        raise FormatError(f"expected true or false, got {kind_of(value)}")
    return int(value)
