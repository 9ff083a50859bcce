"""How fast a saved report opens in a browser, and how large it is.

    python benchmarks/bench_page.py REPORT.html [MORE.html ...] [--repeats 7] [--browser /usr/bin/chromium]

Files take turns in one headless browser, each time in a fresh context; the first round is not counted. DOM ready is
`domContentLoadedEventEnd` of the navigation, from its start; `charts_s` is when the last chart is drawn, which is after
that and behind what the reader sees. Busy neighbours lengthen all times: look at the fastest. Prints one JSON object.
"""

import argparse
import json
import shutil
import statistics
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

READY = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
DRAWN = "[...document.querySelectorAll('.canvas')].every((box) => box.querySelector('svg'))"


def opened(browser: Browser, path: Path) -> tuple[float, float]:
    """Milliseconds until the DOM is ready, and seconds until all charts are drawn."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    start = time.perf_counter()
    page.goto(path.resolve().as_uri())
    ready = float(page.evaluate(READY))
    page.wait_for_function(DRAWN, timeout=120_000)
    drawn = time.perf_counter() - start
    context.close()
    return ready, drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("google-chrome"))
    options = parser.parse_args()
    times: dict[Path, list[tuple[float, float]]] = {path: [] for path in options.files}
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=options.browser, args=["--no-sandbox"])
        for turn in range(options.repeats + 1):
            for path in options.files:
                measured = opened(browser, path)
                if turn:
                    times[path].append(measured)
        browser.close()
    print(json.dumps({str(path): summary(path, measured) for path, measured in times.items()}, indent=1))


def summary(path: Path, measured: list[tuple[float, float]]) -> dict[str, float]:
    ready = [each[0] for each in measured]
    return {
        "mb": round(path.stat().st_size / 1e6, 3),
        "dom_ready_ms_fastest": round(min(ready)),
        "dom_ready_ms_median": round(statistics.median(ready)),
        "dom_ready_ms_slowest": round(max(ready)),
        "charts_s_median": round(statistics.median(each[1] for each in measured), 2),
    }


if __name__ == "__main__":
    main()
