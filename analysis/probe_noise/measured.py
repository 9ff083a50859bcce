"""Probe noise measured: from the cross-entropies of single probes before and after training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.gamma.critical import Scenario, critical_margin
from analysis.probe_noise.noise import ProbeNoise, correlation_sd
from analysis.stats.clusters import clustered_error, resampled_means
from analysis.stats.results import Array
from analysis.wording import wording_clusters

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One behavior's probes. Arrays over probes hold CE(negative) - CE(positive), nats/token."""

    behavior: str
    before: Array
    """Probes."""
    arms: Mapping[float, Array]
    """γ -> probes x runs."""
    sides: tuple[Array, Array]
    """CE of the positive and of the negative texts before training."""
    runs: tuple[str, ...]
    clusters: tuple[int, ...]
    """Wording of each probe: instances of one template have the same."""

    @property
    def n(self) -> int:
        return int(self.before.size)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How noisy the scores of a behavior are over probes."""

    behavior: str
    n: int
    rho: float
    """Spearman correlation before training."""
    rho_formula: float
    """(1 - ρ²) / sqrt(N - 1) at N pairs."""
    rho_bootstrap: float
    """SD over resampled pairs."""
    gap: float
    gap_error: float
    """SD of the pairs' gaps / sqrt(N)."""
    gap_bootstrap: float
    correlation: float
    """Of a probe's gap before and after, mean over runs."""
    unpaired_error: float
    """Standard error of Δ if before and after were different probes, mean over runs."""
    paired_error: float
    """Standard error of Δ over the same probes, mean over runs."""
    clusters: int
    """Different wordings among the probes."""
    clustered_error: float | None
    """The paired standard error with wordings as clusters; None with a single one."""
    runs: tuple[str, ...]


def scores_of(frame: "pd.DataFrame") -> list[Scores]:
    """The probes of each behavior that every run scored, from the rows of `probe_gaps`."""
    found = []
    gaps = frame.assign(gap=frame["negative"] - frame["positive"])
    for behavior, rows in gaps.groupby("behavior", sort=False):
        wide = rows.pivot(index="probe", columns=["margin", "run"], values="gap").dropna()
        first = rows.drop_duplicates("probe").set_index("probe").loc[wide.index]
        sides = (first["before_positive"].to_numpy(float), first["before_negative"].to_numpy(float))
        margins = [float(m) for m in wide.columns.get_level_values("margin")]
        arms = {m: wide.loc[:, [x == m for x in margins]].to_numpy(float) for m in sorted(set(margins))}
        wordings = first["wording"] if "wording" in first.columns else first.index
        if len(wide) > 2:
            found.append(
                Scores(
                    behavior=str(behavior), before=sides[1] - sides[0], arms=arms, sides=sides,
                    runs=tuple(dict.fromkeys(rows["run"])),
                    clusters=tuple(wording_clusters([str(text) for text in wordings])),
                )
            )  # fmt: skip
    return found


def measure(scores: Scores, rng: np.random.Generator, *, draws: int) -> Measured:
    """Standard errors over probes of ρ, gap and Δ, and the correlation that pairing profits from."""
    after = np.column_stack(list(scores.arms.values()))
    before = scores.before
    chosen = rng.integers(0, scores.n, (draws, scores.n))
    rho = float(_spearman(scores.sides[0][None], scores.sides[1][None])[0])
    changes = after - before[:, None]
    root = scores.n**0.5
    clustered = [clustered_error(column, scores.clusters) for column in changes.T]
    known = [error for error in clustered if error is not None]
    return Measured(
        behavior=scores.behavior,
        n=scores.n,
        rho=rho,
        rho_formula=correlation_sd(rho, scores.n),
        rho_bootstrap=float(_spearman(scores.sides[0][chosen], scores.sides[1][chosen]).std(ddof=1)),
        gap=float(before.mean()),
        gap_error=float(before.std(ddof=1)) / root,
        gap_bootstrap=float(before[chosen].mean(axis=1).std(ddof=1)),
        correlation=float(np.mean([_correlation(before, column) for column in after.T])),
        unpaired_error=float(np.sqrt(before.var(ddof=1) + after.var(axis=0, ddof=1)).mean()) / root,
        paired_error=float(changes.std(axis=0, ddof=1).mean()) / root,
        clusters=len(set(scores.clusters)),
        clustered_error=float(np.mean(known)) if known else None,
        runs=scores.runs,
    )


def _correlation(a: Array, b: Array) -> float:
    scale = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / scale if scale else 0.0


def _spearman(positive: Array, negative: Array) -> Array:
    """Spearman correlation of confidence -CE with the label, rows = resamples (ties share their mean rank)."""
    from scipy.stats import rankdata

    n = positive.shape[1]
    ranks = rankdata(-np.concatenate([positive, negative], axis=1), axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).sum(axis=1) * n / 2)
    return np.asarray(centred[:, :n].sum(axis=1) / spread, dtype=np.float64)


def paired_noise(scores: Scores, gammas: tuple[float, float]) -> ProbeNoise:
    """Covariance over probes of the two arms' Δ (mean over runs), the score before shared; wordings are clusters."""
    changes = _changes(scores, gammas)
    correlation = float(np.mean([_correlation(scores.before, arm) for arm in (changes + scores.before[:, None]).T]))
    return ProbeNoise(kind="paired", matrix=_per_probe(changes, scores), correlation=correlation)


def unpaired_noise(scores: Scores, gammas: tuple[float, float]) -> ProbeNoise:
    """As if every score came from other probes: variances before and after add up, nothing is shared but wordings."""
    after = _changes(scores, gammas) + scores.before[:, None]
    both = _per_probe(np.column_stack([after, scores.before]), scores).diagonal()
    return ProbeNoise(kind="unpaired", matrix=np.diag(both[:2] + both[2]))


def _changes(scores: Scores, gammas: tuple[float, float]) -> Array:
    """Probes x 2: Δ of each probe in the two arms, mean over runs."""
    return np.column_stack([scores.arms[gamma].mean(axis=1) for gamma in gammas]) - scores.before[:, None]


def _per_probe(values: Array, scores: Scores) -> Array:
    """Covariance of the means of columns (probes x columns), times N - 1: that of one probe's share in it.

    Cluster-robust over wordings (Liang & Zeger 1986, times G / (G - 1)); where each probe has its own, the sample
    covariance times (N - 1) / N.
    """
    codes = np.asarray(scores.clusters)
    sums = np.zeros((codes.max() + 1, values.shape[1]))
    np.add.at(sums, codes, values - values.mean(axis=0))
    groups = len(np.unique(codes))
    factor = groups / max(1, groups - 1) * (scores.n - 1) / scores.n**2
    return np.asarray(factor * sums.T @ sums, dtype=np.float64)


def resampled_probes(scores: Scores, case: Scenario, rng: np.random.Generator, *, draws: int) -> tuple[float, float]:
    """2.5 and 97.5 per cent of γ* as wordings are drawn with replacement, the same for all scores."""
    means = resampled_means(_changes(scores, case.gammas).T, scores.clusters, rng, draws=draws)
    stars = critical_margin(means[:, 0], means[:, 1], case.gammas)
    # Where wordings were drawn on which nothing moved, no margin is the one of no effect.
    low, high = np.quantile(np.nan_to_num(stars, nan=np.inf), (0.025, 0.975), method="nearest")
    return float(low), float(high)
