"""From a detector's look at the data to a finding: correction over all looks of the call, verdict, sentence."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

from analysis.findings import Estimate, Evidence, Finding, Group, Robustness, Test, Verdict, correct
from analysis.query import Query
from analysis.stats.multiplicity import Correction
from analysis.stats.results import Array, no_estimate
from analysis.study import StudyOptions
from analysis.verdicts import p_text, unit_of

HEADLINES = 200
"""Suggestive findings, those of smallest p, that are computed again without each seed; supported ones all are."""
RULE = (
    "supported: adjusted p at most alpha; contradicted: that of the opposite is, which counts as a look of its own; "
    "suggestive: only the unadjusted p is; not enough data: no test, or one that "
    "cannot reach alpha with so few seeds; artefact and degenerate: the data, not the models, make the pattern. "
    f"Left out seed by seed: supported findings and the {HEADLINES} suggestive ones of smallest p"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One question put to the data, before the tests of the call are corrected together."""

    detector: str
    about: Mapping[str, str]
    what: str
    """The observation, as the beginning of a sentence; without p and verdict."""
    effect: Estimate
    test: Test
    method: str
    reference: str
    groups: tuple[Group, ...] = ()
    opposite: Test | None = None
    """A test that decides the question the other way (different, where the first asks for equivalence): not to be told
    equal is no difference. It is counted and corrected like the first."""
    said: Mapping[Verdict, str] = field(default_factory=dict)
    """What a verdict means for this question, where its name does not say it."""
    more: tuple[Test, ...] = ()
    """Tests that are reported beside the first and not judged."""
    runs: tuple[str, ...] = ()
    unit: str = ""
    fixed: Verdict | None = None
    """artefact, degenerate or not enough data, decided by the data's design and not by a p."""
    why: str = ""
    """Why the verdict is fixed."""
    at_most: Verdict | None = None
    """The strongest verdict that this test can carry, where its null also assumes what the data cannot show."""
    counted: bool = False
    """Whether the test of a fixed verdict is a look all the same, because its p helped to decide."""
    notes: tuple[str, ...] = ()
    blocks: Array | None = None
    """Strata x seeds: the values whose seed effect the test takes out; None where it takes out none."""
    unblocked: Callable[[], Test] | None = None
    """The same question without taking out a seed effect; asked where seeds carry none that can be told."""
    leave: Callable[[], Robustness | None] | None = None
    """Leaves out one seed at a time; called only for a headline: a finding that is supported or suggestive."""
    needed: str = ""
    """What it would take, where the data are too few."""
    seeds_for: Callable[[float], str] | None = None
    """How much more it takes for the test to reach a level at all; printed wherever its floor is above that level."""
    power_for: Callable[[float], str] | None = None
    """How much it takes to see an effect of stated size at a level; printed where the finding is no more than
    suggestive."""


def group(label: str, seeds: Sequence[int], values: Array) -> Group:
    """A group of the findings from a sample."""
    plain = tuple(values.tolist())
    n = len(plain)
    # Of a handful of values, NumPy's mean and SD cost ten times as much.
    mean = math.fsum(plain) / n if n else None
    sd = math.sqrt(math.fsum((x - mean) ** 2 for x in plain) / (n - 1)) if mean is not None and n > 1 else None
    return Group(label=label, seeds=tuple(int(seed) for seed in seeds), values=plain, mean=mean, sd=sd)


def judged(looks: list[Look], options: StudyOptions, query: Query) -> tuple[tuple[Finding, ...], int]:
    """Findings in the order of the looks, and over how many tests p was adjusted.

    Takes the looks over: the list is empty afterwards, so that of very many there are never both looks and findings.
    """
    countable = [_silent(look.test) if look.fixed and not look.counted else look.test for look in looks]
    places = [place for place, look in enumerate(looks) if look.opposite is not None and look.fixed is None]
    countable += [test for place in places if (test := looks[place].opposite) is not None]
    reach = reachable(countable, options)
    tests = adjusted(countable, options, reach)
    count = Count(
        looks=sum(test.p is not None for test in tests),
        reachable=sum(reach),
        correction=options.correction,
        alpha=options.alpha,
    )
    tests, opposites = tests[: len(looks)], dict(zip(places, tests[len(looks) :], strict=True))
    verdicts = [
        verdict_of(look, test, options.alpha, opposites.get(place))
        for place, (look, test) in enumerate(zip(looks, tests, strict=True))
    ]
    headlines = _headlines(verdicts, tests)
    findings = []
    looks.reverse()
    for number, (test, verdict) in enumerate(zip(tests, verdicts, strict=True), 1):
        look = looks.pop()
        robust = look.leave() if look.leave and number - 1 in headlines else None
        opposite = opposites.get(number - 1, look.opposite)
        judged_by = (test,) if opposite is None else (test, opposite)
        findings.append(_finding(number, look, judged_by, verdict, robust, count, query))
    return tuple(findings), count.looks


