"""Figures of findings: one a detector, with or without samples, as PNG and SVG; titles are the findings."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np

from analysis import finding_figures
from analysis.anomalies.coupling import CouplingChange
from analysis.anomalies.study import Anomalies
from analysis.finding_figures import draw
from analysis.finding_panels import headline
from analysis.simulate import built, coupled, freeze
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
