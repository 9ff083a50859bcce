"""A finding as one row of short texts, shared by the table and the Markdown rendering."""

from analysis.findings import Estimate, Finding, Group
from analysis.verdicts import p_text

DASH = "—"


def headers(level: float) -> list[str]:
    """Column titles; `level` is the coverage of the intervals."""
    interval = f"[{100 * level:g} %]"
    return [
        "#", "behavior", "metric", "a − b", "a: mean ± SD (n)", "b: mean ± SD (n)", f"difference {interval}",
        f"g {interval}", "Welch p (adj.)", "exact p (floor)", "p, one seed out", "verdict",
    ]  # fmt: skip


def row(finding: Finding) -> list[str]:
    """The finding's cells, in the order of `headers`."""
    a, b = finding.groups[:2]
    welch, exact = finding.tests[:2]
    delta = "Δ " if finding.about["quantity"] == "delta" else ""
    return [
        str(finding.number),
        finding.about["behavior"],
        delta + finding.about["metric"],
        f"{finding.about['a']} − {finding.about['b']}",
        group(a),
        group(b),
        estimate(finding.effect),
        estimate(finding.standardised),
        with_second(welch.p, welch.p_adjusted),
        with_second(exact.p, exact.floor),
        DASH if finding.robustness is None else f"≤ {p_text(finding.robustness.largest_p)}",
        finding.verdict,
    ]


def group(value: Group) -> str:
    if value.mean is None:
        return DASH
    spread = "" if value.sd is None else f" ± {value.sd:.3g}"
    return f"{value.mean:.3g}{spread} ({value.n})"


def estimate(value: Estimate) -> str:
    if value.value is None:
        return DASH
    if value.low is None or value.high is None:
        return f"{value.value:.3g} [{DASH}]"
    return f"{value.value:.3g} [{value.low:.3g}, {value.high:.3g}]"


def with_second(p: float | None, second: float | None) -> str:
    """A p with another number in parentheses: the adjusted p, or the smallest possible one."""
    return DASH if p is None or second is None else f"{p_text(p)} ({p_text(second)})"
