"""The web view answers only its own address and whoever has the printed link: a real server, a real browser."""

import http.server
import re
import shutil
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from browse_server import Served, served
from legacy_files import write_tree

from rhodb.describe import VIEWS
from rhodb.ingest import ingest
from rhodb.queries import saved_queries
from rhodb.schema import Base
from rhodb.warehouse import Warehouse

pytest.importorskip("datasette")
playwright = pytest.importorskip("playwright.sync_api")
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
in_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("access")
    with Warehouse.open(folder / "master.db") as wh:
        ingest(wh, [write_tree(folder / "results")])
    with served(folder / "master.db") as started:
        yield started


@pytest.fixture(scope="module")
def browser():
    """The name rebound.example leads to this machine, as an attacker's own name server would have it."""
    rebound = "--host-resolver-rules=MAP rebound.example 127.0.0.1"
    with playwright.sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", rebound])
        yield started
        started.close()


@pytest.fixture
def page(browser):
    context = browser.new_context()
    yield context.new_page()
    context.close()


def test_only_its_own_names_are_served(site):
    port = site.port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        assert site.ask("/", host=host).status == 200, host
    for host in (
        "rebound.example", f"rebound.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", f"0.0.0.0:{port}",
        f"127.0.0.1:{port}.x.example", f"localhost.x.example:{port}", "", None,
    ):  # fmt: skip
        told = site.ask("/master/runs.json", host=host)
        # A request of HTTP/1.1 without any Host is refused by the server itself.
        assert told.status == (400 if host is None else 403), host
        assert host is None or re.fullmatch(r"rhodb browse answers only at http://127\.0\.0\.1:\d+/, .+\.\n", told.text)


def test_it_listens_on_loopback_only(site):
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    places = {line.split()[1] for line in listening.splitlines() if f":{site.port:04X} 0" in line and " 0A " in line}
    assert places and places <= {f"0100007F:{site.port:04X}", f"{'0' * 24}01000000:{site.port:04X}"}
    if socket.has_ipv6 and len(places) == 2:
        assert site.ask("/", at="::1", host=f"[::1]:{site.port}").status == 200


@pytest.mark.parametrize(
    "target", ["/", "/master/runs", "/master.json?sql=select+1", "/-/versions.json", "/-/static/app.css"]
)
def test_every_request_needs_the_token(site, target):
    assert site.ask(target).status == 200
    name = site.cookie.split("=")[0]
    wrong = [
        None,
        "",
        f"{name}=",
        f"{name}={site.token[:-1]}",
        f"{name}={site.token}x",
        f"other={site.token}",
        f"{name}=ü",
    ]
    for cookie in wrong:
        for method in ("GET", "POST", "HEAD", "OPTIONS"):
            told = site.ask(target, method=method, cookie=cookie)
            assert told.status == 403, (cookie, method)
        assert "open that link" in site.ask(target, cookie=cookie).text
    assert site.ask(target, cookie=f"a=b; {site.cookie}; c").status == 200
    for token in ("", "x", site.token.lower() + "x"):
        assert site.ask(f"/?token={token}", cookie=None).status == 403


def test_the_link_sets_a_cookie_that_no_other_site_can_use(site):
    told = site.ask(f"/master/runs?kind=alignment&token={site.token}", cookie=None)
    assert told.status == 200 and 'url=/master/runs?kind=alignment"' in told.text and site.token not in told.text
    parts = told.headers["set-cookie"].split("; ")
    assert parts[0] == site.cookie and {"HttpOnly", "SameSite=Strict", "Path=/"} == set(parts[1:])
    assert told.headers["referrer-policy"] == "no-referrer" and told.headers["cache-control"] == "no-store"
    elsewhere = site.ask(f"//rebound.example/?token={site.token}", cookie=None)
    assert 'url=/rebound.example/"' in elsewhere.text  # a path here, not another site


def test_no_answer_is_shared_with_other_origins(site):
    for target in ("/", "/master.json", "/master/runs.json", "/master/runs.csv", "/-/versions.json", "/nowhere"):
        for method in ("GET", "OPTIONS"):
            headers = site.ask(target, method=method, origin="http://rebound.example").headers
            assert not [name for name in headers if name.lower().startswith("access-control")], target


def test_each_server_has_its_own_token(site, tmp_path):
    shutil.copy(site_file(site), tmp_path / "other.db")
    with served(tmp_path / "other.db") as other:
        assert other.token != site.token
        assert other.ask("/", cookie=f"rhodb_{other.port}={site.token}").status == 403
        assert other.ask("/", cookie=f"{site.cookie}; {other.cookie}").status == 200  # both open in one browser


