"""No study, table, saved query or summary adds up runs that differ in anything but their seed.

A second value is planted in each axis that configurations have, with scores far from those of the first: a group that
holds both has forgotten the axis.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from analysis.arms import from_runs
from analysis.effects import Effects
from analysis.registry import load_study
from analysis.report.addresses import Book
from analysis.report.context import Context, ReportOptions
from analysis.report.sections.families import FAMILIES, means, pivoted, stratum_runs
from analysis.study import StudyOptions
from rhodb.adhoc import ask
from rhodb.location import locate
from rhodb.queries import saved
from rhodb.query import list_runs
from rhodb.summary import run_deltas
from rhodb.warehouse import Warehouse

FAR = 100.0
"""Added to every score of the runs with the second value."""
AXES: dict[str, dict[str, Any]] = {
    "λ": {"rho_weight": 0.35}, "γ": {"margin": 0.05}, "model": {"model": "other"},
    "weights": {"weights": "of another download"},
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


def test_no_table_of_the_report_adds_up_two_strata(planted: Path) -> None:
    with sqlite3.connect(planted) as connection:
        connection.execute(
            "INSERT INTO checkpoint_scores (run_id, step, behavior, metric, split, epochs, value, n) SELECT run_id, 5, "
            "behavior, metric, split, 0.5, value, n FROM behavior_scores JOIN alignment_runs USING (run_id)"
        )
    with Warehouse.open(str(planted), create=False, read_only=True) as wh:
        ctx = Context(wh=wh, options=ReportOptions(), book=Book(wh))
        found = means(ctx, FAMILIES["alignment"])
        made = pivoted(ctx, found, key="means", title="Means")
        passed = ctx.rows(ctx.query("report_checkpoints"))
        configurations = ctx.rows(ctx.query("report_configurations", runs__kind="alignment"))
        runs = wh.rows("SELECT runs.uuid, model_id, config_hash FROM runs WHERE kind = 'alignment'")
    assert made is not None and found.rows
    assert all(row["runs"] == 5 and row["sd"] < FAR / 10 for row in found.rows)
    strata = {(row["model_id"], row["config_hash"]) for row in runs}
    assert len(made.rows) == len(configurations) == len(strata)
    assert all(row["runs"] == row["seeds"] == 5 for row in configurations)
    assert len(passed) == 2 * len(strata) and all(row["runs"] == 5 and row["sd"] < FAR / 10 for row in passed)
    # What a reader sees of a row tells it from all others; its address leads to its own five runs.
    assert len({tuple(cell for cell in row.cells if isinstance(cell, str)) for row in made.rows}) == len(made.rows)
    behind = [tuple(stratum_runs(ctx, row, "alignment")) for row in found.rows if row["behavior"] == "bias"]
    assert all(len(set(uuids)) == 5 for uuids in behind) and len(set(behind)) == len(strata)


def test_views_and_lists_have_a_row_of_their_own_for_each_run(planted: Path) -> None:
    with sqlite3.connect(planted) as connection:
        ids = dict(connection.execute("SELECT uuid, id FROM runs WHERE kind = 'alignment'"))
        insert = (
            "INSERT INTO generated_answers (run_id, probe_key, variant, behavior, split, response, success, rule, "
            "tokens, seconds) VALUES (?, ?, 'clean', 'reasoning', 'eval', '7', ?, 'last number', 1, 0.1)"
        )
        connection.executemany(insert, [(i, f"p{k}", int(k < i % 3)) for i in ids.values() for k in range(2)])
    with Warehouse.open(str(planted), create=False, read_only=True) as wh:
        views = {row["name"] for row in wh.rows("SELECT name FROM sqlite_master WHERE type = 'view'")}
        for name in views - {"v_hypotheses", "v_external_scores"}:  # a hypothesis a row; a score of another tool a row
            columns = {row["name"] for row in wh.rows(f"SELECT name FROM pragma_table_info('{name}')")}
            assert columns & {"run", "run_id"}, name
        for name, behaviors in (("v_alignment", 1), ("v_scores", 2), ("v_wide_scores", 1), ("v_generation_probes", 1)):
            found = Counter(row["run_id"] for row in wh.rows(f"SELECT run_id FROM {name}"))
            assert {i: found[i] for i in ids.values()} == dict.fromkeys(ids.values(), behaviors), name
        answered = wh.rows("SELECT run, n_problems, clean_accuracy FROM v_generation_probes")
    assert {r["run"]: (r["n_problems"], r["clean_accuracy"]) for r in answered} == {
        uuid: (2, (i % 3) / 2) for uuid, i in ids.items()
    }
    assert sorted(row["run"] for row in list_runs(locate(str(planted)), kind="alignment", limit=1000)) == sorted(ids)


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
