"""Parts of the claims: files, expressions, the rule of the verdict, and checks that follow their inputs."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.claims import read_claims
from analysis.claims.claim import COLUMNS, Claim, append_claim, parse, printed_precision
from analysis.claims.expression import Figure, MissingInputError, evaluate, rounding_range
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Challenge, Check, OwnRuns
from analysis.claims.registry import CHALLENGES, CHECKERS, load_challenge, load_checker
from analysis.claims.verdict import agreement, compose, judge, verify
from rhodb.errors import InputError, UnknownNameError
from rhodb.published import PublishedValue, read_folder


def claim(value: float = 0.5, precision: float | None = 0.1, **rest: object) -> Claim:
    known = {"id": "a", "section": "s", "subject": "x", "statistic": "y", "relation": "=", "checker": "expression"}
    return Claim(value=value, precision=precision, **known | rest)  # type: ignore[arg-type]


def figures(**values: float) -> dict[str, Figure]:
    return {key: Figure(key=key, value=value, half=0.05, n=None) for key, value in values.items()}


# Files


def test_every_checker_and_challenge_loads_and_is_used_or_meant_for_users() -> None:
    claims = read_claims()
    for name in CHECKERS:
        assert load_checker(name).__doc__
    for name in CHALLENGES:
        assert load_challenge(name).__doc__
    assert set(CHECKERS) - {c.checker for c in claims} <= {"sql", "study"}
    assert set(CHALLENGES) == {name for c in claims for name in c.challenges}
    with pytest.raises(UnknownNameError, match="choose from expression"):
        load_checker("oracle")


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        ("value", "about 3", "value must be a number"),
        ("value", "1e999", "value must be finite"),
        ("value", "", "column value is empty"),
        ("id", "two words", "an id is letters"),
        ("precision", "-1", "precision must be > 0"),
        ("precision", "x", "not a number"),
        ("parameters", "expr", "expected NAME=VALUE"),
        ("checker", " ", "column checker is empty"),
    ],
)
def test_bad_columns_are_named(column: str, text: str, message: str) -> None:
    row = {"id": "a", "section": "s", "subject": "x", "statistic": "y", "value": "1", "checker": "expression"}
    with pytest.raises(InputError, match=f"file.csv, line 2.*{message}"):
        parse(row | {column: text}, "file.csv, line 2")


def test_files_that_are_no_claims_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_claims(tmp_path / "none.csv")
    (tmp_path / "short.csv").write_text("id,value\na,1\n")
    with pytest.raises(InputError, match="has no column section, subject, statistic, checker"):
        read_claims(tmp_path / "short.csv")
    (tmp_path / "binary.csv").write_bytes(b"id,\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_claims(tmp_path / "binary.csv")
    row = "a,s,x,y,1,,,expression,expr=1,,\n"
    (tmp_path / "twice.csv").write_text(",".join(COLUMNS) + "\n" + row + row)
    with pytest.raises(InputError, match="claim a stands there twice"):
        read_claims(tmp_path / "twice.csv")


def test_what_is_added_reads_back_and_a_refused_claim_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "my 'claims' ü.csv"
    row = {"id": "t1", "section": "Results", "subject": "Δ, \"toxicity\"", "statistic": "mean", "value": "<0.05",
           "checker": "expression", "parameters": "expr=1 - 2"}  # fmt: skip
    added = append_claim(path, row)
    path.write_text(path.read_text().rstrip("\n"))  # as some editors leave it
    append_claim(path, row | {"id": "t2", "value": "-1.0", "precision": "0.1"})
    first, second = read_claims(path)
    assert first == added and first.relation == "<" and first.parameters == {"expr": "1 - 2"}
    assert (second.value, second.precision, second.printed) == (-1.0, 0.1, "-1.0")
    before = path.read_bytes()
    for bad in ({"id": "t1"}, {"id": "t3", "value": "nothing"}):
        with pytest.raises(InputError):
            append_claim(path, row | bad)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "unit"), [("0.034", 0.001), ("12", 1), ("-1.50", 0.01), ("2e-4", 1e-4), ("1.5e3", 100), ("<0.05", None)]
)
def test_precision_comes_from_the_digits(text: str, unit: float | None) -> None:
    assert printed_precision(text) == (None if unit is None else pytest.approx(unit))


# Expressions


@given(
    a=st.floats(-100, 100), b=st.floats(0.5, 100), c=st.floats(-3, 3),
    text=st.sampled_from(["{a} + {b} * {c}", "-({a} - {c}) / {b}", "abs({a}) ** 2 - {b}", "sqrt({b}) + max({a}, {c})"]),
)  # fmt: skip
def test_arithmetic_is_pythons(a: float, b: float, c: float, text: str) -> None:
    found = evaluate(text, figures(a=a, b=b, c=c)).value
    names = {"a": a, "b": b, "c": c, "sqrt": math.sqrt, "abs": abs, "max": max}
    expected = eval(text.replace("{", "(").replace("}", ")"), {"__builtins__": {}}, names)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


FOUR = {"min_size": 4, "max_size": 4}


@given(values=st.lists(st.floats(0.5, 10), **FOUR), moves=st.lists(st.floats(-1, 1), **FOUR))
@settings(max_examples=200)
def test_rounding_range_encloses_what_rounding_allows(values: list[float], moves: list[float]) -> None:
    def ratio(x):  # monotone in every input
        return (x[0] + x[1]) / (x[2] * x[3])

    low, value, high = rounding_range(ratio, values, [0.05] * 4)
    inside = ratio([x + 0.05 * move for x, move in zip(values, moves, strict=True)])
    assert low <= value <= high and low - 1e-12 <= inside <= high + 1e-12


def test_a_star_stands_for_a_list_and_needs_a_function() -> None:
    known = {f"arm/seed-{i}": Figure(key=f"arm/seed-{i}", value=float(i), half=0.0, n=1) for i in range(5)}
    assert evaluate("mean({arm/seed-*}) + sd({arm/seed-*})", known).value == pytest.approx(2 + math.sqrt(2.5))
    assert evaluate("count({arm/seed-*}) + different(1, 1, 2) + span({arm/seed-*})", known).value == 11
    with pytest.raises(InputError, match="is a list"):
        evaluate("{arm/seed-*} + 1", known)
    with pytest.raises(MissingInputError, match="other/"):
        evaluate("mean({other/*})", known)


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "open('x')", "().__class__", "[1]", "'a'", "1 if 1 else 2", "lambda: 1", "x", "mean(key=1)",
     "1 +", "True", "f(1)", "{a}.real", "1 < 2"],
)  # fmt: skip
def test_nothing_but_arithmetic_is_evaluated(text: str) -> None:
    with pytest.raises(InputError):
        evaluate(text, figures(a=1.0))


@pytest.mark.parametrize("text", ["1 / ({a} - 1)", "sqrt(0 - {a})", "log(0)", "9 ** 9 ** 9", "(0 - {a}) ** 0.5"])
def test_impossible_arithmetic_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        evaluate(text, figures(a=1.0))


# The rule


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.5499, None, None, "reproduced"),
        (0.45, None, None, "reproduced"),
        (0.7, None, None, "inconsistent"),  # one digit: no unit's grace
        (0.7, 0.52, 0.9, "up to rounding"),
        (0.7, 0.56, 0.9, "inconsistent"),
    ],
)
def test_agreement_of_a_printed_figure(value: float, low: float | None, high: float | None, expected: str) -> None:
    assert agreement(claim(), Check(value=value, low=low, high=high)) == expected


def test_the_last_of_two_digits_may_be_off_by_one_but_a_count_may_not() -> None:
    assert agreement(claim(0.79, 0.01), Check(value=0.7814)) == "up to rounding"
    assert agreement(claim(0.79, 0.01), Check(value=0.7799)) == "inconsistent"
    assert agreement(claim(25, 1), Check(value=24.0)) == "inconsistent"


@pytest.mark.parametrize(
    ("relation", "value", "holds"), [("<", 0.5, False), ("<=", 0.5, True), (">", 0.6, True), (">=", 0.4, False)]
)
def test_bounds_hold_or_do_not(relation: str, value: float, holds: bool) -> None:
    expected = "reproduced" if holds else "inconsistent"
    assert agreement(claim(relation=relation, precision=None), Check(value=value)) == expected


def test_bounds_within_rounding_and_impossible_figures() -> None:
    bound = claim(relation="<", precision=None)
    assert agreement(bound, Check(value=0.52, low=0.49, high=0.55)) == "up to rounding"
    assert agreement(claim(), Check(value=None, impossible="It cannot be.")) == "inconsistent"
    assert agreement(claim(), Check(value=None, needs="seeds")) is None


def test_an_inconsistency_weighs_more_than_an_unsound_method_and_that_more_than_agreement() -> None:
    fails, stands = Challenge(fails=True, text="Too few."), Challenge(fails=False, text="Enough.")
    here = OwnRuns(speaks="against", same_experiment=False, text="Runs here differ.")
    right, wrong, unknown = Check(value=0.5), Check(value=0.9), Check(value=None, needs="seeds")
    assert compose(claim(), wrong, [fails], None).verdict == "inconsistent"
    unsound = compose(claim(), right, [fails, stands], None)
    assert (unsound.verdict, unsound.objections, unsound.remarks) == ("method unsound", ("Too few.",), ("Enough.",))
    assert compose(claim(), right, [stands], here).verdict == "reproduced"
    assert compose(claim(), unknown, [stands], None).verdict == "cannot be checked"
    assert compose(claim(), unknown, [], here).verdict == "contradicted by own runs"
    assert compose(claim(), unknown, [], replace(here, speaks="for")).verdict == "supported by own runs"
    assert compose(claim(), unknown, [], replace(here, speaks="undecided")).verdict == "cannot be checked"


# Verdicts follow the inputs: nothing is decided in the file of claims


CLAIMS = {one.id: one for one in read_claims()}


def verdict_with(claim_id: str, **changed: float) -> str:
    """The verdict after some published figures are replaced (keys with __ for /)."""
    new = {key.replace("__", "/"): value for key, value in changed.items()}
    values: list[PublishedValue] = [replace(v, value=new.get(v.key, v.value)) for v in read_folder()]
    assert set(new) <= {value.key for value in values}
    return judge(Inputs(values), CLAIMS[claim_id]).verdict


NO_OVERLAP = {f"pool__evaluated_in_training__{b}": 0.0 for b in ("factual", "toxicity", "sycophancy", "bias")}
REFUSALS = {"refusal__rho-guided__mean": 0.2, "probes__refusal__texts_with_refusal": 300.0}


@pytest.mark.parametrize(
    ("claim_id", "before", "changed", "after"),
    [
        ("L1.bias", "inconsistent", {"pool__pairs__bias": 102.0}, "reproduced"),
        ("G1.rho", "inconsistent", {"baseline__toxicity": 0.0, "extreme__toxicity": 0.9}, "reproduced"),
        ("G3.pairs", "method unsound", NO_OVERLAP, "reproduced"),
        ("J4.sft-only", "method unsound", {"stress__benign_prompts": 400.0}, "reproduced"),
        ("J1.sft-only.sum", "reproduced", {"stress__category__roleplay__sft-only": 0.0}, "inconsistent"),
        ("F1.mistral", "method unsound", {"steering__mistral__bias__30": 0.6}, "reproduced"),
        ("F1.final", "inconsistent", {"steering__mistral__layers": 31.0}, "reproduced"),
        ("Z1.cv", "method unsound", {"freeze__uncompressed_cells": 5.0}, "cannot be checked"),
        ("T2.ceiling", "inconsistent", {"audit__sycophancy": 0.9}, "reproduced"),
        ("H1c.preserves", "method unsound", REFUSALS, "reproduced"),
        ("W4.toxicity", "inconsistent", {"slope__ratio__sycophancy": 0.5}, "reproduced"),
        ("I1.rho-shuf", "inconsistent", {"ablation__shuffled-pairs__toxicity": 0.0}, "cannot be checked"),
        ("H2c.inverts", "inconsistent", {"baseline__bias": 0.001}, "reproduced"),
        ("D5.diminishing", "inconsistent", {"arm__dose__0.1__0.5__factual__mean": 0.2}, "reproduced"),
        ("Q1.bias.isolation", "reproduced", {"landscape__bias__singletons": 90.0}, "inconsistent"),
        ("A4.stack", "inconsistent", {"amplification__result__stack__angular": 2.25}, "reproduced"),
        ("Q4.bias", "inconsistent", {"landscape__bias__clustered": 357.0}, "reproduced"),
    ],
)  # fmt: skip
def test_another_input_gives_another_verdict(claim_id: str, before: str, changed: dict[str, float], after: str) -> None:
    assert verdict_with(claim_id) == before
    assert verdict_with(claim_id, **changed) == after


def test_a_missing_input_cannot_be_checked_and_is_named() -> None:
    values = [value for value in read_folder() if not value.key.startswith("pool/")]
    found = judge(Inputs(values), CLAIMS["L1.bias"])
    assert found.verdict == "cannot be checked" and "pool/pairs/bias" in found.text


def test_a_broken_claim_is_named() -> None:
    with pytest.raises(InputError, match=r"^claim a: .*parameter expr"):
        verify(claims=[claim()])
    with pytest.raises(InputError, match="unknown checker 'oracle'"):
        verify(claims=[claim(checker="oracle")])
    with pytest.raises(InputError, match="unknown challenge 'doubt'"):
        verify(claims=[claim(parameters={"expr": "{baseline/bias}"}, challenges=("doubt",))])
