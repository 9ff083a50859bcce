"""`rhodb analyze quality`: every check over one reading of the warehouse."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from analysis.admission import admit
from analysis.findings import Result
from analysis.looks import RULE, Look, judged
from analysis.panel import Panel, panels
from analysis.quality import measurements, runs, scores
from analysis.quality.old_results import wrong_by_version
from analysis.quality.pooled import pooled_strata
from analysis.query import Conditions, Query, read_sql
from analysis.study import Study, StudyOptions

if TYPE_CHECKING:
    import pandas as pd

Check = Callable[["pd.DataFrame", Panel], list[Look]]
CHECKS: dict[str, Check] = {
    "range": scores.out_of_range,
    "stored for missing": measurements.stored_for_missing,
    "probe counts": measurements.probe_counts,
    "pooled strata": pooled_strata,
    "copies": scores.copies,
    "contradiction": runs.contradictions,
    "places": measurements.places,
    "missing cells": runs.unbalanced,
    "survivorship": runs.survivorship,
    "drift": runs.drift,
    "training": runs.training,
    "train-eval gap": scores.train_eval_gap,
    "seeds": runs.seeds_without_meaning,
    "old results": wrong_by_version,
}


class Quality(Study):
    """What is wrong with the warehouse's rows: impossible scores, pooled strata, copies, gaps, bad training."""

    name = "quality"

    def query(self, options: StudyOptions) -> Query:
        conditions = Conditions()
        conditions.equal("chosen.model", options.model)
        sql = read_sql("quality", where=options.where or "1 = 1", conditions=conditions)
        return Query(sql=sql, parameters=conditions.parameters)

    def compute(self, frame: "pd.DataFrame", options: StudyOptions, rng: np.random.Generator) -> Result:
        if options.behaviors:
            frame = frame[frame["behavior"].isin(options.behaviors) | frame["behavior"].isna()]
        asked = frame["metric"].isin(options.metrics) & (frame["split"] == options.split) & (frame["state"] == "done")
        admitted, messages = admit(frame[asked])
        panel = panels(admitted)
        found = {name: check(frame, panel) for name, check in CHECKS.items()}
        query = self.query(options)
        findings, count = judged([look for looks in found.values() for look in looks], options, query)
        clean = [name for name, looks in found.items() if not looks]
        return Result(
            study=self.name,
            options=asdict(options),
            findings=findings,
            looks=count,
            messages=(*messages, *((f"nothing found by: {', '.join(clean)}",) if clean else ())),
            query=query,
            caption=f"{len(CHECKS)} checks; artefact: a fact about the rows that would mislead an analysis. p adjusted "
            f"over {count} looks. Verdict at alpha {options.alpha:g}: {RULE}.",
        )
