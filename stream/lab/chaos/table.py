"""What became of the experiments, as a Markdown table that reads well on a terminal and in the README."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from stream.lab.chaos.run import Row


def table(rows: Sequence[Row]) -> str:
    """One line an experiment, one column a Kafka release; the records, keys and incidents are those of all releases."""
    releases = list(dict.fromkeys(row.kafka for row in rows))
    names = list(dict.fromkeys(row.name for row in rows))
    found = {(row.name, row.kafka): row for row in rows}
    lines = [
        ("what breaks", "records", "incidents", *(f"Kafka {release}: times, back at work" for release in releases)),
        ("---",) * (3 + len(releases)),
    ]
    for name in names:
        those = [row for row in rows if row.name == name]
        verdicts = [row.verdict for row in those if row.verdict is not None]
        records, incidents = sum(v.records for v in verdicts), sum(v.incidents for v in verdicts)
        cells = (_cell(found.get((name, release))) for release in releases)
        lines.append((those[0].summary, f"{records:,}", f"{incidents:,}", *cells))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row.verdict is None:
        return "**broken off**"
    if not row.exact:
        return "**NOT EXACT**"
    gap = f", a gap of {row.verdict.gap:,} counted, exit 3" if row.verdict.gap else ""
    return f"{len(row.back)} × exact, {back(row.back)}{gap}"


def back(seconds: Sequence[float]) -> str:
    """How long it took, for people: the median, and the most.

    >>> back([2.0, 2.61, 9.0]), back([0.5])
    ('2.6 s (9.0 s)', '0.5 s')
    """
    if len(seconds) < 2:
        return "".join(f"{value:.1f} s" for value in seconds)
    return f"{median(seconds):.1f} s ({max(seconds):.1f} s)"
