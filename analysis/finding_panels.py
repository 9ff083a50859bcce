"""Panels of findings' figures: one function a kind of picture, every run a point."""

import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.colours import ACCENTS, COLOURS, GREY
from analysis.figures import interval_rows, label, legend_below
from analysis.findings import Finding, Group
from analysis.stats.intervals import mean_interval
from analysis.verdicts import unit_of
from rhodb.vocabulary import METRICS

WIDTH: Final = 60
"""Characters of a line of a panel's title."""
TITLE_LINES: Final = 6
_TAILS = re.compile(
    r"[;,] (?:Welch |exact )?p = |; (?:a spread|scores that|an axis|start and first|the test asks|it is the reference|"
    r"no prompt|at least|\d+ random|neither|nothing to compare)"
)
_EXPERIMENT = re.compile(r" \([^()]*[_…][^()]*\)")
_SETTING = re.compile(r" (?![λγα])[a-z]\w*=[\w.…-]+")


def headline(finding: Finding) -> str:
    """What was found, without the p values and remarks that follow in its sentence."""
    return _TAILS.split(finding.sentence)[0].rstrip(".")


def title(finding: Finding) -> str:
    """The headline for a panel: owners of models, experiments and settings stand below the axis instead."""
    text = headline(finding)
    for model in finding.about.get("model", "").split(" / "):
        text = text.replace(model, model.rpartition("/")[2]) if model else text
    if finding.verdict == "artefact" and "by regression to the mean" in finding.sentence:
        text += ", as regression to the mean has it"
    return plain(text)


def plain(text: str) -> str:
    """A label without experiments in parentheses and settings other than λ, γ and α."""
    return _SETTING.sub("", _EXPERIMENT.sub("", text))


def place(finding: Finding) -> str:
    """Where the finding was made, as far as its title does not say so."""
    about = finding.about
    sides = [f"{side}: {about[side]}" for side in ("a", "b") if about.get(side)]
    stratum = "; ".join(sides) or about.get("stratum", "")
    return "" if plain(stratum) == stratum and stratum in title(finding) else stratum


def quantity(finding: Finding) -> str:
    """What the values of a finding are, with its unit."""
    metric = finding.about.get("metric", "") or "value"
    unit = finding.unit or (unit_of(metric) if metric in METRICS else "")
    return ("Δ " if finding.about.get("quantity") == "delta" else "") + metric + (f" ({unit})" if unit else "")


def draw_finding(axis: Axes, finding: Finding) -> None:
    """One finding: its picture, title and, in small letters, the stratum."""
    detector = finding.about.get("detector", "")
    groups = [group for group in finding.groups if group.n]
    x, y = PANELS.get(detector, strip)(axis, finding, groups)
    where = "\n".join(textwrap.wrap(place(finding), 66)[:4])
    label(axis, title="", x=x, y=y)
    if where:
        axis.set_xlabel(f"{x}\n{where}" if x else where, fontsize=7 if x else 6.5, color=GREY)
    p = "" if finding.p_adjusted is None else f"p = {finding.p:.2g}, adjusted {finding.p_adjusted:.2g}"
    lines = textwrap.wrap(title(finding), WIDTH)
    if len(lines) > TITLE_LINES:
        lines = [*lines[: TITLE_LINES - 1], textwrap.shorten(" ".join(lines[TITLE_LINES - 1 :]), WIDTH)]
    axis.set_title("\n".join([*lines, *([p] if p else [])]), loc="left", fontsize=7.5)


def strip(axis: Axes, finding: Finding, groups: Sequence[Group]) -> tuple[str, str]:
    """One column a group: its points, and mean with t interval where there are two or more values."""
    for at, group in enumerate(groups):
        colour = COLOURS.get(group.label) or COLOURS.get(finding.about.get("behavior", ""), ACCENTS[0])
        axis.scatter(at + _spread(group.n), group.values, s=14, color=colour, alpha=0.8, zorder=3)
        mean = mean_interval(group.values)
        if mean.value is not None and mean.low is not None and mean.high is not None:
            bar = [[mean.value - mean.low], [mean.high - mean.value]]
            axis.errorbar(at + 0.28, mean.value, yerr=bar, fmt="_", color=GREY, capsize=3, markersize=9, linewidth=1.2)
    _columns(axis, groups)
    _zero(axis)
    y = quantity(finding)
    return "", f"first component of standardised {y.partition(' (')[0]}" if _is(finding, "geometry") else y


