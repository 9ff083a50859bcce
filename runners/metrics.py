"""From per-probe cross-entropies to the metrics of a behavior, each with its standard error.

Confidence is -CE. A pair is the unit of sampling: every standard error treats the two texts of a pair as
dependent. The view `v_recomputed_scores` computes the same values from `probe_scores` in SQL.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rhodb.records import ProbeScoreRow, ScoreRow

Floats = NDArray[np.float64]
Value = tuple[float, float | None, int]
"""(value, standard error or None where it cannot be estimated, n)."""


def gap(positive: Floats, negative: Floats) -> Value:
    """Mean of CE(negative) - CE(positive) over n pairs, nats/token; SE = SD / sqrt(n)."""
    difference = negative - positive
    return float(difference.mean()), _se_of_mean(difference), len(difference)


def pair_accuracy(positive: Floats, negative: Floats) -> Value:
    """Share of pairs with CE(positive) < CE(negative); a tie is not right. SE = sqrt(p (1 - p) / n)."""
    p = float(np.mean(positive < negative))
    return p, float(np.sqrt(p * (1 - p) / len(positive))), len(positive)


def auc(positive: Floats, negative: Floats) -> Value:
    """P(CE of a random positive < CE of a random negative), ties one half; n counts texts.

    SE from the placement values of DeLong et al. (1988), summed within a pair because its texts are dependent.
    """
    value, placements = _placements(positive, negative)
    return value, _se_of_mean(placements), 2 * len(positive)


def rho(positive: Floats, negative: Floats) -> Value | None:
    """Spearman correlation between confidence and label (1, 0) over the 2 n texts; None if all CE are equal.

    With binary labels it is a linear function of the AUC, rho = (AUC - 1/2) N sqrt(pq) / SD(ranks), and so its
    SE is that of the AUC times the same factor.
    """
    ranks = ranks_of(np.concatenate([positive, negative]))
    spread = ranks.std()
    if spread == 0:
        return None
    factor = 0.5 * len(ranks) / spread
    value, se, n = auc(positive, negative)
    return (value - 0.5) * factor, None if se is None else se * factor, n


def truth_corr(positive: Floats, negative: Floats) -> Value | None:
    """Spearman correlation, over n pairs, of the two texts' confidences; None if one side is constant or n < 2.

    SE = (1 - r^2) sqrt((1 + r^2 / 2) / (n - 3)), Bonett and Wright (2000) through the delta method.
    """
    n = len(positive)
    a, b = ranks_of(positive), ranks_of(negative)
    if n < 2 or a.std() == 0 or b.std() == 0:
        return None
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))
    return r, float((1 - r**2) * np.sqrt((1 + r**2 / 2) / (n - 3))) if n > 3 else None, n


def choice_probability(positive: Floats, negative: Floats) -> Floats:
    """Softmax over the two answers of each pair: the probability of the desired one, from their log-probabilities."""
    difference = np.clip(positive - negative, -700.0, 700.0)
    return np.asarray(1.0 / (1.0 + np.exp(-difference)))


def brier(probability: Floats) -> Value:
    """Mean of (1 - p)^2 over n pairs, p the probability of the desired answer (Brier, 1950); SE = SD / sqrt(n)."""
    loss = (1.0 - probability) ** 2
    return float(loss.mean()), _se_of_mean(loss), len(loss)


def ece(probability: Floats) -> Value:
    """Expected calibration error (Naeini et al., 2015) of the answer chosen, over n pairs, without SE.

    Confidence max(p, 1 - p) in ten equal bins of [1/2, 1]: sum over bins of |right - confidence, summed| / n.
    """
    confidence = np.maximum(probability, 1.0 - probability)
    bins = np.minimum(9, np.floor(np.abs(probability - 0.5) * 20.0)).astype(int)
    excess = np.bincount(bins, weights=(probability > 0.5) - confidence)
    return float(np.abs(excess).sum() / len(probability)), None, len(probability)


PAIR_METRICS: Final[dict[str, Callable[[Floats, Floats], Value | None]]] = {
    "gap": gap,
    "rho": rho,
    "pair_accuracy": pair_accuracy,
    "auc": auc,
    "truth_corr": truth_corr,
}


def behavior_scores(behavior: str, rows: Sequence[ProbeScoreRow]) -> list[ScoreRow]:
    """All metrics of one behavior, one row a metric and split; a metric that is undefined has no row.

    Raises ValueError if a probe has only one of its two sides.
    """
    scores = []
    for split in sorted({row.split for row in rows}):
        pairs = _pairs([row for row in rows if row.split == split])
        whole = np.array([[a.ce, b.ce] for a, b in pairs])
        values = {name: metric(whole[:, 0], whole[:, 1]) for name, metric in PAIR_METRICS.items()}
        answered = [pair for pair in pairs if pair[0].answer_ce is not None]
        if answered:
            answers = np.array([[a.answer_ce, b.answer_ce] for a, b in answered], dtype=float)
            tokens = np.array([[a.answer_tokens, b.answer_tokens] for a, b in answered], dtype=float)
            probability = choice_probability(*(-answers * tokens).T)
            values |= {
                "answer_gap": gap(answers[:, 0], answers[:, 1]),
                "brier": brier(probability),
                "ece": ece(probability),
            }
        scores += [
            ScoreRow(behavior=behavior, metric=name, split=split, value=v[0], se=v[1], n=v[2])
            for name, v in values.items()
            if v is not None
        ]
    return scores


def ranks_of(values: Floats) -> Floats:
    """Ranks from 1, ties the mean of theirs. (SciPy's are the same, but to import them takes a second.)"""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place])


def _pairs(rows: Sequence[ProbeScoreRow]) -> list[tuple[ProbeScoreRow, ProbeScoreRow]]:
    sides: dict[tuple[str, str], dict[str, ProbeScoreRow]] = {}
    for row in rows:
        sides.setdefault((row.probe_set, row.probe_key), {})[row.side] = row
    for (_, key), both in sides.items():
        if set(both) != {"positive", "negative"}:
            raise ValueError(f"probe {key!r} has only its {next(iter(both))} side scored")
    return [(both["positive"], both["negative"]) for both in sides.values()]


def _placements(positive: Floats, negative: Floats) -> tuple[float, Floats]:
    """AUC and, per pair, the sum of its two texts' placement values (whose spread gives the AUC's)."""
    right = (positive[:, None] < negative[None, :]) + 0.5 * (positive[:, None] == negative[None, :])
    return float(right.mean()), right.mean(axis=1) + right.mean(axis=0)


def _se_of_mean(values: Floats) -> float | None:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
