"""The paragraphs of an explanation, as plain lines: what is usual for a key, the decision, the life of its alert."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stream.alerts import Alert, printable, rfc3339, yardstick_of
from stream.core.explain import SHAPES, few, short, span
from stream.core.explanation import Decision, Explanation, Habits, PeersView
from stream.notify.message import RAREST

MOST_STEPS = 8
"""Steps of an alert's life that are listed, the first and the last ones."""
MOST_TEXT = 300
BY = {
    "quick": " by the windows of minutes",
    "volume": " by volume and hours",
    "joint": " by volume, hours and the shape of the calls",
    "newcomer": " by its size and shape as a new key",
    "nothing": "",
}
"""What decides, by its name in a Decision."""


def habits_in_words(why: Explanation, habits: Habits) -> Iterator[str]:
    """What is usual for the key, a few lines."""
    yield (
        f"known for {habits.age_days:.1f} days, active on {habits.active_days}, maturity {habits.maturity:.2f}; "
        f"{why.calls:,} calls, {short(why.input_tokens)} input and {short(why.output_tokens)} output tokens in all"
    )
    yield (
        f"usually {short(habits.tokens_per_day)} tokens a day, {short(habits.tokens_per_call)} a call, "
        f"{habits.input_share:.0%} of them prompt"
    )
    yield (
        f"{habits.predictability}: an hour is within {habits.hour_factor:.1f} × of what was expected; "
        f"{habits.volatility}: within {habits.day_factor:.1f} ×"
    )
    yield (
        f"{habits.season} (season {habits.season_strength:.2f} of 1); {habits.activity} ({habits.active_share:.0%} of "
        "the last ten days)"
    )


def decision_in_words(why: Explanation, decision: Decision) -> Iterator[str]:
    """The score, what it is measured by, and the open incident."""
    yield (
        f"score {decision.score:.2f}{BY[decision.by]}; an incident opens at {decision.threshold:.2f} (dial: "
        f"{decision.dial:g} false alerts per 1,000 key-days), a page at {decision.page_threshold:.2f}"
    )
    if decision.gate is not None:
        yield f"  not judged: {decision.gate}"
    else:
        chance = decision.false_alarm_probability
        often = f"with a chance of {chance:.2g}" if chance < 1 else "often"
        if chance < RAREST:
            often = "with a chance of one in a million, or less"
        yield f"  clean days of keys like this one reach it {often}"
    if why.peers is not None:
        yield from peers_in_words(why.peers)
    if why.as_of == why.steps_as_of and abs(decision.score - decision.score_at_close) >= 0.005:
        yield f"  at the close of the bucket, before it was learned: {decision.score_at_close:.2f}"
    incident = why.incident
    if incident is not None:
        state = "cooling down" if incident.cooling else "open"
        yield (
            f"incident {state} since {rfc3339(incident.started_at)}: {incident.kind}, {incident.severity} "
            f"({incident.severity_reason}); {short(incident.excess_tokens)} tokens above "
            f"{yardstick_of(incident.kind)} since {rfc3339(incident.since)}, highest score {incident.score:.2f}"
        )
        yield "  channels: " + ", ".join(f"{name} (z {z:.1f})" for name, z in incident.channels.items())
        yield f"  for a page it needs {decision.to_page}"
    elif decision.score >= decision.threshold:
        yield f"  for a page it needs {decision.to_page}"


def peers_in_words(peers: PeersView) -> Iterator[str]:
    """What a newcomer is judged against."""
    against = "while they usually use none"
    if peers.ratio is not None:
        against = f"{few(peers.ratio)} × as much as they usually use ({short(peers.expected)})"
    yield (
        f"  as a new key it is compared with new keys, not with itself: {short(peers.observed)} tokens over "
        f"{span(peers.horizon_seconds)}, {against}; with calls like these it alerts from {short(peers.upper)} on"
    )
    if peers.shape:
        told = ", ".join(f"{SHAPES[name]} × {few(factor)} (z {z:.1f})" for name, (factor, z) in peers.shape.items())
        yield f"  its calls against those of other keys: {told}"


def life_in_words(alerts: Sequence[Alert], alert_id: str | None) -> Iterator[str]:
    """The steps of one incident, of a long one the first and the last; the others in a line each.

    alert_id: which one, None: the last
    """
    incidents: dict[str, list[Alert]] = {}
    for alert in alerts:
        incidents.setdefault(alert.alert_id, []).append(alert)
    if not incidents:
        return
    chosen = alert_id if alert_id in incidents else list(incidents)[-1]
    for other, steps in incidents.items():
        if other != chosen:
            last = steps[-1]
            started = rfc3339(last.started_at)
            yield f"another one: {printable(other)}  {started}  {last.status}, {last.severity}, {last.kind}"
    steps = incidents[chosen]
    first, last = steps[0], steps[-1]
    yield f"alert {printable(chosen)}: {first.kind} of {first.entity.type} {printable(first.entity.id)}"
    shown = steps if len(steps) <= MOST_STEPS else [*steps[: MOST_STEPS // 2], *steps[-MOST_STEPS // 2 :]]
    for number, alert in enumerate(shown):
        if number == MOST_STEPS // 2 and len(shown) < len(steps):
            yield f"  … {len(steps) - len(shown)} more steps"
        summary = printable(alert.summary, MOST_TEXT)
        yield f"  {rfc3339(alert.updated_at)}  {alert.status:<8} {alert.severity:<8} {summary}"
    yield f"  {last.severity}: {printable(last.severity_reason, MOST_TEXT)}"
    yield "  channels: " + ", ".join(f"{printable(channel.name)} (z {channel.z:.1f})" for channel in last.channels)
