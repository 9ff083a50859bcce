"""The notes' claims: the code finds by computation what an independent audit found, and more."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.claims import KINDS, Verdict, read_claims, verify
from analysis.claims.claim import shipped_file
from analysis.claims.inputs import Inputs
from analysis.claims.verdict import judge, published_values

AUDIT = json.loads((Path(__file__).parent / "claims_audit.json").read_text(encoding="utf-8"))
REPRODUCED = {"reproduced", "up to rounding"}
CLASSES = {"OK": REPRODUCED, "R": {"up to rounding", "reproduced"}, "X": {"inconsistent"}, "U": {"method unsound"},
           "NR": {"cannot be checked"}}  # fmt: skip

# The claims that carry an audit id's class, where not all claims whose id begins with it do.
DECIDING = {
    "L1": ["L1.factual", "L1.toxicity", "L1.bias", "L1.each"],  # sycophancy's share happens to be 24.8 %
    "L2": ["L2.zero", "L2.margin"],  # the loss's other properties hold
    "H1a": ["H1a.d", "H1a.d2", "H1a.p", "H1a.p2"],  # n = 5, as the heading has it, does not give this p: H1a.n
    "H2c": ["H2c.inverts"],
    "M3": ["M3.q16.0", "M3.q84.0", "M3.q2.5", "M3.q97.5"],  # 0.035 as "95th percentile" is wrong: M3.percentile
    "A1": ["A1.ratio"],
    "P1": ["P1.point", "P1.low", "P1.high"],  # the diagram's own contour is elsewhere: P1.contour
    "P2": ["P2.factual", "P2.sycophancy"],
    "B2": ["B2.probes", "B2.inflation"],  # the width without probe noise is sound
    "D2": ["D2.factual.0", "D2.factual.0.1", "D2.factual.0.2", "D2.factual.0.5"],
    "T1": ["T1.ratio", "T1.bias", "T1.question"],
    "C1": ["C1.factual.reduction"],  # the SDs themselves are only printed again: RESTATED
    "C2": ["C2.toxicity.increase"],
    "K1": ["K1.p", "K1.star"],
    "K3": ["K3.p"],
    "F1": ["F1.mistral", "F1.different"],
    "Y1": ["Y1.factual", "Y1.toxicity"],
    "O2": ["O2.ratio"],
}
MORE = [
    "P1.contour", "P3.lambda0", "V3.default", "M3.percentile", "A4.stack", "A5.baseline", "B3.drop", "B4.floor",
    "D0.seeds.0.5", "D4.linear", "D5.diminishing", "J2.categories", "Q4.bias", "T3.doses", "N2.three", "F1.final",
    "I1.rho-sft", "I1.cont-shuf", "I1.rho-shuf", "W3.within", "W4.toxicity", "H1a.n", "B6.separated",
    "C5.sft-only.lowest", "C5.sft-only.highest", "C5.rho-guided.lowest", "C5.rho-guided.highest",
]  # fmt: skip
"""Inconsistencies beyond the audit's extract."""
RESTATED = [
    *(f"B0.{behavior}" for behavior in ("reasoning", "deception", "refusal", "bias", "factual")),
    *(f"{name}.sd{dose}" for name in ("C1.factual", "C2.toxicity", "C3.bias") for dose in ("0", "0.2")),
    *(f"T4.{dose}.{part}" for dose in ("0", "0.1", "0.2", "0.5") for part in ("mean", "pm", "sd")),
    "H1e.stress", "H1e.question", "D2.bias.0.1", "D1.bias.0.2", "T1.sycophancy", "T1.range", "O1.mean",
    "Y1.factual.better", "Y1.toxicity.better",
]  # fmt: skip
"""Figures that were called reproduced, and that one other printing of the same figure gives."""


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Verdict]:
    return {verdict.id: verdict for verdict in verify()}


@pytest.mark.parametrize("audited", sorted({*AUDIT["classes"]} - {"T4"}))  # T4: the audit, too, had the constants only
def test_the_class_of_every_audited_claim_is_found(audited: str, verdicts: dict[str, Verdict]) -> None:
    ids = DECIDING.get(audited) or [claim for claim in verdicts if claim.split(".")[0] == audited]
    assert ids
    found = {claim: verdicts[claim].verdict for claim in ids}
    assert set(found.values()) <= CLASSES[AUDIT["classes"][audited]], found


