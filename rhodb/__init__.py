"""rhodb: a results warehouse, runners and honest statistics for language-model alignment experiments.

    import rhodb
    wh = rhodb.open("results/master.db")
    wh.query("SELECT condition, count(*) AS runs FROM v_alignment GROUP BY condition")
    wh.scores(kind="alignment", metric="gap", split="eval")

Importing this package loads nothing heavy; `open` brings SQLAlchemy with it when it is first called.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rhodb.warehouse import Warehouse

__version__ = "0.5.0"
__all__ = ["__version__", "open"]


def open(db: str | None = None, *, create: bool = True, read_only: bool = False) -> "Warehouse":  # noqa: A001
    """Open a warehouse: a file path or database URL, else `RHODB_DB`, else `results/master.db`."""
    from rhodb.warehouse import Warehouse

    return Warehouse.open(db, create=create, read_only=read_only)
