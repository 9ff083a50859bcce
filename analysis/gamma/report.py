"""The γ* study as numbered quantities."""

from collections.abc import Iterator
from dataclasses import replace

from analysis.answers import Published, PublishedTable, Quantity, of_ratio
from analysis.arms import Arm
from analysis.gamma.amplification import OFFSETS
from analysis.gamma.critical import MonteCarlo, Scenario, fieller_set, power_law, probability_above
from analysis.gamma.curves import sign_change
from analysis.gamma.inputs import AS_PUBLISHED
from analysis.gamma.phase import Surface, region
from analysis.gamma.result import EXPONENTS, AmplificationResult, GammaResult
from analysis.stats.intervals import welch_test
from analysis.stats.results import Estimate

FIELLER = "Fieller 1954"
SOBOL = "Sobol 2001; Saltelli 2010 (SALib)"
THRESHOLDS = (0.02, 0.03, 0.05)
NO_CLAIMS = PublishedTable(None)


def quantities(result: GammaResult, table: PublishedTable | None, unit: str) -> tuple[Quantity, ...]:
    """Every number of the study, in the order in which it is printed."""
    claims = table or NO_CLAIMS
    return (
        *(q for found in result.monte_carlo for q in _monte_carlo(found, claims, result.inputs.operating.gamma, unit)),
        *_scenarios(result, claims, unit),
        *_resampled(result, unit),
        *_shapes(result, unit),
        *_more_margins(result, unit),
        *_inversion(result, unit),
        *(_amplification(result.amplification, result.level, claims, unit) if result.amplification else ()),
        *_sensitivity(result, claims, unit),
        *(q for surface in result.surfaces for q in _phase(surface, result, unit)),
    )


def _monte_carlo(found: MonteCarlo, claims: PublishedTable, operating: float, unit: str) -> Iterator[Quantity]:
    if found.case.name != AS_PUBLISHED:
        claims = NO_CLAIMS
    base = Quantity(
        group=f"Monte Carlo of γ* ({found.case.behavior}), {found.case.name}", name="", value=None,
        method=f"{found.samples} normal draws of both arms; {found.kept} inside the window", inputs=found.case.inputs,
    )  # fmt: skip
    printed = claims.printed
    yield replace(
        base, name="median", value=found.median, mc_error=found.quantile_error(50.0), unit=unit,
        published=printed("mc/result/median"),
    )  # fmt: skip
    yield replace(
        base, name="mean", value=found.mean, mc_error=found.mean_error, unit=unit, published=printed("mc/result/mean")
    )
    for level, ends in ((68, (16.0, 84.0)), (95, (2.5, 97.5))):
        for end, percent in zip(("low", "high"), ends, strict=True):
            yield replace(
                base, name=f"{level} % interval, {end}", value=found.quantiles[percent], unit=unit,
                mc_error=found.quantile_error(percent), published=printed(f"mc/result/ci{level}/{end}"),
            )  # fmt: skip
    safety = operating / found.median
    yield replace(
        base, name=f"safety factor γ {operating:g} / median", value=safety,
        mc_error=safety / found.median * found.quantile_error(50.0), published=printed("mc/result/safety"),
    )  # fmt: skip
    yield replace(
        base, name=f"safety factor γ {operating:g} / upper end of 95 %", value=operating / found.quantiles[97.5],
        published=printed("mc/result/safety_upper"),
    )  # fmt: skip
    for threshold in THRESHOLDS:
        above, side = found.shares_above[threshold], "above" if threshold == THRESHOLDS[0] else "below"
        yield replace(
            base, name=f"P(γ* {'>' if side == 'above' else '<'} {threshold})",
            value=above if side == "above" else 1 - above, mc_error=found.share_error(threshold),
            published=printed(f"mc/result/p_{side}/{threshold:.2f}"),
        )  # fmt: skip
    for name, value in zip(("s∞", "θ"), found.decorative or (), strict=False):
        yield replace(
            base, name=f"correlation of γ* with {name}", value=value, mc_error=found.kept**-0.5,
            note="drawn by the notes, but not in the formula of γ*: sampling noise", detail=True,
        )  # fmt: skip


