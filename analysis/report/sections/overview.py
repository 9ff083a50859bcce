"""What was run, with what, and how to run it again."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.query import Query, read_sql
from analysis.report.context import Context
from analysis.report.document import Commands, Part, Section, Sentence, Table, Text
from analysis.report.sections import rows
from analysis.report.sections.commands import command_lines

SETTINGS = 40
"""Configurations whose settings are shown."""


def configuration(ctx: Context) -> Section:
    """Runs by kind, probes, and the settings of each configuration."""
    counts_query = ctx.query("report_counts")
    counts = ctx.rows(counts_query)
    parts: list[Part] = []
    if counts:
        parts.append(
            rows.table(
                ctx, counts_query, counts, key="runs", title="Runs",
                labels={"kind": "kind", "model": "model", "state": "state"},
                numbers={"runs": "runs", "seeds": "seeds", "configurations": "configurations",
                         "n_parameters": "parameters"},
                told={"quantization": "quantization"}, caption="All runs of the warehouse, in whatever state.",
            )
        )  # fmt: skip
    parts += _probes(ctx) + _settings(ctx)
    return Section(
        key="configuration", title="Configuration",
        intro="What was run, on which models and probes, with which settings.", parts=tuple(parts),
        missing=None if parts else "The warehouse holds no runs: `rhodb run ablation` makes the first.",
    )  # fmt: skip


def _probes(ctx: Context) -> list[Part]:
    query = Query(sql=read_sql("report_probe_sets"), parameters={})
    found = ctx.rows(query)
    if not found:
        return []
    for row in found:
        row["package"] = " ".join(filter(None, (row["package"], row["package_version"])))
        row["short"] = row["fingerprint"][:12]
    made = rows.table(
        ctx, query, found, key="probes", title="Probe sets", labels={"behavior": "behavior", "name": "set"},
        narrow=("fingerprint",), numbers={"probes": "probes", "pairs": "pairs", "train": "train", "eval": "eval"},
        told={"package": "package", "short": "fingerprint"},
        caption="Sets that finished runs were scored on; the split is decided by the hash of each probe's key.",
    )  # fmt: skip
    return [made]


def _settings(ctx: Context) -> list[Part]:
    """One row a setting: its value where all configurations of a kind agree, else how they differ."""
    found = _configurations(ctx)
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for row in found:
        kinds.setdefault(row["kind"], []).append(row)
    query = ctx.query("report_configurations")
    parts: list[Part] = []
    for kind, members in kinds.items():
        table = _settings_table(ctx, query, kind, members)
        parts += [table] if table.rows else []
    return parts


def _settings_table(ctx: Context, query: Query, kind: str, members: Sequence[Mapping[str, Any]]) -> Table:
    from analysis.report.addresses import equals
    from analysis.report.document import Column, Row

    address = ctx.book.address(
        "count", query, narrow=[equals("kind", kind)], pick="column config",
        runs=[u for m in members for u in _runs_of(ctx, m)],
    )  # fmt: skip
    values: dict[str, dict[str, None]] = {}
    for member in members:
        for key, value in json.loads(member["config"]).items():
            values.setdefault(key, {})[_shown(value)] = None
    made = tuple(
        Row(key=key, cells=(key, Sentence(text=_listed(list(found)), address=address)))
        for key, found in sorted(values.items())
    )
    return Table(
        key=f"settings-{kind}", title=f"Settings of {kind} runs ({len(members)} configurations)",
        columns=(Column(key="setting", title="setting"), Column(key="value", title="value")), rows=made,
        caption="Several values: the configurations differ in it.",
    )  # fmt: skip


def _runs_of(ctx: Context, row: Mapping[str, Any]) -> list[str]:
    return [
        uuid for uuid, run in ctx.book.facts.items()
        if run.kind == row["kind"] and run.model == row["model"] and run.config_hash == row["config_hash"]
    ] if len(ctx.book.facts) <= 5_000 else []  # fmt: skip


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:12] + "…" if len(text) == 64 and not set(text) - set("0123456789abcdef") else text


def _listed(values: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(values[:most])
    return shown if len(values) <= most else f"{shown}, ... ({len(values)} values)"


def _configurations(ctx: Context) -> list[dict[str, Any]]:
    return ctx.rows(ctx.query("report_configurations"))


def reproducibility(ctx: Context) -> Section:
    """The commands that make the runs of this report again."""
    found = _configurations(ctx)
    lines, untold = command_lines(ctx, found)
    parts: list[Part] = []
    if lines:
        parts.append(Commands(key="commands", title="Commands that make these runs", lines=tuple(lines)))
    report = ["rhodb", "report", *_report_options(ctx)]
    parts.append(
        Commands(
            key="report", title="Commands that make this report and check it",
            lines=(shlex.join(report), "rhodb report --verify FILE"),
        )
    )  # fmt: skip
    notes = [
        "Run against this warehouse, a command finds its finished runs and adds nothing; in an empty one it makes them "
        "anew.",
        *untold,
    ]
    parts.append(Text(key="notes", items=tuple(notes), listed=True))
    return Section(
        key="reproducibility", title="Reproducibility",
        intro="The commands of the runs shown, from their stored configurations.",
        parts=tuple(parts),
    )  # fmt: skip


def _report_options(ctx: Context) -> list[str]:
    o = ctx.options
    words: list[str] = []
    for option, value in (("--model", o.model), ("--split", o.split), ("--where", o.where)):
        words += [option, value] if value is not None else []
    for metric in o.metrics:
        words += ["--metric", metric]
    return words + [word for key in o.sections for word in ("--section", key)]
