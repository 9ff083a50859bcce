"""Simulated studies of known truth for the sequential rules: false support, power, seeds, coverage, families.

`python -m analysis.simulate_decisions` writes its part of docs/simulation-decisions.md. A study is two arms under the
same seeds, or one arm against a baseline without noise; its values are one difference a seed.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.hypothesis_plan import fixed_power
from analysis.simulate import heavy_tailed, normal, skewed
from analysis.stats.anytime import AnyTime
from analysis.stats.decisions import UP, Question, Rule, first_outcome, moments
from analysis.stats.multiplicity import family_levels
from analysis.stats.results import Array
from analysis.stats.sequential import GroupSequential
from analysis.stats.stopped import share_above

MOST = 20
"""Seeds at which every study ends."""
LOOKS = (3, 5, 8, 12, 16, 20)
EVERY = tuple(range(3, MOST + 1))
SEED = 20_261_203
RULES: dict[str, Rule] = {
    "pocock": GroupSequential(looks=LOOKS, spending="pocock"),
    "obrien-fleming": GroupSequential(looks=LOOKS, spending="obrien-fleming"),
    "pocock, every seed": GroupSequential(looks=EVERY, spending="pocock"),
    "any-time, every seed": AnyTime(looks=tuple(range(2, MOST + 1))),
}
NAIVE = "naive t, every seed"
Draw = Callable[[np.random.Generator, int], Array]
"""Studies x seeds of differences with a true mean of 0 and SD about 1."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """Noise of a study."""

    name: str
    draw: Draw
    normal: bool = False


def two_arms(law: Callable[..., Array], *, icc: float = 0.0, ratio: float = 1.0) -> Draw:
    """Arms that share the seed's effect (correlation `icc`); the second arm's SD is `ratio` times as large."""

    def draw(rng: np.random.Generator, studies: int) -> Array:
        seed = np.sqrt(icc) * normal(rng, (studies, MOST))
        own = [np.sqrt(1 - icc) * law(rng, (studies, MOST)) for _ in range(2)]
        return np.asarray((seed + own[0] - seed - ratio * own[1]) / np.sqrt((1 - icc) * (1 + ratio * ratio)))

    return draw


def one_arm(law: Callable[..., Array], *, sign: float = 1.0) -> Draw:
    return lambda rng, studies: np.asarray(sign * law(rng, (studies, MOST)))


def rounded(draw: Draw, step: float) -> Draw:
    """Values rounded to multiples of `step` SDs."""
    return lambda rng, studies: np.asarray(np.round(draw(rng, studies) / step) * step)


LAWS = (
    *(Law(name=f"two arms, normal, ICC {icc:g}", draw=two_arms(normal, icc=icc), normal=True)
      for icc in (0.0, 0.3, 0.6, 0.9)),
    Law(name="two arms, heavy tails (t, 3 df)", draw=two_arms(heavy_tailed)),
    Law(name="two arms, skewed (exponential)", draw=two_arms(skewed)),
    Law(name="two arms, normal, SDs 1 : 3", draw=two_arms(normal, ratio=3.0), normal=True),
    Law(name="two arms, skewed, SDs 1 : 3", draw=two_arms(skewed, ratio=3.0)),
    Law(name="two arms, rounded to 1/50 SD", draw=rounded(two_arms(normal), 0.02)),
    Law(name="two arms, rounded to 1 SD", draw=rounded(two_arms(normal), 1.0)),
    Law(name="against baseline, normal", draw=one_arm(normal), normal=True),
    Law(name="against baseline, heavy tails", draw=one_arm(heavy_tailed)),
    Law(name="against baseline, skewed to the claim", draw=one_arm(skewed)),
    Law(name="against baseline, skewed away from it", draw=one_arm(skewed, sign=-1.0)),
)  # fmt: skip


def question(margin: float, **more: object) -> Question:
    return Question(kind="superiority", direction="greater", margin=margin, **more)  # type: ignore[arg-type]


def naive_bounds_crossed(values: Array, alpha: float) -> npt.NDArray[np.bool_]:
    """Whether one-sided Student's t at `alpha` after some seed from the third on is significant."""
    mean, se = moments(values, EVERY)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((mean / se >= -special.stdtrit(np.array(EVERY) - 1, alpha)).any(axis=1))


def rate(hits: npt.ArrayLike) -> tuple[float, float]:
    """Share, and its Monte Carlo standard error."""
    array = np.asarray(hits, dtype=np.float64)
    share = float(array.mean())
    return share, float(np.sqrt(share * (1 - share) / array.size))


def outcomes(rule: Rule, asked: Question, values: Array) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int8]]:
    mean, se = moments(values, rule.looks)
    return first_outcome(asked.bounds(rule), mean, se)


