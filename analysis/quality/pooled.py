"""Check of pooled strata: does a group that forgets one axis spread because of that axis?"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice, product
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from analysis.looks import Look, group
from analysis.panel import Panel, Sheet
from analysis.quality.flags import flag, listed
from analysis.stats.results import Array, Test, is_constant, no_test

if TYPE_CHECKING:
    import pandas as pd

SHARE = 0.5
"""Share of a pooled group's variance between the values of another axis, from which pooling makes the spread."""
ERROR = 0.01
"""Family-wise error of the F tests, by Bonferroni over everything that could be pooled."""
MOST_CHOICES = 8
"""Ways to take one sheet a value where several experiments measured the same value."""
Forgotten = tuple[str, tuple[Sheet, ...]]
"""The axis, and sheets that differ in it and in nothing else, one a value."""


def pooled_strata(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Groups of one condition that differ in one axis only: λ, γ, model, experiment or any setting."""
    candidates = []
    for axis, sheets in forgotten(panel.sheets):
        for behavior in sheets[0].behaviors:
            samples = [sheet.sample(behavior)[0] for sheet in sheets]
            if min(map(len, samples)) > 1:
                candidates.append((axis, sheets, behavior, samples, *between_share(samples)))
    return [
        _look(axis, sheets, behavior, samples, share, test)
        for axis, sheets, behavior, samples, share, test in candidates
        if share > SHARE and test.p is not None and test.p * len(candidates) < ERROR
    ]


def forgotten(sheets: Sequence[Sheet]) -> Iterable[Forgotten]:
    """Every group of sheets that would be one stratum if a single axis were left out of its definition."""
    axes: dict[str, Callable[[Sheet], object]] = {
        "λ": lambda s: (s.arm.rho_weight, s.arm.condition),
        "γ": lambda s: "unknown" if s.arm.rho_weight and s.arm.margin is None else s.arm.margin,
        "model": lambda s: s.model,
        "experiment": lambda s: s.experiment,
    }
    peers: dict[tuple[object, ...], list[Sheet]] = defaultdict(list)
    for sheet in sheets:
        peers[sheet.metric, sheet.split, sheet.quantity].append(sheet)
    for members in peers.values():
        stated: dict[str, Counter[str]] = defaultdict(Counter)
        for sheet in members:
            for key, value in sheet.settings:
                stated[key][value] += 1
        varying = [key for key, found in stated.items() if len(found) > 1 or found.total() < len(members)]
        for axis, value_of in axes.items():
            others = [other for name, other in axes.items() if name not in (axis, "experiment")]
            yield from _groups(
                axis, [((s.arm.condition, s.settings, *(f(s) for f in others)), value_of(s), s) for s in members]
            )
        for key in sorted(varying):
            others = [other for name, other in axes.items() if name != "experiment"]
            yield from _groups(
                key,
                [
                    ((s.arm.condition, tuple(e for e in s.settings if e[0] != key), *(f(s) for f in others)),
                     dict(s.settings).get(key, "unset"), s)
                    for s in members
                ],
            )  # fmt: skip


def _groups(axis: str, placed: Sequence[tuple[tuple[object, ...], object, Sheet]]) -> Iterable[Forgotten]:
    groups: dict[tuple[object, ...], dict[object, list[Sheet]]] = defaultdict(lambda: defaultdict(list))
    for rest, value, sheet in placed:
        groups[rest][value].append(sheet)
    for values in groups.values():
        if len(values) > 1:
            ordered = [values[value] for value in sorted(values, key=_in_order)]
            for choice in islice(product(*ordered), MOST_CHOICES):
                yield axis, choice


def _in_order(value: object) -> tuple[float, str]:
    """Numbers by size, words by letters."""
    first = value[0] if isinstance(value, tuple) else value
    return (float(first), "") if isinstance(first, int | float) else (0.0, str(first))


def _look(
    axis: str, sheets: Sequence[Sheet], behavior: str, samples: Sequence[Array], share: float, test: Test
) -> Look:
    within = float(np.sqrt(np.mean([sample.var(ddof=1) for sample in samples])))
    pooled = float(np.concatenate(samples).std(ddof=1))
    values = listed([_value(axis, sheet) for sheet in sheets])
    first = sheets[0]
    return flag(
        "pooled strata", model="several" if axis == "model" else first.model, behavior=behavior, metric=first.metric,
        stratum=f"{first.arm.condition}, {axis} = {values}", size=share, n=sum(map(len, samples)), test=test,
        size_is="share of the pooled variance that lies between the strata",
        runs=tuple(run for sheet in sheets for run in sheet.runs),
        groups=tuple(
            group(_value(axis, sheet), sheet.sample(behavior)[1], sample)
            for sheet, sample in zip(sheets, samples, strict=True)
        ),
        what=f"{first.model}: {behavior} {first.metric} of {first.arm.condition} pooled over {axis} = {values} has SD "
        f"{pooled:.3g}, inside the strata {within:.3g}; {100 * share:.0f} % of its variance lies between them",
        why="a spread or correlation over the pooled runs would show the axis, not the seeds",
    )  # fmt: skip


def _value(axis: str, sheet: Sheet) -> str:
    known = {"λ": sheet.arm.rho_weight, "γ": sheet.arm.margin, "model": sheet.model, "experiment": sheet.experiment}
    value = known[axis] if axis in known else dict(sheet.settings).get(axis)
    return "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value).strip('"')


def between_share(samples: Sequence[Array]) -> tuple[float, Test]:
    """Share of the pooled sum of squares between the samples (η²), with its F test (one-way analysis of variance)."""
    method, k = "one-way analysis of variance between strata", len(samples)
    pooled = np.concatenate(samples) if samples else np.empty(0)
    n = len(pooled)
    if k < 2 or n <= k or min(len(s) for s in samples) == 0:
        return 0.0, no_test("not enough data", method, n)
    if is_constant(pooled):
        return 0.0, no_test("degenerate", method, n)
    total = float(((pooled - pooled.mean()) ** 2).sum())
    within = sum(float(((s - s.mean()) ** 2).sum()) for s in samples)
    if within <= 1e-20 * total:
        return 1.0, no_test("degenerate", method, n)
    f = ((total - within) / (k - 1)) / (within / (n - k))
    return (total - within) / total, Test(statistic=f, p=float(special.fdtrc(k - 1, n - k, f)), n=n, method=method)
