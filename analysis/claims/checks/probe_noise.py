"""Noise from the choice of probes: the formula, what it does to γ*, and the power analysis."""

from analysis.claims.checks import params
from analysis.claims.claim import Claim
from analysis.claims.expression import MissingInputError
from analysis.claims.inputs import NOISE_SAMPLES, SAMPLES, Inputs
from analysis.claims.outcome import Challenge, Check
from analysis.probe_noise.noise import Effect, correlation_sd
from analysis.probe_noise.result import NoiseResult
from rhodb.errors import InputError


def sigma(inputs: Inputs, claim: Claim) -> Check:
    """(1 - ρ²) / sqrt(N - 1) of `behavior`."""
    behavior = params.text(claim, "behavior")
    found = next((one for one in inputs.noise.formulas if one.behavior == behavior), None)
    if found is None:
        raise MissingInputError(f"probes/count/{behavior}")
    return Check(
        value=found.sigma, method="(1 - ρ²) / sqrt(N - 1)", inputs=found.inputs,
        numbers={"N": float(found.n), "ρ": found.rho},
    )  # fmt: skip


def _effects(result: NoiseResult) -> tuple[Effect, Effect]:
    assert result.seeds_only is not None and result.unpaired is not None, "the arms are published"
    return result.seeds_only, result.unpaired


def width(inputs: Inputs, claim: Claim) -> Check:
    """`statistic`: seeds or unpaired (widths), upper (end), inflation, drop:N (from the N used), over-floor:N."""
    result = inputs.noise
    seeds, unpaired = _effects(result)
    name, _, argument = params.text(claim, "statistic").partition(":")
    by_n = {free.n: free for free, _ in result.power}
    if argument and int(argument) not in by_n:
        raise InputError(f"the power analysis has no {argument} probes; known: {', '.join(map(str, by_n))}")
    other = by_n.get(int(argument)) if argument else None
    fewer = (NOISE_SAMPLES / SAMPLES) ** 0.5
    error = unpaired.width_error * fewer
    if name == "seeds":
        value, error = seeds.width, seeds.width_error * fewer
    elif name == "unpaired":
        value = unpaired.width
    elif name == "upper":
        value = unpaired.filtered[1]
    elif name == "inflation":
        value, error = unpaired.width / seeds.width, error / seeds.width
    elif name == "drop" and other is not None:
        value, error = 1 - other.width / by_n[result.n].width, error / by_n[result.n].width
    elif name == "over-floor" and other is not None:
        value, error = other.width / seeds.width, error / seeds.width
    else:
        raise InputError(f"unknown statistic {params.text(claim, 'statistic')!r}")
    return Check(
        value=value, low=value - 3 * error, high=value + 3 * error, numbers={"Monte Carlo error": error},
        method="central 95 % of the samples inside the notes' window; the range is three errors of the notes' 10,000",
        inputs=result.case.inputs if result.case else (),
    )  # fmt: skip


def correlation_formula(inputs: Inputs, claim: Claim) -> Challenge:
    """Is the metric a correlation, is ρ known, and is N that of the runs?"""
    from analysis.claims.checks.training import largest_score

    behavior = params.text(claim, "behavior", "bias")
    found = next(one for one in inputs.noise.formulas if one.behavior == behavior)
    largest = largest_score(inputs, claim).value or 0.0
    reasons = []
    numbers = {"largest score": largest}
    if largest > 1:
        reasons.append(f"it is that of a correlation, but scores reach {largest:.2f}: the metric is a mean gap")
    if found.assumed_zero:
        reasons.append("ρ is not known for it and was set to 0")
    if f"probes/then/{behavior}" in inputs.figures:
        then = inputs.figure(f"probes/then/{behavior}").value
        numbers["σ with the probes of that time"] = correlation_sd(found.rho, int(then))
        reasons.append(
            f"when the runs were made there were {then:g} probes, not {found.n}: σ "
            f"{numbers['σ with the probes of that time']:.3f}"
        )
    return Challenge(
        fails=bool(reasons),
        text=f"The formula does not apply: {'; '.join(reasons)}.",
        numbers=numbers,
        inputs=found.inputs,
    )


def window(inputs: Inputs, claim: Claim) -> Challenge:
    """Share of samples outside the notes' window, and Fieller's set, which needs no window."""
    _, found = _effects(inputs.noise)
    whole = found.fieller.kind == "whole line"
    ends = "the whole line" if whole else f"{found.fieller.kind} ({found.fieller.low}, {found.fieller.high})"
    return Challenge(
        fails=found.kept < 0.95,
        text=(
            f"The window drops {100 * (1 - found.kept):.0f} % of the samples and the slope is not positive in "
            f"{100 * found.falling:.0f} %: the width is the filter's. Fieller's 95 % set is {ends}."
        ),
        numbers={"share kept": found.kept, "P(slope <= 0)": found.falling},
    )


def same_probes(inputs: Inputs, claim: Claim) -> Challenge:
    """The inflation when the same probes are used before and after, for several correlations."""
    seeds, unpaired = _effects(inputs.noise)
    factors = {found.noise.correlation: found.width / seeds.width for found in inputs.noise.paired}
    listed = ", ".join(f"{r:g}: {factors[r]:.1f}" for r in (0.9, 0.99, 0.999, 1.0) if r in factors)
    fixed = factors.get(1.0, 1.0)
    return Challenge(
        fails=unpaired.width / seeds.width > 2 * fixed,
        text=(
            "Each Δ was given probes of its own although all scores use the same ones; with a correlation r between a "
            f"probe's scores the inflation is (r: factor) {listed}."
        ),
        numbers={f"inflation at r {r:g}": value for r, value in factors.items() if r is not None},
    )
