"""Who runs a run, and whether that process is still there."""

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psutil

HEARTBEAT_LIMIT = timedelta(minutes=15)
"""A process on another machine counts as dead after this long without a heartbeat."""

START_TOLERANCE_S = 2.0
"""Start times are computed from the boot time, which clock corrections shift a little."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process, told from a later one with the same number by its start time (Unix time, s)."""

    host: str
    pid: int
    process_started: float


def this_process() -> Owner:
    """This process."""
    return Owner(host=socket.gethostname(), pid=os.getpid(), process_started=psutil.Process().create_time())


def now() -> str:
    """The time, UTC, ISO 8601 with microseconds: sorts as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def is_dead(owner: Owner | None, heartbeat_at: str | None) -> bool:
    """Whether the owner of a running run is gone.

    On this host: no such process, or one that started at another time, or a zombie. On another host: no
    heartbeat for 15 minutes.
    """
    if owner is None:
        return True
    if owner.host != socket.gethostname():
        if heartbeat_at is None:
            return True
        return datetime.now(UTC) - datetime.fromisoformat(heartbeat_at) > HEARTBEAT_LIMIT
    try:
        process = psutil.Process(owner.pid)
        started = process.create_time()
        zombie = process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
    return zombie or abs(started - owner.process_started) > START_TOLERANCE_S
