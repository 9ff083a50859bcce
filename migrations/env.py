"""Alembic's entry point: called by `rhodb.migrate` with an open connection, or by the `alembic` command."""

from alembic import context
from sqlalchemy import Connection

from rhodb.migrate import migration_connection
from rhodb.schema import Base


def _is_ours(_object: object, name: str | None, type_: str, reflected: bool, compared: object) -> bool:
    """Views are managed by the revisions themselves."""
    return not (type_ == "table" and reflected and compared is None and (name or "").startswith("v_"))


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        include_object=_is_ours,
        compare_type=True,
    )
    context.run_migrations()
    if connection.dialect.name == "sqlite":
        # The revision once more where it can be read without opening the database.
        revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() or "0"
        connection.exec_driver_sql(f"PRAGMA user_version = {int(revision)}")


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    with migration_connection(context.get_x_argument(as_dictionary=True).get("db")) as own:
        _run(own)
