"""When a registered question about a mean is decided: what is asked, its boundaries at each look, and the verdict.

A question is about the mean of one value a seed: the difference of two arms under the same seed, the change against
the baseline, a slope over doses. Every kind is decided by where t stands that is taken from one or two edges, so that
one pair of boundaries (level α for the claim, β for giving it up) serves all of them:

    kind             supported                       refuted
    superiority  >   the mean is above 0             an effect of the margin is excluded
    superiority  ≠   the mean is not 0               the mean is within ± margin
    equivalence      the mean is within ± margin     the mean is outside of it
    non-inferiority  the mean is above - margin      the mean is below - margin

A true claim (for superiority: an effect of at least the margin) is refuted with probability at most β, a false one
supported with probability at most α (Jennison & Turnbull 2000, chapters 4 and 9), whatever the variance.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from analysis.stats.anytime import AnyTime, always_valid_p
from analysis.stats.results import Array
from analysis.stats.sequential import GroupSequential, sequential_p

Kind = Literal["superiority", "equivalence", "non-inferiority"]
Direction = Literal["greater", "less", "different"]
Futility = Literal["none", "non-binding", "binding"]
Decision = Literal["supported", "refuted", "open"]
Rule = GroupSequential | AnyTime

UP, DOWN, WITHIN, OPEN = 1, -1, 2, 0
"""Where the mean was shown to be: above its edge, below its edge, inside the margins; or nothing yet."""


@dataclass(frozen=True, kw_only=True)
class Edge:
    """An edge that the mean is held against, and the t, a look, that shows it to lie beyond."""

    at: float
    critical: Array


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The edges of a question: crossed upwards, downwards, or both of `within` at one look."""

    up: Edge | None = None
    down: Edge | None = None
    within: Edge | None = None
    """± at."""
    stop_below: float | None = None
    """Binding futility: from the second look on, down as soon as t against `up` is at most this."""

    def outcome(self, k: int, mean: npt.ArrayLike, se: npt.ArrayLike) -> npt.NDArray[np.int8]:
        """What look k shows, from means and their standard errors; nothing where there is no variation."""
        m, s = np.asarray(mean, dtype=np.float64), np.asarray(se, dtype=np.float64)
        shown = np.zeros(np.broadcast_shapes(m.shape, s.shape), dtype=np.int8)
        with np.errstate(invalid="ignore"):  # an unreachable boundary times no variation
            if self.within is not None:
                reach = self.within.critical[k] * s
                shown[(m - self.within.at <= -reach) & (m + self.within.at >= reach)] = WITHIN
            if self.down is not None:
                shown[m - self.down.at <= -self.down.critical[k] * s] = DOWN
            if self.up is not None:
                if self.stop_below is not None and k > 0:
                    shown[m - self.up.at <= self.stop_below * s] = DOWN
                shown[m - self.up.at >= self.up.critical[k] * s] = UP
        shown[~(s > 0)] = OPEN
        return shown


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of the mean. `less` is asked of the negated values (see `oriented`)."""

    kind: Kind
    direction: Direction
    margin: float
    """Smallest effect of interest, or the margin of equivalence or non-inferiority: above 0."""
    alpha: float = 0.05
    beta: float = 0.1
    futility: Futility = "non-binding"

    def oriented(self, values: npt.ArrayLike) -> Array:
        """The values with the sign under which "greater" is what is claimed."""
        sample = np.asarray(values, dtype=np.float64)
        return -sample if self.direction == "less" else sample

    @property
    def claims(self) -> frozenset[int]:
        """The outcomes that support the claim."""
        if self.kind == "equivalence":
            return frozenset({WITHIN})
        return frozenset({UP, DOWN}) if self.direction == "different" else frozenset({UP})

    def decision(self, outcome: int) -> Decision:
        if outcome == OPEN:
            return "open"
        return "supported" if outcome in self.claims else "refuted"

    def bounds(self, rule: Rule, *, alpha: float | None = None) -> Bounds:
        """The boundaries under a rule; `alpha` in place of the question's own (a family's share)."""
        level = self.alpha if alpha is None else alpha
        two_sided = self.kind == "superiority" and self.direction == "different"
        claim = rule.critical(level / 2 if two_sided else level)
        refute = None if self.futility == "none" else rule.critical(self.beta)

        def edge(at: float, critical: Array | None) -> Edge | None:
            return None if critical is None else Edge(at=at, critical=critical)

        if self.kind == "equivalence":
            return Bounds(
                within=edge(self.margin, claim), up=edge(self.margin, refute), down=edge(-self.margin, refute)
            )
        if two_sided:
            return Bounds(up=edge(0.0, claim), down=edge(0.0, claim), within=edge(self.margin, refute))
        low = -self.margin if self.kind == "non-inferiority" else 0.0
        high = low if self.kind == "non-inferiority" else self.margin
        if self.futility == "binding" and isinstance(rule, GroupSequential):
            return Bounds(up=edge(low, rule.critical_binding(level)), down=edge(high, refute), stop_below=0.0)
        return Bounds(up=edge(low, claim), down=edge(high, refute))

    def p(self, rule: Rule, mean: npt.ArrayLike, se: npt.ArrayLike) -> float:
        """p of the claim, valid at every look: means and standard errors of the oriented values at the looks so far."""
        m, s = np.asarray(mean, dtype=np.float64), np.asarray(se, dtype=np.float64)
        s = np.where(s > 0, s, np.nan)

        def above(edge: float, sign: int = 1) -> float:
            t = sign * (m - edge) / s
            return always_valid_p(rule, t) if isinstance(rule, AnyTime) else sequential_p(rule, t)

        if self.kind == "equivalence":
            return max(above(-self.margin), above(self.margin, -1))
        if self.kind == "non-inferiority":
            return above(-self.margin)
        if self.direction == "different":
            return min(1.0, 2 * min(above(0.0), above(0.0, -1)))
        return above(0.0)


def moments(values: npt.ArrayLike, looks: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and its standard error after the first n values, for each look n; of one sample or of many (last axis)."""
    x = np.asarray(values, dtype=np.float64)
    n = np.array(looks)
    origin = x[..., :1]
    total = np.cumsum(x - origin, axis=-1)[..., n - 1]
    squares = np.cumsum((x - origin) ** 2, axis=-1)[..., n - 1]
    spread = np.maximum(squares - total * total / n, 0.0)
    spread[spread <= 1e-12 * squares] = 0.0
    return origin + total / n, np.sqrt(spread / (n * (n - 1)))


def first_outcome(bounds: Bounds, mean: Array, se: Array) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int8]]:
    """Studies x looks: the look at which each stops (the last one if never), and what it shows there."""
    shown = np.stack([bounds.outcome(k, mean[:, k], se[:, k]) for k in range(mean.shape[1])], axis=1)
    stopped = shown != OPEN
    look = np.where(stopped.any(axis=1), stopped.argmax(axis=1), mean.shape[1] - 1)
    return look, shown[np.arange(len(shown)), look]