def covered(rule: Rule, asked: Question, values: Array, truth: float, *, level: float = 0.95) -> npt.NDArray[np.bool_]:
    """Whether each study's interval at its stop holds the true mean."""
    look, _ = outcomes(rule, asked, values)
    if isinstance(rule, AnyTime):
        mean, se = moments(values, rule.looks)
        at = np.arange(len(values))
        return np.abs(mean[at, look] - truth) <= rule.critical((1 - level) / 2)[look] * se[at, look]
    bounds = asked.bounds(rule)
    held = np.empty(len(values), dtype=bool)
    for place, (sample, k) in enumerate(zip(values, look, strict=True)):
        looks = rule.looks[: k + 1]
        p = share_above(truth, sample[: looks[-1]], bounds, looks, paths=4_000)
        held[place] = (1 - level) / 2 <= p <= (1 + level) / 2
    return held


def family_supported(rule: Rule, values: Array, alpha: float) -> npt.NDArray[np.bool_]:
    """Studies x hypotheses x seeds -> which hypotheses end up supported, with Holm's levels at every look."""
    mean, se = moments(values, rule.looks)
    t = mean / se
    studies, hypotheses, looks = t.shape
    supported = np.zeros((studies, hypotheses), dtype=bool)
    steps = np.stack([rule.critical(alpha / (hypotheses - done)) for done in range(hypotheses)])
    for study in range(studies):
        for k in range(looks):
            while not supported[study].all():
                done = int(supported[study].sum())
                assert family_levels(list(supported[study]), alpha, "holm")[0] == alpha / (hypotheses - done)
                crossed = (t[study, :, : k + 1] >= steps[done, : k + 1]).any(axis=1) & ~supported[study]
                if not crossed.any():
                    break
                supported[study, np.flatnonzero(crossed)[0]] = True
    return supported


def fixed_seeds(effect: float, alpha: float, power: float) -> int:
    """Seeds of the fixed design."""
    return next(n for n in range(2, 10_000) if fixed_power(n, effect, alpha) >= power)


def design_for(effect: float, alpha: float, beta: float, *, kind: str) -> tuple[Rule, int]:
    """The rule with the fewest seeds whose simulated power at `effect` (in SDs) is 1 - beta, and those seeds."""
    start = fixed_seeds(effect, alpha, 1 - beta)
    draws = np.random.default_rng([SEED, 7]).normal(effect, 1.0, (10_000, 4 * start + 10))
    for most in range(max(start, 4), 4 * start + 10):
        looks = planned_looks(most)
        rule: Rule = (
            AnyTime(looks=tuple(range(2, most + 1))) if kind == "any-time"
            else GroupSequential(looks=tuple(range(3, most + 1)) if kind == "every seed" else looks)
        )  # fmt: skip
        _, shown = outcomes(rule, question(effect, alpha=alpha, beta=beta), draws[:, :most])
        if (shown == UP).mean() >= 1 - beta:
            return rule, most
    raise ValueError(f"no design of {kind} reaches a power of {1 - beta:g}")


def planned_looks(most: int) -> tuple[int, ...]:
    """Looks after 3, 5, 8, 12, 16, 20, ... seeds, and at the end."""
    usual = (3, 5, 8, *range(12, most, 4))
    return (*(n for n in usual if n < most), most)


def draws_of(law: Law, place: int, studies: int) -> Array:
    return law.draw(np.random.default_rng([SEED, place]), studies)


def false_support(studies: int, alpha: float) -> Iterator[str]:
    names = [*RULES, NAIVE]
    yield f"| noise | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    for place, law in enumerate(LAWS):
        values = draws_of(law, place, studies)
        limit = alpha + 2 * np.sqrt(alpha * (1 - alpha) / studies) if law.normal else 1.5 * alpha
        cells = []
        for rule in RULES.values():
            share, _ = rate(outcomes(rule, question(1.0, alpha=alpha), values)[1] == UP)
            cells.append(f"{share:.3f}" + (" **over**" if share > limit else ""))
        cells.append(f"{rate(naive_bounds_crossed(values, alpha))[0]:.3f}")
        yield f"| {law.name} | {' | '.join(cells)} |"


def edges(studies: int, alpha: float) -> Iterator[str]:
    """Each kind at the edge of its claim, and true claims refuted."""
    yield "| kind, truth | what must be rare | at most | " + " | ".join(RULES) + " |"
    yield "|---" * (len(RULES) + 3) + "|"
    values = draws_of(LAWS[0], 100, studies)
    cases = (
        (Question(kind="equivalence", direction="different", margin=0.8, alpha=alpha), 0.8, "supported", alpha),
        (Question(kind="non-inferiority", direction="greater", margin=0.8, alpha=alpha), -0.8, "supported", alpha),
        (Question(kind="superiority", direction="different", margin=0.8, alpha=alpha), 0.0, "supported", alpha),
        (question(0.8, alpha=alpha), 0.8, "refuted", 0.1),
        (Question(kind="equivalence", direction="different", margin=0.8, alpha=alpha), 0.0, "refuted", 0.1),
    )
    for asked, truth, decision, limit in cases:
        cells = []
        for rule in RULES.values():
            _, shown = outcomes(rule, asked, values + truth)
            share = np.mean([asked.decision(int(x)) == decision for x in shown])
            cells.append(f"{share:.3f}")
        name = f"{asked.kind} ({asked.direction}), mean {truth:g} SD, margin 0.8"
        yield f"| {name} | {decision} | {limit:g} | {' | '.join(cells)} |"


