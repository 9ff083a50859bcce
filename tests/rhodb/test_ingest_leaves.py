"""Every value of a result file arrives: in the warehouse, in `extra`, or in the report of what was left out.

The oracle is the file itself. One leaf of its JSON is changed, or one object gets an entry that nobody knows, and what
ingest stores and says must then differ: a leaf that can be changed unnoticed did not arrive.
"""

import copy
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sample_tree import SHARED, needs_sample
from sqlalchemy import Connection, text

from rhodb.ingest import ingest
from rhodb.ingest.driver import ingest_file
from rhodb.ingest.files import Candidate
from rhodb.ingest.write import Writer
from rhodb.warehouse import Warehouse

pytestmark = needs_sample

ROOT = SHARED / "legacy_sample" / "results"
FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.json")) if ROOT.exists() else []
ABOUT_THE_FILE = {"path", "name", "sha256", "bytes", "ingested_at", "planned_at"}
"""Columns that say which file it was and when it was read."""

Path_ = tuple[str | int, ...]


def leaves(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Paths of all objects and values (not of lists)."""
    if isinstance(value, dict):
        yield path
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from leaves(inner, (*path, i))
    else:
        yield path


def few_of_a_kind(paths: Iterator[Path_]) -> Iterator[Path_]:
    """Two paths of each shape: numbers in them aside, which name the same place of another run, layer or probe."""
    seen: Counter[str] = Counter()
    for path in paths:
        shape = re.sub(r"[0-9.]+", "#", repr(path))
        seen[shape] += 1
        if seen[shape] <= 2:
            yield path


def with_change(value: Any, path: Path_) -> Any:
    """A copy with one value changed, or one object with an entry that no format knows."""
    whole = {"": copy.deepcopy(value)}
    place: Any = whole
    for key in ("", *path)[:-1]:
        place = place[key]
    last = ("", *path)[-1]
    place[last] = other(place[last])
    return whole[""]


def other(value: Any) -> Any:
    """Another value of the same type, within the same range."""
    if isinstance(value, dict):
        return {**value, "zz_unknown": "a value"}
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value - 1 if value > 0 else value + 1
    if isinstance(value, float) and not math.isnan(value):
        return value * 0.9 + 0.017
    return value + " (another)" if isinstance(value, str) else 0.25


def stored(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables."""
    tables = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
    return {
        table: [
            {key: value for key, value in row.items() if key not in ABOUT_THE_FILE}
            for row in connection.execute(text(f'SELECT * FROM "{table}"')).mappings()
        ]
        for table in tables
        if not table.startswith("sqlite_")
    }


class _RollBack(Exception):  # noqa: N818
    pass


def outcome(wh: Warehouse, path: Path, value: Any) -> tuple[Any, Any]:
    """What ingest stores of a file, and what it reports; nothing stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    found: list[Any] = []
    with pytest.raises(_RollBack), wh.write() as connection:
        report = ingest_file(connection, Writer(connection, "report"), Candidate(path=path, named=True))
        found += [stored(connection), asdict(report)]
        raise _RollBack
    return found[0], found[1]


@pytest.mark.parametrize("name", FILES)
def test_every_leaf_arrives(name, tmp_path):
    value = json.loads((ROOT / name).read_text(encoding="utf-8"))
    silent = []
    with Warehouse.open(tmp_path / "master.db") as wh:
        as_it_is = outcome(wh, tmp_path / "files" / name, value)
        for path in few_of_a_kind(leaves(value)):
            if outcome(wh, tmp_path / "files" / name, with_change(value, path)) == as_it_is:
                silent.append(path)
    assert silent == []


def write(folder: Path, name: str, value: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


RUN = {"condition": "sft-only", "seed": 42, "quick_scores": {"factual": 0.5, "bias": 0.25}}
HEAD = {"model": "m", "baseline_quick": {"factual": 0.4, "bias": 0.2}, "config": {"sft_size": 1000}}


def test_numbers_in_quotes_are_taken_and_told(tmp_path):
    quoted = {**RUN, "seed": "42", "quick_scores": {"factual": "0.5", "bias": "2.5e-1"}, "train_ce_loss": "NaN"}
    with Warehouse.open(tmp_path / "master.db") as wh:
        report = ingest(wh, [write(tmp_path, "alignment/a.json", {**HEAD, "runs": [quoted]})])
        assert report.files[0].added == 1 and report.problems == []
        (warning,) = report.files[0].warnings
        assert warning.startswith("4 numbers stand in quotes") and "'42'" in warning
        rows = wh.rows("SELECT seed, factual_gap_none AS f, bias_gap_none AS b, train_ce_loss AS l FROM v_alignment")
        assert [tuple(row.values()) for row in rows] == [(42, 0.5, 0.25, None)]
        # The same run with plain numbers is the same run.
        again = ingest(wh, [write(tmp_path, "alignment/b.json", {**HEAD, "runs": [RUN]})])
        assert (again.files[0].added, again.files[0].already) == (0, 1)


@pytest.mark.parametrize("written", ["0,5", "5 %", "1_000", "", "half", "0x1F", "٣", "inf"])
def test_a_text_that_is_no_clear_number_is_refused_with_its_place(tmp_path, written):
    unclear = {**RUN, "quick_scores": {"factual": written}}
    with Warehouse.open(tmp_path / "master.db") as wh:
        report = ingest(wh, [write(tmp_path, "alignment/a.json", {**HEAD, "runs": [unclear]})])
        assert [(file.status, file.json_path) for file in report.files] == [
            ("broken", "$.runs[0].quick_scores.factual")
        ]


def test_a_failed_run_keeps_its_baseline(tmp_path):
    failed = {"condition": "sft-only", "seed": 42, "error": "out of memory"}
    with Warehouse.open(tmp_path / "master.db") as wh:
        ingest(wh, [write(tmp_path, "alignment/a.json", {**HEAD, "runs": [failed]})])
        rows = wh.rows(
            "SELECT score.behavior, score.value FROM runs JOIN behavior_scores AS score "
            "ON score.run_id = runs.baseline_run_id WHERE runs.state = 'failed' ORDER BY score.behavior"
        )
        assert [tuple(row.values()) for row in rows] == [("bias", 0.2), ("factual", 0.4)]


def test_a_difference_that_contradicts_its_scores_is_kept_and_told(tmp_path):
    run = {**RUN, "quick_deltas": {"factual": 0.1, "bias": 0.3}}  # bias: 0.25 - 0.2 is 0.05
    with Warehouse.open(tmp_path / "master.db") as wh:
        report = ingest(wh, [write(tmp_path, "alignment/a.json", {**HEAD, "runs": [run]})])
        (warning,) = report.files[0].warnings
        assert warning == "$.runs[0]: delta_bias is stated as 0.3, but 0.25 - 0.2 is 0.05: kept in `extra`"
        assert json.loads(wh.rows("SELECT extra FROM runs WHERE kind = 'alignment'")[0]["extra"]) == {"delta_bias": 0.3}


def test_copies_that_differ_only_in_their_counts_are_not_one_run(tmp_path):
    def board(right: int) -> dict[str, Any]:
        score = {"rho": 0.8, "retention": 0.5, "positive_count": right, "total": 206}
        return {"a": {"model_id": "m", "behaviors": {"factual": score}}}

    with Warehouse.open(tmp_path / "master.db") as wh:
        found = enumerate((135, 134, 135))
        paths = [write(tmp_path, f"leaderboard/{i}.json", board(right)) for i, right in found]
        report = ingest(wh, paths)
        assert [file.added for file in report.files] == [1, 1, 0]
        notes = wh.rows("SELECT notes FROM runs ORDER BY repeat")
        assert [json.loads(row["notes"])["positive_count"]["factual"] for row in notes] == [135, 134]
