"""What the bench measures with: an installation that has been watched for days, and its calls as short and full JSON.

The keys have a past, for a model that has seen nothing is cheaper to use than one that judges: `Traffic.history` has
the calls of the days before, `Traffic.values` those that follow them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import msgspec

from stream.alerts import rfc3339
from stream.events import Call
from stream.lab.calls import Background, Tables
from stream.lab.simulate import BUCKET_SECONDS, simulate
from stream.lab.traffic import levels

SEED = 7
CALLS_PER_SECOND = 7.0
"""Of 300 keys together: an active key then makes some 40 calls in a bucket, as ServeGen's median client does."""
MORNING_SECONDS = 8 * 3600.0
"""The calls begin at 08:00 UTC, when most keys are at work."""
DAY_SECONDS = 86_400.0
LEAST_LIVE_DAYS = 1.0
LIVE_MARGIN = 3.0
"""The installation runs for three times as long as the calls should take: its level wanders."""
FULL_BYTES = 500
KINDS = {"short": "about 220 bytes, epoch seconds", "full": "about 500 bytes, every field, RFC 3339 times"}
"""The two sizes of event that everything is measured on."""

Timed = tuple[float, str, bytes]

_encoder = msgspec.json.Encoder()


class _Short(msgspec.Struct, gc=False):
    """The event of a gateway that says only what is asked for."""

    event_id: str
    time: float
    key_id: str
    org_id: str | None
    model: str | None
    operation: str
    input_tokens: int
    output_tokens: int
    status: int | None
    duration_ms: float | None


def short(call: Call) -> bytes:
    """A call as a short event: 200 to 240 bytes."""
    return _encoder.encode(
        _Short(
            f"{call.event_id}-{call.prompt_fingerprint}",
            cast(float, call.time),
            call.key_id,
            call.org_id,
            call.model,
            call.operation,
            call.input_tokens or 0,
            call.output_tokens or 0,
            call.status,
            call.duration_ms,
        )
    )


def full(call: Call) -> bytes:
    """A call as a full event: every field, 480 to 540 bytes; the user's id, which links no keys, fills it up."""
    whole = msgspec.structs.replace(
        call,
        time=rfc3339(cast(float, call.time)),
        input_tokens=call.input_tokens or 0,
        output_tokens=call.output_tokens or 0,
        reasoning_tokens=call.reasoning_tokens or 0,
        cached_input_tokens=call.cached_input_tokens or 0,
        max_output_tokens=call.max_output_tokens or 4096,
        cost_usd=call.cost_usd or 0.0,
        gateway=call.gateway or "gw-1",
    )
    missing = FULL_BYTES - len(_encoder.encode(whole))
    whole.user_id = f"{whole.user_id} " + "x" * max(0, missing - 1)
    return _encoder.encode(whole)


ENCODERS = {"short": short, "full": full}


@dataclass(frozen=True, slots=True)
class Traffic:
    """`events` calls of `keys` keys after `history_days` of history; the same whenever it is asked for.

    The calls end some days before now, so that no clock finds them in the future.
    """

    events: int
    keys: int
    history_days: float
    start: float
    days: float
    rate: float

    @classmethod
    def make(cls, events: int, keys: int, history_days: float, rate: float = CALLS_PER_SECOND) -> Traffic:
        """Draw the installation; `events` is the most that will be asked of `values`, `rate` in calls/s of all keys."""
        live_days = max(LEAST_LIVE_DAYS, LIVE_MARGIN * events / rate / DAY_SECONDS)
        days = history_days + MORNING_SECONDS / DAY_SECONDS + live_days
        start = (time.time() // DAY_SECONDS - int(days) - 2) * DAY_SECONDS
        return cls(events, keys, history_days, start, days, rate)

    @property
    def cut(self) -> float:
        """Where the history ends and the calls begin, in epoch seconds."""
        return self.start + self.history_days * DAY_SECONDS + MORNING_SECONDS

    def history(self) -> Iterator[list[Call]]:
        """The calls up to `cut`, in order of time, hour by hour."""
        return self._hours(self.start, self.cut)

    def calls(self, count: int, *, from_the_start: bool = False) -> Iterator[list[Call]]:
        """The first `count` calls behind `cut`, or of all, in order of time, hour by hour."""
        left = count
        for hour in self._hours(self.start if from_the_start else self.cut, math.inf):
            yield hour[:left]
            left -= len(hour)
            if left <= 0:
                return
        raise ValueError(f"the traffic ended {left} calls too early: ask for fewer events")

    def values(self, kind: str, count: int, *, from_the_start: bool = False) -> Iterator[list[Timed]]:
        """The first `count` calls, see `calls`, as (epoch seconds, key id, JSON) of a kind, hour by hour."""
        encode = ENCODERS[kind]
        for hour in self.calls(count, from_the_start=from_the_start):
            yield [(cast(float, call.time), call.key_id, encode(call)) for call in hour]

    def _hours(self, first: float, end: float) -> Iterator[list[Call]]:
        run = simulate("calm", seed=SEED, keys=self.keys, days=self.days, rate=self.rate, start=self.start)
        # drawn apart from its past, what follows `cut` is the same whether or not that was drawn
        seed = SEED if first == self.start else SEED + 1
        background, tables = Background(run.population, seed), Tables(run.population, seed)
        for moment, expected in levels(run.population, SEED, self.start, self.days):
            if first <= moment < end:
                yield background.draw(moment, expected).calls(tables, run.end)


def density(hours: Iterable[list[Call]]) -> tuple[float, float, int]:
    """Calls per second, calls per closed bucket of a key, and active keys, of calls in order of time."""
    cells: set[tuple[str, int]] = set()
    keys: set[str] = set()
    first, last, count = 0.0, 0.0, 0
    for hour in hours:
        for call in hour:
            moment = cast(float, call.time)
            first = first or moment
            last = moment
            cells.add((call.key_id, int(moment // BUCKET_SECONDS)))
            keys.add(call.key_id)
        count += len(hour)
    return count / max(last - first, 1.0), count / max(len(cells), 1), len(keys)