def _scenarios(result: GammaResult, claims: PublishedTable, unit: str) -> Iterator[Quantity]:
    """γ* of every scenario by Fieller, then what it gives for P."""
    for case in (*result.inputs.scenarios, *result.inputs.others):
        base = Quantity(
            group=f"γ* in closed form ({case.behavior})", name="", about=case.name, value=None, unit=unit,
            reference=FIELLER, inputs=case.inputs, n=sum(case.sizes) if case.sizes else None,
            note=_outside(case, result),
        )  # fmt: skip
        printed = claims.printed("mc/result/point") if case.name == AS_PUBLISHED else None
        if case.name.startswith("phase diagram"):
            printed = claims.printed("phase/result/gamma_star")
        yield _ratio(base, "γ*, normal errors", case, level=result.level, welch=False, printed=printed)
        if case.sizes is not None:
            yield _ratio(
                base, "γ*, Student's t with each arm's seeds", case, level=result.level, welch=True, printed=None
            )
    for case in result.inputs.scenarios:
        for threshold in THRESHOLDS:
            yield Quantity(
                group=f"P(γ* > γ), normal errors ({case.behavior})", name=f"P(γ* > {threshold})", about=case.name,
                value=probability_above(case, threshold), method="P(Δ(γ) < 0) on the straight line, closed form",
                inputs=case.inputs, detail=True,
            )  # fmt: skip


def _ratio(
    base: Quantity, name: str, case: Scenario, level: float, *, welch: bool, printed: Published | None
) -> Quantity:
    found = fieller_set(case, level=level, welch=welch)
    return replace(
        of_ratio(found, group=base.group, name=name, about=base.about), unit=base.unit, reference=base.reference,
        inputs=base.inputs, n=base.n, note=base.note, published=printed,
    )  # fmt: skip


def _outside(case: Scenario, result: GammaResult) -> str:
    low, high = case.gammas
    if case.means[0] < 0 <= case.means[1]:
        return ""
    if min(case.means) >= 0:
        return f"no sign change: Δ is positive at γ {low:g} and {high:g}; the crossing is an extrapolation"
    return f"Δ does not rise through zero between γ {low:g} and {high:g}"


def _resampled(result: GammaResult, unit: str) -> Iterator[Quantity]:
    for behavior, found in result.resampled.items():
        arms = result.inputs.sweeps[behavior]
        yield _estimate("γ*", found, arms, group="γ*, seeds resampled", about=behavior, unit=unit)


def _estimate(name: str, found: Estimate, arms: tuple[Arm, ...], *, group: str, about: str, unit: str) -> Quantity:
    return Quantity(
        group=group, name=name, about=about, value=found.value, low=found.low, high=found.high, level=found.level,
        unit=unit, n=found.n, method=found.method, inputs=tuple(key for arm in arms for key in arm.inputs),
    )  # fmt: skip


def _shapes(result: GammaResult, unit: str) -> Iterator[Quantity]:
    for case in result.inputs.scenarios[:1]:
        for exponent in EXPONENTS:
            value = power_law(case, exponent)
            if value is not None:
                yield Quantity(
                    group=f"γ* if Δ(γ) = d0 + (d1 - d0) (γ/γ1)^p ({case.behavior})", name=f"p = {exponent:.2g}",
                    value=value, unit=unit, inputs=case.inputs,
                    method="two margins fit every exponent equally well",
                )  # fmt: skip


def _more_margins(result: GammaResult, unit: str) -> Iterator[Quantity]:
    for behavior, arms in result.inputs.sweeps.items():
        inputs = tuple(key for arm in arms for key in arm.inputs)
        base = Quantity(group=f"γ* from {len(arms)} margins ({behavior})", name="", value=None, inputs=inputs)
        if len(arms) > 2 and (between := sign_change(arms)) is not None:
            yield replace(
                base, name="mean Δ changes sign between", value=None, low=between[0], high=between[1], unit=unit,
                method="neighbouring margins, no model",
            )  # fmt: skip
        if behavior in result.lines:
            line = result.lines[behavior]
            yield replace(
                of_ratio(line.gamma_star, group=base.group, name="γ*, straight line"), unit=unit, inputs=inputs,
                reference=FIELLER, note=f"AICc {line.aicc:.1f}" if line.aicc is not None else "",
            )  # fmt: skip
            yield replace(
                base, name="p of lack of fit of the line", value=line.lack_of_fit.p, method=line.lack_of_fit.method
            )
        if behavior in result.curves:
            curve = result.curves[behavior]
            yield replace(
                _estimate("γ*, saturating curve", curve.gamma_star, arms, group=base.group, about="", unit=unit),
                note=f"AICc {curve.aicc:.1f}" if curve.aicc is not None else "",
            )
            yield replace(base, name="k of the saturating curve", value=curve.scale, unit=unit)


