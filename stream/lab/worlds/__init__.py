"""Labelled worlds: what many keys use per bucket, and who of them is attacked; for tuning and for `evaluate`.

A world holds sums per bucket, never single calls, so that thousands of key-days take seconds. Nothing in here knows
the detector.
"""
