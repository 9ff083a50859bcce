"""Builds a report: every section from the warehouse, in order; one that fails says why and what to run."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Final

from analysis.query import Query, read_sql
from analysis.report.addresses import Book
from analysis.report.ahead import meanwhile
from analysis.report.binding import Chapter, bound
from analysis.report.context import Context, ReportOptions
from analysis.report.document import Report, Scalar, Section
from analysis.report.sections import SECTIONS
from analysis.stored import no_garbage_collection
from rhodb import __version__
from rhodb.errors import InputError, RhodbError, UnknownNameError
from rhodb.frames import release_memory

if TYPE_CHECKING:
    from rhodb.warehouse import Warehouse

LAST_USES: Final = {
    "dose-response": ("dose-response",), "variance": ("variance",), "margin": ("effects",), "quality": ("quality",),
}  # fmt: skip
"""Section -> studies that no section behind it looks at."""
SAME_ROWS: Final = (
    ("ablation", "dose-response", "variance", "anomalies"), ("effects", "margin", "gamma", "ushape"), ("quality",),
)  # fmt: skip
"""Sections whose studies read the same rows."""
APART: Final = ("effects", "margin", "probe-noise", "quality", "claims")
"""Sections whose studies no other section needs: half of the work on a large warehouse."""

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

    Two `processes` share the work on a report with claims, which take seconds by themselves; the report is the same.

    Raises UnknownNameError for a section that is not there, InputError for a condition that no run can have.
    """
    for key in options.sections:
        if key not in SECTIONS:
            raise UnknownNameError("section", key, tuple(SECTIONS))
    when = created or datetime.now(UTC)
    ctx = Context(wh=wh, options=options, book=Book(wh), fresh=fresh)
    _check_model(ctx)
    _check_where(ctx)
    shared = processes > 1 and "claims" in ctx.sections

    def made() -> Report:
        with no_garbage_collection():
            return _shared(ctx, progress, when) if shared else _build(ctx, progress, when)

    if options.compare is None and options.since is None:
        return made()
    from analysis.report.compare import earlier, with_changes

    with earlier(wh, other=options.compare, since=options.since) as old:
        before = Context(wh=old, options=options, book=Book(old), fresh=fresh)
        was = _build(before, progress, when)
        what = options.compare or f"this warehouse before {options.since}"
        return with_changes(was, made(), before=before.book, now=ctx.book, what=what)


def _shared(ctx: Context, progress: Progress, created: datetime) -> Report:
    """By two processes, where the second can open the warehouse, too."""
    path = ctx.wh.location.path
    if path is None:
        return _build(ctx, progress, created)
    with meanwhile(_apart, str(path), ctx.options, fresh=ctx.fresh) as apart:
        return _build(ctx, progress, created, apart=apart)


def _apart(path: str, options: ReportOptions, *, fresh: bool) -> Chapter:
    from rhodb.warehouse import Warehouse

    with no_garbage_collection(), Warehouse.open(path, create=False, read_only=True) as wh:
        ctx = Context(wh=wh, options=options, book=Book(wh), fresh=fresh)
        return _chapter(ctx, [key for key in ctx.sections if key in APART], silent)


def _build(
    ctx: Context, progress: Progress, created: datetime, *, apart: Callable[[], Chapter] | None = None
) -> Report:
    """The report; with `apart` the sections APART come from there."""
    if apart is None:
        chapters = [_chapter(ctx, ctx.sections, progress)]
    else:
        own = _chapter(ctx, [key for key in ctx.sections if key not in APART], progress)
        progress("waiting for the second process", len(own.sections) + 1, len(ctx.sections))
        chapters = [own, apart()]
    whole = bound(chapters, ctx.sections)
    return Report(
        title="rhodb report",
        created=created.isoformat(timespec="seconds"),
        rhodb_version=__version__,
        warehouse=_facts(ctx),
        options=ctx.options.to_json(),
        sections=whole.sections,
        addresses=whole.contents.addresses,
        queries=whole.contents.queries,
        versions=whole.contents.versions,
    )


def _chapter(ctx: Context, keys: Sequence[str], progress: Progress) -> Chapter:
    """The sections with these keys, in their order."""
    made = []
    readers = ([key for key in keys if key in group] for group in SAME_ROWS)
    last = {group[-1] for group in readers if group}
    for number, key in enumerate(keys, 1):
        progress(SECTIONS[key][1], number, len(ctx.sections))
        ctx.read_for_the_last_time(key in last)
        made.append(section(ctx, key))
        ctx.forget(LAST_USES.get(key, ()))
        release_memory()
    return Chapter(sections=tuple(made), contents=ctx.book.contents())


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
    """A wrong or endless condition is said once, not by every section."""
    if ctx.options.where is None:
        return
    from analysis.effects import Effects

    query = Effects().query(ctx.study_options())
    try:
        ctx.rows(Query(sql=f"SELECT count(*) FROM (\n{query.sql}\n) AS probe", parameters=query.parameters))
    except InputError as error:
        raise InputError(f"--where {ctx.options.where!r}: {error}") from error


def _facts(ctx: Context) -> dict[str, Scalar]:
    location = ctx.wh.location
    facts: dict[str, Scalar] = {"name": location.path.name if location.path else str(location)}
    return facts | ctx.wh.rows(read_sql("report_warehouse"))[0]
