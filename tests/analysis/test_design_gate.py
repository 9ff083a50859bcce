"""The design gate: planted violations of a design are refused, split or left out with a message; clean rows pass."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.admission import admit, alike
from analysis.anomalies import load_detectors
from analysis.anomalies.study import Anomalies, data_of, held_to
from analysis.design import AXES, Declared, Gate
from analysis.effects import Effects
from analysis.findings import Result
from analysis.simulate import Warehouse, ablation, built, ladder, ladders, noise
from analysis.study import StudyOptions

SEEDS = Declared()
DOSES = Declared(varies=frozenset({"rho_weight"}))
ARMS = Declared(varies=frozenset({"condition", "rho_weight", "margin"}), most=1)


def arms(rng: np.random.Generator, **second: object) -> pd.DataFrame:
    """Two arms of five seeds; the second differs from the first in what is given."""
    wh = Warehouse()
    wh.arm(noise(rng), condition="rho-guided", weight=0.2)
    frame = wh.frame()
    other = frame.assign(**{"run": frame["run"].map(lambda run: f"other {run}"), **second})
    return pd.concat([frame, other], ignore_index=True)


def runs_of(frame: pd.DataFrame) -> list[str]:
    return list(frame["run"].unique())


def anomalies(frame: pd.DataFrame) -> Result:
    return Anomalies().compute(frame, StudyOptions(), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("second", "word"),
    [
        ({"rho_weight": 0.5}, "λ"),
        ({"margin": 0.0}, "γ"),
        ({"margin": np.nan}, "γ"),
        ({"condition": "shuffled-pairs"}, "condition"),
        ({"model": "m9", "model_fingerprint": "f9"}, "model"),
        ({"config": '{"lora_rank": 16}'}, "lora_rank"),
        ({"config": '{"lora_rank": 8, "epochs": 3}'}, "epochs"),
        ({"config": '{"lora_rank": 8, "refusal_share": 0.1}'}, "refusal_share"),
        ({"n": 20}, "numbers of probes"),
        ({"origin": "legacy", "notes": '{"seed_semantics":"pair order"}'}, "meaning of the seed"),
        ({"origin": "legacy", "notes": "{}"}, "meaning of the seed"),
        ({}, "several times in one cell"),
    ],
)
def test_a_group_that_mixes_another_axis_is_refused(rng: np.random.Generator, second: dict, word: str) -> None:
    frame = arms(rng, **second)
    if "origin" in second:  # the first arm is rhodb's own
        frame["origin"] = frame["origin"].fillna("rhodb")
        frame["notes"] = frame["notes"].fillna("{}")
    why = Gate(frame).refusal(SEEDS, runs_of(frame), ["factual"])
    assert why is not None and word in why
    assert Gate(frame).refusal(SEEDS, runs_of(frame)[:5]) is None


def test_declared_axes_may_vary_and_only_as_many_at_once(rng: np.random.Generator) -> None:
    frame = arms(rng, rho_weight=0.5)
    assert Gate(frame).refusal(DOSES, runs_of(frame)) is None
    assert Gate(frame).refusal(ARMS, runs_of(frame)) is None
    both = arms(rng, rho_weight=0.5, margin=0.0)
    assert "at once" in (Gate(both).refusal(ARMS, runs_of(both)) or "")
    plain = arms(rng, condition="sft-only", rho_weight=0.0, margin=np.nan)
    assert Gate(plain).refusal(DOSES, runs_of(plain)) is None  # sft-only is dose 0
    assert Gate(plain).refusal(ARMS, runs_of(plain)) is None


def test_other_probe_counts_matter_only_for_the_behaviors_looked_at(rng: np.random.Generator) -> None:
    frame = arms(rng, rho_weight=0.5)
    frame.loc[(frame["rho_weight"] == 0.5) & (frame["behavior"] == "bias"), "n"] = 10
    gate = Gate(frame)
    assert gate.refusal(DOSES, runs_of(frame), ["toxicity"]) is None
    assert "bias" in (gate.refusal(DOSES, runs_of(frame), ["bias"]) or "")


def test_every_detector_declares_its_design_and_no_look_at_clean_warehouses_breaks_it(rng: np.random.Generator) -> None:
    wh = Warehouse()
    ladder(wh, rng)
    ladder(wh, rng, model="m2")
    ablation(wh, rng)
    data = data_of(wh.frame())
    for detector in load_detectors():
        assert set(detector.design.constant) | detector.design.varies == set(AXES)
        found = detector.detect(data, StudyOptions(), rng)
        kept, refused = held_to(data.gate, {detector.name: detector.design}, found)
        assert len(kept) == len(found) and not refused


def test_a_look_that_breaks_its_design_is_refused_with_a_message_and_not_counted(rng: np.random.Generator) -> None:
    data = data_of(ladders()(rng).frame())
    dose = next(d for d in load_detectors() if d.name == "dose")
    good = dose.detect(data, StudyOptions(), rng)
    other_model = good[-1].runs
    bad = replace(good[0], runs=(*good[0].runs, *other_model))
    kept, messages = held_to(data.gate, {"dose": dose.design}, [bad, *good[1:]])
    assert bad not in kept and len(kept) == len(good) - 1
    assert messages == ["1 looks of dose are refused: its runs differ in model"]


def test_missing_rows_and_runs_present_several_times(rng: np.random.Generator) -> None:
    frame = built(ladder)(rng).frame()
    clean, messages = admit(frame)
    assert len(clean) == len(frame) and not messages
    frame.loc[3, "value"] = np.nan
    again = pd.concat([frame, frame.iloc[:2]], ignore_index=True)
    again.loc[len(frame), "value"] += 1.0
    kept, messages = admit(again)
    assert len(kept) == len(frame) - 2  # the missing row, and the one whose copies contradict each other
    assert [words in message for words, message in zip(("without a value", "different values", "counted once"),
                                                       messages, strict=True)] == [True] * 3  # fmt: skip


@pytest.mark.parametrize(("stored", "word"), [(0.0, "exactly 0"), (0.2, "untouched model's")])
def test_scores_stored_for_missing_ones_are_left_out(rng: np.random.Generator, stored: float, word: str) -> None:
    frame = built(ladder)(rng).frame()
    missing = (frame["behavior"] == "bias") & (frame["rho_weight"] == 0.5) & frame["seed"].isin([42, 123])
    assert missing.sum() == 2
    frame.loc[missing, ["value", "delta"]] = [stored, stored - 0.2]
    result = anomalies(frame)
    assert any(word in message and "bias" in message for message in result.messages)
    dose = next(f for f in result.findings if f.about["detector"] == "dose" and f.about["behavior"] == "bias")
    assert dose.groups[-1].n == 3
    assert any(word in message for message in Effects().compute(frame, StudyOptions(), rng).messages)


def test_one_seed_at_the_baseline_is_a_measurement(rng: np.random.Generator) -> None:
    frame = built(ladder)(rng).frame()
    frame.loc[0, "value"] = 0.2
    assert not admit(frame)[1]


def steering(settings: Sequence[str]) -> pd.DataFrame:
    wh = Warehouse()
    for k, config in enumerate(settings):
        for layer in (10, 14, 18):
            wh.run({"factual": 0.1 * k + layer / 100}, seed=0, kind="steering", layer=layer, alpha=4.0)
            wh.rows[-1]["config"] = config.replace("LAYER", str(layer))
    return wh.frame()


def test_other_settings_are_split_not_pooled() -> None:
    layers = Declared(varies=frozenset({"layer"}))
    one = steering(['{"layer": LAYER, "method": "mean"}'])
    assert len(alike(one, layers)) == 1
    two = steering(['{"layer": LAYER, "method": "mean"}', '{"layer": LAYER, "method": "pca"}'])
    assert [part["run"].nunique() for part in alike(two, layers)] == [3, 3]
    silent = steering(['{"layer": LAYER, "method": "mean"}', '{"layer": LAYER}'])
    assert len(alike(silent, layers)) == 1  # a setting that nobody contradicts


def test_layer_sweeps_of_two_methods_are_two_looks(make_arm: Callable[..., object]) -> None:
    two = steering(['{"layer": LAYER, "method": "mean"}', '{"layer": LAYER, "method": "pca"}'])
    found = [f for f in anomalies(two).findings if f.about["detector"] == "layers"]
    assert [len(f.evidence.runs) for f in found] == [3, 3]


def test_seeds_without_a_stated_meaning_are_never_paired(rng: np.random.Generator) -> None:
    frame = built(ladder, odd_seed=1.0)(rng).frame().assign(origin="legacy", notes='{"seed_semantics":"pair order"}')
    detectors = {f.about["detector"] for f in anomalies(frame).findings}
    assert {"dose", "responder"} <= detectors
    result = anomalies(frame.assign(notes="{}"))
    detectors = {f.about["detector"] for f in result.findings}
    assert "dose" in detectors and not detectors & {"responder", "reversal", "interaction"}
    assert any("never paired" in message for message in result.messages)
