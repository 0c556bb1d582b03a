"""One key: its open buckets, its model, its incident. The only hot state there is."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Final

from stream.core.baseline import INCIDENT_RATE, Baseline
from stream.core.bucket import OpenBucket, Plan, Verdict
from stream.core.chains import Chain
from stream.core.channels import CHANNELS
from stream.core.channels.base import Channel, Moment, Step
from stream.core.channels.drift import Drift
from stream.core.channels.shape import Shape
from stream.core.channels.surge import Surge
from stream.core.control import Rule
from stream.core.days import Days
from stream.core.incidents import Incident
from stream.core.judging import judge
from stream.core.links import USED, USUAL, Links
from stream.core.outlook import forecast, raise_bar
from stream.core.pace import Pace
from stream.core.presence import Presence
from stream.core.residuals import Residuals
from stream.core.rule import context_of
from stream.core.rules import SHAPE, Rules

DORMANT_DAYS: Final = 28

ADDING = [i for i, channel in enumerate(CHANNELS.values()) if channel.add is not Channel.add]
STEPPING = [i for i, channel in enumerate(CHANNELS.values()) if channel.step is not Channel.step]
"""The channels that keep sums, or windows, of their own."""

SCORE: Final = 0
TOKENS: Final = 1
EXPECTED: Final = 2
UPPER: Final = 3

Skips = Sequence[tuple[int, int]]
"""Stretches of buckets [first, last) whose telemetry was lost."""


class KeyState:
    """What is known of one key. `next_bucket` is the first one that has not been closed, -1 before the first."""

    __slots__ = (
        "active_days", "active_in_step", "bar", "baseline", "calls", "chain", "channels", "days", "dirty", "ended",
        "first_seen", "flaps", "hour", "hour_tokens", "incident", "input_tokens", "judged_step", "key_id",
        "last_active_day", "last_seen", "late", "links", "moment", "next_bucket", "open", "org_id", "output_tokens",
        "pace", "plans", "presence", "residuals", "rules", "shown", "stale", "surge",
    )  # fmt: skip

    def __init__(self, key_id: str, rules: Rules) -> None:
        self.key_id = key_id
        self.rules = rules
        self.calls = self.input_tokens = self.output_tokens = self.late = 0
        self.first_seen = math.inf
        self.last_seen = -math.inf
        self.org_id: str | None = None
        """Of its newest call that named one."""
        self.open: dict[int, OpenBucket] = {}
        self.dirty = False
        """Sums changed since they were last written."""
        self.links = Links()
        self._begin(-1)

    def _begin(self, next_bucket: int) -> None:
        """A fresh model, with nothing learned."""
        rules = self.rules
        self.baseline = Baseline(rules.calendar)
        self.residuals = Residuals(rules.horizons)
        self.presence = Presence(rules.horizons.steps_per_day)
        self.channels: list[Channel] = [channel(rules.priors, rules.horizons) for channel in CHANNELS.values()]
        surge = self.channels[0]
        assert isinstance(surge, Surge)
        self.surge = surge
        self.moment = Moment(self.baseline, self.residuals, self.presence, rules.settings)
        self.plans: dict[int, Plan[float]] = {}
        self.incident: Incident | None = None
        self.next_bucket = next_bucket
        self.active_in_step = 0
        self.links.forget()
        self.bar = array("f", (math.inf, math.inf))
        """The residuals of 10 and of 40 minutes that by themselves are worth opening an incident, in standard
        deviations, as of the last full hour: what is planned must not depend on when it is worked out."""
        self.chain = Chain()
        self.pace = Pace()
        self.days = Days()
        self.hour, self.hour_tokens = -1, 0
        """The hour, in hours since the epoch, of the last bucket that was closed with calls, and its tokens so far."""
        self.flaps, self.ended = 0, -1
        """Incidents in a row that began soon after another, and the bucket in which the last one ended, -1: never."""
        self.judged_step = -1
        """The last step that the slow channels were asked about."""
        self.active_days = 0
        self.last_active_day = -1
        self.shown = array("f", (0.0, 0.0, 0.0, math.inf))
        """What is shown of the last bucket: score, tokens, expected tokens and their upper limit."""
        self.stale = True
        """The model changed since it was last written."""

    def open_bucket(self, index: int, sealed: int, skips: Skips) -> OpenBucket:
        """Open a bucket with what was known before it could be: idle time up to there is made up for first.

        `sealed` is the shard's first open bucket: what lies before it can receive no more records.
        """
        if self.next_bucket >= 0:
            self.catch_up(min(index - self.rules.ahead, sealed), skips)
        plan = self.plans.get(index)
        if plan is None:
            priors = self.rules.priors
            plan = array("f", (math.inf, 0.0, priors.call_input_tokens, priors.call_output_tokens, 0.0))
        bucket = self.open[index] = OpenBucket(index, plan)
        return bucket

    def catch_up(self, limit: int, skips: Skips) -> None:
        """Close the empty buckets before `limit`, one by one, so that it cannot matter when it is done.

        A key that has been silent for DORMANT_DAYS is begun anew: its habits are forgotten, its lifetime sums are not.
        """
        silent = limit - self.next_bucket
        if silent > DORMANT_DAYS * self.rules.calendar.per_day and min(self.open, default=limit) >= limit:
            self._begin(limit)
        while self.next_bucket < limit and self.next_bucket not in self.open:
            if not self.skip(skips):
                self._rest(limit)

    def _rest(self, limit: int) -> None:
        """Close one empty bucket: the windows fade and the season learns silence; nothing is judged.

        The scales do not learn: they are about how the key varies while it is used.
        """
        bucket = self.next_bucket
        fast, slow = self.baseline.predict(bucket)
        planned = self.event(bucket) is not None
        self._move(bucket, 0.0, 0, fast, slow, planned, planned)
        if planned:
            self.baseline.turn(bucket)
        else:
            self.baseline.learn(bucket, 0.0, 0, 0.0, 1.0, fast)
        if (bucket + 1) % self.rules.calendar.per_day == 0:
            for channel in self.channels:
                channel.learn_day()
        shown = self.shown
        shown[SCORE] = shown[TOKENS] = 0.0
        shown[EXPECTED] = fast
        self._pass(bucket, limit)

    def _move(
        self, bucket: int, tokens: float, calls: int, fast: float, slow: float, frozen: bool, planned: bool
    ) -> None:
        """The windows move by a bucket, and those of the slow channels by a step where one ends."""
        residuals = self.residuals
        since = self.links.since
        since[USUAL] += slow
        if calls:
            self.active_in_step += 1
            since[USED] += tokens
        ended = residuals.update(bucket, tokens, calls, fast, slow)
        if ended is None:
            return
        step = Step(bucket, *ended, self.baseline.level.value)
        for i in STEPPING:
            self.channels[i].step(step, frozen)
        if not planned:
            self.presence.step(self.active_in_step / step.buckets)
        self.active_in_step = 0
        if (bucket + 1) % self.rules.calendar.per_hour == 0:
            raise_bar(self)

    def _pass(self, bucket: int, limit: int) -> None:
        """`bucket` has been dealt with; plans are made for what can be opened once `limit` has closed."""
        self.next_bucket = bucket + 1
        if self.rules.control.active and self.event(bucket) is not None and self.event(bucket + 1) is None:
            self.settle()  # what was planned must not open an incident once it is over
        if bucket >= limit - 1 - self.rules.ahead:
            self._plan_ahead(bucket)
        self.stale = True

    def skip(self, skips: Skips) -> bool:
        """Pass over the next bucket if its telemetry was lost: it is not learned as silence."""
        bucket = self.next_bucket
        for first, last in skips:
            if first <= bucket < last:
                self.baseline.turn(bucket)
                self._pass(bucket, bucket)
                return True
        return False

    def close(self, sums: OpenBucket | None, limit: int) -> Verdict:
        """Score the next bucket, then learn it. `sums` None: it was empty. Plans are made from `limit` - ahead on."""
        rules, baseline = self.rules, self.baseline
        calendar = rules.calendar
        bucket = self.next_bucket
        incident = self.incident
        fast, slow = baseline.predict(bucket)
        calls = 0
        tokens = share = 0.0
        if sums is not None:
            calls = sums.calls
            total = sums.input_tokens + sums.output_tokens
            self.hour_tokens = self.tokens_in_hour(bucket) + total
            self.hour = bucket // calendar.per_hour
            tokens = baseline.capped(float(total), calls)
            share = sums.input_tokens / total if total else 0.0
            day = bucket // calendar.per_day
            if day != self.last_active_day:
                self.active_days += 1
                self.last_active_day = day
            for i in ADDING:
                self.channels[i].add(sums)
            self.links.close(sums)
        planned = self.event(bucket) is not None
        guarded = planned or (incident is not None and self._guards(incident, bucket))
        self._move(bucket, tokens, calls, fast, slow, guarded, planned)
        verdict = Verdict(bucket, sums, fast, slow)
        asked: Sequence[Channel] = ()
        moment = self.moment
        if sums is not None or incident is not None:
            moment.begin(bucket, self.active_days)
            asked = judge(self, verdict, moment)
        anomalous = verdict.anomalous
        if guarded or (anomalous and incident is None):
            rate = INCIDENT_RATE
            for channel in self.channels:
                channel.forget_day()
        else:
            # what is not yet an incident may become one: it is learned slowly too
            rate = INCIDENT_RATE if incident is None and verdict.score >= rules.hold_score else 1.0
            if rate < 1 and self.allows(bucket, self.tokens_in_hour(bucket)):
                rate = 1.0
        if planned:
            baseline.turn(bucket)
        else:
            baseline.learn(bucket, tokens, calls, share, rate, fast)
        if sums is not None:
            # a planned event must not be what later weeks are compared with
            self.days.take(bucket // calendar.per_day, min(tokens, slow) if planned else tokens, rate)
        if not guarded and (incident is not None or not anomalous):
            for channel in asked:
                channel.learn(moment)
        if (bucket + 1) % calendar.per_day == 0:
            for channel in self.channels:
                channel.learn_day()
        shown = self.shown
        shown[SCORE], shown[TOKENS], shown[EXPECTED], shown[UPPER] = verdict.score, tokens, fast, verdict.upper
        if rules.gathering is not None:
            rules.gathering.add(self, bucket)
        self._pass(bucket, limit)
        return verdict

    def _guards(self, incident: Incident, bucket: int) -> bool:
        """Whether the open incident is to be kept out of what is learned.

        What is accepted as the new normal is learned as quickly as in a young key.
        """
        # a newcomer has no habits yet that an attack could spoil; unlearned, they would keep it anomalous for ever
        if incident.kind == "newcomer":
            return False
        rules = self.rules
        guarded, accepted = self.chain.goes_on(incident.started, bucket, rules.accept_buckets, rules.chain_buckets)
        if accepted:
            self.accept()
        return guarded

    def accept(self) -> None:
        """What was unusual is the new normal: learn it as quickly as in a young key."""
        self.baseline.accept()
        self.days.accept()
        for channel in self.channels:
            channel.accept()

    def event(self, bucket: int) -> Rule | None:
        """The planned event that the key is in, if any."""
        control = self.rules.control
        return control.event(self.key_id, self.org_id, bucket) if control.active else None

    def tokens_in_hour(self, bucket: int) -> int:
        """Tokens of the closed buckets of the clock's hour that `bucket` is in."""
        return self.hour_tokens if self.hour == bucket // self.rules.calendar.per_hour else 0

    def allows(self, bucket: int, tokens: int) -> bool:
        """Whether an allow rule says that so many tokens in the hour of this bucket are fine."""
        control = self.rules.control
        if not control.active:
            return False
        most = control.allowance(self.key_id, self.org_id, bucket)
        return 0 < most >= tokens

    def raised(self, bucket: int) -> float:
        """By how many decades the key's bar is higher in this bucket than the dial says."""
        control = self.rules.control
        return control.raise_of(self.key_id, bucket) if control.active else 0.0

    @property
    def blocked(self) -> bool:
        """Whether it was said on the control topic that the gateway refuses this key, as of its next bucket."""
        return self.rules.control.is_blocked(self.key_id, self.next_bucket)

    def context(self, excess: float) -> list[float]:
        """What the rule knows of the key besides the evidence, at so many tokens above the baseline."""
        usual_day = self.baseline.level.value * self.rules.calendar.per_day
        return context_of(
            excess, usual_day, self.active_days, self.day_variance, self.presence, self.baseline.errors[0]
        )

    @property
    def day_variance(self) -> float:
        """Variance of the key's daily level about its expectation, in squared log units."""
        drift = self.channels[1]
        assert isinstance(drift, Drift)
        return drift.scales.variance[1]

    @property
    def score(self) -> float:
        """Of the last closed bucket, in decades, as it is shown: in 32 bits."""
        return self.shown[SCORE]

    @property
    def last_tokens(self) -> float:
        """Tokens of the last closed bucket, as they are shown."""
        return self.shown[TOKENS]

    @property
    def last_expected(self) -> float:
        """What was expected of it, as it is shown."""
        return self.shown[EXPECTED]

    @property
    def last_upper(self) -> float:
        """The sum that would have opened an incident by itself, infinite if none."""
        return self.shown[UPPER]

    @property
    def opening_z(self) -> float:
        """The residual of 10 or of 40 minutes that by itself is worth opening an incident, in standard deviations."""
        return min(self.bar)

    def shape_factors(self) -> dict[str, float]:
        """By how much the day's calls differ from the key's usual ones, aspect by aspect."""
        shape = self.channels[SHAPE]
        assert isinstance(shape, Shape)
        return shape.factors()

    def settle(self) -> None:
        """An incident is over: what it left in windows and sums must not open another one."""
        self.residuals.settle()
        for channel in self.channels:
            channel.settle()

    def _plan_ahead(self, bucket: int) -> None:
        """Fix what is expected of the first bucket that can be opened only after `bucket` has closed."""
        index = bucket + 1 + self.rules.ahead
        baseline = self.baseline
        usual: float = baseline.call_tokens.value
        expected, threshold = forecast(self, index)
        if usual > 0:
            estimated_input: float = baseline.call_input.value
            estimated_output = usual - estimated_input
        else:
            estimated_input = self.rules.priors.call_input_tokens
            estimated_output = self.rules.priors.call_output_tokens
        cap = usual if baseline.age > self.rules.calendar.per_day else 0.0
        self.plans[index] = array("f", (threshold, expected, estimated_input, estimated_output, cap))
        plans = self.plans
        plans.pop(bucket, None)
        if len(plans) > self.rules.ahead + 1:
            for old in [planned for planned in plans if planned <= bucket]:
                del plans[old]
