"""How a quality check says what it found."""

from collections.abc import Callable, Sequence

from analysis.findings import Group, Verdict
from analysis.looks import Look
from analysis.stats.results import Test, no_estimate, no_test


def flag(
    check: str,
    *,
    model: str,
    what: str,
    why: str,
    size: float,
    size_is: str,
    n: int,
    runs: Sequence[str],
    behavior: str = "",
    metric: str = "",
    stratum: str = "",
    test: Test | None = None,
    groups: tuple[Group, ...] = (),
    fixed: Verdict | None = "artefact",
    reference: str = "",
    seeds_for: Callable[[float], str] | None = None,
) -> Look:
    """A look of one check; `fixed` None leaves the verdict to the test."""
    return Look(
        detector=check,
        about={"model": model, "behavior": behavior, "metric": metric, "split": "", "quantity": "value",
               "stratum": stratum},
        what=what,
        effect=no_estimate("ok", size_is, n, value=size),
        test=test or no_test("not enough data", "none: a fact about the rows", n),
        method=f"{check}: {size_is}",
        reference=reference,
        groups=groups,
        runs=tuple(runs),
        fixed=fixed,
        why=why,
        seeds_for=seeds_for,
    )  # fmt: skip


def listed(names: Sequence[object], most: int = 4) -> str:
    """Names in words, at most a few."""
    shown = ", ".join(map(str, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
