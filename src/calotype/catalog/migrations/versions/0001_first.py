"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Hex64 = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

TABLES = (
    "calotype_reference",
    "calotype_provider_upload",
    "calotype_derivation",
    "calotype_asset",
    "calotype_usage",
    "calotype_signing_key",
    "calotype_scope",
    "calotype_replica",
    "calotype_plan",
    "calotype_meta",
    "calotype_candidate",
    "calotype_blocked",
    "calotype_blob",
    "calotype_backend",
)
"""In the order in which they can be dropped."""


def upgrade() -> None:
    """Make every table and index."""
    op.create_table(
        "calotype_backend",
        sa.Column("name", Name, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("erase_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "calotype_blob",
        sa.Column("digest", Hex64, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("extension", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "length(digest) = 64 AND ltrim(digest, '0123456789abcdef') = ''",
            name="calotype_blob_digest",
        ),
        sa.CheckConstraint("size >= 0", name="calotype_blob_size"),
        sa.PrimaryKeyConstraint("digest"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "calotype_blocked",
        sa.Column("digest", Hex64, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "calotype_candidate",
        sa.Column("id", Identity, autoincrement=True, nullable=False),
        sa.Column("digest", Hex64, nullable=False),
        sa.Column("look_at", sa.BigInteger(), nullable=False),
        sa.Column("pushed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("calotype_candidate_digest", "calotype_candidate", ["digest"], unique=False)
    op.create_index(
        "calotype_candidate_look_at", "calotype_candidate", ["look_at", "id"], unique=False
    )
    op.create_table(
        "calotype_meta",
        sa.Column("key", Name, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "calotype_plan",
        sa.Column("id", Name, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "calotype_replica",
        sa.Column("key", Name, nullable=False),
        sa.Column("backend", Name, nullable=False),
        sa.Column("digest", Hex64, nullable=False),
        sa.Column("token", Name, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "due_at",
            sa.BigInteger(),
            nullable=True,
            comment="when gc looks at it next; NULL when never",
        ),
        sa.Column("suspect_at", sa.BigInteger(), nullable=True),
        sa.Column("doomed_at", sa.BigInteger(), nullable=True),
        sa.Column("verified_at", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "state IN ('writing', 'live', 'doomed', 'erasing', 'erased')",
            name="calotype_replica_state",
        ),
        sa.PrimaryKeyConstraint("key", "backend"),
        sqlite_with_rowid=False,
    )
    op.create_index("calotype_replica_digest", "calotype_replica", ["digest"], unique=False)
    op.create_index(
        "calotype_replica_due",
        "calotype_replica",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "calotype_replica_live",
        "calotype_replica",
        ["digest", "backend"],
        unique=True,
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.create_index("calotype_replica_token", "calotype_replica", ["token"], unique=True)
    op.create_table(
        "calotype_scope",
        sa.Column("scope", Name, nullable=False),
        sa.Column("quota", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("used >= 0", name="calotype_scope_used"),
        sa.PrimaryKeyConstraint("scope"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "calotype_signing_key",
        sa.Column("id", Name, nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "calotype_usage",
        sa.Column("scope", Name, nullable=False),
        sa.Column("day", Name, nullable=False),
        sa.Column("assets", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("references", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "day"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "calotype_asset",
        sa.Column("scope", Name, nullable=False),
        sa.Column("digest", Hex64, nullable=False),
        sa.Column("kept_until", sa.BigInteger(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_accessed", sa.BigInteger(), nullable=True),
        sa.Column("access_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["digest"], ["calotype_blob.digest"], name="calotype_asset_blob", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("scope", "digest"),
        sqlite_with_rowid=False,
    )
    op.create_index("calotype_asset_digest", "calotype_asset", ["digest"], unique=False)
    op.create_index(
        "calotype_asset_recent", "calotype_asset", ["scope", "created_at", "digest"], unique=False
    )
    op.create_table(
        "calotype_derivation",
        sa.Column("audience", Name, nullable=False),
        sa.Column("input_digest", Hex64, nullable=False),
        sa.Column("recipe", Name, nullable=False),
        sa.Column("version", Name, nullable=False),
        sa.Column("params_hash", Name, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("cost_ms", sa.BigInteger(), nullable=True),
        sa.Column("last_used", sa.BigInteger(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("output_inline", sa.LargeBinary(), nullable=True),
        sa.Column("output_digest", Hex64, nullable=True),
        sa.ForeignKeyConstraint(
            ["input_digest"],
            ["calotype_blob.digest"],
            name="calotype_derivation_input",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["output_digest"],
            ["calotype_blob.digest"],
            name="calotype_derivation_output",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("audience", "input_digest", "recipe", "version", "params_hash"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "calotype_derivation_input_ix", "calotype_derivation", ["input_digest"], unique=False
    )
    op.create_index(
        "calotype_derivation_output_ix", "calotype_derivation", ["output_digest"], unique=False
    )
    op.create_table(
        "calotype_provider_upload",
        sa.Column("scope", Name, nullable=False),
        sa.Column("digest", Hex64, nullable=False),
        sa.Column("provider", Name, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("remote_id", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scope", "digest"],
            ["calotype_asset.scope", "calotype_asset.digest"],
            name="calotype_provider_upload_asset",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("scope", "digest", "provider"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "calotype_provider_upload_asset_ix",
        "calotype_provider_upload",
        ["digest", "scope"],
        unique=False,
    )
    op.create_table(
        "calotype_reference",
        sa.Column("id", Identity, autoincrement=True, nullable=False),
        sa.Column("scope", Name, nullable=False),
        sa.Column("owner_kind", Name, nullable=False),
        sa.Column("owner_id", Name, nullable=False),
        sa.Column("role", Name, nullable=False),
        sa.Column("digest", Hex64, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("released_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["scope", "digest"],
            ["calotype_asset.scope", "calotype_asset.digest"],
            name="calotype_reference_asset",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "calotype_reference_asset_ix",
        "calotype_reference",
        ["digest", "scope", "released_at"],
        unique=False,
    )
    op.create_index(
        "calotype_reference_released",
        "calotype_reference",
        ["scope", "owner_kind", "owner_id", "role"],
        unique=False,
        sqlite_where=sa.text("released_at IS NOT NULL"),
        postgresql_where=sa.text("released_at IS NOT NULL"),
    )
    op.create_index(
        "calotype_reference_slot",
        "calotype_reference",
        ["scope", "owner_kind", "owner_id", "role"],
        unique=True,
        sqlite_where=sa.text("released_at IS NULL"),
        postgresql_where=sa.text("released_at IS NULL"),
    )


def downgrade() -> None:
    """Drop them; what the store knew is gone, the blobs stay in their backend."""
    for table in TABLES:
        op.drop_table(table)