def seeds_joined(axis: Axes, finding: Finding, groups: Sequence[Group]) -> tuple[str, str]:
    """The same, with the points of a seed joined, and the seed that the finding names in black."""
    named = re.search(r"seed (\d+)[, ]", finding.sentence)
    odd = int(named[1]) if named else None
    table = np.array([group.values for group in groups])
    at = np.arange(len(groups))[:, None] + _spread(groups[0].n)
    for k, seed in enumerate(groups[0].seeds):
        black = seed == odd
        axis.plot(at[:, k], table[:, k], color="black" if black else "#BFBFBF", linewidth=1.2 if black else 0.7)
        if black:
            axis.annotate(f" {seed}", (at[-1, k], table[-1, k]), fontsize=7, va="center")
    return strip(axis, finding, groups)


def pairs(axis: Axes, finding: Finding, groups: Sequence[Group]) -> tuple[str, str]:
    """Two behaviors of the same runs against each other; of two strata in two colours."""
    for k, (a, b) in enumerate(zip(groups[::2], groups[1::2], strict=True)):
        stratum = plain(a.label.partition(", ")[2])
        axis.scatter(a.values, b.values, color=ACCENTS[k], marker="o^"[k], s=22, label=stratum, alpha=0.9)
    if len(groups) > 2:
        axis.legend(loc="best", fontsize=7)
    axis.xaxis.set_major_locator(MaxNLocator(6))
    x, y = (group.label.partition(", ")[0] for group in groups[:2])
    return f"{x}, {quantity(finding)}", f"{y}, {quantity(finding)}"


def profile(axis: Axes, finding: Finding, groups: Sequence[Group]) -> tuple[str, str]:
    """Values over layers; the interval of the peak is shaded."""
    (group,) = groups
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.plot(group.seeds, group.values, marker="o", markersize=3, color=COLOURS.get(group.label, GREY))
    if finding.effect.low is not None and finding.effect.high is not None:
        axis.axvspan(finding.effect.low, finding.effect.high, color=GREY, alpha=0.1, linewidth=0)
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return "layer", quantity(finding)


