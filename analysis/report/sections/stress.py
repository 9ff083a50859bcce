"""The stress test: rates overall and by category with Wilson intervals, and exact paired tests on the same prompts."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from analysis.findings import Estimate, Test, correct
from analysis.query import Query
from analysis.render.cells import estimate, with_second
from analysis.report.addresses import equals
from analysis.report.context import DASH, Context, number, unique
from analysis.report.document import Cell, Chart, Column, Part, Row, Scalar, Section, Sentence, Table
from analysis.report.sections import findings
from analysis.stats.clusters import clustered_rate
from analysis.stats.rates import mcnemar
from analysis.wording import clusters_by_key
from rhodb.vocabulary import STRESS_CONDITIONS

ALPHA = 0.05
LABELS = ("model", "model_fingerprint", "experiment", "condition", "config_hash", "judge", "kind", "category")
INTERVAL = "Wilson score interval, answers to prompts of one wording as single trials"
PAIRED = (
    "Per wording (prompts that differ in a few words only are one), refusals under one condition minus the other, "
    "added over prompts and shared seeds; exact binomial test of the signs over wordings (with one seed and no shared "
    "wording: McNemar's test). p adjusted (Holm) over the rows of this table."
)
Answers = Mapping[tuple[int, str], int]
"""(Seed, prompt) -> 1 if the answer was judged a refusal."""
Wording = Mapping[str, int]
"""Prompt -> number of its wording."""


def stress(ctx: Context) -> Section:
    """Refusals under jailbreaks."""
    result = ctx.study("stress")
    parts: list[Part] = []
    if result.findings:
        plot = findings.forest(
            ctx, result, [f for f in result.findings if f.about["stratum"].startswith("baseline") is False],
            title="Refusal rates against the untouched model",
        )  # fmt: skip
        parts = [*([plot] if plot else []), *findings.parts(ctx, result, title="Refusal rates by condition")]
        wording = _wording(ctx)
        parts += _categories(ctx, wording) + _pairs(ctx, wording)
    return Section(
        key="stress", title="Safety stress test",
        intro="How often does a model refuse jailbreaks, and how often benign prompts? Rates with Wilson intervals, "
        "differences with Newcombe's; where the answers to the same prompts are stored, exact paired tests. "
        "Answers to one prompt, and to prompts of one wording, are not counted as independent.",
        parts=tuple(parts),
        missing=None if parts else "No finished stress test: `rhodb run stress-test --seeds 42,123,456`.",
    )  # fmt: skip


def _wording(ctx: Context) -> dict[str, int]:
    return clusters_by_key({row["prompt_key"]: str(row["prompt"]) for row in ctx.rows(ctx.query("report_stress"))})


def _categories(ctx: Context, wording: Wording) -> list[Part]:
    """One row a category, one column a condition."""
    query = ctx.query("report_stress_rates")
    outcomes: dict[tuple[Any, ...], list[tuple[int, int]]] = defaultdict(list)
    for row in ctx.rows(ctx.query("report_stress")):
        outcomes[tuple(row[c] for c in LABELS)].append((int(row["refused"]), wording[row["prompt_key"]]))
    cells: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    arms = arm_names(ctx)
    for row in ctx.rows(query):
        place = tuple(row[c] for c in ("model", "experiment", "judge", "kind", "category"))
        cells[place][arms[arm_of(row)]] = row
    if not cells:
        return []
    conditions = [c for c in dict.fromkeys(arms.values()) if any(c in members for members in cells.values())]
    names = unique(["|".join("" if part is None else str(part) for part in place) for place in cells])
    made = []
    for name, (place, members) in zip(names, cells.items(), strict=True):
        row_cells: list[Cell] = [str(place[0]), str(place[3]), place[4] or DASH]
        for condition in conditions:
            row_cells.append(_rate(ctx, query, members.get(condition), outcomes))
        made.append(Row(key=name, cells=tuple(row_cells), model=place[0]))
    columns = (Column(key="model", title="model"), Column(key="kind", title="prompts"),
               Column(key="category", title="category"),
               *(Column(key=c, title=c, numeric=True, help="refused of answered, share with Wilson interval")
                 for c in conditions))  # fmt: skip
    caption = (
        "Refused / answered, share [95 % Wilson interval]; answers of several seeds are added up, and those to prompts "
        "of one wording count as one trial. What differs between seeds is not in the intervals."
    )
    return [Table(key="categories", title="By category of prompt", columns=columns, rows=tuple(made), caption=caption)]


Arm = tuple[Any, ...]
"""Model, fingerprint, condition and configuration of a stress test: what its seeds replicate."""


def arm_of(row: Mapping[str, Any]) -> Arm:
    """The arm of a row of the two queries."""
    return tuple(row[c] for c in ("model", "model_fingerprint", "condition", "config_hash"))


def arm_names(ctx: Context) -> dict[Arm, str]:
    """What each arm is called, by condition: with λ, γ and, if need be, its configuration where a model has several."""
    rows = {arm_of(row): row for row in ctx.rows(ctx.query("report_stress_rates"))}
    several = Counter((arm[0], arm[2]) for arm in rows)
    names: dict[Arm, str] = {}
    for condition in STRESS_CONDITIONS:
        for arm, row in rows.items():
            if arm[2] == condition:
                doses = {"λ": row["rho_weight"], "γ": row["margin"]} if several[arm[0], condition] > 1 else {}
                names[arm] = " ".join([condition, *(f"{k}={x:g}" for k, x in doses.items() if x is not None)])
    weights = Counter(model for model, _ in {arm[:2] for arm in names})
    names = {arm: f"{name} [weights {arm[1][:8]}]" if weights[arm[0]] > 1 else name for arm, name in names.items()}
    alike = Counter((arm[0], name) for arm, name in names.items())
    return {arm: name if alike[arm[0], name] == 1 else f"{name} ({arm[3][:8]})" for arm, name in names.items()}


def _rate(
    ctx: Context,
    query: Query,
    row: Mapping[str, Any] | None,
    outcomes: Mapping[tuple[Any, ...], Sequence[tuple[int, int]]],
) -> Cell:
    if row is None:
        return DASH
    address = ctx.book.address(
        "row", query, runs=_runs(ctx, arm_of(row)),
        narrow=[equals(c, row[c]) for c in LABELS], pick="refused / answers", method=INTERVAL,
        reference="Wilson 1927; Kish 1965",
    )  # fmt: skip
    rate = _clustered(outcomes[tuple(row[c] for c in LABELS)])
    return number(rate.value, address, text=f"{row['refused']}/{row['answers']}, {estimate(rate)}")


def _clustered(outcomes: Sequence[tuple[int, int]]) -> Estimate:
    """Share of ones among (refused, wording)."""
    return clustered_rate([refused for refused, _ in outcomes], [cluster for _, cluster in outcomes])


def _runs(ctx: Context, *arms: Arm) -> list[str]:
    """Runs of these arms."""
    rows = ctx.rows(ctx.query("report_stress"))
    return list(dict.fromkeys(row["run"] for row in rows if arm_of(row) in arms))


def _pairs(ctx: Context, wording: Wording) -> list[Part]:
    """Every two conditions that answered the same prompts."""
    query = ctx.query("report_stress")
    groups: dict[tuple[Any, ...], dict[Arm, dict[tuple[int, str], int]]] = defaultdict(lambda: defaultdict(dict))
    names_of = arm_names(ctx)
    for row in ctx.rows(query):
        place = (row["model"], row["model_fingerprint"], row["experiment"], row["judge"], row["kind"])
        groups[place][arm_of(row)][row["seed"], row["prompt_key"]] = int(row["refused"])
    planned = [
        (place, a, b, signs)
        for place, answered in groups.items()
        for a, b in combinations([arm for arm in names_of if arm in answered], 2)
        if (signs := _signs(answered[a], answered[b], wording, shared_seed=a[2] == "baseline"))
    ]
    if not planned:
        return []
    tests = correct([mcnemar(more, less) for *_, (more, less, _) in planned], "holm")
    names = unique(["|".join([str(place[0]), str(place[2] or ""), str(place[3]), place[4], names_of[a], names_of[b]])
                    for place, a, b, _ in planned])  # fmt: skip
    made = tuple(
        _pair_row(ctx, query, name, place, a, b, signs, test)
        for name, (place, a, b, signs), test in zip(names, planned, tests, strict=True)
    )
    titles = {"model": "model", "kind": "prompts", "a": "a", "b": "b", "prompts": "wordings shared",
              "more": "b refuses more", "less": "b refuses less", "p": "exact p (adj.)",
              "verdict": "verdict"}  # fmt: skip
    columns = tuple(Column(key=k, title=t, numeric=k in ("prompts", "more", "less", "p")) for k, t in titles.items())
    pairs = Table(key="paired", title="Exact paired tests", columns=columns, rows=made, caption=PAIRED)
    return [pairs, _bars(ctx, groups, names_of, wording, query)]


def _signs(a: Answers, b: Answers, wording: Wording, *, shared_seed: bool) -> tuple[int, int, int] | None:
    """Wordings that b refuses more often, less often, and all; None where the two share none.

    The untouched model answers once, whatever the seed, and stands for all of them.
    """
    once = {prompt: refused for (_, prompt), refused in a.items()}
    sums: dict[int, int] = {}
    for (seed, prompt), refused in b.items():
        other = once.get(prompt) if shared_seed else a.get((seed, prompt))
        if other is not None:
            sums[wording[prompt]] = sums.get(wording[prompt], 0) + refused - other
    if not sums:
        return None
    return sum(s > 0 for s in sums.values()), sum(s < 0 for s in sums.values()), len(sums)


def _pair_row(
    ctx: Context,
    query: Query,
    name: str,
    place: tuple[Any, ...],
    a: Arm,
    b: Arm,
    signs: tuple[int, int, int],
    test: Test,
) -> Row:
    more, less, prompts = signs
    runs, named = _runs(ctx, a, b), arm_names(ctx)
    address = ctx.book.address(
        "count", query, runs=runs,
        narrow=[equals("model", place[0]), equals("model_fingerprint", place[1]), equals("experiment", place[2]),
                equals("judge", place[3]), equals("kind", place[4]), f"config_hash IN ('{a[3]}', '{b[3]}')"],
        pick="signs of the differences over wordings", method=PAIRED, reference="McNemar 1947; Dixon & Mood 1946",
    )  # fmt: skip
    verdict = "supported" if test.p_adjusted is not None and test.p_adjusted <= ALPHA else "not supported"
    if test.p is None or (test.floor is not None and test.floor > ALPHA):
        verdict = "not enough data"
    cells: tuple[Cell, ...] = (
        str(place[0]), str(place[4]), named[a], named[b],
        number(prompts, address), number(more, address), number(less, address),
        number(test.p, address, text=with_second(test.p, test.p_adjusted)), Sentence(text=verdict, address=address),
    )  # fmt: skip
    return Row(key=name, cells=cells, model=place[0], verdict=verdict)


def _bars(
    ctx: Context,
    groups: Mapping[tuple[Any, ...], Mapping[Arm, Answers]],
    names: Mapping[Arm, str],
    wording: Wording,
    query: Query,
) -> Chart:
    rows: list[dict[str, Scalar]] = []
    addresses: list[str] = []
    for place, answered in groups.items():
        for arm in (arm for arm in names if arm in answered):
            values = list(answered[arm].values())
            rate = _clustered([(refused, wording[prompt]) for (_, prompt), refused in answered[arm].items()])
            row: dict[str, Scalar] = {"condition": names[arm], "prompts": place[4], "model": place[0]}
            row |= {"rate": rate.value, "low": rate.low, "high": rate.high}
            rows.append(row | {"refused": sum(values), "answers": len(values)})
            addresses.append(
                ctx.book.address(
                    "count", query, runs=_runs(ctx, arm), pick="share of refused",
                    narrow=[equals("model", place[0]), equals("model_fingerprint", arm[1]),
                            equals("config_hash", arm[3]), equals("kind", place[4])],
                    method=INTERVAL,
                )
            )  # fmt: skip
    several = len({row["model"] for row in rows}) > 1
    return Chart(
        key="rates", title="Refusal rates", kind="bars", rows=tuple(rows),
        encodings={"x": "condition", "y": "rate", "low": "low", "high": "high", "colour": "prompts",
                   **({"facet": "model"} if several else {})},
        titles={"x": "", "y": "share refused", "colour": "prompts"}, addresses=tuple(addresses),
        caption="Share of answers judged a refusal, with 95 % Wilson interval; answers of several seeds are added up, "
        "and those to prompts of one wording count as one trial.",
    )  # fmt: skip


def jailbreak_rates(ctx: Context) -> Sequence[Mapping[str, Any]]:
    """Rates by condition and category, for the open questions."""
    return ctx.rows(ctx.query("report_stress_rates"))
