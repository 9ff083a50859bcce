"""The spool: what is written comes back equal, and nothing in it can be lost or stop the rest."""

import contextlib
import errno
import gzip
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from warehouse_samples import BASELINE, dump, identity, outcome, probe_scores, probe_set

from rhodb.errors import DatabaseBusyError, DatabaseError
from rhodb.records import Outcome, ProbeRecord, ProbeSetRecord, ScoreRow
from rhodb.spool import Spool, SpoolError, decode, encode, recover
from rhodb.store import insert_outcome
from rhodb.warehouse import Warehouse

TEXT = st.text(max_size=12)
NUMBER = st.floats(allow_nan=False)
MAYBE = st.none() | NUMBER
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
CONFIG = st.dictionaries(TEXT, JSON, max_size=4)
SAMPLE = outcome(
    identity(1), baseline=BASELINE, probe_rows=probe_scores(probe_set(), np.random.default_rng(0), answers=True)
)


@st.composite
def outcomes(draw) -> Outcome:
    ident = replace(SAMPLE.identity, kind=draw(TEXT), seed=draw(st.integers(0, 2**63 - 1)), config=draw(CONFIG))
    return replace(
        SAMPLE,
        identity=ident,
        baseline=draw(st.none() | st.just(ident)),
        seconds=draw(NUMBER),
        error=draw(st.none() | TEXT),
        notes=draw(CONFIG),
        scores=tuple(
            ScoreRow(behavior=draw(TEXT), metric=draw(TEXT), split=draw(TEXT), value=draw(NUMBER), se=draw(MAYBE), n=1)
            for _ in range(draw(st.integers(0, 3)))
        ),
        alignment=draw(st.none() | st.just(replace(SAMPLE.alignment, margin=draw(MAYBE), adapter_path=draw(TEXT)))),
        probe_scores=tuple(replace(row, ce=draw(NUMBER), answer_ce=draw(MAYBE)) for row in SAMPLE.probe_scores[:2]),
    )


@given(outcomes())
def test_an_outcome_comes_back_equal(value):
    assert decode(Outcome, encode(value)) == value


PROBES = st.builds(
    ProbeRecord, key=TEXT, split=TEXT, kind=TEXT, category=TEXT, positive=TEXT, negative=st.none() | TEXT, prompt=TEXT
)


@given(st.lists(PROBES, max_size=4).map(tuple), st.none() | TEXT)
def test_a_probe_set_comes_back_equal(probes, version):
    value = ProbeSetRecord(
        behavior="bias", name="ä", package="p", package_version=version, fingerprint="f", probes=probes
    )
    assert decode(ProbeSetRecord, encode(value)) == value


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 400), st.integers(1, 255))
def test_one_wrong_byte_is_noticed_or_harmless(position, change):
    data = bytearray(encode(SAMPLE))
    data[position % len(data)] ^= change
    with contextlib.suppress(SpoolError):
        assert decode(Outcome, bytes(data)) == SAMPLE  # a byte of the header that carries nothing


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        encode(SAMPLE)[:-20],
        gzip.compress(b"{}", mtime=0),
        gzip.compress(b"[1, 2", mtime=0),
        gzip.compress(json.dumps({"uuid": 1}).encode(), mtime=0),
        encode(probe_set()),
    ],
)
def test_what_is_not_an_outcome_is_said_to_be_none(data):
    with pytest.raises(SpoolError):
        decode(Outcome, data)


@pytest.fixture
def spool(wh) -> Spool:
    return Spool.beside(wh)


