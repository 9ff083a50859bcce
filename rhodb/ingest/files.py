"""Finding result files, reading them safely, and recognising their format."""

import fnmatch
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rhodb.errors import InputError
from rhodb.ingest.audits import CF90, FIDELITY, FREEZE, LEADERBOARD
from rhodb.ingest.fields import FormatError, kind_of
from rhodb.ingest.formats import Format
from rhodb.ingest.interventions import ATTACK, STEERING
from rhodb.ingest.stream import read_large
from rhodb.ingest.training import ALIGNMENT, HYBRID, MERGED, STRESS
from rhodb.place import Kind, absolute, for_reading, look
from rhodb.records import digest

FORMATS = (ALIGNMENT, MERGED, STRESS, HYBRID, STEERING, ATTACK, CF90, FIDELITY, FREEZE, LEADERBOARD)
FOLDERS = ("alignment", "hybrid_sweep", "steering", "attack_defense", "freeze_sweep", "leaderboard")
"""Folders that hold result files; one that cannot be read there is refused, elsewhere it is passed over."""
WHOLE = 8 * 2**20
"""Bytes up to which a file is read at once; a larger one is read piece by piece."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file that may hold results."""

    path: Path
    named: bool
    """Given by the user, not found in a folder: it has to be a result file."""

    @property
    def name(self) -> str:
        """The path from the experiment's folder on, the same wherever the tree lies."""
        parts = self.path.parts
        for i in range(len(parts) - 2, -1, -1):
            if parts[i] in FOLDERS:
                return "/".join(parts[i:])
        return self.path.name

    @property
    def promised(self) -> Format | None:
        """The format that the file's name promises."""
        for format_ in FORMATS:
            if any(fnmatch.fnmatchcase(self.path.name, pattern) for pattern in format_.files):
                return format_
        return None

    @property
    def must_fit(self) -> bool:
        """Whether a file that cannot be read is an error, not just another kind of file."""
        return self.named or self.promised is not None or self.path.parent.name in FOLDERS


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A file that was read."""

    candidate: Candidate
    data: bytes | None
    """None for a large file."""
    sha256: str
    stamp: tuple[int, int]
    """Size and time of the last change (ns)."""

    @property
    def size(self) -> int:
        return self.stamp[0]

    def check_unchanged(self) -> None:
        """A large file is read more than once. Raises FormatError if it changed in between."""
        if self.data is None and _stamp(self.candidate.path) != self.stamp:
            raise FormatError("was changed while it was read: ingest it again")


def find(paths: Iterable[Path]) -> Iterator[Candidate]:
    """Files in the order given, folders walked by name; each file once. Raises InputError for what is not there."""
    seen: set[Path] = set()
    for given in paths:
        path = absolute(given)
        if look(path).kind is Kind.FREE:
            raise InputError(f"{path} does not exist: give a result file or a folder of them")
        if not path.is_dir():
            for_reading(path)
        found = [path] if path.is_file() else sorted(file for file in path.rglob("*") if _may_hold_results(file))
        for file in found:
            if file in seen:
                continue
            seen.add(file)
            yield Candidate(path=file, named=path.is_file())


def _may_hold_results(path: Path) -> bool:
    """Files in a folder that are worth a look: JSON, lm-evaluation-harness' samples, Inspect's logs, MLflow's store."""
    samples = path.suffix == ".jsonl" and path.name.startswith("samples_")
    return (path.suffix in (".json", ".eval") or path.name == "mlflow.db" or samples) and path.is_file()


def load(candidate: Candidate) -> Contents:
    """The contents of a file. Raises FormatError."""
    data = None
    try:
        str(candidate.path).encode()
        stamp = _stamp(candidate.path)
        if stamp[0] <= WHOLE:
            data = candidate.path.read_bytes()
            sha256 = digest(data)
        else:
            with candidate.path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except UnicodeEncodeError as error:
        raise FormatError("the file's name is not UTF-8: rename it") from error
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}") from error
    return Contents(candidate=candidate, data=data, sha256=sha256, stamp=stamp)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def parse(contents: Contents) -> Any:
    """JSON, with NaN as some programs write it. Raises FormatError."""
    data = contents.data
    if data is None:
        with contents.candidate.path.open("rb") as file:
            _check_beginning(file.read(8))
        return read_large(contents.candidate.path)
    if not data.strip():
        raise FormatError("the file is empty")
    _check_beginning(data)
    return parse_bytes(data)


def _check_beginning(data: bytes) -> None:
    for mark, encoding in ((b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")):
        if data.startswith(mark):
            raise FormatError(f"begins with a byte order mark of {encoding}: save it as UTF-8 without one")


def parse_bytes(data: bytes) -> Any:
    """JSON in memory, with NaN as some programs write it. Raises FormatError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass  # NaN, or broken: the slower reader tells
    try:
        value = json.loads(data.decode())
        json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as error:
        raise FormatError("holds half a character (a lone surrogate)") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"is not UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        cut = "is cut off" if error.pos >= len(data.decode().rstrip()) else "is no JSON"
        raise FormatError(f"{cut}: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise FormatError("is nested too deeply") from error
    except ValueError as error:
        raise FormatError(f"is no JSON: {error}") from error


def recognise(value: Any, candidate: Candidate) -> Format | None:
    """The format by content, else by the file's name; None for other kinds of file. Raises FormatError."""
    if type(value) is not dict:
        raise FormatError(f"expected an object, got {kind_of(value)}")
    for format_ in FORMATS:
        if format_.fits(value):
            return format_
    return candidate.promised
