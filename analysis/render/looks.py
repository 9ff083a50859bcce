"""Findings of detectors and of studies other than effects: one row each, in tables, CSV and Markdown."""

from typing import TYPE_CHECKING

from analysis.findings import Finding, Result
from analysis.render.cells import DASH, estimate, with_second
from analysis.verdicts import p_text

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"supported": "bold green", "contradicted": "bold blue", "suggestive": "yellow", "artefact": "bold red"}
_FEW = 40
"""Findings up to which the table shows all; beyond, only those that are not plain negatives."""
_PLAIN = ("not supported", "not enough data")


def is_look(result: Result) -> bool:
    """Whether the findings are looks of detectors rather than comparisons of two groups."""
    return any("detector" in finding.about for finding in result.findings)


def headers(level: float) -> list[str]:
    """Column titles of Markdown tables."""
    return ["#", "detector", "model", "behavior", "stratum", f"effect [{100 * level:g} %]", "n", "p (adj.)", "floor",
            "verdict"]  # fmt: skip


def row(finding: Finding) -> list[str]:
    """The finding's cells, in the order of `headers`."""
    about, test = finding.about, finding.tests[0]
    return [
        str(finding.number), about["detector"], about.get("model", DASH), about.get("behavior", DASH),
        about.get("stratum", DASH), estimate(finding.effect), str(test.n), with_second(test.p, test.p_adjusted),
        _p(test.floor), finding.verdict,
    ]  # fmt: skip


def _p(p: float | None) -> str:
    return DASH if p is None else p_text(p)


def flat(finding: Finding) -> dict[str, object]:
    """One CSV line, full precision."""
    test = finding.tests[0]
    return {
        "number": finding.number,
        **{key: finding.about.get(key) for key in ("detector", "model", "behavior", "metric", "split", "quantity",
                                                   "stratum")},
        "effect": finding.effect.value, "low": finding.effect.low, "high": finding.effect.high, "unit": finding.unit,
        "statistic": test.statistic, "n": test.n, "p": test.p, "p_adjusted": test.p_adjusted, "floor": test.floor,
        "verdict": finding.verdict, "sentence": finding.sentence,
    }  # fmt: skip


def tables(result: Result) -> "list[Table]":
    """One table; of many findings only those that are more than plain negatives."""
    from rich import box
    from rich.table import Table

    shown = list(result.findings)
    title = f"{result.study}: {len(shown)} findings"
    if len(shown) > _FEW:
        shown = [finding for finding in shown if finding.verdict not in _PLAIN]
        title += f", {len(shown)} shown (the others are plain negatives: see --csv)"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    for name in ("what", "model\nstratum", "effect", "n\nfloor of p", "p\nadjusted", "verdict"):
        table.add_column(name)
    for finding in shown:
        number, detector, model, behavior, stratum, effect, n, _, floor, verdict = row(finding)
        test = finding.tests[0]
        p = DASH if test.p is None else f"{test.p:.2g}\n{test.p_adjusted:.2g}"
        table.add_row(
            number, f"{detector}\n{behavior}", f"{model}\n{stratum}", effect, f"{n}\n{floor}", p, verdict,
            style=_STYLES.get(finding.verdict),
        )  # fmt: skip
    return [table]