def _inversion(result: GammaResult, unit: str) -> Iterator[Quantity]:
    """Is the arm without margin inverted: below zero itself, or below plain fine-tuning?"""
    arm, plain, start = result.inputs.sweeps[result.inputs.target][0], result.inputs.plain, result.inputs.baseline
    base = Quantity(group=f"Inversion at γ {arm.gamma:g} ({arm.behavior})", name="", value=None, inputs=arm.inputs)
    if start is not None:
        yield replace(
            base, name="score after training", value=start + arm.mean, unit=unit, method="baseline + mean Δ", n=arm.n
        )
    if plain is not None and plain.n > 1 and arm.n > 1 and plain.sd and arm.sd:
        test = welch_test(arm.sample(), plain.sample(), level=result.level)
        if test.effect is not None:
            yield replace(
                base, name="Δ minus Δ of plain fine-tuning (λ = 0)", value=test.effect.value, low=test.effect.low,
                high=test.effect.high, level=result.level, n=test.n, method="Welch difference of means", unit=unit,
                inputs=(*arm.inputs, *plain.inputs),
            )  # fmt: skip
            yield replace(base, name="Welch p of that difference", value=test.p, n=test.n, method=test.method)


def _amplification(found: AmplificationResult, level: float, claims: PublishedTable, unit: str) -> Iterator[Quantity]:
    first, second = found.given.behaviors
    base = Quantity(group=f"Amplification: {first} against {second}", name="", value=None)
    printed = claims.printed
    swing_keys = tuple(f"amplification/swing/{name}" for name in (first, second)) if claims.rows else ()
    start_keys = tuple(f"baseline/{name}" for name in (first, second)) if claims.rows else ()
    if found.angular is not None:
        ends = found.angular.interval
        yield replace(
            base, name="angular factor |cos θ| / |cos θ'|", value=found.angular.ratio, low=ends.low, high=ends.high,
            level=level, method=ends.method, published=printed("amplification/result/angular"),
            inputs=tuple(f"amplification/theta/{name}" for name in (first, second)),
        )  # fmt: skip
    if found.rounded is not None:
        yield replace(
            base, name="ratio of the printed swings", value=found.rounded.ratio, low=found.rounded.low,
            high=found.rounded.high, method="interval: what rounding of the printed figures leaves open",
            published=printed("amplification/result/observed"), inputs=swing_keys,
        )  # fmt: skip
        yield replace(
            base, name="left over after the angular factor", value=found.rounded.residual, method="by division",
            published=printed("amplification/result/nonlinear"), inputs=swing_keys,
        )  # fmt: skip
    if found.baselines is not None:
        for offset in OFFSETS:
            yield replace(
                base, name=f"A({first}) / A({second}), ε {offset:g}", value=found.baselines.ratios[offset],
                method="A(ρ) = 1 / sqrt(|ρ| + ε) at the two baselines", inputs=start_keys,
                published=printed("amplification/result/nonlinear"),
            )  # fmt: skip
        yield replace(
            base, name="exponent of |ρ| that would give what is left over", value=found.baselines.exponent_needed,
            note="the claim is 0.5", inputs=start_keys,
        )  # fmt: skip
        yield replace(
            base, name="left over after the angular factor and A (ε 0.005)", value=found.baselines.unexplained,
            inputs=start_keys,
        )  # fmt: skip
    if found.swings is not None and found.given.arms is not None:
        pairs = found.given.arms
        inputs = tuple(key for pair in pairs for arm in pair for key in arm.inputs)
        for name, (value, se) in ((first, found.swings.first), (second, found.swings.second)):
            yield replace(
                base, name=f"swing of {name}", value=value, unit=unit, note=f"standard error {se:.3g}", inputs=inputs
            )
        test = found.swings.test_of_second
        yield replace(
            base, name=f"p of the swing of {second}", value=test.p, n=test.n, method=test.method, inputs=inputs
        )
        paired = "covariance within runs used" if found.swings.paired else "the two behaviors taken as independent"
        for name, ratio in (("t", found.swings.ratio), ("Welch", found.swings.ratio_welch)):
            if name == "t" or not found.swings.paired:
                yield replace(
                    of_ratio(ratio, group=base.group, name=f"ratio of the swings over seeds ({name})"), n=test.n,
                    reference=FIELLER, inputs=inputs, note=paired,
                )  # fmt: skip


