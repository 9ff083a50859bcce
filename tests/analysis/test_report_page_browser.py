"""The page in a real browser: filters, sorting, addresses by keyboard, charts, themes, phone, paper, accessibility."""

import shutil

import pytest
from page_samples import report

from analysis.report.page import render

playwright = pytest.importorskip("playwright.sync_api")
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
MEANS = '[id="ablation/means"]'
DRAWN = "[...document.querySelectorAll('.canvas')].every((box) => box.querySelector('svg'))"


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "a report.html"
    path.write_text(render(report()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def view(browser, address):
    """Opens the page with the given options of the browser; afterwards nothing was complained about or requested."""
    contexts, said, requests = [], [], []

    def opened(*, at: str = "", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address + at)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert {url.split("#")[0] for url in requests} == {address}


def column(page, number: int, table: str = MEANS) -> list[str]:
    """The shown texts of a column of a table."""
    cells = page.locator(f"{table} tbody tr:not([hidden]) td:nth-child({number})")
    return cells.all_text_contents()


def number(page, row: int, at: int):
    """The link in a cell of the table of means."""
    return page.locator(f"{MEANS} tbody tr:nth-child({row}) td:nth-child({at}) a")


def test_filters_act_on_tables_and_charts_and_stand_in_the_url(view):
    page = view()
    page.wait_for_function(DRAWN)
    panels = page.locator('[id="dose-response/panels"] .canvas svg .mark-text.role-title-text')
    assert {"tiny-a", "tiny-b"} <= set(panels.all_text_contents())
    page.select_option("select[name=model]", "tiny-b")
    page.select_option("select[name=metric]", "rho")
    page.wait_for_function("document.querySelector('.filter-state').textContent === '4 of 16 table rows'")
    assert set(column(page, 1)) == {"tiny-b"} and set(column(page, 3)) == {"rho"}
    assert page.evaluate("location.hash") == "#?model=tiny-b&metric=rho"
    # A chart none of whose rows is left says so, and so does its table; one without these fields keeps its rows.
    assert page.locator('[id="dose-response/curve"] .nothing').count() >= 1
    assert len(column(page, 1, '[id="effects/bars"]')) == 4
    assert len(column(page, 1, '[id="dose-response/map"]')) == 24

    again = view(at="#ablation?metric=gap")  # the URL can be sent to somebody
    again.wait_for_function("document.querySelector('.filter-state').textContent === '8 of 16 table rows'")
    assert again.input_value("select[name=metric]") == "gap"
    again.click("button[type=reset]")
    again.wait_for_function("document.querySelector('.filter-state').textContent === ''")
    assert len(column(again, 1)) == 16 and again.evaluate("location.hash") == "#ablation"


def test_a_chart_follows_the_filters(view):
    page = view()
    page.wait_for_function(DRAWN)
    marks = page.locator('[id="dose-response/panels"] .canvas .mark-symbol.role-mark path')
    assert marks.count() == 32
    page.select_option("select[name=model]", "tiny-a")
    page.wait_for_function(
        "document.querySelectorAll('[id=\"dose-response/panels\"] .mark-symbol.role-mark path').length === 16"
    )


def test_tables_are_sorted_by_value(view):
    page = view()
    head = page.locator(f"{MEANS} th").nth(3)
    written = column(page, 4)
    head.locator("button").click()
    page.wait_for_selector(f"{MEANS} th[aria-sort=ascending]")
    assert column(page, 4) == sorted(written, key=float)
    head.locator("button").press("Enter")
    page.wait_for_selector(f"{MEANS} th[aria-sort=descending]")
    assert column(page, 4) == sorted(written, key=float, reverse=True)
    page.locator(f"{MEANS} th button").nth(1).click()
    page.wait_for_selector(f"{MEANS} th:nth-child(2)[aria-sort=ascending]")
    assert column(page, 2) == sorted(column(page, 2)) and page.locator("th[aria-sort]").count() == 1
    # Sorted rows keep their addresses and their filter.
    number(page, 1, 4).click()
    assert page.locator("#address .value").text_content() == column(page, 4)[0]
    page.select_option("select[name=model]", "tiny-b")
    page.wait_for_function("document.querySelector('.filter-state').textContent.startsWith('8 of')")
    assert set(column(page, 1)) == {"tiny-b"}


def test_a_number_shows_its_address_by_keyboard(view):
    page = view()
    number(page, 3, 4).focus()
    shown = page.locator("#address")
    shown.wait_for(state="visible")
    text = shown.inner_text()
    for part in ("+0.300", "0.3004", "mean over seeds", "metric = 'gap'", "Student 1908", "r-1", "5 in all", "c0ffee"):
        assert part in text
    assert "Ablation › Mean changes › tiny-a, bias, gap › Δ" in text and "0.32" in text
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#address .value').textContent === '5'")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("document.querySelector('#address .value').textContent === '6'")
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id === 'address'")
    page.keyboard.press("Escape")
    assert shown.is_hidden() and page.evaluate("document.activeElement.textContent") == "6"
    # A table is one stop of the Tab key.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('table')") is None


def test_an_address_narrows_its_query_and_can_be_copied(view):
    page = view(permissions=["clipboard-read", "clipboard-write"])
    page.locator("#ablation .text a").first.click()
    page.locator("#address button", has_text="Copy query").click()
    page.wait_for_selector("#address button:has-text('Copied')")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == report().sql("a2") and "WHERE value > 0" in copied
    assert "rhodb analyze effects --explain 1" in page.locator("#address").inner_text()
    page.locator("#address .close").click()
    assert page.locator("#address").is_hidden()


def test_an_address_can_be_linked_to(view):
    page = view(at="#a1")
    page.locator("#address").wait_for(state="visible")
    assert "mean over seeds" in page.locator("#address").inner_text()


def test_charts_tell_values_on_hover_and_addresses_on_click(view):
    page = view()
    page.locator('[id="dose-response/curve"]').scroll_into_view_if_needed()
    mark = page.locator('[id="dose-response/curve"] .mark-symbol.role-mark path').nth(3)
    mark.hover(force=True)
    tip = page.locator("#tip")
    tip.wait_for(state="visible")
    assert "Δ gap (nats/token)" in tip.inner_text() and "0.5" in tip.inner_text() and "factual" in tip.inner_text()
    mark.click(force=True)
    page.locator("#address").wait_for(state="visible")
    assert "value > 0" in page.locator("#address").inner_text()


def test_dark_is_chosen_and_remembered(view):
    page = view(color_scheme="dark")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.click(".theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.locator(".theme").get_attribute("aria-pressed") == "false"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click(".theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_without_javascript_everything_can_be_read(view):
    page = view(java_script_enabled=False)
    assert page.locator("nav a:visible").count() == 4
    assert len(column(page, 4)) == 16 and page.locator(MEANS).is_visible()
    assert page.locator("section#effects img").is_visible()
    page.locator('[id="dose-response/curve"] summary').click()
    assert page.locator('[id="dose-response/curve"] table').is_visible()
    assert page.locator("button:visible, select:visible").count() == 0  # nothing that would do nothing
    assert "need JavaScript" in page.locator("noscript").inner_text()


def test_a_phone_never_scrolls_sideways(view):
    page = view(viewport={"width": 390, "height": 844}, has_touch=True)
    page.wait_for_function(DRAWN)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    widths = page.locator(".canvas svg").evaluate_all("all => all.map((svg) => svg.getBoundingClientRect().width)")
    assert max(widths) <= 390
    page.click(".contents-button")
    page.click("nav >> text=Steering")
    page.wait_for_function("document.querySelector('#steering').getBoundingClientRect().top < innerHeight")
    assert not page.locator("#contents").is_visible()
    number(page, 3, 4).tap()
    sheet = page.locator("#address")
    sheet.wait_for(state="visible")
    page.wait_for_function(
        "document.querySelector('.shown').getBoundingClientRect().bottom"
        " <= document.querySelector('#address').getBoundingClientRect().top"
    )


def test_paper_has_all_charts_and_the_addresses(view):
    page = view(color_scheme="dark")
    page.wait_for_function(DRAWN)
    page.emulate_media(media="print")
    assert len(page.pdf()) > 20_000  # prints, and so runs what is to be done before printing
    assert page.locator(".all-addresses").inner_text().count("#a") == 2
    assert "SELECT run_id" in page.locator(".all-addresses").inner_text()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".bar").is_visible()
    note = page.evaluate("getComputedStyle(document.querySelector('#ablation td a'), '::after').content")
    assert "#a1" in note
    # Where a table goes on on the next page its header is repeated, and Chromium paints no buttons there.
    assert not page.locator("#ablation th button").first.is_visible()
    head = page.evaluate("getComputedStyle(document.querySelector('#ablation th[data-title]'), '::before').content")
    assert head.strip('"') == page.locator("#ablation th[data-title] button").first.text_content()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_axe_finds_nothing_serious(view, theme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = view(color_scheme=theme, viewport={"width": width, "height": 900})
    page.wait_for_function(DRAWN)
    number(page, 1, 4).focus()
    page.locator("#address").wait_for(state="visible")
    page.locator("details summary").first.click()
    found = axe.Axe().run(page).response["violations"]
    serious = [
        (v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_a_page_of_twenty_thousand_numbers_opens(browser, tmp_path, capsys):
    path = tmp_path / "large.html"
    path.write_text(render(report(10_000)), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    took = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    with capsys.disabled():
        print(f"\n20,000 numbers, {path.stat().st_size / 1e6:.1f} MB: DOM ready after {took:.0f} ms")  # noqa: T201
    assert page.locator("[data-cell]").count() > 20_000
    page.locator("#many tbody tr:nth-child(9000) a").first.click()
    page.locator("#address").wait_for(state="visible")
    page.close()


def test_every_link_leads_to_a_part_of_the_page_or_to_an_address(view):
    page = view()
    links = page.evaluate("[...document.querySelectorAll('a[href]')].map((link) => link.getAttribute('href'))")
    assert links and all(link.startswith("#") for link in links)
    lost = page.evaluate(
        "[...new Set([...document.querySelectorAll('a[href]')].map((link) => link.getAttribute('href').slice(1)))]"
        ".filter((name) => !document.getElementById(decodeURIComponent(name)))"
    )
    for name in lost[::7]:  # what is no part is an address, which opens
        page.evaluate("(name) => { location.hash = name; }", name)
        page.locator("#address").wait_for(state="visible")
        page.keyboard.press("Escape")
