"""A full disk: each command says so in one sentence, ends with code 1 and leaves nothing half written."""

import pytest
from legacy_files import sample, write_file, write_tree
from test_transfer import tiny_disk  # noqa: F401  a fixture

from rhodb.check import check
from rhodb.ingest import ingest
from rhodb.warehouse import Warehouse


@pytest.fixture
def large(tmp_path):
    """A warehouse that does not fit the tiny disk."""
    with Warehouse.open(tmp_path / "large.db") as wh:
        ingest(wh, [training_runs(tmp_path / "tree", 8000)])
    return tmp_path / "large.db"


def training_runs(folder, n: int):
    """A file of so many runs."""
    value = sample("alignment/sweep.json")
    value["runs"] = [
        {"rho_weight": 0.2, "seed": seed, "quick_deltas": {"factual": seed / 7}, "note": "x" * 80} for seed in range(n)
    ]
    return write_file(folder, "alignment/large.json", value)


def fill(disk, *, but: int) -> None:
    """Leave so many bytes free."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            file.truncate(max(0, file.tell() - but))


def says_full(done) -> bool:
    said = [line for line in done.stderr.strip().splitlines() if not line.endswith(" ...")]  # what takes long is told
    return done.returncode == 1 and len(said) == 1 and "full" in said[0]


def counts(path) -> dict:
    with Warehouse.open(path, create=False) as wh:
        assert check(wh, recompute=False) == []
        return wh.rows("SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM sources) AS files")[0]


@pytest.mark.parametrize("command", ["ingest", "merge", "import"])
def test_writing_into_the_warehouse(tiny_disk, tmp_path, rhodb, large, command):  # noqa: F811
    path = tiny_disk / "master.db"
    with Warehouse.open(path) as wh:
        ingest(wh, [write_tree(tmp_path / "held")])
    before = counts(path)
    given = {"ingest": tmp_path / "tree", "merge": large, "import": tmp_path / "exported"}[command]
    if command == "import":
        assert rhodb("--db", large, "export", given).returncode == 0
    done = rhodb("--db", path, command, given)
    assert says_full(done), done.stderr
    assert counts(path) == before


def test_files_of_one_group_are_in_whole_or_not_at_all(tiny_disk, tmp_path, rhodb):  # noqa: F811
    for number in range(40):
        value = sample("alignment/sweep.json") | {"model": f"lab/m{number}", "padding": "x" * 100_000}
        write_file(tmp_path / "tree", f"alignment/{number}.json", value)
    done = rhodb("--db", tiny_disk / "master.db", "ingest", tmp_path / "tree")
    assert says_full(done), done.stderr
    found = counts(tiny_disk / "master.db")
    assert found["runs"] == 4 * found["files"]  # three runs and their baseline


@pytest.mark.parametrize(
    "arguments", [("export", "out"), ("export", "out", "--format", "csv"), ("export", "out", "--format", "parquet"),
                  ("export", "runs.csv", "--table", "runs"), ("export", "runs.parquet", "--table", "runs"),
                  ("db", "backup", "copy.db")],
)  # fmt: skip
def test_writing_out_of_the_warehouse(tiny_disk, rhodb, large, arguments):  # noqa: F811
    before = counts(large)
    fill(tiny_disk, but=100_000)
    done = rhodb("--db", large, *arguments, cwd=tiny_disk)
    assert says_full(done), done.stderr
    assert [path.name for path in tiny_disk.iterdir()] == ["filler"] and counts(large) == before
