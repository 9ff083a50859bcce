"""Registered hypotheses: one sentence for each mistake and nothing written, hash and time, withdrawal, evidence."""

import dataclasses
import json

import pytest
from sqlalchemy import text

from rhodb import hypotheses
from rhodb.errors import InputError
from rhodb.hypotheses import Hypothesis, register
from rhodb.records import canonical_json, digest
from rhodb.warehouse import Warehouse

GOOD = {
    "name": "q", "treatment": "rho-guided", "control": "sft-only", "model": "m", "behavior": "refusal", "metric": "gap",
    "direction": "greater", "margin": 0.02, "looks": (3, 5, 8), "seeds": tuple(range(1, 9)),
}  # fmt: skip


def asked(**more: object) -> Hypothesis:
    return Hypothesis(**(GOOD | more))  # type: ignore[arg-type]


@pytest.fixture
def wh(tmp_path):
    with Warehouse.open(tmp_path / "master.db") as found:
        yield found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"treatment": "nothing"}, "unknown arm 'nothing'; choose from sft-only"),
        ({"control": "rho-guided"}, "with itself"),
        ({"treatment": "rho-guided@0.5"}, "after @ come settings"),
        ({"metric": "beauty"}, "unknown metric 'beauty'"),
        ({"direction": "up"}, "unknown direction 'up'"),
        ({"kind": "interaction"}, "cannot be decided yet"),
        ({"kind": "equivalence"}, "has no direction"),
        ({"kind": "non-inferiority", "direction": "different"}, "needs --direction"),
        ({"margin": 0.0}, "above 0"),
        ({"margin": float("nan")}, "above 0"),
        ({"alpha": 0.5}, "--alpha must lie between"),
        ({"beta": 0.0}, "--beta must lie between"),
        ({"looks": (8,)}, "at least two looks"),
        ({"looks": (3, 3, 8)}, "must rise"),
        ({"looks": (3, 5)}, "last look is after 5"),
        ({"seeds": (1, 1, 2), "looks": (2, 3)}, "different whole numbers"),
        ({"seeds": (1,), "looks": (1,)}, "at least two seeds"),
        ({"name": " "}, "needs a name"),
        ({"name": "two\nlines"}, "of one line"),
        ({"behavior": "refusall"}, "unknown behavior 'refusall'"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(wh, change, said):
    with pytest.raises(InputError, match=said):
        register(wh, asked(**change))
    assert wh.rows("SELECT * FROM hypotheses") == []


def test_a_name_is_taken_once_and_a_family_keeps_its_level(wh):
    register(wh, asked())
    with pytest.raises(InputError, match="already: a changed one needs another name"):
        register(wh, asked(margin=0.5))
    with pytest.raises(InputError, match=r"family main has alpha 0\.05"):
        register(wh, asked(name="r", alpha=0.01))
    assert [h.name for h in hypotheses.registered(wh)] == ["q"]


def test_the_hash_is_that_of_the_whole_design_with_its_time(wh):
    h = register(wh, asked(settings={"sft_size": 32}))
    (row,) = wh.rows("SELECT * FROM hypotheses")
    design = {k: row[k] for k in row if k not in ("id", "hash", "withdrawn_at", "withdrawn_why")}
    design |= {key: json.loads(design[key]) for key in ("settings", "looks", "seeds")}
    assert row["hash"] == digest(canonical_json(design)) == h.hash
    assert dataclasses.replace(h, id=0, hash="", registered_at="") == asked(settings={"sft_size": 32})


def test_what_is_withdrawn_stays_visible(wh):
    register(wh, asked())
    with pytest.raises(InputError, match="unknown hypothesis 'x'; choose from q"):
        hypotheses.withdraw(wh, "x", "because")
    hypotheses.withdraw(wh, "q", "wrong margin")
    (row,) = wh.rows("SELECT name, state FROM v_hypotheses")
    assert row == {"name": "q", "state": "withdrawn"}
    with pytest.raises(InputError, match="withdrawn already"):
        hypotheses.withdraw(wh, "q", "again")


def put_run(wh: Warehouse, seed: int, condition: str, value: float, started: str, **config: object) -> None:
    settings = {"condition": condition} | config
    key = f"{condition}-{seed}-{canonical_json(settings)}"
    with wh.write() as c:
        c.execute(text("INSERT INTO models (key, source, fingerprint) VALUES ('m', 's', 'f') ON CONFLICT DO NOTHING"))
        c.execute(
            text(
                "INSERT INTO runs (uuid, kind, model_id, seed, config, config_hash, state, attempt, planned_at, "
                "started_at, finished_at, seconds, notes) "
                "VALUES (:u, 'alignment', 1, :s, :c, :h, 'done', 1, :t, :t, :t, 60, '{}')"
            ),
            {"u": key, "s": seed, "c": canonical_json(settings), "h": digest(canonical_json(settings)), "t": started},
        )
        c.execute(
            text(
                "INSERT INTO behavior_scores (run_id, behavior, metric, split, value) "
                "SELECT id, 'refusal', 'gap', 'eval', :v FROM runs WHERE uuid = :u"
            ),
            {"v": value, "u": key},
        )


LATE = "2999-01-01T00:00:00.000000+00:00"
EARLY = "2000-01-01T00:00:00.000000+00:00"


def test_evidence_is_what_was_begun_after_registration_in_order_and_without_a_gap(wh):
    h = register(wh, asked(seeds=(5, 2, 9, 4), looks=(2, 4)))
    for seed, (a, b) in {5: (1.0, 0.5), 2: (2.0, 0.25), 4: (9.0, 0.0)}.items():
        put_run(wh, seed, "rho-guided", a, LATE)
        put_run(wh, seed, "sft-only", b, LATE)
    put_run(wh, 9, "rho-guided", 3.0, LATE)
    put_run(wh, 9, "sft-only", 3.0, EARLY)
    found = hypotheses.evidence(wh, h)
    assert found.differences == (0.5, 1.75) and found.seconds == (120.0, 120.0)
    assert all(len(runs) == 2 for runs in found.runs)


def test_settings_that_two_strata_match_are_refused(wh):
    put_run(wh, 77, "rho-guided", 1.0, EARLY, sft_size=32, lr=0.1)
    put_run(wh, 77, "rho-guided", 1.0, EARLY, sft_size=64, lr=0.1)
    with pytest.raises(InputError, match="2 strata of rho-guided match these settings: fix sft_size with --set"):
        register(wh, asked())
    assert register(wh, asked(settings={"sft_size": 64})).settings == {"sft_size": 64}
    with pytest.raises(InputError, match="seeds 77 of rho-guided were run before"):
        register(wh, asked(name="r", seeds=(77, 78), looks=(2,), rule="any-time", spending=None, settings={"lr": 0.1}))


def test_an_arm_may_bring_settings_of_its_own():
    h = asked(treatment="rho-guided@rho_weight=0.5,margin=0", settings={"lora_rank": 8})
    assert h.matches(h.treatment, {"condition": "rho-guided", "rho_weight": 0.5, "margin": 0.0, "lora_rank": 8})
    assert not h.matches(h.treatment, {"condition": "rho-guided", "rho_weight": 0.2, "margin": 0.0, "lora_rank": 8})
    assert not h.matches(h.treatment, {"condition": "rho-guided", "rho_weight": 0.5, "margin": 0.0, "lora_rank": 4})


def test_earlier_runs_serve_planning_only(wh):
    for seed, (a, b) in {5: (1.0, 0.5), 7: (2.0, 0.25)}.items():
        put_run(wh, seed, "rho-guided", a, EARLY)
        put_run(wh, seed, "sft-only", b, EARLY)
    put_run(wh, 6, "rho-guided", 3.0, EARLY)
    h = register(wh, asked(seeds=(1, 2, 3), looks=(2, 3)))
    assert hypotheses.earlier(wh, h).differences == (0.5, 1.75)
    assert hypotheses.evidence(wh, h).differences == ()


def test_a_look_is_stored_once_and_an_open_one_may_be_decided_later(wh):
    h = register(wh, asked())
    look = hypotheses.Look(
        seeds=3, decision="open", level=0.025, p=0.04, mean=0.1, estimate=0.1, low=None, high=None, method="m",
        runs=("a", "b"), differences=(0.1, 0.2, 0.0), seconds=1.0,
    )  # fmt: skip
    hypotheses.store_look(wh, h, look)
    decided = dataclasses.replace(look, decision="supported", level=0.05)
    hypotheses.store_look(wh, h, decided)
    hypotheses.store_look(wh, h, dataclasses.replace(look, mean=9.0))
    assert hypotheses.looks_at(wh, h) == [decided]
