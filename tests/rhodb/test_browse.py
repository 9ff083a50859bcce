"""The warehouse in a browser: every page answers, explains itself and cannot be written through."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest
from browse_server import served
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


def test_a_taken_port_is_said(path, rhodb):
    pytest.importorskip("datasette")
    with served(path) as site:
        page = site.ask("/").text
        assert "Start here" in page and "v_alignment" in page
        failed = rhodb("--db", path, "browse", "--port", site.port)
        assert failed.returncode == 2 and f"port {site.port} is taken" in failed.stderr


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_real_browser_shows_the_pages(path):
    pytest.importorskip("datasette")
    playwright = pytest.importorskip("playwright.sync_api")
    with served(path) as site, playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()

        def rendered(target: str) -> str:
            page.goto(site.address + target)
            return page.content()

        page.goto(site.link)
        page.wait_for_url(site.address)
        start = page.content()
        assert "Start here" in start and "Saved queries" in start
        table = rendered("master/behavior_scores?_sort=run_id")
        assert "The score, in the metric" in table and "truth_corr" in table
        run = re.search(r'href="/(master/runs\?uuid=[^"]+)"', rendered("master/v_scores?kind=alignment"))
        assert "Model it ran on." in (shown := rendered(run[1])) and "1 row" in shown
        query = rendered("master/condition-means?metric=gap")
        assert "rho-guided" in query and "Error" not in query.split("<h1")[1][:200]
        browser.close()
