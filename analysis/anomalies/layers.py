"""At which layer does a steering vector move a behavior most, and do behaviors peak at different layers?"""

import math
from typing import TYPE_CHECKING

import numpy as np

from analysis.admission import alike
from analysis.anomalies.base import Data, Detector
from analysis.anomalies.omitted import Omission, sentences
from analysis.anomalies.peaks import CHANGES, Peak, peak_of, span_of
from analysis.design import Declared
from analysis.looks import Look, group, interval_text, metric_unit
from analysis.stats.results import Array, Test, no_test
from analysis.study import StudyOptions

if TYPE_CHECKING:
    import pandas as pd


FEWEST_LAYERS = 3


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
            peaks: dict[str, Peak] = {}
            found = []
            for behavior, rows in part.groupby("behavior", sort=True):
                if layers_of(rows) >= FEWEST_LAYERS:
                    look, peaks[str(behavior)] = self._look(str(model), stratum, rows, options, rng)
                    found.append(look)
            looks += found
            if len(found) > 1:
                looks.append(self._span(peaks, found, options))
        return looks

    def left_out(self, data: Data) -> list[str]:
        """Scores without a baseline, and behaviors steered at too few layers."""
        told = []
        bare = data.steering[data.steering["delta"].isna()]
        for model, rows in bare.groupby("model", sort=True):
            runs = f"{model}: {rows['run'].nunique()} steering runs"
            told.append(Omission(runs, "the untouched model's score is missing, so that there is no Δ"))
        known = data.steering[data.steering["delta"].notna()]
        for part in alike(known, Declared(varies=self.design.varies | {"control"})):
            for (behavior, metric), rows in part.groupby(["behavior", "metric"], sort=True):
                if layers_of(rows) < FEWEST_LAYERS:
                    what = f"{rows['model'].iloc[0]} {metric}, α={rows['alpha'].iloc[0]:g}: {behavior}"
                    told.append(Omission(what, f"it takes {FEWEST_LAYERS} layers"))
        return sentences(self.name, told)

    def _look(
        self, model: str, stratum: str, rows: "pd.DataFrame", options: StudyOptions, rng: np.random.Generator
    ) -> tuple[Look, Peak]:
        behavior, metric, split = (str(rows[key].iloc[0]) for key in ("behavior", "metric", "split"))
        real = rows[rows["control"].isna()].sort_values("layer").drop_duplicates("layer")
        layers, deltas = real["layer"].to_numpy(dtype=int), real["delta"].to_numpy(dtype=float)
        peak = int(np.abs(deltas).argmax())
        changes = real[CHANGES].tolist() if CHANGES in real.columns else [None] * len(real)
        found = peak_of(layers, deltas, real["se"].to_numpy(dtype=float), changes, options.level, rng)
        where = found.where
        controls = rows[rows["control"].notna() & rows["layer"].isin(layers)]
        highest = controls.groupby("control")["delta"].apply(lambda d: float(d.abs().max())).to_numpy(dtype=float)
        test = against_controls(float(abs(deltas[peak])), highest, self.test)
        reach = "" if where.low is None else f" (layers {where.low:g} to {where.high:g})"
        look = Look(
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
            seeds_for=lambda level: f"{math.ceil(1 / level) - 1} random vectors could (--controls)",
        )  # fmt: skip
        return look, found

    def _span(self, peaks: dict[str, Peak], found: list[Look], options: StudyOptions) -> Look:
        effect, test = span_of(peaks, options.level)
        listed = ", ".join(f"{behavior} {peak.where.value:g}" for behavior, peak in peaks.items())
        first = found[0]
        # Random vectors have peaks as well, and at different layers: only peaks that are higher than theirs tell.
        beyond = all(look.test.p is not None and look.test.p <= options.alpha for look in found)
        return Look(
            detector=self.name,
            at_most=None if beyond else "suggestive",
            notes=() if beyond else ("not every peak is higher than those of random vectors, which differ as well",),
            about={**first.about, "behavior": " / ".join(peaks)},
            what=f"{first.about['model']}, {first.about['stratum']}: peaks at layers {listed}; "
            f"span {interval_text(effect)} layers",
            effect=effect,
            test=test,
            method=f"{effect.method}; {test.method}",
            reference="Efron & Tibshirani 1993 (bootstrap)",
            runs=tuple(dict.fromkeys(run for look in found for run in look.runs)),
            needed="neither probe scores nor standard errors are stored, so nothing says how sure the peaks are",
        )


def layers_of(rows: "pd.DataFrame") -> int:
    """At how many layers the vector itself, not a random one, was added."""
    return int(rows.loc[rows["control"].isna(), "layer"].nunique())


def main_metrics(frame: "pd.DataFrame", options: StudyOptions) -> "pd.DataFrame":
    """The rows of the asked metrics; for a model and behavior without them, of all metrics but retention."""
    if frame.empty:
        return frame
    asked = frame["metric"].isin(options.metrics)
    keys = [frame["model"], frame["behavior"]]
    has = asked.groupby(keys).transform("any")
    other = ~has & (frame["metric"] != "retention")
    return frame[asked | other]


def against_controls(seen: float, null: Array, method: str) -> Test:
    """p = (1 + hits) / (1 + controls)."""
    if not len(null):
        return no_test("not enough data", method, 0)
    p = float((1 + np.count_nonzero(null >= seen - 1e-12)) / (1 + len(null)))
    return Test(statistic=seen, p=p, n=len(null), method=method, floor=1 / (1 + len(null)))
