"""What decides, fixed for a run: bucket arithmetic, gates, thresholds and the priors behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from stream.core.calendar import Calendar
from stream.core.calibration import TailLaw
from stream.core.channels import CHANNELS, STATISTICS
from stream.core.channels.base import WARM_DAYS, Channel, Finding
from stream.core.control import Control
from stream.core.incidents import CALM_SECONDS, FLAP_SECONDS, HOLD, SLOW_CALM_SECONDS, UPDATE_SECONDS
from stream.core.priors import Priors, priors_of
from stream.core.quality import Quality
from stream.core.residuals import Horizons, Residuals
from stream.settings import Settings

if TYPE_CHECKING:
    from stream.core.bucket import Verdict
    from stream.core.gathering import Gathering
    from stream.core.key import KeyState

    Watch = Callable[[KeyState, Verdict], None]

MATURITY_DAYS: Final = 3.0
"""A key with 3 more active days than WARM_DAYS is half known."""
NEWCOMER_FACTOR: Final = 8.0
"""False alerts per 1,000 days of keys in their first week, as a multiple of the first dial: so much more often is a new
key that starts hot an attack than an old one that changes."""
LEAST_NEWCOMER_Z: Final = 2.0
CHAIN_DAYS: Final = 4.0
"""An incident that begins so soon after another goes on with it, as far as `accept_days` is concerned: a weekend is no
end."""
LEAST_SHARE: Final = 0.5
"""A number that adds less to the log odds is not worth naming."""


class Rules:
    """Settings and priors, worked out once and shared by all keys of a shard."""

    __slots__ = (
        "accept_buckets", "ahead", "calendar", "calm_buckets", "chain_buckets", "control", "digest",
        "flap_buckets", "gathering", "hold_score", "horizons", "lateness", "law", "newcomer_law", "open_score",
        "priors", "quality", "rule", "settings", "slow_calm_buckets", "taken", "update_buckets", "warm_buckets",
        "watch",
    )  # fmt: skip

    def __init__(self, settings: Settings, priors: Priors | None = None) -> None:
        self.settings = settings
        self.priors = priors = priors or priors_of(settings)
        self.calendar = Calendar(settings.bucket_seconds, settings.zone, settings.holidays)
        self.horizons = Horizons(self.calendar)
        self.rule = priors.rule
        self.law = TailLaw(priors.tail)
        self.newcomer_law = TailLaw(priors.newcomer_tail)
        self.open_score = self.law.threshold(settings.false_alerts_per_1000_key_days / 1000)
        self.hold_score = HOLD * self.open_score
        self.quality = Quality(settings.bucket_seconds)
        """How far the shard's data can be trusted; while they are poor, an alert needs a higher score."""
        self.lateness = settings.allowed_lateness_seconds
        bucket_seconds = settings.bucket_seconds
        self.ahead = math.ceil(self.lateness / bucket_seconds)
        """Buckets that may still be open when a bucket's first record comes: its threshold must not depend on them."""
        self.warm_buckets = WARM_DAYS * self.calendar.per_day
        self.calm_buckets = max(1, CALM_SECONDS // bucket_seconds)
        self.slow_calm_buckets = max(1, SLOW_CALM_SECONDS // bucket_seconds)
        self.flap_buckets = FLAP_SECONDS // bucket_seconds
        self.update_buckets = UPDATE_SECONDS // bucket_seconds
        self.accept_buckets = int(settings.accept_days * 86_400) // bucket_seconds
        self.chain_buckets = int(CHAIN_DAYS * 86_400) // bucket_seconds
        self.taken: tuple[int, int] | None = None
        """A bucket and a sequence: of incidents that start up to that bucket, alerts with lower sequences have gone
        out already, from a state that this one took the place of. An incident's id is a hash of its start, so only a
        higher sequence keeps its alerts apart from those."""
        self.gathering: Gathering | None = None
        """Takes what keys tell of themselves once an hour, if set."""
        self.control = Control(bucket_seconds)
        """What operators have told the shard."""
        self.watch: Watch | None = None
        """Hears every judgement of a closed bucket, if set; see `listen`."""
        self.digest = sha256(f"{settings.config_digest} {priors.digest}".encode()).hexdigest()[:16]

    def listen(self, watch: Watch) -> None:
        """From now on nothing opens an incident: every judgement, key and verdict, goes to `watch` instead."""
        self.open_score = self.hold_score = math.inf
        self.watch = watch

    def quick_score(self, channels: Sequence[Channel], context: Sequence[float]) -> float:
        """The score of a bucket by the windows of minutes."""
        return self.rule.quick_score(_values(channels), context)

    def slow_score(self, channels: Sequence[Channel], context: Sequence[float], excess: float) -> float:
        """The score of a step by all channels; `excess`: the most tokens that any window has above its expectation."""
        large = excess >= self.settings.min_excess_tokens
        shaped = any(channels[SHAPE].z[:2])
        newcomer = channels[NEWCOMER].values[0]
        score = 0.0
        if large or shaped:
            score = self.rule.slow_score(_values(channels), context, large, shaped)
        if newcomer > LEAST_NEWCOMER_Z:
            score = max(score, self.newcomer_score(newcomer))
        return score

    def newcomer_score(self, newcomer: float) -> float:
        """The score of a new key by the newcomer's number alone."""
        return self.law.threshold(self.newcomer_law.share(newcomer) / NEWCOMER_FACTOR)

    def needed(self, statistic: str, context: Sequence[float], score: float) -> float:
        """The value of one number that alone brings `score`; infinite if it never can."""
        return self.rule.needed(STATISTICS.index(statistic), context, score)

    def findings(
        self, channels: Sequence[Channel], context: Sequence[float], residuals: Residuals, quick: bool
    ) -> list[Finding]:
        """What each channel sees, by the number that says most, the strongest first; `quick`: by minutes alone."""
        values = _values(channels)
        found: dict[str, Finding] = {}
        if not quick and channels[NEWCOMER].values[0] > LEAST_NEWCOMER_Z:
            found["newcomer"] = _finding(channels[NEWCOMER], 0, channels[NEWCOMER].values[0], residuals)
        for share, i in self.rule.shares(values, context, quick):
            channel, place = PLACES[i]
            name = channels[channel].name
            if name not in found and (share >= LEAST_SHARE or not found):
                found[name] = _finding(channels[channel], place, share, residuals)
        return sorted(found.values(), key=lambda finding: -finding.share)

    def page_score(self, keys: int) -> float:
        """The score that at most `false_pages_per_week` clean key-days of an installation of `keys` keys exceed."""
        share = self.settings.false_pages_per_week / (7 * max(1, keys))
        return max(self.law.threshold(min(share, 0.1)), self.open_score)

    def first_sequence(self, bucket: int) -> int:
        """The sequence of the first alert of an incident that starts at `bucket`."""
        return self.taken[1] if self.taken is not None and bucket <= self.taken[0] else 0

    @staticmethod
    def maturity(active_days: int) -> float:
        """How much a key's evidence counts, in (0, 1): it grows with the days on which the key was active."""
        return 1 / (1 + MATURITY_DAYS / max(active_days - WARM_DAYS, 0.2))


SHAPE = list(CHANNELS).index("shape")
NEWCOMER = list(CHANNELS).index("newcomer")
PLACES = [(c, i) for c, channel in enumerate(CHANNELS.values()) for i in range(len(channel.statistics))]
"""Channel, and place in it, of each of STATISTICS."""


def _values(channels: Sequence[Channel]) -> list[float]:
    values: list[float] = []
    for channel in channels:
        values += channel.values
    return values


def _finding(channel: Channel, i: int, share: float, residuals: Residuals) -> Finding:
    h = channel.horizons[i]
    return Finding(channel.name, channel.statistics[i], channel.kinds[i], channel.z[i], share, h, residuals.excess(h))
