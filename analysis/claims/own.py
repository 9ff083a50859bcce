"""What this warehouse's own runs say about a claim: the same experiment, or the method on another model.

Column `own` of a claim says how: `effect=BEHAVIOR; a=CONDITION; b=CONDITION; sign=+`, `dose=BEHAVIOR; sign=+`,
`margin=BEHAVIOR; sign=-`, `rates=A, B; sign=+`, `benign=CONDITION`, `same=KIND; model=...; behavior=...`,
`landscape=QUANTITY; behavior=...`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.arms import Arm, from_runs, one
from analysis.claims.claim import Claim
from analysis.claims.outcome import OwnRuns, Speaks
from analysis.claims.same import agrees, same_experiment
from analysis.findings import Finding
from analysis.gamma.inputs import DEFAULT
from analysis.query import Conditions, read_sql
from analysis.stats.intervals import mean_interval
from analysis.stats.multiplicity import holm
from analysis.stress_strata import arms_of, strata_of
from analysis.study import StudyOptions
from rhodb.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    import pandas as pd

    from rhodb.warehouse import Warehouse

EMBEDDING = "minilm-l6-v2"
"""Part of the key of the notes' embedding model."""
ALPHA = 0.05
SHOWN = 2
"""Comparisons that a sentence lists."""


