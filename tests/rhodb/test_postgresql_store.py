"""The store's promises on a PostgreSQL server: the tests of `test_store`, run against a real one."""

import pytest
from postgres_server import databases  # noqa: F401
from test_store import *  # noqa: F403

from rhodb.warehouse import Warehouse

del test_eight_processes_make_one_warehouse_and_share_its_runs  # noqa: F821  on files; its like is in test_postgresql


@pytest.fixture
def wh(databases):  # noqa: F811
    with Warehouse.open(databases.warehouse()) as opened:
        yield opened
