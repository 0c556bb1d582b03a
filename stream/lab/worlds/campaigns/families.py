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
LONG = (17.0, 20.0)
"""Days of a campaign: published ones took 17 to 45, of which a branch of three weeks holds the shorter ones."""
SHORT = (4.0, 6.0)
"""So quick has none been that was published; on lines of their own."""
LONG_BRANCH, SHORT_BRANCH, TWIN_BRANCH = 21, 8, 14
"""Days of the branches."""

Maker = Callable[..., Campaign | None]
"""Takes a scene, a family and a row."""

CAMPAIGNS: dict[str, Maker] = {
    "uplift: >= 10 at +50 %": partial(uplift, low=10, high=60, percents=(50,), curves=CONSTANT, days=LONG),
    "uplift: >= 10 at +100 %": partial(uplift, low=10, high=60, percents=(100,), curves=CONSTANT, days=LONG),
    "uplift: >= 40 at +20 %": partial(uplift, low=40, high=400, percents=(20,), curves=CONSTANT, days=LONG),
    "own curve: >= 10 at +50 %": partial(uplift, low=10, high=60, percents=(50, 100), curves=("own",), days=LONG),
    "own curve: >= 40 at +20 %": partial(uplift, low=40, high=400, percents=(20,), curves=("own",), days=LONG),
    "few: 3 to 9 at +50 %": partial(uplift, low=3, high=9, percents=(50, 100), curves=("flat", "own"), days=LONG),
    "short: >= 10 at +50 %, 5 days": partial(
        uplift, low=10, high=60, percents=(50,), curves=("flat", "ramp", "own", "own"), days=SHORT
    ),
    "short: >= 40 at +20 %, 5 days": partial(
        uplift, low=40, high=400, percents=(20,), curves=("flat", "ramp", "own", "own"), days=SHORT
    ),
    "new accounts: >= 20": partial(new_accounts, days=LONG),
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
    ("own curve: >= 10 at +50 %", "few: 3 to 9 at +50 %"),
    ("own curve: >= 40 at +20 %",),
    ("uplift: >= 10 at +50 %", "new accounts: >= 20", "few: 3 to 9 at +50 %"),
    ("own curve: >= 10 at +50 %", "new accounts: >= 20", "uplift: >= 10 at +100 %"),
)
"""A world's branches of three weeks with campaigns: what shares a branch leaves most of the population alone."""
SHORT_ROUNDS: tuple[tuple[str, ...], ...] = (
    ("short: >= 10 at +50 %, 5 days", "pivot: half within a day", "burst: 12,000 calls"),
    ("short: >= 40 at +20 %, 5 days",),
    ("short: >= 10 at +50 %, 5 days", "respawn: after a block", "relay: among honest calls"),
    ("synchronized: same minutes", "burst: 12,000 calls"),
)
"""Those of a week, with what is over within days."""
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
        if row.startswith("new accounts"):
            maker = partial(maker, most=most_new)
        made.append(partial(maker, family=row.partition(":")[0], row=row))
    return made


def twin_families(names: tuple[str, ...]) -> list[Family]:
    """What makes the benign twins of some names."""
    return [TWINS[name] for name in names]
