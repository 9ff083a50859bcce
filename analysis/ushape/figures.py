"""The figure of the U-shape study, named as in the notes."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from analysis.colours import ACCENTS, COLOURS, GREY
from analysis.figures import canvas, label, save, styled
from analysis.stats.intervals import sd_interval
from analysis.ushape.model import variance
from analysis.ushape.report import NAMES
from analysis.ushape.result import SeriesResult, UshapeResult

PANELS = 4
"""Series drawn at most."""


def draw(result: UshapeResult, folder: Path) -> list[Path]:
    """SDs with intervals, the fit and its parts, λ* with its interval, and the rivals; one panel a series."""
    shown = result.results[:PANELS]
    caption = (
        f"{result.model}. Points: SD over seeds with 95 % interval (χ²). Bands at the foot: λ* in 90 % of refits "
        "(blue: χ²; red: seeds resampled); an arrow says that the band goes on beyond the axis."
    )
    if len(shown) < len(result.results):
        caption += f" Drawn: the first {len(shown)} of {len(result.results)} behaviors; --behavior chooses."
    with styled():
        figure, axes = canvas(len(shown), width=4.8, height=3.8)
        for axis, found in zip(axes, shown, strict=True):
            _panel(axis, found, result.operating)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(7, 3 * len(shown)))
        return save(figure, folder, "gamma_variance_ushape", caption)


def _panel(axis: Axes, found: SeriesResult, operating: float | None) -> None:
    series = found.series
    last = float(series.weights.max())
    x = np.linspace(0, 1.25 * last, 300)
    for arm in series.arms:
        ends = sd_interval(arm.sample())
        if ends.low is not None and ends.high is not None:
            axis.plot([arm.weight] * 2, [ends.low, ends.high], color=COLOURS[series.behavior], linewidth=1.5)
    axis.plot(series.weights, series.sds, "o", color=COLOURS[series.behavior], markersize=7, label="measured")
    axis.plot(x, found.fit.sigma(x)[0], color="black", linewidth=1.8, label="U-shape, least squares")
    logs = np.log(found.fit.parameters)
    decay = np.sqrt(variance("decay", logs.T[:2], x)[0][:, 0])
    axis.plot(x, decay, color=GREY, linestyle=":", label="its falling part")
    axis.plot(x, found.fit.parameters[0, 2] * np.sqrt(x), color=GREY, linestyle="--", label="its growing part")
    compared = found.comparison
    axis.plot(x, compared.fits["decay"].sigma(x)[0], color=ACCENTS[2], label="decay only, likelihood")
    axis.plot(x, compared.fits["constant"].sigma(x)[0], color=ACCENTS[4], label="constant, likelihood")
    place = axis.get_xaxis_transform()
    for i, spread in enumerate(found.uncertainties):
        height = 0.035 * (i + 1)
        low, high = spread.ci90
        axis.plot(
            [low, min(high, x[-1])], [height] * 2, color=ACCENTS[i], linewidth=4, solid_capstyle="butt", transform=place
        )
        if high > x[-1]:
            axis.plot(x[-1], height, ">", color=ACCENTS[i], markersize=8, clip_on=False, transform=place)
    axis.plot(found.optimum, 0.035, "|", color="black", markersize=12, markeredgewidth=2, transform=place)
    if operating is not None:
        axis.axvline(operating, color="black", linewidth=0.8, linestyle="--", label="default λ")
    axis.set_xlim(-0.03 * last, x[-1])
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_ylim(float(series.sds.min()) / 4, 3.2 * float(series.sds.max()))
    title = f"{series.behavior}: {series.name}\nλ* {found.optimum:.3f}, AICc prefers {NAMES[compared.preferred]}"
    label(axis, title=title, x="weight λ", y="SD over seeds (nats/token)")
