"""One key: its open buckets, its model, its incident. The only hot state there is."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from stream.core.baseline import INCIDENT_RATE, Baseline
from stream.core.bucket import THRESHOLD, OpenBucket, Plan, Verdict
from stream.core.channels import CHANNELS
from stream.core.channels.base import MOST_STANDARDISED, Channel, Moment, Step
from stream.core.channels.drift import Drift
from stream.core.channels.shape import Shape
from stream.core.channels.surge import Surge
from stream.core.incidents import Incident
from stream.core.presence import Presence
from stream.core.residuals import QUICK, Residuals
from stream.core.rule import context_of
from stream.core.rules import SHAPE, WARM_DAYS, Rules

MAX_LOG_RATIO = 30.0
MOST_VALUE = math.log1p(MOST_STANDARDISED)
"""No standardised residual counts for more."""
DORMANT_DAYS = 28
DAY = 3
"""The window of a day, by whose scale a key's volatility is told."""

ADDING = [i for i, channel in enumerate(CHANNELS.values()) if channel.add is not Channel.add]
STEPPING = [i for i, channel in enumerate(CHANNELS.values()) if channel.step is not Channel.step]
"""The channels that keep sums, or windows, of their own."""

SCORE, TOKENS, EXPECTED, UPPER = range(4)

Skips = Sequence[tuple[int, int]]
"""Stretches of buckets [first, last) whose telemetry was lost."""


