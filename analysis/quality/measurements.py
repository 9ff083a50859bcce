"""Checks of whether stored scores are measurements of one kind: stand-ins, other probe counts, other places."""

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from analysis.admission import stand_ins
from analysis.looks import Look
from analysis.panel import Panel
from analysis.quality.flags import flag, listed
from analysis.stats.results import Test, no_test

if TYPE_CHECKING:
    import pandas as pd

PLACES = ("host", "device", "platform", "versions", "git_commit")
"""What a run's provenance says of where and with what it was made."""
FEWEST = 8
"""Runs from which places are compared."""


def stored_for_missing(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Scores that several seeds share with 0 or with the untouched model."""
    looks = []
    for what, rows in stand_ins(frame[frame["value"].notna()]):
        for (model, condition, behavior, metric), part in rows.groupby(["model", "condition", "behavior", "metric"]):
            n = part["run"].nunique()
            looks.append(
                flag("stored for missing", model=str(model), behavior=str(behavior), metric=str(metric),
                     stratum=str(condition), size=float(n), size_is="runs with the same impossible value", n=n,
                     runs=list(part["run"].unique()),
                     what=f"{model}, {condition}: {behavior} {metric} {what} in {n} runs",
                     why="a missing score stored as a number, or training that changed nothing: the gate leaves it out")
            )  # fmt: skip
    return looks


def probe_counts(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Runs of one configuration that were scored on different numbers of probes."""
    rows = frame[frame["value"].notna() & frame["n"].notna() & (frame["kind"] != "baseline")]
    keys = ["kind", "model", "model_fingerprint", "config", "behavior", "metric", "split"]
    looks = []
    for _, part in rows[rows.groupby(keys)["n"].transform("nunique") > 1].groupby(keys):
        model, behavior, metric = (str(part[key].iloc[0]) for key in ("model", "behavior", "metric"))
        found = sorted(int(n) for n in part["n"].unique())
        looks.append(
            flag("probe counts", model=model, behavior=behavior, metric=metric,
                 stratum=", ".join(str(c) for c in part["condition"].dropna().unique()), size=float(len(found)),
                 size_is="different numbers of probes in one configuration", n=part["run"].nunique(),
                 runs=list(part["run"].unique()),
                 what=f"{model}: {behavior} {metric} of one configuration was scored on {listed(found)} probes",
                 why="scores on other probes differ for that alone: the gate refuses the group")
        )  # fmt: skip
    return looks


def places(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Do scores of one stratum differ with the machine, device or version that made them?"""
    heads = frame.drop_duplicates("run").set_index("run")
    looks = []
    for place in PLACES:
        at = heads[place].dropna().to_dict()
        if len(set(at.values())) < 2:
            continue
        points: dict[tuple[str, str, str], list[tuple[int, object, float, str]]] = {}
        for k, sheet in enumerate(panel.sheets):
            for behavior in sheet.behaviors:
                values, _, runs = sheet.sample(behavior)
                points.setdefault((sheet.model, behavior, sheet.metric), []).extend(
                    (k, at[run], float(value), run) for value, run in zip(values, runs, strict=True) if run in at
                )
        for (model, behavior, metric), found in points.items():
            names = sorted({str(where) for _, where, _, _ in found})
            if len(found) >= FEWEST and len(names) > 1:
                share, test = place_test(*zip(*((k, str(where), value) for k, where, value, _ in found), strict=True))
                looks.append(
                    flag("places", model=model, behavior=behavior, metric=metric, stratum=place, size=share,
                         size_is="share of the variance inside the strata that goes with the place", n=len(found),
                         runs=[run for *_, run in found], test=test, fixed=None, reference="Fisher 1925",
                         what=f"{model}: {behavior} {metric} inside the strata against {place} "
                         f"({len(names)} of them: {listed([_short(name) for name in names], 2)}), which goes with "
                         f"{100 * share:.0f} % of the variance", why="")
                )  # fmt: skip
    return looks


def place_test(strata: tuple[int, ...], names: tuple[str, ...], values: tuple[float, ...]) -> tuple[float, Test]:
    """Share of the variance inside the strata that goes with places, and its F test (nested least squares)."""
    method = "F test of places after stratum means"
    order, groups = np.unique(names), np.unique(strata, return_inverse=True)[1]
    dummies = (np.array(names)[:, None] == order[None, 1:]).astype(float)
    table = np.column_stack([np.array(values, dtype=float), dummies])
    counts = np.bincount(groups)
    means = np.stack([np.bincount(groups, weights=column) / counts for column in table.T], axis=1)
    centred = table - means[groups]
    y, x = centred[:, 0], centred[:, 1:]
    rank = int(np.linalg.matrix_rank(x))
    left = len(y) - len(counts) - rank
    total = float(y @ y)
    if rank == 0 or left < 1:
        return 0.0, no_test("not enough data", method, len(y))
    rest = float(((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2).sum())
    if total == 0 or rest <= 1e-20 * total:
        return float(total > 0), no_test("degenerate", method, len(y))
    f = (total - rest) / rank / (rest / left)
    p = float(special.fdtrc(rank, left, max(0.0, f)))
    return (total - rest) / total, Test(statistic=f, p=p, n=len(y), method=method)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:21]}..."
