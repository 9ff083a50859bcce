"""What it would take to decide a registered hypothesis: power, expected seeds and hours, beside the fixed design."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.decide import question_of, rule_of
from analysis.stats.decisions import first_outcome, moments
from analysis.stats.intervals import sd_interval
from analysis.stats.results import Estimate
from rhodb.errors import InputError
from rhodb.hypotheses import Hypothesis

STUDIES = 10_000
STUDY_SEED = 20_261_204
MOST_SEEDS = 10_000


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What the design does under one true effect."""

    effect: float
    """True difference, in the metric's unit."""
    supported: float
    refuted: float
    undecided: float
    """Shares of simulated studies."""
    seeds: float
    """Mean number of seeds until it stops."""
    hours: float | None


@dataclass(frozen=True, kw_only=True)
class HypothesisPlan:
    """The design of a hypothesis held against a standard deviation."""

    sd: float
    sd_low: float | None
    sd_high: float | None
    """SD of the differences over seeds, with its 95 % interval where earlier runs gave it."""
    n_earlier: int
    """Seeds of earlier runs that it rests on; they are no evidence."""
    hours_per_seed: float | None
    scenarios: tuple[Scenario, ...]
    fixed_seeds: int | None
    """Seeds of the fixed design with power 1 - beta at the margin; None where beyond 10,000 or not a superiority."""
    fixed_seeds_high: int | None
    """The same at the upper end of the SD's interval."""
    detectable: float | None
    """Smallest effect that a fixed design with all the seeds would see with power 1 - beta."""


def plan_hypothesis(h: Hypothesis, spread: Estimate, *, seconds_per_seed: float | None = None) -> HypothesisPlan:
    """Simulate the hypothesis's own rule under several true effects, with normal noise of this SD over seeds.

    `spread`: the SD of the differences, with an interval where it was estimated. Raises InputError where it has no
    value above 0.
    """
    sd = spread.value
    if sd is None or not sd > 0:
        raise InputError("the spread over seeds is not known: give --sd, in the metric's unit")
    hours = None if seconds_per_seed is None else seconds_per_seed / 3600
    times = (0.0, 0.5, 1.0, 1.5, 2.0) if h.kind == "difference" else (0.0, 0.5, 1.0)
    sign = -1.0 if h.direction == "less" else 1.0
    if h.kind == "non-inferiority":
        sign = -sign
    scenarios = tuple(_scenario(h, sign * k * h.margin, sd, hours) for k in times)
    level = h.alpha / 2 if h.direction == "different" else h.alpha
    asks = h.kind == "difference"
    return HypothesisPlan(
        sd=sd, sd_low=spread.low, sd_high=spread.high, n_earlier=spread.n, hours_per_seed=hours, scenarios=scenarios,
        fixed_seeds=fixed_seeds(h.margin / sd, level, 1 - h.beta) if asks else None,
        fixed_seeds_high=fixed_seeds(h.margin / spread.high, level, 1 - h.beta) if asks and spread.high else None,
        detectable=detectable(len(h.seeds), level, 1 - h.beta) * sd if asks else None,
    )  # fmt: skip


def _scenario(h: Hypothesis, effect: float, sd: float, hours: float | None) -> Scenario:
    question, rule = question_of(h), rule_of(h)
    noise = np.random.default_rng(STUDY_SEED).normal(size=(STUDIES, h.looks[-1]))
    values = question.oriented(effect + sd * noise)
    look, shown = first_outcome(question.bounds(rule), *moments(values, rule.looks))
    decisions = np.array([question.decision(int(x)) for x in shown])
    seeds = float(np.array(rule.looks)[look].mean())
    return Scenario(
        effect=effect, supported=float((decisions == "supported").mean()),
        refuted=float((decisions == "refuted").mean()), undecided=float((decisions == "open").mean()), seeds=seeds,
        hours=None if hours is None else seeds * hours,
    )  # fmt: skip


def fixed_power(n: int, effect: float, level: float) -> float:
    """Power of the one-sided t test of n differences at an effect in SDs (noncentral t)."""
    return float(special.nctdtr(n - 1, -effect * np.sqrt(n), special.stdtrit(n - 1, level)))


def fixed_seeds(effect: float, level: float, power: float) -> int | None:
    """Seeds of the fixed design; None beyond 10,000."""
    return next((n for n in range(2, MOST_SEEDS) if fixed_power(n, effect, level) >= power), None)


def detectable(n: int, level: float, power: float) -> float:
    """Effect, in SDs, that n seeds see with this power."""
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if fixed_power(n, middle, level) < power else (low, middle)
    return high


def spread_of(differences: list[float], sd: float | None) -> Estimate:
    """The stated SD, or that of earlier runs with its chi-square interval."""
    if sd is not None:
        return Estimate(value=sd, low=None, high=None, n=0, method="stated")
    return sd_interval(differences)
