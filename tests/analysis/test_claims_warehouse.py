"""What a warehouse's own runs say about claims, and a user's claims about them."""

from pathlib import Path

import pytest

from analysis.claims import Verdict, read_claims, verify
from analysis.claims.claim import Claim
from rhodb.errors import InputError
from rhodb.warehouse import Warehouse

SHIPPED = {claim.id: claim for claim in read_claims()}
BASE = (0.30, 0.31, 0.29, 0.305, 0.295)
HIGH = (0.60, 0.62, 0.58, 0.61, 0.59)


@pytest.fixture
def ablation(tmp_path: Path, make_arm, fill_warehouse):
    """A function that stores two conditions with refusal and toxicity scores, and gives the path."""

    def make(refusal_after_contrastive: tuple[float, ...] = BASE, **rest: object) -> Path:
        path = tmp_path / "runs.db"
        fill_warehouse(
            path,
            [
                *make_arm("sft-only", {"refusal": HIGH, "toxicity": BASE}, **rest),
                *make_arm("contrastive-only", {"refusal": refusal_after_contrastive, "toxicity": HIGH}, **rest),
                *make_arm("rho-guided", {"refusal": HIGH, "toxicity": HIGH}, **rest),
            ],
        )
        return path

    return make


def verdict(path: Path, *claims: Claim) -> Verdict:
    with Warehouse.open(path, create=False, read_only=True) as wh:
        return verify(wh, claims)[0]


def mine(value: float, checker: str, relation: str = "=", precision: float | None = 0.001, **parameters: str) -> Claim:
    return Claim(
        id="mine", section="Results", subject="x", statistic="y", relation=relation, value=value,  # type: ignore[arg-type]
        precision=precision, checker=checker, parameters=parameters,
    )  # fmt: skip


def test_runs_that_show_the_claimed_direction_support_a_claim_about_the_method(ablation) -> None:
    found = verdict(ablation(), SHIPPED["H1a.d"])
    assert found.own_runs is not None and found.own_runs.speaks == "for" and not found.own_runs.same_experiment
    assert "tiny" in found.own_runs.text and "5 seeds" in found.own_runs.text and "-0.3" in found.own_runs.text
    assert found.verdict == "up to rounding"  # what was published decides; the runs stand beside it


def test_runs_that_show_the_opposite_contradict_it(ablation) -> None:
    found = verdict(ablation(tuple(x + 0.6 for x in BASE)), SHIPPED["H1a.d"])
    assert found.own_runs is not None and found.own_runs.speaks == "against"


def test_runs_without_a_clear_difference_do_not_decide(ablation) -> None:
    found = verdict(ablation((0.55, 0.66, 0.6, 0.57, 0.63)), SHIPPED["H1a.d"])
    assert found.own_runs is not None and found.own_runs.speaks == "undecided"
    assert "do not decide" in found.text


def test_another_model_is_never_taken_for_the_same_experiment(ablation) -> None:
    found = verdict(ablation(split="none"), SHIPPED["ABL.contrastive-only.toxicity"])
    assert found.own_runs is None and found.verdict == "cannot be checked"


def test_the_same_experiment_supports_or_contradicts_the_figure_itself(ablation) -> None:
    path = ablation(split="none", model="Qwen/Qwen2.5-7B-Instruct")
    claim = SHIPPED["ABL.contrastive-only.toxicity"]  # printed 0.570; HIGH has mean 0.600
    against = verdict(path, claim)
    assert against.verdict == "contradicted by own runs" and against.own_runs is not None
    assert against.own_runs.same_experiment and len(against.own_runs.runs) == 5 and "0.6" in against.text
    near = Claim(**{**claim.__dict__, "value": 0.601})
    assert verdict(path, near).verdict == "supported by own runs"


OPEN = Claim(
    id="open", section="Results", subject="toxicity after rho-guided", statistic="mean", relation="=", value=0.6,
    precision=0.001, checker="expression", parameters={"expr": "{no/such/figure}"},
    own={"same": "alignment", "model": "tiny", "quantity": "after", "condition": "rho-guided", "behavior": "toxicity"},
)  # fmt: skip
"""A claim that says neither λ nor γ nor any setting."""
AXES = [
    {"rho_weight": 0.5}, {"margin": 0.02}, {"settings": {"lora_rank": 16}}, {"settings": {"sft_size": 200}},
    {"settings": {"max_length": 128}}, {"model": "tiny-other-weights"},
]  # fmt: skip


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: next(iter(axis)))
def test_a_claim_that_leaves_its_stratum_open_is_answered_for_each(tmp_path: Path, make_arm, fill_warehouse, axis):
    path = tmp_path / "runs.db"
    runs = [
        make_arm("rho-guided", {"toxicity": values}, split="none", **rest)
        for values, rest in ((HIGH, {}), (BASE, axis))
    ]
    fill_warehouse(path, [run for arm in runs for run in arm])
    found = verdict(path, OPEN)
    own = found.own_runs
    assert own is not None and own.speaks == "undecided" and found.verdict == "cannot be checked"
    assert sorted(own.numbers.values()) == pytest.approx([0.3, 0.6])  # never their mean, 0.45
    assert own.text.count("5 runs") == 2 and "does not say which of these 2 strata" in own.text
    assert found.recomputed is None


