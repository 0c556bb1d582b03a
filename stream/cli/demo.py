"""`overdraw demo`: see it find an attack."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from stream.alerts import printable, rfc3339
from stream.cli.common import FOUND, BadInput, FiniteRange, Unreachable, settings_from, settings_options, until_stopped

if TYPE_CHECKING:
    from stream.alerts import Alert
    from stream.lab.demo import Story

PLAIN_SECONDS = 5.0
ALERTS_SHOWN = 6
BAR = 24


@click.command()
@click.option("--for", "seconds", type=FiniteRange(min=1), help="End after so many seconds of a running broker.")
@click.option("--scenario", default="surge", show_default=True, help="surge, leaked-key, drift, campaign or calm.")
@settings_options
def command(seconds: float | None, scenario: str, assignments: tuple[str, ...], config: str | None) -> None:
    """Watch the detector find an attack: real Kafka, simulated gateway traffic, no Docker.

    Three weeks of traffic are learned in seconds, then an hour is played 60 times as fast as the clock; fifteen
    minutes into it one key is drained. Of a drift, or of a campaign of new accounts, half a day is played, faster. On a
    terminal the demo stays until Ctrl-C; elsewhere, or with --for, it ends by itself, with exit 0 only if the attack
    was found. A machine of two cores needs about a minute.

    \b
    Example:
      overdraw demo
      overdraw demo --scenario leaked-key --for 120
      overdraw demo --scenario campaign
    """
    from stream.broker import BrokerError
    from stream.gateways.errors import InputError
    from stream.lab.demo import Demo, DemoError
    from stream.lab.produce import ProduceError
    from stream.security import without_security

    settings = without_security(settings_from(assignments, config))  # the broker is one of our own
    terminal = sys.stdout.isatty()
    screen: Any = LiveScreen() if terminal else PlainScreen()
    try:
        demo = Demo(settings, scenario, seconds, stay=terminal and seconds is None, screen=screen)
    except InputError as error:
        raise BadInput(str(error)) from error
    try:
        with screen:
            found = asyncio.run(_until_stopped(demo))
    except (BrokerError, ProduceError, DemoError) as error:
        raise Unreachable(str(error)) from error
    _conclude(demo.story, found)
    sys.exit(0 if found else FOUND)


async def _until_stopped(demo: Any) -> bool:
    """Run the demo; what it had found when it was stopped is its result."""
    try:
        return bool(await until_stopped(demo.run()))
    except asyncio.CancelledError:
        return demo.story.found_after is not None or demo.story.attacked is None


def _conclude(story: Story, found: bool) -> None:
    if story.attacked is None:
        opened = sum(alert.status == "opened" for alert in story.alerts)
        click.echo(f"no attack was played; {opened} alerts" if story.live else "stopped before the live traffic began")
    elif story.found_after is not None:
        first = next(alert for alert in story.alerts if story.is_hit(alert))
        delay = (first.detected_at - story.attack_start) / 60
        alone = {a.entity.id for a in story.alerts if a.status == "opened" and a.entity.type == "key"} & story.members
        if first.members is not None:
            click.echo(f"{first.members.count} accounts are in the alert; {len(alone)} have one of their own")
        click.echo(
            f"found: {first.kind} on {printable(story.attacked)}, "
            f"{delay:.0f} min of event time after the attack began, {story.found_after:.0f} s after Kafka was ready"
        )
    elif not found:
        click.echo("the attack was not found before the demo ended", err=True)


def _line(alert: Alert) -> str:
    return f"{rfc3339(alert.updated_at // 1)}  {alert.status:<8}  {alert.severity:<8}  {alert.kind:<5}  {alert.summary}"


class PlainScreen:
    """Lines for a log or a pipe."""

    def __enter__(self) -> PlainScreen:
        self._told = 0.0
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def stage(self, story: Story) -> None:
        """One line a stage."""
        click.echo(f"… {story.stage}")

    def alert(self, story: Story, alert: Alert) -> None:
        """One line an alert."""
        click.echo(f"ALERT {_line(alert)}")

    def tick(self, story: Story) -> None:
        """One line every few seconds of live traffic."""
        if not story.live or time.monotonic() - self._told < PLAIN_SECONDS:
            return
        self._told = time.monotonic()
        clock = datetime.fromtimestamp(story.event_time, UTC).strftime("%H:%M")
        busiest = max(story.keys, key=lambda key: float(key["tokens_per_second"]), default=None)
        what = "" if busiest is None else f"; busiest {printable(busiest['key_id'])} at {_rate(busiest)} tokens/s"
        click.echo(f"  {clock} UTC, {story.sent:,} events{what}")


def _rate(key: dict[str, Any]) -> str:
    return f"{key['tokens_per_second']:,.0f} (expected {key['expected_tokens_per_second']:,.0f})"


class LiveScreen:
    """A live table on a terminal."""

    def __enter__(self) -> LiveScreen:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live = Live(console=self._console, refresh_per_second=4, transient=False)
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.__exit__(None, None, None)

    def stage(self, story: Story) -> None:
        """Show the new stage."""
        self.tick(story)

    def alert(self, story: Story, alert: Alert) -> None:
        """Ring, and show it."""
        if alert.status == "opened":
            self._console.bell()
        self.tick(story)

    def tick(self, story: Story) -> None:
        """Draw everything again."""
        self._live.update(_picture(story))


def _picture(story: Story) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    clock = datetime.fromtimestamp(story.event_time, UTC).strftime("%a %H:%M:%S") if story.event_time else "–"
    head = Text.assemble(
        ("Overdraw demo ", "bold"), f"· {story.summary}\n", ("› ", "cyan"), story.stage, "\n",
        (f"event time {clock} UTC   sent {story.sent:,}   learned {story.learned:,}   {story.web}", "dim"),
    )  # fmt: skip
    keys = Table(expand=False, pad_edge=False, box=None, header_style="bold")
    for name, justify in (("key", "left"), ("tokens/s", "right"), ("expected", "right"), ("alerts above", "right")):
        keys.add_column(name, justify=justify)  # type: ignore[arg-type]
    keys.add_column("")
    most = max((float(key["tokens_per_second"]) for key in story.keys), default=1.0) or 1.0
    for key in story.keys:
        upper = key["upper_tokens_per_second"]
        rate = float(key["tokens_per_second"])
        style = "bold red" if key["open_incidents"] else ""
        keys.add_row(
            Text(printable(key["key_id"]), style),
            Text(f"{rate:,.0f}", style),
            f"{key['expected_tokens_per_second']:,.0f}",
            "–" if upper is None else f"{upper:,.0f}",
            Text("█" * round(BAR * rate / most), style or "green"),
        )
    alerts = Text()
    for alert in story.alerts[-ALERTS_SHOWN:]:
        style = {"opened": "bold red", "updated": "red", "resolved": "green"}[alert.status]
        alerts.append(f"{_line(alert)}\n", style)
    if not story.alerts:
        alerts.append("no alert so far", "dim")
    return Group(head, Text(), keys, Text(), alerts)
