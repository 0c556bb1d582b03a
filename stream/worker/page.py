"""The plain status page of a worker: no script, nothing from elsewhere, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from stream.alerts import Alert, printable, rfc3339, title_of
from stream.core.view import KeyView

STYLE = (
    "body{font:14px/1.4 system-ui,sans-serif;margin:2em;max-width:70em}table{border-collapse:collapse;margin:0 0 2em}"
    "td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #8884}td.n{text-align:right;"
    "font-variant-numeric:tabular-nums}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8cf}}"
)


def render(status: dict[str, Any], alerts: Sequence[Alert], keys: Sequence[KeyView]) -> str:
    """The page as HTML."""
    state = "ready" if status["ready"] else "not ready: " + "; ".join(status["reasons"])
    partitions = [
        [row["partition"], _number(row["lag"]), row["watermark"] or "–", _number(row["keys"]), row["open_incidents"]]
        for row in status["partitions"]
    ]
    intake = [
        [row["partition"], _number(row["lag"]), row["newest"] or "–", "waits for others" if row["waiting"] else ""]
        for row in status.get("intake", ())
    ]
    newest = sorted(alerts, key=lambda alert: alert.started_at, reverse=True)
    incidents = [
        [alert.severity, alert.kind, title_of(alert.entity), rfc3339(alert.started_at), printable(alert.summary, 300)]
        for alert in newest
        if alert.members is None
    ]
    campaigns = [
        [
            alert.severity,
            alert.kind,
            title_of(alert.entity),
            alert.members.count,
            _number(alert.excess_tokens),
            rfc3339(alert.started_at),
            printable(alert.summary, 300),
        ]
        for alert in newest
        if alert.members is not None
    ]
    heads = ("severity", "kind", "group", "members", "excess tokens", "since", "summary")
    rates = [
        [
            printable(view.key_id),
            _number(view.tokens_per_second),
            _number(view.expected_tokens_per_second),
            _number(view.upper_tokens_per_second),
            f"{view.score:.3f}",
            ", ".join(view.open_incidents),
        ]
        for view in keys
    ]
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Overdraw</title>',
            '<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="10">',
            f"<style>{STYLE}</style></head><body><h1>Overdraw {escape(status['version'])}</h1>",
            f"<p>{escape(status['app_id'])}, instance {escape(str(status['instance_id'] or '–'))}: ",
            f"<strong>{escape(state)}</strong></p>",
            _table("Open incidents", ("severity", "kind", "entity", "since", "summary"), incidents),
            _table("Open campaigns", heads, campaigns) if status.get("groups") else "",
            _table("Busiest keys", ("key", "tokens/s", "expected", "upper", "score", "incidents"), rates),
            _table("Partitions", ("partition", "lag", "watermark", "keys", "incidents"), partitions),
            _table("Intake", ("partition", "lag", "newest", ""), intake) if "intake" in status else "",
            '<p><a href="metrics">metrics</a> <a href="api/status">status</a> <a href="api/alerts">alerts</a> ',
            '<a href="api/keys">keys</a> <a href="api/groups">groups</a> <a href="readyz">readyz</a></p></body></html>',
        )
    )


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows]
    if not lines:
        return f"<h2>{escape(title)}</h2><p>none</p>"
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    return f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{''.join(lines)}</table>"


def _cell(value: object) -> str:
    text = escape(str(value))
    return (
        f'<td class="n">{text}</td>' if text[:1].isdigit() and text.replace(",", "").isdigit() else f"<td>{text}</td>"
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
