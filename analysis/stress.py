"""`rhodb analyze stress`: refusal rates by condition and category, and how they differ over the same prompts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from analysis.findings import Estimate, Group, Result, Robustness, Test
from analysis.looks import RULE, Look, group, interval_text, judged, leaving_out
from analysis.query import Conditions, Query, read_sql
from analysis.stats.clusters import clustered_mean, clustered_rate
from analysis.stats.intervals import mean_interval
from analysis.stats.permutation import sign_flip_test
from analysis.stats.rates import fisher_exact, mcnemar, newcombe, newcombe_paired, wilson
from analysis.stats.results import no_test
from analysis.strata import Held, Stratum, unsaid
from analysis.stress_strata import arms_of, strata_of
from analysis.study import Study, StudyOptions
from analysis.wording import clusters_by_key

if TYPE_CHECKING:
    import pandas as pd

KINDS = (("jailbreak", "jailbreaks refused"), ("benign", "benign prompts refused"))
REFERENCES = ("baseline", "sft-only")
"""What conditions are set against: the untouched model, and training without a contrastive term."""
REFERENCE = (
    "Wilson 1927; Newcombe 1998 (independent and paired, method 10); McNemar 1947; Fisher 1935; Kish 1965 and "
    "Liang & Zeger 1986 (clusters)"
)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What one condition did with prompts of one kind (and category)."""

    condition: str
    """Its stratum's label: the condition, with λ, γ and settings where the arms differ in them."""
    stratum: Stratum
    refused: int
    n: int
    runs: tuple[str, ...]
    answers: Mapping[int, Mapping[str, int]]
    """Seed -> prompt -> 1 if refused; empty where single answers are not stored."""
    wording: Mapping[str, int]
    """Prompt -> cluster of prompts that share their wording."""

    @property
    def by_seed(self) -> Group | None:
        """The rate of each seed; None where single answers are not stored."""
        rates = {seed: sum(found.values()) / len(found) for seed, found in self.answers.items() if found}
        return group(self.condition, list(rates), np.array(list(rates.values()))) if rates else None

    def without(self, seed: int) -> "Arm":
        """The arm without a seed's answers."""
        return replace(self, answers={s: found for s, found in self.answers.items() if s != seed})


class Stress(Study):
    """Refusal rates of jailbreaks and benign prompts by condition, with differences to the untouched model."""

    name = "stress"

    def query(self, options: StudyOptions) -> Query:
        conditions = Conditions()
        conditions.equal("models.key", options.model)
        where = f"({options.where}\n)" if options.where else "1 = 1"
        return Query(sql=read_sql("stress", conditions=f"{conditions} AND {where}"), parameters=conditions.parameters)

    def compute(self, frame: "pd.DataFrame", options: StudyOptions, rng: np.random.Generator) -> Result:
        looks: list[Look] = []
        messages: list[str] = []
        for (model, _, judge), every in frame.groupby(["model", "model_fingerprint", "judge"], dropna=False):
            place = {"model": str(model), "judge": judge if isinstance(judge, str) else ""}
            wording = wordings(every)
            strata = strata_of(every)
            messages += unsaid(list(strata.values()))
            names = {run: name for name, runs in arms_of(strata).items() for run in runs}
            rows = every.assign(arm=every["run"].map(names))
            for kind, words in KINDS:
                looks += _looks(place, kind, words, counted(rows, kind, wording, strata), options, rng)
                answers = rows[(rows["kind"] == kind) & rows["category"].notna()]
                for category, part in answers.groupby("category", sort=True):
                    where = {**place, "category": str(category)}
                    looks += _looks(where, kind, words, answered(part, wording, strata), options, rng)
        query = self.query(options)
        findings, count = judged(looks, options, query)
        if not findings:
            messages.append("no finished stress test: run `rhodb run stress-test`")
        return Result(
            study=self.name, options=asdict(options), findings=findings, looks=count,
            messages=tuple(dict.fromkeys(messages)),
            query=query,
            caption="Rates over prompts with Wilson intervals. Differences pair the answers to the same prompt (exact "
            "McNemar test, Newcombe's paired interval; over several seeds each prompt's mean answer, sign flips and t "
            "interval over prompts). Prompts of one wording and answers to one prompt are clusters; where single "
            "answers are not stored, Fisher's test of the counts takes all answers for independent. "
            f"What would differ on other prompts is in the intervals, what differs between seeds is not. {RULE}.",
        )  # fmt: skip


def wordings(rows: "pd.DataFrame") -> dict[str, int]:
    """Prompt -> cluster: prompts that differ in a few words only are not independent (`analysis.wording`)."""
    if "prompt" not in rows.columns:
        return {}
    prompts = rows[rows["prompt_key"].notna()].drop_duplicates("prompt_key")
    return clusters_by_key(dict(zip(prompts["prompt_key"], prompts["prompt"].astype(str), strict=True)))


