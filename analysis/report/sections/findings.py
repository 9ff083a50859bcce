"""Findings of a study as parts of a report: sentences, a table, charts. No statistic is computed here."""

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from analysis.documents import LOOK
from analysis.findings import CLEAR_VERDICTS, Estimate, Finding, Result
from analysis.render import cells as rendered
from analysis.render import papers
from analysis.render.looks import is_look
from analysis.report.addresses import equals
from analysis.report.context import DASH, Context, number, unique
from analysis.report.document import Cell, Chart, Column, Part, Row, Scalar, Sentence, Table, Text
from analysis.report.sections.columns import slim
from analysis.stats.intervals import mean_interval
from analysis.stats.results import Test
from analysis.verdicts import p_text
from rhodb.vocabulary import BEHAVIORS

MOST_ROWS = 250
"""Findings in one table; the clearest come first where there are more."""
MOST_MARKS = 60
"""Marks in a forest, as far as whole rows of it allow."""
MOST_SERIES = 12
"""Dose series drawn in one chart; those with the clearest findings where there are more."""
MOST_TOLD = 12
"""Sentences above a table."""
MOST_NOTES = 5
"""Remarks below it."""
CLEAR = ("supported", "contradicted", "artefact", "degenerate", "suggestive", "not supported", "not enough data")

_LONG_WORD = re.compile(r"[^\s()]{25,}")
_CLEARNESS = {verdict: place for place, verdict in enumerate(CLEAR)}

Keep = Callable[[Finding], bool]


def _clearness(finding: Finding) -> tuple[int, float, int]:
    """What findings are sorted by where not all are shown: verdict, p, number."""
    return _CLEARNESS[finding.verdict], 1.0 if finding.p is None else finding.p, finding.number


def _all(_: Finding) -> bool:
    return True


def address_of(ctx: Context, result: Result, finding: Finding) -> str:
    """The address of a finding: the study's SELECT, cut down to the finding's runs, behavior, metric and split."""
    about = finding.about
    narrow = []
    if result.study not in ("stress", "quality"):  # whose rows have no behavior
        narrow += [equals("behavior", about["behavior"])] if about.get("behavior") in BEHAVIORS else []
        narrow += [equals(key, about[key]) for key in ("metric", "split") if about.get(key)]
    return ctx.book.address(
        "finding",
        result.query,
        runs=finding.evidence.runs,
        narrow=narrow,
        by_run=bool(finding.evidence.runs),
        pick=f"study {result.study}, finding {finding.number}: " + ", ".join(v for v in about.values() if v),
        command=ctx.command(result.study, finding.number),
        method="; ".join([finding.evidence.method, *papers.sentences(finding)]),
        reference=finding.evidence.reference,
    )


def parts(
    ctx: Context, result: Result, *, keep: Keep = _all, title: str = "", told: bool = True, key: str = "findings"
) -> list[Part]:
    """What is supported or refused in sentences, then the table of all findings, then how to read it."""
    kept = [finding for finding in result.findings if keep(finding)]
    made: list[Part] = []
    if told and kept:
        made.append(_told(ctx, result, kept, key))
    if kept:
        made.append(table(ctx, result, kept, title=title or f"Findings of `rhodb analyze {result.study}`", key=key))
    notes = _messages(ctx, result)
    return made + ([Text(key=f"{key}-notes", items=notes, listed=True)] if notes else [])


def _messages(ctx: Context, result: Result) -> tuple[Cell, ...]:
    """What the study has to say beside its findings."""
    told = list(result.messages[:MOST_NOTES])
    more = len(result.messages) - MOST_NOTES
    told += [f"... and {more} more notes: `rhodb analyze {result.study}` tells all."] if more > 0 else []
    return tuple(Sentence(text=text, address=whole(ctx, result)) for text in told)


def whole(ctx: Context, result: Result) -> str:
    """The address of what a study says as a whole."""
    pick, command = f"study {result.study} as a whole", ctx.command(result.study, 0)
    return ctx.book.address("count", result.query, pick=pick, command=command)


