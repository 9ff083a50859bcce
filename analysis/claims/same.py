"""Runs of the very experiment that a claim is about: each stratum by itself, never pooled."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.claims.claim import Claim
from analysis.claims.outcome import OwnRuns, Speaks
from analysis.stats.intervals import mean_interval
from analysis.strata import Stratum, labels, stratum_of

SEEDS_NEEDED = 3
"""Below, an interval contains almost anything."""
Row = Mapping[str, Any]


def same_experiment(claim: Claim, rows: Sequence[Row], column: str) -> OwnRuns | None:
    """Means of the same experiment here, each stratum by itself, from its series with most runs.

    A stratum agrees by rounding or, with enough seeds, by its interval. Where the claim leaves open which of several
    strata it is about, they speak only if all that can say the same: runs of two λ, γ or settings are no replicates.
    """
    strata: dict[Stratum, dict[str, list[Row]]] = {}
    for row in rows:
        if row[column] is not None:
            series = strata.setdefault(stratum_of(_as_arm(row)), {})
            series.setdefault(row["experiment"] or "", []).append(row)
    if not strata:
        return None
    names = labels(list(strata))
    told, fits, numbers, runs = [], [], {}, []
    for stratum, series in strata.items():
        most = max(map(len, series.values()))
        for experiment, members in series.items():
            if len(members) < most:
                continue
            found = mean_interval([float(row[column]) for row in members])
            value, known = found.value or 0.0, found.low is not None and found.high is not None
            inside = known and (found.low or 0.0) <= claim.value <= (found.high or 0.0)
            if most >= SEEDS_NEEDED:
                fits.append(agrees(claim, value) or inside)
            elif agrees(claim, value):
                fits.append(True)
            label = "" if len(strata) == 1 else names[stratum]
            name = " ".join(filter(None, (stratum.model, label, experiment)))
            span = f" [{found.low:.4g}, {found.high:.4g}]" if known else ""
            told.append(f"{value:.4g}{span} ({name}, {len(members)} {'run' if len(members) == 1 else 'runs'})")
            numbers[f"mean here, {name}"] = value
            runs += [row["run"] for row in members]
    speaks: Speaks = "undecided"
    if fits and len(set(fits)) == 1:
        speaks = "for" if fits[0] else "against"
    which = ""
    if len(strata) > 1:
        which = f" The claim does not say which of these {len(strata)} strata it is about"
        which += ", and they disagree." if len(set(fits)) > 1 else "."
    return OwnRuns(
        speaks=speaks, same_experiment=True, numbers=numbers, runs=tuple(runs),
        text=f"Runs of the same experiment in this warehouse give {'; '.join(told)}.{which}",
    )  # fmt: skip


def _as_arm(row: Row) -> Row:
    """A baseline has no arm; it is a stratum by its settings."""
    if row["condition"] is not None:
        return row
    return {**row, "condition": row["kind"], "rho_weight": 0.0, "margin": None}


def agrees(claim: Claim, value: float) -> bool:
    """Whether a value rounds to the printed figure."""
    return abs(value - claim.value) <= (claim.precision or 0.0) / 2 + 1e-9 * max(1.0, abs(claim.value))
