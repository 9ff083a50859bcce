"""Figures of findings: one a detector, with or without samples, as PNG and SVG; titles are the findings."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from analysis import finding_figures
from analysis.anomalies.coupling import CouplingChange
from analysis.anomalies.study import Anomalies
from analysis.figures import canvas
from analysis.finding_figures import draw
from analysis.finding_panels import draw_finding, headline, own_values, title
from analysis.findings import Finding, Group
from analysis.simulate import ablation, built, coupled, freeze, ladders
from analysis.study import StudyOptions


def test_every_detector_with_findings_has_a_figure(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    result = Anomalies().compute(coupled(0.97, -0.97)(rng).frame(), StudyOptions(), rng)
    paths = draw(result, tmp_path / "a b")
    kinds = {finding.about["detector"] for finding in result.findings}
    assert {"coupling", "coupling-change"} <= kinds  # one with samples, one with estimates only
    assert {path.name for path in paths} == {f"anomalies-{kind}.{form}" for kind in kinds for form in ("png", "svg")}
    assert all(path.stat().st_size > 1_000 for path in paths)


def test_a_grid_of_two_axes_is_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    result = Anomalies().compute(built(freeze, error=0.01)(rng).frame(), StudyOptions(), rng)
    assert "anomalies-additivity.svg" in {path.name for path in draw(result, tmp_path)}


def test_titles_are_findings_without_their_p_values() -> None:
    rng = np.random.default_rng(0)
    study = Anomalies([CouplingChange()])
    finding = study.compute(coupled(0.97, -0.97)(rng).frame(), StudyOptions(), rng).findings[0]
    assert headline(finding) and "p =" not in headline(finding)
    assert finding.sentence.startswith(headline(finding))
    assert headline(replace(finding, sentence="Supported: bias, a against b: difference 0.1, Welch p = 0.01.")) == (
        "Supported: bias, a against b: difference 0.1"
    )


def test_the_clearest_findings_are_drawn_first() -> None:
    rng = np.random.default_rng(0)
    findings = Anomalies().compute(coupled(0.97, -0.97)(rng).frame(), StudyOptions(), rng).findings
    chosen = finding_figures._clearest(findings, 4)
    assert chosen[0].verdict == "supported" and len(chosen) == 4
    assert all(
        a.p is None or b.p is None or a.verdict != b.verdict or a.p <= b.p for a, b in itertools.pairwise(chosen)
    )


def drawn(finding: Finding) -> Axes:
    axis = canvas(1)[1][0]
    draw_finding(axis, finding)
    return axis


def points(axis: Axes) -> int:
    """Points drawn by scatter; error bars are line collections."""
    return sum(len(found.get_offsets()) for found in axis.collections if isinstance(found, PathCollection))


def test_every_run_is_a_point_in_every_kind_of_panel() -> None:
    rng = np.random.default_rng(0)
    for build in (built(ablation, cell=0.6), ladders(slope=0.4), coupled(0.97, -0.97), built(freeze, error=0.01)):
        findings = Anomalies().compute(build(rng).frame(), StudyOptions(), rng).findings
        for detector in {f.about["detector"] for f in findings} - {"layers"}:
            finding = next(f for f in findings if f.about["detector"] == detector)
            values = sum(group.n for group in finding.groups)
            assert values and points(drawn(finding)) == (values // 2 if "coupling" in detector else values), detector


def test_titles_are_short_and_the_stratum_stands_below() -> None:
    finding = replace(
        one(), about={"model": "Org/Model-7B", "stratum": "rho-guided λ=0.2 γ=0.1 epochs=1.0 (file_a + file_b)"},
        sentence="Supported: Org/Model-7B, rho-guided λ=0.2 γ=0.1 epochs=1.0 (file_a + file_b): bias moves; p = 0.01.",
    )  # fmt: skip
    assert title(finding) == "Supported: Model-7B, rho-guided λ=0.2 γ=0.1: bias moves"
    assert "file_a + file_b" in drawn(finding).get_xlabel()


def test_points_of_a_difference_of_rates_are_differences() -> None:
    sides = [Group(label=x, seeds=s, values=v, mean=None, sd=None) for x, s, v in (
        ("rho-guided", (1, 2), (0.1, 0.3)), ("baseline", (0,), (0.2,)), ("sft-only", (1, 2), (0.0, 0.1)))]  # fmt: skip
    finding = one()
    assert own_values(replace(finding, groups=(sides[0],))).tolist() == [0.1, 0.3]
    assert own_values(replace(finding, groups=(sides[0], sides[1]))).tolist() == pytest.approx([-0.1, 0.1])
    assert own_values(replace(finding, groups=(sides[0], sides[2]))).tolist() == pytest.approx([0.1, 0.2])


def one() -> Finding:
    rng = np.random.default_rng(0)
    found = Anomalies().compute(built(ablation)(rng).frame(), StudyOptions(), rng).findings
    return next(f for f in found if f.about["detector"] == "geometry")
