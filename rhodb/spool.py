"""Outcomes on disk before they are in the warehouse, so that a locked, full or missing database loses nothing.

In spool/<database's name>/, beside the database:

<uuid>-<attempt>.json.gz       finished, not inserted yet
probe_sets/<fingerprint>.json.gz
inserted/, damaged/            what has been dealt with; `inserted` can rebuild the warehouse
"""

import errno
import gzip
import json
import zlib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from rhodb.errors import DatabaseBusyError, DatabaseError, InputError
from rhodb.place import write_whole
from rhodb.records import Outcome, ProbeSetRecord
from rhodb.store import insert_outcomes
from rhodb.warehouse import Warehouse

Record = TypeVar("Record", Outcome, ProbeSetRecord)

SUFFIX = ".json.gz"
TOGETHER = 50
"""Spooled outcomes inserted in one transaction."""


class SpoolError(InputError):
    """A spool file that cannot be read: cut off, damaged or not one."""


@cache
def _adapters() -> dict[type[Any], TypeAdapter[Any]]:
    return {kind: TypeAdapter(kind) for kind in (Outcome, ProbeSetRecord)}


def encode(record: Outcome | ProbeSetRecord) -> bytes:
    """A record as gzip'd JSON (its checksum tells a damaged file); `decode` gives an equal record."""
    # Floats are written in full (repr), so that a recovered run equals one that was inserted at once.
    return gzip.compress(json.dumps(asdict(record)).encode(), compresslevel=3, mtime=0)


def decode(kind: type[Record], data: bytes) -> Record:
    """The inverse of `encode`; SpoolError says what is wrong with the data."""
    try:
        record: Record = _adapters()[kind].validate_json(gzip.decompress(data), strict=True)
    except (OSError, EOFError, zlib.error) as error:
        raise SpoolError(f"damaged or cut off ({error})") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise SpoolError(f"not an {kind.__name__}: {where}: {first['msg']}") from error
    return record


@dataclass(frozen=True, kw_only=True)
class Spool:
    """A spool folder. Nothing is created before the first write."""

    folder: Path

    @classmethod
    def beside(cls, wh: Warehouse) -> "Spool":
        """The spool that belongs to a warehouse: beside its file, or `results/spool` for a server."""
        return cls(folder=wh.spool_folder)

    def write(self, outcome: Outcome) -> Path:
        """Write an outcome durably; when this returns, it survives a power cut."""
        path = self.folder / f"{outcome.uuid}-{outcome.attempt}{SUFFIX}"
        _write_whole(path, encode(outcome))
        return path

    def write_probe_set(self, record: ProbeSetRecord) -> Path:
        """Write a probe set unless it is there; its name is its fingerprint."""
        path = self._probe_set_path(record.fingerprint)
        if not path.exists():
            _write_whole(path, encode(record))
        return path

    def pending(self) -> list[Path]:
        """Outcomes that are not settled, oldest first."""
        found = [(path.stat().st_mtime_ns, path) for path in _outcomes(self.folder)]
        return [path for _, path in sorted(found)]

    def inserted(self) -> list[Path]:
        """Outcomes that were inserted and settled."""
        return sorted(_outcomes(self.folder / "inserted"))

    def load(self, path: Path) -> Outcome:
        """Read an outcome. Raises SpoolError."""
        return decode(Outcome, _read(path))

    def load_probe_sets(self, fingerprints: tuple[str, ...]) -> dict[str, ProbeSetRecord]:
        """Those of the probe sets that are spooled, by fingerprint. A damaged one is set aside, to be written anew."""
        found = {}
        for fingerprint in fingerprints:
            path = self._probe_set_path(fingerprint)
            try:
                found[fingerprint] = decode(ProbeSetRecord, _read(path))
            except FileNotFoundError:
                continue
            except SpoolError:
                self.set_aside(path)
        return found

    def settle(self, path: Path) -> Path:
        """Move an outcome that the warehouse holds to `inserted/`."""
        return self._move(path, "inserted")

    def set_aside(self, path: Path) -> Path:
        """Move a damaged file to `damaged/`, where it no longer stands in the way."""
        return self._move(path, "damaged")

    def _move(self, path: Path, to: str) -> Path:
        target = self.folder / to / path.name
        target.parent.mkdir(exist_ok=True)
        try:
            path.replace(target)
        except FileNotFoundError:  # another process was faster
            if not target.exists():
                raise
        return target

    def _probe_set_path(self, fingerprint: str) -> Path:
        return self.folder / "probe_sets" / f"{fingerprint}{SUFFIX}"