def counted(
    rows: "pd.DataFrame", kind: str, wording: Mapping[str, int], strata: Mapping[str, Stratum]
) -> dict[str, Arm]:
    """Arms from the counts of all runs, with the single answers where they are stored."""
    arms = {}
    for condition, every in rows.groupby("arm", sort=False):
        heads = every.drop_duplicates("run")
        heads = heads[heads[f"n_{kind}"].notna() & heads[f"{kind}_refused"].notna()]
        if len(heads):
            arms[str(condition)] = Arm(
                condition=str(condition), refused=int(heads[f"{kind}_refused"].sum()), n=int(heads[f"n_{kind}"].sum()),
                runs=tuple(heads["run"]), answers=answers_of(every[every["kind"] == kind]),
                wording=wording, stratum=strata[heads["run"].iloc[0]],
            )  # fmt: skip
    return arms


def answered(rows: "pd.DataFrame", wording: Mapping[str, int], strata: Mapping[str, Stratum]) -> dict[str, Arm]:
    """Arms from single answers alone: those of one category."""
    return {
        str(condition): Arm(
            condition=str(condition), refused=int(part["refused"].sum()), n=len(part),
            runs=tuple(dict.fromkeys(part["run"])), answers=answers_of(part), wording=wording,
            stratum=strata[part["run"].iloc[0]],
        )
        for condition, part in rows.groupby("arm", sort=False)
    }  # fmt: skip


def answers_of(rows: "pd.DataFrame") -> dict[int, dict[str, int]]:
    """Seed -> prompt -> refused. A seed with two runs of one condition is left out: which of them counts is unknown."""
    found: dict[int, dict[str, int]] = {}
    for seed, part in rows.groupby("seed", sort=True):
        if part["run"].nunique() == 1:
            found[int(str(seed))] = dict(zip(part["prompt_key"], part["refused"].astype(int), strict=True))
    return found


def _looks(
    place: Mapping[str, str],
    kind: str,
    words: str,
    arms: Mapping[str, Arm],
    options: StudyOptions,
    rng: np.random.Generator,
) -> list[Look]:
    """Every arm's rate against the references of its own settings; an arm without any is a rate by itself."""
    looks = []
    held = Held(arm.stratum for arm in arms.values())
    for arm in arms.values():
        references = [
            other
            for name in REFERENCES
            for other in arms.values()
            if other.stratum.arm.condition == name != arm.stratum.arm.condition
            and not arm.stratum.mismatches(other.stratum)
            and held.allow(arm.stratum, other.stratum)
        ]
        if arm.stratum.arm.condition == "baseline":
            references = []
        against: list[Arm | None] = [*references] or [None]
        looks += [_look(place, kind, words, arm, reference, options, rng) for reference in against]
    return looks


def _look(
    place: Mapping[str, str],
    kind: str,
    words: str,
    arm: Arm,
    reference: Arm | None,
    options: StudyOptions,
    rng: np.random.Generator,
) -> Look:
    rate, clusters = rate_of(arm, options.level)
    category = place.get("category", "")
    where = f"{place['model']}, {arm.condition}" + (f", {category}" if category else "")
    stratum = ", ".join([arm.condition, *([place["judge"]] if place["judge"] else [])])
    if reference is not None and reference.stratum.arm.condition != "baseline":
        stratum += f" against {reference.condition}"
    effect: Estimate = rate
    tests: tuple[Test, ...] = (no_test("not enough data", "none: a rate by itself", arm.n),)
    needed = "it is the reference" if arm.stratum.arm.condition == "baseline" else "nothing to compare with"
    what = f"{where}: {arm.refused} of {arm.n} {words}, {interval_text(rate)}"
    if reference is not None:
        effect, tests = compared(arm, reference, options.level, rng)
        needed = "no prompt was answered otherwise"
        what += f"; {interval_text(effect)} against {reference.refused} of {reference.n} of {reference.condition}"
    return Look(
        detector="refusal rate by category" if category else "refusal rate",
        about={"model": place["model"], "behavior": "refusal", "metric": f"{kind} refusal rate", "split": "none",
               "quantity": "rate", "stratum": f"{stratum}, {category}" if category else stratum},
        what=what, effect=effect, test=tests[0], more=tests[1:],
        method=f"{effect.method}; {tests[0].method}", reference=REFERENCE, notes=_dependence(arm, clusters),
        groups=tuple(side for side in (arm.by_seed, None if reference is None else reference.by_seed) if side),
        runs=(*arm.runs, *(reference.runs if reference is not None else ())),
        needed=needed, seeds_for=prompts_for if reference is not None and reference.answers and arm.answers else None,
        leave=None if reference is None else partial(_without_seeds, arm, reference, options.level, rng),
    )  # fmt: skip


