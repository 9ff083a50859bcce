"""The saved queries of `rhodb sql --saved`: one `.sql` file each.

The first comment line says what it shows, `-- default NAME = VALUE` lines give parameters their defaults.
"""

import re
from dataclasses import dataclass
from importlib import resources

from rhodb.errors import UnknownNameError

DEFAULT = re.compile(r"^-- default (\w+) = (.*)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class SavedQuery:
    """A query that is worth having."""

    name: str
    summary: str
    sql: str
    defaults: dict[str, str]
    """Parameters that need not be given."""


def saved_queries() -> list[SavedQuery]:
    """All of them, by name."""
    files = (file for file in resources.files(__name__).iterdir() if file.name.endswith(".sql"))
    return [_parse(file.name[:-4], file.read_text(encoding="utf-8")) for file in sorted(files, key=lambda f: f.name)]


def saved(name: str) -> SavedQuery:
    """One by its name. Raises UnknownNameError."""
    found = {query.name: query for query in saved_queries()}
    if name not in found:
        raise UnknownNameError("saved query", name, tuple(found))
    return found[name]


def _parse(name: str, sql: str) -> SavedQuery:
    return SavedQuery(
        name=name,
        summary=sql.splitlines()[0].removeprefix("-- "),
        sql=sql.rstrip(),
        defaults=dict(DEFAULT.findall(sql)),
    )