@dataclass(frozen=True, kw_only=True)
class RecoverReport:
    """What became of the spooled outcomes."""

    inserted: tuple[str, ...] = ()
    """uuids of the runs that are now in the warehouse."""
    already: tuple[str, ...] = ()
    """uuids of runs that the warehouse held already."""
    damaged: tuple[tuple[Path, str], ...] = ()
    """Unreadable files (moved to `damaged/`) and why."""
    failed: tuple[tuple[Path, str], ...] = ()
    """Readable files that the warehouse did not take (still spooled) and why."""


def recover(wh: Warehouse, spool: Spool | None = None) -> RecoverReport:
    """Insert what is spooled. A damaged file, or one that the warehouse refuses, does not stop the others.

    Raises DatabaseBusyError if the warehouse is locked or the disk full: nothing more can be done then.
    """
    spool = spool or Spool.beside(wh)
    return _insert_all(wh, spool, spool.pending(), settle=True)


def replay(wh: Warehouse, spool: Spool) -> RecoverReport:
    """Insert everything that is or was spooled, the settled outcomes too. All files stay where they are."""
    return _insert_all(wh, spool, [*spool.inserted(), *spool.pending()], settle=False)


def _insert_all(wh: Warehouse, spool: Spool, paths: list[Path], *, settle: bool) -> RecoverReport:
    found: dict[str, list[Any]] = {"inserted": [], "already": [], "damaged": [], "failed": []}
    for start in range(0, len(paths), TOGETHER):
        loaded = []
        for path in paths[start : start + TOGETHER]:
            try:
                loaded.append((path, spool.load(path)))
            except FileNotFoundError:
                continue  # another process recovers at the same time and was faster
            except SpoolError as error:
                found["damaged"].append((spool.set_aside(path) if settle else path, str(error)))
        _insert_together(wh, spool, loaded, found, settle=settle)
    return RecoverReport(**{name: tuple(values) for name, values in found.items()})


def _insert_together(
    wh: Warehouse, spool: Spool, loaded: list[tuple[Path, Outcome]], found: dict[str, list[Any]], *, settle: bool
) -> None:
    """Insert several outcomes in one transaction; if one of them is refused, each by itself."""
    if not loaded:
        return
    finished = [(outcome, spool.load_probe_sets(_probe_sets_of(outcome))) for _, outcome in loaded]
    try:
        inserted = insert_outcomes(wh, finished)
    except InputError as error:
        if len(loaded) > 1:
            for one in loaded:
                _insert_together(wh, spool, [one], found, settle=settle)
        else:
            found["failed"].append((loaded[0][0], str(error)))
        return
    for (path, outcome), is_new in zip(loaded, inserted, strict=True):
        if settle:
            spool.settle(path)
        found["inserted" if is_new else "already"].append(outcome.uuid)


def _probe_sets_of(outcome: Outcome) -> tuple[str, ...]:
    return tuple(sorted(set(outcome.probe_sets) | {row.probe_set for row in outcome.probe_scores}))


def _outcomes(folder: Path) -> list[Path]:
    """Files that may be outcomes. A folder, link or FIFO of such a name is not ours, and stays where it is."""
    return [path for path in folder.glob(f"*{SUFFIX}") if path.is_file() and not path.is_symlink()]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SpoolError(f"cannot be read: {error.strerror}") from error


def _write_whole(path: Path, data: bytes) -> None:
    """Readers see the whole file or none, and a power cut loses nothing."""
    try:
        write_whole(path, data)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DatabaseBusyError(f"the disk of {path.parent} is full: free some space and run again") from error
        raise DatabaseError(f"{path.parent} cannot be written: {error.strerror}") from error
