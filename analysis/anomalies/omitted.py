"""What detectors leave out, in words: one sentence a detector and reason, which names what it is about."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from analysis.panel import Sheet

SHOWN = 4
"""Names in one sentence; of more the number must do."""


class Omission(NamedTuple):
    """Something of a detector's kind that none of its looks uses."""

    what: str
    why: str


def sentences(detector: str, omissions: Iterable[Omission]) -> list[str]:
    """One sentence a reason."""
    told: dict[str, list[str]] = {}
    for what, why in omissions:
        told.setdefault(why, []).append(what)
    return [f"{detector} leaves out {_listed(list(dict.fromkeys(names)))}: {why}" for why, names in told.items()]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return "; ".join(names[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def place_of(sheets: Sequence[Sheet]) -> str:
    """Model and what is measured, of sheets of one design."""
    return f"{sheets[0].model} {sheets[0].metric}"


def behaviors_of(sheets: Sequence[Sheet]) -> list[str]:
    """The behaviors of any of the sheets."""
    return list(dict.fromkeys(behavior for sheet in sheets for behavior in sheet.behaviors))


def unmatched_seeds(sheets: Sequence[Sheet], stratum: str, cells: str, fewest: int) -> list[Omission]:
    """Seeds that not all sheets have, and behaviors with fewer than `fewest` seeds in all sheets.

    `cells` says what the sheets are: doses or conditions.
    """
    place = place_of(sheets)
    if not all(sheet.seeds_known for sheet in sheets):
        return [Omission(f"{place}, {stratum}", "seeds that are numbers only cannot be matched")]
    omissions = []
    for behavior in behaviors_of(sheets):
        own = [set(sheet.sample(behavior)[1]) for sheet in sheets]
        shared = set.intersection(*own)
        lost = sorted(set.union(*own) - shared)
        what = f"{place}, {stratum}: {behavior}"
        if len(shared) < fewest:
            omissions.append(Omission(what, f"it takes {fewest} seeds that have a value at all {cells}"))
        elif lost:
            seeds = ", ".join(map(str, lost))
            omissions.append(Omission(f"{what}, seeds {seeds}", f"they have no value at some of the {cells}"))
    return omissions
