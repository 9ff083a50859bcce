"""A result as a rich table for people, one a model."""

from typing import TYPE_CHECKING

from analysis.findings import Finding, Result
from analysis.render.cells import headers, row

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"supported": "bold green", "suggestive": "yellow", "artefact": "bold red"}


def tables(result: Result) -> "list[Table]":
    """One table per model, in the order of the findings; columns that say the same everywhere move to the title."""
    models: dict[str, list[Finding]] = {}
    for finding in result.findings:
        models.setdefault(finding.about["model"], []).append(finding)
    return [_table(model, findings, result.options["alpha"]) for model, findings in models.items()]


def _table(model: str, findings: list[Finding], alpha: float) -> "Table":
    from rich import box
    from rich.table import Table

    rows = [row(finding) for finding in findings]
    titles = headers(1 - alpha)
    title = f"Effects on {model}"
    metric = titles.index("metric")
    hidden = set()
    if len({cells[metric] for cells in rows}) == 1:
        title += f": {rows[0][metric]}, split {findings[0].about['split']}"
        hidden.add(metric)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown = [i for i in range(len(titles)) if i not in hidden]
    for i in shown:
        table.add_column(titles[i], justify="right" if titles[i] == "#" else "left", no_wrap=titles[i] != "a − b")
    for cells, finding in zip(rows, findings, strict=True):
        table.add_row(*(cells[i] for i in shown), style=_STYLES.get(finding.verdict))
    return table
