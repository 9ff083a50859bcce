"""Sections that were made apart, by several processes, become one report.

Their addresses are numbered anew as they are read, and equal ones become one: who made a section leaves no trace.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Generic, TypeVar

from analysis.report.document import Address, Cell, Chart, Part, SavedQuery, Section, Table, Text

T = TypeVar("T")
Rename = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What the cells of sections lead to, by key."""

    addresses: Mapping[str, Address]
    queries: Mapping[str, SavedQuery]
    versions: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """Sections, and everything they lead to."""

    sections: tuple[Section, ...]
    contents: Contents


def bound(chapters: Iterable[Chapter], order: Sequence[str]) -> Chapter:
    """All sections in the order of their keys, over one set of addresses. What no cell leads to is left out."""
    made = {section.key: (section, chapter.contents) for chapter in chapters for section in chapter.sections}
    binder = _Binder()
    sections = tuple(_renamed(section, binder.reading(contents)) for section, contents in map(made.__getitem__, order))
    return Chapter(sections=sections, contents=binder.contents())


class _Numbered(Generic[T]):
    """Things under keys PREFIX1, PREFIX2, ... in the order in which they come; equal ones share a key."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._keys: dict[Hashable, str] = {}
        self.things: dict[str, T] = {}

    def key(self, thing: T, identity: Hashable) -> str:
        key = self._keys.setdefault(identity, f"{self._prefix}{len(self._keys) + 1}")
        self.things.setdefault(key, thing)
        return key


class _Binder:
    def __init__(self) -> None:
        self._addresses = _Numbered[Address]("a")
        self._queries = _Numbered[SavedQuery]("q")
        self._versions = _Numbered[Mapping[str, str]]("v")

    def reading(self, contents: Contents) -> Rename:
        """Gives the new key for a key of these contents; none for none."""
        return cache(lambda key: self._address(contents, contents.addresses[key]) if key else key)

    def _address(self, contents: Contents, found: Address) -> str:
        query = None
        if found.query is not None:
            saved = contents.queries[found.query]
            query = self._queries.key(saved, (saved.sql, saved.ready))
        versions = (contents.versions[key] for key in found.versions)
        known = tuple(self._versions.key(version, tuple(version.items())) for version in versions)
        address = replace(found, query=query, versions=known)
        return self._addresses.key(address, address)

    def contents(self) -> Contents:
        return Contents(
            addresses=self._addresses.things, queries=self._queries.things, versions=self._versions.things
        )  # fmt: skip


def _renamed(section: Section, rename: Rename) -> Section:
    return replace(section, parts=tuple(_part(part, rename) for part in section.parts))


def _part(part: Part, rename: Rename) -> Part:
    if isinstance(part, Text):
        return replace(part, items=tuple(_cell(item, rename) for item in part.items))
    if isinstance(part, Table):
        rows = tuple(replace(row, cells=tuple(_cell(c, rename) for c in row.cells)) for row in part.rows)
        return replace(part, rows=rows)
    if isinstance(part, Chart):
        return replace(part, addresses=tuple(map(rename, part.addresses)))
    return part


def _cell(cell: Cell, rename: Rename) -> Cell:
    return cell if isinstance(cell, str) else replace(cell, address=rename(cell.address))
