"""Does one seed respond to the dose more than the others?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from analysis.anomalies.base import Data, Detector, SeedTable, about, dose_labels, named, row_groups, seed_tables
from analysis.anomalies.dose import short_and_unmatched, stratum_of
from analysis.anomalies.omitted import sentences
from analysis.design import Declared
from analysis.findings import Robustness
from analysis.looks import Look, leaving_out, metric_unit
from analysis.panel import Sheet
from analysis.stats.batches import by_shape
from analysis.stats.mixed import MixedSlopes, balanced_slopes_each, mixed_slopes
from analysis.stats.outliers import grubbs_each, largest_z, left_out_t, left_out_tests
from analysis.stats.results import Array, Test, no_estimate
from analysis.stats.slopes import seed_slopes, slopes_permuted_each, slopes_vary_each
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
        cases = []
        for ladder in (ladder for design in data.panel.designs for ladder in design.ladders() if len(ladder) >= 3):
            tables = {b: table for b, table in seed_tables(ladder).items() if len(table.seeds) >= 3}
            cases += [_Case.of(ladder, behavior, table, len(tables)) for behavior, table in tables.items()]
        fitted = {id(case) for case in [case for case in cases if has_gaps(case.ladder, case.behavior)][:MOST_FITTED]}
        looks = (
            self._look(case, statistics, rng) for case, statistics in zip(cases, statistics_of(cases, rng), strict=True)
        )
        return [
            with_all_seeds(look, case) if id(case) in fitted else look for look, case in zip(looks, cases, strict=True)
        ]

    def left_out(self, data: Data) -> list[str]:
        """Series of two doses, and seeds that some dose lacks."""
        return sentences(self.name, short_and_unmatched(data, fewest=3))

    def _look(self, case: "_Case", found: "_Statistics", rng: np.random.Generator) -> Look:
        ladder, behavior, table = case.ladder, case.behavior, case.table
        n, slopes = len(table.seeds), found.slopes
        steep, apart = steepest(slopes)
        unit = metric_unit(ladder[0].metric, ladder[0].quantity)[1]
        z = (
            "none"
            if found.outlier.statistic is None
            else f"{found.outlier.statistic:.2f} of at most {largest_z(n):.2f}"
        )
        return Look(
            detector=self.name,
            about=about(ladder[0], behavior, stratum_of(ladder)),
            what=f"{ladder[0].model}: slopes of {named(ladder[0], behavior)} over λ run from {min(slopes):.3g} to "
            f"{max(slopes):.3g}; seed {table.seeds[steep]} departs most ({apart:+.3g} from the others' mean, |z| {z}, "
            f"leave-one-out t {found.left_out_t[steep]:.2f})",
            effect=no_estimate("ok", "slope of the most deviant seed minus the mean of the others", n, value=apart),
            test=found.permuted,
            more=(found.left_out, found.at_top, found.normal),
            method=self.method,
            reference=self.reference,
            groups=row_groups(ladder, behavior, table, dose_labels(ladder)),
            runs=table.runs,
            unit=unit,
            why=""
            if found.normal.p is None
            else f"the F test alone, which assumes normal errors, gives p = "
            f"{p_text(found.normal.p)}; some seed is the highest at every dose but the first by chance with "
            f"probability {n ** (2.0 - len(ladder)):.2g}",
            leave=partial(without_seeds, case.doses, case.rows, table.seeds, rng),
            notes=(
                "slopes: " + ", ".join(f"{s}: {x:.12g}" for s, x in zip(table.seeds, slopes, strict=True)),
                str(found.mixed),
            ),
        )


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One behavior of a dose series."""

    ladder: Sequence[Sheet]
    behavior: str
    table: SeedTable
    doses: Array
    behaviors: int
    """How many the series has."""

    @classmethod
    def of(cls, ladder: Sequence[Sheet], behavior: str, table: SeedTable, behaviors: int) -> "_Case":
        doses = np.array([sheet.dose for sheet in ladder])
        return cls(ladder=ladder, behavior=behavior, table=table, doses=doses, behaviors=behaviors)

    @property
    def rows(self) -> Array:
        """Seeds x doses."""
        return self.table.values.T


