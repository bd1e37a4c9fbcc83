"""Repeatable comparisons against peers and the physical limit: ``python -m benchmarks [row...]``.

Every figure is a ratio taken in one run on the same work, rounds interleaved A B A B. Nothing
here is a test, and nothing tests a time.
"""
