"""The figure of the probe-noise study, named as in the notes."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, StrMethodFormatter

from analysis.colours import ACCENTS, COLOURS
from analysis.figures import canvas, interval_rows, label, legend_below, save, styled
from analysis.probe_noise.result import NoiseResult


def draw(result: NoiseResult, folder: Path) -> list[Path]:
    """Standard errors per behavior, and the width of the interval of γ* by number of probes."""
    source = "published figures" if result.source == "published" else "probe scores of this warehouse"
    caption = (
        f"Inputs: {source} ({result.model}). Right: 95 % of the samples that pass the filter (0 < γ*, rising line)."
    )
    with styled():
        figure, (left, right) = canvas(2, width=5.2)
        if result.measured:
            _measured(left, result)
        else:
            _formulas(left, result)
        _power(right, result)
        return save(figure, folder, "gamma_probe_noise", caption)


def _formulas(axis: Axes, result: NoiseResult) -> None:
    found = sorted(result.formulas, key=lambda f: -f.sigma)
    for row, formula in enumerate(found):
        hatch = "//" if formula.assumed_zero else None
        axis.barh(row, formula.sigma, color=COLOURS[formula.behavior], hatch=hatch, edgecolor="white")
    interval_rows(axis, [f"{f.behavior} (N {f.n})" for f in found])
    label(axis, title=f"By formula {found[0].behavior} is the noisiest (hatched: ρ = 0 filled in)", x="σ(ρ̂)", y="")


def _measured(axis: Axes, result: NoiseResult) -> None:
    rows = np.arange(len(result.measured))
    for offset, values, name, colour in (
        (-0.2, [m.unpaired_error for m in result.measured], "as if other probes", ACCENTS[1]),
        (0.2, [m.paired_error for m in result.measured], "same probes", ACCENTS[0]),
    ):
        axis.barh(rows + offset, values, height=0.38, color=colour, label=name)
    interval_rows(axis, [f"{m.behavior} (N {m.n}, r {m.correlation:.3f})" for m in result.measured])
    legend_below(axis)
    times = [m.unpaired_error / m.paired_error for m in result.measured if m.paired_error]
    title = "Standard error of Δ over probes"
    if times:
        title = f"Other probes: {min(times):.2g} to {max(times):.2g} times the error of the same"
    label(axis, title=title, x="standard error (nats/token)", y="")


def _power(axis: Axes, result: NoiseResult) -> None:
    seeds = "" if result.seeds_only is None else f", seeds alone {result.seeds_only.width:.2g}"
    label(axis, title=f"Width of the 95 % interval of γ*{seeds}", x="number of probes N", y="width (nats/token)")
    if not result.power or result.seeds_only is None:
        axis.text(0.5, 0.5, "no γ* to add noise to", ha="center", transform=axis.transAxes)
        return
    sizes = [pair[0].n for pair in result.power]
    names = ("unpaired", f"paired, r {result.power_correlation:.3g}")
    for i, name in enumerate(names):
        axis.errorbar(
            sizes, [pair[i].width for pair in result.power], yerr=[3 * pair[i].width_error for pair in result.power],
            marker="o", color=ACCENTS[1 - i], label=name, capsize=2,
        )  # fmt: skip
    axis.axhline(result.seeds_only.width, color="black", linestyle="--", label="seeds only")
    axis.axvline(result.n, color="black", linewidth=0.8, linestyle=":", label=f"N used ({result.n})")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_xticks(sizes, [str(n) for n in sizes])
    axis.minorticks_off()
    axis.legend(loc="best")