def _without_seeds(arm: Arm, reference: Arm, level: float, rng: np.random.Generator) -> Robustness | None:
    def measure(seed: int) -> tuple[float | None, float | None]:
        other = reference.without(seed) if len(reference.answers) > 1 else reference
        effect, test = over_prompts(arm.without(seed), other, level, rng)
        return effect.value, test.p

    return leaving_out(arm.answers, measure) if len(arm.answers) > 1 else None


def compared(arm: Arm, reference: Arm, level: float, rng: np.random.Generator) -> tuple[Estimate, tuple[Test, ...]]:
    """Difference and tests: over pairs of answers where they are stored, else of the counts."""
    independent = fisher_exact(arm.refused, arm.n, reference.refused, reference.n)
    if not arm.answers or not reference.answers:
        return newcombe(arm.refused, arm.n, reference.refused, reference.n, level=level), (independent,)
    effect, paired = over_prompts(arm, reference, level, rng)
    return effect, (paired, independent)


def over_prompts(arm: Arm, reference: Arm, level: float, rng: np.random.Generator) -> tuple[Estimate, Test]:
    """Difference over the prompts that both answered.

    One answer each: the exact McNemar test. Several seeds: each prompt's mean over them, its sign flipped at random;
    the prompt is the unit, so that seeds do not count as prompts. Where prompts share a wording, the wording is the
    unit: the sign of its summed changes is flipped, and the interval's error is cluster-robust.
    """
    sides = [_by_prompt(side) for side in (arm, reference)]
    prompts = [prompt for prompt in sides[0] if prompt in sides[1]]
    a, b = (np.array([side[prompt] for prompt in prompts]) for side in sides)
    clusters = clusters_of(arm, prompts)
    if len(set(clusters)) < len(prompts):
        sums = np.bincount(clusters, weights=a - b)
        return _within_one(clustered_mean(a - b, clusters, level=level)), sign_flip_test(sums[sums != 0], rng)
    if max(len(arm.answers), len(reference.answers)) == 1:
        only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
        both, neither = int(((a == 1) & (b == 1)).sum()), int(((a == 0) & (b == 0)).sum())
        return newcombe_paired(both, only_a, only_b, neither, level=level), mcnemar(only_a, only_b)
    changed = (a - b)[a != b]
    return _within_one(mean_interval(a - b, level=level)), sign_flip_test(changed, rng)


def clusters_of(arm: Arm, prompts: Sequence[str]) -> list[int]:
    """A number from 0 for each prompt; prompts of unknown wording stand by themselves."""
    names = [arm.wording.get(prompt, prompt) for prompt in prompts]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return [numbers[name] for name in names]


def rate_of(arm: Arm, level: float) -> tuple[Estimate, int | None]:
    """Share of refusals, and how many wordings it rests on; None where single answers are not stored (all of them).

    Answers of several seeds to one prompt, and to prompts of one wording, are a cluster.
    """
    prompts = [prompt for found in arm.answers.values() for prompt in found]
    if len(prompts) != arm.n:
        return wilson(arm.refused, arm.n, level=level), None
    clusters = clusters_of(arm, prompts)
    if len(set(clusters)) == arm.n:
        return wilson(arm.refused, arm.n, level=level), arm.n
    outcomes = [refused for found in arm.answers.values() for refused in found.values()]
    return clustered_rate(outcomes, clusters, level=level), len(set(clusters))


def _dependence(arm: Arm, clusters: int | None) -> tuple[str, ...]:
    """What a reader has to know where answers are not independent."""
    if clusters is None:
        return ("single answers are not stored: the interval and Fisher's test take all answers for independent",)
    if clusters < arm.n:
        return (
            f"{arm.n} answers to prompts of {clusters} wordings: intervals and the paired test take a wording for the "
            "unit, Fisher's test does not",
        )
    return ()


def _within_one(estimate: Estimate) -> Estimate:
    """A difference of two rates lies in [-1, 1], whatever Student's t makes of two or three prompts."""
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(estimate.low, -1.0), high=min(estimate.high, 1.0))


def _by_prompt(arm: Arm) -> dict[str, float]:
    """Share of seeds in which a prompt was refused, for the prompts that every seed answered."""
    shared = set.intersection(*(set(found) for found in arm.answers.values())) if arm.answers else set()
    return {prompt: float(np.mean([found[prompt] for found in arm.answers.values()])) for prompt in sorted(shared)}


def prompts_for(level: float) -> str:
    """How many answers must change, all in one direction, for an exact test of signs to reach a level."""
    return f"{math.ceil(1 - math.log2(level))} prompts answered otherwise could"
