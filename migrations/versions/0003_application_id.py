"""Schema v3: a SQLite file says in its header that it is a warehouse (`PRAGMA application_id`)."""

from alembic import op

from rhodb.place import APPLICATION_ID

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _mark(APPLICATION_ID)


def downgrade() -> None:
    _mark(0)


def _mark(number: int) -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"PRAGMA application_id = {number}")
