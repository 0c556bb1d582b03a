"""The rows of the experiments as a Markdown table, which reads well on a terminal and in the README."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from stream.lab.chaos.run import Row

HEAD = ("experiment", "Kafka", "times", "records", "sums of keys", "incidents", "back at work, median (most)")


def table(rows: Sequence[Row]) -> str:
    """One line a row, with its head."""
    lines = [HEAD, ("---",) * len(HEAD), *(_cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _cells(row: Row) -> tuple[str, ...]:
    verdict = row.verdict
    if verdict is None:
        return (row.summary, row.kafka, "", "", "**broken off**", "", "")
    wrong = "exact" if row.exact else "**NOT EXACT**"
    gap = f", gap of {verdict.gap:,} counted, exit 3" if verdict.gap and row.exact else ""
    return (
        row.summary,
        row.kafka,
        str(len(row.back)),
        f"{verdict.records:,}",
        f"{verdict.keys} {wrong}{gap}",
        f"{verdict.incidents} {wrong}",
        back(row.back),
    )


def back(seconds: Sequence[float]) -> str:
    """How long it took, for people.

    >>> back([2.0, 2.61, 9.0]), back([0.5]), back([])
    ('2.6 s (9.0 s)', '0.5 s', '')
    """
    if len(seconds) < 2:
        return "".join(f"{value:.1f} s" for value in seconds)
    return f"{median(seconds):.1f} s ({max(seconds):.1f} s)"