def power_and_seeds(studies: int, alpha: float, beta: float) -> Iterator[str]:
    yield "| effect of interest | rule | most seeds | fixed design | power at 1x | seeds at 0 | 1x | 1.5x | 2x |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for effect in (0.5, 0.8, 1.2):
        fixed = fixed_seeds(effect, alpha, 1 - beta)
        for kind in ("planned looks", "every seed", "any-time"):
            rule, most = design_for(effect, alpha, beta, kind=kind)
            noise = np.random.default_rng([SEED, 200]).normal(size=(studies, most))
            cells, power = [], 0.0
            for times in (0.0, 1.0, 1.5, 2.0):
                look, shown = outcomes(rule, question(effect, alpha=alpha, beta=beta), noise + times * effect)
                used = float(np.array(rule.looks)[look].mean())
                cells.append(f"{used:.1f} ({used / fixed - 1:+.0%})")
                power = float((shown == UP).mean()) if times == 1.0 else power
            yield f"| {effect:g} SD | {kind} | {most} | {fixed} | {power:.3f} | {' | '.join(cells)} |"


def coverage(studies: int, alpha: float) -> Iterator[str]:
    yield "| noise, true mean | median-unbiased, pocock | obrien-fleming | confidence sequence, any-time |"
    yield "|---|---|---|---|"
    chosen = [(LAWS[0], mean) for mean in (0.0, 0.4, 0.8, 1.6)]
    chosen += [(law, 0.8) for law in (LAWS[4], LAWS[5], LAWS[6], LAWS[10], LAWS[12], LAWS[13])]
    for place, (law, truth) in enumerate(chosen):
        values = draws_of(law, 300 + place, studies) + truth
        shares = [rate(covered(RULES[name], question(0.8, alpha=alpha), values, truth))[0]
                  for name in ("pocock", "obrien-fleming", "any-time, every seed")]  # fmt: skip
        yield f"| {law.name}, {truth:g} SD | " + " | ".join(f"{share:.3f}" for share in shares) + " |"


def families(studies: int, alpha: float) -> Iterator[str]:
    yield "| 12 hypotheses, correlation of behaviors | true effects | family-wise error, pocock | any-time |"
    yield "|---|---|---|---|"
    for place, (correlation, real) in enumerate(((0.0, 0), (0.5, 0), (0.9, 0), (0.5, 6), (0.9, 6))):
        rng = np.random.default_rng([SEED, 400 + place])
        shared = rng.normal(size=(studies, 1, MOST))
        values = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * rng.normal(size=(studies, 12, MOST))
        values[:, :real] += 1.0
        errors = [rate(family_supported(RULES[name], values, alpha)[:, real:].any(axis=1))[0]
                  for name in ("pocock", "any-time, every seed")]  # fmt: skip
        yield f"| {correlation:g} | {real} of 1 SD | " + " | ".join(f"{x:.3f}" for x in errors) + " |"


def page(studies: int) -> str:
    """The page of the docs."""
    alpha, beta = 0.05, 0.1
    planned = ", ".join(map(str, LOOKS))
    parts = [
        ("Sequential decisions: simulated studies", [
            "Made by `python -m analysis.simulate_decisions`; do not edit. "
            f"{studies:,} studies a cell, at most {MOST} seeds, one-sided α {alpha:g}, β {beta:g}, planned looks after "
            f"{planned} seeds; Monte Carlo standard error of a share of 0.05: "
            f"{np.sqrt(0.05 * 0.95 / studies):.4f}. Seeds of the draws: [{SEED}, place of the row].",
        ]),
        ("False support", [
            "Share of studies without an effect that end up supported. Limit: α + 2 standard errors for normal noise, "
            "1.5 α elsewhere; what is over it is marked. *Naive*: Student's t after every seed from the third on.",
            "", *false_support(studies, alpha),
        ]),
        ("Other kinds, and true claims refuted", list(edges(studies, alpha))),
        ("Power and seeds", [
            f"The smallest maximum whose power at the effect of interest is {1 - beta:g} (found on other draws), with "
            "non-binding futility, beside the fixed design of the same power; mean seeds, and how many fewer or more.",
            "", *power_and_seeds(studies, alpha, beta),
        ]),
        ("Coverage of the 95 % interval at stopping", [
            "Effect of interest 0.8 SD.", "", *coverage(studies, alpha),
        ]),
        ("Families", [
            "Holm's levels at every look; share of studies in which a hypothesis without an effect is supported.", "",
            *families(studies, alpha),
        ]),
    ]  # fmt: skip
    lines = []
    for place, (title, body) in enumerate(parts):
        lines += [f"{'#' if place == 0 else '##'} {title}", "", *body, ""]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Write the page."""
    parser = ArgumentParser(prog="python -m analysis.simulate_decisions", description=main.__doc__)
    parser.add_argument("studies", nargs="?", type=int, default=5_000)
    parser.add_argument("file", nargs="?", type=Path, default=Path("docs/simulation-decisions.md"))
    asked = parser.parse_args(arguments)
    asked.file.write_text(page(asked.studies), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
