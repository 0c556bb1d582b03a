"""Alerts as rows of a table that a spreadsheet may open."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from stream.alerts import Alert, escaped, rfc3339

COLUMNS = (
    "alert_id", "sequence", "status", "severity", "kind", "entity_type", "entity_id", "started_at", "detected_at",
    "updated_at", "resolved_at", "observed", "expected", "upper", "ratio", "unit", "z", "score",
    "false_alarm_probability", "excess_tokens", "excess_output_tokens", "excess_per_hour", "excess_cost_usd",
    "channels", "members", "historical", "summary", "fingerprint", "config_digest",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What begins a cell that a spreadsheet would run."""


def cell_of(value: object) -> str:
    """A value as a cell: text has its control characters escaped, and is never a formula.

    >>> cell_of("=cmd|calc"), cell_of(-1.5), cell_of(None)
    ("'=cmd|calc", '-1.5', '')
    """
    if value is None:
        return ""
    if isinstance(value, str):
        # a spreadsheet passes over blanks before a formula
        runs = any(text.startswith(FORMULA) for text in (value, value.lstrip(" \u3000\xa0"), value.lstrip()))
        return f"'{escaped(value)}" if runs else escaped(value)
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def csv_line(cells: Sequence[object]) -> str:
    """Cells as one line of CSV, with its line break."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([cell_of(cell) for cell in cells])
    return line.getvalue()


def row_of(alert: Alert) -> list[object]:
    """The cells of an alert, in the order of COLUMNS; times as RFC 3339."""
    said: dict[str, object] = {name: getattr(alert, name, None) for name in COLUMNS}
    for name in ("started_at", "detected_at", "updated_at", "resolved_at"):
        moment = getattr(alert, name)
        said[name] = None if moment is None else rfc3339(moment)
    said["entity_type"], said["entity_id"] = alert.entity.type, alert.entity.id
    said["channels"] = " ".join(f"{channel.name}:{channel.z:.2f}" for channel in alert.channels)
    said["members"] = None if alert.members is None else alert.members.count
    return [said[name] for name in COLUMNS]
