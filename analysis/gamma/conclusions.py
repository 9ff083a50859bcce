"""What the γ* study amounts to, in sentences computed from the numbers."""

from collections.abc import Iterator

from analysis.gamma.amplification import REFERENCE_OFFSET
from analysis.gamma.critical import fieller_set, power_law
from analysis.gamma.phase import region
from analysis.gamma.result import AmplificationResult, GammaResult
from analysis.gamma.sensitivity import is_steep
from analysis.stats.results import RatioSet
from analysis.verdicts import p_text


def conclusions(result: GammaResult) -> tuple[str, ...]:
    """The sentences, most important first."""
    return (
        *_intervals(result),
        *_form(result),
        *_amplification(result.amplification),
        *_sensitivity(result),
        *_phase(result),
    )


def set_text(found: RatioSet) -> str:
    """An interval, or what takes its place, in words."""
    if found.status != "ok":
        return f"no interval ({found.status})"
    if found.kind == "whole line":
        return "any value (the data reject none)"
    low, high = (
        ("-∞" if found.low is None else f"{found.low:.4g}"),
        ("∞" if found.high is None else f"{found.high:.4g}"),
    )
    return f"[{low}, {high}]" if found.kind == "bounded" else f"everything outside ({low}, {high})"


def _intervals(result: GammaResult) -> Iterator[str]:
    cases = result.inputs.scenarios
    if not cases:
        yield f"{result.inputs.target}: an arm has no spread over seeds, so γ* has no interval."
        return
    parts = []
    for case in cases:
        found = fieller_set(case, level=result.level, welch=case.sizes is not None)
        parts.append(f"{case.name}: {case.point:.4f}, {set_text(found)}")
    yield f"γ* of {result.inputs.target} at λ {result.inputs.operating.weight:g}: " + "; ".join(parts) + "."
    for case in result.inputs.others:
        if not case.means[0] < 0 <= case.means[1]:
            course = "stays positive" if min(case.means) > 0 else "does not rise through zero"
            where = f"between γ {case.gammas[0]:g} and {case.gammas[1]:g}"
            yield f"{case.behavior}: Δ {course} {where}, so γ* is not in range."


def _form(result: GammaResult) -> Iterator[str]:
    case = result.inputs.scenarios[0] if result.inputs.scenarios else None
    if case is None or len(result.inputs.sweeps[case.behavior]) > 2:
        yield from _curves(result)
        return
    ends = power_law(case, 0.5), power_law(case, 2.0)
    if ends[0] is None or ends[1] is None:
        return
    yield (
        f"Two margins fix a straight line and test nothing: with Δ growing as γ^0.5 or γ^2 instead, γ* is "
        f"{ends[0]:.3f} or {ends[1]:.3f}. The shape, not the seeds, is what is uncertain."
    )


def _curves(result: GammaResult) -> Iterator[str]:
    for behavior, line in result.lines.items():
        fit = line.lack_of_fit.p
        text = f"{behavior}, straight line: γ* {line.gamma_star.value:.4g} {set_text(line.gamma_star)}"
        if fit is not None:
            text += f", lack of fit p {p_text(fit)}"
        if behavior in result.curves:
            curve = result.curves[behavior]
            star = curve.gamma_star
            known = "no crossing" if star.value is None else f"γ* {star.value:.4g}"
            text += f"; saturating curve: {known}"
            if curve.aicc is not None and line.aicc is not None:
                better = "the curve" if curve.aicc < line.aicc else "the line"
                text += f"; AICc prefers {better} by {abs(curve.aicc - line.aicc):.1f}"
        yield text + "."


def _amplification(found: AmplificationResult | None) -> Iterator[str]:
    if found is None:
        return
    first, second = found.given.behaviors
    if found.rounded is not None:
        high = "∞" if found.rounded.high is None else f"{found.rounded.high:.0f}"
        yield (
            f"The printed ratio {found.rounded.ratio:.1f} of {first} to {second} lies anywhere in "
            f"[{found.rounded.low:.0f}, {high}] by rounding alone."
        )
    if found.swings is not None:
        p = found.swings.test_of_second.p
        ratio = found.swings.ratio
        value = "not defined" if ratio.value is None else f"{ratio.value:.4g}"
        swing = f"{found.swings.second[0]:.3g} ± {found.swings.second[1]:.2g}"
        tested = "" if p is None else f" (p {p_text(p)})"
        yield f"Over seeds the ratio is {value}, {set_text(ratio)}: the swing of {second} is {swing}{tested}."
    if found.baselines is not None and found.rounded is not None and found.rounded.residual is not None:
        predicted = found.baselines.ratios[REFERENCE_OFFSET]
        needed = found.baselines.exponent_needed
        yield (
            f"A(ρ) predicts a factor of {predicted:.2f} from the two baselines, not {found.rounded.residual:.1f}"
            + (f"; that would take an exponent of {needed:.1f} instead of 0.5." if needed is not None else ".")
        )


def _sensitivity(result: GammaResult) -> Iterator[str]:
    for bar in result.tornado:
        if bar.discarded > 0.2:
            yield f"The bar of {bar.name} in the tornado drops {100 * bar.discarded:.0f} % of its own input range."
    sound = result.inputs.sound
    if sound is not None and not is_steep(sound):
        rise = sound.means[1] - sound.means[0]
        yield (
            f"Δ of {sound.behavior} differs too little between the margins (by {rise:.3g}) to say that it changes: "
            "γ* has no variance to share out, and no Sobol indices are computed for it."
        )
    for found in result.sobol:
        shares = sorted(zip(found.first, found.inputs, strict=True), reverse=True)
        told = ", ".join(f"{name} {100 * share:.0f} %" for share, name in shares if share > 0.005)
        yield f"Variance of γ* with {found.name}: {told}."


def _phase(result: GammaResult) -> Iterator[str]:
    extent, weight = result.inputs.extent, result.inputs.operating.weight
    for surface in result.surfaces:
        area = region(surface, gamma_high=extent[0], weight_high=extent[1], points=result.inputs.points)
        name = f"{surface.behavior} ({surface.construction})"
        if area.share_negative == 0:
            yield f"{name}: the surface is positive everywhere (lowest {area.lowest:.3g})."
            continue
        star = surface.critical_point(weight)
        text = f"{name}: Δ < 0 on {100 * area.share_negative:.0f} % of the plane; "
        text += f"at λ {weight:g} the surface puts γ* at {star:.3g}"
        direct = result.inputs.sound
        if direct is not None and direct.behavior == surface.behavior:
            text += f", the two arms there at {direct.point:.3g}"
        worst = max(zip(abs(surface.residuals()), surface.cells, strict=True), key=lambda pair: pair[0])
        yield f"{text}; largest residual {worst[0]:.3g} at γ {worst[1].gamma:g}, λ {worst[1].weight:g}."