class Own:
    """The warehouse's studies, each run once for all claims, and only as far as these ask."""

    def __init__(self, wh: "Warehouse", published: Mapping[str, float], claims: Sequence[Claim]) -> None:
        """`published`: primary probes of each behavior in the notes' landscape; `claims`: those it is asked about."""
        self.wh = wh
        self.notes_probes = dict(published)
        self._compared = {
            (own["effect"], frozenset((own["a"], own["b"]))) for claim in claims if "effect" in (own := claim.own)
        }

    def about(self, claim: Claim) -> OwnRuns | None:
        """What the warehouse says; None where it holds nothing of the kind. Raises InputError for an unknown way."""
        ways: dict[str, Callable[[Claim], OwnRuns | None]] = {
            "effect": self._effect, "dose": self._dose, "margin": self._margin, "rates": self._rates,
            "benign": self._benign, "same": self._same, "landscape": self._landscape,
        }  # fmt: skip
        way = next(iter(claim.own))
        if way not in ways:
            raise UnknownNameError("way to ask the warehouse's own runs", way, tuple(ways))
        return ways[way](claim)

    @cached_property
    def split(self) -> str:
        """eval, but none where no score rests on an eval split."""
        there = self.wh.rows("SELECT EXISTS (SELECT 1 FROM behavior_scores WHERE split = 'eval') AS known")
        return "eval" if there and there[0]["known"] else "none"

    @property
    def options(self) -> StudyOptions:
        """Uncorrected: a claim printed before is a planned comparison; those that fit it are corrected together."""
        return StudyOptions(split=self.split, correction="none")

    @cached_property
    def scores(self) -> "pd.DataFrame":
        """The rows behind effects and margins."""
        from analysis.effects import Effects

        return Effects().load(self.wh, self.options)

    @cached_property
    def effects(self) -> tuple[Finding, ...]:
        from analysis.effects import Effects

        study = Effects(self._compared)
        return study.compute(self.scores, self.options, np.random.default_rng(self.options.seed)).findings

    @cached_property
    def doses(self) -> tuple[Finding, ...]:
        from analysis.anomalies.dose import DoseTrend
        from analysis.summaries import DoseResponse

        return DoseResponse((DoseTrend(),)).run(self.wh, self.options).findings

    @cached_property
    def stress(self) -> tuple[Finding, ...]:
        from analysis.stress import Stress

        return Stress().run(self.wh, self.options).findings

    def _effect(self, claim: Claim) -> OwnRuns | None:
        behavior, a, b = claim.own["effect"], claim.own["a"], claim.own["b"]
        found = []
        for finding in self.effects:
            sides = [_condition(finding.about[side]) for side in ("a", "b")]
            if finding.about["behavior"] == behavior and sorted(sides) == sorted((a, b)):
                found.append((finding, 1.0 if sides == [a, b] else -1.0))
        return _from_findings(found, f"Δ {behavior} of {a} minus {b}", claim.own["sign"])

    def _dose(self, claim: Claim) -> OwnRuns | None:
        behavior = claim.own["dose"]
        found = [(finding, 1.0) for finding in self.doses if finding.about.get("behavior") == behavior]
        return _from_findings(found, f"Δ {behavior} from the smallest to the largest λ", claim.own["sign"])

    def _rates(self, claim: Claim) -> OwnRuns | None:
        a, b = (part.strip() for part in claim.own["rates"].split(","))
        if b != "baseline":
            raise InputError(f"own rates are compared with the baseline only, not with {b}")
        found = [
            (finding, 1.0) for finding in self.stress
            if "jailbreak" in finding.about["metric"] and _condition(finding.about["stratum"]) == a
        ]  # fmt: skip
        return _from_findings(found, f"jailbreak refusal of {a} minus baseline", claim.own["sign"])

    def _benign(self, claim: Claim) -> OwnRuns | None:
        condition = claim.own["benign"]
        heads = self.wh.frame(read_sql("stress", conditions="1 = 1")).drop_duplicates("run")
        heads = heads[(heads["condition"] == condition) & heads["n_benign"].notna() & heads["benign_refused"].notna()]
        counts: dict[str, tuple[int, int]] = {}
        for (model, _, judge), rows in heads.groupby(["model", "model_fingerprint", "judge"], dropna=False):
            for name, runs in arms_of(strata_of(rows)).items():
                own = rows[rows["run"].isin(runs)]
                label = " ".join([str(model), *([name] if name != condition else []), *([str(judge)] if judge else [])])
                counts[label] = int(own["benign_refused"].sum()), int(own["n_benign"].sum())
        if not counts:
            return None
        listed = "; ".join(f"{label}: {refused} of {n}" for label, (refused, n) in counts.items())
        total = sum(refused for refused, _ in counts.values())
        return OwnRuns(
            speaks="against" if total else "undecided", same_experiment=False,
            text=f"Benign prompts refused by this warehouse's own {condition} models: {listed}.",
            numbers={"refused": float(total), "n": float(sum(n for _, n in counts.values()))},
        )  # fmt: skip

    @cached_property
    def grid(self) -> tuple[str, tuple[Arm, ...]]:
        found = from_runs(self.scores)
        return ("", ()) if found is None else (found.model, found.arms)

    def _margin(self, claim: Claim) -> OwnRuns | None:
        """The score (before plus Δ) of a behavior at γ 0 and at the default margin.

        `sign=-` claims that the first is negative and the second is not; `sign=+` that the second is positive.
        """
        behavior = claim.own["margin"]
        model, arms = self.grid
        found = {
            gamma: one(arms, gamma=gamma, weight=DEFAULT.weight, behavior=behavior) for gamma in (0.0, DEFAULT.gamma)
        }
        scores = {
            gamma: mean_interval([value + arm.baseline for value in arm.values.values()])
            for gamma, arm in found.items()
            if arm is not None and arm.values is not None and arm.baseline is not None
        }
        needed = (0.0, DEFAULT.gamma) if claim.own["sign"] == "-" else (DEFAULT.gamma,)
        if any(gamma not in scores for gamma in needed):
            return None
        signs = {gamma: _sign(scores[gamma].low, scores[gamma].high) for gamma in needed}
        wanted = {0.0: -1, DEFAULT.gamma: 1}
        speaks: Speaks = "undecided"
        if all(signs[gamma] == wanted[gamma] for gamma in needed):
            speaks = "for"
        elif any(signs[gamma] == -wanted[gamma] for gamma in needed):
            speaks = "against"
        told = "; ".join(
            f"γ {gamma:g}: {scores[gamma].value or 0.0:+.4f}{_span(scores[gamma].low, scores[gamma].high)}"
            for gamma in needed
        )
        return OwnRuns(
            speaks=speaks, same_experiment=False,
            text=f"{_words(speaks)} {behavior} score ({model}, {scores[needed[0]].n} seeds) at {told}.",
            numbers={f"{behavior} score at γ {gamma:g}": scores[gamma].value or 0.0 for gamma in needed},
            runs=tuple(run for gamma in needed if (arm := found[gamma]) is not None for run in arm.inputs),
        )  # fmt: skip

    def _same(self, claim: Claim) -> OwnRuns | None:
        own = claim.own
        conditions = Conditions()
        for column in ("condition", "rho_weight", "margin"):
            value = own.get(column)
            if value is not None and not (own.get("condition") == "sft-only" and column != "condition"):
                conditions.equal(f"scores.{column}", value if column == "condition" else float(value))
        sql = read_sql("claims_same", conditions=conditions)
        rows = self.wh.rows(
            sql, kind=own["same"], model=own["model"], behavior=own["behavior"], **conditions.parameters
        )
        column = "value" if own.get("quantity") == "after" or own["same"] == "baseline" else "delta"
        return same_experiment(claim, rows, column)

    @cached_property
    def landscape(self) -> Any:
        """The notes' partition, or None where the warehouse has none of the notes' probes and embedding model."""
        from analysis.landscape.load import LandscapeOptions, load_landscape

        if not self.wh.rows("SELECT 1 FROM runs WHERE kind = 'landscape' AND state = 'done' LIMIT 1"):
            return None
        try:
            try:
                found = load_landscape(self.wh, LandscapeOptions(order="file"))  # the notes'
            except InputError:
                found = load_landscape(self.wh, LandscapeOptions())
        except InputError:  # other thresholds only
            return None
        models = self.wh.rows(
            "SELECT models.key AS model FROM runs JOIN models ON models.id = runs.model_id WHERE runs.uuid = :run",
            run=found.main.run,
        )
        primary = found.texts[found.texts["variant"] == "primary"]["behavior"].value_counts().to_dict()
        same = {str(name): float(count) for name, count in primary.items()} == self.notes_probes
        return found if same and models and EMBEDDING in models[0]["model"].lower() else None

    @cached_property
    def landscape_rows(self) -> dict[str, dict[Any, Mapping[str, Any]]]:
        from analysis.landscape import report

        def by_behavior(rows: Sequence[Mapping[str, Any]]) -> dict[Any, Mapping[str, Any]]:
            return {row["behavior"]: row for row in rows}

        pairs = report.entanglement_table(self.landscape).rows
        return {
            "behaviors": by_behavior(report.behavior_table(self.landscape).rows),
            "scorecard": by_behavior(report.scorecard_table(self.landscape).rows),
            "pairs": {"~".join(sorted((row["a"], row["b"]))): row for row in pairs},
        }

    def _landscape(self, claim: Claim) -> OwnRuns | None:
        if self.landscape is None:
            return None
        quantity, behavior = claim.own["landscape"], claim.own.get("behavior", "")
        places: dict[str, Callable[[], Any]] = {
            "nodes": lambda: len(self.landscape.texts),
            "cross": lambda: _cross(self.landscape),
            "probes": lambda: self.landscape_rows["behaviors"][behavior]["probes"],
            "isolation": lambda: 100 * self.landscape_rows["behaviors"][behavior]["isolation"],
            "redundancy": lambda: self.landscape_rows["behaviors"][behavior]["redundancy"],
            "partners": lambda: self.landscape_rows["scorecard"][behavior]["partners"],
            "needed": lambda: self.landscape_rows["scorecard"][behavior]["needed"],
            "entangled": lambda: self.landscape_rows["pairs"]["~".join(sorted(claim.own["pair"].split("~")))]["texts"],
        }
        if quantity not in places:
            raise UnknownNameError("quantity of the landscape", quantity, tuple(places))
        try:
            value = float(places[quantity]())
        except KeyError:  # other probes: not the notes' landscape
            return None
        return OwnRuns(
            speaks="for" if agrees(claim, value) else "against", same_experiment=True, numbers={"here": value},
            runs=(self.landscape.main.run,),
            text=f"The landscape of the same {sum(self.notes_probes.values()):.0f} probes here gives {value:.4g}.",
        )  # fmt: skip


