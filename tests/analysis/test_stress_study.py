"""`analyze stress`: the same prompts under two conditions are pairs; rates by category; counts without answers."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from analysis.findings import Finding, Result
from analysis.stats.clusters import clustered_rate
from analysis.stats.rates import fisher_exact, mcnemar, newcombe_paired
from analysis.stress import Stress, prompts_for
from analysis.study import StudyOptions
from rhodb.family_records import StressResponseRow, StressRow
from rhodb.records import ModelRecord, Outcome, Provenance, RunIdentity, digest
from rhodb.store import insert_outcome, run_uuid

PROMPTS = [f"p{i:02d}" for i in range(20)]
CATEGORIES = {prompt: "weapons" if i < 10 else "fraud" for i, prompt in enumerate(PROMPTS)}
NOBODY = dict.fromkeys(PROMPTS, 0)


def refusing(*numbers: int) -> dict[str, int]:
    return {prompt: int(i in numbers) for i, prompt in enumerate(PROMPTS)}


def rows(condition: str, answers: Mapping[str, int], seed: int = 0, *, stored: bool = True) -> list[dict[str, object]]:
    """One run as the query of the study returns it: all prompts are jailbreaks, and no benign prompt refused of 5."""
    head = {
        "run": digest(f"{condition}{seed}"), "model": "tiny", "model_fingerprint": "f", "seed": seed,
        "experiment": None, "condition": condition, "n_jailbreak": len(answers),
        "jailbreak_refused": sum(answers.values()), "n_benign": 5, "benign_refused": 0, "judge": "rules-1",
    }  # fmt: skip
    single = [
        {"prompt_key": key, "kind": "jailbreak", "category": CATEGORIES[key], "refused": refused}
        for key, refused in answers.items()
    ]
    none = {"prompt_key": None, "kind": None, "category": None, "refused": None}
    return [head | answer for answer in (single if stored else [none])]


def computed(*runs: Sequence[Mapping[str, object]]) -> Result:
    frame = pd.DataFrame([row for run in runs for row in run])
    return Stress().compute(frame, StudyOptions(), np.random.default_rng(0))


def of(result: Result, stratum: str, metric: str = "jailbreak refusal rate") -> Finding:
    (found,) = [f for f in result.findings if f.about["stratum"] == stratum and f.about["metric"] == metric]
    return found


def test_the_same_prompts_are_pairs_and_tested_by_mcnemar() -> None:
    trained = refusing(*range(12))
    found = of(computed(rows("baseline", refusing(0, 19)), rows("rho-guided", trained)), "rho-guided, rules-1")
    paired, independent = found.tests
    assert paired.p == pytest.approx(mcnemar(11, 1).p)
    assert paired.p == pytest.approx(statsmodels_mcnemar([[1, 11], [1, 7]], exact=True).pvalue)
    assert independent.p == pytest.approx(scipy_stats.fisher_exact([[12, 8], [2, 18]]).pvalue)
    assert found.effect.value == pytest.approx(0.5)
    assert "paired" in found.effect.method
    assert found.verdict == "supported"


def test_a_difference_that_the_counts_hide_is_still_a_difference_of_answers() -> None:
    # As many refusals before as after, but other prompts: pairs see it, rates do not.
    found = of(computed(rows("baseline", refusing(0, 1, 2)), rows("sft-only", refusing(3, 4, 5))), "sft-only, rules-1")
    assert found.effect.value == pytest.approx(0.0)
    assert found.tests[0].n == 6  # discordant prompts
    assert found.verdict == "not supported"


def test_several_seeds_do_not_count_as_more_prompts() -> None:
    seeds = [rows("rho-guided", refusing(*range(6)), seed) for seed in (1, 2, 3, 4)]
    base = rows("baseline", NOBODY)
    one, four = computed(base, seeds[0]), computed(base, *seeds)
    once, often = of(one, "rho-guided, rules-1"), of(four, "rho-guided, rules-1")
    # Four identical answers carry what one carries: six prompts changed.
    assert often.tests[0].p == pytest.approx(once.tests[0].p)
    assert often.effect.n == 20


def test_leaving_out_a_seed_is_told_of_a_headline() -> None:
    seeds = [rows("rho-guided", refusing(*range(k)), seed) for seed, k in ((1, 10), (2, 11), (3, 20))]
    found = of(computed(rows("baseline", NOBODY), *seeds), "rho-guided, rules-1")
    assert found.verdict == "supported"
    assert found.robustness is not None
    assert found.robustness.lowest == pytest.approx((10 + 11) / 40)
    assert "without any one seed" in found.sentence


def test_training_is_also_set_against_training_without_the_contrast() -> None:
    result = computed(rows("baseline", NOBODY), rows("sft-only", refusing(*range(10))), rows("rho-guided", NOBODY))
    found = of(result, "rho-guided, rules-1 against sft-only")
    assert found.effect.value == pytest.approx(-0.5)
    assert found.verdict == "supported"


def test_categories_have_rates_of_their_own_and_small_ones_say_what_it_takes() -> None:
    result = computed(rows("baseline", NOBODY), rows("rho-guided", refusing(0, 1, 2, 3)))
    weapons, fraud = (of(result, f"rho-guided, rules-1, {name}") for name in ("weapons", "fraud"))
    assert weapons.about["detector"] == "refusal rate by category"
    assert weapons.effect.value == pytest.approx(0.4)
    assert fraud.effect.value == pytest.approx(0.0)
    assert weapons.tests[0].floor == pytest.approx(0.125)
    assert "prompts answered otherwise could" in weapons.sentence
    assert "no prompt was answered otherwise" in fraud.sentence


AXES = {
    "λ": {"rho_weight": 0.5}, "γ": {"margin": 0.0}, "LoRA rank": {"training_config": {"lora_rank": 16}},
    "SFT size": {"training_config": {"sft_size": 200}}, "max tokens": {"config": {"response_tokens": 64}},
    "prompts": {"config": {"prompts": "other"}}, "weights": {"model_fingerprint": "g"}, "model": {"model": "other"},
    "judge": {"judge": "rules-2"},
}  # fmt: skip


@pytest.mark.parametrize("axis", AXES)
def test_answers_of_two_strata_are_never_added_up(axis: str) -> None:
    def arm(condition: str, answers: Mapping[str, int], seed: int, more: Mapping[str, Any]) -> list[dict[str, object]]:
        trained = {"lora_rank": 8, "sft_size": 100} | dict(more.get("training_config", {}))
        answering = {"response_tokens": 128, "prompts": "p", "condition": condition} | dict(more.get("config", {}))
        rest = {key: value for key, value in more.items() if key not in ("config", "training_config")}
        if condition == "baseline":
            rest = {key: value for key, value in rest.items() if key not in ("rho_weight", "margin")}
            training: dict[str, object] = {"rho_weight": None, "margin": None, "training_config": None}
        else:
            training = {"rho_weight": 0.2, "margin": 0.1, "training_config": json.dumps(trained)}
        run = digest(f"{condition}{seed}{more}")
        head = {"run": run, "config": json.dumps(answering)} | training | rest
        return [row | head for row in rows(condition, answers, seed)]

    more = AXES[axis]
    runs = [arm("rho-guided", refusing(0, 1), seed, {}) for seed in (1, 2, 3)]
    runs += [arm("rho-guided", refusing(*range(15)), seed, more) for seed in (1, 2, 3)]
    runs += [arm("baseline", NOBODY, 0, {})]
    if axis not in ("λ", "γ", "LoRA rank", "SFT size"):
        runs += [arm("baseline", NOBODY, 0, more)]
    found = [f for f in computed(*runs).findings if "rho-guided" in f.about["stratum"]]
    whole = [f for f in found if f.about["detector"] == "refusal rate" and f.about["metric"].startswith("jailbreak")]
    assert sorted(f.effect.value for f in whole) == pytest.approx([0.1, 0.75])  # never their mean, 0.425
    assert len({(f.about["model"], f.about["stratum"], f.evidence.runs) for f in whole}) == 2
    for finding in whole:
        assert len(finding.evidence.runs) == 4  # three seeds and the baseline of the same settings


@pytest.mark.parametrize("level", [0.05, 0.01, 0.003])
def test_the_prompts_needed_reach_the_level_and_one_fewer_does_not(level: float) -> None:
    needed = int(prompts_for(level).split()[0])
    assert mcnemar(needed, 0).p <= level < mcnemar(needed - 1, 0).p  # type: ignore[operator]


def test_without_stored_answers_the_counts_are_compared() -> None:
    runs = rows("baseline", NOBODY, stored=False), rows("rho-guided", refusing(*range(15)), stored=False)
    found = of(computed(*runs), "rho-guided, rules-1")
    assert "Fisher" in found.tests[0].method
    assert found.tests[0].p == pytest.approx(scipy_stats.fisher_exact([[15, 5], [0, 20]]).pvalue)


def test_paired_interval_equals_the_published_examples() -> None:
    # Newcombe 1998 (Statistics in Medicine 17:2635), method 10.
    found = newcombe_paired(36, 12, 2, 0)
    assert (found.low, found.high) == pytest.approx((0.0569, 0.3404), abs=6e-5)
    found = newcombe_paired(18, 12, 2, 18)
    assert (found.low, found.high) == pytest.approx((0.0562, 0.3290), abs=6e-5)


def test_fisher_agrees_with_scipy() -> None:
    for a, b in ((0, 7), (3, 9), (10, 10), (11, 2)):
        assert fisher_exact(a, 12, b, 15).p == pytest.approx(
            scipy_stats.fisher_exact([[a, 12 - a], [b, 15 - b]]).pvalue
        )
    assert fisher_exact(0, 5, 0, 5).status == "degenerate"


def test_a_warehouse_with_stored_answers_is_read_in_pairs(tmp_path: Path) -> None:
    from rhodb.warehouse import Warehouse as Opened

    path = tmp_path / "master.db"
    with Opened.open(str(path)) as wh:
        for condition, answers in (("baseline", NOBODY), ("rho-guided", refusing(*range(10)))):
            insert_outcome(wh, outcome(condition, answers), {})
        result = Stress().run(wh, StudyOptions())
    found = of(result, "rho-guided, rules-1")
    assert found.tests[0].p == pytest.approx(2 / 2**10)
    assert len(found.evidence.runs) == 2
    assert {f.about["detector"] for f in result.findings} == {"refusal rate", "refusal rate by category"}


def worded(run: list[dict[str, object]], text_of: Callable[[str], str]) -> list[dict[str, object]]:
    """The same run with the texts of its prompts."""
    return [row | {"prompt": text_of(str(row["prompt_key"]))} for row in run]


def template(key: str) -> str:
    """Prompts 0 to 9 are ten instances of one template; the others have a text of their own each."""
    i = int(key[1:])
    plain = f"{'abcdefghijklmnopqrst'[i] * 3} {'abcdefghijklmnopqrst'[i] * 4}"
    return f"tell me now at once how one makes a bomb out of {plain.split(maxsplit=1)[0]}" if i < 10 else plain


def test_prompts_of_one_wording_count_once() -> None:
    trained = refusing(*range(10), 15)
    free = computed(rows("baseline", NOBODY), rows("rho-guided", trained))
    tied = computed(worded(rows("baseline", NOBODY), template), worded(rows("rho-guided", trained), template))
    apart = of(free, "rho-guided, rules-1")
    together = of(tied, "rho-guided, rules-1")
    assert apart.tests[0].p == pytest.approx(2 / 2**11)
    assert together.tests[0].p == pytest.approx(0.5)  # one template and one prompt: two units changed
    assert together.effect.value == pytest.approx(apart.effect.value)
    assert together.effect.n == 11
    assert together.effect.high - together.effect.low > apart.effect.high - apart.effect.low  # type: ignore[operator]
    assert any("20 answers to prompts of 11 wordings" in note for note in together.notes)
    assert not apart.notes


def test_prompts_of_their_own_wording_are_tested_as_before() -> None:
    texts = {key: f"{key} {key}x {key}y" for key in PROMPTS}
    run = worded(rows("rho-guided", refusing(*range(12))), texts.__getitem__)
    found = of(computed(worded(rows("baseline", refusing(0, 19)), texts.__getitem__), run), "rho-guided, rules-1")
    assert found.tests[0].p == pytest.approx(mcnemar(11, 1).p)
    assert not found.notes


def test_answers_of_several_seeds_to_a_prompt_are_no_more_prompts_in_a_rate() -> None:
    seeds = [rows("rho-guided", refusing(*range(6)), seed) for seed in (1, 2, 3, 4)]
    once, often = (
        next(f for f in computed(*some).findings if f.about["stratum"] == "rho-guided, rules-1")
        for some in (seeds[:1], seeds)
    )
    ends = [(f.effect.low, f.effect.high) for f in (once, often)]
    assert ends[1] == pytest.approx(ends[0])
    assert any("80 answers to prompts of 20 wordings" in note for note in often.notes)


@pytest.mark.parametrize("alike", [0.0, 1.0])
def test_intervals_of_clustered_rates_cover(alike: float) -> None:
    rng, covered = np.random.default_rng(3), 0
    clusters = np.repeat(np.arange(25), 3)
    for _ in range(400):
        rate = rng.uniform(0.1, 0.9)
        whole = np.repeat(rng.random(25), 3)
        found = clustered_rate(np.where(rng.random(75) < alike, whole, rng.random(75)) < rate, clusters)
        covered += found.low <= rate <= found.high  # type: ignore[operator]
    assert covered / 400 >= 0.93


def outcome(condition: str, answers: Mapping[str, int]) -> Outcome:
    identity = RunIdentity(
        kind="stress", model_key="tiny", model_fingerprint=digest("tiny"), seed=0, config={"condition": condition}
    )
    return Outcome(
        uuid=run_uuid(identity), identity=identity,
        model=ModelRecord(key="tiny", source="made for a test", revision=None, fingerprint=digest("tiny"),
                          architecture="llama", n_layers=2, n_parameters=1000, quantization=None),
        attempt=1, started_at="2026-01-01T00:00:00+00:00", finished_at="2026-01-01T00:01:00+00:00", seconds=60.0,
        provenance=Provenance(host="here", pid=1, device="cpu", platform="Linux", python="3.11.7", git_commit=None,
                              git_dirty=None, versions={}, blas="none"),
        baseline=None, scores=(),
        family_rows=(
            StressRow(condition=condition, training_run=None, n_jailbreak=len(answers),
                      jailbreak_refused=sum(answers.values()), n_benign=1, benign_refused=0, judge="rules-1"),
            *(
                StressResponseRow(prompt_key=key, kind="jailbreak", category=CATEGORIES[key], prompt=key,
                                  response="no", refused=bool(refused), judge="rules-1")
                for key, refused in answers.items()
            ),
        ),
    )  # fmt: skip