def _told(ctx: Context, result: Result, kept: Sequence[Finding], key: str) -> Text:
    clear = [f for f in kept if f.verdict in CLEAR_VERDICTS]
    items: list[Cell] = [Sentence(text=f.sentence, address=address_of(ctx, result, f)) for f in clear[:MOST_TOLD]]
    counts = Counter(str(f.verdict) for f in kept)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in CLEAR if counts[verdict])
    more = f" The first {MOST_TOLD} of {len(clear)} clear ones are told here." if len(clear) > MOST_TOLD else ""
    items.append(
        Sentence(text=f"Verdicts: {summary}; p adjusted over {result.looks} looks.{more}", address=whole(ctx, result))
    )
    return Text(key=f"{key}-told", items=tuple(items), listed=True)


def table(ctx: Context, result: Result, kept: Sequence[Finding], *, title: str, key: str = "findings") -> Table:
    """One row a finding, clearest first where there are too many."""
    shown = list(kept)
    caption = result.caption
    if len(shown) > MOST_ROWS:
        shown = heapq.nsmallest(MOST_ROWS, shown, key=_clearness)
        caption += f" The {MOST_ROWS} clearest of {len(kept)} findings; all: rhodb analyze {result.study} --csv."
    level = 100 * (1 - float(result.options["alpha"]))
    columns, cells_of = (_look_columns(level), _look_cells) if is_look(result) else (_columns(level), _cells)
    keys = unique(["|".join(f.about.get(part, "") for part in LOOK) for f in shown])
    rows = []
    for name, finding in zip(keys, shown, strict=True):
        address = address_of(ctx, result, finding)
        cells = (*cells_of(finding, address), Sentence(text=finding.verdict, address=address))
        rows.append(_row(name, finding, cells))
    return slim(
        Table(
            key=key, title=title, columns=(*columns, Column(key="verdict", title="verdict")), rows=tuple(rows),
            caption=caption,
        )
    )  # fmt: skip


def _row(key: str, finding: Finding, cells: tuple[Cell, ...]) -> Row:
    about = finding.about
    behavior = about.get("behavior")
    return Row(
        key=key, cells=cells, model=about.get("model") or None, metric=about.get("metric") or None,
        split=about.get("split") or None, behavior=behavior if behavior in BEHAVIORS else None, verdict=finding.verdict,
    )  # fmt: skip


def _columns(level: float) -> tuple[Column, ...]:
    unit = f"with {level:g} % interval"
    return (
        Column(key="model", title="model"),
        Column(key="behavior", title="behavior"),
        Column(key="metric", title="measure"),
        Column(key="a", title="a"),
        Column(key="b", title="b"),
        Column(key="mean_a", title="a: mean ± SD (n)", numeric=True, help="over seeds"),
        Column(key="mean_b", title="b: mean ± SD (n)", numeric=True, help="over seeds"),
        Column(key="difference", title=f"a − b [{level:g} %]", numeric=True, help=f"difference of means, {unit}"),
        Column(key="g", title=f"g [{level:g} %]", numeric=True, help=f"Hedges' standardised difference, {unit}"),
        Column(key="p", title="Welch p (adj.)", numeric=True, help="two-sided; in parentheses adjusted for all looks"),
        Column(key="exact", title="exact p (floor)", numeric=True, help="permutation test; smallest p it can reach"),
        Column(key="left_out", title="p, one seed out", numeric=True, help="largest Welch p as each seed is left out"),
    )


def _cells(finding: Finding, address: str) -> tuple[Cell, ...]:
    about, (a, b), (welch, exact) = finding.about, finding.groups[:2], finding.tests[:2]
    left = None if finding.robustness is None else finding.robustness.largest_p
    return (
        about["model"],
        about["behavior"],
        _measure(finding),
        about["a"],
        about["b"],
        number(a.mean, address, text=rendered.group(a)),
        number(b.mean, address, text=rendered.group(b)),
        _estimate(finding.effect, address),
        _estimate(finding.standardised, address),
        _p(welch, welch.p_adjusted, address),
        _p(exact, exact.floor, address),
        number(left, address, text=None if left is None else f"≤ {p_text(left)}"),
    )


def _look_columns(level: float) -> tuple[Column, ...]:
    return (
        Column(key="detector", title="look"),
        Column(key="model", title="model"),
        Column(key="behavior", title="behavior"),
        Column(key="metric", title="measure"),
        Column(key="stratum", title="stratum"),
        Column(key="effect", title=f"effect [{level:g} %]", numeric=True, help="with its interval, where it has one"),
        Column(key="n", title="n", numeric=True, help="values behind the test"),
        Column(key="p", title="p (adj.)", numeric=True, help="in parentheses adjusted for all looks of the study"),
    )


