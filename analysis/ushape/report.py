"""The U-shape study as numbered quantities and as sentences computed from them."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from analysis.answers import PublishedTable, Quantity
from analysis.ushape.compare import SHAPES
from analysis.ushape.result import SeriesResult, UshapeResult
from analysis.verdicts import p_text

NAMES = {"constant": "constant", "decay": "decay only", "ushape": "U-shape"}


def quantities(result: UshapeResult, table: PublishedTable | None, unit: str) -> tuple[Quantity, ...]:
    """Every number, series by series."""
    claims = table or PublishedTable(None)
    return tuple(
        quantity
        for found in result.results
        for part in (_fit(found, claims if found.series.claimed else PublishedTable(None), unit), _rivals(found))
        for quantity in part
    )


def _base(found: SeriesResult, group: str) -> Quantity:
    name = f"{group}: {found.series.behavior}, {found.series.name}"
    return Quantity(group=name, name="", value=None, inputs=found.series.inputs, n=int(found.series.sizes.sum()))


def _fit(found: SeriesResult, claims: PublishedTable, unit: str) -> Iterator[Quantity]:
    base = replace(_base(found, "Fit"), method="least squares on σ inside the notes' bounds")
    printed = claims.printed
    keys = (("σ0", "s0", unit), ("τ", "tau", ""), ("σp", "sp", unit))
    for (name, key, its_unit), value in zip(keys, found.fit.parameters[0], strict=True):
        published = printed(f"ushape/result/{key}")
        yield replace(base, name=name, value=float(value), unit=its_unit, published=published)
    yield replace(
        base, name="λ*", value=found.optimum, published=printed("ushape/result/lambda_star"),
        method="τ/2 ln(2 σ0² / (τ σp²))",
    )  # fmt: skip
    fitted = found.fit.sigma(found.series.weights)[0]
    for arm, value in zip(found.series.arms, fitted, strict=True):
        yield replace(
            base, name=f"σ at λ {arm.weight:g}", value=float(value), unit=unit, n=arm.n, inputs=arm.inputs,
            note=f"measured {arm.sd:.4g}: fit / measured {float(value) / (arm.sd or 1.0):.2f}",
        )  # fmt: skip
    if found.assumed is not None:
        low, median, high = np.quantile(found.assumed, (0.05, 0.5, 0.95))
        about, drawn = "parameters with the noise that the notes assumed", base
        drawn = replace(drawn, about=about, method=f"{found.assumed.size} draws")
        yield replace(drawn, name="λ*, median", value=float(median), published=printed("ushape/result/mc/median"))
        for end, value in (("low", low), ("high", high)):
            published = printed(f"ushape/result/mc/ci90/{end}")
            yield replace(drawn, name=f"λ*, 90 % interval, {end}", value=float(value), published=published)
    for spread in found.uncertainties:
        yield replace(
            base, name="λ*", about=spread.method, value=spread.median, low=spread.ci90[0], high=spread.ci90[1],
            level=0.9,
            method=f"median and 5th to 95th percentile of {spread.draws} refits",
            note=f"beyond the last dose in {100 * spread.beyond_last_dose:.0f} %, a parameter at its bound in "
            f"{100 * spread.at_bound:.0f} %",
        )  # fmt: skip
    for seed, value in found.left_out.items():
        yield replace(base, name=f"λ* without seed {seed}", value=value, n=base.n and base.n - len(found.series.arms))


def _rivals(found: SeriesResult) -> Iterator[Quantity]:
    base = _base(found, "Is there a U")
    compared = found.comparison
    for shape in SHAPES:
        yield replace(
            base, name=f"AICc, {NAMES[shape]}", value=compared.aicc[shape],
            method="maximum likelihood of the variances", detail=True,
            note=", ".join(f"{p:.3g}" for p in compared.fits[shape].parameters[0]),
        )  # fmt: skip
        if shape in compared.p:
            yield replace(
                base, name=f"p of {NAMES[shape]} against the U-shape", value=compared.p[shape],
                method="likelihood ratio, simulated null distribution", note=f"-2 ln ratio {compared.ratio[shape]:.3g}",
            )  # fmt: skip
    for spread in found.uncertainties:
        for shape in SHAPES:
            yield replace(
                base, name=f"AICc prefers {NAMES[shape]}", about=spread.method, value=spread.preferred[shape],
                method=f"share of {spread.draws} resamples",
            )  # fmt: skip
    yield replace(base, name="p of equal variances", value=found.bartlett.p, method=found.bartlett.method)
    if found.levene is not None:
        yield replace(base, name="p of equal variances", value=found.levene.p, method=found.levene.method)
    if found.rise is not None:
        yield replace(
            base, name=f"p of the rise from λ {found.lowest.weight:g} to {found.series.arms[-1].weight:g}",
            value=found.rise.p, method=found.rise.method, n=found.rise.n, note=f"F {found.rise.statistic or 0.0:.3g}",
        )  # fmt: skip


def conclusions(result: UshapeResult) -> tuple[str, ...]:
    """A few sentences a series."""
    return tuple(sentence for found in result.results for sentence in _sentences(found, result.operating))


def _sentences(found: SeriesResult, operating: float | None) -> Iterator[str]:
    name = f"{found.series.behavior}, {found.series.name}"
    doses = len(found.series.arms)
    intervals = "; ".join(f"{u.method} [{u.ci90[0]:.2g}, {u.ci90[1]:.2g}]" for u in found.uncertainties)
    last = f"the doses measured end at {found.series.weights[-1]:g}"
    if found.optimum > found.series.weights[-1] or found.optimum == 0:
        last += ", so that the fit has no minimum among them"
    yield f"{name}: λ* {found.optimum:.3f}; 90 % of refits: {intervals}; {last}."
    ratios = found.fit.sigma(found.series.weights)[0] / found.series.sds
    worst = int(abs(ratios - 1).argmax())
    spare = doses - 3
    yield (
        f"{name}: {doses} SDs for 3 parameters leave {spare} degree{'' if spare == 1 else 's'} of freedom; "
        f"the fit misses the SD at λ {found.series.weights[worst]:g} by a factor of {ratios[worst]:.2f}."
    )
    chosen = NAMES[found.comparison.preferred]
    p = ", ".join(f"{NAMES[shape]} p {p_text(value)}" for shape, value in found.comparison.p.items())
    shares = "; ".join(f"{u.method}: U-shape {100 * u.preferred['ushape']:.0f} %" for u in found.uncertainties)
    yield f"{name}: AICc prefers {chosen}; against the U-shape {p}. AICc picks it in: {shares}."
    if found.left_out:
        seed, value = max(found.left_out.items(), key=lambda item: abs(item[1] - found.optimum))
        yield f"{name}: without seed {seed} λ* is {value:.3f} instead of {found.optimum:.3f}."
    if operating is not None:
        low, high = found.uncertainties[0].ci90
        place = "inside" if low <= operating <= high else "outside"
        yield f"{name}: the default λ {operating:g} lies {place} the χ² interval."
