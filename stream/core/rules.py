"""What decides, fixed for a run: bucket arithmetic, gates, thresholds and the priors behind them."""

from __future__ import annotations

import math
from hashlib import sha256

from stream.core.calendar import Calendar
from stream.core.calibration import Priors, TailLaw, shipped_priors
from stream.core.channels.base import Gate
from stream.core.incidents import ACCEPT_SECONDS, CALM_SECONDS, HOLD, UPDATE_SECONDS
from stream.core.residuals import Horizons
from stream.settings import Settings

WARM_DAYS = 3
"""A key younger than this has no scale of its own: nothing is said about it."""
MATURITY_DAYS = 3.0
"""A key with 3 more active days than WARM_DAYS counts its evidence half; the false alerts of young keys are many."""


class Rules:
    """Settings and priors, worked out once and shared by all keys of a shard."""

    __slots__ = (
        "accept_buckets", "ahead", "calendar", "calm_buckets", "digest", "gate", "hold_score", "horizons", "lateness",
        "law", "open_score", "priors", "settings", "taken", "update_buckets",
    )  # fmt: skip

    def __init__(self, settings: Settings, priors: Priors | None = None) -> None:
        self.settings = settings
        self.priors = priors = priors or shipped_priors()
        self.calendar = Calendar(settings.bucket_seconds, settings.zone, settings.holidays)
        self.horizons = Horizons(self.calendar)
        self.gate = Gate(settings.min_excess_tokens, settings.min_calls)
        self.law = TailLaw(priors.tail)
        self.open_score = self.law.threshold(settings.false_alerts_per_1000_key_days / 1000)
        self.hold_score = HOLD * self.open_score
        self.lateness = settings.allowed_lateness_seconds
        bucket_seconds = settings.bucket_seconds
        self.ahead = math.ceil(self.lateness / bucket_seconds)
        """Buckets that may still be open when a bucket's first record comes: its threshold must not depend on them."""
        self.calm_buckets = max(1, CALM_SECONDS // bucket_seconds)
        self.update_buckets = UPDATE_SECONDS // bucket_seconds
        self.accept_buckets = ACCEPT_SECONDS // bucket_seconds
        self.taken: tuple[int, int] | None = None
        """A bucket and a sequence: of incidents that start up to that bucket, alerts with lower sequences have gone
        out already, from a state that this one took the place of. An incident's id is a hash of its start, so only a
        higher sequence keeps its alerts apart from those."""
        self.digest = sha256(f"{settings.config_digest} {priors.digest}".encode()).hexdigest()[:16]

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
