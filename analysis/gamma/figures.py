"""Figures of the γ* study, named as in the notes."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.colours import ACCENTS, COLOURS, DIVERGING, GREY
from analysis.figures import canvas, interval_rows, label, legend_below, save, styled
from analysis.gamma.critical import fieller_set, power_law
from analysis.gamma.phase import Surface
from analysis.gamma.result import EXPONENTS, AmplificationResult, GammaResult
from analysis.stats.results import Array, RatioSet


def draw(result: GammaResult, folder: Path) -> list[Path]:
    """All figures for which there are numbers; the paths written."""
    paths = []
    with styled():
        if result.monte_carlo:
            paths += distribution(result, folder)
        if result.amplification is not None:
            paths += amplification(result.amplification, result, folder)
        if result.tornado or result.two_arms:
            paths += sensitivity(result, folder)
        if result.surfaces:
            paths += phase_diagram(result, folder)
    return paths


def _source(result: GammaResult) -> str:
    kind = "published figures" if result.inputs.source == "published" else "this warehouse"
    return f"Inputs: {kind} ({result.inputs.model}), λ {result.inputs.operating.weight:g}."


def distribution(result: GammaResult, folder: Path) -> list[Path]:
    """Samples of γ*, and the intervals that the assumptions lead to."""
    figure, (left, right) = canvas(2, width=5.6, height=4.6)
    for found, colour in zip(result.monte_carlo, ACCENTS, strict=False):
        counts, edges = found.histogram
        height = counts / np.diff(edges)
        left.stairs(height / height.max(), edges, fill=True, color=colour, alpha=0.45, label=_short(found.case.name))
        left.axvline(found.median, color=colour, linewidth=1.2)
    left.axvline(result.inputs.operating.gamma, color="black", linestyle="--", label="operating γ")
    legend_below(left)
    left.set_ylim(0, 1.08)
    end = max(*(_most(found.histogram) for found in result.monte_carlo), 1.05 * result.inputs.operating.gamma)
    left.set_xlim(0.0, end)
    label(left, title=_margin_found(result), x="γ* (nats/token)", y="density / its maximum")
    _assumptions(right, result)
    cut = "" if end >= max(found.histogram[1][-1] for found in result.monte_carlo) else ", up to 97.5 % of them"
    caption = (
        f"{_source(result)} Left: {result.monte_carlo[0].samples} draws{cut}; lines: medians. Right: what the "
        "assumptions change; lines: sets or intervals."
    )
    return save(figure, folder, "gamma_mc_distribution", caption)


def _most(histogram: tuple[Array, Array]) -> float:
    """The edge below which 97.5 % of the samples lie."""
    counts, edges = histogram
    share = np.cumsum(counts) / counts.sum()
    return float(edges[min(int(np.searchsorted(share, 0.975)) + 1, len(edges) - 1)])


def _margin_found(result: GammaResult) -> str:
    """What the sounder of the scenarios says of γ*, as a title."""
    case = result.inputs.sound or result.inputs.scenarios[0]
    found = fieller_set(case, level=result.level, welch=case.sizes is not None)
    name = f"γ* of {result.inputs.target}"
    if found.kind == "bounded" and found.low is not None and found.high is not None:
        return f"{name} is {found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
    return f"{name} is not determined: the slope may be 0"


def _assumptions(axis: Axes, result: GammaResult) -> None:
    """γ* and its set under each scenario, then under other shapes (two margins) or in fits to all margins."""
    target, cases = result.inputs.target, result.inputs.scenarios
    names: list[str] = []
    for case in cases:
        _bar(axis, len(names), fieller_set(case, level=result.level, welch=case.sizes is not None), ACCENTS[0])
        names.append(_short(case.name, 40))
    if len(result.inputs.sweeps[target]) == 2:
        for exponent in EXPONENTS:
            star = power_law(cases[0], exponent)
            if star is not None and exponent != 1:
                axis.plot(star, len(names), "D", color=ACCENTS[1])
                names.append(f"Δ grows as γ^{exponent:.2g}")
    if target in result.lines:
        _bar(axis, len(names), result.lines[target].gamma_star, ACCENTS[2])
        names.append("all margins, straight line")
    if target in result.curves and (ends := result.curves[target].gamma_star).value is not None:
        reach = (ends.low or 0.0, ends.high or result.inputs.operating.gamma)
        axis.plot(reach, [len(names)] * 2, color=ACCENTS[2], linewidth=2)
        axis.plot(ends.value, len(names), "o", color=ACCENTS[2])
        names.append("all margins, saturating curve")
    interval_rows(axis, names)
    axis.axvline(result.inputs.operating.gamma, color="black", linestyle="--")
    axis.set_xlim(left=0.0)
    label(axis, title=f"Fieller sets {100 * result.level:g} %, and other shapes", x="γ* (nats/token)", y="")


def _short(name: str, width: int = 60) -> str:
    """A name on lines of at most `width` characters."""
    return "\n".join(textwrap.wrap(name, width))


def _bar(axis: Axes, row: int, found: RatioSet, colour: str) -> None:
    """A point with its interval; of a set that is no interval it is said which."""
    if found.kind == "bounded" and found.low is not None and found.high is not None:
        axis.plot([found.low, found.high], [row, row], color=colour, linewidth=2)
    else:
        text = "no value is rejected" if found.kind == "whole line" else "set is unbounded"
        axis.annotate(text, (1.0, row), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    if found.value is not None and found.kind == "bounded":
        axis.plot(found.value, row, "o", color=colour)


FACTORS = (0.2, 1e3)
"""Ends of the axis of factors."""


def amplification(found: AmplificationResult, result: GammaResult, folder: Path) -> list[Path]:
    """Factors of the ratio of two swings on a logarithmic axis, and A(ρ) at the two baselines."""
    figure, (left, right) = canvas(2, width=5.4)
    rows: list[tuple[str, float, float | None, float | None]] = []
    if found.rounded is not None:
        rows.append(
            ("ratio of the printed swings\n(rounding)", found.rounded.ratio, found.rounded.low, found.rounded.high)
        )
    if found.swings is not None and found.swings.ratio.value is not None:
        ratio = found.swings.ratio
        bounded = ratio.kind == "bounded"
        # Of an unbounded set around a positive ratio, the part above its upper end fits a logarithmic axis.
        ends = (ratio.low, ratio.high) if bounded else (max(ratio.high or 1.0, 1.0), FACTORS[1])
        name = "ratio over seeds" + ("" if bounded else "\n(set is unbounded)")
        rows.append((name, found.swings.ratio.value, *ends))
    if found.angular is not None:
        turn = found.angular
        rows.append(("angular factor\n(angles ± SD)", turn.ratio, turn.interval.low, turn.interval.high))
    if found.rounded is not None and found.rounded.residual is not None:
        rows.append(("left over, said to be A", found.rounded.residual, None, None))
    if found.baselines is not None:
        ratios = found.baselines.ratios.values()
        rows.append(("A at the two baselines\n(ε 0 to 0.01)", max(ratios), min(ratios), max(ratios)))
    for i, (_, value, low, high) in enumerate(rows):
        if value <= 0:
            left.annotate(
                f"{value:.3g}: not on this axis", (1, i), xytext=(5, 0), textcoords="offset points", va="center"
            )
            continue
        if low is not None and high is not None:
            left.plot([max(low, 0.1), high], [i, i], color=ACCENTS[0], linewidth=2)
        left.plot(value, i, "o", color=ACCENTS[0])
        left.annotate(f"{value:.3g}", (value, i), xytext=(3, 5), textcoords="offset points", fontsize=8)
    left.set_xscale("log")
    left.set_xlim(*FACTORS)
    left.axvline(1, color="black", linewidth=0.8)
    interval_rows(left, [row[0] for row in rows])
    label(left, title=_swing_found(found), x="factor", y="")
    _curve_of_a(right, found)
    caption = f"{_source(result)} Left: factors with intervals. Right: A(ρ) = 1/sqrt(|ρ| + 0.005)."
    return save(figure, folder, "gamma_amplification", caption)


def _swing_found(found: AmplificationResult) -> str:
    """The ratio of the swings, as a title."""
    first, second = found.given.behaviors
    if found.swings is not None and found.swings.ratio.value is not None:
        value, sure = found.swings.ratio.value, found.swings.ratio.kind == "bounded"
    elif found.rounded is not None:
        value, sure = found.rounded.ratio, True
    else:
        return f"{first} against {second}"
    return f"{first} swings {value:.3g} times as far as {second}{'' if sure else ': not bounded'}"


def _curve_of_a(axis: Axes, found: AmplificationResult) -> None:
    title = "A(ρ): what baseline proximity to zero predicts"
    if found.baselines is not None:
        title = f"The baselines predict a factor of at most {max(found.baselines.ratios.values()):.3g}"
    label(axis, title=title, x="score before training", y="A")
    if found.baselines is None:
        axis.text(0.5, 0.5, "no baseline scores", ha="center", transform=axis.transAxes)
        return
    offset = 0.005
    ends = 3 * max(abs(found.baselines.first), abs(found.baselines.second), 0.02)
    x = np.linspace(-ends, ends, 601)
    axis.plot(x, 1 / np.sqrt(np.abs(x) + offset), color=GREY)
    for name, score in zip(found.given.behaviors, (found.baselines.first, found.baselines.second), strict=True):
        axis.plot(
            score, 1 / np.sqrt(abs(score) + offset), "o", color=COLOURS[name], markersize=8, label=f"{name} {score:.2g}"
        )
    axis.set_ylim(bottom=0)
    axis.legend(loc="lower center")


def sensitivity(result: GammaResult, folder: Path) -> list[Path]:
    """One at a time, and Sobol indices."""
    bars = [bar for bar in (result.tornado or result.two_arms) if bar.range >= 0]
    figure, (left, right) = canvas(2, width=5.4)
    for row, bar in enumerate(bars):
        left.barh(row, bar.range, left=bar.low, height=0.6, color=ACCENTS[0])
        if bar.discarded:
            left.annotate(
                f"{100 * bar.discarded:.0f} % of its range dropped", (bar.high, row), xytext=(-4, 0),
                textcoords="offset points", ha="right", va="center", fontsize=8, color="white",
            )  # fmt: skip
        elif bar.range == 0:
            left.annotate(
                "no effect", (bar.low, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8
            )
    left.set_xlim(left=0.0)
    interval_rows(left, [f"{INPUT_NAMES[bar.name]}\n{bar.input_low:.3g} to {bar.input_high:.3g}" for bar in bars])
    if result.inputs.scenarios:
        left.axvline(result.inputs.scenarios[0].point, color="black", linestyle="--")
    yardstick = (
        "5th to 95th percentile of the notes' ranges" if result.tornado else "±1.96 standard errors of each input"
    )
    widest = max(bars, key=lambda bar: bar.range)
    told = f"{INPUT_NAMES[widest.name]} moves γ* most" if result.sobol else "γ* is not determined"
    label(left, title=f"One at a time: {told}", x="γ* (nats/token)", y="")
    _shares(right, result)
    caption = f"{_source(result)} Left: γ* over the {yardstick}. Dashed: γ* of the unchanged inputs."
    return save(figure, folder, "gamma_sensitivity", caption)


def _shares(axis: Axes, result: GammaResult) -> None:
    """Total Sobol indices, grouped by input."""
    x = "total Sobol index: share of the variance of γ*"
    if not result.sobol:
        label(axis, title="All at once: γ* has no variance", x=x, y="")
        axis.text(0.5, 0.5, "none: the slope may be zero", ha="center", transform=axis.transAxes)
        return
    first = result.sobol[0]
    most = int(np.argmax(first.total))
    share = f"{100 * float(first.total[most]):.0f} %"
    label(axis, title=f"All at once: {INPUT_NAMES[first.inputs[most]]} has {share} ({first.name})", x=x, y="")
    names = list(dict.fromkeys(name for found in result.sobol for name in found.inputs))
    height = 0.8 / max(len(result.sobol), 1)
    for i, found in enumerate(result.sobol):
        rows = [names.index(name) + (i - (len(result.sobol) - 1) / 2) * height for name in found.inputs]
        axis.barh(
            rows, found.total, height=height * 0.9, color=ACCENTS[i], xerr=found.total_half, label=found.name,
            error_kw={"linewidth": 1},
        )  # fmt: skip
    interval_rows(axis, [INPUT_NAMES[name] for name in names])
    axis.set_xlim(0, 1.05)
    legend_below(axis)


INPUT_NAMES = {
    "d0": "Δ without margin",
    "d1": "Δ with margin",
    "theta": "angle θ (degree)",
    "s_inf": "s∞",
    "baseline": "baseline score",
    "exponent": "exponent of γ",
}


def phase_diagram(result: GammaResult, folder: Path) -> list[Path]:
    """The fitted surface of each behavior, its sign change, the measured cells and the operating point."""
    chosen = {surface.behavior: surface for surface in reversed(result.surfaces)}
    surfaces = [chosen[b] for b in result.inputs.sweeps if b in chosen]
    figure, axes = canvas(min(len(surfaces), 4), width=3.9, rows=-(-len(surfaces) // 4))
    for axis, surface in zip(axes, surfaces, strict=False):
        _plane(axis, surface, result)
    for axis in axes[len(surfaces) :]:
        axis.remove()
    caption = (
        f"{_source(result)} Colour: Δ of the fitted surface ({surfaces[0].construction}), orange below zero; circles: "
        "measured cells, same colours; black: sign change, bars its interval; star: operating point; "
        "diamond: γ* of the two arms at that λ."
    )
    return save(figure, folder, "gamma_phase_diagram", caption)


def _plane(axis: Axes, surface: Surface, result: GammaResult) -> None:
    extent = result.inputs.extent
    gammas, weights = np.linspace(0, extent[0], 200), np.linspace(0, extent[1], 200)
    values = surface.at(gammas[None, :], weights[:, None])
    reach = max(float(np.abs(values).max()), float(np.abs(surface.means).max()))
    image = axis.pcolormesh(gammas, weights, values, cmap=DIVERGING, vmin=-reach, vmax=reach, rasterized=True)
    axis.figure.colorbar(image, ax=axis, label="Δ (nats/token)", shrink=0.85)
    if values.min() < 0 < values.max():
        axis.contour(gammas, weights, values, levels=[0.0], colors="black", linewidths=1.5)
        for weight in sorted({cell.weight for cell in surface.cells if cell.weight > 0}):
            found = surface.critical(weight, level=result.level)
            if found.kind == "bounded" and found.low is not None and found.high is not None:
                axis.plot([found.low, found.high], [weight, weight], color="black", linewidth=3, solid_capstyle="butt")
    axis.scatter(
        [cell.gamma for cell in surface.cells], [cell.weight for cell in surface.cells], c=list(surface.means),
        cmap=DIVERGING, vmin=-reach, vmax=reach, s=110, edgecolors="black", linewidths=1.2, zorder=3, clip_on=False,
    )  # fmt: skip
    operating = surface.centre
    axis.plot(operating.gamma, operating.weight, "*", color="white", markeredgecolor="black", markersize=9, zorder=4)
    direct = result.inputs.sound
    if direct is not None and direct.behavior == surface.behavior and direct.means[0] < 0 <= direct.means[1]:
        axis.plot(direct.point, operating.weight, "D", color="white", markeredgecolor="black", markersize=6, zorder=4)
    axis.grid(visible=False)
    axis.set_xlim(0, extent[0])
    axis.set_ylim(0, extent[1])
    axis.xaxis.set_major_locator(MaxNLocator(4))
    label(axis, title="", x="margin γ (nats/token)", y="weight λ")
    axis.set_title(_sign_change(surface, values, result), loc="left", fontsize=9)


def _sign_change(surface: Surface, values: Array, result: GammaResult) -> str:
    """Where the fitted surface changes sign at the operating weight, as a title."""
    if not values.min() < 0 < values.max():
        return f"{surface.behavior}: Δ has one sign everywhere"
    found = surface.critical(surface.centre.weight, level=result.level)
    if found.kind == "bounded" and found.low is not None and found.high is not None:
        at = f"{found.value:.2g} [{found.low:.2g}, {found.high:.2g}]"
        return f"{surface.behavior}: Δ = 0 at γ = {at}"
    return f"{surface.behavior}: where Δ = 0 is not determined"
