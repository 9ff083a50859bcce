"""From numbers to a verdict and one sentence. Every word is computed from the tests; nothing is a constant claim."""

import math
from collections.abc import Mapping
from typing import Protocol

from analysis.findings import Estimate, Group, Test, Verdict
from analysis.needed import seeds_a_side
from analysis.study import StudyOptions
from rhodb.vocabulary import METRICS

RULE = (
    "supported: adjusted Welch p and exact p both at most alpha; suggestive: only some of Welch p, adjusted p and "
    "exact p are; not enough data: the exact test cannot reach alpha with so few seeds"
)


class Compared(Protocol):
    """What the verdict on two groups is made from."""

    @property
    def about(self) -> Mapping[str, str]: ...
    @property
    def groups(self) -> tuple[Group, Group]: ...
    @property
    def standardised(self) -> Estimate: ...
    @property
    def exact(self) -> Test: ...
    @property
    def conflict(self) -> str | None: ...


def judge(compared: Compared, welch: Test, *, options: StudyOptions, looks: int) -> tuple[Verdict, str]:
    """Verdict and sentence on a difference; `welch` carries the adjusted p and the difference."""
    about = compared.about
    what = f"{about['behavior']} {about['metric']} ({about['split']}), {about['a']} against {about['b']}"
    if compared.conflict:
        return "artefact", f"{what}: not compared, because {compared.conflict}."
    verdict = verdict_of(welch, compared.exact, options.alpha)
    if welch.effect is None or welch.effect.value is None:
        return verdict, f"{what}: no values to compare."
    if verdict == "degenerate":
        return verdict, f"{what}: {_degenerate(compared.groups, welch.effect.value)}."
    parts = [f"{what}: difference {_estimate(welch.effect)} {unit_of(about['metric'])}".rstrip()]
    if compared.standardised.status == "ok":
        parts.append(f"g = {_estimate(compared.standardised)}")
    parts += _p_values(welch, compared.exact, options, looks)
    return verdict, f"{verdict.capitalize()}: {', '.join(parts)}{_remedy(compared, verdict, options.alpha)}."


def verdict_of(welch: Test, exact: Test, alpha: float) -> Verdict:
    """See RULE. The floor is the smallest p that the exact test can reach with these group sizes."""
    if "degenerate" in (welch.status, exact.status):
        return "degenerate"
    if welch.p is None or welch.p_adjusted is None or exact.p is None or exact.floor is None:
        return "not enough data"
    if welch.p_adjusted <= alpha and exact.p <= alpha:
        return "supported"
    if exact.floor > alpha:
        return "suggestive" if welch.p_adjusted <= alpha else "not enough data"
    return "suggestive" if min(welch.p, exact.p) <= alpha else "not supported"


def caption(options: StudyOptions, looks: int) -> str:
    """How to read the table."""
    metrics = "; ".join(f"{metric}: {METRICS[metric]}" for metric in options.metrics)
    return (
        f"{metrics}. Split {options.split}. Mean ± SD over seeds; differences and Hedges' g with "
        f"{100 * options.level:g} % intervals. {_correction(options)}: {looks} looks. "
        f"Verdict at alpha {options.alpha:g}: {RULE}."
    )


def _correction(options: StudyOptions) -> str:
    names = {"holm": "p adjusted by Holm", "bh": "p adjusted by Benjamini-Hochberg", "none": "p not adjusted"}
    return names[options.correction]


def _degenerate(groups: tuple[Group, Group], difference: float) -> str:
    if difference == 0:
        return "all runs of both sides have the same score, so there is nothing to test"
    return f"no variation over seeds on either side (difference {difference:.3g}), so there is no interval and no test"


def _p_values(welch: Test, exact: Test, options: StudyOptions, looks: int) -> list[str]:
    parts = []
    if welch.p is not None and welch.p_adjusted is not None:
        parts.append(
            f"Welch p = {p_text(welch.p)} ({p_text(welch.p_adjusted)} by {options.correction} over {looks} looks)"
        )
    if exact.p is not None and exact.floor is not None:
        error = f" ± {exact.p_error:.1g}" if exact.p_error else ""
        at_floor = ", the smallest possible" if math.isclose(exact.p, exact.floor) else f", floor {p_text(exact.floor)}"
        kind = "permutation" if exact.p_error is not None else "exact"
        parts.append(f"{kind} p = {p_text(exact.p)}{error}{at_floor}")
    return parts


def _remedy(compared: Compared, verdict: Verdict, alpha: float) -> str:
    """What it would take, where too few seeds are the reason."""
    a, b = compared.groups
    too_few = verdict == "not enough data" or (compared.exact.floor or 0) > alpha
    if not too_few:
        return ""
    return f"; with {a.n} and {b.n} seeds no exact test reaches {alpha:g}, {seeds_a_side(alpha)} a side could"


def p_text(p: float) -> str:
    """A p value with two significant digits; never rounded to zero."""
    return f"{p:.2g}" if p >= 1e-4 else ("<1e-15" if p < 1e-15 else f"{p:.0e}")


def _estimate(estimate: Estimate) -> str:
    if estimate.value is None:
        return "none"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3g} (no interval)"
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"


def unit_of(metric: str) -> str:
    """The unit of a metric, `nats/token` or empty for a pure number."""
    return "nats/token" if "nats/token" in METRICS[metric] else ""
