"""Every quality check fires on a warehouse with its fault planted, and on no clean one."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from analysis.findings import Finding
from analysis.panel import panels
from analysis.quality.measurements import place_test
from analysis.quality.pooled import between_share
from analysis.quality.study import CHECKS, Quality
from analysis.simulate import NOISE, Warehouse, ladder, noise
from analysis.study import StudyOptions
from rhodb.records import digest

Plant = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


def clean(rng: np.random.Generator) -> pd.DataFrame:
    """A dose series of ten seeds on two models, trained without trouble, scored on both splits, without any effect."""
    wh = Warehouse()
    for model in ("m1", "m2"):
        ladder(wh, rng, model=model, seeds=range(1, 11))
    frame = wh.frame()
    runs = list(frame["run"].unique())
    begun = dict(zip(runs, rng.permutation(len(runs)), strict=True))
    frame = frame.assign(
        config_hash=frame["config"].map(digest), state="done", origin="rhodb", notes="{}", platform="Linux",
        device="cpu", versions="{}", git_commit="abc", host=[f"h{begun[run] % 2}" for run in frame["run"]],
        started_at=[f"2026-01-01T{begun[run] // 60:02}:{begun[run] % 60:02}" for run in frame["run"]],
        architecture="llama", quantization=None,
        train_ce_loss=2.0, train_rho_loss=0.1, steps=50, highest_ce=3.0, mean_ce=2.0, active=80, highest_rho=0.4,
    )  # fmt: skip
    # The configuration of a run states its arm.
    frame["config_hash"] += frame["condition"] + frame["rho_weight"].astype(str)
    train = frame.assign(split="train")
    train["value"] += rng.normal(0, NOISE / 2, len(train))
    return pd.concat([frame, train], ignore_index=True)


def guided(frame: pd.DataFrame, dose: float = 0.5) -> pd.Series:
    return (frame["model"] == "m1") & (frame["rho_weight"] == dose)


def plant(check: str, frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The frame with the fault that the check looks for."""
    arm = guided(frame)
    if check == "range":
        frame.loc[arm & (frame["behavior"] == "bias"), ["metric", "value"]] = ["pair_accuracy", 1.2]
    elif check == "stored for missing":
        frame.loc[arm & (frame["behavior"] == "bias") & frame["seed"].isin([1, 2, 3]), "value"] = 0.0
    elif check == "probe counts":
        frame.loc[arm & (frame["seed"] == 1), "n"] = 20
    elif check == "pooled strata":
        frame.loc[arm, "value"] += 20 * NOISE
    elif check == "copies":
        source = frame[arm & (frame["seed"] == 1)].sort_values(["split", "behavior"])
        target = frame[arm & (frame["seed"] == 2)].sort_values(["split", "behavior"])
        frame.loc[target.index, "value"] = source["value"].to_numpy()
    elif check == "contradiction":
        again = frame[arm & (frame["seed"] == 1)].assign(run="again", host="elsewhere")
        frame = pd.concat([frame, again.assign(value=again["value"] + 0.1)], ignore_index=True)
    elif check == "places":
        frame.loc[frame["host"] == "h1", "value"] += 4 * NOISE
    elif check == "missing cells":
        frame = frame[~(arm & frame["seed"].isin([3, 4]))]
    elif check == "survivorship":
        lost = arm & (frame["seed"] > 2)
        heads = frame[lost].drop_duplicates("run").assign(state="failed", value=np.nan, behavior=None, split=None)
        heads["config"] = '{"condition": "rho-guided"}'
        others = [heads.assign(run=heads["run"] + f" again {k}", seed=heads["seed"] + 100 * k) for k in range(4)]
        frame = pd.concat([frame[~lost], *others], ignore_index=True)
    elif check == "drift":
        order = frame["started_at"].rank(method="dense")
        frame["value"] += 6 * NOISE * order / order.max()
    elif check == "train-eval gap":
        frame.loc[arm & (frame["split"] == "train"), "value"] += 4 * NOISE
    elif check == "seeds":
        frame.loc[arm & (frame["behavior"] == "bias"), "value"] = 0.25
    return frame


