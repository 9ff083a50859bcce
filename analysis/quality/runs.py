"""Checks of runs: contradictions, missing cells and survivorship, drift, training gone wrong, seeds without meaning."""

import json
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.admission import NATS, alike
from analysis.design import Declared
from analysis.looks import Look
from analysis.needed import failures_for
from analysis.panel import Panel, Sheet
from analysis.quality.flags import flag, listed
from analysis.quality.measurements import PLACES
from analysis.stats.couplings import spearman_pairs
from analysis.stats.rates import fisher_exact
from analysis.strata import Arm, is_missing, labels, records, stratum_of

if TYPE_CHECKING:
    import pandas as pd

FEWEST_SEEDS = 3
SPIKE = 5.0
"""A step whose loss is this many times the run's mean."""


def contradictions(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """One configuration and seed, several results."""
    rows = frame[frame["value"].notna() & (frame["seed_known"] == 1) & (frame["kind"] != "baseline")]
    keys = ["kind", "model", "model_fingerprint", "config_hash", "seed", "behavior", "metric", "split"]
    ranges = rows.groupby(keys)["value"].agg(["count", "max", "min"])
    bad = ranges[(ranges["count"] > 1) & (ranges["max"] > ranges["min"])].reset_index()
    looks = []
    for model, part in bad.groupby("model", sort=True):
        cells = part[["config_hash", "seed"]].drop_duplicates()
        runs = rows.merge(cells, on=["config_hash", "seed"]).query("model == @model").drop_duplicates("run")
        differs = [place for place in PLACES if runs[place].nunique() > 1]
        cause = (
            f"they differ in {listed(differs)}" if differs else "no recorded host, device or version tells them apart"
        )
        widest = float((part["max"] - part["min"]).max())
        looks.append(
            flag("contradiction", model=str(model), size=widest, size_is="largest difference within one configuration",
                 n=len(runs), runs=list(runs["run"]), behavior=listed(sorted(part["behavior"].unique())),
                 what=f"{model}: {len(cells)} configurations with one seed each have several results, up to "
                 f"{widest:.3g} apart; {cause}",
                 why="the seed does not fix the result, or the runs are not of one configuration")
        )  # fmt: skip
    return looks


def unbalanced(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Sheets of a design that lack seeds which others have."""
    looks = []
    for design in panel.designs:
        if len(design.sheets) < 2 or not all(sheet.seeds_known for sheet in design.sheets):
            continue
        every = set().union(*(sheet.seeds for sheet in design.sheets))
        gaps = {s.label: sorted(every - set(s.seeds)) for s in design.sheets if every - set(s.seeds)}
        if gaps:
            told = "; ".join(f"{label} lacks {listed(seeds)}" for label, seeds in gaps.items())
            looks.append(
                flag("missing cells", model=design.model, size=float(sum(map(len, gaps.values()))),
                     size_is="cells without a run", n=len(every) * len(design.sheets),
                     runs=[run for sheet in design.sheets for run in sheet.runs], metric=design.metric,
                     what=f"{design.model}: of {len(every)} seeds x {len(design.sheets)} strata some are missing: "
                     f"{told}",
                     why="comparisons over unequal seeds mix the effect with the choice of seeds")
            )  # fmt: skip
    return looks


def survivorship(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Do runs of one stratum fail more often than the others of the same weights?"""
    heads = frame[frame["kind"] == "alignment"].drop_duplicates("run")
    arms = [_arm(row) for row in records(heads)]
    heads = heads.assign(
        condition=[arm.condition for arm in arms],
        rho_weight=np.array([arm.rho_weight for arm in arms], dtype=float),
        margin=np.array([arm.margin for arm in arms], dtype=float),
    )
    looks = []
    for model, every in heads.groupby("model", sort=True):
        parts = alike(every, Declared())
        # Where some runs do not state a setting, the stratum is called by those that say most.
        whole = [stratum_of(max(records(part), key=lambda row: len(row["config"]))) for part in parts]
        names = labels(whole)
        for stratum, part in zip(whole, parts, strict=True):
            rows = every[every["model_fingerprint"] == stratum.model_fingerprint]
            own, failed = int((part["state"] == "failed").sum()), int((rows["state"] == "failed").sum())
            if not own:
                continue
            test = fisher_exact(own, len(part), failed - own, max(1, len(rows) - len(part)))
            looks.append(
                flag("survivorship", model=str(model), stratum=names[stratum], size=own / len(part),
                     size_is="share of failed runs", n=len(rows), runs=list(part["run"]), test=test, fixed=None,
                     what=f"{model}: {own} of {len(part)} runs of {names[stratum]} failed, {failed - own} of "
                     f"{len(rows) - len(part)} of the other strata", why="", reference="Fisher 1935",
                     seeds_for=partial(_failures_could, len(part), len(rows) - len(part)))
            )  # fmt: skip
    return looks


def _failures_could(own: int, others: int, level: float) -> str:
    k = failures_for(own, others, level)
    return f"{own} failures out of {own} could not either" if k is None else f"{k} failures in this stratum alone could"


def _arm(row: Mapping[str, Any]) -> Arm:
    """The arm of a run; that of a failed one may stand only in its configuration."""
    stated = json.loads(row["config"])
    condition = row["condition"] if isinstance(row["condition"], str) else str(stated.get("condition", "unknown"))
    weight, margin = (
        stated.get(name) if is_missing(row[name]) else float(row[name]) for name in ("rho_weight", "margin")
    )
    return Arm.of(condition, weight or 0.0, margin)


def drift(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Do scores move with the time at which runs began, within their strata?"""
    heads = frame.drop_duplicates("run")
    begun = dict(zip(heads["run"], heads["started_at"], strict=True))
    points: dict[tuple[str, str, str], list[tuple[str, float, str]]] = defaultdict(list)
    for sheet in panel.sheets:
        for behavior in sheet.behaviors:
            values, _, runs = sheet.sample(behavior)
            if len(values) > 1:
                points[sheet.model, behavior, sheet.metric] += [
                    (begun[run], float(value), run)
                    for run, value in zip(runs, values - values.mean(), strict=True)
                    if isinstance(begun[run], str)
                ]
    rng = np.random.default_rng(0)
    looks = []
    for (model, behavior, metric), found in points.items():
        if len(found) < 8 or len({when for when, _, _ in found}) < 8:
            continue
        found.sort()
        table = np.column_stack([np.arange(len(found)), [value for _, value, _ in found]]).astype(float)
        test = spearman_pairs(table, rng)[0, 1]
        if test.statistic is not None:
            looks.append(
                flag("drift", model=model, behavior=behavior, metric=metric, size=test.statistic,
                     size_is="Spearman's rho of start time and deviation from the stratum's mean", n=len(found),
                     runs=[run for *_, run in found], test=test, fixed=None, reference="Spearman 1904",
                     what=f"{model}: {behavior} {metric}, deviations from the strata's means against start time, rho = "
                     f"{test.statistic:.2f}", why="")
            )  # fmt: skip
    return looks


def training(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Loss spikes, a contrastive term that is silent, no active pairs."""
    heads = frame[(frame["kind"] == "alignment") & (frame["state"] == "done")].drop_duplicates("run")
    guided = heads[(heads["rho_weight"].fillna(0) > 0) & (heads["condition"] != "sft-only")]
    problems = (
        ("no active pairs", guided[guided["steps"].notna() & (guided["active"] == 0)],
         "the contrastive term is silent from the start: these runs are plain SFT under another name"),
        ("silent contrastive term", guided[guided["highest_rho"].eq(0) | guided["train_rho_loss"].eq(0)],
         "a hinge of zero teaches nothing: the pairs are separated by γ already, or the term is not computed"),
        ("loss spikes", heads[heads["highest_ce"] > SPIKE * heads["mean_ce"]],
         f"a step's loss was over {SPIKE:g} times the mean: scores may show the spike"),
    )  # fmt: skip
    looks = []
    for name, rows, why in problems:
        for model, part in rows.groupby("model", sort=True):
            conditions = listed(sorted(part["condition"].unique()))
            looks.append(
                flag("training", model=str(model), stratum=conditions, size=float(len(part)), size_is=f"runs: {name}",
                     n=len(heads[heads["model"] == model]), runs=list(part["run"]), why=why,
                     what=f"{model}: {name} in {len(part)} runs ({conditions}, seeds "
                     f"{listed(sorted(part['seed'].unique()))})")
            )  # fmt: skip
    return looks


def seeds_without_meaning(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Seeds that are only numbers, or that vary less than they should in a stratum."""
    notes = frame.drop_duplicates("run").set_index("run")["notes"].to_dict()
    meanings = {text: json.loads(text).get("seed_semantics") for text in set(notes.values()) if isinstance(text, str)}
    looks = []
    for sheet in panel.sheets:
        found = {meanings.get(notes.get(run, "")) for run in sheet.runs}
        if not sheet.seeds_known:
            looks.append(
                _seed_flag(
                    sheet,
                    "have seeds that nobody recorded, or whose meaning nobody stated",
                    "they are numbered, and never paired",
                )
            )
        elif found == {"pair order"} and sheet.dose == 0 and len(sheet.seeds) > 1:
            looks.append(
                _seed_flag(sheet, "have seeds that only order contrast pairs, of which there are none at λ 0",
                           "their differences are noise of the machine, not of seeds: they are repeats")
            )  # fmt: skip
        still = _unmoved(sheet)
        if still:
            looks.append(
                _seed_flag(sheet, f"have one and the same {sheet.metric} of {listed(still)}",
                           "the seed does not reach these scores: they are one measurement")
            )  # fmt: skip
    return looks


def _unmoved(sheet: Sheet) -> list[str]:
    """Behaviors with a continuous metric that is the same for all of three or more seeds."""
    if sheet.metric not in NATS:
        return []
    samples = {behavior: sheet.sample(behavior)[0] for behavior in sheet.behaviors}
    return [b for b, values in samples.items() if len(values) >= FEWEST_SEEDS and len(np.unique(values)) == 1]


def _seed_flag(sheet: Sheet, what: str, why: str) -> Look:
    return flag(
        "seeds", model=sheet.model, metric=sheet.metric, stratum=sheet.label, size=float(len(sheet.seeds)),
        size_is="runs", n=len(sheet.seeds), runs=sheet.runs, why=why,
        what=f"{sheet.model}: {len(sheet.seeds)} runs of {sheet.label} {what}",
    )  # fmt: skip
