"""Every experiment's own rows: spooled, decoded, inserted into their tables, shown wide with before and after."""

from dataclasses import fields, replace
from typing import get_args

import pytest
from warehouse_samples import MODEL, identity, outcome

from rhodb.check import check
from rhodb.family_records import (
    AttackDefenseRow,
    Cf90Row,
    FamilyRow,
    FidelityCategoryRow,
    FidelityRow,
    FreezeRow,
    HybridPhaseRow,
    HybridRow,
    LeaderboardRow,
    SteeringRow,
    StressResponseRow,
    StressRow,
)
from rhodb.query import show_run
from rhodb.records import Outcome, ScoreRow
from rhodb.rows import TABLES
from rhodb.schema import Base
from rhodb.spool import decode, encode
from rhodb.store import insert_outcome
from rhodb.vocabulary import FAMILY_TABLES, RUN_KINDS

CATEGORY = FidelityCategoryRow(category="logic", n_probes=40, truth_corr=0.1, p=0.5, mean_delta=0.2, pair_accuracy=0.6)
PHASES = [HybridPhaseRow(position=i, phase=name, seconds=1.5) for i, name in enumerate(("svd", "sae"))]
RESPONSE = StressResponseRow(
    prompt_key="j1", kind="jailbreak", category="fraud", prompt="?", response="No.", refused=True, judge="rules 1"
)
STRESS = StressRow(
    condition="baseline",
    training_run=None,
    n_jailbreak=25,
    jailbreak_refused=17,
    n_benign=15,
    benign_refused=0,
    judge=None,
)
SAMPLES: dict[str, tuple[str, list[FamilyRow]]] = {
    "freeze": ("v_freeze_sweep", [FreezeRow(compress_ratio=0.7, freeze_ratio=0.5, fine_tuned=True)]),
    "cf90": ("v_cf90_multiseed", [Cf90Row(ratio=0.7, n_compressed=84, retention=0.9, rho_drop=0.05)]),
    "steering": (
        "v_steering_heatmap",
        [SteeringRow(layer=3, depth=0.5, alpha=4.0, vector_norm=2.0, steered_behavior="bias", method="mean")],
    ),
    "attack_defense": (
        "v_attack_defense",
        [
            AttackDefenseRow(
                layer=17, target_behavior="refusal", scale=0.0, n_features=37, n_regressed=2, mean_collateral=-0.01
            )
        ],
    ),
    "hybrid": (
        "v_hybrid_sweep",
        [
            HybridRow(compress_ratio=0.7, freeze_fraction=0.75, sae_layer=None, rho_weight=0.2, margin=0.1),
            *PHASES,
        ],
    ),
    "leaderboard": (
        "v_leaderboard",
        [LeaderboardRow(label="a+b", merge_method="linear", parents=("a", "b"), weights=(0.5, 0.5))],
    ),
    "fidelity": ("v_fidelity_bench", [FidelityRow(n_categories=1), CATEGORY]),
    "stress": ("v_stress_tests", [STRESS, RESPONSE]),
}


def made(kind: str) -> Outcome:
    score = ScoreRow(behavior="bias", metric="choice_accuracy", split="eval", value=0.75, se=None, n=4)
    of = identity(1, kind=kind)
    rows = tuple(SAMPLES[kind][1])
    return replace(outcome(of, baseline=identity(0, kind="baseline"), scores=[score]), alignment=None, family_rows=rows)


@pytest.mark.parametrize("kind", SAMPLES)
def test_family_rows_survive_the_spool_and_are_inserted_whole(wh, kind):
    done = made(kind)
    back = decode(Outcome, encode(done))
    assert back == done
    base = replace(outcome(identity(0, kind="baseline")), scores=(replace(done.scores[0], value=0.5),))
    assert insert_outcome(wh, base, {}) and insert_outcome(wh, back, {})
    for row in done.family_rows:
        (stored,) = [
            found
            for found in wh.rows(f"SELECT * FROM {row.table}")
            if all(found[name] == getattr(row, name) for name in ("position", "prompt_key") if name in found)
        ]
        for field in fields(row):
            value = getattr(row, field.name)
            if field.name != "table" and not isinstance(value, tuple):
                assert stored[field.name] == value, field.name
    assert check(wh) == []
    assert show_run(wh, done.uuid).family
    (wide,) = wh.rows(f"SELECT * FROM {SAMPLES[kind][0]}")
    assert wide["model"] == MODEL.key and wide["seed"] == 1
    if "bias_choice_accuracy_eval" in wide:
        score = "bias_choice_accuracy_eval"
        assert (wide[score], wide[f"before_{score}"], wide[f"d_{score}"]) == (0.75, 0.5, 0.25)
        assert wide["bias_choice_accuracy_train"] is None


def test_every_family_has_a_record_a_table_and_columns_for_all_its_fields():
    assert {*FAMILY_TABLES} == {*RUN_KINDS} - {"baseline"}
    assert set(FAMILY_TABLES.values()) <= set(TABLES.values())
    assert set(get_args(FamilyRow)) < set(TABLES)
    for kind, table in TABLES.items():
        columns = {column.name for column in Base.metadata.tables[table].columns}
        assert {field.name for field in fields(kind)} - {"table"} == columns - {"run_id"}, table


def test_a_finished_run_without_its_family_row_is_found(wh):
    insert_outcome(wh, replace(made("steering"), family_rows=()), {})
    assert any("without a row in steering_heatmap" in problem.what for problem in check(wh))
