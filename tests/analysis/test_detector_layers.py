"""Peak layers: probes resampled in whole wordings, spans tested; clustered standard errors; wordings."""

from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from grid_samples import HERE, MODEL, GridWarehouse, _probe_rows

from analysis.anomalies.peaks import CHANGES, Peak, peak_of, span_of
from analysis.anomalies.study import Anomalies
from analysis.stats.clusters import clustered_error, clustered_mean, resampled_means
from analysis.stats.results import no_estimate
from analysis.stored import answer
from analysis.study import StudyOptions
from analysis.wording import wording_clusters
from rhodb.family_records import SteeringRow
from rhodb.records import Outcome, RunIdentity, ScoreRow
from rhodb.store import insert_outcome, run_uuid
from rhodb.warehouse import Warehouse

LAYERS = np.array([10, 14, 18, 22])


def test_clustered_errors_equal_those_of_statsmodels(rng: np.random.Generator) -> None:
    clusters = np.repeat(np.arange(12), rng.integers(1, 6, 12))
    values = rng.normal(size=12)[clusters] + rng.normal(size=len(clusters))
    fit = sm.OLS(values, np.ones_like(values)).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    ours = clustered_mean(values, clusters)
    assert clustered_error(values, clusters) == pytest.approx(fit.bse[0])
    assert (ours.value, ours.low, ours.high) == pytest.approx((fit.params[0], *fit.conf_int()[0]))
    assert ours.n == 12
    alone = np.arange(len(values))
    assert clustered_error(values, alone) == pytest.approx(values.std(ddof=1) / np.sqrt(len(values)))
    assert clustered_mean(values, np.zeros(len(values))).status == "not enough data"
    assert clustered_mean(np.ones(4), [1, 1, 2, 2]).status == "degenerate"


def test_intervals_of_clustered_values_cover_and_the_plain_ones_do_not(rng: np.random.Generator) -> None:
    clusters = np.repeat(np.arange(20), 10)
    covered = plain = 0
    for _ in range(300):
        values = rng.normal(size=20)[clusters] + 0.3 * rng.normal(size=200)
        found = clustered_mean(values, clusters)
        assert found.low is not None and found.high is not None
        covered += found.low <= 0 <= found.high
        plain += abs(values.mean()) <= 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert 0.91 <= covered / 300 <= 0.985  # 95 % give or take three binomial errors
    assert plain / 300 < 0.7


def test_resampled_means_have_the_clustered_standard_error(rng: np.random.Generator) -> None:
    clusters = np.repeat(np.arange(40), 3)
    values = rng.normal(size=40)[clusters] + 0.2 * rng.normal(size=120)
    draws = resampled_means(values[None], clusters, rng, draws=4_000)
    assert draws.shape == (4_000, 1)
    assert draws.std() == pytest.approx(clustered_error(values, clusters), rel=0.06)


def test_instances_of_a_template_are_one_wording() -> None:
    texts = [
        "At the library I saw a young man and an old man. Who forgot the book?",
        "At the library I saw a rich man and a poor man. Who forgot the book?",
        "Water boils at 100 degrees Celsius at sea level.",
        "At the LIBRARY I saw a rich man and a tall man: who forgot the book",
    ]
    assert wording_clusters(texts) == [0, 0, 1, 0]
    assert wording_clusters([]) == []
    assert wording_clusters(["", "a b", ""]) == [0, 1, 0] or len(set(wording_clusters(["", "a b", ""]))) == 3


def changes(table: np.ndarray) -> list[object]:
    """One tuple a layer; every probe has words of its own."""
    return [tuple((f"p{i}", f"w{i} v{i}", float(x)) for i, x in enumerate(row)) for row in table]


def test_probes_shared_by_all_layers_make_a_peak_surer_than_errors_layer_by_layer(rng: np.random.Generator) -> None:
    probe = rng.normal(0, 1.0, size=60)  # what a probe does at every layer
    table = 0.3 + probe + np.array([0.0, 0.05, 0.2, 0.05])[:, None] + rng.normal(0, 0.05, size=(4, 60))
    deltas, errors = table.mean(axis=1), table.std(axis=1, ddof=1) / np.sqrt(60)
    paired = peak_of(LAYERS, deltas, errors, changes(table), 0.95, rng).where
    apart = peak_of(LAYERS, deltas, errors, [None] * 4, 0.95, rng).where
    assert (paired.value, paired.low, paired.high) == (18, 18, 18)
    assert "bootstrap over probes (wordings" in paired.method
    assert apart.low is not None and apart.high is not None and apart.high - apart.low > 0
    assert "parametric" in apart.method


