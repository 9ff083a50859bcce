"""Does a behavior follow the dose λ, and are reversals of single seeds more than regression to the mean?"""

from itertools import pairwise

import numpy as np
from scipy import special

from analysis.anomalies.base import Data, Detector, about, all_seeds, named, seed_table, without
from analysis.design import Declared
from analysis.looks import Look, group, interval_text, leaving_out, metric_unit
from analysis.needed import seeds_for_orders, seeds_for_trend
from analysis.panel import Sheet
from analysis.stats.intervals import welch_difference
from analysis.stats.permutation import two_sample_test
from analysis.stats.results import Array, Test, no_estimate, no_test
from analysis.stats.slopes import fit_line, slope_interval
from analysis.stats.trend import jonckheere_terpstra
from analysis.study import StudyOptions


class DoseTrend(Detector):
    """Rise or fall over λ at one γ."""

    name = "dose"
    question = "Does the behavior rise or fall with λ, and is its mean monotone?"
    stratum = "model, settings, γ constant; λ varies (sft-only is 0); seeds replicate"
    design = Declared(varies=frozenset({"rho_weight"}))
    test = "Jonckheere-Terpstra; exact permutation test where there are only two doses; isotonic fit"
    null = "the values have one distribution at all doses"
    reference = "Terpstra 1952, Jonckheere 1954; Barlow et al. 1972 (isotonic regression)"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        looks = []
        for design in data.panel.designs:
            for ladder in design.ladders():
                for behavior in ladder[0].behaviors:
                    look = self._look(ladder, behavior, options, rng)
                    looks += [look] if look else []
        return looks

    def _look(self, ladder: list[Sheet], behavior: str, options: StudyOptions, rng: np.random.Generator) -> Look | None:
        kept = [sheet for sheet in ladder if len(sheet.sample(behavior)[0])]
        samples = [sheet.sample(behavior)[0] for sheet in kept]
        if len(samples) < 2 or min(len(sample) for sample in samples) < 2:
            return None

        def without_seed(seed: int) -> tuple[float | None, float | None]:
            rest = [without(sheet, behavior, seed) for sheet in kept]
            if min(len(sample) for sample in rest) < 2:
                return None, None
            return welch_difference(rest[-1], rest[0]).value, trend_test(rest, rng).p

        means = np.array([sample.mean() for sample in samples])
        rise = welch_difference(samples[-1], samples[0], level=options.level)
        test = trend_test(samples, rng)
        fit = isotonic(means, np.array([len(sample) for sample in samples], dtype=np.float64))
        ss = float(((means - means.mean()) ** 2).sum())
        explained = 1.0 - float(((means - fit) ** 2).sum()) / ss if ss else 1.0
        unit = metric_unit(kept[0].metric, kept[0].quantity)[1]
        doses = [sheet.dose for sheet in kept]
        return Look(
            detector=self.name,
            about=about(kept[0], behavior, stratum_of(kept)),
            what=f"{kept[0].model}: {named(kept[0], behavior)} moves by {interval_text(rise, unit)} from λ "
            f"{doses[0]:g} to {doses[-1]:g}; a monotone curve explains {100 * explained:.0f} % of the variation of its "
            f"{len(doses)} means",
            effect=rise,
            test=test,
            method=f"{self.method}; {test.method}; {rise.method}",
            reference=self.reference,
            groups=tuple(
                group(f"λ={sheet.dose:g}", seeds, values)
                for sheet in kept
                for values, seeds, _ in [sheet.sample(behavior)]
            ),
            runs=tuple(run for sheet in kept for run in sheet.sample(behavior)[2]),
            unit=unit,
            leave=lambda: leaving_out(all_seeds(kept), without_seed),
            seeds_for=lambda level: trend_could(len(kept), level),
        )


def trend_test(samples: list[Array], rng: np.random.Generator) -> Test:
    """Jonckheere-Terpstra over three doses or more; of two, the difference of their means by permutation."""
    return jonckheere_terpstra(samples) if len(samples) > 2 else two_sample_test(samples[1], samples[0], rng)


def trend_could(doses: int, level: float) -> str:
    """How many seeds a dose it takes for a trend to reach a level."""
    n = seeds_for_trend(doses, level)
    return "no number of seeds at two doses could, a third dose could" if n is None else f"{n} seeds a dose could"


