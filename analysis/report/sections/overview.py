"""What was run, with what, and how to run it again."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.query import Query, read_sql
from analysis.report.addresses import among
from analysis.report.context import Context
from analysis.report.document import Column, Commands, Part, Row, Section, Sentence, Table, Text
from analysis.report.sections import rows
from analysis.report.sections.commands import command_lines


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
    """One row a setting and what it was: kinds of run that agree share the row."""
    query = ctx.query("report_configurations")
    values: dict[str, dict[str, dict[str, None]]] = {}
    runs: dict[str, list[str]] = {}
    for member in _configurations(ctx):
        runs.setdefault(member["kind"], []).extend(_runs_of(ctx, member))
        for key, value in json.loads(member["config"]).items():
            values.setdefault(key, {}).setdefault(member["kind"], {})[_shown(value)] = None
    made = []
    for key, by_kind in sorted(values.items()):
        kinds_of: dict[str, list[str]] = {}
        for kind, found in by_kind.items():
            kinds_of.setdefault(_listed(list(found)), []).append(kind)
        for text, kinds in kinds_of.items():
            address = ctx.book.address(
                "count", query, narrow=[among("kind", kinds)], pick=f"key {key} of column config",
                runs=[run for kind in kinds for run in runs[kind]],
            )  # fmt: skip
            told = Sentence(text=text, address=address)
            made.append(Row(key=f"{key}|{kinds[0]}", cells=(key, told, ", ".join(kinds))))
    if not made:
        return []
    columns = (
        Column(key="setting", title="setting"), Column(key="value", title="value"),
        Column(key="kinds", title="in runs of kind"),
    )  # fmt: skip
    caption = "Several values in one row: the configurations of these runs differ in it."
    return [Table(key="settings", title="Settings", columns=columns, rows=tuple(made), caption=caption)]


def _runs_of(ctx: Context, row: Mapping[str, Any]) -> list[str]:
    return [
        uuid for uuid, run in ctx.book.facts.items()
        if (run.kind, run.model, run.model_fingerprint, run.config_hash)
        == (row["kind"], row["model"], row["model_fingerprint"], row["config_hash"])
    ] if len(ctx.book.facts) <= 5_000 else []  # fmt: skip


def _shown(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
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
