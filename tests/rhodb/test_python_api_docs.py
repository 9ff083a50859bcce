"""The examples of docs/python-api.md run as they stand."""

import doctest
from pathlib import Path

import pytest
from legacy_files import write_tree

import rhodb
from rhodb.ingest import ingest

DOCS = Path(rhodb.__file__).parents[1] / "docs" / "python-api.md"


@pytest.mark.skipif(not DOCS.exists(), reason="installed without the documentation")
def test_every_example_prints_what_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = write_tree(tmp_path / "results")
    with rhodb.open("results/master.db") as wh:
        ingest(wh, [tree])
    result = doctest.testfile(
        str(DOCS), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    assert result.attempted >= 12 and result.failed == 0
