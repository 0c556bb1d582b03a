"""What a channel of evidence is, and what it is shown."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from stream.core.calibration import DailyMaximum

if TYPE_CHECKING:
    from stream.core.baseline import Baseline
    from stream.core.bucket import OpenBucket
    from stream.core.presence import Presence
    from stream.core.priors import Priors
    from stream.core.residuals import Horizons, Residuals
    from stream.settings import Settings

MOST_STANDARDISED: Final = 100.0
WARM_DAYS: Final = 3
"""A key younger than this has no scale of its own: nothing is said about it."""
_LAW = struct.Struct("<eeeB")
_LAWS = [struct.Struct("<" + count * "eeeB") for count in range(8)]
LITTLE_Z: Final = 1.0
"""What is too small to matter to anybody counts as one standard deviation at most."""
_DIGITS = b"01" + bytes(254)
"""Of 0 and 1, to write a row of them as a number."""
_FLOATS = [struct.Struct(f"<{count}f") for count in range(33)]


class Moment:
    """The bucket of a key that has just closed, as channels see it; one object a key, made ready by `begin`.

    ratios: log of observed over expected per window, the slow ones as of the last step
    day_z: the day's level in standard deviations, once `drift` has judged it
    aspects: the shape of the day's calls, once `shape` has looked at them; None: too few calls
    warm: the key is old enough to be judged by its own history; learning: scales may learn (old enough, no incident)
    hourly: an hour has ended since the slow channels were asked last: their scales learn now
    age_days: since the first call; active_days: days with calls
    excess: the most tokens above the baseline in any window with enough calls; min_excess, min_calls: the gate
    alarm: the quick windows are far beyond anything usual: learn slowly
    """

    __slots__ = (
        "active_days", "age_days", "alarm", "aspects", "baseline", "bucket", "day_z", "excess",
        "hourly", "learning", "min_calls", "min_excess", "presence", "ratios", "residuals", "warm",
    )  # fmt: skip

    bucket: int
    ratios: list[float]
    day_z: float
    aspects: list[float] | None
    warm: bool
    learning: bool
    hourly: bool
    alarm: bool
    age_days: float
    active_days: int
    excess: float

    def __init__(self, baseline: Baseline, residuals: Residuals, presence: Presence, settings: Settings) -> None:
        self.baseline, self.residuals, self.presence = baseline, residuals, presence
        self.min_excess, self.min_calls = settings.min_excess_tokens, settings.min_calls

    def begin(self, bucket: int, active_days: int) -> None:
        """Look at a bucket that has just been moved into the windows."""
        baseline, residuals = self.baseline, self.residuals
        self.bucket, self.active_days = bucket, active_days
        self.age_days = age = baseline.age / residuals.horizons.calendar.per_day
        self.warm, self.learning = age > WARM_DAYS, age > 1
        self.hourly = self.alarm = False
        self.day_z = self.excess = 0.0
        self.aspects = None
        usual, level = baseline.call_tokens.value, baseline.level.value
        self.ratios = [residuals.log_ratio(0, usual, level), residuals.log_ratio(1, usual, level)]

    def passes(self, h: int) -> bool:
        """Whether window `h` holds enough calls, and enough tokens above its expectation, to matter."""
        residuals = self.residuals
        return residuals.calls[h] >= self.min_calls and residuals.excess(h) >= self.min_excess


@dataclass(frozen=True, slots=True)
class Finding:
    """What one channel sees in a closed bucket, by the number that says most.

    `share` is what it contributes to the log odds of an attack; `z` is for people; `horizon` is the index of the window
    that shows it best, and `excess_tokens` what that window holds above its expectation.
    """

    channel: str
    statistic: str
    kind: str
    z: float
    share: float
    horizon: int
    excess_tokens: float


class Step(NamedTuple):
    """What the buckets of a step held together: the slow windows move by it, whether or not there were calls.

    last: the step's last bucket; tokens, calls: sums; fast, slow: sums of what the seasons expected; buckets: how many
    there were, fewer if telemetry was lost; level: the key's, in tokens per bucket
    """

    last: int
    tokens: float
    calls: float
    fast: float
    slow: float
    buckets: float
    level: float


class Channel:
    """One kind of evidence about one key. Score first, then learn; bucket by bucket in event time.

    `score` leaves in `values` one number for each of `statistics`, 0 where there is nothing to say, on the scale that
    the decision rule takes, and in `z` the same as standard deviations, for people. Neither is state.
    """

    name: ClassVar[str]
    statistics: ClassVar[tuple[str, ...]]
    kinds: ClassVar[tuple[str, ...]]
    """For each statistic the kind of alert that it speaks for."""
    horizons: ClassVar[tuple[int, ...]]
    """For each statistic the window that shows it best."""
    standardised: ClassVar[tuple[str, ...]] = ()
    """Those statistics that are judged by the key's own daily maxima."""
    quick: ClassVar[bool] = False
    """True: asked at every bucket with calls; False: once a step."""
    __slots__ = ("values", "z")

    def __init__(self, priors: Priors, horizons: Horizons) -> None:
        self.values = [0.0] * len(self.statistics)
        self.z = [0.0] * len(self.statistics)

    def add(self, sums: OpenBucket) -> None:
        """A bucket with calls has closed."""

    def step(self, step: Step, frozen: bool) -> None:
        """A step has ended; `frozen`: an incident is open, nothing may be learned from it."""

    def score(self, moment: Moment) -> None:
        """Judge the moment by what was usual so far."""
        raise NotImplementedError

    def learn(self, moment: Moment) -> None:
        """Take up what `score` has just judged."""

    def learn_day(self) -> None:
        """A UTC day has ended."""

    def forget_day(self) -> None:
        """An incident was open on this day: it must not teach what is usual."""

    def accept(self) -> None:
        """What was anomalous for long is the new normal: learn it as quickly as in a young key."""

    def settle(self) -> None:
        """An incident is over: what it left behind must not open another one."""

    def pack(self) -> bytes:
        """Everything that was learned."""
        raise NotImplementedError

    def unpack(self, data: memoryview) -> memoryview:
        """Take up what `pack` gave; returns the rest of `data`."""
        raise NotImplementedError


