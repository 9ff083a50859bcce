"""What holds for every command: help with an example, errors as one sentence, a fast start."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.main import get_command

from rhodb.cli.lazy import LazyGroup
from rhodb.cli.main import app

HEAVY = {"sqlalchemy", "alembic", "numpy", "pandas", "scipy", "mlx", "mlx_lm", "matplotlib", "rich"}


def commands(command, path=()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every command of the tree with the words that call it, groups included."""
    yield path, command
    names = command.list_commands(None) if hasattr(command, "list_commands") else ()
    for name in names:
        yield from commands(command.get_command(None, name), (*path, name))


ALL = dict(commands(get_command(app)))


@pytest.mark.parametrize("path", [p for p in ALL if p], ids=" ".join)
def test_every_command_has_help_and_every_leaf_an_example(path):
    command = ALL[path]
    assert command.help and command.help.strip(), path
    if not hasattr(command, "list_commands"):
        assert command.epilog and f"rhodb {' '.join(path)}" in command.epilog, path
        undocumented = [p.name for p in command.params if not getattr(p, "help", "x")]
        assert not undocumented, (path, undocumented)


def test_the_commands_of_the_readme_exist():
    assert {("run", "ablation"), ("analyze", "effects"), ("runs", "list"), ("runs", "show"), ("runs", "diff"),
            ("runs", "recover"), ("db", "upgrade"), ("db", "current"), ("db", "check"), ("db", "path"),
            ("schema",), ("doctor",)} <= ALL.keys()  # fmt: skip


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["analyze", "--help"], ["runs", "--help"], ["--version"]]
)
def test_help_loads_nothing_heavy(words):
    code = (
        "import sys; sys.argv[1:] = sys.argv[1:]\n"
        "from rhodb.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert loaded & HEAVY == set()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frobnicate"], "choose from run, analyze"),
        (["run", "frobnicate"], "choose from ablation"),
        (["runs", "list", "--db", "nowhere.db"], "no warehouse at"),
        (["analyze", "effects", "--db", "nowhere.db"], "no warehouse at"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(rhodb, tmp_path, words, message):
    done = rhodb(*words)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_database_may_be_named_before_or_after_the_command(rhodb, tmp_path):
    assert rhodb("db", "upgrade", "--db", "ä 'b'.db").returncode == 0
    for words in (["--db", "ä 'b'.db", "runs", "list"], ["runs", "list", "--db", "ä 'b'.db"]):
        assert rhodb(*words).returncode == 0
    assert rhodb("runs", "list", RHODB_DB="ä 'b'.db").returncode == 0
    assert rhodb("--db", "nowhere.db", "runs", "list", "--db", "ä 'b'.db").returncode == 0


def test_doctor_says_what_is_there(rhodb):
    import json

    done = rhodb("doctor", "--json")
    assert done.returncode == 0, done.stderr
    looked_at = {finding["what"]: finding["state"] for finding in json.loads(done.stdout)}
    assert {"device", "memory", "model", "probes", "warehouse"} <= looked_at.keys()
    assert looked_at["model"] == looked_at["probes"] == "ok"


def test_doctor_names_a_broken_warehouse(rhodb, tmp_path):
    (tmp_path / "broken.db").write_text("this is no database" * 100)
    done = rhodb("doctor", "--db", "broken.db")
    assert done.returncode == 1
    assert "not a database" in done.stdout


def test_lazy_groups_name_real_commands():
    for path, command in ALL.items():
        if isinstance(command, LazyGroup):
            assert command.list_commands(None), path
