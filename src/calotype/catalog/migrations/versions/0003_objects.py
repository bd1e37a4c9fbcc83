"""Bytes in the catalog's own database: objects, and the chunks that they are made of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

from calotype.errors import StillReferenced

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables, unless this database was a place for bytes already."""
    spelled = context.is_offline_mode()  # for an editor: nothing can be looked at
    if not spelled and sa.inspect(op.get_bind()).has_table("calotype_object"):
        return
    op.create_table(
        "calotype_object",
        sa.Column(
            "version", Identity, autoincrement=True, nullable=False, comment="never used again"
        ),
        sa.Column("name", Name, nullable=True, comment="NULL: unfinished, or to be cleared away"),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("modified", sa.BigInteger(), nullable=False, comment="0: to be cleared away"),
        sa.CheckConstraint("size >= 0", name="calotype_object_size"),
        sa.PrimaryKeyConstraint("version"),
        sqlite_autoincrement=True,
    )
    named, unnamed = sa.text("name IS NOT NULL"), sa.text("name IS NULL")
    op.create_index(
        "calotype_object_name",
        "calotype_object",
        ["name"],
        unique=True,
        sqlite_where=named,
        postgresql_where=named,
    )
    op.create_index(
        "calotype_object_unnamed",
        "calotype_object",
        ["modified"],
        sqlite_where=unnamed,
        postgresql_where=unnamed,
    )
    op.create_table(
        "calotype_chunk",
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version"],
            ["calotype_object.version"],
            name="calotype_chunk_object",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("version", "number"),
    )
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER TABLE calotype_chunk ALTER COLUMN bytes SET STORAGE EXTERNAL")


def downgrade() -> None:
    """Drop them where no object is in them: nobody else has its bytes."""
    found = op.get_bind().exec_driver_sql(
        "SELECT count(*) FROM calotype_object WHERE name IS NOT NULL"
    )
    if objects := found.scalar_one():
        raise StillReferenced(
            f"This database holds the bytes of {objects} objects, which the schema before has no "
            "place for; nothing was changed.",
            hint="Let go of them first (release, gc), or restore a copy made before the upgrade.",
        )
    op.drop_table("calotype_chunk")
    op.drop_table("calotype_object")