def _sensitivity(result: GammaResult, claims: PublishedTable, unit: str) -> Iterator[Quantity]:
    inputs = result.inputs.scenarios[0].inputs if result.inputs.scenarios else ()
    for bar in result.tornado:
        dropped = f"{100 * bar.discarded:.0f} % of the range is discarded: γ* <= 0 there" if bar.discarded else ""
        yield Quantity(
            group="One at a time: range of γ* over the notes' input ranges", name=bar.name, value=bar.range,
            low=bar.low, high=bar.high, unit=unit, published=claims.printed(f"tornado/result/{bar.name}"), note=dropped,
            inputs=inputs,
            about=f"{bar.input_low:g} to {bar.input_high:g}", method="5th to 95th percentile over an even grid",
        )  # fmt: skip
    for bar in result.two_arms:
        yield Quantity(
            group="One at a time: range of γ* over ±1.96 standard errors", name=bar.name, value=bar.range, low=bar.low,
            high=bar.high, unit=unit, about=f"{bar.input_low:.4g} to {bar.input_high:.4g}", inputs=inputs,
        )  # fmt: skip
    for found in result.sobol:
        columns = (found.inputs, found.first, found.first_half, found.total)
        for name, first, half, total in zip(*columns, strict=True):
            yield Quantity(
                group=f"Sobol indices of γ*: {found.name}", name=f"{name}, first order", value=first,
                low=first - half, high=first + half, level=0.95, n=found.n, method=f"total {total:.3f}",
                reference=SOBOL, inputs=inputs,
            )  # fmt: skip


def _phase(surface: Surface, result: GammaResult, unit: str) -> Iterator[Quantity]:
    inputs = tuple(key for cell in surface.cells for key in cell.inputs)
    base = Quantity(
        group=f"Phase diagram ({surface.behavior})", name="", about=surface.construction, value=None, inputs=inputs,
        method="Δ = a + b λ + m (γ - γ_ref) λ / λ_ref", detail=True,
    )  # fmt: skip
    for name, value in zip(("a", "b", "m"), surface.coefficients, strict=True):
        yield replace(base, name=name, value=value)
    extent = result.inputs.extent
    area = region(surface, gamma_high=extent[0], weight_high=extent[1], points=result.inputs.points)
    where = f"over γ 0 to {extent[0]:g}, λ 0 to {extent[1]:g}"
    yield replace(base, name="share of the plane with Δ < 0", value=area.share_negative, note=where, detail=False)
    at = f"at γ {area.lowest_at[0]:g}, λ {area.lowest_at[1]:g}"
    yield replace(base, name="lowest Δ", value=area.lowest, unit=unit, note=at)
    if surface.lack_of_fit is not None:
        yield replace(
            base, name="p of lack of fit", value=surface.lack_of_fit.p, method=surface.lack_of_fit.method,
            n=surface.lack_of_fit.n, detail=False,
        )  # fmt: skip
    for cell, residual in zip(surface.cells, surface.residuals(), strict=True):
        yield replace(
            base, name=f"residual at γ {cell.gamma:g}, λ {cell.weight:g}", value=float(residual), unit=unit, n=cell.n,
            note=f"measured {cell.mean:.4g}", inputs=cell.inputs,
        )  # fmt: skip
    if 0 < area.share_negative < 1:
        for weight in sorted({cell.weight for cell in surface.cells if cell.weight > 0}):
            found = surface.critical(weight, level=result.level)
            yield replace(
                of_ratio(found, group=base.group, name=f"γ* at λ {weight:g}", about=surface.construction), unit=unit,
                reference=FIELLER, inputs=inputs,
            )  # fmt: skip
