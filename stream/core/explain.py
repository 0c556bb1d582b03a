"""Why, in numbers and in one line: an incident as the alert that people read."""

from __future__ import annotations

import math
from urllib.parse import quote

from stream.alerts import (
    NO_MODEL,
    Alert,
    Baseline,
    ChannelScore,
    DataQuality,
    Entity,
    Links,
    ModelShare,
    Severity,
    Status,
    Window,
    alert_id_of,
    fingerprint_of,
    printable,
    rfc3339,
    runbook_of,
    yardstick_of,
)
from stream.core import peers
from stream.core.baseline import INCIDENT_RATE
from stream.core.bucket import OTHER_MODELS
from stream.core.excess import excess_interval, usual_per_minute
from stream.core.incidents import Incident, net_of
from stream.core.key import KeyState
from stream.core.rules import Rules

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "high", "critical")
INFO, WARNING, HIGH, CRITICAL = 0, 1, 2, 3
PAGE_EXCESS_TOKENS = 2_000_000.0
"""Nobody is woken for less: about a hundred dollars of a large model's output."""
CRITICAL_EXCESS_TOKENS = 20_000_000.0
CRITICAL_RATE = 10_000_000.0
"""Excess per hour at which waiting for the morning costs more than the night."""


AGREEING = 2
"""Channels that have to speak for a page; one alone is enough where its score is ten times rarer than a page's."""
LEAST_FACTOR = 1.2
WORTH_SAYING = 0.01
"""Share of flawed data below which it is not named; the bar is raised at five times as much."""
SHAPES = {
    "output_ratio": "output per input",
    "uniformity": "likeness of lengths",
    "output_length": "length of answers",
    "at_limit": "odds of reaching the token limit",
    "reasoning": "odds of reasoning tokens",
    "model_focus": "odds of one model only",
}
"""What each aspect of a call's shape is called."""


def severity_of(incident: Incident, rules: Rules, keys: int, hours: float) -> tuple[int, str]:
    """Severity and its reason. A page (`high` or more) needs size, a score that the second dial allows, and that
    several channels agree: a change of form alone is mostly somebody's new release.
    """  # noqa: D205
    page = rules.page_score(keys) + rules.quality.caution
    pages = rules.settings.false_pages_per_week
    raised = f", raised by {rules.quality.caution:.1f} since the data are poor" if rules.quality.caution else ""
    if incident.score < page:
        return (
            WARNING,
            f"score {incident.score:.1f} is below {page:.1f}, the page threshold at {pages:g} a week{raised}",
        )
    # what the key has lacked since is taken off here: nobody is woken for what may be its own ups and downs
    excess = net_of(incident)
    if excess < PAGE_EXCESS_TOKENS:
        return WARNING, f"excess is below {short(PAGE_EXCESS_TOKENS)} tokens, too little for a page"
    if len(incident.channels) < AGREEING and incident.score < page + 1:
        return WARNING, f"one channel alone, and score {incident.score:.1f} is below {page + 1:.1f}: no page for that"
    rate = excess / max(hours, 1.0)
    if excess >= CRITICAL_EXCESS_TOKENS or rate >= CRITICAL_RATE:
        return CRITICAL, f"{short(excess)} tokens above {yardstick_of(incident.kind)}, {short(rate)} an hour"
    return (
        HIGH,
        f"score {incident.score:.1f} over {page:.1f}{raised}, {short(excess)} tokens above "
        f"{yardstick_of(incident.kind)}",
    )


def few(number: float) -> str:
    """A number of alerts for people.

    >>> few(0.1234), few(5.0), few(34.56), few(1234.5)
    ('0.12', '5', '34.6', '1,234')
    """
    if number < 1:
        return f"{number:.2g}"
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}".removesuffix(".0")


def short(number: float) -> str:
    """A number for people.

    >>> short(1_234_567), short(980), short(12.34)
    ('1.2 M', '980', '12')
    """
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(number) >= size:
            scale = 1e3 if unit == " k" else size
            return f"{number / scale:.1f}{unit}" if number / scale < 100 else f"{number / scale:.0f}{unit}"
    return f"{number:.0f}"


