"""Plans: a TOML file that describes a study of several runners, and the one session that it becomes.

    preset = "quick"          # keys at the top hold for every run that has them
    seeds = [42, 123]

    [[run]]
    runner = "ablation"

    [[run]]
    runner = "dose-response"
    rho-weights = [0, 0.1, 0.2, 0.5]

A cell that several runs ask for is one cell. Those that others need come first; among the rest the longest.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rhodb.errors import InputError
from rhodb.place import for_reading
from rhodb.records import ModelRecord, ProbeSetRecord, RunIdentity
from rhodb.rows import run_uuid
from runners.cells import Cell, CellProgress, CellRows, Described, Session
from runners.config import RunConfig, resolve
from runners.registry import load_runner


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A runner with its resolved configuration: all that another process needs to do its cells."""

    runner: str
    config: RunConfig

    def prepare(self) -> Session:
        session: Session = load_runner(self.runner).prepare(self.config)
        return session


def encode_runs(runs: Sequence[PlannedRun]) -> str:
    """The runs as JSON, for another process."""
    return json.dumps([[run.runner, run.config.model_dump(mode="json")] for run in runs])


def decode_runs(text: str) -> list[PlannedRun]:
    """The inverse of `encode_runs`."""
    return [
        PlannedRun(runner=name, config=load_runner(name).config.model_validate(config))
        for name, config in json.loads(text)
    ]


def read_plan(file: Path) -> list[PlannedRun]:
    """The runs of a plan file. Raises InputError (one sentence) naming file, run and key."""
    file = for_reading(file)
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"plan {file} cannot be read as TOML: {error}") from None
    tables = raw.pop("run", None)
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"plan {file} has no runs: add a table [[run]] with runner = NAME for each")
    shared = _named(raw)
    runs = [_run(file, number, _named(table), shared) for number, table in enumerate(tables, 1)]
    for key in shared:
        if key != "preset" and not any(key in type(run.config).model_fields for run in runs):
            raise InputError(f"plan {file} has the key {key!r}, which none of its runs knows")
    return runs


def _named(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): value for key, value in table.items()}


def _run(file: Path, number: int, own: dict[str, Any], shared: Mapping[str, Any]) -> PlannedRun:
    where = f"plan {file}, run {number}"
    name = own.pop("runner", None)
    if not isinstance(name, str):
        raise InputError(f"{where}: says no runner; add runner = NAME")
    try:
        kind = load_runner(name).config
        fields = kind.model_fields
        known = {key: value for key, value in shared.items() if key in fields and key not in own}
        preset = own.pop("preset", shared.get("preset"))
        for key in own:
            if key not in fields:
                raise InputError(f"unknown key {key!r}; choose from {', '.join(fields)}")
        return PlannedRun(runner=name, config=resolve(kind, preset=preset, options=known | own))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


class PlanSession:
    """Several sessions as one."""

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        from runners.backend.models import shared_models

        with shared_models():
            self.sessions = [run.prepare() for run in runs]

    @property
    def model(self) -> ModelRecord:
        return self.sessions[0].model

    @property
    def models(self) -> Sequence[ModelRecord]:
        """The models of all cells."""
        return [session.model for session in self.sessions]

    @property
    def probe_sets(self) -> Mapping[str, ProbeSetRecord]:
        return {key: record for session in self.sessions for key, record in session.probe_sets.items()}

    @cached_property
    def cells(self) -> list[Cell]:
        """Each cell once: by how many others it must wait for, then the longest first."""
        unique = {run_uuid(cell.identity): cell for session in reversed(self.sessions) for cell in session.cells}

        def depth(cell: Cell) -> int:
            needs = [unique[run_uuid(identity)] for identity in cell.needs]
            return 1 + max(map(depth, needs)) if needs else 0

        return sorted(unique.values(), key=lambda cell: (depth(cell), -cell.work))

    def execute(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        session, own = self._owners[run_uuid(cell.identity)]
        return session.execute(own, artefacts, progress)

    def seconds_per_work(self) -> float:
        """Mean over the sessions, each by its share of the work."""
        parts = [(session.seconds_per_work(), sum(cell.work for cell in session.cells)) for session in self.sessions]
        return sum(rate * work for rate, work in parts) / max(sum(work for _, work in parts), 1.0)

    def peak_bytes(self) -> int:
        """That of the session that takes most; they share their models."""
        return max((session.peak_bytes() for session in self.sessions if hasattr(session, "peak_bytes")), default=0)

    @property
    def shares_work(self) -> bool:
        """Whether another process would do again what the first has done, in every session."""
        return all(getattr(session, "shares_work", False) for session in self.sessions)

    def cell_of(self, uuid: str) -> Cell:
        """The cell whose run has this name."""
        return self._owners[uuid][1]

    @cached_property
    def _owners(self) -> dict[str, tuple[Session, Cell]]:
        return {
            run_uuid(cell.identity): (session, cell) for session in reversed(self.sessions) for cell in session.cells
        }


def models_by_identity(session: Described) -> dict[tuple[str, str], ModelRecord]:
    """(key, fingerprint) -> record of every model that the session's cells use."""
    models = getattr(session, "models", [session.model])
    return {(model.key, model.fingerprint): model for model in models}


def model_of(identity: RunIdentity, models: Mapping[tuple[str, str], ModelRecord]) -> ModelRecord:
    """The record of the model that an identity names."""
    return models[identity.model_key, identity.model_fingerprint]
