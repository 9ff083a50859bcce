"""Which way through a model is right: found by comparing the fast ones with mlx_lm's own call, before the first number.

What is compared are the cross-entropies of every token of a few of the caller's own texts: the longest, as far as
windows and position scalings reach, one that shares its beginning, and the shortest, padded.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from numpy.typing import NDArray

from runners.backend.anatomy import FAILURES, Anatomy, dissect, model_type, whole_logits
from runners.backend.device import is_cpu
from runners.backend.fastmath import fast_math
from runners.backend.forward import FAST_FORMS, Form, Forward, Operations, opened
from runners.backend.models import LoadedModel
from runners.backend.passes import text_losses
from runners.backend.rows import Ids, Side, make_batches, single_row, tree_row

TOLERANCES: Final = {mx.float32: 1e-3, mx.float16: 5e-2, mx.bfloat16: 0.4}
"""Largest difference of a token's cross-entropy, nats, that rounding explains, by the type of the logits."""
GRADIENT_TOLERANCE: Final = 1e-2
"""Largest difference that rounding explains, as a share of a gradient's largest element (seen: below 1e-4)."""
Texts = tuple[Ids, Ids, Ids]
Losses = NDArray[np.float64]
_BRANCH = 16
"""Tokens of the second branch of the tree that is compared, at most."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a comparison found."""

    form: Form
    """The fastest form that agrees."""
    anatomy: Anatomy | None
    dtype: mx.Dtype
    """Of the logits."""
    length: int
    """Tokens of the longest text compared."""
    difference: float
    """Largest difference of a token's cross-entropy from mlx_lm's own call, nats."""
    against: tuple[str, ...]
    """Why each faster form does not serve."""
    model: Module
    gradient: float | None = None
    """Largest difference of the fast step's gradient from MLX's autodiff, as a share of the largest element."""

    def sentence(self) -> str:
        """For people: how the model is computed, and why not faster."""
        how = {
            "tree": "its parts, pairs sharing their beginnings",
            "rows": "its parts, a text a row",
            "whole": "mlx_lm's whole call",
        }[self.form]
        why = f" ({'; '.join(self.against)})" if self.against else ""
        return f"model type {model_type(self.model)!r} is computed through {how}{why}"


def forward_notes(loaded: LoadedModel) -> dict[str, object]:
    """What a run keeps of how its model was computed: the form and the largest difference a kind of operations, and
    sentences where it was not the fastest."""
    proofs = {
        name: proof for name, proof in loaded.proofs.items() if isinstance(proof, Proof) and proof.model is loaded.model
    }
    notes: dict[str, object] = {
        "forward": {
            name: {
                "form": proof.form,
                "largest_difference": proof.difference,
                "tokens": proof.length,
                **({} if proof.gradient is None else {"gradient": proof.gradient}),
            }
            for name, proof in sorted(proofs.items())
        }
    }
    slower = sorted({proof.sentence() for proof in proofs.values() if proof.against})
    if "generation" in loaded.proofs:
        notes["generation"] = loaded.proofs["generation"][1]
    return notes | ({"forward_slower": slower} if slower else {})


@contextmanager
def proven(
    loaded: LoadedModel, sides: Sequence[Side], max_tokens: int, *, operations: Operations = fast_math
) -> Iterator[Forward]:
    """The fastest way through the model that gives mlx_lm's own cross-entropies of some of these texts.

    None of them is longer than `max_tokens`. A comparison serves as long as no longer text comes.
    """
    proof = proof_of(loaded, sides, max_tokens, operations)
    with opened(loaded.model, proof.anatomy, proof.form, max_positions=max_tokens, operations=operations) as forward:
        yield forward


def proof_of(loaded: LoadedModel, sides: Sequence[Side], max_tokens: int, operations: Operations) -> Proof:
    """The comparison for these texts, remembered with the model."""
    longest = max((len(side.ids) for side in sides), default=0)
    key = operations.__name__
    known = loaded.proofs.get(key)
    if isinstance(known, Proof) and known.model is loaded.model and longest <= known.length:
        return known
    proof = compare(loaded.model, trial_texts(sides), max_tokens, operations)
    loaded.proofs[key] = proof
    return proof