def span(seconds: float) -> str:
    """A stretch of time for people.

    >>> span(600), span(5400), span(172800)
    ('10 min', '1.5 h', '2 d')
    """
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.3g} h" if seconds < 2 * 86_400 else f"{seconds / 86_400:.3g} d"


def finite(number: float, otherwise: float = 0.0) -> float:
    """A number that JSON can hold."""
    return number if math.isfinite(number) else otherwise


def alert_of(
    key: KeyState,
    incident: Incident,
    status: Status,
    at: float,
    quality: DataQuality,
    numbers: tuple[Window, float, float, float],
) -> Alert:
    """The alert that reports `incident` at event time `at`; `numbers`: window, observed, expected, upper in tokens."""
    rules = key.rules
    settings = rules.settings
    bucket_seconds = settings.bucket_seconds
    window, observed, expected, upper = numbers
    entity = Entity(type="key", id=key.key_id)
    started_at = float(incident.started * bucket_seconds)
    hours = max(window.end - incident.since, bucket_seconds) / 3600
    ratio = observed / expected if expected > 0 else None
    share = rules.law.share(incident.score)
    severity = SEVERITIES[incident.severity]
    channels = sorted(incident.channels.items(), key=lambda item: -item[1])
    summary = _summary(key, incident, status, window, observed, expected) + _poor(quality)
    # what was used since the excess grew last does not make it less certain
    until = (incident.grown + 1) * bucket_seconds if incident.grown >= 0 else window.end
    seconds = max(until - incident.since, bucket_seconds)
    if incident.kind == peers.KIND:
        low, high = peers.excess_interval(rules.priors, incident.excess, seconds)
    else:
        low, high = excess_interval(key, incident.excess, expected / window.horizon_seconds, seconds)
    taken = incident.taken
    return Alert(
        alert_id=alert_id_of(entity, started_at),
        fingerprint=fingerprint_of(entity),
        sequence=incident.sequence,
        status=status,
        severity=severity,
        severity_reason=incident.severity_reason,
        kind=incident.kind,
        entity=entity,
        started_at=started_at,
        detected_at=incident.detected_at,
        updated_at=at,
        resolved_at=window.end if status == "resolved" else None,
        window=window,
        observed=finite(observed),
        expected=finite(expected),
        upper=finite(upper, observed),
        ratio=None if ratio is None else finite(ratio),
        z=finite(incident.z),
        score=1.0 - share,
        false_alarm_probability=share,
        usual_per_minute=None if incident.kind == peers.KIND else finite(usual_per_minute(key)),
        excess_tokens=incident.excess,
        excess_output_tokens=incident.excess_output,
        excess_input_tokens=None if taken is None else taken.input,
        excess_cached_input_tokens=None if taken is None else min(taken.cached_input, taken.input),
        excess_reasoning_tokens=None if taken is None else min(taken.reasoning, taken.output),
        excess_low=low,
        excess_high=finite(high, observed),
        excess_since=incident.since,
        excess_per_hour=incident.excess / hours,
        excess_cost_usd=incident.excess_cost,
        calls=None if taken is None else taken.calls,
        models=[] if taken is None else [ModelShare(id=_model_id(kind), share=share) for kind, share in taken.shares()],
        shape={name: finite(factor, 1.0) for name, factor in incident.shape.items()},
        channels=[ChannelScore(name=name, z=finite(z)) for name, z in channels],
        baseline=Baseline(
            age_seconds=float(key.baseline.age * bucket_seconds),
            active_days=key.active_days,
            maturity=rules.maturity(key.active_days),
            learning=INCIDENT_RATE if status != "resolved" else 1.0,
        ),
        data_quality=quality,
        summary=summary,
        suggested_action=_action(status, severity),
        links=_links(key, settings.dashboard_url, settings.runbook_url, incident.kind),
        config_digest=rules.digest,
        status_reason=incident.reason,
        org_id=key.org_id,
    )