@pytest.mark.parametrize("claim", AUDIT["recomputed"])
def test_recomputed_numbers_are_the_audits(claim: str, verdicts: dict[str, Verdict]) -> None:
    assert verdicts[claim].recomputed == pytest.approx(AUDIT["recomputed"][claim], rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(("claim", "name", "expected", "tolerance"), AUDIT["beside"])
def test_sound_numbers_beside_the_printed_are_the_audits(
    claim: str, name: str, expected: float, tolerance: float, verdicts: dict[str, Verdict]
) -> None:
    assert verdicts[claim].numbers[name] == pytest.approx(expected, abs=max(tolerance, 1e-12))


@pytest.mark.parametrize("claim", MORE)
def test_other_wrong_claims_are_found_too(claim: str, verdicts: dict[str, Verdict]) -> None:
    assert verdicts[claim].verdict == "inconsistent"


def test_intervals_of_the_optimum_are_as_wide_as_the_audits(verdicts: dict[str, Verdict]) -> None:
    """90 %: χ² [.18, 2.35] for the sweep, clusters [.03, 2.8] for the seed table; printed table [.02, 3.1]."""
    numbers = verdicts["V2.star"].numbers
    sweep = "SDs that n seeds leave plausible (χ²), dose sweep (behind the notes' fit)"
    assert numbers[f"{sweep}: low"] == pytest.approx(0.18, abs=0.02)
    assert numbers[f"{sweep}: high"] == pytest.approx(2.35, rel=0.15)
    clusters = "seeds resampled, per-seed table (Pattern 3)"
    assert numbers[f"{clusters}: low"] == pytest.approx(0.034, abs=0.01)
    assert numbers[f"{clusters}: high"] == pytest.approx(2.8, rel=0.15)


def test_the_file_holds_no_verdict_and_no_recomputed_number(verdicts: dict[str, Verdict]) -> None:
    text = shipped_file().read_text(encoding="utf-8")
    columns = text.split("\n", maxsplit=1)[0].split(",")
    assert "verdict" not in columns and "recomputed" not in columns
    assert not [kind for kind in KINDS if kind in text]
    rows = {row["id"]: row for row in csv.DictReader(text.splitlines())}
    for verdict in verdicts.values():
        exact = "" if verdict.recomputed is None else f"{verdict.recomputed:.5g}"
        if verdict.verdict == "inconsistent" and len(exact) > len("0.05"):
            assert exact not in "".join(rows[verdict.id].values()), verdict.id


def test_every_section_with_numbers_has_claims_and_ids_are_unique() -> None:
    claims = read_claims()
    assert len(claims) >= 150 and len({claim.id for claim in claims}) == len(claims)
    sections = {claim.section for claim in claims}
    assert {f"Pattern {i}" for i in range(1, 11)} <= {section.split(":")[0] for section in sections}
    assert len(sections) >= 25


def test_sentences_are_whole_and_name_what_is_missing(verdicts: dict[str, Verdict]) -> None:
    for verdict in verdicts.values():
        assert verdict.text.endswith((".", "?")) and "nan" not in verdict.text.split(), verdict.id
        if verdict.verdict == "cannot be checked":
            assert "it takes" in verdict.text or "the printed figure itself" in verdict.text
            assert verdict.recomputed is None
        if verdict.verdict == "method unsound":
            assert verdict.objections and all(objection in verdict.text for objection in verdict.objections)


def test_verifying_again_gives_the_same(verdicts: dict[str, Verdict]) -> None:
    few = [claim for claim in read_claims() if claim.id in ("B2.probes", "M2.median", "Z1.cv")]
    assert [verdicts[claim.id] for claim in few] == list(verify(claims=few))


def test_no_claim_is_reproduced_by_another_printing_of_its_figure(verdicts: dict[str, Verdict]) -> None:
    assert sorted(one.id for one in verdicts.values() if one.verdict == "only restated") == sorted(RESTATED)
    listed = (Path(__file__).parents[2] / "docs" / "claims.md").read_text(encoding="utf-8")
    assert not [claim for claim in RESTATED if f"`{claim}`" not in listed]


def test_no_claim_is_compared_with_itself(verdicts: dict[str, Verdict]) -> None:
    assert verdicts["M0.n"].verdict == "cannot be checked"
    for claim in ("V2.q5", "V2.q95"):  # the assumed noise was chosen so as to give this very interval
        assert verdicts[claim].recomputed is None and "goes back to the printed figure itself" in verdicts[claim].text
    copied = replace(
        next(c for c in read_claims() if c.id == "H2a.bias"), parameters={"expr": "{arm/margin/0/0.2/bias/mean}"}
    )
    (found,) = verify(claims=[copied])
    assert found.verdict == "cannot be checked" and found.recomputed is None


def test_a_check_does_not_move_with_the_figure_that_it_is_compared_with(verdicts: dict[str, Verdict]) -> None:
    """Whatever a checker declares: another printed figure, and the recomputed value stays."""
    claims = [claim for claim in read_claims() if claim.figure and verdicts[claim.id].recomputed is not None]
    assert len(claims) > 100
    results = {claim.figure for claim in claims if "/result/" in claim.figure and "/stack/" not in claim.figure}
    moved = _moved(results)
    for claim in claims:
        inputs = moved if claim.figure in results else _moved({claim.figure})
        assert judge(inputs, claim).recomputed == verdicts[claim.id].recomputed, claim.id


def _moved(keys: set[str]) -> Inputs:
    """The published inputs with some figures another one."""
    values = published_values(None)
    return Inputs([replace(v, value=1.37 * v.value + 0.011) if v.key in keys else v for v in values])


def test_every_figure_of_a_claim_is_the_printed_one() -> None:
    values = {value.key: value for value in published_values(None)}
    for claim in read_claims():
        if claim.figure:
            value = values[claim.figure]
            assert (value.source, value.value) == ("research-notes", claim.value), claim.id
    owned = {claim.figure for claim in read_claims()}
    shared = {"amplification/result/stack/angular"}  # the angular factor once more, in the sum of three sources
    assert {key for key in values if "/result/" in key} - owned == shared
