"""Does one seed respond to the dose more than the others?"""

from dataclasses import replace

import numpy as np

from analysis.anomalies.base import Data, Detector, about, named, seed_table
from analysis.anomalies.dose import stratum_of
from analysis.design import Declared
from analysis.findings import Robustness
from analysis.looks import Look, group, leaving_out, metric_unit
from analysis.panel import Sheet
from analysis.stats.mixed import MixedSlopes, balanced_slopes, mixed_slopes
from analysis.stats.outliers import grubbs, largest_z, left_out_t, left_out_test
from analysis.stats.results import Array, no_estimate
from analysis.stats.slopes import seed_slopes, slopes_permuted, slopes_vary
from analysis.study import StudyOptions
from analysis.verdicts import p_text

MOST_FITTED = 20
"""Series with gaps that are also fitted by statsmodels in one call: a fit takes some 0.1 s."""


class Responder(Detector):
    """Slopes of single seeds over λ."""

    name = "responder"
    question = "Do seeds differ in their slope over λ, and does one stand out?"
    stratum = "one dose series; the same seeds at every dose"
    design = Declared(varies=frozenset({"rho_weight"}), seeds="subjects")
    test = (
        "F ratio of random slopes (seeds' slopes against the scatter about their lines): the larger p of the F test "
        "and of permuting each dose's values over the seeds; beside it, for normal errors, the F test alone, the "
        "largest leave-one-out t of a seed's slope, max-T over the seeds and behaviors of the series, and Grubbs' test "
        "at the highest dose; random-slope mixed model (REML)"
    )
    null = "all seeds share one slope"
    reference = (
        "Phipson & Smyth 2010 (Monte Carlo p); Laird & Ware 1982 (random slopes); Westfall & Young 1993 (max-T); "
        "Sidak 1967; Grubbs 1950"
    )

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        looks = []
        fits = MOST_FITTED
        for design in data.panel.designs:
            for ladder in design.ladders():
                tables = {behavior: seed_table(ladder, behavior) for behavior in ladder[0].behaviors}
                tables = {b: found for b, found in tables.items() if len(ladder) >= 3 and len(found[1]) >= 3}
                for behavior, (table, seeds, runs) in tables.items():
                    look = self._look(ladder, behavior, table, seeds, tuple(runs), len(tables), rng)
                    if fits and has_gaps(ladder, behavior):
                        fits -= 1
                        whole = f"with the seeds that lack a dose: {fit_with_gaps(ladder, behavior)}"
                        look = replace(look, notes=(*look.notes, whole))
                    looks.append(look)
        return looks

    def _look(
        self,
        ladder: list[Sheet],
        behavior: str,
        table: Array,
        seeds: list[int],
        runs: tuple[str, ...],
        behaviors: int,
        rng: np.random.Generator,
    ) -> Look:
        doses = np.array([sheet.dose for sheet in ladder])
        slopes = seed_slopes(doses, table.T)
        steep = int(np.abs(slopes - slopes.mean()).argmax())
        others = np.delete(slopes, steep)
        apart = float(slopes[steep] - others.mean())
        unit = metric_unit(ladder[0].metric, ladder[0].quantity)[1]
        n = len(seeds)
        alone = float(left_out_t(slopes)[steep])
        outlier = grubbs(slopes)
        normal = slopes_vary(doses, table.T)
        z = "none" if outlier.statistic is None else f"{outlier.statistic:.2f} of at most {largest_z(n):.2f}"
        return Look(
            detector=self.name,
            about=about(ladder[0], behavior, stratum_of(ladder)),
            what=f"{ladder[0].model}: slopes of {named(ladder[0], behavior)} over λ run from {slopes.min():.3g} to "
            f"{slopes.max():.3g}; seed {seeds[steep]} departs most ({apart:+.3g} from the others' mean, |z| {z}, "
            f"leave-one-out t {alone:.2f})",
            effect=no_estimate("ok", "slope of the most deviant seed minus the mean of the others", n, value=apart),
            test=slopes_permuted(doses, table.T, rng),
            more=(left_out_test(slopes, behaviors), grubbs(table[-1]), normal),
            method=self.method,
            reference=self.reference,
            groups=tuple(group(f"λ={s.dose:g}", seeds, row) for s, row in zip(ladder, table, strict=True)),
            runs=runs,
            unit=unit,
            why=""
            if normal.p is None
            else f"the F test alone, which assumes normal errors, gives p = "
            f"{p_text(normal.p)}; some seed is the highest at every dose but the first by chance with probability "
            f"{n ** (2.0 - len(ladder)):.2g}",
            leave=lambda: without_seeds(doses, table.T, seeds, rng),
            notes=(
                "slopes: " + ", ".join(f"{s}: {x:.12g}" for s, x in zip(seeds, slopes, strict=True)),
                str(balanced_slopes(doses, table.T)),
            ),
        )


def without_seeds(doses: Array, table: Array, seeds: list[int], rng: np.random.Generator) -> Robustness | None:
    """Departure of the then most deviant seed, and p of the slopes' test, as each seed is left out."""

    def measure(seed: int) -> tuple[float | None, float | None]:
        rest = table[np.array(seeds) != seed]
        slopes = seed_slopes(doses, rest)
        steep = int(np.abs(slopes - slopes.mean()).argmax())
        return float(slopes[steep] - np.delete(slopes, steep).mean()), slopes_permuted(doses, rest, rng).p

    return leaving_out(seeds, measure) if len(seeds) > 3 else None


def has_gaps(ladder: list[Sheet], behavior: str) -> bool:
    """Whether some seed lacks a dose, so that tests of complete seeds leave values out."""
    return len({frozenset(sheet.sample(behavior)[1]) for sheet in ladder}) > 1


def fit_with_gaps(ladder: list[Sheet], behavior: str) -> MixedSlopes:
    """Mixed model of all values of a series."""
    samples = [(sheet.dose, *sheet.sample(behavior)) for sheet in ladder]
    return mixed_slopes(
        np.concatenate([np.full(len(values), dose) for dose, values, _, _ in samples]),
        np.concatenate([values for _, values, _, _ in samples]),
        np.concatenate([seeds for _, _, seeds, _ in samples]),
    )
