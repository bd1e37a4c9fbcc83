"""Uploads: bytes that somebody was admitted to send past the store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

Hex64 = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "calotype_upload",
        sa.Column("id", Name, nullable=False),
        sa.Column("scope", Name, nullable=False),
        sa.Column("mode", Name, nullable=False),
        sa.Column("digest", Hex64, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column(
            "token",
            Name,
            nullable=True,
            comment="of the replica; NULL where no bytes are to come",
        ),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "outcome",
            sa.Text(),
            nullable=True,
            comment="NULL until it is completed: a put's status, or mismatch",
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("calotype_upload_ends_at", "calotype_upload", ["ends_at"], unique=False)


def downgrade() -> None:
    """Drop it: what was asked for and not completed is asked for again; gc ends its writers."""
    op.drop_table("calotype_upload")
