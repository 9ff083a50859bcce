"""How a process ended, in words: a death by signal must never reach a person as silence."""

import signal
from typing import Final

SHELL_BASE: Final = 128
"""A shell, and what runs programs as one does, reports a death by signal N as exit code 128 + N."""

MEANINGS: Final = {
    "SIGABRT": "aborted: a library gave up",
    "SIGBUS": "bus error: a mapped file was cut short, or the disk or /dev/shm is full",
    "SIGFPE": "arithmetic error",
    "SIGHUP": "its terminal was closed",
    "SIGILL": "illegal instruction: built for another CPU",
    "SIGINT": "interrupted",
    "SIGKILL": "killed: by hand, by a scheduler, or by the system for lack of memory",
    "SIGSEGV": "segmentation fault",
    "SIGTERM": "asked to end",
    "SIGXCPU": "its CPU time was used up",
}


def death_signal(returncode: int | None) -> signal.Signals | None:
    """The signal that ended a process with this exit code: -N as Python counts, or 128 + N as shells do; else None."""
    if returncode is None:
        return None
    number = -returncode if returncode < 0 else returncode - SHELL_BASE
    try:
        return signal.Signals(number)
    except ValueError:
        return None


def describe_exit(returncode: int | None) -> str:
    """What follows "the process ...": `was ended by SIGILL (illegal instruction: ...)`, `ended with exit code 3`.

    None: gone, and nobody knows how.
    """
    if returncode is None:
        return "ended, and nothing is known of how"
    number = death_signal(returncode)
    if number is not None:
        meaning = MEANINGS.get(number.name) or (signal.strsignal(number) or "").lower()
        return f"was ended by {number.name} ({meaning})" if meaning else f"was ended by {number.name}"
    if returncode < 0:
        return f"was ended by signal {-returncode}"
    return f"ended with exit code {returncode}"
