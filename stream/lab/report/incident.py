"""One incident, as its alerts last told it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stream.alerts import Alert, Members, printable, rfc3339, worst_first
from stream.core.charted import Chart
from stream.lab.plot import Point, Span
from stream.lab.plot_svg import svg_of
from stream.lab.report.markup import facts, name, table, text
from stream.notify.message import Message, amount, length, rarity

KEPT = ("What", "Since", "Gone", "Channels", "Do")
"""Lines of a message that the card has as they are."""
ORDINARY = 0.01
"""Share of flawed data below which it is not named."""
MOST_MODELS = 5


def strongest_first(alert: Alert) -> tuple[int, float, float, str]:
    """What incidents are ordered by: severity, then excess; ties by their beginning."""
    return *worst_first(alert), alert.started_at, alert.alert_id


def who(alert: Alert) -> str:
    """Whom it is about, as HTML: the whole id, for it has to be found again."""
    return f"{text(alert.entity.type)} {name(alert.entity.id)}"


def severity(alert: Alert) -> str:
    """How bad it is, as HTML."""
    return f'<span class="severity {alert.severity}">{alert.severity}</span>'


def until(alert: Alert) -> str:
    """When it ended, in words."""
    return "open" if alert.resolved_at is None else rfc3339(alert.resolved_at)


def cost(alert: Alert) -> str:
    """What the excess cost by the gateway's word; empty where it says nothing."""
    return "" if alert.excess_cost_usd is None else f"{alert.excess_cost_usd:,.2f} USD"


def card_of(number: int, alert: Alert, plot: str | None) -> str:
    """The incident in full; `number` is its place, `plot` an SVG."""
    parts = [
        f'<article class="{alert.severity}" id="incident-{number}">',
        f"<h3><span>{number}.</span> {severity(alert)} {text(alert.kind)} <span>{who(alert)}</span></h3>",
        f"<p>{text(alert.summary)}</p>",
        facts(_facts(alert)),
    ]
    if alert.members is not None:
        parts.append(_members(alert.members, alert.unit))
    if plot is not None:
        parts.append(plot)
    return "\n".join([*parts, "</article>"])


def _facts(alert: Alert) -> Iterator[tuple[str, str]]:
    said = {fact.label: text(fact.text) for fact in Message(alert, "").facts() if fact.label in KEPT}
    yield "What", said["What"]
    yield "Observed", f"{amount(alert.observed)} {text(alert.unit)} in {length(alert.window.horizon_seconds)}"
    ratio = "" if alert.ratio is None else f": {alert.ratio:.3g} × as much were observed"
    yield (
        "Expected",
        f"{'of a new key: ' if alert.kind == 'newcomer' else ''}{amount(alert.expected)} {text(alert.unit)}{ratio}",
    )
    for label in KEPT[1:]:
        yield label, said.get(label, "")
    yield "How rare", _rarity(alert)
    yield "Severity", text(alert.severity_reason)
    if alert.excess_low is not None and alert.excess_high is not None:
        yield "90 % interval", f"{amount(alert.excess_low)} – {amount(alert.excess_high, 'tokens')}"
    if alert.calls is not None:
        yield "Calls", f"{alert.calls:,} since it began"
    if alert.models:
        shares = [f"{name(model.id)} {model.share:.0%}" for model in alert.models[:MOST_MODELS]]
        yield "Through models", ", ".join(shares)
    if alert.org_id is not None:
        yield "Organisation", name(alert.org_id)
    yield (
        "Found",
        f"{rfc3339(alert.detected_at)}, last told {rfc3339(alert.updated_at)} as {alert.status}"
        + (f": {text(alert.status_reason)}" if alert.status_reason else ""),
    )
    quality = alert.data_quality
    flaws = {"without token counts": quality.missing_usage, "late": quality.late, "duplicate": quality.duplicates}
    yield "Data", ", ".join(f"{share:.0%} {what}" for what, share in flaws.items() if share >= ORDINARY)
    yield "Alert", name(alert.alert_id)


def _rarity(alert: Alert) -> str:
    if alert.kind == "feed":
        return ""
    held = "" if alert.baseline is None else f"; its baseline has {alert.baseline.active_days:,} active days"
    if alert.kind == "newcomer":
        held = "; it is new, and was compared with new keys"
    return f"a clean {text(alert.entity.type)} shows this on {rarity(alert.false_alarm_probability)}{held}"


def _members(members: Members, unit: str) -> str:
    said = f"{members.count:,} keys"
    if members.alone is not None:
        said += f", of which {members.alone:,} would have been found alone"
    if members.shared_traits:
        traits = ", ".join(f"{text(trait)} {name(value)}" for trait, value in members.shared_traits.items())
        said += f"; they share {traits}"
    if len(members.top) < members.count:
        said += f". The {len(members.top):,} strongest:"
    rows = [(name(member.key_id), f"{member.z:.1f}", amount(member.excess_tokens)) for member in members.top]
    return f"<p>{said}</p>" + table(("key", "z", f"{text(unit)} above its baseline"), rows, (1, 2))


def plot_of(alert: Alert, chart: Chart, spans: Sequence[Span]) -> str | None:
    """The key's hours against what was expected of them; None if none of them had ended.

    spans: all incidents of the key.
    """
    if not chart.tokens:
        return None
    starts = [chart.start + 3600.0 * hour for hour in range(len(chart.tokens))]
    # hours before the key was known are no hours of silence
    used = next((i for i, tokens in enumerate(chart.tokens) if tokens), 0)
    hours = list(zip(starts, chart.tokens, strict=True))[used:]
    points = [Point(s, None, e, None) for s, e in zip(starts, chart.expected, strict=True)][used:]
    return svg_of(
        f"Tokens per hour of {printable(alert.entity.id)}",
        "each hour, and what was expected of it; UTC",
        hours, points, spans, f"alert: {alert.kind}", style="",
    )  # fmt: skip