def test_strata_that_all_say_the_same_answer_an_open_claim(tmp_path: Path, make_arm, fill_warehouse) -> None:
    path = tmp_path / "runs.db"
    fill_warehouse(
        path,
        [run for x in (0.1, 0.2) for run in make_arm("rho-guided", {"toxicity": HIGH}, split="none", rho_weight=x)],
    )
    assert verdict(path, OPEN).verdict == "supported by own runs"


def test_nothing_to_say_without_fitting_runs(ablation) -> None:
    path = ablation()
    for name in ("H2c.inverts", "J3.highest", "J4.baseline", "Q2.cross", "W1.bias"):
        assert verdict(path, SHIPPED[name]).own_runs is None, name


def test_a_select_checks_a_claim_about_the_runs(ablation) -> None:
    path = ablation()
    count = {"sql": "SELECT count(*) FROM runs WHERE kind = :kind", "p_kind": "alignment"}
    assert verdict(path, mine(15, "sql", precision=1, **count)).verdict == "reproduced"
    assert verdict(path, mine(16, "sql", precision=1, **count)).verdict == "inconsistent"
    saved = {"saved": "condition-means", "column": "mean",
             "where": "condition = 'rho-guided' AND behavior = 'toxicity'"}  # fmt: skip
    found = verdict(path, mine(0.5, "sql", **saved))  # HIGH minus the baseline of 0.1
    assert found.verdict == "reproduced" and found.recomputed == pytest.approx(0.5)
    nothing = {"sql": "SELECT avg(value) FROM v_scores WHERE behavior = 'bias'"}
    assert verdict(path, mine(0.5, "sql", **nothing)).verdict == "cannot be checked"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sql": "SELECT 1, 2"}, "1 rows of 2 columns"),
        ({"sql": "SELECT kind FROM runs"}, "2 or more rows of 1 columns"),
        ({"sql": "SELECT 'many'"}, "'many', which is no number"),
        ({"sql": "DELETE FROM runs"}, "refused|SELECT"),
        ({}, "needs one of sql"),
        ({"sql": "SELECT 1", "saved": "repeats"}, "needs one of sql"),
        ({"saved": "none"}, "unknown saved query"),
    ],
)
def test_selects_that_give_no_number_are_refused(parameters: dict[str, str], message: str, ablation) -> None:
    with pytest.raises(InputError, match=f"claim mine: .*({message})"):
        verdict(ablation(), mine(1, "sql", **parameters))


def test_a_finding_of_a_study_checks_a_claim(ablation) -> None:
    path = ablation()
    pick = {"study": "effects", "behavior": "refusal", "a": "contrastive-only", "b": "sft-only"}
    assert verdict(path, mine(-0.3, "study", **pick)).verdict == "reproduced"
    assert verdict(path, mine(0.05, "study", "<", None, statistic="p_adjusted", **pick)).verdict == "reproduced"
    assert verdict(path, mine(-0.2, "study", **pick)).verdict == "inconsistent"
    assert verdict(path, mine(1.0, "study", **pick | {"a": "baseline"})).verdict == "cannot be checked"
    with pytest.raises(InputError, match="findings of study effects fit: narrow them by"):
        verdict(path, mine(1.0, "study", study="effects", behavior="refusal"))
    with pytest.raises(InputError, match="knows no colour; known: a, b, behavior"):
        verdict(path, mine(1.0, "study", **pick | {"colour": "red"}))
    with pytest.raises(InputError, match="gives tables"):
        verdict(path, mine(1.0, "study", study="landscape"))


def test_without_a_warehouse_claims_about_runs_cannot_be_checked() -> None:
    (found,) = verify(None, [mine(1, "sql", sql="SELECT 1")])
    assert found.verdict == "cannot be checked" and "a warehouse" in found.text


def test_margins_are_compared_with_each_other(tmp_path: Path, make_arm, fill_warehouse) -> None:
    """The notes: without the margin the score is inverted, with it it is not. Scores, not changes, have the sign."""

    def grid(name: str, without: float, with_margin: float) -> Path:
        path = tmp_path / name
        noise = (0.001, -0.001, 0.002, -0.002, 0.0)
        arms = [
            run
            for margin, level in ((0.0, without), (0.1, with_margin))
            for run in make_arm("rho-guided", {"bias": [level + x for x in noise]}, margin=margin)
        ]
        fill_warehouse(path, arms)
        return path

    claim = SHIPPED["H2c.inverts"]
    spoken = {
        name: verdict(grid(name, *levels), claim).own_runs
        for name, levels in {"as noted": (-0.05, 0.05), "both lower": (-0.05, -0.02), "never": (0.04, 0.05)}.items()
    }
    assert {name: own and own.speaks for name, own in spoken.items()} == {
        "as noted": "for", "both lower": "against", "never": "against",
    }  # fmt: skip


def test_doses_that_rise_support_a_rise(tmp_path: Path, make_arm, fill_warehouse) -> None:
    noise = (0.01, -0.01, 0.02, -0.02, 0.0)
    arms = [
        run
        for dose, level in ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.5, 0.5))
        for run in make_arm(
            "rho-guided" if dose else "sft-only", {"toxicity": [level + x for x in noise]}, rho_weight=dose
        )
    ]
    fill_warehouse(tmp_path / "doses.db", arms)
    found = verdict(tmp_path / "doses.db", SHIPPED["D3.toxicity"])
    assert found.own_runs is not None and found.own_runs.speaks == "for" and "+0.4" in found.own_runs.text
