"""Proof before use: OpenBLAS multiplies right in a child process before it serves this one.

A library that is built for another CPU ends the process at the first product, so only another process can try. What it
found is kept in the user's cache folder, under the library's digest, the CPU and MLX's version.
"""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rhodb.exits import death_signal, describe_exit
from rhodb.user_cache import cache_folder, file_digest, keep, read_object
from runners.backend.blas_library import cpu_features, cpu_name

TRIAL: Final = "RHODB_BLAS_TRIAL"
"""Set in the child: it takes the library unproven."""
TRIAL_ARGUMENTS: Final[tuple[str, ...]] = ("-P", "-m", "runners.backend.blas_trial")
"""Of the interpreter. -P: nothing in the present folder is taken for a module."""
TIMEOUT_S: Final = 120
EDITION: Final = 1
"""Raised when the trial itself changes, so that older answers count no more."""
FAULTS: Final = frozenset({"SIGILL", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGABRT", "SIGTRAP"})
"""Signals of a faulty library. By any other, the child was ended from outside, and that proves nothing."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Whether a library multiplies right on this CPU."""

    works: bool
    reason: str
    """What the child found, or how it ended."""
    kernel: str | None
    """Whose kernels it ran; None where it did not come so far."""
    remembered: bool = False
    """Found in the cache folder: no child was started."""


def prove(library: Path) -> Proof:
    """Whether `library` multiplies right here: remembered, else tried out in a child process."""
    try:
        asked = _question(library)
    except OSError as error:
        return Proof(works=False, reason=f"{library} cannot be read: {error}", kernel=None)
    kept = answer_file(asked)
    if (proof := _remembered(kept)) is not None:
        return proof
    proof, lasting = _try()
    if lasting:
        keep(
            kept, json.dumps({"works": proof.works, "reason": proof.reason, "kernel": proof.kernel, **asked}, indent=1)
        )
    return proof


def answer_file(asked: dict[str, object]) -> Path:
    """The cache file for one library on one CPU."""
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return cache_folder() / f"openblas-{key[:20]}.json"


def _question(library: Path) -> dict[str, object]:
    """All that the answer hangs on. OSError where the library cannot be read."""
    return {
        "edition": EDITION,
        "library": str(library),
        "digest": file_digest(library),
        "cpu": cpu_name(),
        "features": cpu_features(),
        "coretype": os.environ.get("OPENBLAS_CORETYPE", ""),
        "mlx": importlib.metadata.version("mlx"),
    }


def _remembered(kept: Path) -> Proof | None:
    """The answer in a cache file; None where there is none, or one that nobody wrote so."""
    answer = read_object(kept)
    works, reason, kernel = (answer.get(name) for name in ("works", "reason", "kernel"))
    if not (isinstance(works, bool) and isinstance(reason, str) and (kernel is None or isinstance(kernel, str))):
        return None
    if not works:
        reason = f"{reason} (remembered in {kept}: delete it to try again)"
    return Proof(works=works, reason=reason, kernel=kernel, remembered=True)


def _try() -> tuple[Proof, bool]:
    """Run the child; also whether its answer would be the same another time."""
    try:
        child = subprocess.run(
            [sys.executable, *TRIAL_ARGUMENTS],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
            # The child imports what this process does.
            env={**os.environ, TRIAL: "1", "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        )
    except subprocess.TimeoutExpired:
        return Proof(works=False, reason=f"its trial took more than {TIMEOUT_S} s", kernel=None), False
    except (OSError, ValueError) as error:
        return Proof(works=False, reason=f"its trial could not be started: {error}", kernel=None), False
    said = _said(child.stdout)
    kernel = said.get("kernel")
    features = said.get("features")
    if features is not None and features != cpu_features():  # as under an emulator of user programs
        reason = "its trial ran on another CPU than this process does"
        return Proof(works=False, reason=reason, kernel=None), False
    if child.returncode == 0 and said.get("works") is True:
        return Proof(works=True, reason="its products are right", kernel=str(kernel)), True
    wrong = said.get("wrong")
    reason = str(wrong) if wrong else f"the process that tried it {describe_exit(child.returncode)}"
    number = death_signal(child.returncode)
    lasting = bool(wrong) or (number is not None and number.name in FAULTS)
    if not wrong and number is None and (last := child.stderr.strip().splitlines()):
        reason += f": {last[-1]}"
    return Proof(works=False, reason=reason, kernel=None if kernel is None else str(kernel)), lasting


def _said(stdout: str) -> dict[str, object]:
    """The child's findings, one JSON object a line; it may have ended within any of them."""
    said: dict[str, object] = {}
    for line in stdout.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            said |= found
    return said
