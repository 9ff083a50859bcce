"""At which layer does a steering vector move a behavior most, and do behaviors peak at different layers?"""

from typing import TYPE_CHECKING

import numpy as np

from analysis.admission import alike
from analysis.anomalies.base import Data, Detector
from analysis.design import Declared
from analysis.looks import Look, group, metric_unit
from analysis.stats.results import Array, Estimate, Test, no_estimate, no_test
from analysis.study import StudyOptions

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 4_000


class Layers(Detector):
    """Peak layer of each behavior under steering."""

    name = "layers"
    question = "Which layer moves a behavior most, is that more than a random vector does, and do the peaks differ?"
    stratum = "model, steered behavior, α, metric constant; layers vary; random vectors of equal norm are the null"
    design = Declared(varies=frozenset({"layer"}))
    test = "largest |Δ| over the layers against the same of each random vector (max-T)"
    null = "the vector's direction does not matter: it is exchangeable with the random vectors"
    reference = "Westfall & Young 1993 (max-T); Phipson & Smyth 2010"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        looks: list[Look] = []
        frame = main_metrics(data.steering, options)
        frame = frame[frame["delta"].notna()]
        for part in alike(frame, Declared(varies=self.design.varies | {"control"})):
            model, alpha, steered = (part[key].iloc[0] for key in ("model", "alpha", "steered_behavior"))
            vector = f" of {steered}" if isinstance(steered, str) else ""
            stratum = f"steering{vector}, α={alpha:g}"
            found = [
                self._look(str(model), stratum, rows, options, rng)
                for _, rows in part.groupby("behavior", sort=True)
                if rows.loc[rows["control"].isna(), "layer"].nunique() >= 3
            ]
            looks += found
            if len(found) > 1:
                looks.append(self._span(found))
        return looks

    def _look(
        self, model: str, stratum: str, rows: "pd.DataFrame", options: StudyOptions, rng: np.random.Generator
    ) -> Look:
        behavior, metric, split = (str(rows[key].iloc[0]) for key in ("behavior", "metric", "split"))
        real = rows[rows["control"].isna()].sort_values("layer").drop_duplicates("layer")
        layers, deltas = real["layer"].to_numpy(dtype=int), real["delta"].to_numpy(dtype=float)
        peak = int(np.abs(deltas).argmax())
        where = peak_interval(layers, deltas, real["se"].to_numpy(dtype=float), options.level, rng)
        controls = rows[rows["control"].notna() & rows["layer"].isin(layers)]
        highest = controls.groupby("control")["delta"].apply(lambda d: float(d.abs().max())).to_numpy(dtype=float)
        test = against_controls(float(abs(deltas[peak])), highest, self.test)
        reach = "" if where.low is None else f" (bootstrap over probes: layers {where.low:g} to {where.high:g})"
        return Look(
            detector=self.name,
            about={"model": model, "behavior": behavior, "metric": metric, "split": split, "quantity": "delta",
                   "stratum": stratum},
            what=f"{model}, {stratum}: Δ {metric} of {behavior} is largest at layer {layers[peak]}{reach}, "
            f"{deltas[peak]:.3g}, of {len(layers)} layers; {len(highest)} random vectors",
            effect=where,
            test=test,
            method=f"{self.method}; {where.method}",
            reference=self.reference,
            groups=(group(behavior, [int(layer) for layer in layers], deltas),),
            runs=tuple(real["run"]),
            unit=metric_unit(metric, "delta")[1],
            needed=f"at least {int(np.ceil(1 / options.alpha)) - 1} random vectors are needed as a null (--controls)",
        )  # fmt: skip

    def _span(self, found: list[Look]) -> Look:
        peaks = {look.about["behavior"]: look.effect for look in found}
        values = [peak.value for peak in peaks.values() if peak.value is not None]
        span = max(values) - min(values)
        apart = all(
            a.low is not None and b.high is not None and (a.low > b.high or (b.low or 0) > (a.high or 0))
            for a, b in [(max(peaks.values(), key=_value), min(peaks.values(), key=_value))]
        )
        listed = ", ".join(f"{b} {peak.value:g}" for b, peak in peaks.items())
        first = found[0]
        return Look(
            detector=self.name,
            about={**first.about, "behavior": " / ".join(peaks)},
            what=f"{first.about['model']}, {first.about['stratum']}: peaks at layers {listed}; span {span:g}; "
            f"intervals of the outermost peaks {'do not overlap' if apart else 'overlap or are not known'}",
            effect=no_estimate("ok", "largest minus smallest peak layer", len(values), value=span),
            test=no_test("not enough data", "none: the span has no test of its own", len(values)),
            method=self.method,
            reference=self.reference,
            runs=tuple(dict.fromkeys(run for look in found for run in look.runs)),
            needed="a span is only as sure as its peaks",
        )


def _value(estimate: Estimate) -> float:
    return estimate.value or 0.0


def main_metrics(frame: "pd.DataFrame", options: StudyOptions) -> "pd.DataFrame":
    """The rows of the asked metrics; for a model and behavior without them, of all metrics but retention."""
    if frame.empty:
        return frame
    asked = frame["metric"].isin(options.metrics)
    keys = [frame["model"], frame["behavior"]]
    has = asked.groupby(keys).transform("any")
    other = ~has & (frame["metric"] != "retention")
    return frame[asked | other]


def peak_interval(layers: Array, deltas: Array, errors: Array, level: float, rng: np.random.Generator) -> Estimate:
    """Layer of the largest |Δ|; interval from normal draws with the scores' standard errors over probes."""
    peak = float(layers[np.abs(deltas).argmax()])
    method = "layer of the largest |Δ|, parametric bootstrap over probes (standard errors of the scores)"
    if np.isnan(errors).any():
        return no_estimate("ok", f"{method}: none, no standard errors are stored", len(layers), value=peak)
    draws = deltas + errors * rng.standard_normal((DRAWS, len(deltas)))
    peaks = layers[np.abs(draws).argmax(axis=1)]
    low, high = np.quantile(peaks, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return Estimate(value=peak, low=float(low), high=float(high), n=len(layers), method=method, level=level)


def against_controls(seen: float, null: Array, method: str) -> Test:
    """p = (1 + hits) / (1 + controls)."""
    if not len(null):
        return no_test("not enough data", method, 0)
    p = float((1 + np.count_nonzero(null >= seen - 1e-12)) / (1 + len(null)))
    return Test(statistic=seen, p=p, n=len(null), method=method, floor=1 / (1 + len(null)))
