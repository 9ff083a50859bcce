"""The probe-noise study as numbered quantities and as sentences computed from them."""

import math
from collections.abc import Iterator
from dataclasses import replace

from analysis.answers import PublishedTable, Quantity
from analysis.gamma.conclusions import set_text
from analysis.probe_noise.measured import Measured
from analysis.probe_noise.noise import Effect
from analysis.probe_noise.result import Formula, NoiseResult

UNIT = "nats/token"
FORMULA = "(1 - ρ²) / sqrt(N - 1)"


def quantities(result: NoiseResult, table: PublishedTable | None) -> tuple[Quantity, ...]:
    """Every number of the study."""
    claims = table or PublishedTable(None)
    return (
        *(_formula(found, claims) for found in result.formulas),
        *(quantity for found in result.measured for quantity in _measured(found)),
        *_margin(result, claims),
        *_power(result, claims),
    )


def _formula(found: Formula, claims: PublishedTable) -> Quantity:
    score = "no score known, ρ = 0 filled in" if found.assumed_zero else f"ρ {found.rho:g} (a gap, nats/token)"
    return Quantity(
        group="σ(ρ̂) by formula", name=found.behavior, value=found.sigma, n=found.n, method=FORMULA, note=score,
        published=claims.printed(f"probes/result/{found.behavior}/sigma"), inputs=found.inputs,
    )  # fmt: skip


def _measured(found: Measured) -> Iterator[Quantity]:
    base = Quantity(group=f"Measured over probes: {found.behavior}", name="", value=None, n=found.n, inputs=found.runs)
    yield replace(base, name="ρ before training", value=found.rho, method="Spearman, confidence and label")
    yield replace(base, name="SD of ρ, formula", value=found.rho_formula, method=FORMULA)
    yield replace(base, name="SD of ρ, bootstrap", value=found.rho_bootstrap, method="pairs resampled")
    yield replace(base, name="gap before training", value=found.gap, unit=UNIT)
    yield replace(base, name="SD of the gap", value=found.gap_error, unit=UNIT, method="SD of pairs / sqrt(N)")
    yield replace(base, name="SD of the gap, bootstrap", value=found.gap_bootstrap, unit=UNIT, method="pairs resampled")
    yield replace(
        base, name="correlation of a probe before and after", value=found.correlation, method="mean over runs"
    )
    yield replace(base, name="SD of Δ, as if other probes", value=found.unpaired_error, unit=UNIT)
    yield replace(
        base, name="SD of Δ, same probes", value=found.paired_error, unit=UNIT, method="SD of changes / sqrt(N)"
    )
    yield replace(
        base, name="SD of Δ, wordings as clusters", value=found.clustered_error, unit=UNIT,
        method="cluster-robust", reference="Liang & Zeger 1986",
        note=f"{found.clusters} wordings among {found.n} probes: instances of a template are not independent",
    )  # fmt: skip


def _effects(result: NoiseResult) -> list[tuple[str, Effect]]:
    named: list[tuple[str, Effect | None]] = [
        ("seeds only", result.seeds_only),
        ("with unpaired probe noise", result.unpaired),
        *((f"with paired probe noise, r {effect.noise.correlation:.3g}", effect) for effect in result.paired),
    ]
    return [(name, effect) for name, effect in named if effect is not None]


