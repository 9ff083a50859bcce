"""A result as a rich table for people: one a model, two lines a finding."""

from typing import TYPE_CHECKING

from analysis.findings import Finding, Result
from analysis.render import looks
from analysis.render.cells import DASH, estimate, group
from analysis.verdicts import p_text

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"supported": "bold green", "suggestive": "yellow", "artefact": "bold red"}


def tables(result: Result) -> "list[Table]":
    """One table per model, in the order of the findings; looks of detectors share one."""
    if looks.is_look(result):
        return looks.tables(result)
    models: dict[str, list[Finding]] = {}
    for finding in result.findings:
        models.setdefault(finding.about["model"], []).append(finding)
    return [_table(model, findings, result.options["alpha"]) for model, findings in models.items()]


def _table(model: str, findings: list[Finding], alpha: float) -> "Table":
    from rich import box
    from rich.table import Table

    quantities = sorted({_quantity(finding) for finding in findings})
    title = f"Effects on {model}: {', '.join(quantities)}, split {findings[0].about['split']}"
    interval = f"[{100 * (1 - alpha):g} %]"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("#", justify="right")
    titles = (
        "behavior\nmetric", "a\n− b", "a: mean ± SD (n)\nb: mean ± SD (n)", f"a − b {interval}\ng {interval}",
        "Welch p\nadjusted", "exact p\nfloor", "verdict\nWelch p, one seed out",
    )  # fmt: skip
    for column in titles:
        table.add_column(column, no_wrap=column != titles[1])
    for finding in findings:
        table.add_row(str(finding.number), *_cells(finding), style=_STYLES.get(finding.verdict))
    return table


def _cells(finding: Finding) -> list[str]:
    a, b = finding.groups[:2]
    welch, exact = finding.tests[:2]
    left_out = finding.robustness
    return [
        f"{finding.about['behavior']}\n{_quantity(finding)}",
        f"{finding.about['a']}\n− {finding.about['b']}",
        f"{group(a)}\n{group(b)}",
        f"{estimate(finding.effect)}\n{estimate(finding.standardised)}",
        f"{_p(welch.p)}\n{_p(welch.p_adjusted)}",
        f"{_p(exact.p)}\n{_p(exact.floor)}",
        f"{finding.verdict}\n{'' if left_out is None else '≤ ' + p_text(left_out.largest_p)}",
    ]


def _p(p: float | None) -> str:
    return DASH if p is None else p_text(p)


def _quantity(finding: Finding) -> str:
    return ("Δ " if finding.about["quantity"] == "delta" else "") + finding.about["metric"]
