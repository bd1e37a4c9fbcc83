"""Which generation of a backend's marker a catalog goes with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NOTES = (
    "SELECT version FROM calotype_object WHERE name = 'calotype.json'"
    " OR name LIKE 'erased/%' OR name LIKE 'blocked/%'"
)


def upgrade() -> None:
    """None is known yet: the backends are marked when something is to be erased."""
    op.add_column(
        "calotype_backend",
        sa.Column("generation", sa.Text(), nullable=False, server_default=sa.text("''")),
    )


def downgrade() -> None:
    """Forget it, and the notes in this database: a program from before takes them for objects."""
    op.execute(f"DELETE FROM calotype_chunk WHERE version IN ({NOTES})")
    op.execute(f"DELETE FROM calotype_object WHERE version IN ({NOTES})")
    op.execute("DELETE FROM calotype_meta WHERE key = 'home'")
    op.drop_column("calotype_backend", "generation")
