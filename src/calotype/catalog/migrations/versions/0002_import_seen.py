"""What imports have seen: files that need not be read again while they are as they were."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Hex64 = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "calotype_import_seen",
        sa.Column(
            "path", sa.LargeBinary(), nullable=False, comment="absolute, as the system has it"
        ),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column(
            "modified", sa.BigInteger(), nullable=False, comment="nanoseconds since 1970 UTC"
        ),
        sa.Column("inode", sa.BigInteger(), nullable=False, comment="its lowest 63 bits"),
        sa.Column("digest", Hex64, nullable=False),
        sa.PrimaryKeyConstraint("path"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop it: the next import reads every file."""
    op.drop_table("calotype_import_seen")
