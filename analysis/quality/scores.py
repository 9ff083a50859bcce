"""Checks of scores: range, copies, seeds that change nothing, train against eval."""

from collections import defaultdict
from typing import TYPE_CHECKING

from analysis.admission import NATS
from analysis.anomalies.variance import BOUNDS
from analysis.looks import Look
from analysis.panel import Panel
from analysis.quality.flags import flag, listed
from analysis.summaries import zero_mean_test
from rhodb.frames import values_of

if TYPE_CHECKING:
    import pandas as pd

FEW_SCORES = 4
"""Discrete scores (shares) that two runs may have in common by chance; more, or any two in nats, are copies."""


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


def copies(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Runs of different identity, perhaps of different models, whose scores agree to the last digit."""
    rows = frame[(frame["kind"] == "alignment") & frame["value"].notna()]
    heads = rows.drop_duplicates("run").set_index("run")
    scores: dict[str, list[tuple[object, ...]]] = defaultdict(list)
    columns = ("run", "behavior", "metric", "split", "value")
    for run, *score in zip(*(values_of(rows[c]) for c in columns), strict=True):
        scores[run].append(tuple(score))
    vectors: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for run, vector in scores.items():
        if sum(metric in NATS for _, metric, _, _ in vector) > 1 or len(vector) > FEW_SCORES:
            vectors[tuple(sorted(vector))].append(run)
    looks = []
    for runs in vectors.values():
        if len(runs) > 1:
            same = heads.loc[runs]
            model, arm = listed(sorted(same["model"].unique())), str(same["condition"].iloc[0])
            what, why = _alike(same, model, arm)
            looks.append(
                flag("copies", model=model, what=what, why=why, size=float(len(runs)), size_is="runs with equal scores",
                     n=len(runs), runs=runs, stratum=arm)
            )  # fmt: skip
    return looks


SETTINGS = {"condition": "condition", "rho_weight": "λ", "margin": "γ"}


def _alike(same: "pd.DataFrame", model: str, arm: str) -> tuple[str, str]:
    """What runs with equal scores have in common, and what that means."""
    seeds = sorted(same["seed"].unique())
    differing = {name: sorted(same[c].dropna().unique()) for c, name in SETTINGS.items() if same[c].nunique() > 1}
    if differing:
        settings = " and ".join(f"{name} ({listed(values)})" for name, values in differing.items())
        what = (
            f"{model}: {len(same)} runs (seeds {listed(seeds)}) that differ in {settings} have exactly the same scores"
        )
        return what, (
            "the setting changed nothing here (a margin changes no step as long as the same pairs are active), or rows "
            "were copied: these are no independent measurements"
        )
    if len(seeds) > 1:
        what = f"{model}: seeds {listed(seeds)} of {arm} gave exactly the same scores"
        return what, "the seed does not reach what it should vary: these are one run, not replicates"
    what = f"{model}: {len(same)} runs ({arm}, seed {listed(seeds)}) have exactly the same scores"
    return what, "rows were copied or ingested twice; they count once"


def train_eval_gap(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Is Δ larger on the probes that were trained on than on held-out ones?"""
    rows = frame[(frame["kind"] == "alignment") & frame["split"].isin(["train", "eval"])]
    rows = rows[rows["value"].notna() & rows["baseline_value"].notna() & (rows["metric"] == "gap")]
    if rows.empty:
        return []
    rows = rows.assign(delta=rows["value"] - rows["baseline_value"])
    keys = ["model", "model_fingerprint", "condition", "rho_weight", "margin", "config_hash", "behavior"]
    # Not `pivot_table`: with dropna=False it makes every combination of the keys, 1 TiB of them in 50,000 runs.
    wide = rows.groupby([*keys, "run", "split"], dropna=False)["delta"].mean().unstack("split").dropna()
    if not {"train", "eval"} <= set(wide.columns):
        return []
    wide["difference"] = wide["train"] - wide["eval"]
    looks = []
    for (model, _, condition, weight, margin, _, behavior), part in wide.reset_index().groupby(keys, dropna=False):
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