class Laws:
    """The daily maxima of a channel's statistics, and what of them enters the decision."""

    __slots__ = ("laws",)

    def __init__(self, priors: Priors, statistics: Sequence[str]) -> None:
        self.laws = [DailyMaximum(*priors.law(name)) for name in statistics]

    def value(self, i: int, z: float) -> float:
        """ln(1 + g), where g standardises `z` by the key's own daily maxima; 0 below them."""
        law = self.laws[i]
        g = law.standardise(z)
        return math.log1p(g if g < MOST_STANDARDISED else MOST_STANDARDISED) if g > 0 else 0.0

    def z_of(self, i: int, value: float) -> float:
        """The z that has this `value`."""
        return self.laws[i].raw(math.expm1(value))

    def see(self, i: int, z: float) -> None:
        """Let `z` be the day's highest if it is."""
        self.laws[i].see(z)

    def learn_day(self) -> None:
        """Take the day's maxima up."""
        for law in self.laws:
            law.learn_day()

    def forget_day(self) -> None:
        """Leave the day's maxima out."""
        for law in self.laws:
            law.peak = -math.inf

    def pack(self) -> bytes:
        """7 bytes a law."""
        values: list[float] = []
        for law in self.laws:
            values += (law.mean, law.variance, law.peak, law.days)
        return _LAWS[len(self.laws)].pack(*values)

    def unpack(self, data: memoryview) -> memoryview:
        """Take up what `pack` gave."""
        for law in self.laws:
            law.restore(*_LAW.unpack_from(data))
            data = data[_LAW.size :]
        return data


def take_arrays(data: memoryview, *targets: array[Any]) -> memoryview:
    """Fill arrays from packed data; returns the rest. Raises ValueError if it is short."""
    for target in targets:
        size = target.itemsize * len(target)
        memoryview(target).cast("B")[:] = data[:size]
        data = data[size:]
    return data


def pack_sparse(values: Sequence[float]) -> bytes:
    """At most 32 floats, of which some are 0: a bit for each that is not, then those, in 32 bits each."""
    kept = list(filter(None, values))
    marks = int(bytes(map(bool, values)).translate(_DIGITS), 2)
    return marks.to_bytes((len(values) + 7) // 8, "little") + _FLOATS[len(kept)].pack(*kept)


def take_sparse(data: memoryview, *targets: array[float]) -> memoryview:
    """Fill arrays of floats from what `pack_sparse` gave of them all; returns the rest. ValueError if it is short."""
    count = sum(map(len, targets))
    size = (count + 7) // 8
    marks = f"{int.from_bytes(data[:size], 'little'):0{count}b}"
    kept = array("f", bytes(4 * marks.count("1")))
    data = take_arrays(data[size:], kept)
    if len(marks) != count:
        raise ValueError("more is marked than there is")
    values = iter(kept)
    places = iter(marks)
    for target in targets:
        for i in range(len(target)):
            target[i] = next(values) if next(places) == "1" else 0.0
    return data
