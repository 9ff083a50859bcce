"""Figures of findings: every seed's point, the mean with its interval, the finding as the title."""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from analysis.colours import ACCENTS, COLOURS, GREY
from analysis.figures import canvas, interval_rows, label, legend_below, save, styled
from analysis.findings import Finding, Group, Result
from analysis.stats.intervals import mean_interval

MOST = 6
"""Panels of one figure: the findings of a detector with the clearest verdicts."""
MOST_ROWS = 24
"""Rows of a figure of estimates without groups."""
TITLE_LINES = 5
FACTS = ("quality",)
"""Studies whose findings without groups are facts about rows: their numbers have nothing in common to be drawn on."""
LINES = {
    "layers": "Points: layers",
    "additivity": "Points: cells (one run, or the mean of its runs); lines that run in parallel add up",
}
"""What the points of a detector are, where they are not runs of a stratum."""
NAMED_BY = {"refusal rate": "metric", "refusal rate by category": "metric"}
"""What names a row, where it is not the behavior."""
_ORDER = ("supported", "artefact", "degenerate", "suggestive", "not supported", "not enough data")


def draw(result: Result, folder: Path) -> list[Path]:
    """One figure for each detector (or study) that found groups to draw; the files written."""
    kinds: dict[str, list[Finding]] = {}
    bare: dict[str, list[Finding]] = {}
    for finding in result.findings:
        kind = finding.about.get("detector", result.study)
        if any(group.n for group in finding.groups):
            kinds.setdefault(kind, []).append(finding)
        elif finding.effect.value is not None and result.study not in FACTS:
            bare.setdefault(kind, []).append(finding)
    paths = [path for kind, findings in kinds.items() for path in _draw_kind(result, kind, findings, folder)]
    for kind in bare.keys() - kinds.keys():
        paths += _draw_estimates(result, kind, bare[kind], folder)
    return paths


def _draw_kind(result: Result, kind: str, findings: Sequence[Finding], folder: Path) -> list[Path]:
    chosen = _clearest(findings, MOST)
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    with styled():
        figure, axes = canvas(columns, rows=rows, width=4.6, height=4.0)
        for axis, finding in zip(axes, chosen, strict=False):
            _draw_finding(axis, finding)
        for axis in axes[len(chosen) :]:
            axis.remove()
        points = f"Points: single runs; bars: mean with {_level(result)} t interval"
        left = len(findings) - len(chosen)
        more = f" {left} more findings of this kind are not drawn." if left else ""
        name = f"{result.study}-{kind}".replace(" ", "-")
        caption = (
            f"{LINES.get(kind, points)}. n = {_sizes(chosen)}. {chosen[0].evidence.method}. "
            f"Split {chosen[0].about.get('split') or 'all'}; p adjusted over {result.looks} looks.{more}"
        )
        return save(figure, folder, name, caption)


def _clearest(findings: Sequence[Finding], most: int) -> list[Finding]:
    return sorted(findings, key=lambda f: (_ORDER.index(f.verdict), 1.0 if f.p is None else f.p))[:most]


def _level(result: Result) -> str:
    return f"{100 * (1 - float(result.options['alpha'])):g} %"


def _sizes(findings: Sequence[Finding]) -> str:
    sizes = sorted({finding.tests[0].n for finding in findings})
    return f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


def headline(finding: Finding) -> str:
    """What was found, without the p values and remarks that follow in its sentence."""
    return re.split(r"[;,] (?:Welch |exact )?p = |; (?:a spread|scores that)", finding.sentence)[0].rstrip(".")


def _draw_estimates(result: Result, kind: str, findings: Sequence[Finding], folder: Path) -> list[Path]:
    """Findings without groups: one row an estimate, one panel a kind of estimate."""
    panels: dict[str, list[Finding]] = {}
    for finding in findings:
        panels.setdefault(finding.effect.method, []).append(finding)
    chosen = {method: _clearest(rows, MOST_ROWS) for method, rows in panels.items()}
    heights = [1.2 + 0.36 * len(rows) for rows in chosen.values()]
    with styled():
        figure, axes = canvas(1, rows=len(chosen), width=9.0, height=sum(heights) / len(heights), heights=heights)
        for axis, (method, rows) in zip(axes, chosen.items(), strict=True):
            _rows(axis, method, rows)
        left = len(findings) - sum(len(rows) for rows in chosen.values())
        more = f" {left} more findings of this kind are not drawn." if left else ""
        first = _clearest(findings, 1)[0]
        intervals = f"Bars: {_level(result)} intervals where there is one; filled: supported. "
        caption = (
            f"{intervals}n = {_sizes(findings)}. {first.evidence.method}. Split {first.about.get('split') or 'all'}; "
            f"p adjusted over {result.looks} looks.{more}"
        )
        return save(figure, folder, f"{result.study}-{kind}".replace(" ", "-"), caption)