def _look_cells(finding: Finding, address: str) -> tuple[Cell, ...]:
    about, test = finding.about, finding.tests[0]
    return (
        about["detector"],
        about.get("model") or DASH,
        about.get("behavior") or DASH,
        _measure(finding),
        about.get("stratum") or DASH,
        _estimate(finding.effect, address),
        number(test.n, address),
        _p(test, test.p_adjusted, address),
    )


def _measure(finding: Finding) -> str:
    """Δ of a metric, and its unit."""
    about = finding.about
    name = ("Δ " if about.get("quantity") == "delta" else "") + (about.get("metric") or DASH)
    return f"{name} ({finding.unit})" if finding.unit and about.get("metric") else name


def _estimate(value: Estimate, address: str) -> Cell:
    return number(value.value, address, text=rendered.estimate(value).removesuffix(f" [{DASH}]"))


def _p(test: Test, second: float | None, address: str) -> Cell:
    return number(test.p, address, text=rendered.with_second(test.p, second) if second is not None else None)


def forest(ctx: Context, result: Result, kept: Sequence[Finding], *, title: str, key: str = "forest") -> Chart | None:
    """Effects with their intervals: whole rows (all behaviors of a stratum), those with the clearest findings."""
    known = [f for f in kept if f.effect.value is not None and f.effect.low is not None]
    shown, left = _clearest_rows(known)
    if not shown:
        return None
    plain = [f.about.get("stratum", "") for f in shown]
    if "a" in shown[0].about:
        plain = _differences([(f.about["a"], f.about["b"]) for f in shown])
    labels = _axis_names([(f.about.get("model", ""), name) for f, name in zip(shown, plain, strict=True)])
    rows: list[dict[str, Scalar]] = []
    for label, f in zip(labels, shown, strict=True):
        about = f.about
        rows.append(
            {
                "label": label,
                "behavior": about.get("behavior", ""), "model": about.get("model", ""),
                "metric": about.get("metric", ""), "split": about.get("split", ""), "verdict": f.verdict,
                "effect": f.effect.value, "low": f.effect.low, "high": f.effect.high, "p_adjusted": f.p_adjusted,
            }
        )  # fmt: skip
    more = f" The rows with the clearest findings: {len(shown)} of {len(known)} effects." if left else ""
    # Several quantities of one behavior (jailbreaks and benign prompts refused) must not share a line.
    facet = (
        "metric" if len({row["behavior"] for row in rows}) == 1 < len({row["metric"] for row in rows}) else "behavior"
    )
    if facet == "behavior" and len({row["behavior"] for row in rows}) > 1:
        more += " Each behavior has its own scale."
    effect = "difference in share" if shown[0].about.get("quantity") == "rate" else "effect"
    return Chart(
        key=key, title=title, kind="forest", rows=tuple(rows),
        encodings={"x": "effect", "y": "label", "low": "low", "high": "high", "colour": "verdict", "facet": facet},
        titles={"x": f"{effect} ({shown[0].unit})" if shown[0].unit else effect, "y": "", "colour": "verdict"},
        addresses=tuple(address_of(ctx, result, f) for f in shown),
        caption=f"Effects with {100 * shown[0].effect.level:g} % intervals.{more}",
    )  # fmt: skip


def _clearest_rows(known: Sequence[Finding]) -> tuple[list[Finding], bool]:
    """The findings of the rows of a forest that fit into it, in their order, and whether there are more.

    A row holds what is compared, whatever the behavior: single findings would leave most of each panel empty.
    """
    rows: dict[tuple[str, ...], list[Finding]] = defaultdict(list)
    for finding in known:
        rows[_compared(finding)].append(finding)
    shown: list[Finding] = []
    for finding in heapq.nsmallest(MOST_MARKS, known, key=_clearness):
        if shown and len(shown) + len(rows[_compared(finding)]) > MOST_MARKS:
            break
        shown += rows[_compared(finding)]
        rows[_compared(finding)] = []
    return sorted(shown, key=lambda finding: finding.number), len(shown) < len(known)


def _compared(finding: Finding) -> tuple[str, ...]:
    about = finding.about
    return tuple(about.get(key, "") for key in ("model", "stratum", "a", "b"))


