"""`rhodb browse` as a user starts it, in a process of its own, and a client that keeps the cookie of its link."""

import http.client
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running server."""

    link: str
    pid: int
    errors: Path
    """What it printed to its standard error."""

    @property
    def address(self) -> str:
        return self.link.split("?")[0]

    @property
    def port(self) -> int:
        return int(self.address.rstrip("/").rsplit(":", 1)[1])

    @property
    def token(self) -> str:
        return self.link.split("token=")[1]

    @property
    def cookie(self) -> str:
        return f"rhodb_{self.port}={self.token}"

    @property
    def peak_mib(self) -> int:
        """The most memory that the server has had."""
        found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1]) // 1024

    def ask(self, target: str, *, method: str = "GET", at: str = "127.0.0.1", **headers: str | None) -> "Told":
        """A request with our cookie and Host, or other ones; None leaves a header out."""
        connection = http.client.HTTPConnection(at, self.port, timeout=60)
        sent = {"host": f"127.0.0.1:{self.port}", "cookie": self.cookie} | headers
        connection.putrequest(method, target, skip_host=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        told = Told(status=answer.status, headers=dict(answer.getheaders()), text=answer.read().decode())
        connection.close()
        return told


@dataclass(frozen=True, kw_only=True)
class Told:
    status: int
    headers: dict[str, str]
    text: str


@contextmanager
def served(path: Path, *options: str) -> Iterator[Served]:
    """`rhodb browse` on a free port."""
    command = [sys.executable, "-m", "rhodb", "--db", str(path), "browse", "--port", "0", *options]
    with tempfile.NamedTemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ)
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{40,}", line)
            assert found, line + Path(errors.name).read_text()
            yield Served(link=found[0], pid=process.pid, errors=Path(errors.name))
        finally:
            process.terminate()
            process.wait(timeout=30)
            process.stdout.close()
