"""What is wrong with a SQL text: the place, a caret, and names that are close to one that does not exist."""

import difflib
import re
import sqlite3
from collections.abc import Iterable

MISSING = re.compile(r"^no such (table|column|function): (.+)$")
AMBIGUOUS = re.compile(r"^ambiguous column name: (.+)$")
NEAR = re.compile(r'^near "(.+)": syntax error$', re.DOTALL)
TEXTS = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
MOST_CLOSE = 3


def describe(connection: sqlite3.Connection, sql: str, message: str) -> str:
    """One message for an error of SQLite: where, and what might have been meant."""
    if match := MISSING.match(message):
        what, name = match.groups()
        bare = name.rsplit(".", 1)[-1]
        choices = {"table": _tables, "column": lambda c: _columns(c, sql), "function": _functions}[what](connection)
        return told(sql, message, find_word(sql, bare), close(bare, choices))
    if match := AMBIGUOUS.match(message):
        return told(sql, message, find_word(sql, match[1].rsplit(".", 1)[-1]), [])
    if match := NEAR.match(message):
        return told(sql, message, _syntax_place(connection, sql, match[1]), [])
    place = len(sql.rstrip()) if "incomplete input" in message else None
    if "execute one statement" in message:
        message = "give one statement at a time"
    elif "binding" in message:
        message += " (give it with -p NAME=VALUE)"
    return told(sql, message, place, [])


def told(sql: str, message: str, place: int | None, names: list[str]) -> str:
    """The sentence, then the line with a caret under the place."""
    hint = f"; did you mean {' or '.join(names)}?" if names else ""
    if place is None:
        return f"the SQL was refused: {message}{hint}"
    before = sql[:place]
    line, column = before.count("\n") + 1, place - (before.rfind("\n") + 1) + 1
    shown = (sql.splitlines() or [""])[min(line, len(sql.splitlines())) - 1] if sql.strip() else ""
    return (
        f"the SQL was refused: {message}{hint} (line {line}, column {column})\n    {shown}\n    {' ' * (column - 1)}^"
    )


def close(name: str, choices: Iterable[str]) -> list[str]:
    """The choices that look most like a name."""
    by_lower = {choice.lower(): choice for choice in choices}
    return [by_lower[found] for found in difflib.get_close_matches(name.lower(), by_lower, n=MOST_CLOSE, cutoff=0.6)]


def find_word(sql: str, word: str) -> int | None:
    """Where a name first stands outside of quoted texts and comments."""
    masked = TEXTS.sub(lambda match: " " * len(match[0]), sql)
    found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", masked, re.IGNORECASE)
    return found.start() if found else None


def _syntax_place(connection: sqlite3.Connection, sql: str, token: str) -> int | None:
    """The occurrence of the token that SQLite stumbled over: what stands before it is only incomplete."""
    for match in re.finditer(re.escape(token), sql):
        try:
            connection.execute(f"EXPLAIN {sql[: match.end()]}")
        except sqlite3.Error as error:
            if f'near "{token}"' in str(error):
                return match.start()
    return None


def _tables(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]


def _columns(connection: sqlite3.Connection, sql: str) -> list[str]:
    """Columns of the tables that the SQL names, or of all if it names none."""
    tables = _tables(connection)
    named = [table for table in tables if find_word(sql, table) is not None] or tables
    query = "SELECT name FROM pragma_table_info(?)"
    return [name for table in named for (name,) in connection.execute(query, (table,))]


def _functions(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT DISTINCT name FROM pragma_function_list")]