def _model_id(kind: int) -> str:
    """The id of a class of models in alerts; that of a name is `model_id_of`."""
    return {NO_MODEL: "none", OTHER_MODELS: "other"}.get(kind, f"{kind:04x}")


def _summary(
    key: KeyState, incident: Incident, status: Status, window: Window, observed: float, expected: float
) -> str:
    """One line for people: how many tokens, and what else is unusual about them."""
    ratio = observed / expected if expected > 0 else math.inf
    what = {"opened": "uses", "updated": "still uses", "resolved": "has stopped: it used"}[status]
    if incident.kind == peers.KIND:
        return _newcomers_summary(key, incident, f"{what} ", window, observed, expected)
    many = f"{ratio:.1f} × its expected tokens" if ratio < 1e6 else "tokens where none are expected"
    above = f", {short(incident.excess)} above its baseline"
    if incident.since < window.start:
        above += f" since {rfc3339(incident.since)[:16]}Z"
    if ratio < 1:  # its calls are what is unusual, or its hours: a share would read as if it used too little
        many, above = "no more than its expected tokens", f"{above} at its highest" if incident.excess > 0 else ""
    line = f"key {printable(key.key_id)} {what} {many} {_against(window, observed, expected)}{above}"
    if incident.kind == "quiet_hours":
        line += ", in hours that it hardly ever uses"
    if incident.shape:
        name, factor = max(incident.shape.items(), key=lambda item: item[1])
        if factor > LEAST_FACTOR:
            line += (
                f"; its calls differ: {SHAPES[name]} × {factor:.1f}"
                if factor < 100
                else f"; its calls differ: {SHAPES[name]}"
            )
    return line


def _against(window: Window, observed: float, expected: float) -> str:
    return f"over {span(window.horizon_seconds)} ({short(observed)} against {short(expected)})"


def _newcomers_summary(
    key: KeyState, incident: Incident, uses: str, window: Window, observed: float, expected: float
) -> str:
    """The same of a new key, against other ones; where it is not its size that is unusual, this is not said."""
    line = f"new key {printable(key.key_id)} {uses}"
    against = _against(window, observed, expected)
    if observed > expected > 0:
        # the window of an incident that goes on begins where it was opened, its excess may have begun before
        above = "that" if incident.since == window.start else f"new keys since {rfc3339(incident.since)[:16]}Z"
        line += f"{few(observed / expected)} × what new keys usually use {against}"
        line += f", {short(incident.excess)} above {above}"
    else:
        line += f"no more than new keys usually use {against}"
    standing = peers.deviations(key.rules.priors, incident.shape)
    name = max(standing, key=lambda name: standing[name], default=None)
    if name is not None and standing[name] >= peers.STANDS_OUT:
        line += f"; its calls are not like those of other keys: {SHAPES[name]} × {few(incident.shape[name])}"
    return line


def _poor(quality: DataQuality) -> str:
    """What people have to know of the data before they believe the numbers; empty where they are good."""
    if not quality.caution:
        return ""
    faults = {"of the calls without token counts": quality.missing_usage, "of the records late": quality.late}
    shown = ", ".join(f"{share:.0%} {what}" for what, share in faults.items() if share >= WORTH_SAYING)
    return f"; the data are poor ({shown}), so the bar was raised"


def _action(status: Status, severity: Severity) -> str:
    if status == "resolved":
        return "Review what was taken; nothing is needed now."
    if severity == "info":
        return "Nothing, as long as it is what was planned."
    if severity in ("high", "critical"):
        return "Ask the owner of the key; if it is not theirs, block or rotate the key now."
    return "Look at the key's traffic in working hours; ask its owner if it goes on."


def _links(key: KeyState, dashboard: str | None, runbook: str | None, kind: str) -> Links:
    if dashboard is not None:
        joint = "&" if "?" in dashboard else "?"
        dashboard = f"{dashboard}{joint}var-key={quote(key.key_id, safe='')}"
    return Links(dashboard=dashboard, runbook=runbook_of(runbook, kind))
