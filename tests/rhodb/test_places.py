"""Every command that creates, replaces, moves, upgrades or reads: it takes what rhodb made, or a free place."""

import hashlib
import io
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from legacy_files import write_tree
from matplotlib.figure import Figure

from analysis.figures import save
from rhodb.cli import main as command_line
from rhodb.engine import locate
from rhodb.errors import DatabaseError, InputError
from rhodb.migrate import downgrade
from rhodb.place import APPLICATION_ID, Kind, look, replace_folder
from rhodb.revision import HEAD
from rhodb.spool import RecoverReport, recover
from rhodb.transfer import export_all
from rhodb.warehouse import Warehouse

HARD = ("home", "text", "other", "fifo", "socket", "device", "newer", "link to home", "link to text", "link to other",
        "link to fifo", "link to device", "link to newer", "dangling", "in text", "in read-only")  # fmt: skip
PLACES = (*HARD, "folder", "link to folder", "in missing")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[Path]:
    """`here/`: one of everything that can stand at a path; beside it a warehouse, an export and result files."""
    world = tmp_path_factory.mktemp("world")
    with Warehouse.open(world / "ours" / "master.db") as wh:
        export_all(wh, world / "export")
    write_tree(world / "results")
    (world / "study.toml").write_text('[[run]]\nrunner = "ablation"\n')
    here = world / "here"
    for folder in ("home", "folder", "read-only"):
        (here / folder).mkdir(parents=True)
        (here / folder / "thesis.txt").write_text("years of work")
    (here / "text").write_text("notes\n")
    with closing(sqlite3.connect(here / "other")) as raw:
        raw.execute("CREATE TABLE customers (id INTEGER)")
    with Warehouse.open(here / "newer") as wh, wh.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.exec_driver_sql("PRAGMA user_version = 9999")
    (here / "newer.lock").unlink()
    os.mkfifo(here / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(here)  # a socket's path must be short
        server.bind("socket")
    for name in ("home", "folder", "text", "other", "newer", "fifo"):
        (here / f"link to {name}").symlink_to(name)
    (here / "link to device").symlink_to("/dev/zero")
    (here / "dangling").symlink_to(here / "gone")
    mounted = _seal(here / "read-only")
    yield world
    if mounted:
        subprocess.run(["umount", "--lazy", here / "read-only"], check=True)


def _seal(folder: Path) -> bool:
    """No writing in a folder: by its mode, and for root, whom that does not stop, by a read-only mount."""
    folder.chmod(0o555)
    if os.access(folder, os.W_OK) and shutil.which("mount"):
        return not subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", folder], check=False).returncode
    return False


def path_of(world: Path, place: str) -> str:
    here = world / "here"
    special = {
        "home": "~",
        "device": "/dev/zero",
        **{f"in {folder}": str(here / folder / "new") for folder in ("text", "read-only", "missing")},
    }
    return special.get(place, os.path.relpath(here / place))


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Everything below a folder: mode, and a file's digest or a link's target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if path.is_symlink():
            what = str(path.readlink())
        else:
            what = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (mode, what)
    return found


@pytest.fixture
def run(world, monkeypatch):
    """The command line in this process, which must not wait: (exit code, stdout, stderr)."""
    monkeypatch.setenv("HOME", str(world / "here" / "home"))
    monkeypatch.chdir(world)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rhodb", *map(str, arguments)])
        out, err = io.StringIO(), io.StringIO()
        signal.alarm(60)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                command_line.main()
            code = 0
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 1 if stopped.code else 0
        finally:
            signal.alarm(0)
        return code, out.getvalue(), err.getvalue()

    return run


OURS = ("--db", "ours/master.db")
COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    # name: (arguments; PLACE is the place), the places besides HARD that are refused or, after `takes`, those taken)
    "rebuild": (("--db", "PLACE", "rebuild", "results"), "in missing"),
    "db upgrade": (("--db", "PLACE", "db", "upgrade"), "in missing"),
    "ingest --db": (("--db", "PLACE", "ingest", "results"), "in missing"),
    "ingest --dry-run --db": (("--db", "PLACE", "ingest", "--dry-run", "results"), "in missing, in read-only"),
    "import --db": (("--db", "PLACE", "import", "export"), "in missing"),
    "merge --db": (("--db", "PLACE", "merge", "ours/master.db"), "in missing"),
    "runs recover": (("--db", "PLACE", "runs", "recover"), "in missing"),
    "db vacuum": (("--db", "PLACE", "db", "vacuum"), ""),
    "db check": (("--db", "PLACE", "db", "check"), ""),
    "db backup --db": (("--db", "PLACE", "db", "backup", "copy.db"), ""),
    "export --db": (("--db", "PLACE", "export", "exported"), ""),
    "report --db": (("--db", "PLACE", "report", "--out", "out.html"), ""),
    "db backup": ((*OURS, "db", "backup", "PLACE"), "in missing, folder, link to folder, home, link to home"),
    "export": ((*OURS, "export", "PLACE"), "in missing"),
    "export --table": ((*OURS, "export", "PLACE", "--table", "runs", "--format", "csv"), "in missing"),
    "report --out": ((*OURS, "report", "--section", "configuration", "--out", "PLACE"),
                     "in missing, folder, link to folder, home, link to home"),
    "analyze --figures": ((*OURS, "analyze", "ushape", "--inputs", "published", "--figures", "PLACE"),
                          "in missing, folder, link to folder, home, link to home"),
    "claims add": ((*OURS, "claims", "add", "--file", "PLACE", "--id", "X1", "--section", "s", "--subject", "t",
                    "--statistic", "mean", "--value", "0.5", "--sql", "SELECT 0.5", "--no-check"), "in missing"),
    "import": ((*OURS, "import", "PLACE"), ""),
    "merge": ((*OURS, "merge", "PLACE"), ""),
    "ingest": ((*OURS, "ingest", "PLACE"), "folder, link to folder, home, link to home"),
    "plan": ((*OURS, "plan", "PLACE"), ""),
    "run --plan": ((*OURS, "run", "--plan", "PLACE"), ""),
    "report --verify": ((*OURS, "report", "--verify", "PLACE"), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_only_what_it_may(world, run, name):
    arguments, taken = COMMANDS[name]
    here = world / "here"
    for place in PLACES:
        if place in taken.split(", ") and "analyze" in arguments:
            continue  # a study takes its time; see test_a_figure_of_ours_is_replaced_and_no_other
        path = path_of(world, place)
        before = tree(here)
        code, out, err = run(*(path if word == "PLACE" else word for word in arguments))
        after = tree(here)
        where = f"{name} at {place}: {code} {out}{err}"
        assert "Traceback" not in err, where
        if place in taken.split(", "):
            assert before.items() <= after.items(), where
            for new in sorted(after.keys() - before.keys(), reverse=True):
                (here / new).rmdir() if (here / new).is_dir() else (here / new).unlink()
            continue
        # A file that is none of results is reported as such, after the others were read.
        assert code == (1 if name == "ingest" and Path(path).is_file() else 2), where
        said = [line for line in err.splitlines() if not line.endswith(" ...")]  # what takes long is told
        assert (len(said) == 1 and said[0].startswith("rhodb: ")) or code == 1, where
        real = Path(path).expanduser().absolute()
        assert any(str(p) in out + err for p in (real, real.parent, real.resolve())), where
        assert after == before, where


def test_what_rhodb_wrote_is_replaced_and_what_it_did_not_write_is_not(world, run):
    """A second report takes the place of the first; a page, a text or a picture of somebody else stays."""
    out = world / "reports"
    for name in ("page.html", "text.md"):
        report = (*OURS, "report", "--section", "configuration", "--out", out / name)
        assert run(*report)[0] == 0
        assert run(*report)[0] == 0, name
        (out / name).write_text("# My own notes\n\n<p>rhodb")
        before = tree(out)
        code, _, err = run(*report)
        assert code == 2 and "did not write" in err and tree(out) == before
    (out / "text.md").unlink()
    (out / "text_figures").mkdir(exist_ok=True)
    (out / "text_figures" / "mine.png").write_bytes(b"picture")
    before = tree(out)
    assert run(*OURS, "report", "--section", "configuration", "--out", out / "text.md")[0] == 2 and tree(out) == before


def test_a_figure_of_ours_is_replaced_and_no_other(tmp_path):
    def draw(folder: Path) -> list[Path]:
        figure = Figure()
        figure.subplots().plot([0, 1], [0, 1])
        return save(figure, folder, "line", "a caption")

    for path in draw(tmp_path):
        first = path.read_bytes()
        draw(tmp_path)
        assert path.read_bytes() == first  # equal figures are equal files
        path.write_bytes(b"somebody else's")
        with pytest.raises(InputError, match="did not write"):
            draw(tmp_path)
        assert path.read_bytes() == b"somebody else's"
        path.unlink()


def test_an_adapter_folder_is_replaced_only_where_nothing_else_lies_in_it(tmp_path):
    def draft(content: str) -> Path:
        folder = tmp_path / "draft"
        folder.mkdir()
        (folder / "adapters.safetensors").write_text(content)
        return folder

    target = tmp_path / "adapters"
    replace_folder(draft("1"), target)
    replace_folder(draft("2"), target)
    assert (target / "adapters.safetensors").read_text() == "2"
    (target / "notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to(target)
    third = draft("3")
    before = tree(tmp_path)
    for place in (target, tmp_path / "link", target / "notes.txt"):
        with pytest.raises(InputError):
            replace_folder(third, place)
    assert tree(tmp_path) == before


def test_a_database_says_whose_it_is(tmp_path):
    """Known by its header; one of an older schema by its tables; one that was cut off by its header alone."""
    path = tmp_path / "master.db"
    Warehouse.open(path).close()
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert raw.execute("PRAGMA user_version").fetchone() == (int(HEAD),)
    assert look(path).kind is Kind.WAREHOUSE
    downgrade(locate(path), "0002")
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA application_id").fetchone() == (0,)
    assert look(path).kind is Kind.WAREHOUSE
    Warehouse.open(path).close()
    path.write_bytes(path.read_bytes()[:6000])
    assert look(path).kind is Kind.WAREHOUSE


def test_changes_left_beside_a_missing_database_are_not_thrown_away(tmp_path):
    """SQLite itself deletes a write-ahead log that it finds beside a new database."""
    path = tmp_path / "master.db"
    left = tmp_path / "master.db-wal"
    left.write_bytes(b"committed changes")
    with pytest.raises(DatabaseError, match=r"master\.db-wal is there"):
        Warehouse.open(path)
    assert left.read_bytes() == b"committed changes" and not path.exists()


def test_a_lock_file_that_is_somebody_elses_is_not_emptied(tmp_path):
    lock = tmp_path / "master.db.lock"
    lock.write_text("my notes about the lock")
    with pytest.raises(DatabaseError, match="move it away"):
        Warehouse.open(tmp_path / "master.db")
    assert lock.read_text() == "my notes about the lock"


def test_only_files_in_the_spool_are_taken_for_outcomes(tmp_path):
    with Warehouse.open(tmp_path / "master.db") as wh:
        folder = wh.spool_folder
        (folder / "folder.json.gz").mkdir(parents=True)
        os.mkfifo(folder / "fifo.json.gz")
        (folder / "link.json.gz").symlink_to("/dev/zero")
        before = tree(folder)
        assert recover(wh) == RecoverReport() and tree(folder) == before


def test_looking_at_a_warehouse_leaves_the_locks_of_its_open_connections(tmp_path, python):
    """Were the lock on the file gone, another process that closes it would delete the log this one writes into."""
    path = tmp_path / "master.db"
    with Warehouse.open(path) as wh:
        wh.rows("SELECT 1")
        for _ in range(3):
            assert look(path).kind is Kind.WAREHOUSE
        _, errors = python("import sys, rhodb; rhodb.open(sys.argv[1]).close()", path).communicate(timeout=60)
        assert errors == "" and path.with_name("master.db-wal").exists()
        with wh.write() as connection:
            connection.exec_driver_sql("CREATE TABLE kept (a INTEGER)")
        code = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT * FROM kept').fetchall())"
        assert python(code, path).communicate(timeout=60) == ("[]\n", "")
