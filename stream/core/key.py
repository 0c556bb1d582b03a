"""One key: its open buckets, its model, its incident. The only hot state there is."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from stream.core.baseline import INCIDENT_RATE, Baseline
from stream.core.bucket import THRESHOLD, OpenBucket, Plan, Verdict
from stream.core.channels import CHANNELS, Channel
from stream.core.incidents import Incident
from stream.core.residuals import PRIOR_SCALE, Residuals
from stream.core.rules import WARM_DAYS, Rules

MAX_LOG_RATIO = 30.0
DORMANT_DAYS = 28
LEAST_ACTIVE_SHARE = 0.01

Skips = Sequence[tuple[int, int]]
"""Stretches of buckets [first, last) whose telemetry was lost."""


class KeyState:
    """What is known of one key. `next_bucket` is the first one that has not been closed, -1 before the first."""

    __slots__ = (
        "active_days", "baseline", "calls", "channels", "dirty", "first_seen", "incident", "input_tokens", "key_id",
        "last_active_day", "last_expected", "last_seen", "last_tokens", "last_upper", "late", "next_bucket", "open",
        "output_tokens", "plans", "residuals", "rules", "score", "stale",
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
        bucket_seconds = rules.calendar.bucket_seconds
        self.channels: list[Channel] = [channel(rules.priors, bucket_seconds) for channel in CHANNELS.values()]
        self.plans: dict[int, Plan[float]] = {}
        self.incident: Incident | None = None
        self.next_bucket = next_bucket
        self.active_days = 0
        self.last_active_day = -1
        self.score = 0.0
        self.last_tokens = self.last_expected = 0.0
        self.last_upper = math.inf
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

        The scale does not learn: it is about how the key varies while it is used.
        """
        baseline = self.baseline
        calendar = self.rules.calendar
        bucket = self.next_bucket
        fast, slow = baseline.predict(bucket)
        self.residuals.rest(fast, slow)
        baseline.learn(bucket, 0.0, 0, 0.0, 1.0, fast)
        if (bucket + 1) % calendar.per_day == 0:
            for channel in self.channels:
                channel.learn_day()
        self.score = self.last_tokens = 0.0
        self.last_expected = fast
        self._pass(bucket, limit)

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
        rules, baseline, residuals = self.rules, self.baseline, self.residuals
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
        residuals.update(
            calendar.slots(bucket)[0], tokens, calls, fast, slow, baseline.call_tokens.get(), baseline.level.get(),
            baseline.age, incident is not None,
        )  # fmt: skip
        verdict = Verdict(bucket, sums, fast, slow)
        self.score = 0.0
        if (sums is not None or incident is not None) and baseline.age > WARM_DAYS * calendar.per_day:
            self._judge(verdict)
        # what is not yet an incident may become one: it is learned slowly too
        alarm = incident is not None or verdict.anomalous or verdict.score >= rules.hold_score
        lasting = incident is not None and bucket - incident.started > rules.accept_buckets
        baseline.learn(bucket, tokens, calls, share, INCIDENT_RATE if alarm and not lasting else 1.0, fast)
        for channel in self.channels:
            if incident is not None or verdict.anomalous:
                channel.forget_day()
            elif baseline.age > WARM_DAYS * calendar.per_day:
                channel.learn(residuals, bucket)
            if (bucket + 1) % calendar.per_day == 0:
                channel.learn_day()
        self.last_tokens, self.last_expected, self.last_upper = tokens, fast, verdict.upper
        self._pass(bucket, limit)
        return verdict

    def trust(self) -> float:
        """How much the key's evidence counts: less while it is young, if it is used now and then, or if it is restless.

        Most false alerts on real traffic come from few keys that are used a tenth of the time, and from restless ones;
        with this factor one threshold serves them and steady keys alike.
        """
        baseline, variance = self.baseline, self.residuals.variance
        share = baseline.active / baseline.age if baseline.age else 0.0
        restless = math.sqrt(variance[2] * variance[3]) / (PRIOR_SCALE[2] * PRIOR_SCALE[3])
        return self.rules.maturity(self.active_days) * math.sqrt(max(share, LEAST_ACTIVE_SHARE) / restless)

    def opening_z(self) -> float:
        """The 10-minute residual that is worth opening an incident."""
        return self.channels[0].laws[0].raw(self.rules.open_score / self.trust())

    def window_upper(self, h: int, score: float) -> float:
        """Tokens in window `h` at which the key would reach `score`."""
        residuals = self.residuals
        horizons = residuals.horizons
        law = next(
            law
            for channel in self.channels
            for horizon, law in zip(channel.horizons, channel.laws, strict=True)
            if horizon == h
        )
        z = law.raw(score / self.trust())
        log_ratio = min(residuals.mean[h] + z * math.sqrt(residuals.variance[h]), MAX_LOG_RATIO)
        offset = self._offset(h)
        return max(0.0, (residuals.expected[h] + offset) * math.exp(log_ratio) - offset) * horizons.buckets[h]

    def _offset(self, h: int) -> float:
        """What stands on both sides of the log ratio of window `h`, in tokens per bucket."""
        return self.residuals.offset(h, self.baseline.call_tokens.get(), self.baseline.level.get())

    def _judge(self, verdict: Verdict) -> None:
        rules = self.rules
        trust = self.trust()
        for channel in self.channels:
            evidence = channel.score(self.residuals, rules.gate)
            if evidence is not None:
                verdict.findings.append(evidence)
                verdict.score = max(verdict.score, trust * evidence.score)
        self.score = verdict.score
        sums = verdict.sums
        plan = sums.plan if sums is not None else self.plans.get(verdict.bucket)
        if plan is not None:
            verdict.upper = plan[THRESHOLD]
        if sums is not None:
            verdict.anomalous = sums.is_over(rules.settings.min_calls)
        if self.incident is None:
            verdict.anomalous = verdict.anomalous or verdict.score >= rules.open_score
        else:
            verdict.anomalous = verdict.anomalous or verdict.score >= rules.hold_score

    def _plan_ahead(self, bucket: int) -> None:
        """Fix what is expected of the first bucket that can be opened only after `bucket` has closed."""
        index = bucket + 1 + self.rules.ahead
        baseline = self.baseline
        usual: float = baseline.call_tokens.get()
        expected, threshold = self._forecast(index)
        if usual > 0:
            estimated_input: float = baseline.call_input.get()
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
        decay = horizons.decay[0]
        gain = 1 - decay
        seen, due = residuals.observed[0], residuals.expected[0]
        for between in range(index - rules.ahead, index):
            usual, _ = baseline.predict(between)
            seen = decay * seen + gain * usual
            due = decay * due + gain * usual
        # what an attack has already put into the window must not lower the bar for the next bucket
        seen = min(seen, due)
        due = decay * due + gain * expected
        width = residuals.width(0, residuals.slot_scale[calendar.slots(index)[0]])
        log_ratio = min(residuals.mean[0] + self.opening_z() * math.sqrt(width), MAX_LOG_RATIO)
        offset = self._offset(0)
        wanted = (due + offset) * math.exp(log_ratio) - offset
        wanted = max(wanted, due + rules.gate.excess_tokens / horizons.buckets[0])
        return expected, max((wanted - decay * seen) / gain, 1.0)
