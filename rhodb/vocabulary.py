"""The closed sets of words that rhodb uses everywhere: behaviors, metrics, splits, conditions, run states.

This module imports nothing, so that the schema, the command line, runners and analyses share one list.
"""

from typing import Final

EMBEDDED_MODEL: Final = "smollm2-135m"
"""The language model that is there without a network; the default of every run."""

BEHAVIORS: Final = (
    "factual",
    "toxicity",
    "bias",
    "sycophancy",
    "reasoning",
    "refusal",
    "deception",
    "overrefusal",
    "bench",
)

METRICS: Final = {
    "gap": "mean over pairs of CE(negative) - CE(positive), whole texts (nats/token)",
    "answer_gap": "the gap over the answer's tokens only, pairs that share a prompt (nats/token)",
    "rho": "Spearman correlation of confidence and label over all texts of a behavior [-1, 1]",
    "pair_accuracy": "share of pairs with CE(positive) < CE(negative) [0, 1]",
    "auc": "probability that a random positive text has lower CE than a random negative one [0, 1]",
    "truth_corr": "Spearman correlation, over pairs, of the confidences of the two texts [-1, 1]",
    "choice_accuracy": "share of unbiased, truthful or right answers chosen [0, 1]",
    "answer_rate": "share of benign questions answered [0, 1]",
    "accuracy": "share of problems solved in generated text [0, 1]",
    "refusal_rate": "share of prompts refused in generated text [0, 1]",
    "retention": "share of probes on the right side [0, 1]",
    "brier": "Brier score of softmax over a pair's answer log-probabilities [0, 1]",
    "ece": "expected calibration error of the same probabilities [0, 1]",
}
"""Metric name -> meaning and range or unit. A score without one of these names is not stored."""

SIGNED_UNIT_METRICS: Final = ("rho", "truth_corr")
"""Metrics in [-1, 1]."""

UNIT_METRICS: Final = (
    "pair_accuracy",
    "auc",
    "choice_accuracy",
    "answer_rate",
    "accuracy",
    "refusal_rate",
    "retention",
    "brier",
    "ece",
)

SPLITS: Final = ("train", "eval", "none")
"""`none`: the run did not split its probes, so training and evaluation share them (the notes' practice)."""

SIDES: Final = ("positive", "negative")

CONDITIONS: Final = ("sft-only", "rho-guided", "contrastive-only", "shuffled-pairs")

RUN_STATES: Final = ("planned", "running", "done", "failed")

RUN_ORIGINS: Final = ("rhodb", "legacy")
"""Who made a run: one of rhodb's runners, or another program whose result file was ingested."""

RUN_KINDS: Final = (
    "baseline",
    "alignment",
    "freeze",
    "cf90",
    "steering",
    "attack_defense",
    "hybrid",
    "leaderboard",
    "fidelity",
    "stress",
    "landscape",
)

STRESS_CONDITIONS: Final = ("baseline", *CONDITIONS)
"""What answers the prompts of a stress test: the untouched model or one trained under a condition."""

FAMILY_TABLES: Final = {
    "alignment": "alignment_runs",
    "freeze": "freeze_sweep",
    "cf90": "cf90_multiseed",
    "steering": "steering_heatmap",
    "attack_defense": "attack_defense",
    "hybrid": "hybrid_sweep",
    "leaderboard": "leaderboard",
    "fidelity": "fidelity_bench",
    "stress": "stress_tests",
    "landscape": "probe_landscapes",
}
"""Kind of run -> table with one row a finished run. Baselines have none."""

HYPOTHESIS_KINDS: Final = ("difference", "equivalence", "non-inferiority")
"""What a registered hypothesis claims of two arms, or of an arm and the baseline."""
DIRECTIONS: Final = ("greater", "less", "different")
FUTILITIES: Final = ("none", "non-binding", "binding")
PROCEDURES: Final = ("holm", "ordered")
STOPPING_RULES: Final = ("group-sequential", "any-time")
SPENDINGS: Final = ("pocock", "obrien-fleming")
DECISIONS: Final = ("open", "supported", "refuted", "undecided")