def with_gradient(loaded: LoadedModel, operations: Operations, difference: float) -> Proof:
    """Remember what the comparison of gradients found."""
    proof: Proof = loaded.proofs[operations.__name__]
    against = [] if difference <= GRADIENT_TOLERANCE else [f"its gradient differs by {difference:.2g} of its size"]
    proof = replace(proof, gradient=difference, against=(*proof.against, *against))
    loaded.proofs[operations.__name__] = proof
    return proof


def compare(model: Module, texts: Texts, max_tokens: int, operations: Operations) -> Proof:
    """Try the forms, the fastest first. InputError where mlx_lm's own call fails, too."""
    oracle, dtype = _expected(model, texts)
    tolerance = TOLERANCES[dtype if is_cpu() else mx.bfloat16]  # a GPU rounds products of float32, too
    anatomy = dissect(model)
    form: Form = "whole"
    difference = 0.0
    against = [] if anatomy else ["its call does not come apart into a body and what comes after it"]
    for candidate in FAST_FORMS if anatomy else ():
        try:
            with opened(model, anatomy, candidate, max_positions=max_tokens, operations=operations) as forward:
                found = _found(forward, texts)
        except FAILURES as error:
            reason = (str(error).strip().splitlines() or [""])[0].rstrip(".")
            against.append(f"{candidate}: {type(error).__name__}: {reason}")
            continue
        distance = float(np.abs(found - oracle).max())
        if distance <= tolerance:
            form, difference = candidate, distance
            break
        against.append(f"{candidate}: a token's cross-entropy differs from mlx_lm's by {distance:.2g} nats")
    return Proof(
        form=form,
        anatomy=anatomy,
        dtype=dtype,
        length=len(texts[0]),
        difference=difference,
        against=tuple(against),
        model=model,
    )


def trial_texts(sides: Sequence[Side]) -> Texts:
    """The longest text, one that begins with its first half and goes on with other tokens, and the shortest."""
    by_length = sorted((side.ids for side in sides), key=len)
    shortest, longest = by_length[0], by_length[-1]
    half = (len(longest) + 1) // 2
    others = tuple(token for token in shortest + longest[::-1] if (token,) != longest[half : half + 1])
    branch = longest[:half] + others[: min(_BRANCH, len(longest) // 2)]
    return longest, branch if len(branch) > 1 else longest, shortest


def token_cross_entropies(model: Module, ids: Ids) -> tuple[Losses, mx.Dtype]:
    """Cross-entropies of ids[1:] in float64 from mlx_lm's own call, nats, and the type of its logits."""
    logits = whole_logits(model, mx.array([ids[:-1]]))[0]
    values = np.array(logits.astype(mx.float32)).astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    own = values[np.arange(len(values)), list(ids[1:])]
    return np.log(np.exp(values).sum(axis=1)) - own, logits.dtype


def _expected(model: Module, texts: Texts) -> tuple[Losses, mx.Dtype]:
    parts = [token_cross_entropies(model, ids) for ids in texts]
    return np.concatenate([losses for losses, _ in parts]), parts[0][1]


def _found(forward: Forward, texts: Texts) -> Losses:
    """The same by one way: a batch of the first two texts, a tree if that is what the way takes, and the third twice:
    three rows, so that a model that takes the mask's rows for heads (Gemma 2) fails whatever number of heads it has."""
    first, second, third = (Side(ids=ids, answer_from=None) for ids in texts)
    pair = [tree_row(0, first, 1, second)] if forward.trees else [single_row(0, first), single_row(1, second)]
    batches = make_batches([*pair, single_row(2, third), single_row(3, third)], budget=2**31)
    return np.concatenate(text_losses(forward, batches, 4)[:3]).astype(np.float64)
