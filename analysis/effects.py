"""Differences between conditions: the first study, and the pattern for the others."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from analysis.admission import admit
from analysis.design import Declared, Gate
from analysis.experiments import by_experiment
from analysis.findings import Estimate, Evidence, Finding, Group, Result, Robustness, Test, correct
from analysis.needed import seeds_a_side
from analysis.query import Conditions, Named, Query, read_sql
from analysis.stats.batches import places_of
from analysis.stats.effect_size import hedges_g_each
from analysis.stats.intervals import welch_leaving_out, welch_tests
from analysis.stats.permutation import two_sample_tests
from analysis.stats.results import Array
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairing:
    """Two cells side by side."""

    about: Mapping[str, str]
    groups: tuple[Group, Group]
    runs: tuple[str, ...]
    conflict: str | None
    """Why the design gate refuses the comparison; nothing is then computed."""
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
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
        held, unknown = Gate(frame), _unknown_seeds(frame)
        rows, split = by_experiment(records(frame))
        del frame  # what is done with is let go of: there may be very many findings
        cells, messages = gate(rows)
        messages = [*left_out, *split, *messages]
        comparisons = _comparisons(cells, held, options, rng, self.wanted)
        strata = list(cells)
        del rows, cells, held
        findings, looks = _judged(comparisons, options)
        return Result(
            study=self.name,
            options=asdict(options),
            findings=findings,
            looks=looks,
            messages=(
                *messages,
                *(unsaid(strata) if findings else ()),
                *_twins(findings),
                *_seed_gaps(findings, unknown),
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
    shape = (model is not None, len(metrics), len(behaviors), len(runs))
    sql, names = _shape(options.where or "1 = 1", *shape)
    values = (*([] if model is None else [model]), *metrics, options.split, *behaviors, *runs)
    return Query(sql=sql, parameters=Named(names, values))


@lru_cache(maxsize=1024)
def _shape(where: str, model: bool, metrics: int, behaviors: int, runs: int) -> tuple[str, tuple[str, ...]]:
    """The SELECT and the names of its parameters: thousands of findings differ in their values only."""
    conditions = Conditions()
    conditions.equal("chosen.model", "" if model else None)
    conditions.among("score.metric", [""] * metrics)
    conditions.equal("score.split", "")
    conditions.among("score.behavior", [""] * behaviors)
    conditions.among("chosen.run", [""] * runs)
    return read_sql("effects", where=where, conditions=conditions), tuple(conditions.parameters)


def leave_one_seed_out(pairs: Sequence[tuple[Group, Group]]) -> list[Robustness | None]:
    """Welch's difference and p as each seed is left out of both groups; None where that leaves too little.

    Pairs with the same seeds are computed together.
    """
    found: list[Robustness | None] = [None] * len(pairs)
    for sides, members in places_of((a.seeds, b.seeds) for a, b in pairs).items():
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
    sides = {s: {look: _Side(names[s], cell) for look, cell in cells.items()} for s, cells in strata.items()}
    planned = []
    for pair in comparable_pairs(list(strata)):
        a, b = (sides[stratum] for stratum in pair)
        conditions = frozenset(stratum.arm.condition for stratum in pair)
        planned += [
            _Plan(model=pair[0].model, look=look, a=a[look], b=b[look], notes=_notes(pair))
            for look in a.keys() & b.keys()
            if wanted is None or (look[0], conditions) in wanted
        ]
    planned.sort(key=_Plan.place)
    pairings = [_pairing(plan, held) for plan in planned]
    arrays: dict[int, Array] = {}
    for group in {id(g): g for pairing in pairings for g in pairing.groups}.values():
        arrays[id(group)] = np.array(group.values)
    none = np.empty(0)
    samples = [
        (none, none) if pairing.conflict else (arrays[id(pairing.groups[0])], arrays[id(pairing.groups[1])])
        for pairing in pairings
    ]
    tested = zip(
        pairings, welch_tests(samples, level=options.level), hedges_g_each(samples, level=options.level),
        two_sample_tests(samples, rng), leave_one_seed_out([pairing.groups for pairing in pairings]), strict=True,
    )  # fmt: skip
    return [
        Comparison(
            about=pairing.about, groups=pairing.groups, runs=pairing.runs, conflict=pairing.conflict,
            notes=pairing.notes, welch=welch, standardised=g, exact=exact,
            robustness=None if pairing.conflict else robustness,
        )
        for pairing, welch, g, exact, robustness in tested
    ]  # fmt: skip


class _Side:
    """A cell, and what the many pairs in which it stands ask of it."""

    def __init__(self, name: str, cell: Cell) -> None:
        rows = cell.rows.values()
        self.name = name
        self.conflict = cell.conflict
        self.runs = tuple(row["run"] for row in rows)
        self.probes = {row["n"] for row in rows}
        self.without_delta = any(is_missing(row["delta"]) for row in rows)
        self.group = cache(lambda quantity: _group(cell, name, quantity))


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Two sides to be compared."""

    model: str
    look: Look
    a: _Side
    b: _Side
    notes: tuple[str, ...]

    def place(self) -> tuple[str, str, int, str, str]:
        """What comparisons are sorted by."""
        behavior, metric, _ = self.look
        return self.model, metric, _ORDER.get(behavior, len(_ORDER)), self.b.name, self.a.name