class Reversal(Detector):
    """Steps of single seeds against the trend, set against regression to the mean."""

    name = "reversal"
    question = "Do seeds that start high fall at the first dose by more than regression to the mean predicts?"
    stratum = "one dose series; the same seeds at λ = 0 and at the next dose"
    design = Declared(varies=frozenset({"rho_weight"}), seeds="subjects")
    test = "exact permutation test of the slope of the next value on the start value against zero"
    null = "start and next value of a seed are independent: then the slope of the change on the start is -1"
    reference = "Galton 1886; Bland & Altman 1994"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        looks = []
        for design in data.panel.designs:
            for ladder in design.ladders():
                for behavior in ladder[0].behaviors:
                    table, seeds, runs = seed_table(ladder, behavior)
                    if len(seeds) >= 4 and len(ladder) >= 3:
                        looks += self._looks(ladder, behavior, table, seeds, tuple(runs), options, rng)
        return looks

    def _looks(
        self,
        ladder: list[Sheet],
        behavior: str,
        table: Array,
        seeds: list[int],
        runs: tuple[str, ...],
        options: StudyOptions,
        rng: np.random.Generator,
    ) -> list[Look]:
        trend = np.sign(table[-1].mean() - table[0].mean())
        steps = np.diff(table, axis=0) * trend
        reversed_seeds = [seed for seed, fall in zip(seeds, (steps < 0).any(axis=0), strict=True) if fall]
        if not reversed_seeds or trend == 0:
            return []
        start, after = table[0], table[1]
        line = fit_line(start, after)
        test = slope_test(start, after, rng)

        def without_seed(seed: int) -> tuple[float | None, float | None]:
            keep = np.array(seeds) != seed
            rest = fit_line(start[keep], after[keep])
            return None if rest is None else rest.slope, slope_test(start[keep], after[keep], rng).p

        predicted = line is None or test.p is None or test.p > options.alpha
        slope = 0.0 if line is None else line.slope
        change = float(np.corrcoef(start, after - start)[0, 1]) if np.ptp(start) and np.ptp(after - start) else 0.0
        unit = metric_unit(ladder[0].metric, ladder[0].quantity)[1]
        names = ", ".join(map(str, reversed_seeds))
        return [
            Look(
                detector=self.name,
                about=about(ladder[0], behavior, stratum_of(ladder)),
                what=f"{ladder[0].model}: {named(ladder[0], behavior)} steps against its trend in "
                f"{len(reversed_seeds)} of {len(seeds)} seeds ({names}); start and first change "
                f"correlate at {change:.2f}; the first change hangs on the start with slope {slope - 1:.2f}, "
                f"where -1 is what independent values give (the next value on the start: {slope:.2f})",
                effect=slope_interval(line, level=options.level),
                test=test,
                method=f"{self.method}; {test.method}",
                reference=self.reference,
                groups=tuple(group(f"λ={s.dose:g}", seeds, row) for s, row in zip(ladder, table, strict=True)),
                runs=runs,
                unit=unit,
                fixed="artefact" if predicted else None,
                counted=True,
                why=_explained(predicted, slope),
                leave=lambda: leaving_out(seeds, without_seed),
                seeds_for=lambda level: f"{seeds_for_orders(level)} seeds could",
            )
        ]


def _explained(predicted: bool, slope: float) -> str:
    if predicted:
        return "the start predicts nothing of what follows, so seeds that start high fall by regression to the mean"
    return "seeds keep their level" if slope > 0 else "seeds fall by more than regression to the mean predicts"


def stratum_of(ladder: list[Sheet]) -> str:
    """A dose series in words."""
    margins = {sheet.arm.margin for sheet in ladder if sheet.dose}
    gamma = ", ".join("unknown" if m is None else f"{m:g}" for m in margins)
    doses = ", ".join(f"{sheet.dose:g}" for sheet in ladder)
    experiment = f" ({ladder[-1].experiment})" if ladder[-1].experiment else ""
    apart = "".join(f" {word}" for word in dict.fromkeys(word for sheet in ladder for word in sheet.apart.split()))
    return f"λ = {doses} at γ={gamma}{apart}{experiment}"


def isotonic(means: Array, weights: Array) -> Array:
    """Monotone least-squares fit in the direction that fits better (pool adjacent violators)."""
    fits = [_rising(means, weights), -_rising(-means, weights)]
    return min(fits, key=lambda fit: float((weights * (means - fit) ** 2).sum()))


def _rising(means: Array, weights: Array) -> Array:
    blocks: list[list[float]] = []  # mean, weight, length
    for mean, weight in zip(means, weights, strict=True):
        blocks.append([float(mean), float(weight), 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (m, w, k), (n, v, j) = blocks.pop(-2), blocks.pop()
            blocks.append([(m * w + n * v) / (w + v), w + v, k + j])
    return np.concatenate([np.full(int(length), mean) for mean, _, length in blocks])


def slope_test(x: Array, y: Array, rng: np.random.Generator) -> Test:
    """Permutation test of the covariance of x and y: all orders up to 8 values, else 9,999 random ones."""
    from analysis.stats.couplings import DRAWS, EXACT_ROWS, MONTE_CARLO_ROWS
    from analysis.stats.permutation import all_orders
    from analysis.stats.results import is_constant

    n, method = len(x), "permutation test of a slope"
    if n < 4:
        return no_test("not enough data", method, n)
    if is_constant(x) or is_constant(y):
        return no_test("degenerate", method, n)
    if n > MONTE_CARLO_ROWS:
        return _line_test(x, y)
    orders = all_orders(n) if n <= EXACT_ROWS else rng.permuted(np.broadcast_to(np.arange(n), (DRAWS, n)), axis=1)
    centred = x - x.mean()
    null = np.abs(y[orders] @ centred)
    seen = float(y @ centred)
    more = int(np.count_nonzero(null >= abs(seen) * (1 - 1e-10)))
    exact = n <= EXACT_ROWS
    p = more / len(orders) if exact else (1 + more) / (1 + len(orders))
    slope = seen / float(centred @ centred)
    return Test(
        statistic=slope, p=p, n=n, method=f"{'exact' if exact else 'Monte Carlo'} {method} ({len(orders)} orders)",
        floor=1 / len(orders), effect=no_estimate("ok", "slope", n, value=slope),
    )  # fmt: skip


def _line_test(x: Array, y: Array) -> Test:
    """t test of the slope, for many values."""
    line = fit_line(x, y)
    method = "t test of a slope"
    if line is None or line.error == 0:
        return no_test("degenerate", method, len(x))
    p = float(2 * special.stdtr(line.df, -abs(line.slope / line.error)))
    return Test(statistic=line.slope, p=p, n=len(x), method=method)


def reversals(table: Array, doses: list[float], seeds: list[int]) -> list[tuple[int, float, float, float]]:
    """Falling steps of a doses x seeds table: seed, dose before, dose after, change."""
    return [
        (seed, low, high, float(table[k + 1, j] - table[k, j]))
        for j, seed in enumerate(seeds)
        for k, (low, high) in enumerate(pairwise(doses))
        if table[k + 1, j] < table[k, j]
    ]
