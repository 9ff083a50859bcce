"""Plans of hypotheses: the fixed design is statsmodels', the simulated rule keeps its errors, hours are seeds' time."""

import pytest
from statsmodels.stats.power import TTestPower

from analysis.hypothesis_plan import detectable, fixed_seeds, plan_hypothesis, spread_of
from rhodb.errors import InputError
from rhodb.hypotheses import Hypothesis

H = Hypothesis(
    name="q", treatment="rho-guided", control="sft-only", model="m", behavior="refusal", metric="gap",
    direction="greater", margin=0.04, looks=(3, 5, 8, 12, 16, 20, 24), seeds=tuple(range(24)),
)  # fmt: skip


def test_the_fixed_design_is_that_of_statsmodels():
    power = TTestPower()
    assert fixed_seeds(0.8, 0.05, 0.9) == next(
        n for n in range(2, 99) if power.power(0.8, n, 0.05, alternative="larger") >= 0.9
    )
    effect = power.solve_power(nobs=12, alpha=0.05, power=0.9, alternative="larger")
    assert detectable(12, 0.05, 0.9) == pytest.approx(effect, rel=1e-5)


def test_a_plan_keeps_the_errors_that_the_design_promises():
    plan = plan_hypothesis(H, spread_of([], 0.05), seconds_per_seed=360.0)
    none, _, one, _, two = plan.scenarios
    assert none.supported <= 0.05 and one.refuted <= 0.1 and one.supported > 0.85
    assert two.seeds < 0.6 * plan.fixed_seeds < plan.fixed_seeds == 15
    assert one.hours == pytest.approx(one.seeds * 0.1)
    assert all(x.supported + x.refuted + x.undecided == pytest.approx(1) for x in plan.scenarios)


def test_the_sd_of_earlier_seeds_brings_its_uncertainty():
    plan = plan_hypothesis(H, spread_of([0.01, 0.05, 0.09, 0.02, 0.13], None))
    assert plan.n_earlier == 5 and plan.sd_low < plan.sd < plan.sd_high
    assert plan.fixed_seeds_high > plan.fixed_seeds and plan.hours_per_seed is None
    with pytest.raises(InputError, match="give --sd"):
        plan_hypothesis(H, spread_of([0.1], None))
