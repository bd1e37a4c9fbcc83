"""Garbage collection: look, then let go; online, resumable, safe at grace 0.

``collecting`` decides and dooms rows, ``erasing`` deletes bytes, ``plans`` joins them: terms that
are stored, a look that shows what they would do, and an execution that checks every row again.
"""
