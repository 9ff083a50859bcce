"""The chart library is bundled once and kept; what is damaged is made again."""

from pathlib import Path

import pytest

from analysis.report import library
from analysis.report.page_file import pack


@pytest.fixture
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Scripts that were bundled, in a cache folder of its own."""
    made: list[str] = []

    def bundled() -> str:
        made.append(pack(f"script {len(made)}"))
        return made[-1]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "_bundled", bundled)
    return made


def test_it_is_bundled_once(bundles: list[str]) -> None:
    assert library.chart_library() == library.chart_library() == pack("script 0")
    assert len(bundles) == 1


def test_a_damaged_copy_is_made_again(bundles: list[str], tmp_path: Path) -> None:
    library.chart_library()
    (kept,) = (tmp_path / "cache" / "rhodb").iterdir()
    for damaged in (kept.read_text()[:-8], "not base64 at all: é", ""):
        kept.write_text(damaged, encoding="utf-8")
        assert library.chart_library() == bundles[-1]
        assert kept.read_text() == bundles[-1]
    assert len(bundles) == 4


def test_a_folder_that_cannot_be_written_costs_only_time(
    bundles: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [library.chart_library(), library.chart_library()] == [pack("script 0"), pack("script 1")]
