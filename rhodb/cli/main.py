"""The root of the command line: which commands there are, and how errors become messages and exit codes."""

import contextlib
import faulthandler
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import typer

from rhodb.cli.lazy import LazyGroup, make_app
from rhodb.errors import RhodbError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells count: 128 + SIGINT."""


class RootGroup(LazyGroup):
    table: ClassVar[Mapping[str, tuple[str, str]]] = {
        "run": ("rhodb.cli.run:app", "Run an experiment: plan its cells, execute them, store the rows."),
        "analyze": (
            "rhodb.cli.analyze:app",
            "Analyse what the warehouse holds: effects with honest statistics.",
        ),
        "report": (
            "rhodb.cli.report:app",
            "Write the whole notebook from the warehouse, every number with its address; or check a saved one.",
        ),
        "claims": (
            "rhodb.cli.claims:app",
            "Recompute the claims of a notebook: the notes', or those of your own draft.",
        ),
        "hypothesis": (
            "rhodb.cli.hypothesis:app",
            "Register questions before the runs that answer them; see how far they are decided.",
        ),
        "plan": ("rhodb.cli.plan:app", "Show the cells of a plan of several experiments, their states and times."),
        "status": ("rhodb.cli.status:app", "Show what is planned, running, interrupted and failed, and the time left."),
        "runs": ("rhodb.cli.runs:app", "List, show and compare runs; recover spooled outcomes."),
        "ingest": ("rhodb.cli.ingest:app", "Read older result files, and other tools' results, into the warehouse."),
        "sql": ("rhodb.cli.sql:app", "Query the warehouse with SQL, read-only."),
        "browse": ("rhodb.cli.browse:app", "Look at the warehouse in a web browser, read-only."),
        "export": ("rhodb.cli.transfer:export_app", "Write the warehouse, a table, a view or a query to files."),
        "import": ("rhodb.cli.transfer:import_app", "Bring an export of another warehouse in."),
        "merge": ("rhodb.cli.transfer:merge_app", "Bring another warehouse in."),
        "rebuild": ("rhodb.cli.transfer:rebuild_app", "Make the warehouse anew from its spool and sources."),
        "db": ("rhodb.cli.db:app", "Create, upgrade, check, back up and locate the warehouse."),
        "schema": ("rhodb.cli.schema_cmd:app", "Print every table and column with its meaning."),
        "doctor": (
            "rhodb.cli.doctor:app",
            "Check device, BLAS, model, probes and warehouse; say what to do.",
        ),
    }

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("rhodb: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None


app = make_app("rhodb: results warehouse, runners and honest statistics for alignment experiments.", cls=RootGroup)


@app.callback(epilog="\b\nExamples:\n  rhodb run ablation --seeds 42,123\n  rhodb analyze effects")
def root(
    db: Annotated[
        str | None,
        typer.Option(
            "--db",
            metavar="PATH_OR_URL",
            help="Warehouse to use  [default: $RHODB_DB, else results/master.db]",
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """rhodb: results warehouse, runners and honest statistics for alignment experiments."""


def main() -> None:
    """Entry point: run the command; print any rhodb error as one sentence with its exit code."""
    _tell_of_fatal_signals()
    if sys.argv[1:] == ["--version"]:
        from rhodb import __version__

        typer.echo(f"rhodb {__version__}")
        return
    # Arrow's own pool keeps the memory of frames that are gone; the system's gives it back. Read as Arrow is imported.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        app()
    except RhodbError as error:
        typer.echo(f"rhodb: {error}", err=True)
        sys.exit(error.exit_code)


def _tell_of_fatal_signals() -> None:
    """A library that dies of SIGILL, SIGSEGV, ... leaves a message and the place on stderr, here and in every child."""
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")
    with contextlib.suppress(AttributeError, OSError, ValueError):  # no stderr, or one without a descriptor
        faulthandler.enable()
