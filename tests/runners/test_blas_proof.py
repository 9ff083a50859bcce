"""OpenBLAS serves only after a child process has multiplied right through it; what that found is remembered."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runners.backend import blas, blas_proof, blas_trial
from runners.backend.blas_library import cpu_features, find_library

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="OpenBLAS is loaded on Linux only")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rhodb"


def _answers(cache: Path) -> list[Path]:
    return sorted(cache.glob("openblas-*.json"))


def _refuse() -> dict[str, object]:
    """Remember of the real library that it does not work here; returns what was asked."""
    asked = blas_proof._question(find_library())
    answer = {"works": False, "reason": "its trial ended badly", "kernel": "SKYLAKEX"}
    blas_proof.keep(blas_proof.answer_file(asked), json.dumps(answer))
    return asked


def _child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """A child that runs this code in place of the trial."""
    monkeypatch.setattr(blas_proof, "TRIAL_ARGUMENTS", ("-c", code))


def _dies_of(number: signal.Signals) -> str:
    return f"import os; os.kill(os.getpid(), {int(number)})"


def test_the_real_library_is_proven_and_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = blas_proof.prove(find_library())
    assert first.works, first.reason
    assert not first.remembered
    assert first.kernel == blas.blas_info().kernel
    _child(monkeypatch, _dies_of(signal.SIGILL))
    second = blas_proof.prove(find_library())  # no child is asked
    assert second.works
    assert second.remembered
    assert second.kernel == first.kernel


@pytest.mark.parametrize("number", [signal.SIGILL, signal.SIGSEGV, signal.SIGBUS], ids=lambda number: number.name)
def test_a_child_that_a_library_kills_is_remembered(
    number: signal.Signals, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _child(monkeypatch, 'print("{\\"kernel\\": \\"SKYLAKEX\\"}", flush=True); ' + _dies_of(number))
    proof = blas_proof.prove(find_library())
    assert not proof.works
    assert f"was ended by {number.name} (" in proof.reason
    assert proof.kernel == "SKYLAKEX"
    (kept,) = _answers(cache)
    again = blas_proof.prove(find_library())
    assert again.remembered
    assert not again.works
    assert str(kept) in again.reason  # what to delete to have it tried again


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (_dies_of(signal.SIGKILL), "was ended by SIGKILL"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("import time; time.sleep(60)", "more than 0.5 s"),
        ("print('not JSON')", "ended with exit code 0"),
        ('print("[1, 2]"); raise SystemExit(3)', "ended with exit code 3"),
    ],
    ids=["killed", "broken", "hangs", "mute", "other"],
)
def test_what_proves_nothing_is_asked_again(
    code: str, reason: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _child(monkeypatch, code)
    if "sleep" in code:
        monkeypatch.setattr(blas_proof, "TIMEOUT_S", 0.5)
    proof = blas_proof.prove(find_library())
    assert not proof.works
    assert reason in proof.reason
    assert _answers(cache) == []


def test_a_trial_on_another_cpu_proves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where an emulator runs this process and not those that it starts."""
    found = json.dumps({"kernel": "Prescott", "features": ["NOT_HERE"], "works": True})
    _child(monkeypatch, f"print({found!r})")
    proof = blas_proof.prove(find_library())
    assert not proof.works
    assert "another CPU" in proof.reason
    assert _answers(cache) == []


def test_no_interpreter_to_start(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    proof = blas_proof.prove(find_library())
    assert not proof.works
    assert "could not be started" in proof.reason


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\x00", b"[]", b'{"works": "yes"}', b'{"works": true, "reason": 3, "kernel": null}']
)
def test_a_damaged_answer_is_asked_anew(content: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.dumps({"kernel": "Haswell", "features": cpu_features(), "works": True})
    _child(monkeypatch, f"print({found!r})")
    assert blas_proof.prove(find_library()).works
    (kept,) = _answers(cache)
    kept.write_bytes(content)
    proof = blas_proof.prove(find_library())
    assert proof.works
    assert not proof.remembered
    assert blas_proof.prove(find_library()).remembered


def test_another_library_cpu_or_core_type_is_another_question(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _child(monkeypatch, _dies_of(signal.SIGILL))
    library = tmp_path / "libopenblas.so"
    for questions, change in enumerate(("digest", "core type", "CPU", "features", "MLX"), start=1):
        if change == "digest":
            library.write_text("one")
        elif change == "core type":
            monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
        elif change == "CPU":
            monkeypatch.setattr(blas_proof, "cpu_name", lambda: "another")
        elif change == "features":
            monkeypatch.setattr(blas_proof, "cpu_features", lambda: ["another"])
        else:
            monkeypatch.setattr(blas_proof.importlib.metadata, "version", lambda _package: "another")
        assert not blas_proof.prove(library).remembered, change
        assert blas_proof.prove(library).remembered, change
        assert len(_answers(cache)) == questions
    assert not blas_proof.prove(tmp_path / "gone").works


def test_many_processes_at_once(cache: Path) -> None:
    """As workers start: each gets the answer, whoever asked first, and the cache holds one whole answer."""
    code = "from runners.backend.blas import blas_info; i = blas_info(); print(i.loaded, i.reason)"
    command = [sys.executable, "-c", code]

    def start(_: int) -> str:
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(start, range(3))) == {"True loaded before mlx\n"}
    (kept,) = _answers(cache)
    assert json.loads(kept.read_text())["works"] is True
    assert list(cache.glob("*.tmp")) == []


def test_a_cache_that_cannot_be_written_costs_a_trial_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        proof = blas_proof.prove(find_library())
        assert proof.works
        assert not proof.remembered


def test_wrong_products_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that loses one product in one remainder row is caught; right ones are not suspected."""
    assert list(blas_trial.mistaken_products(blas_trial.SHAPES)) == []
    multiply = blas_trial._multiply

    def faulty(a, b, dtype, transposed):
        found, first, second = multiply(a, b, dtype, transposed)
        if found.shape[1:] == (17, 65) and transposed == "NT":
            found[0, -1, -1] -= first[0, -1, 0] * second[0, -1]
        return found, first, second

    monkeypatch.setattr(blas_trial, "_multiply", faulty)
    assert list(blas_trial.mistaken_products(blas_trial.SHAPES)) == [
        "17 x 33 x 65 float32 NT",
        "17 x 33 x 65 float64 NT",
    ]


def test_a_refused_library_is_told_in_one_line_and_mlx_goes_on() -> None:
    """In a fresh process: MLX computes with its own BLAS, and says so once."""
    code = (
        "from runners.backend import blas\n"
        "import mlx.core as mx\n"
        "i = blas.blas_info(); print(i.loaded, i.kernel, i.remedy)\n"
        "print(mx.sum(mx.ones((40, 30)) @ mx.ones((30, 20))).item())"
    )
    _refuse()
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "False SKYLAKEX install another version of ngsolve-openblas, or report this line",
        f"{40 * 30 * 20}.0",
    ]
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"rhodb: {find_library()} is not used on this CPU")
    assert "its trial ended badly" in line


def test_doctor_names_cpu_kernel_library_and_reason(rhodb, cache: Path) -> None:
    asked = _refuse()
    done = rhodb("doctor", "--json", XDG_CACHE_HOME=str(cache.parent))
    row = {row["what"]: row for row in json.loads(done.stdout)}["BLAS"]
    assert row["state"] == "warning"
    for part in (str(asked["cpu"]), "SKYLAKEX", str(find_library()), "its trial ended badly"):
        assert part in row["found"]
    assert "ngsolve-openblas" in row["advice"]
