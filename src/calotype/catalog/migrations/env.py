"""Run by Alembic: on the connection it is given, in the transaction that is open there."""

from __future__ import annotations

from alembic import context

options = context.config.attributes

context.configure(
    connection=options["connection"],
    target_metadata=options["target_metadata"],
    version_table=options["version_table"],
    transactional_ddl=False,
    render_as_batch=True,
)
context.run_migrations()
