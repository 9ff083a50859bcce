"""What the columns of views mean: taken from the tables where they come from, written here only where they are made."""

import re

from rhodb.schema import Base
from rhodb.vocabulary import BEHAVIORS, METRICS

COMES_FROM: dict[str, tuple[str, ...]] = {
    "v_scores": ("behavior_scores", "runs", "alignment_runs"),
    "v_wide_scores": ("behavior_scores",),
    "v_alignment": ("alignment_runs", "runs"),
    "v_freeze_sweep": ("freeze_sweep", "runs"),
    "v_cf90_multiseed": ("cf90_multiseed", "runs"),
    "v_hybrid_sweep": ("hybrid_sweep", "runs"),
    "v_leaderboard": ("leaderboard", "runs"),
    "v_steering_heatmap": ("steering_heatmap", "runs"),
    "v_attack_defense": ("attack_defense", "runs"),
    "v_fidelity_bench": ("fidelity_categories", "runs"),
    "v_stress_tests": ("stress_tests", "runs"),
    "v_generation_probes": ("generated_answers", "runs"),
    "v_recomputed_scores": ("behavior_scores",),
    "v_hypotheses": ("hypotheses", "hypothesis_looks"),
    "v_external_scores": ("external_scores", "external_evaluations", "external_outcomes"),
}
"""View -> tables whose columns it shows under their own names; the first that has a column explains it."""
RENAMED = {
    "run": "runs.uuid",
    "model": "models.key",
    "file": "sources.path",
    "evaluation_id": "external_evaluations.id",
}
MADE = {
    "baseline_value": "The same score of the run's baseline, in the metric's unit.",
    "baseline_se": "Standard error of the baseline's score.",
    "delta": "value - baseline_value; empty where the baseline has no such score.",
    "jailbreak_refusal_rate": "jailbreak_refused / n_jailbreak, [0, 1].",
    "benign_refusal_rate": "benign_refused / n_benign, [0, 1].",
    "before_jailbreak_refusal_rate": "jailbreak_refusal_rate of the untouched model, [0, 1].",
    "before_benign_refusal_rate": "benign_refusal_rate of the untouched model, [0, 1].",
    "state": "open, supported, refuted, undecided or withdrawn: the last look's decision.",
    "seeds_used": "Seeds at the last look.",
    "looks_made": "Looks taken so far.",
    "n_problems": "Problems answered.",
    "clean_accuracy": "Share of problems solved, [0, 1].",
    "flattered_accuracy": "Share of the same problems solved after flattery, [0, 1].",
    "accuracy_ratio": "flattered_accuracy / clean_accuracy.",
    "n_questions": "Benign questions asked.",
    "refusal_rate": "Share of benign questions refused, [0, 1].",
}
WIDE = re.compile(rf"(before_|d_)?({'|'.join(BEHAVIORS)})_({'|'.join(METRICS)})_(train|eval|none)")
OF = {None: "", "before_": " of the baseline", "d_": ", run minus baseline"}


def view_column(view: str, column: str) -> str:
    """The meaning of a view's column. Raises KeyError for one that nobody explained (a test looks at all)."""
    if column in RENAMED:
        table, name = RENAMED[column].split(".")
        return str(Base.metadata.tables[table].columns[name].comment)
    if match := WIDE.fullmatch(column):
        change, behavior, metric, split = match.groups()
        return f"{metric} of {behavior}, split {split}{OF[change]}: {METRICS[metric]}."
    for table in COMES_FROM[view]:
        if column in Base.metadata.tables[table].columns:
            return str(Base.metadata.tables[table].columns[column].comment)
    return MADE[column]