def _cross(landscape: Any) -> int:
    from analysis.landscape.tables import cross_clusters

    return len(cross_clusters(landscape.partition(landscape.main)))


def _condition(label: str) -> str:
    """The condition at the beginning of a stratum's label."""
    return label.replace(",", " ").split(" ", 1)[0]


def _from_findings(found: Sequence[tuple[Finding, float]], what: str, sign: str) -> OwnRuns | None:
    """What the comparisons that fit a claim say together, Holm-corrected among themselves.

    For where some are supported in the claimed direction and none in the other; against the reverse.
    `found`: a finding, and -1 where its two sides stand in the other order.
    """
    known = [(finding, turn) for finding, turn in found if finding.effect.value is not None]
    if not known:
        return None
    p_values = [1.0 if finding.p is None else finding.p for finding, _ in known]
    adjusted = holm(np.array(p_values)).tolist()
    # By the unadjusted p as well: adjusted, many are 1.
    ranked = [(item, p) for p, _, item in sorted(zip(adjusted, p_values, known, strict=True), key=lambda row: row[:2])]
    decided = {
        _effect_sign(finding, turn, sign)
        for (finding, turn), p in ranked
        if finding.verdict == "supported" and p < ALPHA
    }
    speaks: Speaks = "undecided" if len(decided) != 1 else "for" if decided == {1.0} else "against"
    several = len(ranked) > 1
    told = "; ".join(_told(finding, turn, p, name_strata=several) for (finding, turn), p in ranked[:SHOWN])
    more = f" (and {len(ranked) - SHOWN} more comparisons)" if len(ranked) > SHOWN else ""
    first, turn = ranked[0][0]
    return OwnRuns(
        speaks=speaks, same_experiment=False, text=f"{_words(speaks)} {what} {told}{more}.",
        numbers={what: turn * (first.effect.value or 0.0), "p, Holm": ranked[0][1], "comparisons": float(len(ranked))},
        runs=tuple(run for (finding, _), _ in ranked[:SHOWN] for run in finding.evidence.runs),
    )  # fmt: skip


