"""The scoreboard of campaigns for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from stream.core.explain import span
from stream.lab.evaluation.campaign_rows import CampaignRow, campaign_rows, twins_json
from stream.lab.evaluation.campaign_run import CampaignResult
from stream.lab.evaluation.campaigns import GroupLine
from stream.lab.evaluation.rows import per_1000
from stream.lab.evaluation.table import share

CAMPAIGN_LEGEND = """\
False alerts: openings on group-days (a UTC day with at least 3 active keys of the group) where nothing happens; those
of one group within a day are one; with an exact 95 % Poisson interval. astray: in the other branches, what belongs to
nothing that happened there and does not come without it. found: an alert of a group opened during the campaign or up to
2 h after it, and most keys that it names are members, or what its group shares is what links them. gone: of its tokens,
before the first alert; the median over all (1.00: not found). alerts: of groups, per campaign found. named: members
that the alerts name, of those who had come; innocents: of the names. oracle: the chance of a detector that knows the
members and what each of them gives, not when, where one goes on for two days; oracle gone: what is gone before it finds
them, in the median: it looks once a day, so that here it is no bound; oracle innocents: of the names, if it names .80
of the members once all is over, by how far each key that shares what links them is above its three weeks before. alone:
what alerts of single keys show of the same: members with an alert of their own; campaigns with one for most members;
tokens gone before these. Twins are nobody's fault: none should page. In brackets: what tuning knew of the worlds."""


def campaign_tables(result: CampaignResult) -> Iterator[RenderableType]:
    """What there is to show of a result."""
    scores = result.scores
    yield Text(f"campaigns in worlds {', '.join(result.worlds)} ({result.seen})", "bold")
    yield Text(f"clean groups  {_rates(scores.line)}")
    for name, counts in twins_json(scores.twins).items():
        yield Text(
            f"  {name:<12}{counts['alerted']} of {counts['episodes']} alert ({counts['alerts']} alerts), "
            f"{counts['paged']} page",
            "bold red" if counts["paged"] else "",
        )
    rows = campaign_rows(scores.campaigns)
    if rows:
        yield _table(rows)


def _rates(line: GroupLine) -> str:
    alerts, pages = per_1000(line.alerts, line.group_days), per_1000(line.pages, line.group_days)
    if alerts is None or pages is None:
        return "no group-day"
    (rate, (low, high)), (page_rate, _) = alerts, pages
    return (
        f"{rate:.2f} [{low:.2f}–{high:.2f}] false alerts per 1,000 group-days ({line.alerts} on {line.group_days:,}), "
        f"{page_rate:.2f} false pages ({line.pages}); {line.astray} astray"
    )


def _table(rows: list[CampaignRow]) -> Table:
    shown = Table(box=None, pad_edge=False)
    shown.add_column("campaigns")
    for name in (
        "n", "found", "95 %", "delay", "gone", "alerts", "named", "innocents", "page", "oracle", "oracle gone",
        "oracle innocents",
    ):  # fmt: skip
        shown.add_column(name, justify="right")
    for name in ("alone", "found", "gone"):
        shown.add_column(name, justify="right", style="dim")
    for row in rows:
        shown.add_row(
            row.name if row.group == "family" else f"  {row.name}",
            str(row.campaigns),
            share(row.recall),
            f"{share(row.low)}–{share(row.high)}",
            "-" if row.delay_seconds is None else span(row.delay_seconds),
            share(row.median_gone),
            "-" if row.alerts is None else f"{row.alerts:.1f}",
            share(row.named),
            share(row.innocents),
            share(row.paged),
            share(row.oracle),
            share(row.oracle_gone),
            share(row.oracle_innocents),
            share(row.alone),
            share(row.alone_found),
            share(row.alone_gone),
            style="bold" if row.group == "family" else "",
        )
    return shown
