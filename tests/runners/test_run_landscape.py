"""`rhodb run landscape` and `--probe-split cluster` on small folders of probes, with the real embedding model."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

SMALL = ("--seeds", "42,1", "--thresholds", "0.65,0.8", "--orders", "1")


@pytest.fixture
def probes(tmp_path) -> Path:
    """Two near-duplicates among factual probes, and others that have nothing in common."""
    topics = ["Whales are mammals.", "Iron rusts in wet air.", "Rome lies on the Tiber.", "Seven is a prime number."]
    twins = ["The capital of France is Paris.", "Paris is the capital of France."]
    folder = tmp_path / "probes"
    (folder / "factual").mkdir(parents=True)
    entries = [{"id": f"f{i}", "text": text, "false": f"Not so: {text}"} for i, text in enumerate([*topics, *twins])]
    (folder / "factual" / "some.json").write_text(json.dumps(entries))
    return folder


def rows(db: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(db)) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.slow
def test_a_landscape_is_stored_whole_and_only_once(rhodb, probes, tmp_path):
    db = tmp_path / "w.db"
    first = rhodb("run", "landscape", "--probes", probes, *SMALL, "--db", db, "--json")
    assert first.returncode == 0, first.stderr
    assert len(json.loads(first.stdout)["executed"]) == 4
    assert rows(db, "SELECT count(*) FROM embeddings") == [(6,)]
    assert rows(
        db, "SELECT DISTINCT nodes, edges, clusters, singletons FROM probe_landscapes WHERE threshold < 0.7"
    ) == [(6, 1, 5, 4)]
    together = (
        "SELECT group_concat(probe_key) FROM (SELECT * FROM probe_cluster_members WHERE cluster = 0 "
        "AND run_id = (SELECT min(run_id) FROM probe_landscapes WHERE threshold < 0.7) ORDER BY node)"
    )
    assert rows(db, together) == [("f4,f5",)]
    mapped = "SELECT count(DISTINCT run_id), count(*) FROM probe_cluster_members WHERE x IS NOT NULL AND y IS NOT NULL"
    assert rows(db, mapped) == [(1, 6)], "the main draw alone has a map"
    again = rhodb("run", "landscape", "--probes", probes, *SMALL, "--db", db, "--json")
    assert json.loads(again.stdout)["executed"] == []


@pytest.mark.slow
def test_entries_that_change_places_change_nothing(rhodb, probes, tmp_path):
    """The same texts in another order of the file are the same landscape: it is not even drawn anew."""
    db = tmp_path / "w.db"
    assert rhodb("run", "landscape", "--probes", probes, *SMALL, "--no-map", "--db", db).returncode == 0
    path = probes / "factual" / "some.json"
    path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    again = rhodb("run", "landscape", "--probes", probes, *SMALL, "--no-map", "--db", db, "--json")
    assert json.loads(again.stdout)["executed"] == []
    by_file = rhodb("run", "landscape", "--probes", probes, *SMALL, "--no-map", "--order", "file", "--db", db, "--json")
    assert len(json.loads(by_file.stdout)["executed"]) == 4
    told = json.loads(rhodb("analyze", "landscape", "--db", db, "--json").stdout)
    assert "in 2 orders, seed 42 gives 1 partition;" in " ".join(told["conclusions"])
    assert [row["order"] for row in told["tables"]["orders"]["rows"]] == [0, 1]


def test_a_dry_run_creates_nothing(rhodb, probes, tmp_path):
    done = rhodb("run", "landscape", "--probes", probes, *SMALL, "--dry-run", "--json", "--db", tmp_path / "w.db")
    cells = [row["cell"] for row in json.loads(done.stdout)]
    assert cells == [
        "landscape θ=0.65 seed 42", "landscape θ=0.65 seed 1", "landscape θ=0.65 seed 42 order 1",
        "landscape θ=0.8 seed 42",
    ]  # fmt: skip
    assert not (tmp_path / "w.db").exists()


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--threshold", "1.5", "--threshold: must be less than 1"),
        ("--thresholds", "0.5,0.5", "given twice"),
        ("--resolution", "0", "--resolution: must be greater than 0"),
        ("--probes", "nowhere", "does not exist"),
    ],
)
def test_wrong_options_get_one_sentence(rhodb, option, value, told):
    done = rhodb("run", "landscape", option, value)
    assert done.returncode == 2 and told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_ablation_keeps_similar_probes_on_one_side(rhodb, tiny_ablation, probes, tmp_path):
    source = Path(tiny_ablation[tiny_ablation.index("--probes") + 1])
    similar = json.loads((probes / "factual" / "some.json").read_text())
    for behavior in source.iterdir():
        (probes / behavior.name).mkdir(exist_ok=True)
        for file in behavior.iterdir():
            (probes / behavior.name / file.name).write_bytes(file.read_bytes())
    arguments = list(tiny_ablation)
    arguments[arguments.index("--probes") + 1] = str(probes)
    db, texts = tmp_path / "w.db", tmp_path / "sft.jsonl"  # the tiny probes' problems are alike, so all in one half
    texts.write_text("".join(json.dumps({"prompt": f"Say {i}.", "response": str(i)}) + "\n" for i in range(6)))
    arguments += ["--sft-data", str(texts), "--trap-share", "0", "--refusal-share", "0"]
    done = rhodb(
        *arguments, "--probe-split", "cluster", "--conditions", "sft-only", "--seeds", "1", "--db", db, "--no-adapters"
    )
    assert done.returncode == 0, done.stderr
    sides = dict(
        rows(
            db,
            "SELECT DISTINCT probes.key, probe_scores.split FROM probe_scores JOIN probes "
            "ON probes.id = probe_scores.probe_id JOIN probe_sets ON probe_sets.id = probes.set_id "
            "WHERE probe_sets.name = 'some'",
        )
    )
    twins = [entry["id"] for entry in similar[-2:]]
    assert sides[twins[0]] == sides[twins[1]]
    assert rows(db, "SELECT count(*) > 0 FROM embeddings") == [(1,)]
    (config,) = {row[0] for row in rows(db, "SELECT config FROM runs WHERE kind = 'baseline'")}
    assert json.loads(config)["probe_split"] == "cluster" and json.loads(config)["cluster_split"]["threshold"] == 0.65
