"""Run by Alembic: on the connection it is given, in the transaction that is open there.

Without one it says what it would run, on PostgreSQL.
"""

from __future__ import annotations

from alembic import context

options = context.config.attributes

context.configure(
    connection=options["connection"],
    dialect_name="postgresql",
    literal_binds=context.is_offline_mode(),
    target_metadata=options["target_metadata"],
    version_table=options["version_table"],
    transactional_ddl=False,
    render_as_batch=True,
)
context.run_migrations()
