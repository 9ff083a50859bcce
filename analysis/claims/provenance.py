"""Where the inputs of a check come from, and the refusal to compare a printed figure with itself.

A claim may name the published value that transcribes its own figure (column `figure`); a published value may name those
it was computed from or chosen to fit (column `derived_from`). A check whose inputs go back to the claim's own figure is
refused: it would agree whatever the figure is.
"""

from collections.abc import Mapping
from dataclasses import replace

from analysis.claims.claim import Claim
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Check
from rhodb.errors import InputError


def examined(inputs: Inputs, claim: Claim, check: Check) -> Check:
    """The check, or without its value where that rests on the claim's own figure.

    Raises InputError for a value that names no input at all, and for a `figure` that was not published.
    """
    if claim.figure and claim.figure not in inputs.figures:
        raise InputError(f"column figure names {claim.figure}, which is no published value")
    if check.value is None:
        return check
    if not check.inputs and not check.of_warehouse:
        raise InputError(f"checker {claim.checker} names no input: a number from nowhere reproduces nothing")
    back = [key for key in check.inputs if claim.figure in ancestry(inputs, key)] if claim.figure else []
    if not back:
        return check
    told = ", ".join(f"{key} ({place(inputs, key)})" for key in back[:3])
    how = "is the printed figure itself" if back == [claim.figure] else "goes back to the printed figure itself"
    return replace(
        check, value=None, low=None, high=None, restates=False,
        refused=f"Not recomputable: its input {told} {how}, so that it would agree whatever was printed.",
    )  # fmt: skip


def ancestry(inputs: Inputs, key: str) -> frozenset[str]:
    """A published value and all that it was derived from."""
    found: set[str] = set()
    waiting = [key]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += inputs.published[one].derived_from if one in inputs.published else ()
    return frozenset(found)


def place(inputs: Inputs, key: str) -> str:
    """File or document, and table or section, of a published value."""
    value = inputs.published.get(key)
    return "a run of this warehouse" if value is None else f"{value.source}, {value.section}"


def provenance(inputs: Inputs, keys: tuple[str, ...]) -> Mapping[str, str]:
    """Where each input stands."""
    return {key: place(inputs, key) for key in keys}
