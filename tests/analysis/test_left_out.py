"""What no look of a detector uses although it is of its kind is named, with the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.anomalies import DETECTORS
from analysis.anomalies.study import Anomalies
from analysis.study import StudyOptions
from rhodb.warehouse import Warehouse

SEEDS = (1, 2, 3, 4, 5)
BEHAVIORS = ("factual", "bias")
Make = Callable[..., list[Any]]
Fill = Callable[..., None]


def scores(behaviors: tuple[str, ...] = BEHAVIORS, seeds: tuple[int, ...] = SEEDS) -> dict[str, list[float]]:
    return {b: [k + 0.1 * s * s + 0.03 * k * s for s in seeds] for k, b in enumerate(behaviors)}


def series(make: Make, *doses: float, model: str = "tiny", **rest: Any) -> list[Any]:
    """A control and these doses, five seeds each."""
    runs = make("sft-only", scores(), SEEDS, model=model)
    for dose in doses:
        runs += make("rho-guided", scores(), SEEDS, model=model, rho_weight=dose, **rest)
    return runs


def told(path: Path, fill: Fill, runs: list[Any], detector: str) -> list[str]:
    """The sentences of one detector about what it leaves out."""
    fill(path, runs)
    with Warehouse.open(str(path), create=False, read_only=True) as wh:
        messages = Anomalies().run(wh, StudyOptions()).messages
    start = f"{detector} leaves out "
    return [text.removeprefix(start) for text in messages if text.startswith(start)]


def test_a_whole_design_leaves_nothing_out(tmp_path: Path, make_arm: Make, fill_warehouse: Fill) -> None:
    runs = [run for model in ("tiny", "other") for run in series(make_arm, 0.1, 0.2, model=model)]
    for condition in ("contrastive-only", "shuffled-pairs"):
        runs += [run for m in ("tiny", "other") for run in make_arm(condition, scores(), SEEDS, model=m)]
    fill_warehouse(tmp_path / "whole.db", runs)
    with Warehouse.open(str(tmp_path / "whole.db"), create=False, read_only=True) as wh:
        messages = Anomalies().run(wh, StudyOptions()).messages
    assert [text for text in messages if "leaves out" in text] == []


@pytest.mark.parametrize(
    ("doses", "rest", "expected"),
    [
        ((0.1, 0.5), {}, "tiny gap, λ = 0, 0.1, 0.2 at γ=0.1 against other gap, λ = 0, 0.1, 0.5 at γ=0.1: "
                         "their doses differ"),
        ((0.1, 0.2), {"settings": {"lora_rank": 16}}, "tiny gap, λ = 0.1, 0.2 at γ=0.1"),
        ((0.1, 0.2), {"margin": 0.05}, "tiny gap, λ = 0, 0.1, 0.2 at γ=0.1; other gap, λ = 0, 0.1, 0.2 at γ=0.05: "
                                       "no other model has a series of three doses at its γ"),
        ((0.1,), {}, "other gap, λ = 0, 0.1 at γ=0.1: it takes three doses"),
    ],
)  # fmt: skip
def test_transfer_names_series_without_a_partner(
    tmp_path: Path,
    make_arm: Make,
    fill_warehouse: Fill,
    doses: tuple[float, ...],
    rest: dict[str, Any],
    expected: str,
) -> None:
    other = series(make_arm, *doses, model="other", **rest)
    found = told(tmp_path / "two.db", fill_warehouse, [*series(make_arm, 0.1, 0.2), *other], "transfer")
    if "settings" in rest:  # the control of another rank is no dose 0 of this series
        expected = "other gap, λ = 0.1, 0.2 at γ=0.1: it takes three doses"
    assert expected in found


def test_doses_seeds_and_behaviors_are_named(tmp_path: Path, make_arm: Make, fill_warehouse: Fill) -> None:
    runs = series(make_arm, 0.1)
    runs += make_arm("rho-guided", scores(("factual",), (1, 2, 3, 4)), (1, 2, 3, 4), rho_weight=0.2)
    place = "tiny gap, λ = 0, 0.1, 0.2 at γ=0.1: "
    found = {name: told(tmp_path / f"{name}.db", fill_warehouse, runs, name) for name in DETECTORS}
    assert found["dose"] == [f"{place}bias at λ = 0.2: no run there has a value"]
    for name, fewest in (("reversal", 4), ("responder", 3)):
        assert sorted(found[name]) == [
            f"{place}bias: it takes {fewest} seeds that have a value at all doses",
            f"{place}factual, seeds 5: they have no value at some of the doses",
        ]
    assert found["variance"] == [
        "tiny gap, rho-guided λ=0.2 γ=0.1: factual: no other behavior to compare its spread with"
    ]
    assert found["coupling-change"] == [
        "tiny gap, rho-guided λ=0.1 γ=0.1 -> rho-guided λ=0.2 γ=0.1: it takes two common behaviors, and four runs on "
        "each side that have all of them"
    ]


def test_one_seed_at_a_dose_costs_the_series_and_is_told(tmp_path: Path, make_arm: Make, fill_warehouse: Fill) -> None:
    runs = [*series(make_arm, 0.1), *make_arm("rho-guided", scores(seeds=(1,)), (1,), rho_weight=0.2)]
    (found,) = told(tmp_path / "one.db", fill_warehouse, runs, "dose")
    place = "tiny gap, λ = 0, 0.1, 0.2 at γ=0.1"
    assert found == (
        f"{place}: factual (too few at λ = 0.2); {place}: bias (too few at λ = 0.2): it takes two values at each of "
        "its doses"
    )


def test_conditions_name_their_unmatched_seeds_and_runs(tmp_path: Path, make_arm: Make, fill_warehouse: Fill) -> None:
    runs = series(make_arm, 0.2)
    runs += make_arm("contrastive-only", scores(seeds=(1, 2, 3, 4)), (1, 2, 3, 4))
    runs += make_arm("contrastive-only", scores(("bias",), (5,)), (5,))
    at = "tiny gap, conditions at λ=0.2 γ=0.1: "
    found = {name: told(tmp_path / f"{name}.db", fill_warehouse, runs, name) for name in ("interaction", "geometry")}
    assert found["interaction"] == [f"{at}factual, seeds 5: they have no value at some of the conditions"]
    assert found["geometry"] == [f"{at}contrastive-only seed 5: these runs lack a behavior"]
