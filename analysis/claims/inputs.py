"""What checks compute from: published figures, and the studies over them, each run once for all claims."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.answers import AnswerOptions, AnswerStudy, PublishedTable
from analysis.arms import Arm, from_published, one
from analysis.claims.expression import Evaluated, Figure, MissingInputError, evaluate
from rhodb.published import PublishedValue

if TYPE_CHECKING:
    import pandas as pd

    from analysis.gamma.result import GammaResult
    from analysis.probe_noise.result import NoiseResult
    from analysis.ushape.result import SeriesResult
    from rhodb.warehouse import Warehouse

SEED = 42
"""The seed of the notes' scripts: their Monte Carlo comes out again."""
SAMPLES = 10_000
"""As many as theirs."""
NOISE_SAMPLES = 100_000
"""More than theirs: widths of a long tail are noisy."""


EXACT_UNITS = ("", "layer")


def _half(value: PublishedValue) -> float:
    """Half a unit of the last digit; a count and a setting are exact."""
    exact = value.precision is None or value.basis == "setting" or (value.precision >= 1 and value.unit in EXACT_UNITS)
    return 0.0 if exact else (value.precision or 0.0) / 2


class Inputs:
    """Published figures by key. Methods raise MissingInputError for what was not published."""

    def __init__(self, values: Sequence[PublishedValue], wh: "Warehouse | None" = None) -> None:
        self._values = tuple(values)
        self.wh = wh
        self.figures: Mapping[str, Figure] = {
            value.key: Figure(
                key=value.key, value=value.value, half=_half(value), n=value.n, printed=value.basis != "counted"
            )
            for value in values
        }
        self.published: Mapping[str, PublishedValue] = {value.key: value for value in values}
        self.claims_of: Mapping[str, str] = {value.key: value.claim for value in values}

    def figure(self, key: str) -> Figure:
        """The figure called `key`."""
        if key not in self.figures:
            raise MissingInputError(key)
        return self.figures[key]

    def value(self, key: str) -> float:
        """Its value."""
        return self.figure(key).value

    def below(self, prefix: str) -> dict[str, float]:
        """Figures whose key begins with `prefix`, by the rest of the key, in the order of the files."""
        return {key.removeprefix(prefix): f.value for key, f in self.figures.items() if key.startswith(prefix)}

    def landscape_probes(self) -> dict[str, float]:
        """Primary probes of each behavior in the notes' landscape."""
        found = self.below("landscape/")
        return {name.removesuffix("/probes"): count for name, count in found.items() if name.endswith("/probes")}

    def evaluate(self, text: str) -> Evaluated:
        """An expression over the figures."""
        return evaluate(text, self.figures)

    def rng(self) -> np.random.Generator:
        """A generator of its own for a check, so that the order of claims changes nothing."""
        return np.random.default_rng(SEED)

    @cached_property
    def frame(self) -> "pd.DataFrame":
        """The figures as the studies read them."""
        import pandas as pd

        rows = [asdict(value) for value in self._values]
        return pd.DataFrame(rows, columns=list(rows[0]) if rows else None)

    @cached_property
    def table(self) -> PublishedTable:
        return PublishedTable(self.frame)

    @cached_property
    def _arms(self) -> dict[str, list[Arm]]:
        names = dict.fromkeys(key.split("/")[1] for key in self.figures if key.startswith("arm/"))
        return {name: from_published(self.table, name) for name in names}

    def arm(self, series: str, gamma: float, weight: float, behavior: str) -> Arm:
        """Mean and spread of a published cell."""
        found = one(self._arms.get(series, ()), gamma=gamma, weight=weight, behavior=behavior)
        if found is None:
            raise MissingInputError(f"arm/{series}/{gamma:g}/{weight:g}/{behavior}")
        return found

    def doses(self, series: str, behavior: str) -> list[Arm]:
        """The cells of a series for one behavior, by λ."""
        found = sorted((a for a in self._arms.get(series, ()) if a.behavior == behavior), key=lambda a: a.weight)
        if not found:
            raise MissingInputError(f"arm/{series}/.../{behavior}")
        return found

    @cached_property
    def gamma(self) -> "GammaResult":
        """The γ* study over the figures."""
        from analysis.gamma.study import Gamma

        result: GammaResult = self._study(Gamma())
        return result

    @cached_property
    def ushape(self) -> "SeriesResult":
        """The U-shape study of the SDs behind the printed fit."""
        return next(found for found in self.ushapes if found.series.claimed)

    @cached_property
    def ushapes(self) -> "tuple[SeriesResult, ...]":
        from analysis.ushape.study import Ushape

        results: tuple[SeriesResult, ...] = self._study(Ushape()).results
        return results

    @cached_property
    def noise(self) -> "NoiseResult":
        """The probe-noise study over the figures."""
        from analysis.probe_noise.study import ProbeNoiseStudy

        result: NoiseResult = self._study(ProbeNoiseStudy(), samples=NOISE_SAMPLES)
        return result

    def _study(self, study: AnswerStudy, *, samples: int = SAMPLES) -> Any:
        options = AnswerOptions(inputs="published", samples=samples, seed=SEED)
        wanted = self.frame[self.frame["key"].str.partition("/")[0].isin(study.families)]
        return study.compute(wanted, "published", options, np.random.default_rng(SEED)).drawing