def test_recovered_runs_equal_runs_inserted_at_once(wh, spool, tmp_path):
    record = probe_set()
    outcomes_ = [
        outcome(of, baseline=base, probe_rows=probe_scores(record, np.random.default_rng(i), answers=True))
        for i, (of, base) in enumerate([(BASELINE, None), (identity(1), BASELINE), (identity(2), BASELINE)])
    ]
    spool.write_probe_set(record)
    for one in outcomes_:
        spool.write(one)
    assert len(spool.pending()) == 3
    report = recover(wh)
    assert report.inserted == tuple(one.uuid for one in outcomes_)
    assert not (report.already or report.damaged or report.failed or spool.pending())
    assert len(spool.inserted()) == 3
    with Warehouse.open(tmp_path / "direct" / "master.db") as direct:
        for one in outcomes_:
            insert_outcome(direct, one, {record.fingerprint: record})
        times = ("UPDATE runs SET planned_at = ''",)
        for each in (wh, direct):
            with each.write() as connection:
                connection.exec_driver_sql(*times)
        assert dump(wh.location.path) == dump(direct.location.path)


def test_a_child_is_recovered_before_its_baseline(wh, spool):
    spool.write(outcome(identity(1), baseline=BASELINE))
    recover(wh)
    assert wh.rows("SELECT state FROM runs ORDER BY kind") == [{"state": "done"}, {"state": "planned"}]
    spool.write(outcome(BASELINE))
    recover(wh)
    assert wh.rows("SELECT delta FROM v_scores WHERE kind = 'alignment'") == [{"delta": 0.0}]


def test_recovering_twice_counts_nothing_twice(wh, spool):
    spool.write(SAMPLE_PLAIN)
    recover(wh)
    spool.write(SAMPLE_PLAIN)
    report = recover(wh)
    assert (report.inserted, report.already) == ((), (SAMPLE_PLAIN.uuid,))
    assert wh.rows("SELECT count(*) AS n FROM behavior_scores") == [{"n": 1}]


SAMPLE_PLAIN = outcome(identity(5))


def test_damaged_and_refused_files_stop_nothing_and_stay(wh, spool):
    good = spool.write(SAMPLE_PLAIN)
    os.utime(good, (2e9, 2e9))
    torn = spool.write(outcome(identity(6)))
    torn.write_bytes(torn.read_bytes()[:100])
    bad = spool.write(
        outcome(identity(7), scores=[ScoreRow(behavior="b", metric="rho", split="eval", value=2.0, se=None, n=1)])
    )
    homeless = spool.write(SAMPLE)
    report = recover(wh)
    assert report.inserted == (SAMPLE_PLAIN.uuid,)
    assert [path.name for path, _ in report.damaged] == [torn.name]
    assert report.damaged[0][0].parent.name == "damaged" and report.damaged[0][0].exists()
    assert {path: reason.split()[0] for path, reason in report.failed} == {bad: "run", homeless: "run"}
    assert set(spool.pending()) == {bad, homeless}
    spool.write_probe_set(probe_set())
    assert recover(wh).inserted == (SAMPLE.uuid,)


def test_a_damaged_probe_set_is_set_aside_and_written_anew(wh, spool):
    path = spool.write_probe_set(probe_set())
    path.write_bytes(b"torn")
    spool.write(SAMPLE)
    assert len(recover(wh).failed) == 1
    spool.write_probe_set(probe_set())
    assert recover(wh).inserted == (SAMPLE.uuid,)


def test_a_locked_warehouse_leaves_the_spool_as_it_is(wh, spool, monkeypatch):
    spool.write(SAMPLE_PLAIN)

    def locked(*_: object) -> bool:
        raise DatabaseBusyError("locked")

    monkeypatch.setattr("rhodb.spool.insert_outcomes", locked)
    with pytest.raises(DatabaseBusyError):
        recover(wh)
    assert len(spool.pending()) == 1


@pytest.mark.parametrize(
    ("number", "raised"),
    [(errno.EIO, DatabaseError), (errno.ENOSPC, DatabaseBusyError)],
)
def test_half_written_files_are_not_seen(wh, spool, monkeypatch, number, raised):
    def power_cut(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", power_cut)
    with pytest.raises(raised):
        spool.write(SAMPLE_PLAIN)
    monkeypatch.undo()
    assert list(spool.folder.iterdir()) == []
    assert recover(wh).inserted == ()
