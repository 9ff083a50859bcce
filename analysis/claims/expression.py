"""Arithmetic over published figures, and what their rounding leaves open.

`mean({arm/no-margin/0/0.2/bias/seed-*}) - {baseline/bias}`: a key in braces is the figure, one with `*` the list
of all figures whose key fits. Only arithmetic and the functions below: nothing else of Python can be reached.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import numpy as np

from rhodb.errors import InputError

_KEY = re.compile(r"\{([^{}]+)\}")
Number = float | list[float]


def _values(arguments: Sequence[Number]) -> list[float]:
    return [x for argument in arguments for x in (argument if isinstance(argument, list) else [argument])]


def _over_values(function: Callable[[list[float]], Any]) -> Callable[..., float]:
    return lambda *arguments: float(function(_values(arguments)))


FUNCTIONS: Final[dict[str, Callable[..., float]]] = {
    "mean": _over_values(np.mean),
    "sd": _over_values(lambda x: np.std(x, ddof=1)),
    "popsd": _over_values(np.std),
    "sem": _over_values(lambda x: np.std(x, ddof=1) / math.sqrt(len(x))),
    "sum": _over_values(sum),
    "min": _over_values(min),
    "max": _over_values(max),
    "span": _over_values(lambda x: max(x) - min(x)),
    "count": _over_values(len),
    "different": _over_values(lambda x: len(set(x))),
    "abs": abs,
    "sqrt": math.sqrt,
    "log": math.log,
    "exp": math.exp,
    "cos": lambda degrees: math.cos(math.radians(degrees)),
}
_OPERATORS: Final[dict[type[ast.AST], Callable[..., float]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A published figure: value, half a unit of its last digit, n behind it, and whether somebody printed it.

    One that was counted from the material itself is evidence; one that was printed is a statement.
    """

    key: str
    value: float
    half: float
    n: int | None
    printed: bool = True


class MissingInputError(Exception):
    """Figures that a check needs and that were not published. `needs` says what they are."""

    def __init__(self, needs: str) -> None:
        super().__init__(needs)
        self.needs = needs


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Value of an expression, and the range that the rounding of its inputs leaves open."""

    value: float
    low: float
    high: float
    keys: tuple[str, ...]
    moving: tuple[str, ...]
    """Those of the keys that the value depends on: it changes with them, or counts how many there are."""
    restates: bool
    """Whether that is a single figure that was printed: whatever is made of it is that figure again."""


def evaluate(text: str, figures: Mapping[str, Figure]) -> Evaluated:
    """Evaluate over figures. Raises InputError for what is no expression, MissingInputError for absent figures.

    InputError, too, for one that no figure moves: a constant reproduces whatever it was copied from.
    """
    slots: list[list[str]] = []
    lists_of: list[bool] = []
    missing: list[str] = []

    def slot(match: re.Match[str]) -> str:
        pattern = match[1].strip()
        keys = [key for key in figures if fnmatchcase(key, pattern)] if "*" in pattern else [pattern]
        missing.extend(key for key in (keys or [pattern]) if key not in figures)
        slots.append(keys)
        lists_of.append("*" in pattern)
        return f" _slot({len(slots) - 1}, {int('*' in pattern)}) "

    code = _KEY.sub(slot, text)
    if missing:
        raise MissingInputError(", ".join(dict.fromkeys(missing)))
    try:
        tree = ast.parse(code.strip(), mode="eval").body
    except SyntaxError as error:
        raise InputError(f"{text!r} is no expression: {error.msg}") from error
    keys = list(dict.fromkeys(key for group in slots for key in group))
    place = {key: i for i, key in enumerate(keys)}

    def at(values: Sequence[float]) -> float:
        return _number(_walk(tree, lambda i: [values[place[key]] for key in slots[i]], text), text)

    centre = [figures[key].value for key in keys]
    try:
        low, value, high = rounding_range(at, centre, [figures[key].half for key in keys])
    except (ZeroDivisionError, ValueError, OverflowError) as error:
        raise InputError(f"{text!r} cannot be evaluated: {error}") from error
    lists = {key for group, many in zip(slots, lists_of, strict=True) if many for key in group}
    moving = tuple(key for key in keys if key in lists or _moves(at, centre, place[key]))
    if not moving:
        raise InputError(f"{text!r} depends on no published figure: a constant proves nothing about a printed one")
    restates = len(moving) == 1 and figures[moving[0]].printed
    return Evaluated(value=value, low=low, high=high, keys=tuple(keys), moving=moving, restates=restates)


def _moves(at: Callable[[Sequence[float]], float], centre: Sequence[float], i: int) -> bool:
    """Whether the value changes as one figure moves far."""
    here = at(centre)
    for side in (1.0, -1.0):
        moved = list(centre)
        moved[i] += side * (1.0 + abs(moved[i]))
        try:
            if at(moved) != here:
                return True
        except (ZeroDivisionError, ValueError, OverflowError):
            return True
    return False


def rounding_range(
    function: Callable[[Sequence[float]], float], values: Sequence[float], halves: Sequence[float]
) -> tuple[float, float, float]:
    """(lowest, value, highest) as each input moves within half a unit of its last digit.

    Exact where the function is monotone in each input within so small a range, else a close bound.
    """
    value = function(values)
    up, down = list(values), list(values)
    for i, half in enumerate(halves):
        moved = list(values)
        moved[i] += half
        above = function(moved)
        moved[i] -= 2 * half
        step = half if above >= function(moved) else -half
        up[i] += step
        down[i] -= step
    ends = (value, function(up), function(down))
    return min(ends), value, max(ends)


def _walk(node: ast.AST, slot: Callable[[int], list[float]], text: str) -> Number:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        sides = (_number(_walk(side, slot, text), text) for side in (node.left, node.right))
        return _real(_OPERATORS[type(node.op)](*sides))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return float(_OPERATORS[type(node.op)](_number(_walk(node.operand, slot, text), text)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id == "_slot" and len(node.args) == 2:
            index, many = (int(_number(_walk(argument, slot, text), text)) for argument in node.args)
            return slot(index) if many else slot(index)[0]
        if node.func.id in FUNCTIONS:
            return FUNCTIONS[node.func.id](*(_walk(argument, slot, text) for argument in node.args))
        raise InputError(f"unknown function {node.func.id!r} in {text!r}; known: {', '.join(FUNCTIONS)}")
    raise InputError(f"{text!r} is no arithmetic over {{published/keys}}: {type(node).__name__} is not allowed")


def _number(value: Number, text: str) -> float:
    if isinstance(value, list):
        raise InputError(f"{text!r}: a key with * is a list; put mean(...), sum(...) or the like around it")
    return _real(value)


def _real(value: float) -> float:
    """A finite number; ValueError for anything else (a negative base to a broken power is complex)."""
    if isinstance(value, complex) or not math.isfinite(value):
        raise ValueError("the result is no finite number")
    return float(value)
