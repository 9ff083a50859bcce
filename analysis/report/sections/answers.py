"""Quantities of a study (γ*, λ*, probe noise) as parts of a report: conclusions, tables, the study's own figures."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis.answers import Answer, Quantity
from analysis.render import answers as rendered
from analysis.report.context import DASH, Context, number, unique
from analysis.report.document import Cell, Column, Figure, Part, Row, Sentence, Table, Text
from analysis.report.sections.columns import slim

Members = list[tuple[int, Quantity]]
"""Quantities with their numbers in the study."""
BESIDE = 3
"""Groups of quantities that share a title from which on they stand beside one another in one table."""
_SUBJECT = re.compile(r"(?P<title>[^:]+?)(?:: (?P<after>.+)| \((?P<inside>[^()]+)\))")

COLUMNS = (
    Column(key="quantity", title="quantity"),
    Column(key="value", title="value", numeric=True),
    Column(key="interval", title="interval", help="with its nominal coverage where it is one of confidence"),
    Column(key="mc_error", title="MC error", numeric=True, help="Monte Carlo standard error of the value"),
    Column(key="published", title="published", help="= rounds to the printed figure, ≠ does not"),
    Column(key="n", title="n", numeric=True),
    Column(key="remark", title="remark"),
)


def parts(ctx: Context, answer: Answer, *, detail: bool = False) -> list[Part]:
    """Conclusions, one table a group of quantities or one for groups of the same shape, notes, figures."""
    whole = ctx.book.address(
        "quantity", answer.query, pick=f"conclusions of study {answer.study}", command=ctx.command(answer.study, 0)
    )
    source = "this warehouse's runs" if answer.inputs == "db" else "the published figures of the lab's notes"
    told: list[Cell] = [f"Inputs: {source}."]
    told += [Sentence(text=sentence, address=whole) for sentence in folded(answer.conclusions)]
    made: list[Part] = [Text(key="told", items=tuple(told), listed=True)]
    groups: dict[str, Members] = {}
    for at, quantity in enumerate(answer.quantities, 1):
        if detail or not quantity.detail:
            groups.setdefault(quantity.group, []).append((at, quantity))
    tables = [
        _beside(ctx, answer, title, subjects) if len(subjects) > 1 else _table(ctx, answer, title, subjects[title])
        for title, subjects in alike(groups).items()
    ]
    if tables:
        tables[-1] = replace(tables[-1], caption=" ".join(filter(None, [answer.caption, tables[-1].caption])))
    made += tables
    made += figures(answer.study, answer.drawing, answer.caption)
    notes = tuple(Sentence(text=message, address=whole) for message in answer.messages)
    return made + ([Text(key="notes", items=notes, listed=True)] if notes else [])


def folded(sentences: Sequence[str]) -> list[str]:
    """`SUBJECT: text`: what holds for several subjects is said once, and what is said of one subject in one breath."""
    subjects: dict[str, list[str]] = {}
    for sentence in sentences:
        subject, colon, text = sentence.partition(": ")
        subject, text = (subject, text) if colon else ("", sentence)
        subjects.setdefault(text, []).append(subject)
    texts: dict[str, list[str]] = {}
    for text, named in subjects.items():
        texts.setdefault(", ".join(filter(None, named)), []).append(text)
    told: list[str] = []
    for subject, said in texts.items():
        told += (
            [f"{subject}: {'; '.join([*(text.removesuffix('.') for text in said[:-1]), said[-1]])}"]
            if subject
            else said
        )
    return told


def alike(groups: Mapping[str, Members]) -> dict[str, dict[str, Members]]:
    """Groups `TITLE: SUBJECT` or `TITLE (SUBJECT)` by title, where at least three subjects share it.

    Others stand by themselves, and so do those with published figures, whose columns they need.
    """
    found: dict[str, dict[str, Members]] = {}
    for group, members in groups.items():
        match = _SUBJECT.fullmatch(group)
        title = match["title"] if match and not any(q.published for _, q in members) else group
        found.setdefault(title, {})[group] = members
    made: dict[str, dict[str, Members]] = {}
    for title, subjects in found.items():
        if len(subjects) >= BESIDE:
            made[title] = subjects
        else:
            made |= {group: {group: members} for group, members in subjects.items()}
    return made


def _subject(group: str) -> str:
    match = _SUBJECT.fullmatch(group)
    return (match["after"] or match["inside"]) if match else group


def _beside(ctx: Context, answer: Answer, title: str, groups: Mapping[str, Members]) -> Table:
    """A row a quantity, a column a subject."""
    subjects = {group: _subject(group) for group in groups}
    common = set.intersection(*({*subject.split(", ")} for subject in subjects.values()))
    columns = {group: ", ".join(w for w in s.split(", ") if w not in common) for group, s in subjects.items()}
    rows: dict[str, dict[str, tuple[int, Quantity]]] = {}
    for group, members in groups.items():
        names = unique(_told_apart([_name(q, subjects[group]) for _, q in members], [q.method for _, q in members]))
        for name, member in zip(names, members, strict=True):
            rows.setdefault(name, {})[group] = member
    shared = ", ".join(word for word in next(iter(subjects.values())).split(", ") if word in common)
    return Table(
        key=_slug(title), title=f"{title}: {shared}" if shared else title,
        columns=(
            Column(key="quantity", title="quantity"),
            *(Column(key=_slug(group), title=columns[group] or group, numeric=True) for group in groups),
        ),
        rows=tuple(
            Row(key=name, cells=(name, *(_value(ctx, answer, found.get(group)) for group in groups)))
            for name, found in rows.items()
        ),
        caption="In brackets intervals; a number's address has its n, method and remark.",
    )  # fmt: skip


def _name(quantity: Quantity, subject: str) -> str:
    """What the quantity is, its unit, and the level of its interval."""
    about = ", ".join(word for word in quantity.about.split(", ") if word and word not in subject.split(", "))
    level = f"[{100 * quantity.level:g} %]" if quantity.level is not None else ""
    named = f"{quantity.name} ({about})" if about else quantity.name
    return " ".join(filter(None, [f"{named}, {quantity.unit}" if quantity.unit else named, level]))


def _told_apart(names: Sequence[str], methods: Sequence[str]) -> list[str]:
    """Quantities of one name take their method's with it."""
    return [
        f"{name}, {method.partition(' (')[0]}" if method and names.count(name) > 1 else name
        for name, method in zip(names, methods, strict=True)
    ]


