"""A result as JSON, CSV or Markdown text, and the evidence of one finding."""

import csv
import io
import json
from collections.abc import Iterator

from analysis.findings import Finding, Result
from analysis.query import literal
from analysis.render import looks, papers
from analysis.render.cells import headers, row
from rhodb.errors import InputError

INDENTED = 1_000
"""Findings up to which JSON is indented for people."""


def to_json(result: Result) -> Iterator[str]:
    """Everything, at full precision, in pieces of one document; missing numbers are null."""
    if len(result.findings) > INDENTED:
        return result.json_pieces()
    return iter([json.dumps(result.to_json(), indent=2, ensure_ascii=False, allow_nan=False)])


def to_csv(result: Result) -> str:
    """One line a finding, at full precision; missing numbers are empty."""
    flat = looks.flat if looks.is_look(result) else _flat
    rows = [flat(finding) for finding in result.findings]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else ["number"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def to_markdown(result: Result) -> str:
    """A table in GitHub's format, with its caption and messages."""
    as_looks = looks.is_look(result)
    titles = (looks.headers if as_looks else headers)(1 - float(result.options["alpha"]))
    cells_of = looks.row if as_looks else row
    lines = ["| " + " | ".join(cells) + " |" for cells in [titles, ["---"] * len(titles)]]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells_of(f)) + " |" for f in result.findings]
    return "\n".join([*lines, "", result.caption, *(f"- {message}" for message in result.messages)])


def evidence(result: Result, number: int) -> str:
    """The way back from finding `number` to its rows; 0 prints the query of the whole study."""
    if number == 0:
        return f"-- Query of study {result.study}:\n{result.query.inlined()};"
    if not 0 < number <= len(result.findings):
        known = f"1 to {len(result.findings)}" if result.findings else "none"
        raise InputError(f"--explain {number}: there is no such finding; there are {known}")
    finding = result.findings[number - 1]
    seeds = [
        f"  {g.label}: " + ", ".join(f"{s}: {v:.6g}" for s, v in _by_seed(g.seeds, g.values)) for g in finding.groups
    ]
    lines = [
        f"Finding {number}. {finding.sentence}",
        f"Values by seed ({finding.about.get('quantity', 'value')}):",
        *seeds,
        *papers.lines(finding),
        *(f"Note: {note}" for note in finding.notes),
        f"Method: {finding.evidence.method}",
        f"Reference: {finding.evidence.reference}",
        "Runs:",
        *(f"  {run}" for run in finding.evidence.runs),
        "SQL (returns exactly these rows):",
        f"{_narrowed(finding)};",
    ]
    return "\n".join(lines)


def _narrowed(finding: Finding) -> str:
    """The finding's own query; a look's is that of the whole study, cut down to its runs."""
    sql = finding.evidence.query.inlined()
    if "detector" not in finding.about:
        return sql
    runs = ", ".join(literal(run) for run in finding.evidence.runs)
    return f"SELECT * FROM (\n{sql}\n) AS look WHERE run IN ({runs})"


def _by_seed(seeds: tuple[int, ...], values: tuple[float, ...]) -> list[tuple[int, float]]:
    return list(zip(seeds, values, strict=True))


def _flat(finding: Finding) -> dict[str, object]:
    flat: dict[str, object] = {"number": finding.number, **finding.about, "unit": finding.unit}
    for side, group in zip("ab", finding.groups, strict=False):
        flat |= {f"mean_{side}": group.mean, f"sd_{side}": group.sd, f"n_{side}": group.n}
    for name, estimate in (("difference", finding.effect), ("g", finding.standardised)):
        flat |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    welch, exact = finding.tests[:2]
    left_out = finding.robustness
    return (
        flat
        | {
            "welch_p": welch.p,
            "adjusted_p": welch.p_adjusted,
            "exact_p": exact.p,
            "exact_floor": exact.floor,
            "one_seed_out_low": left_out and left_out.lowest,
            "one_seed_out_high": left_out and left_out.highest,
            "one_seed_out_largest_p": left_out and left_out.largest_p,
            "verdict": finding.verdict,
            "sentence": finding.sentence,
        }
        | papers.columns(finding)
    )