def _differences(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Labels of comparisons: what differs, then in parentheses what both share, less what all comparisons share."""
    words = [(a.split(), b.split()) for a, b in pairs]
    everywhere = set.intersection(*({*a} & {*b} for a, b in words))
    labels = []
    for a, b in words:
        own_a, own_b = ([w for w in one if w not in other] or ["without"] for one, other in ((a, b), (b, a)))
        both = [word.strip("()") for word in a if word in b and word not in everywhere]
        labels.append(f"{' '.join(own_a)} − {' '.join(own_b)}" + (f" ({' '.join(both)})" if both else ""))
    return labels


def _axis_names(names: Sequence[tuple[str, str]]) -> list[str]:
    """(model, name) as names for an axis or a panel, in which every pair has its own.

    The model stands behind where there are several; long words are cut in the middle while that tells names apart.
    """
    several = len({model for model, _ in names}) > 1
    whole = [f"{name} · {model.rpartition('/')[2]}" if several else name for model, name in names]
    if len(set(whole)) < len(set(names)):  # models of one name from two places
        whole = [f"{name} · {model}" for model, name in names]
    cut = [_LONG_WORD.sub(lambda word: f"{word[0][:12]}…{word[0][-10:]}", name) for name in whole]
    return cut if len(set(cut)) == len(set(whole)) else whole


def _series(stratum: str) -> str:
    """A dose series without its doses, which stand on the axis."""
    return re.sub(r"^λ = [^a-z]* at ", "", stratum)


def doses(ctx: Context, result: Result, kept: Sequence[Finding], *, title: str, spread: bool = False) -> Chart | None:
    """Mean (or, with `spread`, SD) of each behavior by λ, from findings whose groups are doses `λ=...`."""
    rows: list[dict[str, Scalar]] = []
    addresses = []
    series: dict[tuple[str, str], list[Finding]] = {}
    for f in kept:
        series.setdefault((f.about["model"], f.about["stratum"]), []).append(f)
    best = set(heapq.nsmallest(MOST_SERIES, series, key=lambda name: min(map(_clearness, series[name]))))
    for f in (f for f in kept if (f.about["model"], f.about["stratum"]) in best):
        for group in f.groups:
            if not group.label.startswith("λ=") or group.mean is None or (spread and group.sd is None):
                continue
            mean = mean_interval(group.values)
            row: dict[str, Scalar] = {
                "rho_weight": float(group.label.removeprefix("λ=")), "behavior": f.about["behavior"],
                "model": f.about["model"], "metric": f.about["metric"], "split": f.about["split"],
                "stratum": _series(f.about["stratum"]), "n": group.n,
            }  # fmt: skip
            row |= {"sd": group.sd} if spread else {"mean": group.mean, "low": mean.low, "high": mean.high}
            rows.append(row)
            addresses.append(address_of(ctx, result, f))
    if not rows:
        return None
    more = ""
    if len(series) > MOST_SERIES:
        more = f" The {MOST_SERIES} of {len(series)} series with the clearest findings; all: "
        more += f"rhodb analyze {result.study} --csv."
    unit = f" ({kept[0].unit})" if kept[0].unit else ""
    several = len({(row["model"], row["stratum"]) for row in rows}) > 1
    panels = _axis_names([(str(row["model"]), str(row["stratum"])) for row in rows])
    rows = [{**row, "stratum": panel} for row, panel in zip(rows, panels, strict=True)]
    measure = ("Δ " if kept[0].about["quantity"] == "delta" else "") + kept[0].about["metric"]
    encodings = {"x": "rho_weight", "y": "sd" if spread else "mean", "colour": "behavior"}
    encodings |= {} if spread else {"low": "low", "high": "high"}
    return Chart(
        key="doses", title=title, kind="dose", rows=tuple(rows),
        encodings=encodings | ({"facet": "stratum"} if several else {}),
        titles={"x": "λ", "y": f"SD over seeds of {measure}{unit}" if spread else f"mean {measure}{unit}",
                "colour": "behavior", "facet": "stratum"},
        addresses=tuple(addresses),
        caption=("Standard deviation over seeds at each dose." if spread
                 else "Mean over seeds with 95 % t interval; no interval where there is one seed.") + more,
    )  # fmt: skip
