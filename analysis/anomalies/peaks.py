"""Where an effect over layers is largest, and how sure that is: resampled probes, else stored standard errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from analysis.stats.clusters import resampled_means
from analysis.stats.results import Array, Estimate, Test, no_estimate, no_test
from analysis.wording import wording_clusters

if TYPE_CHECKING:
    import pandas as pd

    from analysis.study import StudyOptions
    from rhodb.warehouse import Warehouse

DRAWS = 4_000
CHANGES = "probe_changes"
"""Column of a frame: changes of single probes behind a score, as (probe, wording, change); None where not stored."""
SPAN = "bootstrap test of one peak layer, smallest p over the pairs of behaviors times their number (Bonferroni)"


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The layer of the largest |Δ| and its bootstrap draws (none: nothing to draw from)."""

    where: Estimate
    draws: Array | None


def peak_of(
    layers: Array,
    deltas: Array,
    errors: Array,
    changes: Sequence[object],
    level: float,
    rng: np.random.Generator,
) -> Peak:
    """Probes are resampled (whole wordings, the same at all layers) where their scores are stored.

    Else normal draws with the scores' standard errors, layer by layer, as if each layer had probes of its own.
    """
    method = "layer of the largest |Δ|"
    means = probe_draws(deltas, changes, rng)
    if means is not None:
        method += ", bootstrap over probes (wordings resampled, the same probes at all layers)"
    elif np.isnan(errors).any():
        value = float(layers[np.abs(deltas).argmax()])
        none = f"{method}: no interval, neither probe scores nor standard errors are stored"
        return Peak(where=no_estimate("ok", none, len(layers), value=value), draws=None)
    else:
        method += ", parametric bootstrap over probes (standard errors of the scores, layers independent)"
        means = deltas + errors * rng.standard_normal((DRAWS, len(deltas)))
    draws = layers[np.abs(means).argmax(axis=1)].astype(np.float64)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    value = float(layers[np.abs(deltas).argmax()])
    where = Estimate(value=value, low=float(low), high=float(high), n=len(layers), method=method, level=level)
    return Peak(where=where, draws=draws)


def probe_draws(deltas: Array, changes: Sequence[object], rng: np.random.Generator) -> Array | None:
    """Resampled Δ at all layers: draws x layers. None where a layer has no probe scores, or others than its Δ."""
    tables = [{probe: change for probe, _, change in found} for found in changes if isinstance(found, tuple)]
    if len(tables) < len(changes) or not tables:
        return None
    probes = [probe for probe in tables[0] if all(probe in table for table in tables)]
    table = np.array([[found[probe] for probe in probes] for found in tables], dtype=np.float64)
    # A Δ over other probes than those stored (another split, a set that grew) must not lend its layer to them.
    if len(probes) < 2 or np.abs(table.mean(axis=1) - deltas).max() > 1e-6 * max(1.0, float(np.abs(deltas).max())):
        return None
    first = changes[0]
    assert isinstance(first, tuple)
    wording = {probe: text for probe, text, _ in first}
    clusters = wording_clusters([wording[probe] for probe in probes])
    return resampled_means(table, clusters, rng, draws=DRAWS)


def span_of(peaks: dict[str, Peak], level: float) -> tuple[Estimate, Test]:
    """Largest minus smallest peak layer; interval of the difference of the outermost two, test of one common layer."""
    values = {behavior: peak.where.value or 0.0 for behavior, peak in peaks.items()}
    top, bottom = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    span = values[top] - values[bottom]
    draws = {behavior: peak.draws for behavior, peak in peaks.items() if peak.draws is not None}
    method = "difference of the outermost peak layers"
    if len(draws) < len(peaks):
        return no_estimate("ok", method, len(peaks), value=span), no_test("not enough data", SPAN, len(peaks))
    low, high = np.quantile(draws[top] - draws[bottom], [(1 - level) / 2, (1 + level) / 2], method="nearest")
    pairs = list(combinations(draws, 2))
    sided = [(np.count_nonzero(draws[a] >= draws[b]), np.count_nonzero(draws[a] <= draws[b])) for a, b in pairs]
    least = min(1 + int(min(pair)) for pair in sided)
    estimate = Estimate(
        value=span, low=float(low), high=float(high), n=len(peaks), level=level,
        method=f"{method}, percentile bootstrap over probes (the behaviors' probes are drawn independently)",
    )  # fmt: skip
    p, floor = (min(1.0, 2 * len(pairs) * hits / (1 + DRAWS)) for hits in (least, 1))
    return estimate, Test(statistic=span, p=p, n=len(peaks), method=SPAN, floor=floor)


def with_probe_changes(wh: "Warehouse", frame: "pd.DataFrame", options: "StudyOptions") -> "pd.DataFrame":
    """The frame with column `probe_changes` on rows of steering runs whose probe scores are stored (metric gap)."""
    import pandas as pd

    from analysis.query import Conditions, read_sql

    rows = (frame["kind"] == "steering") & (frame["metric"] == "gap")
    if not rows.any():
        return frame
    conditions = Conditions()
    conditions.equal("models.key", options.model)
    conditions.equal("positive.split", options.split)
    conditions.among("probe_sets.behavior", options.behaviors)
    probes = wh.frame(read_sql("steering_probes", conditions=conditions), **conditions.parameters)
    if probes.empty:
        return frame
    found = {
        key: tuple(zip(part["probe"], part["wording"], part["change"], strict=True))
        for key, part in probes.groupby(["run", "behavior"], sort=False)
    }
    keys = zip(frame["run"], frame["behavior"], rows, strict=True)
    column = [found.get((run, behavior)) if own else None for run, behavior, own in keys]
    return frame.assign(**{CHANGES: pd.Series(column, index=frame.index, dtype=object)})