def _rows(axis: Axes, method: str, rows: Sequence[Finding]) -> None:
    axis.axvline(0, color=GREY, linewidth=0.8)
    names = []
    for y, finding in enumerate(rows):
        about, effect = finding.about, finding.effect
        colour = COLOURS.get(about.get("behavior", ""), ACCENTS[0])
        value = effect.value or 0.0
        if effect.low is not None and effect.high is not None:
            axis.plot([effect.low, effect.high], [y, y], color=colour, linewidth=1.4)
        filled = finding.verdict == "supported"
        axis.plot(value, y, "o", markersize=5, color=colour, markerfacecolor=colour if filled else "white")
        p = "" if finding.p_adjusted is None else f"  p = {finding.p:.2g}, adjusted {finding.p_adjusted:.2g}"
        axis.annotate(f"{value:.3g}{p}", (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=7)
        place = f"{about.get('model', '').rpartition('/')[2]}, {about.get('stratum', '')}"
        names.append(
            "\n".join(
                [
                    textwrap.shorten(about.get(NAMED_BY.get(about.get("detector", ""), "behavior"), ""), 60),
                    *textwrap.wrap(place, 56)[:2],
                ]
            )
        )
    interval_rows(axis, names)
    label(axis, title="", x=method + (f" ({rows[0].unit})" if rows[0].unit else ""), y="")
    axis.set_title("\n".join(textwrap.wrap(headline(rows[0]), 84)[:4]), loc="left", fontsize=8)


def _draw_finding(axis: Axes, finding: Finding) -> None:
    about = finding.about
    groups = [group for group in finding.groups if group.n]
    quantity = ("Δ " if about.get("quantity") == "delta" else "") + about.get("metric", "value")
    p = "" if finding.p_adjusted is None else f"p = {finding.p:.2g}, adjusted {finding.p_adjusted:.2g}"
    unit = f" ({finding.unit})" if finding.unit else ""
    if about.get("detector") == "coupling" and len(groups) == 2 and groups[0].seeds == groups[1].seeds:
        axis.scatter(groups[0].values, groups[1].values, color=ACCENTS[0], s=18)
        x, y = groups[0].label, f"{groups[1].label}, {quantity}{unit}"
    elif about.get("detector") == "layers":
        colour = COLOURS.get(groups[0].label, GREY)
        axis.axhline(0, color=GREY, linewidth=0.8)
        axis.plot(groups[0].seeds, groups[0].values, marker="o", markersize=3, color=colour)
        x, y = "layer", quantity + unit
    elif about.get("detector") == "additivity":
        for k, group in enumerate(groups):
            colour, style = ACCENTS[k % len(ACCENTS)], ("-", "--", ":")[k // len(ACCENTS) % 3]
            axis.plot(
                range(group.n), group.values, style, color=colour, marker="o", markersize=3, linewidth=1,
                label=group.label,
            )  # fmt: skip
        axis.set_xticks(range(max(group.n for group in groups)))
        legend_below(axis)
        x, y = "second axis, value by value", quantity + unit
    else:
        _strip(axis, groups, about.get("behavior", ""))
        component = f"first component of standardised {quantity} (no unit)"
        x, y = "", component if about.get("detector") == "geometry" else quantity + unit
    label(axis, title="", x=x, y=y)
    lines = textwrap.wrap(headline(finding), 62)
    lines = [*lines[:TITLE_LINES], *(["..."] if len(lines) > TITLE_LINES else []), *([p] if p else [])]
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
    names = [group.label.rpartition("/")[2] for group in groups]
    long, many = max(map(len, names), default=0) * len(groups) > 48, len(groups) > 5
    axis.set_xticks(range(len(groups)))
    axis.set_xticklabels(
        ["\n".join(textwrap.wrap(name, 26)[:3]) for name in names],
        rotation=(60 if many else 30) if long else 0, ha="right" if long else "center", rotation_mode="anchor",
        fontsize=6 if many else 7,
    )  # fmt: skip
    axis.set_xlim(-0.6, len(groups) - 0.2)
