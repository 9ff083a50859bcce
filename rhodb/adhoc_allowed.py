"""What SQL that somebody typed may do: an allow list for SQLite's authorizer. Everything else is refused."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress

from rhodb.aggregates import AGGREGATES

READ_ACTIONS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE})
PRAGMAS_THAT_DESCRIBE = frozenset(
    {
        "table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list",
        "foreign_key_check", "database_list", "function_list", "module_list", "pragma_list", "compile_options",
        "collation_list",
    }
)  # fmt: skip
PRAGMAS_WITHOUT_VALUE = frozenset(
    {"user_version", "schema_version", "page_count", "page_size", "freelist_count", "journal_mode"}
)

# Names as in SQLite's own documentation (lang_corefunc, lang_aggfunc, windowfunctions, lang_datefunc, lang_mathfunc,
# json1, percentile). A function that a later SQLite adds is refused until it stands here.
_FUNCTIONS = """
abs char coalesce concat concat_ws format glob hex if ifnull iif instr length like likelihood likely lower ltrim max min
nullif octet_length printf quote random randomblob replace round rtrim sign soundex sqlite_compileoption_get
sqlite_compileoption_used sqlite_source_id sqlite_version substr substring subtype trim typeof unhex unicode unistr
unistr_quote unlikely upper zeroblob changes total_changes last_insert_rowid match regexp
avg count group_concat string_agg sum total percentile percentile_cont percentile_disc
row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value
date time datetime julianday unixepoch strftime timediff current_date current_time current_timestamp
acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod pi pow power
radians sin sinh sqrt tan tanh trunc
json json_array json_array_insert json_array_length json_error_position json_extract json_insert json_object json_patch
json_pretty json_quote json_remove json_replace json_set json_type json_valid json_group_array json_group_object -> ->>
jsonb jsonb_array jsonb_array_insert jsonb_extract jsonb_insert jsonb_object jsonb_patch jsonb_remove jsonb_replace
jsonb_set jsonb_group_array jsonb_group_object
"""
FUNCTIONS = frozenset(_FUNCTIONS.split()) | frozenset(AGGREGATES)
TABLE_FUNCTIONS = frozenset({"json_each", "json_tree", "jsonb_each", "jsonb_tree", "generate_series"}) | {
    f"pragma_{name}" for name in PRAGMAS_THAT_DESCRIBE | PRAGMAS_WITHOUT_VALUE
}

Authorizer = Callable[[int, str | None, str | None, str | None, str | None], int]


def authorizer(connection: sqlite3.Connection) -> Authorizer:
    """The decision on each thing that a statement is about to do, for `connection.set_authorizer`.

    Reading of tables and views, functions and table-valued functions of the lists, PRAGMAs that describe. Refused:
    writing, attaching, settings, extensions, virtual tables that are not on the list (those of the file included).
    """
    for name in TABLE_FUNCTIONS:  # SQLite declares one when it is first used, and asks whether a table may be created
        with suppress(sqlite3.OperationalError):  # this SQLite has it not
            connection.execute(f"SELECT 1 FROM {name} LIMIT 0").close()
    modules = {name.lower() for (name,) in connection.execute("SELECT name FROM pragma_module_list")}
    stored = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage = 0"  # virtual tables
    virtual = {name.lower() for (name,) in connection.execute(stored)}

    def may(action: int, first: str | None, second: str | None, _database: str | None, _source: str | None) -> int:
        name = (first or "").lower()
        if action in READ_ACTIONS:
            allowed = True
        elif action == sqlite3.SQLITE_FUNCTION:
            allowed = (second or "").lower() in FUNCTIONS
        elif action == sqlite3.SQLITE_READ:
            allowed = name in TABLE_FUNCTIONS or not (name in modules | virtual or name.startswith("pragma_"))
        elif action == sqlite3.SQLITE_PRAGMA:
            allowed = name in PRAGMAS_THAT_DESCRIBE or (name in PRAGMAS_WITHOUT_VALUE and second is None)
        else:
            allowed = False
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    return may
