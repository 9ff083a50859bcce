"""Simulated warehouses: without effects, with planted effects of stated size, and with artefacts.

Each scenario builds the rows that the query of `anomalies` would return. `python -m analysis.simulate` runs all
of them and writes the table of false findings and power into docs/simulation.md.
"""

import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.anomalies.study import Anomalies
from analysis.findings import Verdict
from analysis.stats.rates import wilson
from analysis.study import StudyOptions
from rhodb.records import canonical_json, digest

SEEDS = (42, 123, 456, 789, 1337)
TEN = tuple(range(1, 11))
DOSES = (0.0, 0.1, 0.2, 0.5)
BEHAVIORS = ("factual", "toxicity", "bias", "sycophancy")
CONDITIONS = ("sft-only", "rho-guided", "contrastive-only", "shuffled-pairs")
LAYERS = (10, 14, 18, 22, 26)
NOISE = 0.05
"""SD over seeds, nats/token: the unit of all planted sizes."""
EVEN = (1.0, 1.0, 1.0, 1.0)
UNEQUAL = (1.0, 3.0, 0.5, 2.0)
"""SDs of four doses or conditions, in units of NOISE."""

Row = dict[str, Any]
Build = Callable[[np.random.Generator], "Warehouse"]
Law = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
"""Draws of mean 0 and SD 1."""


@dataclass
class Warehouse:
    """Rows in the shape of analysis/sql/anomalies.sql."""

    rows: list[Row] = field(default_factory=list)

    def run(self, scores: Mapping[str, float], *, seed: int, kind: str = "alignment", model: str = "m1",
            baseline: float | None = 0.2, metric: str = "gap", se: float = 0.01,
            config: Mapping[str, Any] | None = None,
            **axes: Any) -> None:  # fmt: skip
        """One run; `scores` are Δ, added to the baseline."""
        name = digest(canonical_json([len(self.rows), kind, model, seed]))
        head = dict.fromkeys(
            ("condition", "rho_weight", "margin", "layer", "alpha", "control", "steered_behavior", "compress_ratio",
             "freeze_ratio", "experiment")
        )  # fmt: skip
        head |= {
            "run": name, "kind": kind, "model": model, "model_fingerprint": digest(model), "seed": seed,
            "seed_known": 1,
            "config": canonical_json(dict(config or {"lora_rank": 8})), "baseline": f"baseline-{model}",
        } | axes  # fmt: skip
        for behavior, delta in scores.items():
            base = 0.0 if baseline is None else baseline
            self.rows.append(
                head
                | {"behavior": behavior, "metric": metric, "split": "eval", "value": base + delta, "se": se, "n": 50,
                   "baseline_value": baseline, "delta": None if baseline is None else delta}
            )  # fmt: skip

    def arm(self, table: np.ndarray, *, condition: str, weight: float, margin: float = 0.1, model: str = "m1",
            seeds: Sequence[int] = SEEDS) -> None:  # fmt: skip
        """Runs of one condition; `table` is seeds x behaviors."""
        plain = condition == "sft-only"
        for seed, values in zip(seeds, table, strict=True):
            self.run(
                dict(zip(BEHAVIORS, map(float, values), strict=False)), seed=seed, model=model, condition=condition,
                rho_weight=0.0 if plain else weight, margin=None if plain else margin,
            )  # fmt: skip

    def frame(self) -> pd.DataFrame:
        frame = pd.DataFrame(self.rows)
        numbers = ("rho_weight", "margin", "layer", "alpha", "control", "compress_ratio", "freeze_ratio", "delta")
        return frame.astype(dict.fromkeys(numbers, float))


