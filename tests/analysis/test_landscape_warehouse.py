"""The landscape studies on a small warehouse whose answers are known beforehand."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from typer.testing import CliRunner

from analysis.documents import plain
from analysis.landscape.load import LandscapeOptions
from analysis.landscape.result import evidence
from analysis.landscape.studies import Entanglement, LandscapeOverview, Scorecard
from analysis.stored import answer_tables, store
from rhodb.cli.main import app
from rhodb.errors import InputError, UnknownNameError
from rhodb.family_records import AlignmentRow, ClusterMemberRow, ClusterRow, LandscapeRow
from rhodb.records import (
    ModelRecord,
    Outcome,
    ProbeRecord,
    ProbeScoreRow,
    ProbeSetRecord,
    Provenance,
    RunIdentity,
    digest,
)
from rhodb.store import insert_outcome, run_uuid
from rhodb.vectors import WarehouseVectors
from rhodb.warehouse import Warehouse

PAIRS = 24
"""Similar probes: factual number i and bench number i, far from all others."""
EMBEDDER, MODEL = (
    ModelRecord(
        key=key, source="tests", revision=None, fingerprint=digest(key), architecture="none", n_layers=1,
        n_parameters=1, quantization=None,
    )
    for key in ("embedder", "language")
)  # fmt: skip


def outcome(kind: str, model: ModelRecord, *, seed: int, config: dict, baseline=None, finished="01", **rows) -> Outcome:
    identity = RunIdentity(
        kind=kind, model_key=model.key, model_fingerprint=model.fingerprint, seed=seed, config=config
    )
    return Outcome(
        uuid=run_uuid(identity), identity=identity, model=model, attempt=1, started_at="2026-01-01T00:00:00+00:00",
        finished_at=f"2026-01-{finished}T00:01:00+00:00", seconds=1.0, baseline=baseline,
        provenance=Provenance(
            host="here", pid=1, device="cpu", platform="Linux", python="3.11", git_commit=None, git_dirty=None,
            versions={}, blas="none",
        ),
        **rows,
    )  # fmt: skip


def side(number: int) -> str:
    return "train" if number % 2 else "eval"


def landscape(seed: int, clusters: Sequence[int], *, nodes: str = "n", finished: str = "01") -> Outcome:
    """A draw over factual 0..23, then bench 0..23; `clusters` gives the cluster of each."""
    sizes = np.bincount(clusters)
    behaviors = ["factual"] * PAIRS + ["bench"] * PAIRS
    members = [
        ClusterMemberRow(
            node=node, cluster=cluster, behavior=behaviors[node], set_name="set", probe_key=str(node % PAIRS),
            variant="primary", pair_key=str(node % PAIRS), split=side(node // PAIRS), cluster_split="train",
            text_hash=digest(str(node)), degree=1, x=None, y=None,
        )
        for node, cluster in enumerate(clusters)
    ]  # fmt: skip
    described = [
        ClusterRow(
            cluster=number, size=int(size), dominant_behavior="factual", dominance=0.5, central_node=number,
            centrality=1.0, central_ties=2,
        )
        for number, size in enumerate(sizes)
    ]  # fmt: skip
    row = LandscapeRow(
        threshold=0.65, resolution=1.0, nodes=2 * PAIRS, primary_nodes=2 * PAIRS, edges=PAIRS, clusters=len(sizes),
        singletons=int((sizes == 1).sum()), modularity=0.5 + seed / 1000,
    )  # fmt: skip
    config = {"map": None, "nodes": nodes, "resolution": 1.0, "threshold": 0.65, "variants": True}
    return outcome(
        "landscape", EMBEDDER, seed=seed, config=config, finished=finished, landscape=row,
        clusters=tuple(described), cluster_members=tuple(members),
    )  # fmt: skip


def probe_set(behavior: str) -> ProbeSetRecord:
    probes = tuple(
        ProbeRecord(key=str(i), split="eval", kind="pair", category=None, positive="+", negative="-")
        for i in range(PAIRS)
    )
    return ProbeSetRecord(
        behavior=behavior,
        name="set",
        package="tests",
        package_version=None,
        fingerprint=digest(behavior),
        probes=probes,
    )


SETS = {record.fingerprint: record for record in map(probe_set, ("factual", "bench"))}


def scores(gaps: dict[str, Sequence[float]]) -> tuple[ProbeScoreRow, ...]:
    """Probe scores with the given CE(negative) - CE(positive) for each behavior."""
    return tuple(
        ProbeScoreRow(
            probe_set=digest(behavior), probe_key=str(i), side=which, split="eval", tokens=5,
            ce=3.0 + (gap if which == "negative" else 0.0),
        )
        for behavior, of_behavior in gaps.items()
        for i, gap in enumerate(of_behavior)
        for which in ("positive", "negative")
    )  # fmt: skip


@pytest.fixture
def db(tmp_path):
    """Two draws: each similar pair a cluster, and the same with the first two pairs in one."""
    path = tmp_path / "w.db"
    pairs = list(range(PAIRS)) * 2
    merged = [max(cluster - 1, 0) for cluster in pairs]
    with Warehouse.open(path) as wh:
        for drawn in (landscape(42, pairs), landscape(1, merged)):
            assert insert_outcome(wh, drawn, {})
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(PAIRS, PAIRS)))[0].astype("<f4")
    vectors = {digest(str(node)): basis[node % PAIRS].tobytes() for node in range(2 * PAIRS)}
    WarehouseVectors(path).write(EMBEDDER, vectors)
    return path


def train(db, *, alike: bool) -> None:
    """A baseline and two seeds whose Δ of similar probes is the same, or unrelated."""
    rng = np.random.default_rng(5)
    config = {"max_length": 256}
    before = outcome(
        "baseline", MODEL, seed=0, config=config, probe_sets=tuple(SETS),
        probe_scores=scores({"factual": [0.0] * PAIRS, "bench": [1.0] * PAIRS}),
    )  # fmt: skip
    moved = rng.normal(size=PAIRS)
    other = moved if alike else rng.normal(size=PAIRS)
    axes = AlignmentRow(
        condition="rho-guided", rho_weight=0.2, margin=0.1, sft_size=1, lora_rank=1, lora_alpha=1.0, epochs=1.0,
        lr=1.0, train_ce_loss=None, train_rho_loss=None, steps=1, updates=1, swapped_share=None, adapter_path=None,
    )  # fmt: skip
    with Warehouse.open(db) as wh:
        insert_outcome(wh, before, SETS)
        for seed in (1, 2):
            after = scores({"factual": list(moved), "bench": list(9 + 3 * other)})
            trained = outcome(
                "alignment", MODEL, seed=seed, config=config | {"condition": "rho-guided"}, baseline=before.identity,
                alignment=axes, probe_sets=tuple(SETS), probe_scores=after,
            )  # fmt: skip
            insert_outcome(wh, trained, SETS)


def run(study, db, **options):
    with Warehouse.open(db, create=False, read_only=True) as wh:
        return study().run(wh, LandscapeOptions(**options))


def rows(result, name: str) -> list[dict]:
    return [dict(row) for row in result.table(name).rows]


def test_pairs_of_two_behaviors_are_all_cross_behavior(db):
    (pair,) = rows(run(Entanglement, db), "entanglement")
    assert (pair["a"], pair["b"], pair["texts"], pair["low"], pair["high"]) == ("bench", "factual", PAIRS, PAIRS, PAIRS)
    card = rows(run(Scorecard, db), "scorecard")
    assert [(row["behavior"], row["redundancy"], row["partners"], row["needed"]) for row in card] == [
        ("bench", 0.0, 1, 0),
        ("factual", 0.0, 1, 0),
    ]


def test_what_the_other_seed_draws_otherwise_is_said(db):
    result = run(LandscapeOverview, db)
    recovered = [row["recovery"] for row in rows(result, "clusters")]
    assert recovered[:2] == pytest.approx([0.5, 0.5]) and set(recovered[2:]) == {1.0}
    main, other = rows(result, "seeds")
    assert (main["seed"], main["rand"], other["seed"]) == (42, 1.0, 1) and other["rand"] < 1
    assert "0 of the 1 other seeds" in result.conclusions[1], "modularity rises with the seed in this fixture"


def test_every_similar_pair_is_parted_by_one_split_and_by_the_other_none(db):
    result = run(LandscapeOverview, db)
    top = rows(result, "leaks")[-1]
    assert (top["pairs"], top["parted_hash"], top["leaked_hash"], top["share_hash"]) == (PAIRS, PAIRS, PAIRS, 1.0)
    assert top["parted_cluster"] == 0
    listed = rows(result, "leak-list")
    assert listed[0]["train"].startswith("bench/set/") and listed[0]["eval"].startswith("factual/set/")


@pytest.mark.parametrize("alike", [True, False])
def test_the_change_of_neighbours(db, alike):
    train(db, alike=alike)
    result = run(LandscapeOverview, db)
    every, cross = rows(result, "neighbours")
    assert (every["seeds"], every["probes"], every["pairs"]) == (2, 2 * PAIRS, PAIRS)
    assert every["arm"] == "rho-guided λ=0.2 γ=0.1" and cross["pairs"] == PAIRS
    if alike:
        assert every["correlation"] == pytest.approx(1.0) and every["p_adjusted"] < 0.01
        assert any("move alike under rho-guided" in sentence for sentence in result.conclusions)
    else:
        assert abs(every["correlation"]) < 0.6 and every["p_adjusted"] > 0.05
        assert any("are not seen to move alike" in sentence for sentence in result.conclusions)


def test_without_trained_runs_or_vectors_the_rest_is_shown_and_the_gap_is_named(db):
    assert "cannot be compared" in run(LandscapeOverview, db).messages[0]
    with Warehouse.open(db) as wh, wh.write() as connection:
        connection.exec_driver_sql("DELETE FROM embeddings WHERE rowid = 1")
    result = run(LandscapeOverview, db)
    assert "lacks the vectors" in result.messages[0]
    assert [table.name for table in result.tables] == ["clusters", "behaviors", "thresholds", "seeds"]


def test_draws_of_other_texts_are_not_mixed_in(db):
    with Warehouse.open(db) as wh:
        insert_outcome(wh, landscape(7, list(range(PAIRS)) * 2, nodes="other", finished="02"), {})
    result = run(LandscapeOverview, db)
    assert [row["seed"] for row in rows(result, "seeds")] == [42, 1]
    assert "2 different sets of texts" in result.messages[0]


def test_evidence_names_runs_and_queries(db):
    result = run(Scorecard, db)
    told = evidence(result, 1)
    assert "FROM probe_cluster_members" in told and all(run in told for run in result.table(None).runs)
    with pytest.raises(InputError, match="there are 1 to 1"):
        evidence(result, 2)
    with pytest.raises(UnknownNameError, match="choose from scorecard"):
        result.table("leaks")


def test_no_landscape_says_how_to_make_one(tmp_path):
    with Warehouse.open(tmp_path / "w.db") as wh, pytest.raises(InputError, match="rhodb run landscape"):
        Scorecard().run(wh, LandscapeOptions())


@pytest.mark.parametrize(
    "wrong", [{"threshold": 1.0}, {"threshold": float("nan")}, {"seed": -1}, {"top": 0}, {"permutations": 5}]
)
def test_options_outside_their_range_are_refused(wrong):
    with pytest.raises(InputError, match=f"--{next(iter(wrong))}"):
        LandscapeOptions(**wrong)


@pytest.mark.parametrize("study", [LandscapeOverview, Scorecard, Entanglement])
def test_an_unchanged_landscape_answers_from_the_store(db, study):
    train(db, alike=True)
    options = LandscapeOptions()
    with Warehouse.open(db) as wh:
        first = answer_tables(wh, study(), options)
        store(wh, options, first)
        again = answer_tables(wh, study(), options)
        assert again.from_store and not first.from_store
        assert plain(again.result.to_json()) == plain(first.result.to_json())
        assert evidence(again.result, 1) == evidence(first.result, 1)
        assert answer_tables(wh, study(), options, drawing=True).result.drawing is not None
        insert_outcome(wh, landscape(3, [0] * (2 * PAIRS)), {})
        changed = answer_tables(wh, study(), options)
    # A third draw is in the tables of stability only, but all three studies name the draws that they could read.
    assert changed.fingerprint != first.fingerprint and not changed.from_store


def test_diff_says_which_cells_of_a_landscape_moved(db):
    def diff(*more: str) -> list[dict]:
        found = CliRunner().invoke(app, ["--db", str(db), "analyze", "diff", "landscape", "--json", *more])
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout)

    assert diff() == []
    with Warehouse.open(db) as wh:
        insert_outcome(wh, landscape(3, [0] * (2 * PAIRS)), {})
    moved = diff()
    assert {row["table"] for row in moved} >= {"seeds"}
    assert all(row["change"] in ("new", "gone", "moved") for row in moved)
    assert diff("--top", "3") == []  # other options: nothing to compare with yet
