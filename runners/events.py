"""What a coordinator learns of the runs that its workers execute."""

from dataclasses import dataclass

from rhodb.records import TrainStepRow
from runners.execution import Executed


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A worker that nobody knew before has taken a run up."""

    uuid: str
    host: str
    pid: int


@dataclass(frozen=True, kw_only=True)
class Stepped:
    uuid: str
    row: TrainStepRow
    total: int


@dataclass(frozen=True, kw_only=True)
class Scored:
    uuid: str
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run was executed, whether it succeeded or failed."""

    uuid: str
    executed: Executed


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A run's worker is gone, and with it what it had computed."""

    uuid: str
    reason: str
    """What happened to the worker, as a sentence's end: `the worker (pid 12) was ended by SIGKILL (...)`."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """Something that people should know, of no run in particular."""

    text: str


Event = Begun | Stepped | Scored | Ended | Lost | Told
