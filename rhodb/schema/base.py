"""What all tables share: constraint names, column types that SQLite's STRICT tables and PostgreSQL both take."""

from typing import Any

from sqlalchemy import REAL, BigInteger, CheckConstraint, Double, ForeignKey, Integer, MetaData
from sqlalchemy.orm import DeclarativeBase, MappedColumn, mapped_column
from sqlalchemy.types import TypeEngine

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

Real: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")
"""A double on both servers: STRICT tables know no DOUBLE, and PostgreSQL's REAL has 4 bytes only."""

Big: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")
"""64-bit integer: seeds and parameter counts do not fit PostgreSQL's INTEGER."""

STRICT: dict[str, Any] = {"sqlite_strict": True}
CLUSTERED: dict[str, Any] = {"sqlite_strict": True, "sqlite_with_rowid": False}
"""For narrow tables with a composite key: one B-tree in key order instead of a heap and its index."""


class Base(DeclarativeBase):
    """Base of rhodb's tables."""

    metadata = MetaData(naming_convention=NAMING)


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """CHECK that a column holds one of a closed set of words."""
    quoted = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({quoted})", name=column)


def flag(column: str) -> CheckConstraint:
    """CHECK that an integer column is 0 or 1 (STRICT tables have no BOOLEAN)."""
    return CheckConstraint(f"{column} IN (0, 1)", name=column)


def at_least(column: str, low: int = 0) -> CheckConstraint:
    """CHECK column >= low."""
    return CheckConstraint(f"{column} >= {low}", name=column)


def finite(column: str) -> CheckConstraint:
    """CHECK that a number is neither infinite nor NaN (which PostgreSQL sorts above every number)."""
    return CheckConstraint(f"abs({column}) < 1e300", name=f"{column}_finite")


def share(column: str) -> CheckConstraint:
    """CHECK that a number lies in [0, 1]."""
    return CheckConstraint(f"{column} BETWEEN 0 AND 1", name=column)


def run_key() -> MappedColumn[int]:
    """The column that says which run a row belongs to, and its (first) key; it goes when the run goes."""
    return mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, comment="Run.", autoincrement=False
    )