def _headlines(verdicts: Sequence[Verdict], tests: Sequence[Test]) -> set[int]:
    """Places of the findings whose leave-one-seed-out is worth its time: of others it would be read by nobody."""
    supported = {place for place, verdict in enumerate(verdicts) if verdict == "supported"}
    suggestive = [(test.p or 0.0, place) for place, (v, test) in enumerate(zip(verdicts, tests, strict=True))
                  if v == "suggestive"]  # fmt: skip
    return supported | {place for _, place in sorted(suggestive)[:HEADLINES]}


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many tests there were, and how many of them p is adjusted for."""

    looks: int
    reachable: int
    correction: Correction
    alpha: float

    def __str__(self) -> str:
        if self.reachable == self.looks:
            return f"{self.correction} over {self.looks} looks"
        return f"Tarone-Holm over {self.looks} looks, {self.reachable} of which can reach alpha"

    @property
    def level(self) -> float:
        """What a test's smallest possible p must not exceed, so that the test can become supported."""
        return self.alpha / max(1, self.reachable) if self.correction == "holm" else self.alpha


def reachable(tests: Sequence[Test], options: StudyOptions) -> list[bool]:
    """Tests that the correction has to count.

    Under Holm, a test whose smallest possible p exceeds alpha / K can never be rejected, whatever the data, and need
    not be paid for; K is the smallest k for which at most k tests can reach alpha / k (Tarone 1990).
    """
    known = [test.p is not None for test in tests]
    if options.correction != "holm":
        return known
    floors = np.array([test.floor or 0.0 for test in tests if test.p is not None])
    k = next((k for k in range(1, len(floors) + 1) if np.count_nonzero(floors <= options.alpha / k) <= k), 1)
    return [there and (test.floor or 0.0) <= options.alpha / k for there, test in zip(known, tests, strict=True)]


def adjusted(tests: Sequence[Test], options: StudyOptions, reach: Sequence[bool]) -> list[Test]:
    """The tests with `p_adjusted`; those that cannot `reach` alpha after the correction get 1."""
    counted = iter(correct([test for test, keep in zip(tests, reach, strict=True) if keep], options.correction))
    return [
        next(counted) if keep else (test if test.p is None else replace(test, p_adjusted=1.0))
        for test, keep in zip(tests, reach, strict=True)
    ]


def _silent(test: Test) -> Test:
    """A test that is not counted: its verdict does not rest on p."""
    return Test(statistic=test.statistic, p=None, n=test.n, method=test.method, status=test.status, floor=test.floor)


def verdict_of(look: Look, test: Test, alpha: float, opposite: Test | None = None) -> Verdict:
    """See RULE. Of a question and its opposite both decided, the question stands: a difference within the tolerance."""
    if look.fixed is not None:
        return look.fixed
    if test.p is None or test.p_adjusted is None:
        return "degenerate" if test.status == "degenerate" else "not enough data"
    if test.p_adjusted <= alpha:
        return look.at_most or "supported"
    if opposite is not None and opposite.p_adjusted is not None and opposite.p_adjusted <= alpha:
        return "contradicted"
    if test.floor is not None and test.floor > alpha:
        return "not enough data"
    return "suggestive" if test.p <= alpha else "not supported"


