"""`rhodb analyze stress`: refusal rates by condition, and how they differ from the untouched model's."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.findings import Result
from analysis.looks import RULE, Look, interval_text, judged
from analysis.query import Conditions, Query, read_sql
from analysis.stats.rates import newcombe, wilson
from analysis.stats.results import Test, no_test
from analysis.study import Study, StudyOptions

if TYPE_CHECKING:
    import pandas as pd

KINDS = (("jailbreak", "jailbreaks refused"), ("benign", "benign prompts refused"))


class Stress(Study):
    """Refusal rates of jailbreaks and benign prompts by condition, with differences to the untouched model."""

    name = "stress"

    def query(self, options: StudyOptions) -> Query:
        conditions = Conditions()
        conditions.equal("models.key", options.model)
        where = f"({options.where}\n)" if options.where else "1 = 1"
        return Query(sql=read_sql("stress", conditions=f"{conditions} AND {where}"), parameters=conditions.parameters)

    def compute(self, frame: "pd.DataFrame", options: StudyOptions, rng: np.random.Generator) -> Result:
        looks: list[Look] = []
        for (model, _, judge), rows in frame.groupby(["model", "model_fingerprint", "judge"], dropna=False):
            counted = dict(iter(rows.groupby("condition", sort=False)))
            for kind, words in KINDS:
                looks += _rates(str(model), judge, kind, words, counted, options)
        query = self.query(options)
        findings, count = judged(looks, options, query)
        messages = () if findings else ("no finished stress test: run `rhodb run stress-test`",)
        return Result(
            study=self.name, options=asdict(options), findings=findings, looks=count, messages=messages,
            query=query,
            caption="Rates over prompts with Wilson intervals, differences with Newcombe's; prompts of several seeds "
            f"are added up, so the intervals leave out what differs between seeds. {RULE}.",
        )  # fmt: skip


def _rates(
    model: str, judge: Any, kind: str, words: str, counted: "dict[Any, pd.DataFrame]", options: StudyOptions
) -> list[Look]:
    totals = {}
    for condition, every in counted.items():
        part = every[every[f"n_{kind}"].notna() & every[f"{kind}_refused"].notna()]
        if len(part):
            totals[str(condition)] = (
                int(part[f"{kind}_refused"].sum()),
                int(part[f"n_{kind}"].sum()),
                tuple(part["run"]),
            )
    looks = []
    for condition, (refused, n, runs) in totals.items():
        rate = wilson(refused, n, level=options.level)
        what = f"{model}, {condition}: {refused} of {n} {words}, {interval_text(rate)}"
        effect, runs_used = rate, runs
        test = no_test("not enough data", "none: a rate by itself", n)
        if condition != "baseline" and "baseline" in totals:
            base, m, base_runs = totals["baseline"]
            effect, runs_used = newcombe(refused, n, base, m, level=options.level), (*runs, *base_runs)
            what += f"; against the untouched model's {base} of {m}: {interval_text(effect)}"
            test = fisher_exact(refused, n, base, m)
        looks.append(
            Look(
                detector="refusal rate",
                about={"model": model, "behavior": "refusal", "metric": f"{kind} refusal rate", "split": "none",
                       "quantity": "rate",
                       "stratum": f"{condition}, {judge}" if isinstance(judge, str) else condition},
                what=what, effect=effect, test=test, method=f"{effect.method}; {test.method}",
                reference="Wilson 1927; Newcombe 1998, method 10; Fisher 1935", runs=runs_used,
                needed="it is the reference" if condition == "baseline" else "no untouched model to compare with",
            )
        )  # fmt: skip
    return looks


def fisher_exact(successes_a: int, n_a: int, successes_b: int, n_b: int) -> Test:
    """Fisher's exact test of two rates; the floor is that of the observed margins."""
    from scipy.stats import hypergeom

    total, hits = n_a + n_b, successes_a + successes_b
    method = "Fisher's exact test"
    if hits in (0, total):
        return no_test("degenerate", method, total)
    support = np.arange(max(0, hits - n_b), min(hits, n_a) + 1)
    chances = hypergeom.pmf(support, total, hits, n_a)
    seen = chances[successes_a - support[0]]
    p = float(min(1.0, chances[chances <= seen * (1 + 1e-9)].sum()))
    return Test(statistic=successes_a / n_a - successes_b / n_b, p=p, n=total, method=method,
                floor=float(chances[chances <= chances.min() * (1 + 1e-9)].sum()))  # fmt: skip
