"""The words of an explanation: one sentence for every statistic, every number of the context, every habit of a key.

The tables are total over STATISTICS, ASPECTS and CONTEXT by test: a new number cannot be left without its reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from stream.core.channels.shape import ASPECTS, Shape

REASONS: Mapping[str, str] = {
    "level_10m": "the last 10 minutes are {z:.1f} of the key's own standard deviations above what this hour of the "
    "week usually takes",
    "level_40m": "the last 40 minutes are {z:.1f} of its own standard deviations above what this hour of the week "
    "usually takes",
    "level_4h": "the last 4 hours are {z:.1f} of its own standard deviations above what these hours usually take",
    "level_1d": "the day's level is {z:.1f} of its own standard deviations above what these hours of the week usually "
    "take",
    "level_5d": "the level of five days is {z:.1f} of its own standard deviations above what they usually take",
    "page_hinkley": "hour after hour is above its expectation: the Page-Hinkley test has gathered {z:.1f} times what "
    "is suspicious",
    "jump_4h": "the last 4 hours are {z:.1f} of its own standard deviations above what the day before them explains",
    "jump_1d": "the day is {z:.1f} of its own standard deviations above what the five days explain",
    "cusum": "day after day is higher than the day before explains: the sum of what is unexplained stands at {z:.1f} "
    "standard deviations",
    "creep": "the level of five days is {times} the level from which it may grow by 2 % a day",
    "quiet_hours": "in hours in which the key is hardly ever used, it takes {z:.1f} of its own standard deviations "
    "more than usual",
    "active_record": "it was in use for {times} as much of the day as on its busiest day of the last weeks",
    "record_40m": "40 minutes hold {times} the most that they have held in the last weeks",
    "record_4h": "4 hours hold {times} the most that they have held in the last weeks",
    "record_1d": "a day holds {times} the most that one has held in the last weeks",
    "mature_record_40m": "that record of 40 minutes has stood for long enough to count for more",
    "mature_record_4h": "that record of 4 hours has stood for long enough to count for more",
    "mature_record_1d": "that record of a day has stood for long enough to count for more",
    "shape_6h": "the calls of 6 hours are not like the key's: {aspects}",
    "shape_1d": "the calls of the day are not like the key's: {aspects}",
    "ratio_record": "answers are {times} as long against their prompts as in any 6 hours of the last weeks",
    "calls_4h": "the answered calls of 4 hours are {z:.1f} of its own standard deviations above what the expected "
    "tokens are worth",
    "calls_1d": "the answered calls of the day are {z:.1f} of its own standard deviations above what the expected "
    "tokens are worth",
    "unknown_usage": "more of the day's tokens than usual had to be estimated, by {z:.1f} of its own standard "
    "deviations: the gateway did not say them",
    "newcomer": "a new key that starts {z:.1f} of the population's standard deviations above other keys in level and "
    "shape",
}
"""By statistic; z as in the channel, times is exp(z) of a log ratio, aspects what of a shape stands out."""

ASPECT_WORDS: Mapping[str, str] = {
    "output_ratio": "answers longer against their prompts",
    "uniformity": "answers more alike in length",
    "output_length": "answers longer",
    "at_limit": "more answers cut at the caller's limit",
    "reasoning": "more of the output is reasoning",
    "model_focus": "more calls to one model",
}
"""What it means that an aspect of the calls is above the key's own."""
LEAST_ASPECT = 0.5
"""An aspect that stands out by less is not worth naming."""

CONTEXT_REASONS: Mapping[str, tuple[float, str]] = {
    "size": (0.0, "the excess is {size} tokens, where 100 k are little"),
    "relative_size": (0.0, "the excess is worth {relative:.2g} of the key's usual days"),
    "log_active_days": (0.0, "the key was active on {active_days}, where two weeks are usual"),
    "volatility": (0.0, "its days vary {volatility:.2g} times as much as those of other keys"),
    "active_share": (0.5, "it was in use for {share:.0%} of the last ten days, where half is usual"),
    "seldom": (0.0, "it is seldom used: less than a tenth of the time"),
    "woken": (0.0, "it had slept, and woke up not long ago"),
    "unpredictability": (0.0, "its hours miss their expectation {unpredictability:.2g} times as much as usual"),
}
"""By number of the context: what it is for a key that is neither this nor that, and what is to be said of this one."""


def times_of(z: float) -> str:
    """A log ratio in words.

    >>> times_of(0.9), times_of(7.0)
    ('2.5 ×', '1097 ×')
    """
    ratio = math.exp(min(z, 50.0))
    return f"{ratio:.1f} ×" if ratio < 100 else f"{ratio:.0f} ×"


def aspects_in_words(deviations: Sequence[float]) -> str:
    """What stands out of a shape, the most first; `deviations` by position in ASPECTS, in standard deviations.

    >>> aspects_in_words([3.0, 0.1, 0.0, -2.0, 0.7, 0.0])
    'answers longer against their prompts (z 3.0), more of the output is reasoning (z 0.7)'
    """
    found = sorted(((z, name) for name, z in zip(ASPECTS, deviations, strict=True) if z >= LEAST_ASPECT), reverse=True)
    return ", ".join(f"{ASPECT_WORDS[name]} (z {z:.1f})" for z, name in found) or "a little of everything"


def reason_of(statistic: str, z: float, shape: Shape) -> str:
    """The sentence of one statistic at `z`; raises KeyError on a statistic that is not in REASONS."""
    text = REASONS[statistic]
    aspects = ""
    if "{aspects}" in text:
        aspects = aspects_in_words(shape.deviations(shape.statistics.index(statistic)))
    return text.format(z=z, times=times_of(z), aspects=aspects)


def unpredictability_in_words(log_error: float) -> str:
    """How well the key's hours can be told; `log_error`: ln of their mean squared log error over the usual."""
    steps = ((-1.2, "like clockwork"), (-0.4, "steady"), (0.4, "as usual"), (1.0, "restless"))
    return next((word for limit, word in steps if log_error < limit), "hardly predictable")


def volatility_in_words(log_scale: float) -> str:
    """How much the key's days vary; `log_scale`: ln of their scale over the population's."""
    steps = ((-0.5, "very even days"), (-0.15, "even days"), (0.2, "days as of other keys"), (0.6, "uneven days"))
    return next((word for limit, word in steps if log_scale < limit), "very uneven days")


def activity_in_words(share: float) -> str:
    """How much of its time the key is used; `share` in [0, 1] of ten days."""
    steps = ((0.02, "hardly ever used"), (0.1, "seldom used"), (0.4, "used at times"), (0.9, "used most of the time"))
    return next((word for limit, word in steps if share < limit), "used round the clock")


def season_in_words(strength: float) -> str:
    """How much of the key's rate the hour of the week explains, in [0, 1]."""
    steps = ((0.4, "the hour of the week says little"), (0.65, "the hour of the week says something"))
    return next((word for limit, word in steps if strength < limit), "it has its hours")
