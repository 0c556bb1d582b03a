"""The scoreboard for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from stream.core.explain import short, span
from stream.lab.calibration.run import Calibration
from stream.lab.evaluation.attainable import STEP_SECONDS
from stream.lab.evaluation.notifications import told_words
from stream.lab.evaluation.rivals import RIVALS
from stream.lab.evaluation.rows import Row, per_1000, rows_of
from stream.lab.evaluation.run import Result
from stream.lab.evaluation.scoring import Line
from stream.notify.hold import HOLD_HOURS

LEGEND = f"""\
False alerts: openings on clean key-days (a UTC day with a call, after the key's 7th, no attack or look-alike near);
those within 6 h of the key's last one are one; with an exact 95 % Poisson interval. found: an incident opened between
the attack's start and 1 h after its end. by chance: the same keys alert then without their attacks, too. oracle: a
CUSUM that knows the attack's size and the key's noise, at the same false alerts (for {", ".join(STEP_SECONDS)}).
by days: those that rise more than clean keys do by themselves, by the best of six ways to compare a day, three or seven
with the weeks before, each at the same false alerts by itself, with the threshold that is best on these very days; no
bound.
gone: part of all tokens that was taken before the first alert, each: the mean of each attack's own part; all, where
there was none. alerts: incidents per attack found.
not attacked: the same keys without the attacks, whose days are all clean then. Look-alikes are launches, bulk runs
and the like: nobody's fault, and nothing that should page.
told: messages per incident that is told one by one, at default settings, and of how many; ends are apart, and what is
shown at a message that is there is none. slack alone: no pager is in the notify file, so it hears of pages, too, and
tickets wait for up to {HOLD_HOURS:g} hours.
calibrated: the score that the dial came to by the priors in force, and then by the history of the world's kind, and how
many of the history's days exceed each.
In brackets: what tuning knew of the world. "Seen profile, new seed" is other traffic of a population that was tuned
on; "unseen" never was."""


def tables(result: Result) -> Iterator[RenderableType]:
    """What there is to show of a result."""
    scores = result.scores
    what = f"{result.world} ({result.seen}): {result.keys} keys, {result.days} days, dial {result.dial:g}"
    yield Text(what, "bold")
    yield from _lines(result)
    rows = rows_of(scores.attacks)
    if rows:
        yield _attacks(rows)
    covered = rows[0].covered if rows else 0
    if covered:
        yield Text(f"of the attacks not found, {covered} began while an earlier incident of the key was open")
    if result.rivals:
        yield _rivals(result)


def _lines(result: Result) -> Iterator[Text]:
    scores = result.scores
    if result.calibration is not None:
        yield Text(f"calibrated    {_moved(result.calibration)}")
    yield Text(f"clean keys    {_rates(scores.clean)}")
    if result.calm is not None:
        yield Text(f"  not attacked {_rates(result.calm)}")
    if scores.young.key_days:
        yield Text(f"young keys    {_rates(scores.young)}")
    looks = scores.lookalikes
    if looks:
        alerted, paged = sum(one.alerts > 0 for one in looks), sum(one.paged for one in looks)
        alerts = sum(one.alerts for one in looks)
        yield Text(
            f"look-alikes   {alerted} of {len(looks)} alert ({alerts} alerts), {paged} page ({paged / len(looks):.2f})"
        )

    if result.told:
        yield Text(f"told          {told_words(result.told)}")


def _moved(calibration: Calibration) -> str:
    """What a history has made of the dial."""
    fit = calibration.alerts
    before, after = fit.threshold(fit.old), fit.threshold(fit.new)
    return (
        f"on {len(fit.days):,} clean key-days of other keys: from score {before:.2f} ({fit.rate(fit.old).count} of "
        f"them exceed it) to {after:.2f} ({fit.rate(fit.new).count})"
    )


def _rates(line: Line) -> str:
    """Alerts and pages of a line, as rates."""
    alerts, pages = per_1000(line.alerts, line.key_days), per_1000(line.pages, line.key_days)
    if alerts is None or pages is None:
        return "no key-day"
    (rate, (low, high)), (page_rate, (page_low, page_high)) = alerts, pages
    return (
        f"{rate:.2f} [{low:.2f}–{high:.2f}] false alerts per 1,000 key-days ({line.alerts} on {line.key_days:,}), "
        f"{page_rate:.2f} [{page_low:.2f}–{page_high:.2f}] false pages ({line.pages})"
    )


def _attacks(rows: list[Row]) -> Table:
    numbers = (
        "n", "found", "95 %", "by chance", "oracle", "by days", "delay", "gone", "each", "median gone", "alerts",
        "page",
    )  # fmt: skip
    shown = Table(box=None, pad_edge=False)
    shown.add_column("attacks")
    for name in numbers:
        shown.add_column(name, justify="right")
    for row in rows:
        inner = row.group in ("intensity", "mimicry")
        shown.add_row(
            f"  {row.name}" if inner else row.name,
            str(row.attacks),
            share(row.recall),
            f"{share(row.low)}–{share(row.high)}",
            share(row.chance),
            share(row.attainable),
            share(row.by_days),
            "-" if row.delay_seconds is None else span(row.delay_seconds),
            share(row.share_gone),
            share(row.mean_gone),
            short(row.median_gone),
            "-" if row.alerts is None else f"{row.alerts:.1f}",
            share(row.paged),
            style="dim" if row.group == "intensity" else "bold" if row.group == "all" else "",
        )
    return shown


def _rivals(result: Result) -> Table:
    families = [row.name for row in rows_of(result.scores.attacks) if row.group == "family"]
    title = "against: thresholds chosen on this very data, for the same false alerts"
    shown = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    shown.add_column("detector")
    for name in ("false alerts", "found", "delay", "gone", "each", "alerts", "look-alikes", *families):
        shown.add_column(name, justify="right")
    ours = ("overdraw", result.scores)
    for name, scores in (ours, *((RIVALS[rival.name].summary, rival.scores) for rival in result.rivals)):
        rows = {row.name: row for row in rows_of(scores.attacks)}
        rate = per_1000(scores.clean.alerts, scores.clean.key_days)
        total = rows.get("all attacks")
        looks = scores.lookalikes
        shown.add_row(
            name,
            "-" if rate is None else f"{rate[0]:.2f}",
            share(total.recall if total else None),
            "-" if total is None or total.delay_seconds is None else span(total.delay_seconds),
            share(total.share_gone if total else None),
            share(total.mean_gone if total else None),
            "-" if total is None or total.alerts is None else f"{total.alerts:.1f}",
            share(sum(one.alerts > 0 for one in looks) / len(looks) if looks else None),
            *(share(rows[family].recall) for family in families),
        )
    return shown


def share(value: float | None) -> str:
    """A share as the scoreboard shows it.

    >>> share(0.256), share(1.0), share(None)
    ('.26', '1.00', '-')
    """
    return "-" if value is None else f"{value:.2f}".removeprefix("0") if value < 0.995 else "1.00"
