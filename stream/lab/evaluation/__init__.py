"""The scoreboard: labelled worlds through the detector that users get, and how what it said is counted.

Nothing in here decides anything: the core does, and what people would use instead of it (`rivals`).
"""
