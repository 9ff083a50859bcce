"""Which checkers and challenges there are: name -> ("module:function", one-line summary). Loaded on demand."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from rhodb.errors import UnknownNameError

if TYPE_CHECKING:
    from analysis.claims.claim import Claim
    from analysis.claims.inputs import Inputs
    from analysis.claims.outcome import Challenge, Check

_HERE = "analysis.claims.checks"

CHECKERS: Final[dict[str, tuple[str, str]]] = {
    "expression": (f"{_HERE}.figures:expression", "Arithmetic over published figures."),
    "sources": (f"{_HERE}.figures:sources", "The same figure from every place where it can be computed."),
    "sd-of-range": (f"{_HERE}.figures:sd_of_range", "Whether n values with this range can have this SD."),
    "grim": (f"{_HERE}.figures:grim", "Whether a count out of n rounds to the printed share."),
    "rank-step": (f"{_HERE}.figures:rank_step", "Whether Spearman's rho of n values without ties can be this."),
    "cohens-d": (f"{_HERE}.effects:cohens_d", "Cohen's d from means, SDs and n."),
    "student-p": (f"{_HERE}.effects:student_p", "Student's p from means, SDs and n."),
    "largest-p": (f"{_HERE}.effects:largest_p", "The largest p of several comparisons, by three tests."),
    "contrastive-texts": (f"{_HERE}.training:contrastive_texts", "Texts with an SFT loss in contrastive-only."),
    "hinge": (f"{_HERE}.training:hinge", "Numerical gradient of the hinge at a separation."),
    "hinge-end": (f"{_HERE}.training:hinge_end", "Separation at which the hinge's gradient vanishes."),
    "pool-share": (f"{_HERE}.training:pool_share", "Share of a behavior in uniform draws from the pool of pairs."),
    "one-each": (f"{_HERE}.training:one_each", "Probability that a step's pairs are one of each behavior."),
    "largest-score": (f"{_HERE}.training:largest_score", "Largest absolute score that the tables imply."),
    "gamma-point": (f"{_HERE}.margin:point", "γ* of the straight line through two margins."),
    "gamma-mc": (f"{_HERE}.margin:monte_carlo", "A statistic of the Monte Carlo of γ*, drawn again."),
    "published-sem": (f"{_HERE}.margin:published_sem", "Standard error of an arm, from its seeds or its SD."),
    "tornado": (f"{_HERE}.margin:tornado_range", "Range of γ* as one input varies over its published range."),
    "phase-gamma": (f"{_HERE}.margin:phase_gamma", "γ* of the arms behind the phase diagram."),
    "phase-surface": (f"{_HERE}.margin:phase_surface", "A property of the phase diagram's fitted surface."),
    "score-without-margin": (f"{_HERE}.margin:score_without_margin", "The score itself, before plus Δ, at γ 0."),
    "swing": (f"{_HERE}.amplification:swing", "Change between two margins, from seeds."),
    "swing-ratio": (f"{_HERE}.amplification:swing_ratio", "Ratio of two swings, from seeds, with Fieller's set."),
    "amplification": (f"{_HERE}.amplification:nonlinear", "Ratio of A(ρ) at two baselines."),
    "ushape": (f"{_HERE}.ushape:fitted", "A parameter or the optimum of the variance fit."),
    "ushape-assumed": (f"{_HERE}.ushape:assumed", "A quantile of λ* under the noise assumed for the parameters."),
    "ushape-docstring": (f"{_HERE}.ushape:docstring", "λ* by the formula in the script's documentation."),
    "smallest-sd": (f"{_HERE}.ushape:smallest_sd", "The dose with the smallest SD."),
    "probe-sigma": (f"{_HERE}.probe_noise:sigma", "SD of a correlation over N probes."),
    "probe-width": (f"{_HERE}.probe_noise:width", "Width of the 95 % interval of γ* with or without probe noise."),
    "sd-reduction": (f"{_HERE}.spread:reduction", "By how much an SD falls between two doses."),
    "monotone": (f"{_HERE}.doses:monotone", "Whether means rise over the doses: the smallest step."),
    "linear-r2": (f"{_HERE}.doses:linear_r2", "R² of a straight line over the doses, beside that of sqrt(λ)."),
    "slope-above": (f"{_HERE}.doses:slope_above", "Slope above a dose against the slope up to it."),
    "ols-slope": (f"{_HERE}.doses:ols_slope", "Least-squares slope over the doses."),
    "ratio-deviation": (f"{_HERE}.doses:ratio_deviation", "Largest deviation of several ratios from 1."),
    "closest-ratio": (f"{_HERE}.doses:closest_ratio", "How many ratios lie closer to 1 than this one."),
    "seed-subset": (f"{_HERE}.doses:seed_subset", "How many seeds a printed mean and SD can rest on."),
    "seed-pattern": (f"{_HERE}.doses:seed_pattern", "How many seeds fall from one dose to the next and then recover."),
    "spearman": (f"{_HERE}.patterns:spearman", "Spearman's rho of two behaviors over seeds."),
    "spearman-p": (f"{_HERE}.patterns:spearman_p", "Exact p of a Spearman correlation of n values."),
    "coupling-change": (f"{_HERE}.patterns:coupling_change", "p of the difference between two correlations."),
    "spread-ratio": (f"{_HERE}.patterns:spread_ratio", "Ratio of two behaviors' SDs at one dose and margin."),
    "arm-sd": (f"{_HERE}.patterns:arm_sd", "SD of a published cell."),
    "distance": (f"{_HERE}.patterns:distance", "Distance of two conditions in what is published: a lower bound."),
    "explained": (f"{_HERE}.patterns:explained", "Variance that two components explain of the conditions' means."),
    "z-score": (f"{_HERE}.patterns:z_score", "z of a value against the published mean and SD of its dose."),
    "f-test": (f"{_HERE}.patterns:f_test", "p of an F statistic for the degrees of freedom that are possible."),
    "needed-probes": (f"{_HERE}.landscape:needed_probes", "Probes to add until redundancy is below a goal."),
    "partners": (f"{_HERE}.landscape:partners", "Behaviors that share a cluster with this one."),
    "rate": (f"{_HERE}.stress:rate", "A rate, from its counts."),
    "sql": (f"{_HERE}.warehouse:sql", "A SELECT over this warehouse that returns one number."),
    "study": (f"{_HERE}.warehouse:study", "A quantity or finding of a study over this warehouse."),
}  # fmt: skip

CHALLENGES: Final[dict[str, tuple[str, str]]] = {
    "seed-controls-run": (f"{_HERE}.training:seed_controls_run", "Does the same seed give the same run?"),
    "held-out": (f"{_HERE}.training:held_out", "Are evaluation pairs kept out of training?"),
    "refusal-metric": (f"{_HERE}.training:refusal_metric", "Does the refusal score look at refusals?"),
    "difference": (f"{_HERE}.effects:difference", "Is the difference larger than chance?"),
    "unused-inputs": (f"{_HERE}.margin:unused_inputs", "Does every sampled input move the result?"),
    "one-scale": (f"{_HERE}.margin:one_scale", "Are the inputs varied on one scale, and is nothing dropped?"),
    "inside-data": (f"{_HERE}.margin:inside_data", "Does the diagram stay where there are data?"),
    "angle-of-pair": (f"{_HERE}.amplification:angle_of_pair", "Is the angle that of this pair of behaviors?"),
    "fit-near-data": (f"{_HERE}.ushape:fit_near_data", "Does the fit pass near the data?"),
    "optimum-known": (f"{_HERE}.ushape:optimum_known", "Do the data determine the optimum?"),
    "correlation-formula": (f"{_HERE}.probe_noise:correlation_formula", "Is the formula that of the metric?"),
    "window": (f"{_HERE}.probe_noise:window", "Does the interval reflect the data rather than the filter?"),
    "same-probes": (f"{_HERE}.probe_noise:same_probes", "Is noise drawn twice for the same probes?"),
    "paired-rates": (f"{_HERE}.stress:paired_rates", "Is the difference of two rates larger than chance?"),
    "zero-of-n": (f"{_HERE}.stress:zero_of_n", "How large may a rate be of which none was seen?"),
    "equivalence": (f"{_HERE}.stress:equivalence", "Do equal counts show equal rates?"),
    "looks": (f"{_HERE}.patterns:looks", "How many such hits does chance give over all looks?"),
    "regression": (f"{_HERE}.doses:regression", "Is there anything to regress to?"),
    "steering-peak": (f"{_HERE}.patterns:steering_peak", "Is the peak an improvement?"),
    "unscaled": (f"{_HERE}.patterns:unscaled", "Do all behaviors count in an unscaled distance?"),
    "shuffles": (f"{_HERE}.patterns:shuffles", "Do seeds swap alike?"),
    "one-cell": (f"{_HERE}.patterns:one_cell", "Can the statistic differ from zero at all?"),
    "z-bound": (f"{_HERE}.patterns:z_bound", "Can z reach the limit with n values?"),
}  # fmt: skip

Checker = Callable[["Inputs", "Claim"], "Check"]
Challenger = Callable[["Inputs", "Claim"], "Challenge"]


def load_checker(name: str) -> Checker:
    """The checker called `name`. Raises UnknownNameError, which lists the choices."""
    return _load("checker", name, CHECKERS)  # type: ignore[no-any-return]


def load_challenge(name: str) -> Challenger:
    """The challenge called `name`. Raises UnknownNameError, which lists the choices."""
    return _load("challenge", name, CHALLENGES)  # type: ignore[no-any-return]


def _load(what: str, name: str, table: dict[str, tuple[str, str]]) -> Any:
    if name not in table:
        raise UnknownNameError(what, name, tuple(table))
    module, _, attribute = table[name][0].partition(":")
    return getattr(importlib.import_module(module), attribute)
