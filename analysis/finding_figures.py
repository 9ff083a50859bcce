"""Figures of findings: every seed's point, the mean with its interval, the finding as the title."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from analysis.figures import ACCENTS, COLOURS, GREY, canvas, label, save, styled
from analysis.findings import Finding, Group, Result
from analysis.stats.intervals import mean_interval

MOST = 6
"""Panels of one figure: the findings of a detector with the clearest verdicts."""
_ORDER = ("supported", "artefact", "degenerate", "suggestive", "not supported", "not enough data")


def draw(result: Result, folder: Path) -> list[Path]:
    """One figure for each detector (or study) that found groups to draw; the files written."""
    kinds: dict[str, list[Finding]] = {}
    for finding in result.findings:
        if any(group.n for group in finding.groups):
            kinds.setdefault(finding.about.get("detector", result.study), []).append(finding)
    return [path for kind, findings in kinds.items() for path in _draw_kind(result, kind, findings, folder)]


def _draw_kind(result: Result, kind: str, findings: Sequence[Finding], folder: Path) -> list[Path]:
    chosen = sorted(findings, key=lambda f: (_ORDER.index(f.verdict), 1.0 if f.p is None else f.p))[:MOST]
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    with styled():
        figure, axes = canvas(columns, rows=rows, width=4.6, height=4.0)
        for axis, finding in zip(axes, chosen, strict=False):
            _draw_finding(axis, finding)
        for axis in axes[len(chosen) :]:
            axis.remove()
        points = "Points: single runs; bars: mean with 95 % t interval"
        left = len(findings) - len(chosen)
        more = f" {left} more findings of this kind are not drawn." if left else ""
        name = f"{result.study}-{kind}".replace(" ", "-")
        caption = (
            f"{'Points: layers' if kind == 'layers' else points}. {chosen[0].evidence.method}. "
            f"Split {chosen[0].about.get('split') or 'all'}; p adjusted over {result.looks} looks.{more}"
        )
        return save(figure, folder, name, caption)


def _draw_finding(axis: Axes, finding: Finding) -> None:
    about = finding.about
    groups = [group for group in finding.groups if group.n]
    quantity = ("Δ " if about.get("quantity") == "delta" else "") + about.get("metric", "value")
    p = "" if finding.p_adjusted is None else f", adjusted p = {finding.p_adjusted:.2g}"
    title = f"{about.get('behavior', '')}: {finding.verdict}{p}"
    place = f"{about.get('model', '')}, {about.get('stratum', '')}"
    unit = f" ({finding.unit})" if finding.unit else ""
    if about.get("detector") == "coupling" and len(groups) == 2 and groups[0].seeds == groups[1].seeds:
        axis.scatter(groups[0].values, groups[1].values, color=ACCENTS[0], s=18)
        x, y = groups[0].label, f"{groups[1].label}, {quantity}{unit}"
    elif about.get("detector") == "layers":
        colour = COLOURS.get(groups[0].label, GREY)
        axis.axhline(0, color=GREY, linewidth=0.8)
        axis.plot(groups[0].seeds, groups[0].values, marker="o", markersize=3, color=colour)
        x, y = "layer", quantity + unit
    else:
        _strip(axis, groups, about.get("behavior", ""))
        component = f"first component of standardised {quantity} (no unit)"
        x, y = "", component if about.get("detector") == "geometry" else quantity + unit
    label(axis, title="", x=x, y=y)
    lines = [*textwrap.wrap(title, 58), *textwrap.wrap(place, 58)[:3]]
    axis.set_title("\n".join(lines), loc="left", fontsize=7.5)


def _strip(axis: Axes, groups: Sequence[Group], behavior: str) -> None:
    """One column a group: its points, and mean with t interval where there are two or more values."""
    for at, group in enumerate(groups):
        colour = COLOURS.get(group.label) or COLOURS.get(behavior, ACCENTS[0])
        spread = np.linspace(-0.12, 0.12, group.n) if group.n > 1 else np.zeros(1)
        axis.scatter(at + spread, group.values, s=14, color=colour, alpha=0.8, zorder=3)
        mean = mean_interval(group.values)
        if mean.value is not None and mean.low is not None and mean.high is not None:
            bar = [[mean.value - mean.low], [mean.high - mean.value]]
            axis.errorbar(at + 0.28, mean.value, yerr=bar, fmt="_", color=GREY, capsize=3, markersize=9, linewidth=1.2)
    long = max((len(group.label) for group in groups), default=0) * len(groups) > 48
    axis.set_xticks(range(len(groups)))
    axis.set_xticklabels(
        ["\n".join(textwrap.wrap(group.label, 24)[:2]) for group in groups],
        rotation=30 if long else 0, ha="right" if long else "center", fontsize=7,
    )  # fmt: skip
    axis.set_xlim(-0.6, len(groups) - 0.2)
