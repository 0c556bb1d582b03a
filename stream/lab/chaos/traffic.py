"""Calls for the experiments, with the sums that must come of them: worked out here, without the detector."""

from __future__ import annotations

import heapq
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

HOUR = 3600.0
START = 1_772_323_200.0
"""2026-03-01: days of it pass within seconds, so all is a backlog."""
LEARNING_HOURS = 8 * 24
"""Before the first attack: a key is judged from its fourth day on, but in its first week it takes more than this."""
ATTACK_EVERY_HOURS = 7
ATTACK_HOURS = 3
ATTACK_CALLS = 60
CALL_TOKENS = (4_000, 6_000), (2_000, 3_000)
"""Of input and of output of a usual call, from and to."""
ATTACK_CALL_TOKENS = 45_000, 25_000
"""Many, as the usual ones are: a key's ratio has an offset (`core.residuals`) of 18,000 tokens an hour."""
LATE_SECONDS = 3 * HOUR
"""More than a bucket and the lateness: late whatever else has come."""
FUTURE_SECONDS = 2 * HOUR

Timed = tuple[float, str, bytes]
POISON = {
    "broken_json": b'{"event_id": "x", "time"',
    "invalid_utf8": b"\xff\xfe\x00",
    "missing_field": b'{"event_id": "x"}',
    "not_an_object": b'"a string"',
}


@dataclass(slots=True)
class Truth:
    """What must have been counted: calls, input and output tokens by key, and refused records by reason."""

    sums: dict[str, list[int]] = field(default_factory=dict)
    dead_letters: Counter[str] = field(default_factory=Counter)
    records: int = 0
    late: int = 0
    """Records that must have come too late to be counted."""
    repeated: int = 0
    """Records that were sent once more: duplicates, or late where their bucket had closed by then."""

    def count(self, key_id: str, input_tokens: int, output_tokens: int) -> None:
        """Take up one accepted call."""
        row = self.sums.setdefault(key_id, [0, 0, 0])
        row[0] += 1
        row[1] += input_tokens
        row[2] += output_tokens

    def forget(self, value: bytes) -> None:
        """Take back an accepted call, for nobody can have read it."""
        content = json.loads(value)
        row = self.sums[content["key_id"]]
        row[0] -= 1
        row[1] -= content["input_tokens"]
        row[2] -= content["output_tokens"]


class Traffic:
    """An endless gateway, hour by hour of event time. `faults`: it repeats, mixes, delays and spoils what it sends.

    Each hour has `per_hour` calls, of one key after the other; from the ninth day on one key after the other is drained
    for some hours. With faults, the order within the allowed lateness is mixed (`lateness` in seconds), and there are
    repeated, late, future and broken records; what must come of each is certain by its making. Where partitions are
    read side by side it is not certain which record is late: so without `late` there are none. `clock`: the present, in
    epoch seconds, as the records' timestamps will have it.
    """

    def __init__(
        self,
        *,
        keys: int,
        per_hour: int,
        seed: int,
        faults: bool = False,
        lateness: float = 600.0,
        late: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.truth = Truth()
        self._keys, self._per_hour, self._faults, self._lateness = keys, per_hour, faults, lateness
        self._late = late
        self._random = random.Random(seed)
        self._clock = clock
        self._name = f"{seed:x}"
        self._hour = 0
        self._number = 0
        self._waiting: list[tuple[float, int, Timed]] = []

    def hour(self) -> list[Timed]:
        """The records that arrive in the next hour, in their order."""
        begin = START + self._hour * HOUR
        for at, key, input_tokens, output_tokens in self._calls(begin):
            self._send(at, f"key-{key}", input_tokens, output_tokens)
        self._hour += 1
        arrived: list[Timed] = []
        while self._waiting and self._waiting[0][0] < begin + HOUR:
            arrived.append(heapq.heappop(self._waiting)[2])
        return self._counted(arrived)

    def rest(self) -> list[Timed]:
        """What is still on its way."""
        rest = [record for _, _, record in sorted(self._waiting)]
        self._waiting.clear()
        return self._counted(rest)

    def _counted(self, records: list[Timed]) -> list[Timed]:
        self.truth.records += len(records)
        return records

    def _calls(self, begin: float) -> list[tuple[float, int, int, int]]:
        draw, (given, taken) = self._random, CALL_TOKENS
        calls = [
            (begin + draw.random() * HOUR, number % self._keys, draw.randrange(*given), draw.randrange(*taken))
            for number in range(self._per_hour)
        ]
        turn, phase = divmod(self._hour - LEARNING_HOURS, ATTACK_EVERY_HOURS)
        if self._hour >= LEARNING_HOURS and phase < ATTACK_HOURS:
            victim = turn * 5 % self._keys
            calls += [(begin + 3000.0 + draw.random() * 500, victim, *ATTACK_CALL_TOKENS) for _ in range(ATTACK_CALLS)]
        return sorted(calls)

    def _send(self, at: float, key_id: str, input_tokens: int, output_tokens: int) -> None:
        draw = self._random
        self.truth.count(key_id, input_tokens, output_tokens)
        value = self._value(at, key_id, input_tokens, output_tokens)
        arrives = at
        if self._faults and draw.random() < 0.2:
            arrives += draw.random() * 0.9 * self._lateness
        self._arrive(arrives, (at, key_id, value))
        if self._faults:
            self._spoil(arrives, (at, key_id, value))

    def _spoil(self, arrives: float, record: Timed) -> None:
        """Perhaps one of the faults that gateways have, right behind a good record of the same key."""
        at, key_id, _ = record
        dice = self._random.random()
        if dice < 0.02:  # sent twice
            self.truth.repeated += 1
            self._arrive(arrives + self._random.random() * 1200, record)
        elif dice < 0.023 and self._late:  # a clock that lags by hours
            self.truth.late += 1
            self._arrive(arrives, (at, key_id, self._value(at - LATE_SECONDS, key_id, 7, 7)))
        elif dice < 0.026:  # a clock that is ahead
            self.truth.dead_letters["future"] += 1
            self._arrive(arrives, (at, key_id, self._value(self._clock() + FUTURE_SECONDS, key_id, 7, 7)))
        elif dice < 0.03:
            reason = self._random.choice(sorted(POISON))
            self.truth.dead_letters[reason] += 1
            self._arrive(arrives, (at, key_id, POISON[reason]))

    def _arrive(self, when: float, record: Timed) -> None:
        self._number += 1
        heapq.heappush(self._waiting, (when, self._number, record))

    def _value(self, at: float, key_id: str, input_tokens: int, output_tokens: int) -> bytes:
        self._number += 1
        content: dict[str, Any] = {
            "event_id": f"{self._name}-{self._number}", "time": at, "key_id": key_id,
            "input_tokens": input_tokens, "output_tokens": output_tokens,
        }  # fmt: skip
        return json.dumps(content).encode()
