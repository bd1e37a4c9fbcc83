"""Fsck: catalog and backends compared in both directions, and every promise looked at."""
