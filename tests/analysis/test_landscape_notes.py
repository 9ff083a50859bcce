"""`rhodb run landscape` and its three analyses, on the real probes: the notes' tables to the digit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTES = json.loads((Path(__file__).parent / "landscape_notes.json").read_text(encoding="utf-8"))
WORDS = {"diverse": "Good", "moderate": "Moderate", "homogeneous": "Template-driven"}

pytestmark = pytest.mark.slow


def rhodb(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "rhodb", *arguments],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", "RHODB_DB": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


ORDER = ("--order", "file", "--orders", "0")
"""The notes' clusters are those of seed 42 with the texts as the files have them."""
RUN = ("run", "landscape", *ORDER, "--seeds", "42,1", "--thresholds", "0.65,0.8", "--no-map", "--db", "w.db", "--json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("notes' landscape ü")
    report = json.loads(rhodb(place, *RUN))
    assert len(report["executed"]) == 3 and not report["failed"]
    return place


@pytest.fixture(scope="module")
def studies(folder):
    names = ("landscape", "scorecard", "entanglement")
    return {name: json.loads(rhodb(folder, "analyze", name, "--db", "w.db", "--json")) for name in names}


def rows(studies, study: str, table: str) -> list[dict]:
    return studies[study]["tables"][table]["rows"]


def test_nodes_and_cross_behavior_clusters(studies):
    assert (
        f"{NOTES['nodes']} texts ({NOTES['primary']} primary, {NOTES['variants']} variants)"
        in studies["landscape"]["conclusions"][0]
    )
    main = rows(studies, "landscape", "seeds")[0]
    assert (main["seed"], main["cross"]) == (42, NOTES["cross_behavior_clusters"])


def test_the_fifteen_largest_clusters(studies):
    found = [
        [
            row["cluster"],
            row["size"],
            row["dominant_behavior"],
            f"{row['dominance']:.0%}",
            "Yes" if row["is_cross"] else "No",
            row["central_key"] if row["central_variant"] == "primary" else row["central_variant"],
        ]
        for row in rows(studies, "landscape", "clusters")
    ]
    assert found == NOTES["clusters"]


def test_redundancy_and_isolation(studies):
    found = [
        [
            row["behavior"],
            row["probes"],
            row["clustered"],
            row["singletons"],
            f"{row['isolation']:.0%}",
            f"{row['redundancy']:.2f}",
            WORDS[row["reading"]],
        ]
        for row in rows(studies, "landscape", "behaviors")
    ]
    assert found == NOTES["behaviors"]


def test_scorecard(studies):
    table = rows(studies, "scorecard", "scorecard")
    found = [
        [
            row["rank"],
            row["behavior"],
            row["probes"],
            f"{row['redundancy']:.2f}",
            row["in_cross"],
            f"{row['partners']}/{row['others']}",
            row["needed_of_all"],
        ]
        for row in table
    ]
    assert found == NOTES["scorecard"]
    assert sum(row["needed_of_all"] for row in table) == NOTES["needed_in_all"]
    assert {row["urgency"] for row in table} == {"low"}, "the notes' green lights"


def test_entanglement(studies):
    found = [[r["a"], r["b"], r["texts"], r["strength"]] for r in rows(studies, "entanglement", "entanglement")]
    assert found == NOTES["entanglement"]
    assert "Isolated behaviors: none." in studies["entanglement"]["conclusions"]


def test_the_split_by_cluster_parts_no_similar_probes_and_the_one_by_hash_does(studies):
    for row in rows(studies, "landscape", "leaks"):
        assert row["parted_cluster"] == 0 < row["parted_hash"] <= row["pairs"]


def test_the_same_command_again_runs_nothing_and_another_seed_embeds_nothing(folder):
    again = json.loads(rhodb(folder, *RUN))
    assert again["executed"] == [] and len(again["already_done"]) == 3
    before = rhodb(folder, "analyze", "scorecard", "--db", "w.db", "--csv")
    rhodb(folder, "run", "landscape", *ORDER, "--seeds", "7", "--thresholds", "0.65", "--no-map", "--db", "w.db")
    other = rhodb(folder, "analyze", "scorecard", "--seed", "7", "--db", "w.db", "--csv")
    assert len(other.splitlines()) == len(before.splitlines()) == 10


def test_every_query_of_the_evidence_returns_rows(folder, studies):
    from rhodb.warehouse import Warehouse

    with Warehouse.open(folder / "w.db", create=False, read_only=True) as wh:
        for study in studies.values():
            for table in study["tables"].values():
                assert all(wh.rows(sql) for sql in table["sql"])
                assert table["runs"]


def test_a_partition_that_was_not_run_is_refused_with_what_there_is(folder):
    done = subprocess.run(
        [sys.executable, "-m", "rhodb", "analyze", "landscape", "--threshold", "0.7", "--db", "w.db"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no landscape with threshold 0.7" in done.stderr and "(0.65, 42)" in done.stderr


def test_figures_are_written_where_asked(folder):
    rhodb(folder, "analyze", "entanglement", "--db", "w.db", "--figures", "figures")
    rhodb(folder, "analyze", "landscape", "--db", "w.db", "--figures", "figures")
    written = {path.name for path in (folder / "figures").iterdir() if path.stat().st_size > 1000}
    drawn = {"entanglement_heatmap", "probe_redundancy"}  # no map: the run drew none
    assert written == {f"{name}.{kind}" for name in drawn for kind in ("png", "svg")}


def test_the_notes_claims_about_the_landscape_come_out(folder):
    """Redundancies, shared probes, nodes and cross-behavior clusters: only a landscape can tell."""
    found = json.loads(rhodb(folder, "claims", "verify", "--db", "w.db", "--json"))
    spoken = {claim["id"]: claim for claim in found if (claim["own_runs"] or {}).get("same_experiment")}
    assert {"Q2.nodes", "Q2.cross", "Q3.bias.redundancy", "Q6.factual~sycophancy"} <= spoken.keys()
    against = [name for name, claim in spoken.items() if claim["own_runs"]["speaks"] == "against"]
    assert against == ["Q4.bias"]  # 57 probes to add by the notes' own definition, not 72
    assert spoken["Q2.cross"]["verdict"] == "supported by own runs" and spoken["Q2.cross"]["recomputed"] == 88