class KeyState:
    """What is known of one key. `next_bucket` is the first one that has not been closed, -1 before the first."""

    __slots__ = (
        "active_days", "active_in_step", "bar", "baseline", "calls", "channels", "dirty", "first_seen", "incident",
        "input_tokens", "judged_step", "key_id", "last_active_day", "last_seen", "late", "next_bucket", "open",
        "output_tokens", "plans", "presence", "residuals", "rules", "shown", "stale", "surge",
    )  # fmt: skip

    def __init__(self, key_id: str, rules: Rules) -> None:
        self.key_id = key_id
        self.rules = rules
        self.calls = self.input_tokens = self.output_tokens = self.late = 0
        self.first_seen = math.inf
        self.last_seen = -math.inf
        self.open: dict[int, OpenBucket] = {}
        self.dirty = False
        """Sums changed since they were last written."""
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
        self.plans: dict[int, Plan[float]] = {}
        self.incident: Incident | None = None
        self.next_bucket = next_bucket
        self.active_in_step = 0
        self.bar = array("f", (math.inf, math.inf))
        """The residuals of 10 and of 40 minutes that by themselves are worth opening an incident, in standard
        deviations, as of the last step: what is planned must not depend on when it is worked out."""
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
        self._move(bucket, 0.0, 0, fast, slow, False)
        self.baseline.learn(bucket, 0.0, 0, 0.0, 1.0, fast)
        if (bucket + 1) % self.rules.calendar.per_day == 0:
            for channel in self.channels:
                channel.learn_day()
        shown = self.shown
        shown[SCORE] = shown[TOKENS] = 0.0
        shown[EXPECTED] = fast
        self._pass(bucket, limit)

    def _move(self, bucket: int, tokens: float, calls: int, fast: float, slow: float, frozen: bool) -> None:
        """The windows move by a bucket, and those of the slow channels by a step where one ends."""
        residuals = self.residuals
        if calls:
            self.active_in_step += 1
        ended = residuals.update(bucket, tokens, calls, fast, slow)
        if ended is None:
            return
        step = Step(bucket, *ended, self.baseline.level.value)
        for i in STEPPING:
            self.channels[i].step(step, frozen)
        self.presence.step(self.active_in_step / step.buckets)
        self.active_in_step = 0
        self._raise_bar()

    def _pass(self, bucket: int, limit: int) -> None:
        """`bucket` has been dealt with; plans are made for what can be opened once `limit` has closed."""
        self.next_bucket = bucket + 1
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
            tokens = baseline.capped(float(total), calls)
            share = sums.input_tokens / total if total else 0.0
            day = bucket // calendar.per_day
            if day != self.last_active_day:
                self.active_days += 1
                self.last_active_day = day
            for i in ADDING:
                self.channels[i].add(sums)
        lasting = incident is not None and bucket - incident.started > rules.accept_buckets
        self._move(bucket, tokens, calls, fast, slow, incident is not None and not lasting)
        verdict = Verdict(bucket, sums, fast, slow)
        asked: list[Channel] = []
        moment: Moment | None = None
        if sums is not None or incident is not None:
            moment = self._moment(verdict, tokens, calls)
            asked = self._judge(verdict, moment)
        # what is not yet an incident may become one: it is learned slowly too
        alarm = incident is not None or verdict.anomalous or verdict.score >= rules.hold_score
        baseline.learn(bucket, tokens, calls, share, INCIDENT_RATE if alarm and not lasting else 1.0, fast)
        if incident is not None or verdict.anomalous:
            for channel in self.channels:
                channel.forget_day()
        if moment is not None and (incident is None or lasting) and not verdict.anomalous:
            for channel in asked:
                channel.learn(moment)
        if (bucket + 1) % calendar.per_day == 0:
            for channel in self.channels:
                channel.learn_day()
        shown = self.shown
        shown[SCORE], shown[TOKENS], shown[EXPECTED], shown[UPPER] = verdict.score, tokens, fast, verdict.upper
        self._pass(bucket, limit)
        return verdict

    def _moment(self, verdict: Verdict, tokens: float, calls: int) -> Moment:
        rules, baseline, residuals = self.rules, self.baseline, self.residuals
        moment = Moment()
        moment.bucket, moment.sums, moment.tokens, moment.calls = verdict.bucket, verdict.sums, tokens, calls
        moment.expected, moment.slow = verdict.expected, verdict.slow
        moment.residuals, moment.baseline, moment.presence = residuals, baseline, self.presence
        moment.age_days = baseline.age / rules.calendar.per_day
        moment.active_days = self.active_days
        moment.warm = moment.age_days > WARM_DAYS
        moment.learning = moment.age_days > 1
        moment.alarm = False
        moment.day_z = moment.excess = 0.0
        moment.aspects = None
        moment.min_excess, moment.min_calls = rules.settings.min_excess_tokens, rules.settings.min_calls
        usual, level = baseline.call_tokens.value, baseline.level.value
        moment.ratios = [residuals.log_ratio(0, usual, level), residuals.log_ratio(1, usual, level)]
        return moment

    def _judge(self, verdict: Verdict, moment: Moment) -> list[Channel]:
        """Ask the channels, decide; returns those that were asked."""
        rules, residuals = self.rules, self.residuals
        surge = self.surge
        surge.score(moment)
        step = (verdict.bucket + 1) // rules.horizons.per_step
        asked: list[Channel] = [surge]
        if max(surge.values) > 0.0:
            context = self.context(max(residuals.excess(0), residuals.excess(1)))
            verdict.quick = rules.quick_score(self.channels, context)
        if step > self.judged_step:
            self.judged_step = step
            baseline = self.baseline
            usual, level = baseline.call_tokens.value, baseline.level.value
            for h in range(2, rules.horizons.count):
                moment.ratios.append(residuals.log_ratio(h, usual, level))
            for h in range(rules.horizons.count):
                if residuals.calls[h] >= moment.min_calls:
                    moment.excess = max(moment.excess, residuals.excess(h))
            for channel in self.channels[1:]:
                channel.score(moment)
            asked = self.channels
            verdict.is_step = True
            verdict.slow_score = rules.slow_score(self.channels, self.context(moment.excess), moment.excess)
        verdict.score = max(verdict.quick, verdict.slow_score)
        if verdict.score >= rules.hold_score:
            verdict.findings = rules.findings(
                self.channels, self.context(moment.excess), residuals, verdict.quick > verdict.slow_score
            )
        sums = verdict.sums
        plan = sums.plan if sums is not None else self.plans.get(verdict.bucket)
        if plan is not None:
            verdict.upper = plan[THRESHOLD]
        if sums is not None:
            verdict.anomalous = sums.is_over(rules.settings.min_calls)
        bar = rules.open_score if self.incident is None else rules.hold_score
        verdict.anomalous = verdict.anomalous or verdict.score >= bar
        return asked

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

    def _raise_bar(self) -> None:
        """Work out what each of the windows of minutes needs, at the least excess, to open an incident by itself."""
        rules = self.rules
        context = self.context(rules.settings.min_excess_tokens)
        for h in range(QUICK):
            wanted = rules.needed(self.surge.statistics[h], context, rules.open_score)
            self.bar[h] = self.surge.laws.z_of(h, max(wanted, 0.0)) if wanted < MOST_VALUE else math.inf

    def window_upper(self, h: int, score: float) -> float:
        """Tokens in window `h` at which that window alone would bring the key to `score`; infinite if it never can."""
        residuals, rules = self.residuals, self.rules
        channel = self.channels[0] if h < 2 else self.channels[1]
        assert isinstance(channel, Surge | Drift)
        i = h if h < 2 else h - 2
        wanted = rules.needed(channel.statistics[i], self.context(rules.settings.min_excess_tokens), score)
        if not math.isfinite(wanted):
            wanted = rules.needed("level_40m", self.context(rules.settings.min_excess_tokens), score)
        z = channel.laws.z_of(i, min(wanted, MOST_VALUE))
        log_ratio = min(channel.scales.mean[i] + z * math.sqrt(channel.scales.variance[i]), MAX_LOG_RATIO)
        offset = self._offset(h)
        buckets = residuals.horizons.buckets[h]
        return max(0.0, (residuals.expected[h] + offset) * math.exp(log_ratio) - offset) * buckets

    def _offset(self, h: int) -> float:
        """What stands on both sides of the log ratio of window `h`, in tokens per bucket."""
        return self.residuals.offset(h, self.baseline.call_tokens.value, self.baseline.level.value)

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
        expected, threshold = self._forecast(index)
        if usual > 0:
            estimated_input: float = baseline.call_input.value
            estimated_output = usual - estimated_input
        else:
            estimated_input = self.rules.priors.call_input_tokens
            estimated_output = self.rules.priors.call_output_tokens
        cap = usual if baseline.age > self.rules.calendar.per_day else 0.0
        self.plans[index] = array("f", (threshold, expected, estimated_input, estimated_output, cap))
        for old in [planned for planned in self.plans if planned <= bucket]:
            del self.plans[old]

    def _forecast(self, index: int) -> tuple[float, float]:
        """Expected tokens of bucket `index`, and the sum that makes its 10-minute residual worth opening an incident.

        The buckets in between are taken as expected. Infinite while the key is too young to be judged.
        """
        rules, baseline, residuals = self.rules, self.baseline, self.residuals
        horizons, calendar = rules.horizons, rules.calendar
        expected, _ = baseline.predict(index)
        if baseline.age + rules.ahead <= WARM_DAYS * calendar.per_day:
            return expected, math.inf
        least = math.inf
        for h in range(QUICK):
            z = self.bar[h]
            if not math.isfinite(z):
                continue
            decay = horizons.decay[h]
            gain = 1 - decay
            seen, due = residuals.observed[h], residuals.expected[h]
            for between in range(index - rules.ahead, index):
                usual, _ = baseline.predict(between)
                seen = decay * seen + gain * usual
                due = decay * due + gain * usual
            # what an attack has already put into the window must not lower the bar for the next bucket
            seen = min(seen, due)
            due = decay * due + gain * expected
            width = self.surge.width(h, index)
            log_ratio = min(self.surge.scales.mean[h] + z * math.sqrt(width), MAX_LOG_RATIO)
            offset = self._offset(h)
            wanted = (due + offset) * math.exp(log_ratio) - offset
            wanted = max(wanted, due + rules.settings.min_excess_tokens / horizons.buckets[h])
            least = min(least, (wanted - decay * seen) / gain)
        return expected, max(least, 1.0)
