"""What a look at registered hypotheses says: verdict, corrected estimate, p; for one, and for a family together."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from analysis.stats.anytime import AnyTime
from analysis.stats.decisions import OPEN, Direction, Futility, Kind, Question, Rule, moments
from analysis.stats.multiplicity import Procedure, family_levels
from analysis.stats.sequential import GroupSequential, Spending
from analysis.stats.stopped import stopped_estimate
from rhodb.hypotheses import Evidence, Hypothesis, Look

CONFIDENCE = 0.95
CLOSED = ("supported", "refuted", "undecided")
ANY_TIME = "confidence sequence: the interval holds at every look (normal data)"
REPEATED = "repeated confidence interval: it holds at every look (normal data)"


def rule_of(h: Hypothesis) -> Rule:
    """The stopping rule of a hypothesis."""
    if h.rule == "any-time":
        return AnyTime(looks=h.looks)
    return GroupSequential(looks=h.looks, spending=cast(Spending, h.spending))


def question_of(h: Hypothesis) -> Question:
    """What it asks of the differences."""
    kind = "superiority" if h.kind == "difference" else h.kind
    return Question(
        kind=cast(Kind, kind), direction=cast(Direction, h.direction), margin=h.margin, alpha=h.alpha, beta=h.beta,
        futility=cast(Futility, h.futility),
    )  # fmt: skip


def next_look(h: Hypothesis, made: Sequence[Look]) -> int | None:
    """Seeds at the next look; None where it is decided, withdrawn or at its last seed."""
    if h.withdrawn_at is not None or (made and made[-1].decision != "open"):
        return None
    done = made[-1].seeds if made else 0
    return next((n for n in h.looks if n > done), None)


def look_at(h: Hypothesis, found: Evidence, seeds: int, *, level: float) -> Look:
    """The look after so many seeds, at a one-sided level; what is open after the last look is undecided.

    Raises ValueError where the evidence has fewer seeds.
    """
    if len(found.differences) < seeds:
        raise ValueError(f"{len(found.differences)} seeds are done, not {seeds}")
    rule, question = rule_of(h), question_of(h)
    made = tuple(n for n in h.looks if n <= seeds)
    values = question.oriented(found.differences[:seeds])
    mean, se = moments(values, made)
    bounds = question.bounds(rule, alpha=level) if level > 0 else None
    # A family may have handed on alpha since an earlier look: what that look shows at the new level counts.
    shown = [OPEN] if bounds is None else [int(bounds.outcome(k, mean[k], se[k])) for k in range(len(made))]
    supporting = next((x for x in shown if x in question.claims), OPEN)
    decision: str = question.decision(supporting if supporting != OPEN else shown[-1])
    if decision == "open" and seeds == h.looks[-1]:
        decision = "undecided"
    estimate, low, high, method = _estimate(h, values, made, decision, level)
    if h.direction == "less":
        estimate, low, high = (None if x is None else -x for x in (estimate, high, low))
    return Look(
        seeds=seeds, decision=decision, level=level, p=question.p(rule, mean, se),
        mean=float(np.mean(found.differences[:seeds])), estimate=estimate, low=low, high=high, method=method,
        runs=tuple(uuid for runs in found.runs[:seeds] for uuid in runs),
        differences=tuple(found.differences[:seeds]), seconds=float(sum(found.seconds[:seeds])),
    )  # fmt: skip


def _estimate(
    h: Hypothesis, values: np.ndarray, made: tuple[int, ...], decision: str, level: float
) -> tuple[float | None, float | None, float | None, str]:
    """Estimate and interval: corrected for stopping where a group-sequential test stopped."""
    rule = rule_of(h)
    if decision in CLOSED and isinstance(rule, GroupSequential) and level > 0:
        found = stopped_estimate(values, question_of(h).bounds(rule, alpha=level), made, level=CONFIDENCE)
        return found.value, found.low, found.high, found.method
    mean, se = moments(values, made)
    reach = float(rule.critical((1 - CONFIDENCE) / 2)[len(made) - 1] * se[-1]) if se[-1] > 0 else np.inf
    method = ANY_TIME if isinstance(rule, AnyTime) else REPEATED
    centre = float(mean[-1])
    return (centre, centre - reach, centre + reach, method) if np.isfinite(reach) else (centre, None, None, method)


def look_at_family(
    family: Sequence[Hypothesis],
    evidence: Mapping[int, Evidence],
    made: Mapping[int, Sequence[Look]],
    due: Mapping[int, int],
) -> dict[int, Look]:
    """New looks at the hypotheses of one family, by id.

    Those that are due at so many seeds, and earlier looks at others that the alpha of a supported one decides now.
    """
    members = [h for h in family if h.withdrawn_at is None]
    state = {h.id: made[h.id][-1].decision if made[h.id] else "open" for h in members}
    new: dict[int, Look] = {}
    while True:
        supported = [state[h.id] == "supported" for h in members]
        levels = family_levels(supported, members[0].alpha, cast(Procedure, members[0].procedure))
        before = dict(state)
        for h, level in zip(members, levels, strict=True):
            seeds = due.get(h.id) or (made[h.id][-1].seeds if made[h.id] else 0)
            if state[h.id] == "open" and seeds:
                look = look_at(h, evidence[h.id], seeds, level=level)
                if h.id in due or look.decision == "supported":
                    new[h.id] = look
                state[h.id] = "supported" if look.decision == "supported" else "open"
        if state == before:
            break
    return new
