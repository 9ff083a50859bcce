"""No study, table, saved query or summary adds up runs that differ in anything but their seed.

A second value is planted in each axis that configurations have, with scores far from those of the first: a group that
holds both has forgotten the axis.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from analysis.arms import from_runs
from analysis.effects import Effects
from analysis.registry import load_study
from analysis.study import StudyOptions
from rhodb.adhoc import ask
from rhodb.queries import saved
from rhodb.summary import run_deltas
from rhodb.warehouse import Warehouse

FAR = 100.0
"""Added to every score of the runs with the second value."""
AXES: dict[str, dict[str, Any]] = {
    "λ": {"rho_weight": 0.35}, "γ": {"margin": 0.05}, "model": {"model": "other"},
    **{
        name: {"settings": {name: value}}
        for name, value in (
            ("sft_size", 200), ("lora_rank", 16), ("lora_alpha", 32.0), ("epochs", 2.0), ("lr", 1e-3),
            ("max_length", 128), ("pairs_per_step", 8), ("probe_split", "other"), ("refusal_share", 0.1),
            ("max_tokens", 64), ("layer", 3), ("backend", "pytorch"),
        )
    },
}  # fmt: skip
STUDIES = ("effects", "ablation", "dose-response", "variance", "anomalies")
DOSES = (0.1, 0.2, 0.5)


@pytest.fixture(params=AXES)
def planted(request: pytest.FixtureRequest, tmp_path: Path, make_arm: Callable, fill_warehouse: Callable) -> Path:
    """A dose series with a control, and the same again with the second value of one axis."""
    path = tmp_path / "planted.db"
    runs: list[Any] = []
    for more, level in (({}, 0.0), (AXES[request.param], FAR)):
        for dose in (0.0, *DOSES):
            scores = {
                b: [level + k + dose + 0.1 * s * k for s in range(5)] for k, b in enumerate(("factual", "bias"), 1)
            }
            rest = {"rho_weight": dose} | more
            if dose == 0.0 and not {"rho_weight", "margin"} & more.keys():
                runs += make_arm("sft-only", scores, **rest)
            elif dose == 0.2 or (dose and "rho_weight" not in more):
                runs += make_arm("rho-guided", scores, **rest)
    fill_warehouse(path, runs)
    return path


def mixed(values: Iterable[float]) -> bool:
    """Whether values of both kinds are among them."""
    return len({value > FAR / 2 for value in values}) > 1


def test_nothing_adds_up_two_strata(planted: Path) -> None:
    with Warehouse.open(str(planted), create=False, read_only=True) as wh:
        for name in STUDIES:
            findings = load_study(name).run(wh, StudyOptions()).findings
            assert findings
            for finding in findings:
                assert not any(mixed(group.values) for group in finding.groups), finding.sentence
        grid = from_runs(Effects().load(wh, StudyOptions()))
        assert grid is not None
        assert all(arm.n == 5 and not mixed((arm.values or {}).values()) for arm in grid.arms)
        for name in ("condition-means", "dose-response"):
            found = ask(wh.location, saved(name).sql, saved(name).defaults)
            n, sd = found.columns.index("n"), found.columns.index("sd")
            assert found.rows and all(row[n] == 5 and row[sd] < FAR / 10 for row in found.rows), name
        uuids = [row["uuid"] for row in wh.rows("SELECT uuid FROM runs WHERE kind = 'alignment'")]
        shown = run_deltas(wh, uuids)
    assert shown and all(row["n"] == 5 and row["sd"] < FAR / 10 for row in shown)
    assert len({(row["arm"], row["behavior"]) for row in shown}) == len(shown)  # no two arms of one name


def test_baselines_under_other_settings_are_no_replicates(
    tmp_path: Path, make_arm: Callable, fill_warehouse: Callable
) -> None:
    path = tmp_path / "baselines.db"
    scores = {"factual": [1.0, 1.1, 1.2]}
    fill_warehouse(path, make_arm("sft-only", scores), baseline=0.1, max_length=256)
    fill_warehouse(path, make_arm("sft-only", scores, settings={"max_length": 128}), baseline=0.7, max_length=128)
    with Warehouse.open(str(path), create=False, read_only=True) as wh:
        found = [
            f for f in load_study("anomalies").run(wh, StudyOptions()).findings if f.about["detector"] == "baseline"
        ]
    assert sorted(group.values for f in found for group in f.groups) == [(0.1,), (0.7,)]  # no SD over settings
