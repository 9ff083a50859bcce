"""The U-shape of the variance over λ: parameters, optimum, and how well it is known."""

import numpy as np

from analysis.claims.checks import params
from analysis.claims.claim import Claim
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Challenge, Check
from analysis.ushape.compare import assumed_noise
from rhodb.errors import InputError

NAMES = ("s0", "tau", "sp")
DRAWS = 400_000
NOTES_DRAWS = 10_000
"""Draws that the notes' quantiles rest on."""


def fitted(inputs: Inputs, claim: Claim) -> Check:
    """`statistic` s0, tau, sp or lambda_star of the least-squares fit."""
    found = inputs.ushape
    values = dict(zip(NAMES, map(float, found.fit.parameters[0]), strict=True)) | {"lambda_star": found.optimum}
    name = params.text(claim, "statistic")
    if name not in values:
        raise InputError(f"unknown statistic {name!r}; known: {', '.join(values)}")
    return Check(
        value=values[name], method="least squares on σ inside the notes' bounds", inputs=found.series.inputs,
        numbers=values,
    )  # fmt: skip


def assumed(inputs: Inputs, claim: Claim) -> Check:
    """The `quantile` (per cent) of λ* under the noise that the notes assumed for the parameters."""
    found = inputs.ushape
    s0, tau, sp = map(float, found.fit.parameters[0])
    noise = [inputs.value(f"ushape/noise/{name}") for name in NAMES]
    stars = assumed_noise((s0, tau, sp), (noise[0], noise[1], noise[2]), inputs.rng(), DRAWS)
    share = params.number(claim, "quantile") / 100
    value = float(np.quantile(stars, share))
    near = np.quantile(stars, [max(0.0, share - 0.005), min(1.0, share + 0.005)])
    error = float((share * (1 - share) / NOTES_DRAWS) ** 0.5 * (near[1] - near[0]) / 0.01)
    return Check(
        value=value, low=value - 3 * error, high=value + 3 * error, numbers={"error of the notes' quantile": error},
        method=f"{DRAWS} draws; the range is three Monte Carlo errors of the notes' {NOTES_DRAWS}",
        inputs=tuple(f"ushape/noise/{name}" for name in NAMES),
    )  # fmt: skip


def docstring(inputs: Inputs, claim: Claim) -> Check:
    """τ ln(σ0² / (τ σp²)), the formula in the script's documentation, against the minimum of the curve."""
    found = inputs.ushape
    s0, tau, sp = map(float, found.fit.parameters[0])
    value = float(tau * np.log(s0**2 / (tau * sp**2)))
    return Check(
        value=value, method="τ ln(σ0² / (τ σp²))", inputs=found.series.inputs,
        numbers={"minimum of the curve": found.optimum},
        remarks=(f"The curve has its minimum at {found.optimum:.3f}; the documented formula gives {value:.3f}.",),
    )  # fmt: skip


def smallest_sd(inputs: Inputs, claim: Claim) -> Check:
    """The dose with the smallest SD in `series` for `behavior`."""
    found = inputs.ushape
    p = None if found.rise is None else found.rise.p
    numbers = {f"SD at λ {arm.weight:g}": arm.sd or 0.0 for arm in found.series.arms}
    return Check(
        value=found.lowest.weight, method="smallest of the published SDs", inputs=found.series.inputs,
        numbers=numbers | ({} if p is None else {"p of the rise": p}),
        remarks=() if p is None else (f"The rise from there to the last dose has p {p:.2f} (F test).",),
    )  # fmt: skip


def fit_near_data(inputs: Inputs, claim: Claim) -> Challenge:
    """Largest factor between fitted and measured SDs."""
    found = inputs.ushape
    ratios = found.fit.sigma(found.series.weights)[0] / found.series.sds
    worst = int(abs(np.log(ratios)).argmax())
    arm = found.series.arms[worst]
    return Challenge(
        fails=bool(max(ratios.max(), 1 / ratios.min()) > 1.5),
        text=(
            f"The fit misses the SD at λ {arm.weight:g} by a factor of {ratios[worst]:.1f} "
            f"({float(found.fit.sigma(found.series.weights)[0][worst]):.4f} against {arm.sd:.4f}): "
            f"3 parameters for {len(ratios)} SDs, and its minimum is at {found.optimum:.3f}."
        ),
        numbers={f"fit / measured at λ {a.weight:g}": float(r) for a, r in zip(found.series.arms, ratios, strict=True)},
        inputs=found.series.inputs,
    )


def optimum_known(inputs: Inputs, claim: Claim) -> Challenge:
    """λ* of refits to SDs that the seeds leave plausible, to resampled seeds, and without each seed."""
    spreads = [(one.series.name, spread) for one in inputs.ushapes for spread in one.uncertainties if one.series.name]
    left_out = {seed: star for one in inputs.ushapes for seed, star in one.left_out.items()}
    widest = max(spread.ci90[1] / max(spread.ci90[0], 1e-9) for _, spread in spreads)
    listed = "; ".join(
        f"{spread.method}, {name}: {spread.median:.2f} [{spread.ci90[0]:.2f}, {spread.ci90[1]:.2f}]"
        for name, spread in spreads
    )
    seed = min(left_out, key=lambda one: left_out[one]) if left_out else None
    without = "" if seed is None else f" Without seed {seed} it is {left_out[seed]:.3f}."
    numbers = {f"{spread.method}, {name}: {end}": value for name, spread in spreads
               for end, value in (("low", spread.ci90[0]), ("high", spread.ci90[1]))}  # fmt: skip
    return Challenge(
        fails=widest > 3,
        text=f"The noise of the parameters was assumed; 90 % of refits give λ* as: {listed}.{without}",
        numbers=numbers | {f"without seed {one}": star for one, star in left_out.items()},
    )
