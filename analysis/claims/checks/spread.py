"""How much an SD over seeds changes between two doses, and whether that is more than chance."""

from scipy import special

from analysis.claims.checks import params
from analysis.claims.claim import Claim
from analysis.claims.expression import rounding_range
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Check


def f_test(sd_a: float, sd_b: float, n_a: int, n_b: int) -> tuple[float, float, float, float]:
    """F = (sd_a / sd_b)², its two-sided p, and the 95 % interval of sd_b / sd_a (normal data)."""
    f = (sd_a / sd_b) ** 2
    upper = float(special.fdtrc(n_a - 1, n_b - 1, f))
    ratio = sd_b / sd_a
    low = ratio / float(special.fdtri(n_b - 1, n_a - 1, 0.975)) ** 0.5
    high = ratio / float(special.fdtri(n_b - 1, n_a - 1, 0.025)) ** 0.5
    return f, 2 * min(upper, 1 - upper), low, high


def reduction(inputs: Inputs, claim: Claim) -> Check:
    """100 (1 - SD(b) / SD(a)) for `series`, `behavior` from λ `start` to λ `end`, in per cent."""
    series, behavior = params.text(claim, "series"), params.text(claim, "behavior")
    weights = params.number(claim, "start"), params.number(claim, "end")
    arms = [inputs.arm(series, 0.1, weight, behavior) for weight in weights]
    sds = [arm.sd or 0.0 for arm in arms]
    halves = [max((inputs.figures[key].half for key in arm.inputs if key.endswith("sd")), default=0.0) for arm in arms]
    low, value, high = rounding_range(lambda x: 100 * (1 - x[1] / x[0]), sds, halves)
    f, p, ratio_low, ratio_high = f_test(sds[0], sds[1], arms[0].n, arms[1].n)
    remarks = [
        f"F {f:.2f}, two-sided p {p:.3f}; the ratio of the SDs has a 95 % interval of {ratio_low:.2f} "
        f"to {ratio_high:.2f}."
    ]
    numbers = {"F": f, "p": p, "ratio low": ratio_low, "ratio high": ratio_high}
    again = [inputs.arm("sweep", 0.1, weight, behavior) for weight in weights]
    if all(arm.sd for arm in again):
        other = 100 * (1 - (again[1].sd or 0.0) / (again[0].sd or 1.0))
        both = [
            ((arm.sd or 0.0) ** 2 / 2 + (twin.sd or 0.0) ** 2 / 2) ** 0.5 for arm, twin in zip(arms, again, strict=True)
        ]
        pooled = f_test(both[0], both[1], arms[0].n + again[0].n - 1, arms[1].n + again[1].n - 1)
        numbers |= {"dose sweep": other, "both pooled": 100 * (1 - both[1] / both[0]), "p of both": pooled[1]}
        remarks.append(
            f"The dose sweep has {other:+.0f} %; both together {numbers['both pooled']:+.0f} %, p {pooled[1]:.3f}."
        )
    return Check(
        value=value, low=low, high=high, inputs=(*arms[0].inputs, *arms[1].inputs), numbers=numbers,
        method="SDs over seeds", remarks=tuple(remarks), reference="F test of two variances, normal data",
    )  # fmt: skip