def _margin(result: NoiseResult, claims: PublishedTable) -> Iterator[Quantity]:
    if result.case is None or result.seeds_only is None:
        return
    base = Quantity(
        group=f"γ* of {result.case.behavior} with probe noise", name="", value=None, n=result.n, unit=UNIT,
        inputs=result.case.inputs,
    )  # fmt: skip
    floor = result.seeds_only.width
    for name, effect in _effects(result):
        key = {"seeds only": "seeds", "unpaired": "unpaired"}.get(effect.noise.kind, "paired")
        yield replace(
            base, name="width of the 95 % interval", about=name, value=_finite(effect.width),
            mc_error=_finite(effect.width_error), method="samples with a rising line inside the window",
            low=_finite(effect.filtered[0]), high=_finite(effect.filtered[1]),
            published=claims.printed(f"probes/result/width/{key}"),
            note=f"{100 * (1 - effect.kept):.0f} % of the samples dropped; P(slope <= 0) {effect.falling:.2g}",
        )  # fmt: skip
        found = effect.fieller
        yield replace(
            base, name="γ*, Fieller", about=name, value=found.value, low=found.low, high=found.high, kind=found.kind,
            level=found.level, method=found.method, reference="Fieller 1954", detail=effect.noise.kind == "paired",
        )  # fmt: skip
        if effect.noise.kind != "seeds only":
            yield replace(
                base, name="width over that of seeds only", about=name, value=_finite(effect.width / floor), unit="",
                mc_error=_finite(effect.width_error / floor),
                published=claims.printed("probes/result/inflation") if key == "unpaired" else None,
            )  # fmt: skip
            yield replace(
                base, name="width over that of seeds only, nothing dropped", about=name, unit="", detail=True,
                value=(effect.untruncated[1] - effect.untruncated[0])
                / (result.seeds_only.untruncated[1] - result.seeds_only.untruncated[0]),
            )  # fmt: skip
    if result.resampled is not None:
        low, high = result.resampled
        yield replace(
            base, name="γ*, probes resampled", value=result.case.point, low=_finite(low), high=_finite(high),
            level=0.95, method="wordings drawn, the same for all scores; seeds' means fixed",
        )  # fmt: skip


def _power(result: NoiseResult, claims: PublishedTable) -> Iterator[Quantity]:
    inputs = result.case.inputs if result.case is not None else ()
    for pair in result.power:
        for effect in pair:
            kind = effect.noise.kind
            about = kind if kind == "unpaired" else f"paired, r {effect.noise.correlation:.3g}"
            yield Quantity(
                group="Width of the 95 % interval of γ* by number of probes", name=f"N = {effect.n}", about=about,
                value=_finite(effect.width), mc_error=_finite(effect.width_error), unit=UNIT, n=effect.n, inputs=inputs,
                note=f"P(slope <= 0) {effect.falling:.2g}; Fieller {set_text(effect.fieller)}",
            )  # fmt: skip
    widths = {pair[0].n: pair[0].width for pair in result.power}
    if 300 in widths and 500 in widths:
        yield Quantity(
            group="Width of the 95 % interval of γ* by number of probes", name="drop from 300 to 500 probes",
            about="unpaired", value=_finite(1 - widths[500] / widths[300]), inputs=inputs,
            published=claims.printed("probes/result/drop/500"), mc_error=_drop_error(result),
        )  # fmt: skip


def _drop_error(result: NoiseResult) -> float | None:
    few, many = (next(p[0] for p in result.power if p[0].n == n) for n in (300, 500))
    share = many.width / few.width
    return _finite(share * math.hypot(many.width_error / many.width, few.width_error / few.width))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def conclusions(result: NoiseResult) -> tuple[str, ...]:
    """What the noise of probes amounts to."""
    return tuple(_sentences(result))


def _times(unpaired: float, paired: float) -> str:
    if not paired:
        return "0"
    return f"{unpaired / paired:.1f} times smaller" if unpaired >= paired else f"{paired / unpaired:.1f} times larger"


def _sentences(result: NoiseResult) -> Iterator[str]:
    filled = [found.behavior for found in result.formulas if found.assumed_zero]
    if filled:
        yield f"No score was published for {', '.join(filled)}: their σ assumes ρ = 0, the largest it can be."
    if result.formulas:
        yield "The formula is that of a correlation; the scores put into it are gaps, whose noise it does not describe."
    for found in result.measured:
        yield (
            f"{found.behavior}: SD of ρ by formula {found.rho_formula:.3g}, by bootstrap {found.rho_bootstrap:.3g}; "
            f"probes before and after correlate with r {found.correlation:.3f}, so that pairing makes the noise of Δ "
            f"{_times(found.unpaired_error, found.paired_error)}."
        )
    if result.seeds_only is None or result.unpaired is None or result.case is None:
        return
    floor, free = result.seeds_only.width, result.unpaired
    yield (
        f"With unpaired probe noise the interval of γ* is {free.width / floor:.2g} times as wide, but "
        f"{100 * (1 - free.kept):.0f} % of its samples are dropped (slope <= 0 in {100 * free.falling:.0f} %); without "
        f"dropping any, Fieller's set is {set_text(free.fieller)}."
    )
    tied = "; ".join(f"r {e.noise.correlation:.3g}: {e.width / floor:.2g} times as wide" for e in result.paired)
    yield f"The same probes are scored before and after. With their noise paired, against seeds alone: {tied}."
