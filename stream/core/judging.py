"""Judging a closed bucket of a key: the channels are asked, the rule decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.core.bucket import THRESHOLD, Verdict
from stream.core.channels.base import Channel, Moment
from stream.core.channels.shape import NEWCOMER_DAYS
from stream.core.residuals import QUICK
from stream.core.rules import WARM_DAYS

if TYPE_CHECKING:
    from stream.core.key import KeyState

PRESENT_Z = 0.5
"""An incident goes on only while the last 40 minutes are above their expectation too: a day's window remembers an
attack that has ended. Only a shape says nothing of volume, and a newcomer is compared with its peers."""


def moment_of(key: KeyState, bucket: int) -> Moment:
    """A bucket that has just been moved into the windows, as channels see it."""
    rules, baseline, residuals = key.rules, key.baseline, key.residuals
    moment = Moment()
    moment.bucket = bucket
    moment.residuals, moment.baseline, moment.presence = residuals, baseline, key.presence
    moment.age_days = baseline.age / rules.calendar.per_day
    moment.active_days = key.active_days
    moment.warm = moment.age_days > WARM_DAYS
    moment.learning = moment.age_days > 1
    moment.alarm = False
    moment.day_z = moment.excess = 0.0
    moment.aspects = None
    moment.min_excess, moment.min_calls = rules.settings.min_excess_tokens, rules.settings.min_calls
    usual, level = baseline.call_tokens.value, baseline.level.value
    moment.ratios = [residuals.log_ratio(0, usual, level), residuals.log_ratio(1, usual, level)]
    return moment


def judge(key: KeyState, verdict: Verdict, moment: Moment) -> list[Channel]:
    """Ask the channels, decide; returns those that were asked."""
    rules, residuals = key.rules, key.residuals
    surge = key.surge
    surge.score(moment)
    step = (verdict.bucket + 1) // rules.horizons.per_step
    asked: list[Channel] = [surge]
    if max(surge.values) > 0.0:
        context = key.context(max(residuals.excess(0), residuals.excess(1)))
        verdict.quick = rules.quick_score(key.channels, context)
    if step > key.judged_step:
        key.judged_step = step
        _ask_slow(key, moment)
        asked = key.channels
        verdict.slow_score = rules.slow_score(key.channels, key.context(moment.excess), moment.excess)
    verdict.score = max(verdict.quick, verdict.slow_score)
    if verdict.score >= rules.hold_score:
        verdict.findings = rules.findings(
            key.channels, key.context(moment.excess), residuals, verdict.quick > verdict.slow_score
        )
    sums = verdict.sums
    plan = sums.plan if sums is not None else key.plans.get(verdict.bucket)
    if plan is not None:
        verdict.upper = plan[THRESHOLD]
    if sums is not None:
        verdict.anomalous = sums.is_over(rules.settings.min_calls)
    incident = key.incident
    if incident is None:
        verdict.anomalous = verdict.anomalous or verdict.score >= rules.open_score
    elif (
        incident.kind == "shape"
        or not moment.warm
        or (incident.kind == "newcomer" and moment.age_days <= NEWCOMER_DAYS)
        or surge.z[1] >= PRESENT_Z
    ):
        verdict.anomalous = verdict.anomalous or verdict.score >= rules.hold_score
    if rules.watch is not None:
        rules.watch(key, verdict)
    return asked


def _ask_slow(key: KeyState, moment: Moment) -> None:
    """Ask all channels but surge; they need the ratios of the slow windows, and the most excess of all windows."""
    baseline, residuals = key.baseline, key.residuals
    usual, level = baseline.call_tokens.value, baseline.level.value
    for h in range(QUICK, residuals.horizons.count):
        moment.ratios.append(residuals.log_ratio(h, usual, level))
    for h in range(residuals.horizons.count):
        if residuals.calls[h] >= moment.min_calls:
            moment.excess = max(moment.excess, residuals.excess(h))
    for channel in key.channels[1:]:
        channel.score(moment)


def ask_again(key: KeyState) -> Moment:
    """Ask all channels about the last closed bucket once more, by all that was learned since; nothing is learned.

    What they found is not state: it stands in them afterwards. Raises ValueError if no bucket was ever closed.
    """
    if key.next_bucket < 0 or not key.baseline.age:
        raise ValueError("no bucket of the key was closed so far")
    moment = moment_of(key, key.next_bucket - 1)
    key.surge.score(moment)
    _ask_slow(key, moment)
    return moment
