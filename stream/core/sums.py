"""What one call adds: to a key's lifetime, and to the buckets that it touches.

Every sum is of integers that each record gives by itself, so that neither their order nor their grouping can matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stream.alerts import model_class
from stream.core.bucket import ESTIMATED_INPUT, ESTIMATED_OUTPUT, LOG_SCALE, MAX_MODELS, OTHER_MODELS, OpenBucket
from stream.core.fields import (
    CACHED_INPUT_TOKENS,
    CALLS,
    INPUT_TOKENS,
    MAX_OUTPUT_TOKENS,
    MODEL,
    OUTPUT_TOKENS,
    STATUS,
    Fields,
    fields_of,
)  # fmt: skip
from stream.core.key import KeyState
from stream.core.step import Step
from stream.events import MAX_TOKENS, Call

FIRST_FAILURE: Final = 400
REFUSALS = (401, 403)
"""What a gateway answers to a key that is blocked."""


def scaled_logs(output_tokens: float) -> tuple[int, int]:
    """ln(1 + tokens) and its square, as whole multiples of 1 / LOG_SCALE.

    >>> scaled_logs(0), scaled_logs(100)
    ((0, 0), (4726, 21811))
    """
    log = math.log1p(output_tokens)
    return round(LOG_SCALE * log), round(LOG_SCALE * log * log)


_SHORT: Final = 4096
"""Most answers are shorter; to look their logarithms up takes a tenth of the time."""
_LOGS = [scaled_logs(tokens) for tokens in range(_SHORT)]


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a call, or of a sum of calls, that falls into one bucket; `end` is where it ends, in event time."""

    bucket: int
    end: float
    calls: int
    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int
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
            bucket, end, part(call.calls) or 0, part(call.input_tokens), part(call.output_tokens),
            part(call.reasoning_tokens) or 0, part(cost) or 0,
        )  # fmt: skip
        before = after


def add_to_bucket(
    bucket: OpenBucket, call: Call, calls: int, input_tokens: int | None, output_tokens: int | None,
    reasoning_tokens: int | None, cost_micros: int,
) -> None:  # fmt: skip
    """Add a call, or a share of one. What the gateway did not say is estimated by what the key usually takes per call,
    at most what the caller allowed: hiding usage hides nothing. A failed call took nothing.
    """  # noqa: D205
    if input_tokens is not None and output_tokens is not None:
        add_shape(bucket, fields_of(call), calls, input_tokens, output_tokens, reasoning_tokens)
    else:
        answered = call.status is None or call.status < FIRST_FAILURE
        if input_tokens is None:
            input_tokens = _estimate(bucket.plan[ESTIMATED_INPUT], calls) if answered else 0
            bucket.missing += 1
        if output_tokens is None:
            each = bucket.plan[ESTIMATED_OUTPUT]
            if call.max_output_tokens is not None and each > call.max_output_tokens:
                each = float(call.max_output_tokens)
            output_tokens = _estimate(each, calls) if answered else 0
            bucket.missing += 1
        _add_vague(bucket, calls, input_tokens, output_tokens)
        if call.status in REFUSALS:
            bucket.refused += calls
    bucket.calls += calls
    bucket.input_tokens += input_tokens
    bucket.output_tokens += output_tokens
    bucket.cost_micros += cost_micros


def add_shape(
    bucket: OpenBucket, fields: Fields, calls: int, input_tokens: int, output_tokens: int, reasoning_tokens: int | None
) -> None:
    """Add what tells the shape of a call whose usage was given, or of a share of one.

    A record that sums n calls counts as n calls of its mean output. A failed call has no shape.
    """
    status = fields[STATUS]
    if status is not None and status >= FIRST_FAILURE:
        _add_vague(bucket, calls, input_tokens, output_tokens)
        if status in REFUSALS:
            bucket.refused += calls
        return
    total: int = fields[OUTPUT_TOKENS] or 0
    count: int = fields[CALLS]
    log, square = _LOGS[total] if total < _SHORT and count == 1 else scaled_logs(total / count)
    if calls != 1:
        log *= calls
        square *= calls
    bucket.log_output += log
    bucket.log_output_squares += square
    most = fields[MAX_OUTPUT_TOKENS]
    if most is not None and total >= count * most:
        bucket.saturated += calls
    if reasoning_tokens:
        bucket.reasoning_tokens += reasoning_tokens
    cached = fields[CACHED_INPUT_TOKENS]
    if cached:
        whole = fields[INPUT_TOKENS]
        # of a share of a call, as much as of its input
        bucket.cached_input_tokens += cached if not whole or input_tokens == whole else cached * input_tokens // whole
    kind = model_class(fields[MODEL])
    try:
        bucket.models[kind] += calls
    except KeyError:
        if calls:
            _add_model(bucket.models, kind, calls)


def _add_vague(bucket: OpenBucket, calls: int, input_tokens: int, output_tokens: int) -> None:
    bucket.vague_calls += calls
    bucket.vague_input += input_tokens
    bucket.vague_output += output_tokens


def _add_model(models: dict[int, int], kind: int, calls: int) -> None:
    """Count calls to a model that has no count. The smallest classes keep theirs, whichever came first."""
    if len(models) - (OTHER_MODELS in models) == MAX_MODELS:
        largest = max(models)
        if kind < largest:
            models[kind] = calls
            calls = models.pop(largest)
        kind = OTHER_MODELS
        calls += models.get(OTHER_MODELS, 0)
    models[kind] = calls


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
        if call.org_id != key.org_id and call.org_id is not None:
            key.org_id = call.org_id
    if time < key.first_seen:
        key.first_seen = time
    step.accepted += 1
    step.calls += calls
    step.input_tokens += input_tokens
    step.output_tokens += output_tokens
