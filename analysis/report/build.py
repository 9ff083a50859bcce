"""Builds a report: every section from the warehouse, in order; one that fails says why and what to run."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Final

from analysis.query import Query, read_sql
from analysis.report.addresses import Book
from analysis.report.ahead import ahead
from analysis.report.context import Context, ReportOptions
from analysis.report.document import Report, Scalar, Section
from analysis.report.sections import SECTIONS
from analysis.stored import no_garbage_collection
from rhodb import __version__
from rhodb.errors import InputError, RhodbError, UnknownNameError

if TYPE_CHECKING:
    from rhodb.warehouse import Warehouse

LAST_USES: Final = {
    "dose-response": ("dose-response",), "variance": ("variance",), "margin": ("effects",), "quality": ("quality",),
}  # fmt: skip
"""Section -> studies that no section behind it looks at."""

Progress = Callable[[str, int, int], None]
"""Title of the section that begins, its number from 1, how many there are."""


def silent(title: str, number: int, count: int) -> None:
    """No progress."""


def build(
    wh: "Warehouse",
    options: ReportOptions,
    *,
    fresh: bool = False,
    progress: Progress = silent,
    created: datetime | None = None,
    processes: int = 1,
) -> Report:
    """The report on a warehouse. `fresh` computes every study anew instead of reading stored results.

    With two `processes` one of them checks the claims meanwhile (see `analysis.report.ahead`).

    Raises UnknownNameError for a section that is not there, InputError for a condition that no run can have.
    """
    for key in options.sections:
        if key not in SECTIONS:
            raise UnknownNameError("section", key, tuple(SECTIONS))
    when = created or datetime.now(UTC)
    book = Book(wh)
    ctx = Context(wh=wh, options=options, book=book)
    _check_model(ctx)
    _check_where(ctx)
    wanted = processes > 1 and "claims" in (options.sections or SECTIONS)

    def made() -> Report:
        with no_garbage_collection(), ahead(wh, wanted=wanted) as coming:
            return _build(replace(ctx, ahead=coming, fresh=fresh), progress, when)

    if options.compare is None and options.since is None:
        return made()
    from analysis.report.compare import earlier, with_changes

    with earlier(wh, other=options.compare, since=options.since) as old:
        before = Book(old)
        was = _build(Context(wh=old, options=options, book=before, fresh=fresh), progress, when)
        what = options.compare or f"this warehouse before {options.since}"
        return with_changes(was, made(), before=before, now=book, what=what)


def _build(ctx: Context, progress: Progress, created: datetime) -> Report:
    options, book = ctx.options, ctx.book
    keys = options.sections or tuple(SECTIONS)
    sections = []
    for number, key in enumerate(keys, 1):
        progress(SECTIONS[key][1], number, len(keys))
        sections.append(section(ctx, key))
        ctx.forget(LAST_USES.get(key, ()))
    return Report(
        title="rhodb report",
        created=created.isoformat(timespec="seconds"),
        rhodb_version=__version__,
        warehouse=_facts(ctx),
        options=options.to_json(),
        sections=tuple(sections),
        addresses=book.addresses(),
        queries=book.queries(),
        versions=book.versions(),
    )


def section(ctx: Context, key: str) -> Section:
    """One section; an error that rhodb raises on purpose becomes its sentence."""
    place, title = SECTIONS[key]
    module, _, name = place.partition(":")
    try:
        made: Section = getattr(import_module(module), name)(ctx)
    except RhodbError as error:
        return Section(key=key, title=title, intro="", missing=f"{str(error)[:1].upper()}{str(error)[1:]}.")
    return made


def _check_model(ctx: Context) -> None:
    """A misspelt model would make an empty report."""
    if ctx.options.model is None:
        return
    known = [row["key"] for row in ctx.wh.rows("SELECT DISTINCT key FROM models ORDER BY key")]
    if ctx.options.model not in known:
        raise UnknownNameError("model", ctx.options.model, known)


def _check_where(ctx: Context) -> None:
    """A wrong condition is said once, not by every section."""
    if ctx.options.where is None:
        return
    from analysis.effects import Effects

    query = Effects().query(ctx.study_options())
    try:
        ctx.rows(Query(sql=f"SELECT 1 FROM (\n{query.sql}\n) AS probe LIMIT 1", parameters=query.parameters))
    except InputError as error:
        raise InputError(f"--where {ctx.options.where!r}: {error}") from error


def _facts(ctx: Context) -> dict[str, Scalar]:
    location = ctx.wh.location
    facts: dict[str, Scalar] = {"name": location.path.name if location.path else str(location)}
    return facts | ctx.wh.rows(read_sql("report_warehouse"))[0]