def normal(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    return rng.normal(size=size)


def heavy_tailed(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """Student's t with 3 degrees of freedom, at SD 1: one value in fifty lies beyond 2.6 SD."""
    return np.asarray(rng.standard_t(3, size=size) / np.sqrt(3.0))


def skewed(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """An exponential law about its mean."""
    return rng.exponential(size=size) - 1.0


def noise(rng: np.random.Generator, seeds: int = 5, law: Law = normal, scale: float = 1.0) -> np.ndarray:
    """Seeds x behaviors without any effect."""
    return NOISE * scale * law(rng, (seeds, len(BEHAVIORS)))


def ladder(wh: Warehouse, rng: np.random.Generator, *, model: str = "m1", slope: float = 0.0, odd_seed: float = 0.0,
           spread: float = 0.0, seeds: Sequence[int] = SEEDS, law: Law = normal,
           scales: Sequence[float] = EVEN) -> None:  # fmt: skip
    """A dose series.

    Toxicity rises by `slope` a unit of λ, by `odd_seed` more in the last seed, and by slopes that lie evenly from
    minus `spread` to `spread` over the seeds.
    """
    for dose, scale in zip(DOSES, scales, strict=True):
        table = noise(rng, len(seeds), law, scale)
        table[:, 1] += slope * dose
        table[-1, 1] += odd_seed * dose
        table[:, 1] += np.linspace(-spread, spread, len(seeds)) * dose
        wh.arm(table, condition="rho-guided" if dose else "sft-only", weight=dose, model=model, seeds=seeds)


def ablation(wh: Warehouse, rng: np.random.Generator, *, shift: float = 0.0, cell: float = 0.0, law: Law = normal,
             scales: Sequence[float] = EVEN) -> None:  # fmt: skip
    """Four conditions; each is `shift` further along all behaviors, and one cell of toxicity departs by `cell`."""
    for k, (condition, scale) in enumerate(zip(CONDITIONS, scales, strict=True)):
        table = noise(rng, law=law, scale=scale) + shift * k
        if condition == "shuffled-pairs":
            table[1, 1] += cell
        wh.arm(table, condition=condition, weight=0.2, model="m3")


def steering(wh: Warehouse, rng: np.random.Generator, *, controls: int, peak: float = 0.0,
             law: Law = normal) -> None:  # fmt: skip
    """A layer sweep of one vector and its random controls."""
    for control in (None, *range(controls)):
        for layer in LAYERS:
            size = peak if control is None and layer == LAYERS[2] else 0.0
            scores = {b: NOISE * float(law(rng, (1,))[0]) + size for b in BEHAVIORS[:2]}
            wh.run(scores, seed=0, kind="steering", layer=layer, alpha=4.0, control=control)


def freeze(wh: Warehouse, rng: np.random.Generator, *, error: float, product: float = 0.0, idle: bool = False,
           law: Law = normal) -> None:  # fmt: skip
    """A freeze x compress grid; `product` is the size of the interaction, `idle`: freezing changes nothing."""
    for compress in (0.7, 0.85, 1.0):
        fixed = float(rng.normal(0, NOISE))
        for frozen in (0.0, 0.25, 0.5, 0.75, 0.9):
            effect = 0.3 * compress + (0.0 if idle else -0.2 * frozen + product * frozen * (1 - compress))
            value = effect + (fixed if idle else error * float(law(rng, (1,))[0]))
            wh.run({"factual": value}, seed=0, kind="freeze", baseline=None, compress_ratio=compress,
                   freeze_ratio=frozen, config={"fine_tuned": 1})  # fmt: skip


def nothing(law: Law = normal, scales: Sequence[float] = EVEN) -> Build:
    """All families, no effect anywhere; `scales` are SDs of the doses and of the conditions."""

    def build(rng: np.random.Generator) -> Warehouse:
        wh = Warehouse()
        ladder(wh, rng, law=law, scales=scales)
        ladder(wh, rng, model="m2", law=law, scales=scales)
        ablation(wh, rng, law=law, scales=scales)
        steering(wh, rng, controls=19, law=law)
        freeze(wh, rng, error=0.02, law=law)
        return wh

    return build


def ladders(**planted: Any) -> Build:
    """Two dose series on two models, with the same planted effect."""

    def build(rng: np.random.Generator) -> Warehouse:
        wh = Warehouse()
        ladder(wh, rng, **planted)
        ladder(wh, rng, model="m2", **planted)
        return wh

    return build


def coupled(first: float, second: float) -> Build:
    """Two strata (γ 0 and 0.1) of ten seeds in which factual and toxicity correlate."""

    def build(rng: np.random.Generator) -> Warehouse:
        wh = Warehouse()
        for margin, r in ((0.0, first), (0.1, second)):
            table = noise(rng, len(TEN))
            table[:, 1] = r * table[:, 0] + np.sqrt(1 - r * r) * table[:, 1]
            wh.arm(table, condition="rho-guided", weight=0.2, margin=margin, seeds=TEN)
        return wh

    return build


def compressed(ratio: float) -> Build:
    """Twenty seeds, one behavior with a smaller SD."""

    def build(rng: np.random.Generator) -> Warehouse:
        wh, table = Warehouse(), noise(rng, 20)
        table[:, 2] *= ratio
        wh.arm(table, condition="rho-guided", weight=0.2, seeds=range(1, 21))
        return wh

    return build


def built(part: Callable[..., None], **planted: Any) -> Build:
    """A warehouse of one family."""

    def build(rng: np.random.Generator) -> Warehouse:
        wh = Warehouse()
        part(wh, rng, **planted)
        return wh

    return build


def margins_apart(rng: np.random.Generator) -> Warehouse:
    """Two γ with means 10 SD apart: pooled, all behaviors would seem coupled and one would seem to spread."""
    wh = Warehouse()
    for margin in (0.0, 0.1):
        wh.arm(noise(rng) + 100 * NOISE * margin, condition="rho-guided", weight=0.2, margin=margin)
    return wh


def copied(new_seeds: bool) -> Build:
    """The null warehouse with all runs of one model in it three times, under their own or under new seeds."""

    def build(rng: np.random.Generator) -> Warehouse:
        wh = Warehouse()
        ladder(wh, rng)
        wh.rows += [
            row | {"run": f"{row['run']}-{k}", "seed": row["seed"] + new_seeds * 10_000 * k}
            for k in (1, 2)
            for row in list(wh.rows)
        ]
        return wh

    return build


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is simulated, and which detector must answer with which verdict."""

    name: str
    build: Build
    detector: str | None = None
    """None: nothing may be supported."""
    verdict: Verdict = "supported"
    size: str = ""


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(name="no effect", build=nothing(), size="normal"),
    Scenario(name="no effect, heavy tails", build=nothing(heavy_tailed), size="Student's t, 3 df"),
    Scenario(name="no effect, skewed", build=nothing(skewed), size="exponential"),
    Scenario(name="no effect, unequal spread", build=nothing(scales=UNEQUAL), size="SDs 1 : 3 : 1/2 : 2"),
    Scenario(name="pooled strata", build=margins_apart, size="two γ 10 SD apart"),
    Scenario(name="duplicated rows", build=copied(new_seeds=False), size="every run three times"),
    Scenario(name="copies under new seeds", build=copied(new_seeds=True), size="every run three times"),
    Scenario(name="no-op factor", build=built(freeze, error=0.0, idle=True), detector="additivity",
             verdict="degenerate", size="freezing changes nothing"),
    Scenario(name="copied baselines", build=ladders(), detector="baseline", verdict="artefact", size="one baseline"),
    Scenario(name="regression to the mean", build=ladders(slope=4 * NOISE), detector="reversal", verdict="artefact",
             size="independent seeds, rise of 2 SD"),
    Scenario(name="variance compression", build=compressed(0.05), detector="variance", size="SD ratio 1/20, 20 seeds"),
    Scenario(name="coupling", build=coupled(0.97, 0.97), detector="coupling", size="r = 0.97, 10 seeds"),
    Scenario(name="change of coupling", build=coupled(0.97, -0.97), detector="coupling-change",
             size="r = 0.97 to -0.97, 10 seeds"),
    Scenario(name="dose-response", build=ladders(slope=8 * NOISE), detector="dose", size="rise of 4 SD, 5 seeds"),
    Scenario(name="layer peak", build=built(steering, controls=199, peak=8 * NOISE), detector="layers",
             size="8 SD at one layer, 199 controls"),
    Scenario(name="condition geometry", build=built(ablation, shift=2 * NOISE), detector="geometry",
             size="conditions 2 SD apart, 5 seeds"),
    Scenario(name="transfer", build=ladders(slope=80 * NOISE), detector="transfer", size="equal slopes, rise of 40 SD"),
    Scenario(name="condition x seed", build=built(ablation, cell=12 * NOISE), detector="interaction",
             verdict="suggestive", size="one cell by 12 SD, 4 x 5"),
    Scenario(name="interaction of axes", build=built(freeze, error=0.005, product=1.5), detector="additivity",
             size="product term 1.5, error 0.005"),
    Scenario(name="super-responder", build=ladders(odd_seed=48 * NOISE, seeds=TEN), detector="responder",
             verdict="suggestive", size="one seed of ten 24 SD more over the doses"),
    Scenario(name="slopes of seeds", build=ladders(spread=48 * NOISE), detector="responder",
             size="evenly from -24 to 24 SD over the doses"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Of `n` warehouses: how many had the expected finding, and how many any supported one (by detector)."""

    scenario: Scenario
    n: int
    hits: int
    supported: int
    detectors: Mapping[str, int]


def simulate(scenario: Scenario, n: int, seed: int = 0) -> Tally:
    """Run all detectors over `n` simulated warehouses."""
    study, options = Anomalies(), StudyOptions()
    hits, supported, detectors = 0, 0, Counter[str]()
    for k in range(n):
        rng = np.random.default_rng([seed, k])
        findings = study.compute(scenario.build(rng).frame(), options, rng).findings
        found = {(f.about["detector"], f.verdict) for f in findings}
        hits += (scenario.detector, scenario.verdict) in found
        named = {detector for detector, verdict in found if verdict in ("supported", "contradicted")}
        supported += bool(named)
        detectors.update(named)
    return Tally(scenario=scenario, n=n, hits=hits, supported=supported, detectors=detectors)


FRESH = 20_261_126
"""Seed of the published table; no detector was looked at with it before."""
HISTORY = (
    "What was changed after results were seen. (1) Under heavy-tailed, skewed and unequal-spread nulls the largest "
    "residual of one value a cell (interaction) was called supported in 4 to 9 of 60 warehouses, as its null assumes "
    "normal errors; its verdict is now at most suggestive, which is what is expected of it below. (2) In a first full "
    "run (seed 20261124) the span of peak layers was called supported in 9 to 20 of 200 null warehouses, as profiles "
    "of noise peak at different layers, too; it is now at most suggestive unless all peaks beat the random vectors. "
    "(3) A run of the four nulls after that (seed 20261125) had a supported finding in 7 (normal), 11 (heavy tails), "
    "11 (skewed) and 4 (unequal spread) of 200, of which the F test of seeds' slopes (responder) made 3, 7, 6 and 2: "
    "it assumes normal errors. Its p is now the larger of the F test's and of a permutation within the doses. One seed "
    "that stands out among five is hardly ever supported now, so the planted super-responder is now one of ten "
    "seeds, twice as far out, and expected to be suggestive; seeds that all differ in slope were added as what the "
    "test supports. The planted sizes were chosen on earlier runs with other seeds, so that power is near its ceiling: "
    "they say what is large enough, not what is found in practice. The table is from seeds that were fresh when it was "
    "first made after these changes. (4) Monte Carlo tests of many strata came to share random arrangements and to "
    "stop in stages; the table was made again with the same seeds, and one row changed (super-responder: 3 supported "
    "before)."
)


def table(tallies: Sequence[Tally], seed: int = 0) -> str:
    """The page of the docs."""
    lines = [
        "# Simulated warehouses: false findings and power",
        "",
        "Made by `python -m analysis.simulate`; do not edit. Every detector runs on every warehouse, all p values of a "
        "call are corrected together (Holm, alpha 0.05), 5 seeds unless stated, sizes in SDs over seeds. "
        "*Found* counts warehouses in which the named detector gives the expected verdict, with Wilson's 95 % "
        "interval; "
        "*any supported* counts those in which any detector calls anything supported, with the same interval.",
        "",
        HISTORY,
        "",
        f"Seeds of the draws: [{seed}, k] for warehouse k.",
        "",
        "| warehouse | size | detector, verdict | found | any supported | supported by |",
        "|---|---|---|---|---|---|",
    ]
    for t in tallies:
        s, rate, any_rate = t.scenario, wilson(t.hits, t.n), wilson(t.supported, t.n)
        expected = "none may be" if s.detector is None else f"{s.detector}, {s.verdict}"
        found = "" if s.detector is None else f"{t.hits}/{t.n} [{rate.low:.2f}, {rate.high:.2f}]"
        by = ", ".join(f"{name} {count}" for name, count in sorted(t.detectors.items()))
        supported = f"{t.supported}/{t.n} [{any_rate.low:.3f}, {any_rate.high:.3f}]"
        lines.append(f"| {s.name} | {s.size} | {expected} | {found} | {supported} | {by} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str]) -> None:
    """Write the table: WAREHOUSES of each scenario without effects, a quarter of that with."""
    parser = ArgumentParser(prog="python -m analysis.simulate", description=main.__doc__)
    parser.add_argument("warehouses", nargs="?", type=int, default=200)
    parser.add_argument("file", nargs="?", type=Path, default=Path("docs/simulation.md"))
    parser.add_argument("seed", nargs="?", type=int, default=FRESH)
    asked = parser.parse_args(arguments)
    few = max(1, asked.warehouses // 4)
    tallies = [simulate(s, asked.warehouses if s.detector is None else few, asked.seed) for s in SCENARIOS]
    asked.file.write_text(table(tallies, asked.seed), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
