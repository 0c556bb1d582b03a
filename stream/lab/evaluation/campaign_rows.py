"""The lines of the scoreboard of campaigns: families and their rows, twins by what they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from stream.lab.evaluation.campaigns import CampaignOutcome, CampaignScores, GroupLine, TwinOutcome
from stream.lab.evaluation.intervals import wilson
from stream.lab.evaluation.rows import rates_json

MIN_ALONE = 0.5
"""Single keys' alerts have found a campaign if so many of its members have one."""


@dataclass(frozen=True, slots=True)
class CampaignRow:
    """Some campaigns together; `group` is "family" (with all its rows), "row", or a split of all: "link", "innocents".

    recall, low, high: share found, with Wilson's 95 % interval
    delay_seconds: median over those found
    median_gone: median over all of the share of its tokens that was gone before the first alert (1: not found)
    alerts: incidents per campaign found; paged: share of all
    named: mean share of members named; innocents: share of all names that are none; both over those found
    alone: mean share of members with an alert of their own; alone_found: share of campaigns with most members alone
    alone_gone: median share of the tokens gone before the members' own alerts
    oracle: mean chance of an oracle that knows all but the moment; oracle_gone: median of what is gone before it finds
    them; oracle_innocents: mean share of innocents among those whom it names; None where it knows nothing
    """

    group: str
    name: str
    campaigns: int
    found: int
    recall: float
    low: float
    high: float
    delay_seconds: float | None
    median_gone: float
    alerts: float | None
    named: float | None
    innocents: float | None
    paged: float
    alone: float
    alone_found: float
    alone_gone: float
    oracle: float | None
    oracle_gone: float | None
    oracle_innocents: float | None


def campaign_rows(outcomes: Sequence[CampaignOutcome]) -> list[CampaignRow]:
    """Each family followed by its rows; then all by what links them, and by how many innocents have the same."""
    rows: list[CampaignRow] = []
    families = _split(outcomes, lambda one: one.campaign.family)
    for family, those in families.items():
        rows.append(_row("family", family, those))
        parts = _split(those, lambda one: one.campaign.row)
        rows += [_row("row", name, part) for name, part in parts.items() if len(parts) > 1]
    established = [one for one in outcomes if one.campaign.family in ("uplift", "own curve", "few", "short")]
    rows += [_row("link", name, part) for name, part in _split(established, _link).items()]
    rows += [_row("innocents", name, part) for name, part in _split(established, _innocents).items()]
    return rows


def _split(
    outcomes: Sequence[CampaignOutcome], name: Callable[[CampaignOutcome], str]
) -> dict[str, list[CampaignOutcome]]:
    found: dict[str, list[CampaignOutcome]] = {}
    for one in outcomes:
        found.setdefault(name(one), []).append(one)
    return dict(sorted(found.items()))


def _link(one: CampaignOutcome) -> str:
    if one.campaign.fresh:
        return "by a new trait"
    return f"by an old {one.campaign.links[0][0]}"


def _innocents(one: CampaignOutcome) -> str:
    ratio = len(one.others) / len(one.campaign.members)
    return "pure" if ratio < 0.25 else "mixed up to 1:2" if ratio <= 2 else "mixed beyond 1:2"


def _row(group: str, name: str, outcomes: Sequence[CampaignOutcome]) -> CampaignRow:
    count = len(outcomes)
    found = [one for one in outcomes if one.found]
    low, high = wilson(len(found), count)
    named = [one.named for one in found if one.named is not None]
    innocents = [one.innocents for one in found if one.innocents is not None]
    members = [len(one.campaign.members) for one in outcomes]
    attained = [one.oracle for one in outcomes if one.oracle is not None]
    return CampaignRow(
        group=group,
        name=name,
        campaigns=count,
        found=len(found),
        recall=len(found) / count,
        low=low,
        high=high,
        delay_seconds=median(one.delay_seconds or 0.0 for one in found) if found else None,
        median_gone=median(_share(one.gone, one.tokens) for one in outcomes),
        alerts=sum(one.alerts for one in found) / len(found) if found else None,
        named=sum(named) / len(named) if named else None,
        innocents=sum(innocents) / len(innocents) if innocents else None,
        paged=sum(one.paged for one in outcomes) / count,
        alone=sum(one.alone / n for one, n in zip(outcomes, members, strict=True)) / count,
        alone_found=sum(one.alone >= MIN_ALONE * n for one, n in zip(outcomes, members, strict=True)) / count,
        alone_gone=median(_share(one.alone_gone, one.tokens) for one in outcomes),
        oracle=sum(one.chance for one in attained) / len(attained) if attained else None,
        oracle_gone=median(one.gone for one in attained) if attained else None,
        oracle_innocents=sum(one.innocents for one in attained) / len(attained) if attained else None,
    )


def _share(part: int, of: int) -> float:
    return part / of if of else 1.0


def group_line_json(line: GroupLine) -> dict[str, Any]:
    """A line's counts and rates as plain data."""
    return asdict(line) | rates_json(line.alerts, line.pages, line.group_days, "group_days")


def twins_json(twins: Sequence[TwinOutcome]) -> dict[str, Any]:
    """Twins by what they are, as plain data."""
    families = sorted({one.family for one in twins})
    return {
        name: {
            "episodes": len(those),
            "alerted": sum(one.alerts > 0 for one in those),
            "alerts": sum(one.alerts for one in those),
            "paged": sum(one.paged for one in those),
        }
        for name in families
        for those in [[one for one in twins if one.family == name]]
    }


def campaign_scores_json(scores: CampaignScores) -> dict[str, Any]:
    """All counts and rows as plain data."""
    return {
        "clean": group_line_json(scores.line),
        "twins": twins_json(scores.twins),
        "campaigns": [asdict(row) for row in campaign_rows(scores.campaigns)],
    }
