"""Differences between conditions: the first study, and the pattern for the others."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.admission import admit
from analysis.design import Declared, Gate
from analysis.experiments import by_experiment
from analysis.findings import Estimate, Evidence, Finding, Group, Result, Robustness, Test, correct
from analysis.needed import seeds_a_side
from analysis.query import Conditions, Query, read_sql
from analysis.stats.effect_size import hedges_g_each
from analysis.stats.intervals import welch_leaving_out, welch_tests
from analysis.stats.permutation import two_sample_tests
from analysis.strata import Cell, Look, Stratum, comparable_pairs, gate, is_missing, labels, records, unsaid
from analysis.study import Study, StudyOptions
from analysis.verdicts import caption, judge, unit_of
from rhodb.vocabulary import BEHAVIORS

if TYPE_CHECKING:
    import pandas as pd

DESIGN = Declared(varies=frozenset({"condition", "rho_weight", "margin"}), most=1)
"""Two arms that differ on one axis; seeds replicate and are not paired."""
REFERENCE = (
    "Welch 1947 (difference, p); Hedges 1981, Steiger & Fouladi 1997 (g, its interval); "
    "Pitman 1937 (permutation test); Holm 1979, Benjamini & Hochberg 1995 (correction)"
)


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Two cells side by side."""

    about: Mapping[str, str]
    groups: tuple[Group, Group]
    runs: tuple[str, ...]
    conflict: str | None
    """Why the design gate refuses the comparison; nothing is then computed."""
    notes: tuple[str, ...]

    @property
    def sides(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The values to compare. A refused comparison computes nothing, and so does not count as a look."""
        return ((), ()) if self.conflict else (self.groups[0].values, self.groups[1].values)


@dataclass(frozen=True, kw_only=True)
class Comparison(Pairing):
    """With its tests, before those of the whole call are corrected together."""

    welch: Test
    standardised: Estimate
    exact: Test
    robustness: Robustness | None


class Effects(Study):
    """Differences between conditions per behavior and metric, with intervals and exact tests."""

    name = "effects"

    def __init__(self, wanted: Set[tuple[str, frozenset[str]]] | None = None) -> None:
        """`wanted`: behaviors, each with the conditions of both sides, that alone are compared; None: everything."""
        self.wanted = wanted

    def query(self, options: StudyOptions) -> Query:
        return query_of(options, model=options.model, behaviors=options.behaviors, metrics=options.metrics)

    def compute(self, frame: "pd.DataFrame", options: StudyOptions, rng: np.random.Generator) -> Result:
        frame, left_out = admit(frame)
        held = Gate(frame)
        rows, split = by_experiment(records(frame))
        strata, messages = gate(rows)
        messages = [*left_out, *split, *messages]
        comparisons = _comparisons(strata, held, options, rng, self.wanted)
        tests = correct([comparison.welch for comparison in comparisons], options.correction)
        looks = sum(test.p is not None for test in tests)
        findings = tuple(
            _finding(number, comparison, test, options, looks)
            for number, (comparison, test) in enumerate(zip(comparisons, tests, strict=True), 1)
        )
        return Result(
            study=self.name,
            options=asdict(options),
            findings=findings,
            looks=looks,
            messages=(
                *messages,
                *(unsaid(list(strata)) if findings else ()),
                *_twins(findings),
                *_seed_gaps(findings, _unknown_seeds(frame)),
                *_too_few(findings, options),
                *_why_empty(strata, findings, options),
            ),
            query=self.query(options),
            caption=caption(options, looks),
        )


def query_of(
    options: StudyOptions,
    *,
    model: str | None,
    behaviors: Sequence[str],
    metrics: Sequence[str],
    runs: Sequence[str] = (),
) -> Query:
    """The study's SELECT, narrowed; with `runs` it returns the rows of a single finding."""
    conditions = Conditions()
    conditions.equal("chosen.model", model)
    conditions.among("score.metric", metrics)
    conditions.equal("score.split", options.split)
    conditions.among("score.behavior", behaviors)
    conditions.among("chosen.run", runs)
    sql = read_sql("effects", where=options.where or "1 = 1", conditions=conditions)
    return Query(sql=sql, parameters=conditions.parameters)


def leave_one_seed_out(pairs: Sequence[tuple[Group, Group]]) -> list[Robustness | None]:
    """Welch's difference and p as each seed is left out of both groups; None where that leaves too little.

    Pairs with the same seeds are computed together.
    """
    alike: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = defaultdict(list)
    for i, (a, b) in enumerate(pairs):
        alike[a.seeds, b.seeds].append(i)
    found: list[Robustness | None] = [None] * len(pairs)
    for sides, members in alike.items():
        seeds = sorted({*sides[0], *sides[1]})
        if min(map(len, sides)) < 1:
            continue
        kept_a, kept_b = (np.array(seeds)[:, None] != np.array(side, dtype=int) for side in sides)
        first, second = (np.array([pairs[i][k].values for i in members], dtype=float) for k in (0, 1))
        differences, p = welch_leaving_out(first, second, kept_a, kept_b)
        worst = p.argmax(axis=1)  # the first NaN, if there is one
        columns = (members, differences.min(axis=1), differences.max(axis=1), p.max(axis=1), worst)
        for i, lowest, highest, largest, at in zip(*(np.asarray(c).tolist() for c in columns), strict=True):
            if not math.isnan(largest):
                found[i] = Robustness(lowest=lowest, highest=highest, largest_p=largest, seed_of_largest_p=seeds[at])
    return found


def _comparisons(
    strata: Mapping[Stratum, Mapping[Look, Cell]],
    held: Gate,
    options: StudyOptions,
    rng: np.random.Generator,
    wanted: Set[tuple[str, frozenset[str]]] | None,
) -> list[Comparison]:
    """Every comparable pair of strata for every look that both have: by model, metric, behavior, pair."""
    names = labels(list(strata))
    order = {behavior: i for i, behavior in enumerate(BEHAVIORS)}
    planned = [
        (pair, look)
        for pair in comparable_pairs(list(strata))
        for look in strata[pair[0]].keys() & strata[pair[1]].keys()
        if wanted is None or (look[0], frozenset(stratum.arm.condition for stratum in pair)) in wanted
    ]
    planned.sort(
        key=lambda plan: (
            plan[0][0].model,
            plan[1][1],
            order.get(plan[1][0], len(order)),
            names[plan[0][1]],
            names[plan[0][0]],
        )
    )
    groups: dict[tuple[int, str], Group] = {}

    def group_of(cell: Cell, name: str, quantity: str) -> Group:
        """Each cell stands in many pairs."""
        key = (id(cell), quantity)
        if key not in groups:
            groups[key] = _group(cell, name, quantity)
        return groups[key]

    pairings = [
        _pairing(pair, look, [(names[s], strata[s][look]) for s in pair], held, group_of) for pair, look in planned
    ]
    sides = [pairing.sides for pairing in pairings]
    tested = zip(
        pairings, welch_tests(sides, level=options.level), hedges_g_each(sides, level=options.level),
        two_sample_tests(sides, rng), leave_one_seed_out([pairing.groups for pairing in pairings]), strict=True,
    )  # fmt: skip
    return [
        Comparison(
            **vars(pairing), welch=welch, standardised=g, exact=exact,
            robustness=None if pairing.conflict else robustness,
        )
        for pairing, welch, g, exact, robustness in tested
    ]  # fmt: skip


def _pairing(
    pair: tuple[Stratum, Stratum],
    look: Look,
    cells: Sequence[tuple[str, Cell]],
    held: Gate,
    group_of: Callable[[Cell, str, str], Group],
) -> Pairing:
    rows = [row for _, cell in cells for row in cell.rows.values()]
    conflict = _conflict(cells) or held.refusal(DESIGN, [row["run"] for row in rows], look[:1])
    quantity = "value" if any(is_missing(row["delta"]) for row in rows) else "delta"
    a, b = (group_of(cell, name, quantity) for name, cell in cells)
    one_sided = pair[0].one_sided(pair[1])
    return Pairing(
        about={
            "model": pair[0].model, "behavior": look[0], "metric": look[1], "split": look[2],
            "quantity": quantity, "a": a.label, "b": b.label,
        },
        groups=(a, b),
        runs=tuple(row["run"] for row in rows),
        conflict=conflict,
        notes=(f"settings that apply to one side only: {', '.join(one_sided)}",) if one_sided else (),
    )  # fmt: skip


def _conflict(cells: Sequence[tuple[str, Cell]]) -> str | None:
    """Why the cells must not be compared, if anything is wrong with one or between them."""
    for name, cell in cells:
        if cell.conflict:
            return f"{name}: {cell.conflict}"
    probes = sorted({row["n"] for _, cell in cells for row in cell.rows.values()})
    if len(probes) > 1:
        return f"the two sides were scored on different numbers of probes ({', '.join(map(str, probes))})"
    return None


def _group(cell: Cell, name: str, quantity: str) -> Group:
    seeds = sorted(cell.rows)
    values = [float(cell.rows[seed][quantity]) for seed in seeds]
    return Group(
        label=name,
        seeds=tuple(int(seed) for seed in seeds),
        values=tuple(values),
        mean=float(np.mean(values)) if values else None,
        sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
    )


def _finding(number: int, comparison: Comparison, welch: Test, options: StudyOptions, looks: int) -> Finding:
    assert welch.effect is not None  # welch_test always gives one
    about = comparison.about
    verdict, sentence = judge(comparison, welch, options=options, looks=looks)
    query = query_of(
        options,
        model=about["model"],
        behaviors=(about["behavior"],),
        metrics=(about["metric"],),
        runs=comparison.runs,
    )
    methods = (welch.effect.method, comparison.standardised.method, comparison.exact.method)
    return Finding(
        number=number,
        about=about,
        unit=unit_of(about["metric"]),
        groups=comparison.groups,
        effect=welch.effect,
        standardised=comparison.standardised,
        tests=(welch, comparison.exact),
        robustness=comparison.robustness,
        verdict=verdict,
        sentence=sentence,
        notes=comparison.notes,
        evidence=Evidence(
            query=query,
            runs=comparison.runs,
            method=f"{'; '.join(methods)}; correction {options.correction} over {looks} looks",
            reference=REFERENCE,
        ),
    )


def _twins(findings: Sequence[Finding]) -> list[str]:
    """Groups in which several seeds gave exactly the same score of a continuous metric: are they replicates?"""
    told: dict[str, None] = {}  # a set that keeps the order
    for finding in findings:
        for group in finding.groups if finding.unit else ():
            distinct = len(set(group.values))
            if distinct < group.n:
                about = f"{finding.about['behavior']} {finding.about['metric']} of {group.label}"
                told[
                    f"{about}: {group.n} seeds gave only {distinct} different scores; does the seed reach the run?"
                ] = None
    return list(told)


def _unknown_seeds(frame: "pd.DataFrame") -> frozenset[str]:
    """Runs whose seed nobody recorded: their numbers only tell them apart."""
    if "seed_known" not in frame.columns:
        return frozenset()
    return frozenset(frame.loc[frame["seed_known"] == 0, "run"])


def _seed_gaps(findings: Sequence[Finding], unknown: frozenset[str]) -> list[str]:
    """Sides of a comparison that do not have the same seeds: missing or failed runs may not be random."""
    gaps: dict[str, None] = {}  # a set that keeps the order
    for finding in findings:
        if unknown.intersection(finding.evidence.runs):
            continue
        a, b = finding.groups
        for one, other in ((a, b), (b, a)):
            missing = sorted(set(other.seeds) - set(one.seeds))
            if missing:
                seeds = ", ".join(map(str, missing))
                gaps[f"{one.label} has no run for seed {seeds}, which {other.label} has"] = None
    return list(gaps)


def _too_few(findings: Sequence[Finding], options: StudyOptions) -> list[str]:
    """How many comparisons have too few seeds for any verdict, and how many seeds it would take."""
    hopeless = sum((finding.tests[1].floor or 0) > options.alpha for finding in findings)
    if not hopeless:
        return []
    return [
        f"{hopeless} of {len(findings)} comparisons have too few seeds for an exact p of {options.alpha:g}: "
        f"run at least {seeds_a_side(options.alpha)} seeds a condition"
    ]


def _why_empty(strata: Mapping[Stratum, Any], findings: Sequence[Finding], options: StudyOptions) -> list[str]:
    """What to tell a reader who gets no findings."""
    if findings:
        return []
    if not strata:
        return [
            f"no finished alignment run has scores for metric {', '.join(options.metrics)}, split {options.split}"
            " and the other options: run `rhodb run ablation`, or try --split none for runs without a probe split"
        ]
    found = ", ".join(sorted(set(labels(list(strata)).values())))
    return [f"nothing to compare: no two strata differ in exactly one of condition, λ and γ (found: {found})"]