def site_file(site: Served) -> Path:
    listed = site.ask("/-/databases.json").text
    found = re.search(r'"path": "([^"]+)"', listed)
    assert found
    return Path(found[1])


NUMBERS = "with recursive c(x) as (select 1 union all select x+1 from c)"
REFUSED = [
    ("delete from runs", "Statement must be a SELECT"),
    ("select x from runs", "no such column: x"),
    ("select * from runs where", "incomplete input"),
    ("select median('a')", "median() needs numbers, got"),
    ("select load_extension('x')", "may only read"),
    ("select * from dbstat", "may only read"),
    ("select zeroblob(2000000)", "larger than 1 MiB"),
    (f"{NUMBERS} select zeroblob(99999) from c", "64 MiB of memory"),
    (f"{NUMBERS} select count(distinct hex(randomblob(99999))) from c", "64 MiB of memory"),
]


@pytest.mark.parametrize(("sql", "words"), REFUSED)
def test_refused_sql_is_one_sentence_on_the_page_and_nothing_in_the_terminal(site, sql, words):
    quoted, before = quote_plus(sql), site.errors.read_text()
    told = site.ask(f"/master?sql={quoted}")
    assert told.status == 400 and words in told.text and "Traceback" not in told.text
    assert words in site.ask(f"/master.json?sql={quoted}").text
    assert site.ask("/master/runs?_where=nosuch+%3D+1").status == 400
    assert site.errors.read_text() == before
    assert site.peak_mib < 400


@in_browser
def test_a_browser_follows_every_link_of_the_start_page(site, page):
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(site.link)
    page.wait_for_url(site.address)  # the token leaves the address bar
    assert page.locator("h2", has_text="Saved queries").count() == 1
    links = page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
    own = sorted({link for link in links if link.startswith(site.address)})
    assert len(own) > len(Base.metadata.tables) + len(VIEWS) + len(saved_queries())
    statuses = page.evaluate("urls => Promise.all(urls.map(url => fetch(url).then(answer => answer.status)))", own)
    assert set(statuses) == {200}
    page.click("dt a:text-is('v_scores')")
    page.click("td.col-run a >> nth=0")  # from a score to its run
    assert "/master/runs?uuid=" in page.url and "1 row" in page.content()
    assert page.evaluate("document.cookie").find(site.token) < 0 and said == []


@in_browser
def test_a_rebound_name_reads_nothing(site, browser, page):
    page.goto(site.link)
    page.wait_for_url(site.address)
    told = page.goto(f"http://rebound.example:{site.port}/master/runs.json")
    assert told.status == 403 and "answers only at" in told.text()
    # Even with the token it would be another name.
    assert page.goto(f"http://rebound.example:{site.port}/?token={site.token}").status == 403


@contextmanager
def pages_of(folder: Path) -> Iterator[int]:
    """Another server of this machine: its port."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **options):
            super().__init__(*args, directory=str(folder), **options)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


READ = "url => fetch(url, {credentials: 'include'}).then(a => a.text()).catch(error => 'blocked: ' + error.message)"


@in_browser
def test_pages_of_other_servers_cannot_read_but_may_link(site, page, tmp_path):
    (tmp_path / "other.html").write_text(
        f'<a href="{site.address}master/runs">runs</a><a id="in" href="{site.link}">in</a>'
    )
    with pages_of(tmp_path) as port:
        page.goto(site.link)
        page.wait_for_url(site.address)
        for host in ("127.0.0.1", "rebound.example"):  # the same site at another port, and another site
            page.goto(f"http://{host}:{port}/other.html")
            assert page.evaluate(READ, f"{site.address}master/runs.json").startswith("blocked"), host
        page.click("a:text-is('runs')")  # from another site the browser keeps the cookie back
        assert "open that link" in page.content()
        page.goto(f"http://rebound.example:{port}/other.html")
        page.click("#in")  # the printed link itself works from wherever it is clicked
        page.wait_for_url(site.address)
        assert page.locator("h2", has_text="Saved queries").count() == 1


def test_the_file_stays_as_it_is(site):
    with sqlite3.connect(f"{site_file(site).as_uri()}?mode=ro", uri=True) as connection:
        before = connection.execute("SELECT count(*), total(seed) FROM runs").fetchone()
        for target in ("/master?sql=delete+from+runs", "/master/runs"):
            site.ask(target, method="POST")
        assert connection.execute("SELECT count(*), total(seed) FROM runs").fetchone() == before
