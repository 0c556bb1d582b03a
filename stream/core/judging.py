"""Judging a closed bucket of a key: the channels are asked, the rule decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stream.core.bucket import THRESHOLD, Verdict
from stream.core.channels.base import Channel, Moment
from stream.core.channels.shape import NEWCOMER_DAYS
from stream.core.incidents import HOLD
from stream.core.residuals import QUICK

if TYPE_CHECKING:
    from stream.core.key import KeyState

HOT_Z: Final = 1.5
"""While the last 40 minutes are so far above what is usual, the slow channels are asked at every step, else hourly."""
PRESENT_Z: Final = 0.5
"""An incident goes on only while the last 40 minutes are above their expectation too: a day's window remembers an
attack that has ended. Only a shape says nothing of volume, and a newcomer is compared with its peers."""


def judge(key: KeyState, verdict: Verdict, moment: Moment) -> list[Channel]:
    """Ask the channels, decide; returns those that were asked."""
    rules, residuals = key.rules, key.residuals
    surge = key.surge
    surge.score(moment)
    step = (verdict.bucket + 1) // rules.horizons.per_step
    asked: list[Channel] = [surge]
    if surge.values[0] > 0.0 or surge.values[1] > 0.0:
        context = key.context(max(residuals.excess(0), residuals.excess(1)))
        verdict.quick = rules.quick_score(key.channels, context)
    if step > key.judged_step and _is_due(key, step, moment):
        key.judged_step = step
        _ask_slow(key, moment)
        asked = key.channels
        verdict.slow_score = rules.slow_score(key.channels, key.context(moment.excess), moment.excess)
    verdict.score = max(verdict.quick, verdict.slow_score)
    raised = key.raised(verdict.bucket)
    verdict.bar, hold_score = rules.open_score + raised, rules.hold_score + HOLD * raised
    if verdict.score >= hold_score:
        verdict.findings = rules.findings(
            key.channels, key.context(moment.excess), residuals, verdict.quick > verdict.slow_score
        )
    sums = verdict.sums
    caution = rules.quality.caution_at(verdict.bucket)
    plan = sums.plan if sums is not None else key.plans.get(verdict.bucket)
    if plan is not None:
        verdict.upper = plan[THRESHOLD]
    if sums is not None:
        # poor data open nothing by their sums alone; what has opened early stays open
        verdict.anomalous = (sums.early or not caution) and sums.is_over(rules.settings.min_calls)
    incident = key.incident
    if incident is None:
        verdict.anomalous = verdict.anomalous or verdict.score >= verdict.bar + caution
    elif (
        incident.kind == "shape"
        or not moment.warm
        or (incident.kind == "newcomer" and moment.age_days <= NEWCOMER_DAYS)
        or surge.z[1] >= PRESENT_Z
    ):
        verdict.anomalous = verdict.anomalous or verdict.score >= hold_score
    if verdict.anomalous and key.allows(verdict.bucket, key.tokens_in_hour(verdict.bucket)):
        verdict.anomalous = False
    if rules.watch is not None:
        rules.watch(key, verdict)
    return asked


def _is_due(key: KeyState, step: int, moment: Moment) -> bool:
    """Whether to ask the slow channels now, a step after they were asked last; notes if an hour has ended since."""
    per_hour = key.rules.horizons.steps_per_hour
    moment.hourly = step // per_hour > key.judged_step // per_hour
    return moment.hourly or key.incident is not None or moment.age_days <= NEWCOMER_DAYS or key.surge.z[1] >= HOT_Z


def _ask_slow(key: KeyState, moment: Moment) -> None:
    """Ask all channels but surge; they need the ratios of the slow windows, and the most excess of all windows."""
    baseline, residuals = key.baseline, key.residuals
    usual, level = baseline.call_tokens.value, baseline.level.value
    moment.ratios += [residuals.log_ratio(h, usual, level) for h in range(QUICK, residuals.horizons.count)]
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
    moment = key.moment
    moment.begin(key.next_bucket - 1, key.active_days)
    key.surge.score(moment)
    _ask_slow(key, moment)
    return moment
