"""Why bias moved more than sycophancy: swings, their ratio, angles, and A(ρ)."""

import math

from analysis.claims.checks import params
from analysis.claims.claim import Claim
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Challenge, Check
from analysis.gamma.amplification import REFERENCE_OFFSET
from analysis.gamma.result import AmplificationResult


def _result(inputs: Inputs) -> AmplificationResult:
    found = inputs.gamma.amplification
    assert found is not None, "the amplification's inputs are published"
    return found


def swing(inputs: Inputs, claim: Claim) -> Check:
    """Δ at the default margin (dose sweep) minus Δ at γ 0 (seeds) of `behavior`."""
    result, behavior = _result(inputs), params.text(claim, "behavior")
    assert result.swings is not None, "both arms are published"
    first = behavior == result.given.behaviors[0]
    value, error = result.swings.first if first else result.swings.second
    test = result.swings.test_of_second
    numbers = {"standard error": error} | ({} if first or test.p is None else {"Welch p": test.p})
    arms = (result.given.arms or ((), ()))[0 if first else 1]
    return Check(
        value=value, low=value - 5e-5, high=value + 5e-5, numbers=numbers,
        inputs=tuple(key for arm in arms for key in arm.inputs), method="difference of the two arms' means over seeds",
        remarks=(
            f"From seeds the swing of {behavior} is {value:.5f} with standard error {error:.5f}"
            + (f" (p {numbers['Welch p']:.2f})." if "Welch p" in numbers else "."),
        ),
    )  # fmt: skip


def swing_ratio(inputs: Inputs, claim: Claim) -> Check:
    """Ratio of the two swings from seeds."""
    found = _result(inputs).swings
    assert found is not None and found.ratio.value is not None, "both arms are published"
    ratio, printed = found.ratio, _result(inputs).rounded
    p = found.test_of_second.p or 1.0
    ends = (
        f"outside ({ratio.low:.0f}, {ratio.high:.0f})"
        if ratio.kind == "unbounded" and ratio.low and ratio.high
        else ratio.kind
    )
    return Check(
        value=ratio.value, method=ratio.method, reference="Fieller 1954",
        inputs=tuple(key for pair in _result(inputs).given.arms or () for arm in pair for key in arm.inputs),
        numbers={"swing above": found.first[0], "swing below": found.second[0], "p of the swing below": p,
                 "ratio of the printed swings": printed.ratio if printed else math.nan},
        remarks=(
            f"The swing below the line is {found.second[0]:.5f} and cannot be told from zero (p "
            f"{p:.2f}): Fieller's 95 % "
            f"set of the ratio is {ends}.",
            *(
                (f"The printed swings give {printed.ratio:.1f}, and their rounding leaves {printed.low:.0f} to "
                 f"{printed.high:.0f} open.",) if printed and printed.high else ()
            ),
        ),
    )  # fmt: skip


def nonlinear(inputs: Inputs, claim: Claim) -> Check:
    """A(ρ) at the two baselines, A = 1 / sqrt(|ρ| + ε); the claim is that it explains what the angle leaves."""
    result = _result(inputs)
    base, printed = result.baselines, result.rounded
    assert base is not None and printed is not None and printed.residual is not None, "baselines are published"
    ratio = base.ratios[REFERENCE_OFFSET]
    return Check(
        value=ratio, low=min(base.ratios.values()), high=max(base.ratios.values()),
        method=f"A ratio at ε {REFERENCE_OFFSET:g}; range over ε {min(base.ratios):g} to {max(base.ratios):g}",
        inputs=tuple(f"baseline/{behavior}" for behavior in result.given.behaviors),
        numbers={"residual after the angle": printed.residual, "exponent needed": base.exponent_needed or math.nan,
                 **{f"A ratio at ε {offset:g}": value for offset, value in base.ratios.items()}},
        remarks=(
            f"A(ρ) at the two baselines differs by a factor of {ratio:.3f}; the printed factor is what dividing by the "
            f"angular factor leaves ({printed.residual:.2f}), and would take an exponent of {base.exponent_needed:.1f} "
            "instead of 0.5.",
        ),
    )  # fmt: skip


def angle_of_pair(inputs: Inputs, claim: Claim) -> Challenge:
    """Is the printed angle in the range measured for its own pair of behaviors, or in another pair's?"""
    angle = inputs.value("amplification/theta/bias")
    other = inputs.value("angles/bias-sycophancy/low"), inputs.value("angles/bias-sycophancy/high")
    own = inputs.value("angles/others/low"), inputs.value("angles/others/high")
    return Challenge(
        fails=other[0] <= angle <= other[1] and not own[0] <= angle <= own[1],
        text=(
            f"The angle of {angle:g}° lies in the range that the origin's README gives for bias and sycophancy "
            f"({other[0]:g} to {other[1]:g}°), not in that of the other pairs ({own[0]:g} to {own[1]:g}°); and it was "
            f"measured on {inputs.claims_of['angles/others/low'].rpartition(' on ')[2]}, not on Qwen."
        ),
        numbers={"angle": angle},
        inputs=("amplification/theta/bias", "angles/bias-sycophancy/low", "angles/others/low"),
    )
