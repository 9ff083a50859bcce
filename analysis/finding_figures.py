"""Figures of findings: every seed's point, the mean with its interval, the finding as the title."""

from collections.abc import Sequence
from pathlib import Path

from analysis.figures import canvas, save, styled
from analysis.finding_panels import draw_finding, estimate_rows
from analysis.findings import Finding, Result

MOST = 6
"""Panels of one figure: the findings of a detector with the clearest verdicts."""
MOST_ROWS = 24
"""Rows of a figure of estimates without groups."""
FACTS = ("quality",)
"""Studies whose findings without groups are facts about rows: their numbers have nothing in common to be drawn on."""
ROWS = ("refusal rate", "refusal rate by category")
"""Detectors whose findings are drawn as rows, with the values of single runs beside each estimate."""
POINTS = {
    "layers": "Points: layers; shaded: interval of the peak's layer",
    "additivity": "Points: runs; lines: means of cells, which run in parallel where the axes add up",
    "coupling": "Points: runs",
    "coupling-change": "Points: runs, in two strata",
    "transfer": "Points: runs; lines: least squares",
}
"""What is to be seen, where it is not columns of runs."""
_ORDER = ("supported", "contradicted", "artefact", "degenerate", "suggestive", "not supported", "not enough data")


def draw(result: Result, folder: Path) -> list[Path]:
    """One figure for each detector (or study) that found something to draw; the files written."""
    kinds: dict[str, list[Finding]] = {}
    bare: dict[str, list[Finding]] = {}
    for finding in result.findings:
        kind = finding.about.get("detector", result.study)
        if kind not in ROWS and any(group.n for group in finding.groups):
            kinds.setdefault(kind, []).append(finding)
        elif finding.effect.value is not None and result.study not in FACTS:
            bare.setdefault(kind, []).append(finding)
    paths = [path for kind, findings in kinds.items() for path in _panels(result, kind, findings, folder)]
    for kind in bare.keys() - kinds.keys():
        paths += _estimates(result, kind, bare[kind], folder)
    return paths


def _panels(result: Result, kind: str, findings: Sequence[Finding], folder: Path) -> list[Path]:
    chosen = _clearest(findings, MOST)
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    with styled():
        figure, axes = canvas(columns, rows=rows, width=4.6, height=4.0)
        for axis, finding in zip(axes, chosen, strict=False):
            draw_finding(axis, finding)
        for axis in axes[len(chosen) :]:
            axis.remove()
        points = POINTS.get(kind, "Points: single runs")
        if kind not in POINTS and any(group.n > 1 for finding in chosen for group in finding.groups):
            points += f"; bars: mean with {_level(result)} t interval"
        return save(figure, folder, _name(result, kind), _caption(result, points, findings, chosen))


def _estimates(result: Result, kind: str, findings: Sequence[Finding], folder: Path) -> list[Path]:
    """One row an estimate, one panel a kind of estimate."""
    panels: dict[str, list[Finding]] = {}
    for finding in findings:
        panels.setdefault(_what(finding), []).append(finding)
    chosen = {what: _clearest(rows, MOST_ROWS) for what, rows in panels.items()}
    heights = [1.2 + 0.4 * len(rows) for rows in chosen.values()]
    with styled():
        figure, axes = canvas(1, rows=len(chosen), width=9.0, height=sum(heights) / len(heights), heights=heights)
        for axis, (what, rows) in zip(axes, chosen.items(), strict=True):
            estimate_rows(axis, rows, what=what)
        points = f"Bars: {_level(result)} intervals where there is one; filled: supported"
        if any(group.n for finding in findings for group in finding.groups):
            points += "; grey points: single seeds"
        drawn = [finding for rows in chosen.values() for finding in rows]
        return save(figure, folder, _name(result, kind), _caption(result, points, findings, drawn))


def _what(finding: Finding) -> str:
    """What a row's estimate is, and its unit."""
    if finding.about.get("quantity") == "rate":
        return "difference of refusal rates" if " against " in finding.sentence else "refusal rate"
    return finding.effect.method + (f" ({finding.unit})" if finding.unit else "")


def _caption(result: Result, points: str, findings: Sequence[Finding], drawn: Sequence[Finding]) -> str:
    first = _clearest(drawn, 1)[0]
    metric = first.about.get("metric", "")
    left = len(findings) - len(drawn)
    more = f" {left} more findings of this kind are not drawn." if left else ""
    sizes = sorted({finding.tests[0].n or finding.effect.n for finding in drawn})
    n = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return (
        f"{points}. n = {n}. {first.evidence.method[:1].upper()}{first.evidence.method[1:]}. "
        f"{f'Metric {metric}, split' if metric else 'Split'} {first.about.get('split') or 'all'}; p adjusted over "
        f"{result.looks} looks.{more}"
    )


def _clearest(findings: Sequence[Finding], most: int) -> list[Finding]:
    return sorted(findings, key=lambda f: (_ORDER.index(f.verdict), 1.0 if f.p is None else f.p))[:most]


def _level(result: Result) -> str:
    return f"{100 * (1 - float(result.options['alpha'])):g} %"


def _name(result: Result, kind: str) -> str:
    return f"{result.study}-{kind}".replace(" ", "-")