def _value(ctx: Context, answer: Answer, member: tuple[int, Quantity] | None) -> Cell:
    if member is None:
        return DASH
    at, quantity = member
    _, _, value, interval, *_ = rendered.cells(at, quantity)
    if quantity.level is not None:
        interval = interval.removesuffix(f" {100 * quantity.level:g} %")
    text = value if interval == rendered.DASH else f"{value} {interval}"
    return number(quantity.value, _address(ctx, answer, at, quantity), text=text)


def _address(ctx: Context, answer: Answer, at: int, quantity: Quantity) -> str:
    query = answer.narrow(tuple(dict.fromkeys(quantity.inputs))) if quantity.inputs else answer.query
    n = "" if quantity.n is None else f"n {quantity.n}"
    return ctx.book.address(
        "quantity", query, runs=quantity.inputs, pick=f"study {answer.study}, quantity {at}: {quantity.name}",
        command=ctx.command(answer.study, at), reference=quantity.reference,
        method="; ".join(filter(None, [quantity.method, n, quantity.note])),
    )  # fmt: skip


def _table(ctx: Context, answer: Answer, group: str, members: Members) -> Table:
    names = unique([f"{q.name}|{q.about}" for _, q in members])
    rows = tuple(_row(ctx, answer, at, q, name) for name, (at, q) in zip(names, members, strict=True))
    return slim(Table(key=_slug(group), title=group, columns=COLUMNS, rows=rows))


def _row(ctx: Context, answer: Answer, at: int, quantity: Quantity, name: str) -> Row:
    address = _address(ctx, answer, at, quantity)
    _, title, value, interval, error, published, n, note = rendered.cells(at, quantity)
    cells: tuple[Cell, ...] = (
        title,
        number(quantity.value, address, text=f"{value} {quantity.unit}".strip()),
        Sentence(text=interval, address=address) if interval != rendered.DASH else interval,
        number(quantity.mc_error, address, text=error),
        Sentence(text=published, address=address) if quantity.published else published,
        number(quantity.n, address, text=n),
        note,
    )
    return Row(key=name, cells=cells)


def _slug(title: str) -> str:
    """A key without spaces and slashes."""
    return "-".join(re.findall(r"[\w.*]+", title))


def figures(study: str, drawing: Any, caption: str) -> list[Figure]:
    """What the study draws by itself. Its files hold no date, so that the same numbers give the same bytes."""
    if drawing is None:
        return []
    module = import_module(f"analysis.{study.replace('-', '_')}.figures")
    return drawn(lambda folder: module.draw(drawing, folder), study, caption)


def _heading(stem: str) -> str:
    words = stem.replace("_", " ").replace("-", " ")
    return words[:1].upper() + words[1:]


def drawn(draw: Any, study: str, caption: str) -> list[Figure]:
    """The PNG files that `draw(folder)` writes."""
    from analysis.figures import png_only  # matplotlib, which most sections do without

    with TemporaryDirectory() as folder, png_only():
        paths = [path for path in draw(Path(folder)) if path.suffix == ".png"]
        return [
            Figure(
                key=path.stem, title=_heading(path.stem), png=path.read_bytes(),
                alt=f"Figure {path.stem.replace('_', ' ')} of study {study}; its numbers stand in the tables above.",
                caption=caption if path == paths[0] else "",
            )
            for path in paths
        ]  # fmt: skip
