"""Does one seed respond to the dose more than the others?"""

import numpy as np

from analysis.anomalies.base import Data, Detector, about, named, seed_table
from analysis.anomalies.dose import stratum_of
from analysis.design import Declared
from analysis.looks import Look, group, metric_unit
from analysis.panel import Sheet
from analysis.stats.outliers import grubbs, largest_z
from analysis.stats.results import Array, no_estimate
from analysis.stats.slopes import seed_slopes, slopes_vary
from analysis.study import StudyOptions


class Responder(Detector):
    """Slopes of single seeds over λ."""

    name = "responder"
    question = "Do seeds differ in their slope over λ, and does one stand out?"
    stratum = "one dose series; the same seeds at every dose"
    design = Declared(varies=frozenset({"rho_weight"}), paired=True)
    test = "F test of random slopes (seeds' slopes against the scatter about their lines); Grubbs' test of the slopes"
    null = "all seeds share one slope"
    reference = "Laird & Ware 1982 (random slopes; balanced case); Grubbs 1950"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        looks = []
        for design in data.panel.designs:
            for ladder in design.ladders():
                for behavior in ladder[0].behaviors:
                    table, seeds, runs = seed_table(ladder, behavior)
                    if len(ladder) >= 3 and len(seeds) >= 3:
                        looks.append(self._look(ladder, behavior, table, seeds, tuple(runs)))
        return looks

    def _look(self, ladder: list[Sheet], behavior: str, table: Array, seeds: list[int], runs: tuple[str, ...]) -> Look:
        doses = np.array([sheet.dose for sheet in ladder])
        slopes = seed_slopes(doses, table.T)
        steep = int(np.abs(slopes - slopes.mean()).argmax())
        others = np.delete(slopes, steep)
        apart = float(slopes[steep] - others.mean())
        unit = metric_unit(ladder[0].metric, ladder[0].quantity)[1]
        at_top, n = grubbs(table[-1]), len(seeds)
        outlier = grubbs(slopes)
        z = "none" if outlier.statistic is None else f"{outlier.statistic:.2f} of at most {largest_z(n):.2f}"
        return Look(
            detector=self.name,
            about=about(ladder[0], behavior, stratum_of(ladder)),
            what=f"{ladder[0].model}: slopes of {named(ladder[0], behavior)} over λ run from {slopes.min():.3g} to "
            f"{slopes.max():.3g}; seed {seeds[steep]} departs most ({apart:+.3g} from the others' mean, |z| {z})",
            effect=no_estimate("ok", "slope of the most deviant seed minus the mean of the others", n, value=apart),
            test=slopes_vary(doses, table.T),
            more=(outlier, at_top),
            method=self.method,
            reference=self.reference,
            groups=tuple(group(f"λ={s.dose:g}", seeds, row) for s, row in zip(ladder, table, strict=True)),
            runs=runs,
            unit=unit,
            notes=("slopes: " + ", ".join(f"{s}: {x:.12g}" for s, x in zip(seeds, slopes, strict=True)),),
        )
