"""From a check and its challenges to a verdict. Sentences are composed from the numbers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from analysis.claims.claim import Claim, read_claims
from analysis.claims.expression import MissingInputError
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Challenge, Check, Kind, OwnRuns, Verdict
from analysis.claims.own import Own
from analysis.claims.provenance import examined, provenance
from analysis.claims.registry import load_challenge, load_checker
from analysis.query import read_sql
from rhodb.errors import InputError
from rhodb.published import PublishedValue, read_folder

if TYPE_CHECKING:
    from rhodb.warehouse import Warehouse

Agreement = Literal["reproduced", "up to rounding", "inconsistent"]


def verify(wh: "Warehouse | None" = None, claims: Sequence[Claim] | None = None) -> tuple[Verdict, ...]:
    """A verdict for every claim (the notes', unless others are given), in their order.

    Published inputs are those shipped with rhodb and those in the warehouse; `wh` may be None: claims about
    its own runs then cannot be checked. Raises InputError for a claim that cannot even be attempted.
    """
    claims = read_claims() if claims is None else tuple(claims)
    inputs = Inputs(published_values(wh), wh)
    own = None if wh is None else Own(wh, inputs.landscape_probes(), claims)
    return tuple(judge(inputs, claim, own) for claim in claims)


def published_values(wh: "Warehouse | None") -> list[PublishedValue]:
    """Shipped figures, then those that only the warehouse holds."""
    values = {value.key: value for value in read_folder()}
    if wh is not None:
        for row in wh.rows(read_sql("published_values", conditions="1 = 1")):
            values.setdefault(row["key"], PublishedValue(**row))
    return list(values.values())


def judge(inputs: Inputs, claim: Claim, own: Own | None = None) -> Verdict:
    """The verdict on one claim. Raises InputError naming the claim."""
    try:
        check = examined(inputs, claim, _checked(inputs, claim))
        challenges = [_challenged(inputs, claim, name) for name in claim.challenges]
        said = own.about(claim) if own is not None and claim.own else None
    except InputError as error:
        raise InputError(f"claim {claim.id}: {error}") from error
    verdict = compose(claim, check, challenges, said)
    return replace(verdict, provenance=provenance(inputs, verdict.inputs))


def _checked(inputs: Inputs, claim: Claim) -> Check:
    try:
        return load_checker(claim.checker)(inputs, claim)
    except MissingInputError as error:
        return Check(value=None, needs=claim.parameters.get("needs", error.needs))


def _challenged(inputs: Inputs, claim: Claim, name: str) -> Challenge:
    try:
        return replace(load_challenge(name)(inputs, claim), name=name)
    except MissingInputError as error:
        return Challenge(name=name, fails=False, text=f"{name} cannot be decided without {error.needs}.")


def agreement(claim: Claim, check: Check) -> Agreement | None:
    """How a recomputed value stands to the printed one; None where there is no value.

    Reproduced: it rounds to the printed figure (or obeys the printed bound). Up to rounding: it does not, but the
    error of the inputs leaves that open, or it is off by at most one unit of the last of two digits or more
    (never for counts).
    """
    if check.value is None:
        return "inconsistent" if check.impossible else None
    low = check.value if check.low is None else check.low
    high = check.value if check.high is None else check.high
    if claim.relation != "=":
        if _holds(claim.relation, check.value, claim.value):
            return "reproduced"
        return (
            "up to rounding" if any(_holds(claim.relation, end, claim.value) for end in (low, high)) else "inconsistent"
        )
    slack = 1e-9 * max(1.0, abs(claim.value))
    half = (claim.precision or 0.0) / 2
    miss = abs(check.value - claim.value)
    if miss <= half + slack:
        return "reproduced"
    last_digit = half < 0.5 and abs(claim.value) >= 20 * half and miss <= 2 * half + slack
    if low - half - slack <= claim.value <= high + half + slack or last_digit:
        return "up to rounding"
    return "inconsistent"


def _holds(relation: str, value: float, bound: float) -> bool:
    slack = 1e-12 * max(1.0, abs(bound))
    return {
        "<": value < bound - slack, "<=": value <= bound + slack, ">": value > bound + slack,
        ">=": value >= bound - slack,
    }[relation]  # fmt: skip


def compose(claim: Claim, check: Check, challenges: Sequence[Challenge], own: OwnRuns | None) -> Verdict:
    """Put everything together; an inconsistency weighs more than an unsound method, and that more than rounding.

    A second printing that agrees reproduces nothing: own runs, where they speak, then decide.
    """
    found = agreement(claim, check)
    failed = [challenge for challenge in challenges if challenge.fails]
    restated = check.restates and claim.relation == "=" and found is not None
    kind: Kind
    if found == "inconsistent":
        kind = "inconsistent"
    elif failed:
        kind = "method unsound"
    elif found is not None and not restated:
        kind = found
    elif own is not None and own.speaks != "undecided":
        kind = "supported by own runs" if own.speaks == "for" else "contradicted by own runs"
    else:
        kind = "only restated" if restated else "cannot be checked"
    stood = tuple(challenge.text for challenge in challenges if not challenge.fails)
    numbers = dict(check.numbers)
    for challenge in challenges:
        numbers.update(challenge.numbers)
    keys = dict.fromkeys((*check.inputs, *(key for challenge in challenges for key in challenge.inputs)))
    return Verdict(
        id=claim.id, section=claim.section, subject=claim.subject, statistic=claim.statistic, printed=claim.printed,
        unit=claim.unit, verdict=kind, recomputed=_value(check, own), low=check.low, high=check.high,
        text=_sentence(claim, check, found, failed, own),
        objections=tuple(challenge.text for challenge in failed), remarks=(*check.remarks, *stood), numbers=numbers,
        own_runs=own, checker=claim.checker, method=check.method, reference=check.reference, inputs=tuple(keys),
    )  # fmt: skip


def _value(check: Check, own: OwnRuns | None) -> float | None:
    """The recomputed value; where published inputs give none, that of the same experiment in the warehouse.

    None where the warehouse has several: no one of its strata or series stands for the others.
    """
    if check.value is None and own is not None and own.same_experiment and len(own.numbers) == 1:
        return next(iter(own.numbers.values()))
    return check.value


def number(value: float) -> str:
    """A value as sentences show it: four significant digits."""
    return f"{value:.4g}"


def _sentence(
    claim: Claim, check: Check, found: Agreement | None, failed: Sequence[Challenge], own: OwnRuns | None
) -> str:
    parts = []
    if check.value is not None:
        again = check.restates and claim.relation == "=" and found != "inconsistent"
        parts.append(_repeated(claim, check) if again else _recomputed(claim, check, found))
    elif check.impossible or check.refused:
        parts.append(check.impossible or check.refused)
    else:
        parts.append(f"Not recomputable from what is public: it takes {check.needs}.")
    parts += [challenge.text for challenge in failed]
    if found == "inconsistent" and check.value is not None:
        parts += check.remarks[:2]
    if own is not None:
        parts.append(own.text)
    return " ".join(parts)


def _repeated(claim: Claim, check: Check) -> str:
    """A second printing beside the first."""
    where = ", ".join(check.inputs)
    return f"Printed {claim.printed}, and again as {number(check.value or 0.0)} ({where}): that recomputes nothing."


def _recomputed(claim: Claim, check: Check, found: Agreement | None) -> str:
    """The recomputed value beside the printed one."""
    value = number(check.value or 0.0)
    span = ""
    if check.low is not None and check.high is not None and check.high - check.low > 1e-12:
        span = f" ({number(check.low)} to {number(check.high)} with the rounding or sampling error of its inputs)"
    if claim.relation != "=":
        holds = {"reproduced": "holds", "up to rounding": "may hold within rounding"}.get(found or "", "does not hold")
        return f"{claim.printed} is claimed; it is {value}{span}: that {holds}."
    if found == "reproduced":
        return f"Recomputed {value}, printed {claim.printed}."
    tail = "rounding or sampling explains the difference" if found == "up to rounding" else "they disagree"
    return f"Recomputed {value}{span}, printed {claim.printed}: {tail}."
