"""The table of studies is true, names are checked, and a printed query is the query that ran."""

import inspect
import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.query import Conditions, Named, Query, literal
from analysis.registry import STUDIES, load_study
from analysis.study import StudyOptions, correction_of
from rhodb.errors import InputError, UnknownNameError


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_loads_and_its_summary_is_its_docstring(name: str) -> None:
    study = load_study(name)
    assert study.name == name
    assert (inspect.getdoc(type(study)) or "").splitlines()[0] == STUDIES[name][1]


def test_unknown_names_list_the_choices() -> None:
    with pytest.raises(UnknownNameError, match="unknown study 'efects'; choose from effects"):
        load_study("efects")
    with pytest.raises(UnknownNameError, match=r"unknown split .test.; choose from train, eval, none"):
        StudyOptions(split="test")
    with pytest.raises(UnknownNameError, match="unknown metric"):
        StudyOptions(metrics=("rhoo",))
    with pytest.raises(UnknownNameError, match="choose from holm, bh, none"):
        correction_of("bonferroni")


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_alpha_outside_zero_to_one_is_refused(alpha: float) -> None:
    with pytest.raises(InputError, match="--alpha must lie between 0 and 1"):
        StudyOptions(alpha=alpha)


@given(st.one_of(st.none(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False), st.text()))
def test_a_literal_means_its_value_to_sqlite(value: str | int | float | None) -> None:
    if isinstance(value, str) and "\0" in value:
        return  # no SQL literal can hold NUL
    with sqlite3.connect(":memory:") as db:
        assert db.execute(f"SELECT {literal(value)}").fetchone()[0] == value


@pytest.mark.parametrize("value", [4.517410286553516e-301, 5e-324, -2.2250738585072014e-308, 1.7976931348623157e308])
def test_a_float_that_sqlite_reads_wrongly_is_written_another_way(value: float) -> None:
    with sqlite3.connect(":memory:") as db:
        assert db.execute(f"SELECT {literal(value)}").fetchone()[0] == value
    assert literal(0.1) == "0.1"


def test_inlining_touches_parameters_only() -> None:
    query = Query(
        sql="SELECT ':model', \":model\", x::text -- :model\nFROM t WHERE model = :model AND n = :n_1",
        parameters={"model": "it's", "n_1": 3},
    )
    assert query.inlined() == ("SELECT ':model', \":model\", x::text -- :model\nFROM t WHERE model = 'it''s' AND n = 3")


def test_parameters_that_share_their_names_are_a_mapping_like_any_other() -> None:
    plain = {"model": "it's", "n_1": 3}
    shared = Named(tuple(plain), tuple(plain.values()))
    assert dict(shared) == plain
    assert "n" not in shared
    sql = "SELECT :n_1 WHERE model = :model"
    assert Query(sql=sql, parameters=shared).inlined() == Query(sql=sql, parameters=plain).inlined()


def test_conditions_leave_out_what_is_not_asked_for() -> None:
    conditions = Conditions()
    assert str(conditions) == "1 = 1"
    conditions.equal("score.metric", None)
    conditions.among("score.behavior", ())
    assert str(conditions) == "1 = 1"
    conditions.among("score.behavior", ("bias", "toxicity"))
    assert str(conditions) == "score.behavior IN (:behavior_1, :behavior_2)"
    assert conditions.parameters == {"behavior_1": "bias", "behavior_2": "toxicity"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["analyze", "--help"], ["analyze", "list"], ["analyze", "effects", "--help"]]
)
def test_help_and_list_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom rhodb.cli.main import app\n"
        f"try:\n    app({arguments!r})\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        "heavy = {'pandas', 'scipy', 'numpy', 'sqlalchemy', 'matplotlib', 'mlx', 'statsmodels'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