_ORDER = {behavior: i for i, behavior in enumerate(BEHAVIORS)}


def _notes(pair: tuple[Stratum, Stratum]) -> tuple[str, ...]:
    one_sided = pair[0].one_sided(pair[1])
    return (f"settings that apply to one side only: {', '.join(one_sided)}",) if one_sided else ()


def _pairing(plan: _Plan, held: Gate) -> Pairing:
    a, b, look = plan.a, plan.b, plan.look
    runs = a.runs + b.runs
    quantity = "value" if a.without_delta or b.without_delta else "delta"
    return Pairing(
        about={
            "model": plan.model, "behavior": look[0], "metric": look[1], "split": look[2], "quantity": quantity,
            "a": a.name, "b": b.name,
        },
        groups=(a.group(quantity), b.group(quantity)),
        runs=runs,
        conflict=_conflict(a, b) or held.refusal(DESIGN, runs, look[:1]),
        notes=plan.notes,
    )  # fmt: skip


def _conflict(a: _Side, b: _Side) -> str | None:
    """Why the cells must not be compared, if anything is wrong with one or between them."""
    for side in (a, b):
        if side.conflict:
            return f"{side.name}: {side.conflict}"
    probes = sorted(a.probes | b.probes)
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
        seeds_known=all(row.get("seed_known", 1) for row in cell.rows.values()),
    )


def _judged(comparisons: list[Comparison], options: StudyOptions) -> tuple[tuple[Finding, ...], int]:
    """Findings in the order of the comparisons, and how many looks p was adjusted for; takes the comparisons over."""
    tests = correct([comparison.welch for comparison in comparisons], options.correction)
    looks = sum(test.p is not None for test in tests)
    comparisons.reverse()
    findings = tuple(_finding(number, comparisons.pop(), test, options, looks) for number, test in enumerate(tests, 1))
    return findings, looks


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


def _why_empty(strata: Sequence[Stratum], findings: Sequence[Finding], options: StudyOptions) -> list[str]:
    """What to tell a reader who gets no findings."""
    if findings:
        return []
    if not strata:
        return [
            f"no finished alignment run has scores for metric {', '.join(options.metrics)}, split {options.split}"
            " and the other options: run `rhodb run ablation`, or try --split none for runs without a probe split"
        ]
    found = ", ".join(sorted(set(labels(strata).values())))
    return [f"nothing to compare: no two strata differ in exactly one of condition, λ and γ (found: {found})"]