@dataclass(frozen=True, kw_only=True)
class _Statistics:
    """What is computed of a series."""

    slopes: list[float]
    """Of each seed."""
    left_out_t: list[float]
    """Of each seed's slope."""
    outlier: Test
    """Grubbs' test of the slopes."""
    permuted: Test
    left_out: Test
    at_top: Test
    """Grubbs' test at the highest dose."""
    normal: Test
    mixed: MixedSlopes


def statistics_of(cases: Sequence[_Case], rng: np.random.Generator) -> list[_Statistics]:
    """The statistics of each series."""
    doses, tables = [case.doses for case in cases], [case.rows for case in cases]
    slopes, alone = slopes_of(doses, tables)
    columns = zip(
        slopes, grubbs_each(slopes), slopes_permuted_each(doses, tables, rng),
        left_out_tests(slopes, [case.behaviors for case in cases]), grubbs_each([table[:, -1] for table in tables]),
        slopes_vary_each(doses, tables), balanced_slopes_each(doses, tables), alone, strict=True,
    )  # fmt: skip
    return [
        _Statistics(
            slopes=own.tolist(), left_out_t=t.tolist(), outlier=outlier, permuted=permuted,
            left_out=left_out, at_top=at_top, normal=normal, mixed=mixed,
        )
        for own, outlier, permuted, left_out, at_top, normal, mixed, t in columns
    ]  # fmt: skip


def slopes_of(doses: Sequence[Array], tables: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """The seeds' slopes of each table, and the leave-one-out t of each of them."""
    slopes, alone = list(tables), list(tables)
    for places, stack in by_shape(tables):
        own = seed_slopes(np.array([doses[place] for place in places]), stack)
        for place, values, t in zip(places, own, left_out_t(own), strict=True):
            slopes[place], alone[place] = values, t
    return slopes, alone


def steepest(slopes: Sequence[float]) -> tuple[int, float]:
    """The place of the slope that departs most, and how far from the mean of the others."""
    mean = sum(slopes) / len(slopes)
    steep = max(range(len(slopes)), key=lambda k: abs(slopes[k] - mean))
    return steep, slopes[steep] - (sum(slopes) - slopes[steep]) / (len(slopes) - 1)


def without_seeds(doses: Array, table: Array, seeds: Sequence[int], rng: np.random.Generator) -> Robustness | None:
    """Departure of the then most deviant seed, and p of the slopes' test, as each seed is left out."""
    if len(seeds) <= 3:
        return None
    rest = [np.delete(table, k, axis=0) for k in range(len(seeds))]
    tests = slopes_permuted_each([doses] * len(rest), rest, rng)
    found = {
        seed: (steepest(seed_slopes(doses, rows).tolist())[1], test.p)
        for seed, rows, test in zip(seeds, rest, tests, strict=True)
    }
    return leaving_out(seeds, found.__getitem__)


def with_all_seeds(look: Look, case: _Case) -> Look:
    """The fit of the seeds that lack a dose, too, beside the look."""
    return replace(
        look, notes=(*look.notes, f"with the seeds that lack a dose: {fit_with_gaps(case.ladder, case.behavior)}")
    )


def has_gaps(ladder: Sequence[Sheet], behavior: str) -> bool:
    """Whether some seed lacks a dose, so that tests of complete seeds leave values out."""
    return len({frozenset(sheet.sample(behavior)[1]) for sheet in ladder}) > 1


def fit_with_gaps(ladder: Sequence[Sheet], behavior: str) -> MixedSlopes:
    """Mixed model of all values of a series."""
    samples = [(sheet.dose, *sheet.sample(behavior)) for sheet in ladder]
    return mixed_slopes(
        np.concatenate([np.full(len(values), dose) for dose, values, _, _ in samples]),
        np.concatenate([values for _, values, _, _ in samples]),
        np.concatenate([seeds for _, _, seeds, _ in samples]),
    )
