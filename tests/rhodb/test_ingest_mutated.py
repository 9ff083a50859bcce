"""Mutated result files: no crash, no partial file, no number that the file does not hold."""

import copy
import itertools
import json
import math
import os
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from legacy_files import FILES, sample

from rhodb import migrate
from rhodb.ingest.driver import ingest_file
from rhodb.ingest.files import Candidate
from rhodb.ingest.write import Writer

CASES = 5000 if os.environ.get("CI") else 600

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**70),
    st.floats(),
    st.sampled_from(["", "0.5", "NaN", "sft-only", "\0", "ä" * 50, "'; DROP TABLE runs; --"]),
    st.sampled_from([[], {}, [[]], {"rho": 0.1}, [1, 2], {"factual": 0.5}, {"behaviors": {}}]),
)


def paths(value, here=()):
    """Every place in a JSON value."""
    yield here
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*here, key))


PLACES = {name: [path for path in paths(value) if path] for name, value in FILES.items()}


@st.composite
def mutated(draw) -> tuple[str, bytes]:
    """A sample file with one to three changes to its tree, and now and then to its bytes."""
    name = draw(st.sampled_from(sorted(FILES)))
    value = sample(name)
    for _ in range(draw(st.integers(1, 3))):
        *outer, last = draw(st.sampled_from(PLACES[name]))
        try:
            parent = value
            for key in outer:
                parent = parent[key]
            match draw(st.sampled_from(["set", "set", "delete", "rename", "copy"])):
                case "set":
                    parent[last] = copy.deepcopy(draw(ODD))
                case "delete":
                    del parent[last]
                case "rename":
                    parent[draw(st.sampled_from(["factual", "seed", "", "x y", "bias"]))] = parent.pop(last)
                case "copy":
                    parent.append(copy.deepcopy(parent[last]))
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # an earlier change took the place away
    data = json.dumps(value).encode()
    cut = draw(st.sampled_from([None] * 9 + ["cut", "byte"]))
    if cut == "cut":
        data = data[: draw(st.integers(0, len(data)))]
    elif cut == "byte":
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
    return name, data


@pytest.fixture(scope="module")
def connection():
    with migrate.in_memory() as opened:
        opened.exec_driver_sql("PRAGMA foreign_keys = ON")
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mutated")


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_no_crash_no_partial_file_no_wrong_number(connection, folder, case):
    name, data = case
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    outer = connection.begin_nested()
    try:
        report = ingest_file(connection, Writer(connection, "report"), Candidate(path=path, named=False))
        rows = connection.exec_driver_sql(
            "SELECT kind, behavior, metric, value FROM behavior_scores JOIN runs ON runs.id = run_id"
        ).fetchall()
        runs = connection.exec_driver_sql("SELECT count(*) FROM runs WHERE kind <> 'baseline'").scalar()
        sources = connection.exec_driver_sql("SELECT count(*) FROM sources").scalar()
    finally:
        outer.rollback()
    if report.status in ("broken", "passed over"):
        assert report.reason and (runs, sources, rows) == (0, 0, [])
        return
    assert sources == 1 and report.added + report.already == report.read
    held = numbers(json.loads(data))
    known = {round(a, 9) for a in held}
    known |= {round(f(a, b), 9) for a, b in itertools.product(held, held) for f in (sum_, difference, ratio)}
    for kind, behavior, metric, value in rows:
        assert round(value, 9) in known, (kind, behavior, metric, value)
        assert (metric == "gap") == (kind == "alignment" or (kind == "baseline" and "alignment" in name)), metric


def sum_(a: float, b: float) -> float:
    return a + b


def difference(a: float, b: float) -> float:
    return a - b


def ratio(a: float, b: float) -> float:
    return a / b if b else 0.0


def numbers(value) -> list[float]:
    """Every finite number of a JSON value, and the counts of its lists."""
    if isinstance(value, dict):
        return [n for inner in value.values() for n in numbers(inner)]
    if isinstance(value, list):
        return [float(len(value)), *(n for inner in value for n in numbers(inner))]
    if isinstance(value, bool):
        return [float(value)]
    finite = isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1e300
    return [float(value)] if finite else []


def test_the_unchanged_samples_are_read(connection, folder):
    outer = connection.begin_nested()
    with closing(outer):
        for name, value in FILES.items():
            path = folder / "sound" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(value))
            report = ingest_file(connection, Writer(connection, "report"), Candidate(path=path, named=False))
            assert report.status == "added", (name, report.reason)
