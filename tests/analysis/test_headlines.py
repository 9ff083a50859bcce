"""What every headline says: leaving out one seed, the correction by its name, and what it would take."""

from itertools import pairwise

import numpy as np
import pytest

from analysis.anomalies.responder import Responder, fit_with_gaps, has_gaps
from analysis.anomalies.study import Anomalies, data_of
from analysis.findings import Finding, Result
from analysis.looks import leaving_out
from analysis.simulate import DOSES, NOISE, SEEDS, TEN, Warehouse, ladder, noise
from analysis.stats.trend import jonckheere_terpstra
from analysis.study import StudyOptions
from analysis.summaries import Ablation, DoseResponse, Variance


def rising(rng: np.random.Generator, **planted: float) -> Warehouse:
    wh = Warehouse()
    ladder(wh, rng, **planted)  # type: ignore[arg-type]
    return wh


def of(result: Result, detector: str, behavior: str) -> Finding:
    return next(
        f for f in result.findings if f.about["detector"] == detector and f.about["behavior"] == behavior
    )  # fmt: skip


@pytest.mark.parametrize("study", [Anomalies(), DoseResponse(), Ablation(), Variance()], ids=lambda s: s.name)
def test_every_headline_over_seeds_says_what_leaving_out_one_does(study, rng: np.random.Generator) -> None:
    result = study.compute(rising(rng, slope=40 * NOISE).frame(), StudyOptions(), rng)
    headlines = [f for f in result.findings if f.verdict in ("supported", "suggestive")]
    assert headlines or study.name == "variance"
    for finding in headlines:
        assert finding.robustness is not None, finding.sentence
        assert finding.robustness.lowest <= finding.robustness.highest
        assert finding.robustness.seed_of_largest_p in SEEDS
        assert f"(without seed {finding.robustness.seed_of_largest_p})" in finding.sentence
    assert all(f.robustness is None for f in result.findings if f not in headlines)


def test_leaving_out_a_seed_recomputes_effect_and_p(rng: np.random.Generator) -> None:
    wh = rising(rng, slope=8 * NOISE)
    found = of(DoseResponse().compute(wh.frame(), StudyOptions(), rng), "dose", "toxicity")
    assert found.robustness is not None
    samples = [np.array(group.values) for group in found.groups]
    effects, p = [], []
    for left in range(len(SEEDS)):
        rest = [np.delete(sample, left) for sample in samples]
        effects.append(rest[-1].mean() - rest[0].mean())
        p.append(jonckheere_terpstra(rest).p)
    assert (found.robustness.lowest, found.robustness.highest) == pytest.approx((min(effects), max(effects)))
    assert found.robustness.largest_p == pytest.approx(max(p))


def test_an_effect_of_one_seed_alone_is_exposed(rng: np.random.Generator) -> None:
    wh = Warehouse()
    ladder(wh, rng, odd_seed=60 * NOISE, seeds=TEN)
    found = of(DoseResponse().compute(wh.frame(), StudyOptions(), rng), "responder", "toxicity")
    # One of ten seeds is the highest at three doses by chance in one of a hundred series, whatever the errors' law.
    assert found.verdict == "suggestive"
    assert "some seed is the highest at every dose but the first by chance with probability 0.01" in found.sentence
    assert found.robustness is not None
    assert found.robustness.seed_of_largest_p == TEN[-1]
    assert found.robustness.largest_p > 0.05
    left_out, at_top, normal = found.tests[1:]
    assert "leave-one-out" in left_out.method and "4 samples" in left_out.method
    assert left_out.p is not None and left_out.p <= 0.05
    assert "Grubbs" in at_top.method
    assert normal.p is not None and normal.p < 1e-6
    assert "random-slope mixed model" in " ".join(found.notes)


def test_effects_that_cannot_be_computed_without_a_seed_are_not_made_up() -> None:
    assert leaving_out([1, 2], lambda seed: (None, None) if seed == 2 else (1.0, 0.1)) is None
    assert leaving_out([1], lambda seed: (1.0, 0.1)) is None
    found = leaving_out([1, 2, 2], lambda seed: (float(seed), 1 / (1 + seed)))
    assert found is not None
    assert (found.lowest, found.highest, found.largest_p, found.seed_of_largest_p) == (1.0, 2.0, 0.5, 1)


def test_where_the_floor_binds_the_sentence_says_how_many_seeds_it_takes(rng: np.random.Generator) -> None:
    wh = Warehouse()
    wh.arm(noise(rng, 3), condition="rho-guided", weight=0.2, seeds=(1, 2, 3))
    wh.arm(noise(rng, 3), condition="sft-only", weight=0.0, seeds=(1, 2, 3))
    result = Anomalies().compute(wh.frame(), StudyOptions(), rng)
    coupling = next(f for f in result.findings if f.about["detector"] == "coupling")
    assert coupling.verdict == "not enough data"
    assert "no arrangement of so few gives p below 0.33" in coupling.sentence
    assert "seeds could" in coupling.sentence


def test_the_caption_names_what_is_not_counted(rng: np.random.Generator) -> None:
    frame = rising(rng).frame()
    result = Anomalies().compute(frame, StudyOptions(), rng)
    assert "Tarone 1990" in result.caption
    assert any("by Tarone-Holm over" in f.sentence for f in result.findings)
    plain = Anomalies().compute(frame, StudyOptions(correction="bh"), rng)
    assert "Tarone" not in plain.caption + " ".join(f.sentence for f in plain.findings)


def test_a_series_with_gaps_is_fitted_with_all_its_values(rng: np.random.Generator) -> None:
    wh = rising(rng, slope=4 * NOISE)
    frame = wh.frame()
    frame = frame[~((frame["seed"] == SEEDS[0]) & (frame["rho_weight"] == DOSES[2]))]
    data = data_of(frame)
    (steps,) = [steps for design in data.panel.designs for steps in design.ladders()]
    assert has_gaps(steps, "toxicity")
    assert all(a.dose < b.dose for a, b in pairwise(steps))
    looks = Responder().detect(data, StudyOptions(), rng)
    assert all("with the seeds that lack a dose" in look.notes[-1] for look in looks)
    fit = fit_with_gaps(steps, "toxicity")
    assert fit.error_sd == pytest.approx(NOISE, rel=0.6)