def _effect_sign(finding: Finding, turn: float, sign: str) -> float:
    """1 in the claimed direction, -1 in the other."""
    return math.copysign(1.0, turn * (finding.effect.value or 0.0)) * (1.0 if sign == "+" else -1.0)


def _told(finding: Finding, turn: float, p: float, *, name_strata: bool) -> str:
    """The effect of one comparison; of several, each with its strata."""
    about = finding.about
    place = f": {about['a']} against {about['b']}" if "a" in about else f": {about.get('stratum', '')}"
    ends = sorted(turn * end for end in (finding.effect.low, finding.effect.high) if end is not None)
    span = _span(*ends) if len(ends) == 2 else ""
    seeds = f", {min(group.n for group in finding.groups)} seeds" if finding.groups else ""
    value = turn * (finding.effect.value or 0.0)
    return f"{value:+.3g}{span}, p {p:.2g} ({about['model']}{place if name_strata else ''}{seeds})"


def _sign(low: float | None, high: float | None) -> int:
    """Of a whole interval; 0 where it holds zero or is not known."""
    if low is None or high is None or low <= 0 <= high:
        return 0
    return 1 if low > 0 else -1


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" [{low:+.3g}, {high:+.3g}]"


def _words(speaks: Speaks) -> str:
    word = {"for": "support it", "against": "contradict it", "undecided": "do not decide it"}[speaks]
    return f"This warehouse's own runs {word}, as far as it is about the method:"