def test_equal_scores_of_two_settings_are_a_setting_without_effect_not_two_copies() -> None:
    frame = clean(np.random.default_rng(4))
    doses = [
        frame[guided(frame, dose) & (frame["seed"] == 1)].sort_values(["split", "behavior"]) for dose in (0.2, 0.5)
    ]
    frame.loc[doses[1].index, "value"] = doses[0]["value"].to_numpy()
    (found,) = answers(frame, "copies")
    assert "2 runs (seeds 1) that differ in λ (0.2, 0.5)" in found.sentence
    assert "changed nothing" in found.sentence
    assert "twice" not in found.sentence


PLANTED = [check for check in CHECKS if check not in ("training", "old results")]


def answers(frame: pd.DataFrame, check: str) -> list[Finding]:
    findings = Quality().compute(frame, StudyOptions(), np.random.default_rng(0)).findings
    return [f for f in findings if f.about["detector"] == check and f.verdict in ("artefact", "supported")]


@pytest.mark.parametrize("check", PLANTED)
def test_a_planted_fault_is_found(check: str) -> None:
    rng = np.random.default_rng(11)
    found = answers(plant(check, clean(rng), rng), check)
    assert found
    assert all(f.sentence and f.evidence.runs for f in found)


@pytest.mark.parametrize(
    "change",
    [
        {"rho_weight": 0.2},
        {"margin": 0.0},
        {"config": '{"lora_rank": 16, "condition": "rho-guided"}'},
        {"model_fingerprint": "g"},
    ],
)
def test_failures_of_one_stratum_are_not_diluted_by_another(change: dict[str, object]) -> None:
    frame = clean(np.random.default_rng(3))
    runs = frame[guided(frame)].drop_duplicates("run").assign(config='{"lora_rank": 8, "condition": "rho-guided"}')
    # Seven of ten fail in one stratum, none of ten in another of the same condition, none of twenty elsewhere.
    failed = runs.assign(state=["failed"] * 7 + ["done"] * 3)
    spared = runs.assign(run="spared " + runs["run"], **change)
    rest = [runs.assign(run=f"{k} " + runs["run"], condition="sft-only", rho_weight=0.0) for k in range(2)]
    heads = pd.concat([failed, spared, *rest], ignore_index=True)
    looks = CHECKS["survivorship"](heads, panels(frame))
    others = 20 if "model_fingerprint" in change else 30
    (look,) = looks
    assert f"7 of 10 runs of {look.about['stratum']} failed, 0 of {others} of the other strata" in look.what
    assert look.test.p == pytest.approx(scipy_stats.fisher_exact([[7, 3], [0, others]]).pvalue)
    assert set(look.runs) == set(failed["run"])


def test_the_arm_of_a_failed_run_is_read_from_its_configuration() -> None:
    frame = clean(np.random.default_rng(3))
    runs = frame[guided(frame)].drop_duplicates("run")
    stated = [f'{{"condition": "rho-guided", "rho_weight": {w}, "margin": 0.1}}' for w in (0.1, 0.5) for _ in range(5)]
    heads = runs.assign(state="failed", condition=None, rho_weight=np.nan, margin=np.nan, config=stated)
    looks = CHECKS["survivorship"](heads, panels(frame))
    assert [look.about["stratum"] for look in looks] == ["rho-guided λ=0.1", "rho-guided λ=0.5"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"active": 0}, "no active pairs"),
        ({"highest_rho": 0.0}, "silent contrastive term"),
        ({"train_rho_loss": 0.0, "steps": np.nan, "active": np.nan, "highest_rho": np.nan}, "silent contrastive term"),
        ({"highest_ce": 40.0}, "loss spikes"),
    ],
)
def test_training_gone_wrong(columns: dict[str, float], words: str) -> None:
    frame = clean(np.random.default_rng(11))
    frame = frame.astype(dict.fromkeys(columns, float))
    frame.loc[guided(frame) & (frame["seed"] == 1), list(columns)] = list(columns.values())
    (found,) = [f for f in answers(frame, "training") if words in f.sentence]
    assert len(found.evidence.runs) == 1 and "seeds 1" in found.sentence


