"""The warehouse in a browser: every page answers, explains itself and cannot be written through."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from legacy_files import write_tree

from rhodb.browse import START, make_site, metadata
from rhodb.describe import VIEWS
from rhodb.errors import InputError
from rhodb.ingest import ingest
from rhodb.location import locate
from rhodb.queries import saved_queries
from rhodb.schema import Base
from rhodb.warehouse import Warehouse

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("browse")
    with Warehouse.open(folder / "master.db") as wh:
        ingest(wh, [write_tree(folder / "results")])
    return folder / "master.db"


def pages(path: Path, urls: list[str], method: str = "get") -> list:
    pytest.importorskip("datasette")
    site = make_site(locate(path))

    async def fetch() -> list:
        await site.invoke_startup()
        return [await getattr(site.client, method)(url) for url in urls]

    return asyncio.run(fetch())


def test_everything_is_described():
    found = metadata("master")["databases"]["master"]
    assert set(found["tables"]) == {*Base.metadata.tables, *VIEWS, "alembic_version"}
    assert found["tables"]["v_scores"]["columns"]["delta"].startswith("value - baseline_value")
    for name, table in Base.metadata.tables.items():
        assert set(found["tables"][name]["columns"]) == {column.name for column in table.columns}
    assert set(found["queries"]) == {query.name for query in saved_queries()}
    start = metadata("master")["description_html"]
    assert all(f'href="/master/{name}"' in start for name in (*START, "condition-means", "steering_heatmap"))


def test_every_table_view_and_query_answers(path):
    names = [*Base.metadata.tables, *VIEWS, *(query.name for query in saved_queries())]
    for name, answer in zip(names, pages(path, [f"/master/{name}" for name in names]), strict=True):
        assert answer.status_code == 200, (name, answer.text[-300:])
    (shown,) = pages(path, ["/master/condition-means.json?_shape=array"])
    rows = shown.json()
    assert {row["behavior"] for row in rows} >= {"factual", "bias"} and all("sd" in row for row in rows)
    (runs,) = pages(path, ["/master/runs"])
    scores, alignment = pages(path, ["/master/v_scores?kind=alignment", "/master/v_alignment?_col=run&_col=seconds"])
    assert re.search(r'<a href="/master/runs\?uuid=[0-9a-f-]{36}">', scores.text) and "Standard error" in scores.text
    assert "Duration of the last attempt, s." in alignment.text
    assert re.search(r"60\.5\s*(&nbsp;)?\s*s\b", runs.text)  # a duration with its unit
    assert "Model it ran on." in runs.text and re.search(r'href="/master/models/\d+">lab/m<', runs.text)


def test_nothing_can_be_written(path):
    before = path.read_bytes()
    urls = ["/master?sql=delete+from+runs", "/master?sql=select+1;+drop+table+runs", "/master?sql=pragma+query_only=0"]
    assert all(answer.status_code == 400 for answer in pages(path, urls))
    posted = pages(path, ["/master/runs", "/master/-/create", "/master/condition-means"], "post")
    assert all(answer.status_code >= 400 for answer in posted)
    assert pages(path, ["/master.db"])[0].status_code in (403, 404)  # no download of the file
    assert path.read_bytes() == before


def test_what_cannot_be_browsed_is_said(tmp_path):
    with pytest.raises(InputError, match="merge URL"):
        make_site(locate("postgresql://localhost/x"))
    pytest.importorskip("datasette")
    with pytest.raises(InputError, match="no warehouse"):
        make_site(locate(tmp_path / "nowhere.db"))


@contextmanager
def served(path: Path):
    """`rhodb browse` as a user starts it; its address."""
    command = [sys.executable, "-u", "-m", "rhodb", "--db", str(path), "browse", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line + process.stderr.read()
        yield found[0]
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_the_command_serves_on_loopback(path):
    pytest.importorskip("datasette")
    with served(path) as address:
        page = urllib.request.urlopen(address, timeout=60).read().decode()
        assert "Start here" in page and "v_alignment" in page
        port = address.rsplit(":", 1)[1].strip("/")
        listening = Path("/proc/net/tcp").read_text() if Path("/proc/net/tcp").exists() else ""
        if listening:
            hexed = f":{int(port):04X} "
            places = [line.split()[1] for line in listening.splitlines() if hexed in line.split(" 0")[0] + line]
            assert any(place == f"0100007F:{int(port):04X}" for place in places)
            assert not any(place == f"00000000:{int(port):04X}" for place in places)
        with pytest.raises(AssertionError, match="taken"), served_on(path, port):
            pass


@contextmanager
def served_on(path: Path, port: str):
    command = [sys.executable, "-m", "rhodb", "--db", str(path), "browse", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    raise AssertionError(done.stderr)
    yield


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_real_browser_shows_the_pages(path):
    pytest.importorskip("datasette")
    with served(path) as address:
        start = rendered(address)
        assert "Start here" in start and "Saved queries" in start
        table = rendered(f"{address}master/behavior_scores?_sort=run_id")
        assert "The score, in the metric" in table and "truth_corr" in table
        run = re.search(r'href="/(master/runs\?uuid=[^"]+)"', rendered(f"{address}master/v_scores?kind=alignment"))
        assert "Model it ran on." in (shown := rendered(address + run[1])) and "1 row" in shown
        query = rendered(f"{address}master/condition-means?metric=gap")
        assert "rho-guided" in query and "Error" not in query.split("<h1")[1][:200]


def rendered(url: str) -> str:
    """The page as Chromium has it after its scripts ran."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
