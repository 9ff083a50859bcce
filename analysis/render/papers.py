"""The numbers of an effect as papers print them, in words and as columns of a CSV line."""

from dataclasses import asdict

from analysis.findings import Finding, as_papers_print
from analysis.verdicts import p_text

HEADLINE = "As papers print it (two-sided, not corrected):"


def lines(finding: Finding) -> list[str]:
    """For people: which convention gives which number; empty where the finding is no effect between two groups."""
    said = sentences(finding)
    return [HEADLINE, *(f"  {sentence}" for sentence in said)] if said else []


def sentences(finding: Finding) -> list[str]:
    """One a convention; those that are not defined are left out."""
    found = as_papers_print(finding)
    if found is None:
        return []
    seeds = f"{found.pairs} seeds that both have"
    told = [
        ("Cohen's d (pooled SD)", found.cohens_d, None, None),
        ("Student's t", found.student_t, found.student_df, found.student_p),
        ("Welch's t", found.welch_t, found.welch_df, found.welch_p),
        (f"paired t over {seeds}", found.paired_t, found.paired_df, found.paired_p),
        (f"Cohen's d_z over {seeds}", found.cohens_dz, None, None),
        (f"Wilcoxon's W over {seeds}", found.wilcoxon_w, None, found.wilcoxon_p),
        ("d and p as the notes have them (mean of the variances, Student)", found.notes_d, None, found.notes_p),
    ]
    return [_sentence(name, value, df, p) for name, value, df, p in told if value is not None]


def columns(finding: Finding) -> dict[str, object]:
    """Columns of a CSV line; Welch's p stands there already."""
    found = as_papers_print(finding)
    return {} if found is None else {key: value for key, value in asdict(found).items() if key != "welch_p"}


def _sentence(name: str, value: float, df: float | None, p: float | None) -> str:
    return (
        f"{name}: {value:.4g}"
        + (f", df {df:.4g}" if df is not None else "")
        + (f", p {p_text(p)}" if p is not None else "")
    )
