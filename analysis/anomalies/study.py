"""`rhodb analyze anomalies`: all detectors over one reading of the warehouse, corrected together."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from analysis.admission import admit
from analysis.anomalies import load_detectors
from analysis.anomalies.base import Data, Detector
from analysis.anomalies.peaks import with_probe_changes
from analysis.design import Declared, Gate
from analysis.findings import Result
from analysis.looks import RULE, Look, interval_text, judged
from analysis.memo import of_last_frame
from analysis.panel import panels
from analysis.query import Conditions, Query, read_sql
from analysis.stats.agreement import seed_icc
from analysis.study import Study, StudyOptions
from analysis.verdicts import p_text

if TYPE_CHECKING:
    import pandas as pd

    from rhodb.warehouse import Warehouse


TARONE = (
    "Holm over the K of them that can reach alpha / K: an exact test whose smallest possible p is larger cannot be "
    "rejected, whatever the data, and is not paid for, Tarone 1990"
)


class Anomalies(Study):
    """Patterns that stand out, and what makes them: ten detectors, corrected together for all their looks."""

    name = "anomalies"

    def __init__(self, detectors: list[Detector] | None = None) -> None:
        self.detectors = load_detectors() if detectors is None else detectors

    def query(self, options: StudyOptions) -> Query:
        return family_query(options)

    def load(self, wh: "Warehouse", options: StudyOptions) -> "pd.DataFrame":
        """The rows of `query`; beside the scores of steering runs those of their single probes."""
        return with_probe_changes(wh, super().load(wh, options), options)

    def compute(self, frame: "pd.DataFrame", options: StudyOptions, rng: np.random.Generator) -> Result:
        data = data_of(frame)
        del frame  # what is done with is let go of: of 50,000 runs the rows take 120 MiB, the looks 300
        found = [look for detector in self.detectors for look in detector.detect(data, options, rng)]
        looks, refused = held_to(data.gate, {d.name: d.design for d in self.detectors}, found)
        left_out = [text for detector in self.detectors for text in detector.left_out(data)]
        messages = list(dict.fromkeys([*data.panel.messages, *refused, *left_out]))
        del found, data
        query = self.query(options)
        findings, count = judged(looks, options, query)
        if not findings:
            messages.append(
                f"nothing to look at for metric {', '.join(options.metrics)}, split {options.split}: the detectors "
                "need runs of several seeds, doses, conditions or layers"
            )
        return Result(
            study=self.name,
            options=asdict(options),
            findings=findings,
            looks=count,
            messages=tuple(messages),
            query=query,
            caption=caption(options, count, len(self.detectors)),
        )


def family_query(options: StudyOptions) -> Query:
    """The SELECT over the runs of all families; other families than alignment come with all their metrics."""
    conditions = Conditions()
    conditions.equal("chosen.model", options.model)
    conditions.equal("score.split", options.split)
    conditions.among("score.behavior", options.behaviors)
    metrics = {f"metric_{i}": metric for i, metric in enumerate(options.metrics, 1)}
    asked = f"(chosen.kind <> 'alignment' OR score.metric IN ({', '.join(':' + name for name in metrics)}))"
    sql = read_sql("anomalies", where=options.where or "1 = 1", conditions=f"{conditions}\n  AND {asked}")
    return Query(sql=sql, parameters=conditions.parameters | metrics)


@of_last_frame
def data_of(frame: "pd.DataFrame") -> Data:
    """The panel of alignment runs, and the other families' rows, of what the gate admits."""
    frame, messages = admit(frame)
    steering, freeze = frame[frame["kind"] == "steering"], grid_rows(frame)
    tuned = {config: json.loads(config).get("fine_tuned") for config in freeze["config"].unique()}
    freeze["fine_tuned"] = freeze["config"].map(tuned).astype(float)
    panel = panels(frame)
    panel.messages[:0] = messages
    return Data(panel=panel, steering=steering, freeze=freeze, gate=Gate(frame))


def grid_rows(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Freeze sweeps and hybrids. At λ = 0 a margin has no effect: it is then that of the others, where they agree."""
    rows = frame[frame["kind"].isin(("freeze", "hybrid"))].copy()
    margins = rows.loc[rows["rho_weight"] > 0, "margin"].unique()
    if len(margins) == 1:
        rows.loc[rows["rho_weight"] == 0, "margin"] = margins[0]
    return rows


def held_to(gate: Gate, designs: Mapping[str, Declared], looks: Sequence[Look]) -> tuple[list[Look], list[str]]:
    """The looks that hold to their detector's declared design; what was refused, one sentence a detector and reason."""
    kept, messages = [], []
    for name, design in designs.items():
        own = [look for look in looks if look.detector == name]
        passed, refused = gate.enforce(design, own)
        held = passed if design.seeds == "replicates" else [with_seed_icc(look) for look in passed]
        raised = sum(look is not before and _p(look) > _p(before) for look, before in zip(held, passed, strict=True))
        kept += held
        messages += [f"{count} looks of {name} are refused: {why}" for why, count in refused.items()]
        if raised:
            messages.append(
                f"{raised} looks of {name} take out an effect of seeds that cannot be told: they have to hold without "
                "it as well, which raises their p"
            )
    return kept, messages


def _p(look: Look) -> float:
    return 0.0 if look.test.p is None else look.test.p


def with_seed_icc(look: Look) -> Look:
    """Whether seeds carry an effect, beside a look that sets values of one seed against each other.

    Where they carry none that can be told and are blocks, the larger p of the tests with and without blocks counts:
    never less than the p of the test that the design fixed, so that the check costs nothing of the error level.
    """
    table = look.blocks
    if look.unblocked is None and len({group.seeds for group in look.groups}) == 1:
        table = np.array([group.values for group in look.groups])
    if table is None:
        return look
    icc = seed_icc(table)
    if icc.p is None or icc.effect is None:
        return look
    carry = icc.p <= 1 - icc.effect.level
    words = "carry an effect of their own" if carry else "carry no effect that can be told"
    note = f"seed ICC {interval_text(icc.effect)}, F test p = {p_text(icc.p)}: over these strata seeds {words}"
    look = replace(look, notes=(*look.notes, note))
    if carry or look.unblocked is None or look.test.p is None:
        return look
    without = look.unblocked()
    if without.p is None:
        return look
    note = f"with seeds as blocks p = {p_text(look.test.p)}, without p = {p_text(without.p)}: the larger counts"
    larger = look.test if look.test.p >= without.p else without
    return replace(look, test=larger, notes=(*look.notes, note))


def caption(options: StudyOptions, count: int, detectors: int) -> str:
    """How to read the table."""
    names = {"holm": TARONE, "bh": "Benjamini-Hochberg", "none": "not adjusted"}
    return (
        f"{detectors} kinds of look; split {options.split}; p adjusted over all {count} looks of the call "
        f"({names[options.correction]}). Headlines (supported, suggestive) say what leaving out any one seed does. "
        f"Verdict at alpha {options.alpha:g}: {RULE}."
    )
