"""The catalog's tables, for SQLite and PostgreSQL alike.

Instants are BIGINT microseconds since 1970 UTC; ``FOREVER`` stands for infinity. Digests are 64
lower-case hex characters, compared bytewise.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    event,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex
from sqlalchemy.sql.compiler import DDLCompiler

PREFIX = "calotype_"

metadata = MetaData()


@compiles(CreateIndex, "postgresql")
def _partial(create: CreateIndex, compiler: DDLCompiler, **options: Any) -> str:
    """The same condition on both; saying it twice would load PostgreSQL's dialect for SQLite."""
    options_of = create.element.dialect_options
    options_of["postgresql"]["where"] = options_of["sqlite"]["where"]
    said: str = compiler.visit_create_index(create, **options)  # type: ignore[no-untyped-call]
    return said


Hex64 = String(64).with_variant(String(64, collation="C"), "postgresql")
Name = Text().with_variant(Text(collation="C"), "postgresql")
Identity = BigInteger().with_variant(Integer, "sqlite")

meta = Table(
    PREFIX + "meta",
    metadata,
    Column("key", Name, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

blob = Table(
    PREFIX + "blob",
    metadata,
    Column("digest", Hex64, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("extension", Text, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    CheckConstraint(
        "length(digest) = 64 AND ltrim(digest, '0123456789abcdef') = ''",
        name="calotype_blob_digest",
    ),
    CheckConstraint("size >= 0", name="calotype_blob_size"),
    sqlite_with_rowid=False,
)

backend = Table(
    PREFIX + "backend",
    metadata,
    Column("name", Name, primary_key=True),
    Column("url", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("erase_seq", BigInteger, nullable=False),
    Column("generation", Text, nullable=False, server_default=text("''")),
    sqlite_with_rowid=False,
)

replica = Table(
    PREFIX + "replica",
    metadata,
    Column("key", Name, primary_key=True),
    Column("backend", Name, primary_key=True),
    Column("digest", Hex64, nullable=False),
    Column("token", Name, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("due_at", BigInteger, comment="when gc looks at it next; NULL when never"),
    Column("suspect_at", BigInteger),
    Column("doomed_at", BigInteger),
    Column("verified_at", BigInteger),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    CheckConstraint(
        "state IN ('writing', 'live', 'doomed', 'erasing', 'erased')",
        name="calotype_replica_state",
    ),
    Index(
        "calotype_replica_live",
        "digest",
        "backend",
        unique=True,
        sqlite_where=text("state = 'live'"),
    ),
    Index("calotype_replica_token", "token", unique=True),
    Index("calotype_replica_digest", "digest"),
    Index(
        "calotype_replica_due",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

scope = Table(
    PREFIX + "scope",
    metadata,
    Column("scope", Name, primary_key=True),
    Column("quota", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=False),
    CheckConstraint("used >= 0", name="calotype_scope_used"),
    sqlite_with_rowid=False,
)

asset = Table(
    PREFIX + "asset",
    metadata,
    Column("scope", Name, primary_key=True),
    Column(
        "digest",
        Hex64,
        ForeignKey("calotype_blob.digest", name="calotype_asset_blob", ondelete="RESTRICT"),
        primary_key=True,
    ),
    Column("kept_until", BigInteger, nullable=False),
    Column("filename", Text),
    Column("metadata", Text, nullable=False, server_default=text("'{}'")),
    Column("created_at", BigInteger, nullable=False),
    Column("last_accessed", BigInteger),
    Column("access_count", BigInteger, nullable=False, server_default=text("0")),
    Index("calotype_asset_digest", "digest"),
    Index("calotype_asset_recent", "scope", "created_at", "digest"),
    sqlite_with_rowid=False,
)

reference = Table(
    PREFIX + "reference",
    metadata,
    Column("id", Identity, primary_key=True, autoincrement=True),
    Column("scope", Name, nullable=False),
    Column("owner_kind", Name, nullable=False),
    Column("owner_id", Name, nullable=False),
    Column("role", Name, nullable=False),
    Column("digest", Hex64, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("released_at", BigInteger),
    ForeignKeyConstraint(
        ["scope", "digest"],
        ["calotype_asset.scope", "calotype_asset.digest"],
        name="calotype_reference_asset",
        ondelete="RESTRICT",
    ),
    Index(
        "calotype_reference_slot",
        "scope",
        "owner_kind",
        "owner_id",
        "role",
        unique=True,
        sqlite_where=text("released_at IS NULL"),
    ),
    Index(
        "calotype_reference_released",
        "scope",
        "owner_kind",
        "owner_id",
        "role",
        sqlite_where=text("released_at IS NOT NULL"),
    ),
    Index("calotype_reference_asset_ix", "digest", "scope", "released_at"),
    sqlite_autoincrement=True,
)

candidate = Table(
    PREFIX + "candidate",
    metadata,
    Column("id", Identity, primary_key=True, autoincrement=True),
    Column("digest", Hex64, nullable=False),
    Column("look_at", BigInteger, nullable=False),
    Column("pushed", BigInteger, nullable=False, server_default=text("0")),
    Index("calotype_candidate_digest", "digest"),
    Index("calotype_candidate_look_at", "look_at", "id"),
    sqlite_autoincrement=True,
)

derivation = Table(
    PREFIX + "derivation",
    metadata,
    Column("audience", Name, primary_key=True),
    Column(
        "input_digest",
        Hex64,
        ForeignKey("calotype_blob.digest", name="calotype_derivation_input", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("recipe", Name, primary_key=True),
    Column("version", Name, primary_key=True),
    Column("params_hash", Name, primary_key=True),
    Column("state", Text, nullable=False),
    Column("lease_token", Text),
    Column("lease_until", BigInteger),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("error", Text),
    Column("cost_ms", BigInteger),
    Column("last_used", BigInteger),
    Column("bytes", BigInteger),
    Column("output_inline", LargeBinary),
    Column(
        "output_digest",
        Hex64,
        ForeignKey("calotype_blob.digest", name="calotype_derivation_output", ondelete="RESTRICT"),
    ),
    Index("calotype_derivation_input_ix", "input_digest"),
    Index("calotype_derivation_output_ix", "output_digest"),
    sqlite_with_rowid=False,
)

provider_upload = Table(
    PREFIX + "provider_upload",
    metadata,
    Column("scope", Name, primary_key=True),
    Column("digest", Hex64, primary_key=True),
    Column("provider", Name, primary_key=True),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("idempotency_key", Text),
    Column("lease_until", BigInteger),
    Column("remote_id", Text),
    Column("note", Text),
    Column("updated_at", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["scope", "digest"],
        ["calotype_asset.scope", "calotype_asset.digest"],
        name="calotype_provider_upload_asset",
        ondelete="CASCADE",
    ),
    Index("calotype_provider_upload_asset_ix", "digest", "scope"),
    sqlite_with_rowid=False,
)

blocked = Table(
    PREFIX + "blocked",
    metadata,
    Column("digest", Hex64, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_with_rowid=False,
)

plan = Table(
    PREFIX + "plan",
    metadata,
    Column("id", Name, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("terms", Text, nullable=False),
    sqlite_with_rowid=False,
)

usage = Table(
    PREFIX + "usage",
    metadata,
    Column("scope", Name, primary_key=True),
    Column("day", Name, primary_key=True),
    Column("assets", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("references", BigInteger, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

upload = Table(
    PREFIX + "upload",
    metadata,
    Column("id", Name, primary_key=True),
    Column("scope", Name, nullable=False),
    Column("mode", Name, nullable=False),
    Column("digest", Hex64, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("token", Name, comment="of the replica; NULL where no bytes are to come"),
    Column("ends_at", BigInteger, nullable=False),
    Column("outcome", Text, comment="NULL until it is completed: a put's status, or mismatch"),
    Index("calotype_upload_ends_at", "ends_at"),
    sqlite_with_rowid=False,
)

import_seen = Table(
    PREFIX + "import_seen",
    metadata,
    Column("path", LargeBinary, primary_key=True, comment="absolute, as the system has it"),
    Column("size", BigInteger, nullable=False),
    Column("modified", BigInteger, nullable=False, comment="nanoseconds since 1970 UTC"),
    Column("inode", BigInteger, nullable=False, comment="its lowest 63 bits"),
    Column("digest", Hex64, nullable=False),
    sqlite_with_rowid=False,
)

signing_key = Table(
    PREFIX + "signing_key",
    metadata,
    Column("id", Name, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

stored = Table(
    PREFIX + "object",
    metadata,
    Column("version", Identity, primary_key=True, autoincrement=True, comment="never used again"),
    Column("name", Name, comment="NULL: unfinished, or to be cleared away"),
    Column("size", BigInteger, nullable=False),
    Column("modified", BigInteger, nullable=False, comment="0: to be cleared away"),
    CheckConstraint("size >= 0", name="calotype_object_size"),
    Index("calotype_object_name", "name", unique=True, sqlite_where=text("name IS NOT NULL")),
    Index("calotype_object_unnamed", "modified", sqlite_where=text("name IS NULL")),
    sqlite_autoincrement=True,
)

chunk = Table(
    PREFIX + "chunk",
    metadata,
    Column(
        "version",
        BigInteger,
        ForeignKey("calotype_object.version", name="calotype_chunk_object", ondelete="RESTRICT"),
        primary_key=True,
    ),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("bytes", LargeBinary, nullable=False),
)

AS_IT_IS = "ALTER TABLE calotype_chunk ALTER COLUMN bytes SET STORAGE EXTERNAL"
"""What PostgreSQL is told of bytes: images are compressed already."""

_told = DDL(AS_IT_IS)  # type: ignore[no-untyped-call]
event.listen(chunk, "after_create", _told.execute_if(dialect="postgresql"))
