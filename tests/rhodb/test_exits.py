"""A death by signal is told in words that name the signal."""

import os
import signal
import subprocess
import sys

import pytest

from rhodb.exits import describe_exit

FATAL = [
    signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT, signal.SIGKILL, signal.SIGTERM,
    signal.SIGUSR1,
]  # fmt: skip


@pytest.mark.parametrize("number", FATAL, ids=lambda number: number.name)
@pytest.mark.parametrize("through_shell", [False, True], ids=["child", "shell"])
def test_a_real_death_names_its_signal(number: signal.Signals, through_shell: bool) -> None:
    command = f"kill -{int(number)} $$"
    if through_shell:  # a shell tells of its child's death by its own exit code
        command = f"sh -c 'ulimit -c 0; {command}'; exit $?"
    code = subprocess.run(["sh", "-c", f"ulimit -c 0; {command}"], check=False, stderr=subprocess.DEVNULL).returncode
    assert code != 0
    assert describe_exit(code).startswith(f"was ended by {number.name} (")


def test_other_ends() -> None:
    code = subprocess.run([sys.executable, "-c", f"import os; os._exit({os.EX_USAGE})"], check=False).returncode
    assert describe_exit(code) == f"ended with exit code {os.EX_USAGE}"
    assert describe_exit(0) == "ended with exit code 0"
    assert describe_exit(255) == "ended with exit code 255"
    assert describe_exit(-200) == "was ended by signal 200"
    assert describe_exit(None) == "ended, and nothing is known of how"