def _finding(
    number: int,
    look: Look,
    tests: tuple[Test, ...],
    verdict: Verdict,
    robust: Robustness | None,
    count: Count,
    query: Query,
) -> Finding:
    return Finding(
        number=number,
        about={"detector": look.detector, **look.about},
        unit=look.unit,
        groups=look.groups,
        effect=look.effect,
        standardised=_not_standardised(look.effect.n),
        tests=(*tests, *look.more),
        robustness=robust,
        verdict=verdict,
        sentence=_sentence(look, tests, verdict, robust, count),
        notes=look.notes,
        evidence=Evidence(query=query, runs=look.runs, method=sys.intern(look.method), reference=look.reference),
    )


@lru_cache(maxsize=1024)
def _not_standardised(n: int) -> Estimate:
    return no_estimate("not enough data", "not standardised", n)


def leaving_out(seeds: Iterable[int], measure: Callable[[int], tuple[float | None, float | None]]) -> Robustness | None:
    """`measure` gives effect and p without a seed; None where any of them is none."""
    found = {seed: measure(seed) for seed in dict.fromkeys(seeds)}
    effects = [effect for effect, _ in found.values() if effect is not None]
    p_values = {seed: p for seed, (_, p) in found.items() if p is not None}
    if len(found) < 2 or len(effects) < len(found) or len(p_values) < len(found):
        return None
    worst = max(p_values, key=p_values.__getitem__)
    return Robustness(
        lowest=min(effects), highest=max(effects), largest_p=p_values[worst], seed_of_largest_p=worst
    )  # fmt: skip


def _sentence(look: Look, tests: tuple[Test, ...], verdict: Verdict, robust: Robustness | None, count: Count) -> str:
    test, *opposite = tests
    parts = [f"{verdict.capitalize()}: {look.what}"]
    if verdict in look.said:
        parts.append(look.said[verdict])
    if test.p is not None and test.p_adjusted is not None:
        words = look.said.get("supported", "").partition(":")[0] if opposite else ""
        parts.append(f"{words}{' ' if words else ''}p = {_p_words(test, count)}, n = {test.n}")
    for other in opposite:
        if other.p is not None and other.p_adjusted is not None:
            words = look.said.get("contradicted", "opposite").partition(":")[0]
            parts.append(f"{words} p = {_p_words(other, count)}")
    if robust is not None:
        parts.append(
            f"without any one seed {robust.lowest:.3g} to {robust.highest:.3g}, p at most {p_text(robust.largest_p)} "
            f"(without seed {robust.seed_of_largest_p})"
        )
    if look.why:
        parts.append(look.why)
    if verdict == "not enough data" and look.needed:
        parts.append(look.needed)
    parts += _what_it_takes(look, test, verdict, count)
    return "; ".join(parts) + "."


def _p_words(test: Test, count: Count) -> str:
    """p with its floor and what it is after the correction."""
    assert test.p is not None and test.p_adjusted is not None
    smallest = ""
    if test.floor is not None:
        at_floor = abs(test.p - test.floor) < 1e-12
        smallest = ", the smallest possible" if at_floor else f", floor {p_text(test.floor)}"
    by = "unadjusted" if count.correction == "none" else f"{p_text(test.p_adjusted)} by {count}"
    return f"{p_text(test.p)}{smallest} ({by})"


def _what_it_takes(look: Look, test: Test, verdict: Verdict, count: Count) -> list[str]:
    """What a test that cannot reach the level, or hardly sees anything, would need."""
    if look.fixed is not None or test.p is None:
        return []
    if (test.floor or 0.0) > count.level:
        told = (
            f"no arrangement of so few gives p below {p_text(test.floor or 0.0)}, and {p_text(count.level)} is what it "
            "takes here"
        )
        return [told if look.seeds_for is None else f"{told}: {look.seeds_for(count.level)}"]
    if look.power_for is not None and verdict in ("not supported", "suggestive"):
        return [look.power_for(count.level)]
    return []


def interval_text(estimate: Estimate, unit: str = "") -> str:
    """A number with its interval in brackets and its unit."""
    if estimate.value is None:
        return "none"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3g} (no interval){' ' + unit if unit else ''}"
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]{' ' + unit if unit else ''}"


def metric_unit(metric: str, quantity: str) -> tuple[str, str]:
    """The name of what is measured (Δ of a metric) and its unit."""
    return ("Δ " if quantity == "delta" else "") + metric, unit_of(metric)


def rising(values: Sequence[float]) -> bool:
    """Whether no step goes down."""
    return all(later >= earlier for earlier, later in pairwise(values))