def test_probe_scores_of_other_probes_than_the_score_are_not_used(rng: np.random.Generator) -> None:
    table = rng.normal(size=(4, 30))
    found = peak_of(LAYERS, table.mean(axis=1) + 0.1, np.full(4, 0.01), changes(table), 0.95, rng)
    assert "parametric" in found.where.method
    nothing = peak_of(LAYERS, table.mean(axis=1), np.full(4, np.nan), [None] * 4, 0.95, rng)
    assert nothing.draws is None and nothing.where.low is None


def test_spans_are_tested_over_all_pairs_of_behaviors(rng: np.random.Generator) -> None:
    def peak(at: float, sure: bool) -> Peak:
        draws = np.full(4_000, at) if sure else rng.choice(LAYERS, 4_000).astype(float)
        return Peak(where=no_estimate("ok", "", 4, value=at), draws=draws)

    apart, test = span_of({"a": peak(10, True), "b": peak(22, True), "c": peak(14, True)}, 0.95)
    assert (apart.value, apart.low, apart.high) == (12, 12, 12)
    assert test.p == test.floor == pytest.approx(3 * 2 / 4_001)
    near, unsure = span_of({"a": peak(10, False), "b": peak(22, False)}, 0.95)
    assert near.low is not None and near.low < 0
    assert unsure.p == 1.0
    none = Peak(where=no_estimate("ok", "", 4, value=10), draws=None)
    assert span_of({"a": none, "b": peak(22, True)}, 0.95)[1].status == "not enough data"


def test_stored_probe_scores_reach_the_detector(tmp_path: Path, rng: np.random.Generator) -> None:
    path, n = tmp_path / "master.db", 25
    before = {b: rng.normal(0.2, 0.1, size=n) for b in ("factual", "bias")}
    grid = GridWarehouse(path, (), before)
    for layer in (1, 2, 3):
        shift = {"factual": 0.5 * (layer == 2), "bias": 0.5 * (layer == 3)}
        after = {b: before[b] + 0.1 + shift[b] + rng.normal(0, 0.01, size=n) for b in before}
        identity = RunIdentity(kind="steering", model_key=MODEL.key, model_fingerprint=MODEL.fingerprint, seed=0,
                               config={"layer": layer, "alpha": 4.0})  # fmt: skip
        outcome = Outcome(
            uuid=run_uuid(identity), identity=identity, model=MODEL, attempt=1,
            started_at="2026-01-01T00:00:00+00:00", finished_at="2026-01-01T00:01:00+00:00", seconds=60.0,
            provenance=HERE, baseline=grid.baseline, probe_sets=tuple(s.fingerprint for s in grid.sets.values()),
            scores=tuple(ScoreRow(behavior=b, metric="gap", split="eval", value=float(v.mean()), se=0.01, n=n)
                         for b, v in after.items()),
            probe_scores=tuple(row for b, v in after.items() for row in _probe_rows(grid.sets[b], v)),
            family_rows=(SteeringRow(layer=layer, depth=None, alpha=4.0, vector_norm=1.0, steered_behavior="factual",
                                     method="mean difference"),),
        )  # fmt: skip
        with Warehouse.open(path) as wh:
            insert_outcome(wh, outcome, {one.fingerprint: one for one in grid.sets.values()})
    with Warehouse.open(path) as wh:
        with wh.write() as connection:  # the baseline's own scores, which GridWarehouse leaves out without behaviors
            from sqlalchemy import text

            for behavior, values in before.items():
                connection.execute(
                    text(
                        "INSERT INTO behavior_scores (run_id, behavior, metric, split, value, se, n) "
                        "SELECT id, :b, 'gap', 'eval', :v, 0.01, 25 FROM runs WHERE kind = 'baseline'"
                    ),
                    {"b": behavior, "v": float(values.mean())},
                )
        frame = Anomalies().load(wh, StudyOptions())
        assert frame[CHANGES].notna().sum() == 6
        found = answer(wh, Anomalies(), StudyOptions())
        assert found.fingerprint == answer(wh, Anomalies(), StudyOptions()).fingerprint
    peaks = {f.about["behavior"]: f for f in found.result.findings if f.about["detector"] == "layers"}
    assert peaks["factual"].effect.value == 2 and peaks["bias"].effect.value == 3
    assert "wordings resampled" in peaks["factual"].effect.method
    span = peaks["bias / factual"]
    assert span.p is not None and span.p < 0.05
    assert span.verdict == "suggestive" and "random vectors" in span.notes[0]  # none were run
