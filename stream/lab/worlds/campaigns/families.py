"""The families of campaigns and their rows, and how a world's branches share them out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from stream.lab.worlds.campaigns.established import pivot, relay, synchronized, uplift
from stream.lab.worlds.campaigns.labels import Campaign
from stream.lab.worlds.campaigns.newcomers import burst, new_accounts, respawn
from stream.lab.worlds.campaigns.scene import Family
from stream.lab.worlds.campaigns.twins import TWINS

CONSTANT = ("flat", "flat", "ramp")

Maker = Callable[..., Campaign | None]
"""Takes a scene, a family and a row."""

CAMPAIGNS: dict[str, Maker] = {
    "uplift: >= 10 at +50 %": partial(uplift, low=10, high=60, percents=(50,), curves=CONSTANT),
    "uplift: >= 10 at +100 %": partial(uplift, low=10, high=60, percents=(100,), curves=CONSTANT),
    "uplift: >= 40 at +20 %": partial(uplift, low=40, high=400, percents=(20,), curves=CONSTANT),
    "own curve: >= 10 at +50 %": partial(uplift, low=10, high=60, percents=(50, 100), curves=("own",)),
    "own curve: >= 40 at +20 %": partial(uplift, low=40, high=400, percents=(20,), curves=("own",)),
    "few: 3 to 9 at +50 %": partial(uplift, low=3, high=9, percents=(50, 100), curves=("flat", "own")),
    "new accounts: >= 20": new_accounts,
    "pivot: half within a day": pivot,
    "respawn: after a block": respawn,
    "relay: among honest calls": relay,
    "burst: 12,000 calls": burst,
    "synchronized: same minutes": synchronized,
}
"""Row of a table (its family before the colon) to what makes such a campaign."""
ROUNDS: tuple[tuple[str, ...], ...] = (
    ("uplift: >= 10 at +50 %", "new accounts: >= 20"),
    ("uplift: >= 40 at +20 %",),
    ("own curve: >= 10 at +50 %", "pivot: half within a day", "burst: 12,000 calls"),
    ("own curve: >= 40 at +20 %",),
    ("uplift: >= 10 at +50 %", "new accounts: >= 20", "few: 3 to 9 at +50 %"),
    ("own curve: >= 10 at +50 %", "respawn: after a block", "relay: among honest calls"),
    ("new accounts: >= 20", "synchronized: same minutes", "uplift: >= 10 at +100 %"),
)
"""A world's branches with campaigns: what shares a branch leaves most of the population alone."""
CALM_ROUNDS: tuple[tuple[str, ...], ...] = (
    ("launch", "class", "nat change"),
    ("vendor", "flash crowd", "rotation"),
    ("onboarding", "sdk update"),
    ("release",),
)
"""A world's branches with benign twins."""


def campaign_families(rows: tuple[str, ...], most_new: int | None = None) -> list[Family]:
    """What makes the campaigns of some rows; `most_new` bounds the accounts of those that are new."""
    made: list[Family] = []
    for row in rows:
        maker = CAMPAIGNS[row]
        if maker is new_accounts:
            maker = partial(new_accounts, most=most_new)
        made.append(partial(maker, family=row.partition(":")[0], row=row))
    return made


def twin_families(names: tuple[str, ...]) -> list[Family]:
    """What makes the benign twins of some names."""
    return [TWINS[name] for name in names]
