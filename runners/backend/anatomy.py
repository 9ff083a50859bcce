"""How a model of mlx_lm goes from tokens to hidden states and from these to logits: by its own calls, taken apart.

mlx_lm's classes are alike: a model hands the tokens to an inner module, its body, and makes logits of what that
returns. The body is called as it is. What comes after it is the model's own call with a body that hands on the states
it is given. So embedding scales, soft-caps, logit scales and whatever else a family has are mlx_lm's code, not a copy.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from operator import is_
from typing import Any, Final

import mlx.core as mx
from mlx.nn.layers.base import Module

from rhodb.errors import InputError

FAILURES: Final = (AttributeError, TypeError, ValueError, RuntimeError, IndexError, KeyError)
"""What a model raises that is called in a way it was not made for. Whoever tries one out falls back on a slower way."""

_INNER = ("model", "transformer", "backbone", "language_model")
_DEPTH = 3
_TRIAL = (5, 9, 2, 7, 3, 8)


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A model's two halves. `text` maps tokens to logits; its attribute `name` is the body."""

    text: Module
    name: str

    @property
    def body(self) -> Module:
        body: Module = getattr(self.text, self.name)
        return body

    def logits(self, states: mx.array) -> mx.array:
        """Hidden states (N, D) -> logits (N, V)."""
        twin = copy.copy(self.text)
        setattr(twin, self.name, _Relay(self.body))
        logits: mx.array = twin(states[None])[0]
        return logits


class _Relay:
    """Stands for a body: a call hands on what it was given; everything else is the body's own."""

    def __init__(self, body: Module) -> None:
        self._body = body

    def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
        given: mx.array = args[0] if args else next(iter(kwargs.values()))
        return given

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)


def whole_logits(model: Module, tokens: mx.array) -> mx.array:
    """Tokens (R, L) -> logits (R, L, V) by mlx_lm's own call: the definition of what a model computes.

    InputError where the model has no such call.
    """
    try:
        logits = model(tokens)
        mx.eval(logits)
    except FAILURES as error:
        raise InputError(
            f"model type {model_type(model)!r} cannot be used: mlx_lm's own forward pass of {tokens.shape[1]} tokens "
            f"fails with {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0].rstrip('.')}"
        ) from error
    if not isinstance(logits, mx.array) or logits.shape[:2] != tokens.shape or logits.ndim != 3:
        raise InputError(
            f"model type {model_type(model)!r} cannot be used: mlx_lm's own forward pass does not return one row of "
            "logits a token"
        )
    return logits


def dissect(model: Module) -> Anatomy | None:
    """The two halves of a model; None where its call does not come apart into them.

    Not looked up but tried out: halves that make the model's own logits of a few tokens. (Where the body makes logits
    itself, the second half is nothing, and nothing is won by the parts.)
    """
    tokens = mx.array([_TRIAL])
    expected = whole_logits(model, tokens)[0]
    for anatomy in _candidates(model, _DEPTH):
        try:
            states = anatomy.body(tokens, cache=None)[0]
            found = anatomy.logits(states)
            mx.eval(states, found)
        except FAILURES:
            continue
        if states.shape[-1] != found.shape[-1] and found.shape == expected.shape and _near(found, expected):
            return anatomy
    return None


def _candidates(model: Module, depth: int) -> Iterator[Anatomy]:
    """Every module that may be the text model with every body that it may have, from the outside in."""
    inner = [name for name in _INNER if isinstance(getattr(model, name, None), Module)]
    yield from (Anatomy(text=model, name=name) for name in inner)
    if depth:
        for name in inner:
            yield from _candidates(getattr(model, name), depth - 1)


def _near(found: mx.array, expected: mx.array) -> bool:
    """Equal but for rounding, where both are finite (a model may rule tokens out with -inf)."""
    expected, found = expected.astype(mx.float32), found.astype(mx.float32)
    finite = mx.isfinite(expected)
    scale = mx.where(finite, mx.abs(expected), 0.0).max()
    same = mx.where(finite, mx.abs(found - expected) <= 1e-2 * scale, found == expected)
    return bool(mx.all(same).item())


def model_type(model: Module) -> str:
    """The name by which mlx_lm knows a model's family."""
    return str(getattr(model, "model_type", None) or type(model).__module__.rsplit(".", 1)[-1])


@dataclass(frozen=True, kw_only=True)
class LayerList:
    """Where a model keeps its decoder layers: `owner[key]` is the list that its forward pass walks through."""

    owner: Module
    key: str

    @property
    def layers(self) -> list[Module]:
        layers: list[Module] = self.owner[self.key]
        return layers


def layer_list(model: Module) -> LayerList:
    """The list itself: `model.layers` may be a copy. InputError for a model that keeps no such list."""
    layers = list(model.layers)
    for owner in model.modules():
        for key, value in owner.items():
            if isinstance(value, list) and len(value) == len(layers) and all(map(is_, value, layers)):
                return LayerList(owner=owner, key=key)
    raise InputError(
        f"the layers of model type {model_type(model)!r} cannot be read or changed one by one: mlx_lm keeps them in "
        "no single list"
    )