def lines(axis: Axes, finding: Finding, groups: Sequence[Group]) -> tuple[str, str]:
    """Values of a grid over its second axis, a line of means for each level of the first; every run a point."""
    name, _, levels = finding.about.get("levels", "").partition(": ")
    for k, group in enumerate(groups):
        colour, style = ACCENTS[k % len(ACCENTS)], ("-", "--", ":")[k // len(ACCENTS) % 3]
        columns = np.array(group.seeds)
        shift = 0.03 * (k - (len(groups) - 1) / 2)
        means = [float(np.mean(np.array(group.values)[columns == c])) for c in np.unique(columns)]
        axis.plot(np.unique(columns) + shift, means, style, color=colour, linewidth=1.2, label=group.label)
        axis.scatter(columns + shift, group.values, s=12, color=colour, alpha=0.8, zorder=3)
    names = levels.split(", ")
    axis.set_xticks(range(len(names)), names)
    legend_below(axis)
    return name, quantity(finding)


def doses(axis: Axes, finding: Finding, groups: Sequence[Group]) -> tuple[str, str]:
    """Values over λ of two models, each with its least-squares line."""
    models = list(dict.fromkeys(group.label.rpartition(" λ=")[0] for group in groups))
    for k, model in enumerate(models):
        own = [group for group in groups if group.label.rpartition(" λ=")[0] == model]
        x = np.concatenate([np.full(group.n, float(group.label.rpartition("=")[2])) for group in own])
        y = np.concatenate([group.values for group in own])
        name = model.rpartition("/")[2]
        axis.scatter(x + 0.012 * (k - 0.5), y, color=ACCENTS[k], marker="o^"[k % 2], s=16, alpha=0.8, label=name)
        slope, start = np.polyfit(x, y, 1)
        ends = np.array([x.min(), x.max()])
        axis.plot(ends, start + slope * ends, color=ACCENTS[k], linewidth=1.2)
    _zero(axis)
    axis.legend(loc="best", fontsize=7)
    return "λ", quantity(finding)


def estimate_rows(axis: Axes, rows: Sequence[Finding], *, what: str) -> None:
    """One row an estimate with its interval; where there are runs, each one's own value as a small point."""
    axis.axvline(0, color=GREY, linewidth=0.8)
    names = []
    for y, finding in enumerate(rows):
        about, effect = finding.about, finding.effect
        colour = COLOURS.get(about.get("behavior", ""), ACCENTS[0])
        value = effect.value or 0.0
        own = own_values(finding)
        if own.size:
            axis.scatter(own, y + 0.24 + 0.5 * _spread(len(own)), s=9, color=GREY, alpha=0.7, linewidth=0, zorder=3)
        if effect.low is not None and effect.high is not None:
            axis.plot([effect.low, effect.high], [y, y], color=colour, linewidth=1.4)
        filled = finding.verdict in ("supported", "contradicted")
        axis.plot(value, y, "o", markersize=5, color=colour, markerfacecolor=colour if filled else "white")
        p = "" if finding.p_adjusted is None else f"  p = {finding.p:.2g}, adjusted {finding.p_adjusted:.2g}"
        axis.annotate(f"{value:.3g}{p}", (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=7)
        where = plain(f"{about.get('model', '').rpartition('/')[2]}, {about.get('stratum', '')}")
        first = about.get("metric" if about.get("quantity") == "rate" else "behavior", "")
        names.append("\n".join([textwrap.shorten(first, 60), textwrap.shorten(where, 84)]))
    interval_rows(axis, names)
    label(axis, title="", x=what, y="")
    axis.set_title("\n".join(textwrap.wrap(title(rows[0]), 84)[:4]), loc="left", fontsize=8)


def own_values(finding: Finding) -> np.ndarray:
    """Each run's own value of a rate; of a difference, run by run where both sides have the seed, else against the
    other side's mean."""
    groups = [group for group in finding.groups if group.n]
    if not groups:
        return np.empty(0)
    values = np.array(groups[0].values)
    if len(groups) == 1:
        return values
    other = dict(zip(groups[1].seeds, groups[1].values, strict=True))
    mean = float(np.mean(groups[1].values))
    return np.asarray(values - np.array([other.get(seed, mean) for seed in groups[0].seeds]))


def _spread(n: int) -> np.ndarray:
    return np.linspace(-0.12, 0.12, n) if n > 1 else np.zeros(1)


def _is(finding: Finding, detector: str) -> bool:
    return finding.about.get("detector") == detector


def _zero(axis: Axes) -> None:
    """A line at zero, where the values lie on both sides of it."""
    low, high = axis.get_ylim()
    if low < 0 < high:
        axis.axhline(0, color=GREY, linewidth=0.8, zorder=1)


def _columns(axis: Axes, groups: Sequence[Group]) -> None:
    """Names below the columns: as short as tells them apart."""
    names = [plain(group.label.removeprefix("PC1 ").rpartition("/")[2]) for group in groups]
    if len(set(names)) < len(names):
        names = [group.label for group in groups]
    long, many = max(map(len, names), default=0) * len(groups) > 56, len(groups) > 5
    axis.set_xticks(range(len(groups)))
    axis.set_xticklabels(
        ["\n".join(textwrap.wrap(name, 24)[:4]) for name in names],
        rotation=(60 if many else 20) if long else 0, ha="right" if long else "center", rotation_mode="anchor",
        fontsize=6 if many else 7,
    )  # fmt: skip
    axis.set_xlim(-0.6, len(groups) - 0.2)


PANELS: Final[dict[str, Callable[[Axes, Finding, Sequence[Group]], tuple[str, str]]]] = {
    "coupling": pairs,
    "coupling-change": pairs,
    "layers": profile,
    "additivity": lines,
    "transfer": doses,
    "reversal": seeds_joined,
    "responder": seeds_joined,
    "interaction": seeds_joined,
}
"""What is drawn of a detector's findings, where it is not columns of points."""
