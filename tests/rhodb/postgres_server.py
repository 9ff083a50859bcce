"""A PostgreSQL server of the tests' own, on loopback, from Debian's packages; skipped where there is none."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def binaries() -> Path | None:
    """Where initdb and postgres are: on the path, or where Debian puts them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.getuid():
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_server() -> Iterator[str]:
    """URL of an empty server without a database name; the server ends with the context."""
    folder_of_binaries = binaries()
    if folder_of_binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg")
    user, port = _user(), _free_port()
    place = Path(tempfile.mkdtemp(prefix="rhodb-postgres-"))
    try:
        if user:
            shutil.chown(place, user)
        options = {"user": user, "cwd": place, "env": {**os.environ, "HOME": str(place), "LC_ALL": "C.UTF-8"}}
        subprocess.run(
            [folder_of_binaries / "initdb", "-D", place / "data", "-U", "rhodb", "-A", "trust", "-E", "UTF8", "-N"],
            check=True,
            capture_output=True,
            **options,
        )
        with (place / "log").open("w") as log:
            server = subprocess.Popen(
                [folder_of_binaries / "postgres", "-D", place / "data", "-h", "127.0.0.1", "-p", str(port), "-k", place,
                 "-c", "fsync=off", "-c", "full_page_writes=off"],
                stdout=log,
                stderr=log,
                **options,
            )  # fmt: skip
        try:
            _wait(port, server, place / "log")
            yield f"postgresql+psycopg://rhodb@127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=60)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _wait(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    import psycopg

    for _ in range(300):
        try:
            with psycopg.connect(f"host=127.0.0.1 port={port} user=rhodb dbname=postgres"):
                return
        except psycopg.OperationalError:
            if server.poll() is not None:
                break
            time.sleep(0.1)
    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")


class Databases:
    """Makes databases on the server; the schema is migrated once and copied."""

    def __init__(self, server: str) -> None:
        self.server = server
        self._number = 0
        self._has_template = False

    def empty(self) -> str:
        """URL of a new, empty database."""
        return self._create("")

    def warehouse(self) -> str:
        """URL of a new warehouse."""
        if not self._has_template:
            from rhodb.warehouse import Warehouse

            self._run("CREATE DATABASE migrated")
            Warehouse.open(f"{self.server}/migrated").close()
            self._has_template = True
        return self._create("TEMPLATE migrated")

    def _create(self, how: str) -> str:
        self._number += 1
        self._run(f"CREATE DATABASE t{self._number} {how}")
        return f"{self.server}/t{self._number}"

    def _run(self, sql: str) -> None:
        import psycopg

        with psycopg.connect(self.server.replace("+psycopg", "") + "/postgres", autocommit=True) as connection:
            connection.execute(sql)


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Databases on a PostgreSQL server."""
    with running_server() as server:
        yield Databases(server)
