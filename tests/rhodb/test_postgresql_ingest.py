"""Ingest's promises on a PostgreSQL server: the tests of `test_ingest_files`, run against a real one."""

import pytest
from postgres_server import databases  # noqa: F401
from test_ingest_files import *  # noqa: F403

from rhodb.warehouse import Warehouse

for name in [name for name in dir() if "killed" in name or "eight_processes" in name or name == "test_command"]:
    del globals()[name]  # on files; their like is in test_postgresql


@pytest.fixture
def wh(databases):  # noqa: F811
    with Warehouse.open(databases.warehouse()) as opened:
        yield opened
