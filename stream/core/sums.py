"""What one call adds: to a key's lifetime, and to the buckets that it touches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from stream.core.bucket import ESTIMATED_INPUT, ESTIMATED_OUTPUT, OpenBucket
from stream.core.key import KeyState
from stream.core.step import Step
from stream.events import MAX_TOKENS, Call

FIRST_FAILURE = 400


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a call, or of a sum of calls, that falls into one bucket; `end` is where it ends, in event time."""

    bucket: int
    end: float
    calls: int
    input_tokens: int | None
    output_tokens: int | None
    cost_micros: int

    @property
    def tokens(self) -> int:
        """Tokens that were given."""
        return (self.input_tokens or 0) + (self.output_tokens or 0)


def micros(cost: float | None) -> int:
    """Dollars as whole millionths: sums of integers do not depend on their order."""
    return 0 if cost is None else round(cost * 1e6)


def shares(call: Call, time: float, bucket_seconds: int, first_open: int = 0) -> Iterator[Share]:
    """A sum over a period, spread over the buckets that the period touches, in whole numbers that add up.

    What lies before `first_open` comes as one share of the bucket before it: a week may have closed there.
    """
    period = call.period_seconds or 0.0
    start = time - period
    last = max(int(start // bucket_seconds) + 1, math.ceil(time / bucket_seconds))
    first = min(max(int(start // bucket_seconds), first_open - 1), last - 1)
    cost = None if call.cost_usd is None else micros(call.cost_usd)
    before = 0.0
    for bucket in range(first, last):
        end = min((bucket + 1) * bucket_seconds, time)
        after = 1.0 if end >= time else (end - start) / period

        def part(total: int | None, before: float = before, after: float = after) -> int | None:
            return None if total is None else round(total * after) - round(total * before)

        yield Share(
            bucket, end, part(call.calls) or 0, part(call.input_tokens), part(call.output_tokens), part(cost) or 0
        )
        before = after


def add_to_bucket(
    bucket: OpenBucket, call: Call, calls: int, input_tokens: int | None, output_tokens: int | None, cost_micros: int
) -> None:
    """Add a call, or a share of one. What the gateway did not say is estimated by what the key usually takes per call,
    at most what the caller allowed: hiding usage hides nothing. A failed call took nothing.
    """  # noqa: D205
    if input_tokens is None or output_tokens is None:
        answered = call.status is None or call.status < FIRST_FAILURE
        if input_tokens is None:
            input_tokens = _estimate(bucket.plan[ESTIMATED_INPUT], calls) if answered else 0
            bucket.missing += 1
        if output_tokens is None:
            each = bucket.plan[ESTIMATED_OUTPUT]
            if call.max_output_tokens is not None and each > call.max_output_tokens:
                each = call.max_output_tokens
            output_tokens = _estimate(each, calls) if answered else 0
            bucket.missing += 1
    bucket.calls += calls
    bucket.input_tokens += input_tokens
    bucket.output_tokens += output_tokens
    bucket.cost_micros += cost_micros


def _estimate(each: float, calls: int) -> int:
    """Tokens of so many calls, within what a record may say of itself."""
    return min(max(round(each * calls), 0), MAX_TOKENS)


def add_to_lifetime(key: KeyState, call: Call, time: float, step: Step) -> None:
    """Count an accepted record: what it said, without estimates."""
    input_tokens, output_tokens = call.input_tokens, call.output_tokens
    if input_tokens is None or output_tokens is None:
        step.missing_usage += 1
        input_tokens = input_tokens or 0
        output_tokens = output_tokens or 0
    calls = call.calls
    key.calls += calls
    key.input_tokens += input_tokens
    key.output_tokens += output_tokens
    if time > key.last_seen:
        key.last_seen = time
    if time < key.first_seen:
        key.first_seen = time
    step.accepted += 1
    step.calls += calls
    step.input_tokens += input_tokens
    step.output_tokens += output_tokens
