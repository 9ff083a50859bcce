"""Options of `rhodb analyze`, each declared once, and commands made of them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rhodb.cli.options import CsvOption, DbOption, JsonOption, MarkdownOption, example, output_format


@dataclass(frozen=True)
class Option:
    """One option of a command: its name in Python, its annotation, its default."""

    name: str
    annotation: Any
    default: Any = None


def option(flag: str, kind: Any, text: str, default: Any = None, metavar: str | None = None) -> Option:
    """An option called after its flag."""
    made = typer.Option(flag, help=text, metavar=metavar)
    return Option(flag.removeprefix("--").replace("-", "_"), Annotated[kind, made], default)


MODEL = option("--model", str | None, "Only runs on this model (key).")
METRICS = option("--metric", list[str] | None, "Metric to analyse; may be repeated.  [default: gap]")
ONE_METRIC = option("--metric", str, "Metric of the warehouse's runs to analyse.", "gap")
USUAL_SPLIT = option(
    "--split", str | None, "Probes that the scores rest on: eval, train or none.  [default: eval where there is any]"
)
SPLIT = option("--split", str, "Probes that the scores rest on: eval, train or none (unsplit runs).", "eval")
BEHAVIOR = option("--behavior", list[str] | None, "Only this behavior; may be repeated.  [default: all]")
ALPHA = option("--alpha", float, "Error level of the verdicts; intervals cover 1 - alpha.", 0.05)
CORRECTION = option("--correction", str, "Correction for the number of looks: holm, bh or none.", "holm")
SEED = option("--seed", int, "Seed of Monte Carlo tests (exact tests need none).", 0)
ANY_SEED = option("--seed", int | None, "Seed of the random draws.  [default: the study's]")
DRAW_SEED = option("--seed", int, "Seed of the random draws (42 repeats the notes').", 42)
WHERE = option("--where", str | None, 'SQL condition on the run, e.g. "seed < 1000 AND lora_rank = 8".', metavar="SQL")
IGNORE = option(
    "--ignore-setting", list[str] | None,
    "Setting that is known to be stated wrongly, so that it tells no runs apart; may be repeated.", metavar="NAME",
)  # fmt: skip
INPUTS = option(
    "--inputs", str,
    "published (the notes' figures), db (this warehouse's runs) or auto: db where it has what is needed.", "auto",
)  # fmt: skip
SAMPLES = option("--samples", int, "Monte Carlo samples and bootstrap draws.", 10_000)
RHO_WEIGHT = option("--rho-weight", float | None, "λ at which γ varies.  [default: the one with most margins]")
THRESHOLD = option(
    "--threshold", float, "Cosine threshold of the main partition, which must have been run.", 0.65
)  # fmt: skip
LOUVAIN_SEED = option("--seed", int, "Louvain's seed of the main partition.", 42)
TEXT_ORDER = option(
    "--order", str | None, "Texts in the order of their keys or of the files (key, file).  [default: key where drawn]"
)
TOP = option("--top", int, "Clusters and near-duplicates to list.", 15)
PERMUTATIONS = option("--permutations", int, "Random rearrangements of the test of neighbours.", 1_999)
TABLE = option("--table", str | None, "Only this table.", metavar="NAME")
FIGURES = option("--figures", Path | None, "Write the figures (PNG and SVG) into this folder.", metavar="DIR")
FORMS = (Option("json", JsonOption, False), Option("csv", CsvOption, False), Option("markdown", MarkdownOption, False))
DB = Option("db", DbOption)


def form_of(given: dict[str, Any]) -> str:
    """The form asked for; its options are taken out of those given."""
    return output_format(**{option.name: given.pop(option.name) for option in FORMS})


def explain(what: str, zero: str = "the whole query") -> Option:
    """`--explain N`, which prints the evidence of the N-th thing that a study answers with."""
    return option(
        "--explain", int | None, f"Print the evidence of {what} N: SQL, runs, method. 0: {zero}.", metavar="N"
    )


def add_command(
    app: typer.Typer,
    name: str,
    run: Callable[..., None],
    options: tuple[Option, ...],
    *,
    summary: str,
    examples: tuple[str, ...],
    argument: tuple[str, Any] | None = None,
) -> None:
    """A command of these options, which are passed to `run` by name; `argument` is its name and annotation."""

    def command(**given: Any) -> None:
        run(**given)

    kinds = [Option(*argument, inspect.Parameter.empty)] if argument else []
    parameters = [
        inspect.Parameter(o.name, inspect.Parameter.KEYWORD_ONLY, default=o.default, annotation=o.annotation)
        for o in (*kinds, *options)
    ]
    # Typer reads the options of a command from its signature.
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(name, help=summary, **example(*examples))(command)