def test_a_clean_warehouse_has_no_faults() -> None:
    faults = []
    for seed in range(20):
        findings = Quality().compute(clean(np.random.default_rng(seed)), StudyOptions(), np.random.default_rng(0))
        faults += [f.about["detector"] for f in findings.findings if f.verdict in ("artefact", "supported")]
    # p is held at 5 % a call: of 20 calls, 5 or more with a fault have probability 0.3 %.
    assert len(faults) < 5


@pytest.mark.parametrize(
    ("axis", "change"),
    [
        ("λ", {"rho_weight": 0.5}),
        ("γ", {"margin": 0.0}),
        ("model", {"model": "m9", "model_fingerprint": "f9"}),
        ("epochs", {"config": '{"epochs": 3, "lora_rank": 8}'}),
        ("lora_rank", {"config": '{"epochs": 1, "lora_rank": 16}'}),
        ("refusal_share", {"config": '{"epochs": 1, "lora_rank": 8, "refusal_share": 0.2}'}),
        ("scoring.version", {"config": '{"epochs": 1, "lora_rank": 8, "scoring": {"version": 2}}'}),
        ("experiment", {"experiment": "late", "run": "again "}),
    ],
)
def test_pooling_over_any_axis_is_seen(axis: str, change: dict[str, object]) -> None:
    rng = np.random.default_rng(2)
    wh = Warehouse()
    wh.arm(noise(rng), condition="rho-guided", weight=0.2)
    first = clean(rng).iloc[:0]
    arm = wh.frame().assign(config='{"epochs": 1, "lora_rank": 8}', experiment="early", state="done", config_hash="h")
    other = arm.assign(**{**change, "run": "again " + arm["run"], "value": arm["value"] + 1.0})
    frame = pd.concat([first, arm, other], ignore_index=True)
    found = answers(frame, "pooled strata")
    assert {f.about["stratum"].split(",")[1].split("=")[0].strip() for f in found} == {axis}
    assert len(found) == 4 and all((f.effect.value or 0) > 0.9 for f in found)


def test_share_and_f_of_two_groups_by_hand() -> None:
    share, test = between_share([np.array([0.0, 2.0]), np.array([4.0, 6.0])])
    assert share == pytest.approx(16 / 20)
    assert test.statistic == pytest.approx(8.0)


def test_places_after_stratum_means_by_hand() -> None:
    # Two strata far apart; inside each, place b lies 2 above a, and nothing else differs but by 0.1.
    share, test = place_test((0, 0, 0, 0, 1, 1, 1, 1), tuple("aabbaabb"), (0.0, 0.1, 2.0, 2.1, 9.0, 9.1, 11.0, 11.1))
    assert share == pytest.approx(8 / 8.02)
    assert test.statistic == pytest.approx(8 / (0.02 / 5))
    assert place_test((0, 0, 1, 1), tuple("aabb"), (0.0, 1.0, 5.0, 6.0))[1].status == "not enough data"


def test_faults_are_read_from_a_real_warehouse(
    tmp_path: Path,
    make_arm: Callable[..., list],
    fill_warehouse: Callable[..., None],  # type: ignore[type-arg]
) -> None:
    from rhodb.warehouse import Warehouse as Store

    path = tmp_path / "master.db"
    scores = {"bias": [0.2, 0.25, 0.22, 0.31, 0.28], "toxicity": [0.5, 0.6, 0.55, 0.52, 0.5]}
    fill_warehouse(
        path, [*make_arm("sft-only", scores), *make_arm("rho-guided", {b: v[::-1] for b, v in scores.items()})]
    )
    with sqlite3.connect(path) as connection:
        guided_runs = "SELECT run_id FROM alignment_runs WHERE condition = 'rho-guided'"
        connection.execute(
            "INSERT INTO train_steps (run_id, step, ce_loss, rho_loss, active_pairs, pairs, lr, tokens, seconds) "
            f"SELECT run_id, 1, 2.0, 0.0, 0, 4, 1e-4, 100, 1.0 FROM ({guided_runs})"
        )
    with Store.open(path, create=False, read_only=True) as wh:
        findings = Quality().run(wh, StudyOptions()).findings
    words = [f.sentence for f in findings if f.verdict == "artefact"]
    assert any("no active pairs in 5 runs" in sentence for sentence in words)
    # The same vectors of scores stand under sft-only and rho-guided.
    assert sum(f.about["detector"] == "copies" for f in findings) == 5
