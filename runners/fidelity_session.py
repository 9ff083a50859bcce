"""The one cell of a Fidelity-Bench audit: its own baseline, since nothing is changed."""

import itertools
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rhodb.errors import UnknownNameError
from rhodb.family_records import FidelityCategoryRow, FidelityRow
from rhodb.records import ProbeScoreRow
from runners import metrics
from runners.cells import Cell, CellProgress, CellRows
from runners.fidelity_bench import FidelityConfig
from runners.probes import ProbeUse
from runners.scoring_session import NOTHING_RANDOM, ScoringSession, with_family

EXACT_TO = 8
"""Pairs up to which all permutations (40,320) are enumerated."""


class FidelitySession(ScoringSession):
    """Scores every pair of the chosen categories once. Nothing is random: only the first seed is run."""

    kind: ClassVar[str] = "fidelity"

    def __init__(self, config: FidelityConfig) -> None:
        super().__init__(config.model_copy(update={"probes_per_behavior": 0}))
        self.config = config
        files = [s for s in self.sets if s.behavior in self.behaviors]
        names = [s.name for s in files]
        self._names = {s.fingerprint: s.name if names.count(s.name) == 1 else f"{s.behavior}/{s.name}" for s in files}
        chosen = config.categories or tuple(dict.fromkeys(self._names.values()))
        for name in chosen:
            if name not in self._names.values():
                raise UnknownNameError("category", name, tuple(sorted(set(self._names.values()))))
        limit = config.probes_per_behavior or None
        by_category: dict[str, list[ProbeUse]] = {name: [] for name in chosen}
        for use in self.eval_uses:
            if self._names[use.probe_set] in by_category:
                by_category[self._names[use.probe_set]].append(use)
        self._uses = [use for uses in by_category.values() for use in uses[:limit]]

    @cached_property
    def cells(self) -> list[Cell]:
        """The audit alone."""
        return list(self.grid())

    def grid(self) -> Iterator[Cell]:
        categories = sorted({self._names[use.probe_set] for use in self._uses})
        config = {"categories": categories, "probes_per_category": self.config.probes_per_behavior}
        yield Cell(
            identity=self.identity(self.kind, self.config.seeds[0], self.scoring_config | config),
            label=f"fidelity-bench seed {self.config.seeds[0]}",
            baseline=None,
            train_work=0.0,
            score_work=self.work(self._uses),
        )

    def run_cell(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        rows = self.score(self._uses, progress)
        by_category: dict[str, list[ProbeScoreRow]] = {}
        for row in rows.probe_scores:
            by_category.setdefault(self._names[row.probe_set], []).append(row)
        audited = [category_row(name, own) for name, own in sorted(by_category.items())]
        return with_family(
            rows,
            FidelityRow(n_categories=len(audited)),
            *audited,
            p_method=f"two-sided; all permutations up to n = {EXACT_TO}, beyond that t with n - 2 degrees of freedom",
            seed_semantics=NOTHING_RANDOM,
        )


def spearman_p(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Two-sided p of a rank correlation: exact by enumeration for few pairs, where the t approximation can reach 0."""
    if len(a) > EXACT_TO:
        from scipy.stats import spearmanr

        return float(spearmanr(a, b).pvalue)
    first, second = (metrics.ranks_of(x) - (len(a) + 1) / 2 for x in (a, b))
    orders = np.array(list(itertools.permutations(range(len(a)))))
    null = np.abs(second[orders] @ first)
    return float(np.mean(null >= abs(second @ first) - 1e-9))


def category_row(name: str, rows: list[ProbeScoreRow]) -> FidelityCategoryRow:
    """Scores of one category; truth_corr and its p are None where the correlation is undefined (n < 3, or constant)."""
    sides = {
        side: {(r.probe_set, r.probe_key): r.ce for r in rows if r.side == side} for side in ("positive", "negative")
    }
    keys = sorted(sides["positive"])
    true, false = (np.array([sides[side][key] for key in keys]) for side in ("positive", "negative"))
    corr = metrics.truth_corr(true, false)
    return FidelityCategoryRow(
        category=name,
        n_probes=len(keys),
        truth_corr=corr[0] if corr else None,
        p=spearman_p(true, false) if corr and len(keys) > 2 else None,
        mean_delta=metrics.gap(true, false)[0],
        pair_accuracy=metrics.pair_accuracy(true, false)[0],
    )
