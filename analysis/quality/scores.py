"""Checks of scores: range, pooled strata, copies, seeds that change nothing, train against eval."""

from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from analysis.anomalies.variance import BOUNDS
from analysis.looks import Look, group
from analysis.panel import Panel, Sheet
from analysis.quality.flags import flag, listed
from analysis.stats.results import Array, Test, is_constant, no_test
from analysis.summaries import zero_mean_test

if TYPE_CHECKING:
    import pandas as pd

POOLED_SHARE = 0.5
"""Share of a pooled group's variance between the values of another axis, from which pooling makes the spread."""


def out_of_range(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Scores outside what their metric can be."""
    looks = []
    for (model, metric), rows in frame[frame["metric"].isin(BOUNDS)].groupby(["model", "metric"], sort=True):
        low, high = BOUNDS[str(metric)]
        bad = rows[(rows["value"] < low - 1e-9) | (rows["value"] > high + 1e-9)]
        if len(bad):
            worst = float(bad["value"].iloc[int((bad["value"] - (low + high) / 2).abs().argmax())])
            behaviors = sorted(bad["behavior"].unique())
            looks.append(
                flag(
                    "range", model=str(model), behavior=listed(behaviors), metric=str(metric), size=worst,
                    size_is="value farthest out of range", n=len(bad), runs=list(bad["run"].unique()),
                    what=f"{model}: {len(bad)} values of {metric} ({listed(behaviors)}) lie outside "
                    f"[{low:g}, {high:g}], {worst:.3g} farthest",
                    why=f"no {metric} can be that: another quantity is stored under its name",
                )
            )  # fmt: skip
    return looks


def pooled_strata(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Condition and λ alone as a group: does γ (or an experiment) make most of its variance?"""
    groups: dict[tuple[str, str, str, str, float], list[Sheet]] = defaultdict(list)
    for sheet in panel.sheets:
        groups[sheet.model, sheet.metric, sheet.split, sheet.arm.condition, sheet.dose].append(sheet)
    looks = []
    for (model, metric, _, condition, dose), sheets in groups.items():
        for a, b in combinations(sheets, 2):
            if a.arm.margin == b.arm.margin or a.settings != b.settings:
                continue
            for behavior in a.behaviors:
                samples = [sheet.sample(behavior)[0] for sheet in (a, b)]
                share, test = between_share(samples)
                if share > POOLED_SHARE and test.p is not None and test.p < 0.01:
                    within = float(np.sqrt(np.mean([s.var(ddof=1) for s in samples])))
                    pooled = float(np.concatenate(samples).std(ddof=1))
                    looks.append(
                        flag(
                            "pooled strata", model=model, behavior=behavior, metric=metric,
                            stratum=f"{condition} λ={dose:g}, γ={a.arm.margin} and {b.arm.margin}", size=share,
                            size_is="share of the pooled variance that lies between the strata",
                            n=sum(len(s) for s in samples), runs=(*a.runs, *b.runs), test=test,
                            groups=tuple(group(s.label, s.sample(behavior)[1], s.sample(behavior)[0]) for s in (a, b)),
                            what=f"{model}: {behavior} of {condition} at λ={dose:g} pooled over γ={a.arm.margin} and "
                            f"γ={b.arm.margin} has SD {pooled:.3g}, inside them {within:.3g}; {100 * share:.0f} % "
                            "of its variance lies between them",
                            why="a spread or correlation over the pooled runs would show the axis, not the seeds",
                        )
                    )  # fmt: skip
    return looks


def between_share(samples: list[Array]) -> tuple[float, Test]:
    """SS between / SS total and the F test of equal means."""
    n, k = sum(len(s) for s in samples), len(samples)
    method = "F test of equal means (one-way)"
    if min(len(s) for s in samples) < 2:
        return 0.0, no_test("not enough data", method, n)
    pooled = np.concatenate(samples)
    if is_constant(pooled):
        return 0.0, no_test("degenerate", method, n)
    total = float(((pooled - pooled.mean()) ** 2).sum())
    within = sum(float(((s - s.mean()) ** 2).sum()) for s in samples)
    if within <= 1e-20 * total:
        return 1.0, no_test("degenerate", method, n)
    f = ((total - within) / (k - 1)) / (within / (n - k))
    return (total - within) / total, Test(statistic=f, p=float(special.fdtrc(k - 1, n - k, f)), n=n, method=method)


def copies(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Runs of different identity whose scores agree to the last digit."""
    rows = frame[(frame["kind"] == "alignment") & frame["value"].notna()]
    heads = rows.drop_duplicates("run").set_index("run")
    vectors: dict[tuple[object, ...], list[str]] = defaultdict(list)
    columns = ("run", "behavior", "metric", "split", "value")
    scores: dict[str, list[tuple[object, ...]]] = defaultdict(list)
    for run, *score in zip(*(rows[c].tolist() for c in columns), strict=True):
        scores[run].append(tuple(score))
    fingerprints = heads["model_fingerprint"].to_dict()
    for run, vector in scores.items():
        if len(vector) > 1:
            vectors[fingerprints[run], tuple(sorted(vector))].append(run)
    looks = []
    for runs in vectors.values():
        if len(runs) > 1:
            same = heads.loc[runs]
            one_arm = len(same[["condition", "rho_weight", "margin"]].drop_duplicates()) == 1
            seeds = sorted(same["seed"].unique())
            model = str(same["model"].iloc[0])
            arm = str(same["condition"].iloc[0])
            if one_arm and len(seeds) > 1:
                what = f"{model}: seeds {listed(seeds)} of {arm} gave exactly the same scores"
                why = "the seed does not reach what it should vary: these are one run, not replicates"
            else:
                what = f"{model}: {len(runs)} runs ({arm}, seeds {listed(seeds)}) have exactly the same scores"
                why = "rows were copied or ingested twice; they count once"
            looks.append(
                flag("copies", model=model, what=what, why=why, size=float(len(runs)), size_is="runs with equal scores",
                     n=len(runs), runs=runs, stratum=arm)
            )  # fmt: skip
    return looks


def train_eval_gap(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Is Δ larger on the probes that were trained on than on held-out ones?"""
    rows = frame[(frame["kind"] == "alignment") & frame["split"].isin(["train", "eval"])]
    rows = rows[rows["value"].notna() & rows["baseline_value"].notna() & (rows["metric"] == "gap")]
    if rows.empty:
        return []
    rows = rows.assign(delta=rows["value"] - rows["baseline_value"])
    wide = rows.pivot_table(
        index=["model", "condition", "rho_weight", "margin", "config_hash", "behavior", "run"], columns="split",
        values="delta", dropna=False,
    ).dropna()  # fmt: skip
    if not {"train", "eval"} <= set(wide.columns):
        return []
    wide["difference"] = wide["train"] - wide["eval"]
    looks = []
    keys = ["model", "condition", "rho_weight", "margin", "config_hash", "behavior"]
    for (model, condition, weight, margin, _, behavior), part in wide.reset_index().groupby(keys, dropna=False):
        values = part["difference"].to_numpy(dtype=float)
        if len(values) < 3:
            continue
        looks.append(
            flag("train-eval gap", model=str(model), behavior=str(behavior), metric="gap",
                 stratum=f"{condition} λ={weight:g} γ={margin:g}", size=float(values.mean()),
                 size_is="mean of Δ on train probes minus Δ on eval probes, nats/token", n=len(values),
                 runs=list(part["run"]), test=zero_mean_test(values), fixed=None,
                 what=f"{model}, {condition} λ={weight:g}: Δ gap of {behavior} is {values.mean():+.3g} nats/token "
                 "larger on the probes trained on than on held-out ones", why="")
        )  # fmt: skip
    return looks
