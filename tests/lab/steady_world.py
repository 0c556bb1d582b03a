"""A world in which nothing varies: what is added to it is all that there is."""

from __future__ import annotations

import numpy as np

from stream.lab.worlds.world import Episode, World

DAY = 288
CALLS, INPUT, OUTPUT = 10, 5_000, 2_500
MONDAY = 1_767_571_200.0
"""2026-01-05, a Monday."""


def steady(
    keys: int = 2,
    days: int = 20,
    *,
    attacks: tuple[Episode, ...] = (),
    lookalikes: tuple[Episode, ...] = (),
    times: float = 1.0,
    first_day: int = 0,
) -> World:
    """Keys that do the same in every bucket; each attack and look-alike adds `times` that."""
    sums = {name: np.full((days * DAY, keys), value) for name, value in _each(CALLS, INPUT, OUTPUT).items()}
    taken = np.zeros((days * DAY, keys), np.int64)
    for episode in (*attacks, *lookalikes):
        more = _each(round(CALLS * times), round(INPUT * times), round(OUTPUT * times))
        for name, value in more.items():
            sums[name][episode.first : episode.last, episode.key] += value
        if episode in attacks:
            taken[episode.first : episode.last, episode.key] = more["input_tokens"] + more["output_tokens"]
    return World(
        name="steady",
        start=MONDAY,
        bucket_seconds=300,
        key_ids=tuple(f"key-{k}" for k in range(keys)),
        lost=np.zeros((days * DAY, keys), np.bool_),
        attack_tokens=taken,
        attacks=attacks,
        lookalikes=lookalikes,
        first_day=first_day,
        **sums,
    )


def _each(calls: int, input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "calls": calls,
        "known_calls": calls,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "reasoning_tokens": 0,
        "saturated": 0,
        "log_output": calls * 5_000,
        "log_output_squares": calls * 25_000,
        "same_model": calls * (calls - 1),
    }
