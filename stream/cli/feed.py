"""`overdraw feed`: a recorded file into the source topic."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from stream.alerts import rfc3339
from stream.cli.common import FOUND, BadInput, FiniteRange, Unreachable, settings_from, settings_options
from stream.cli.formats import Reading, format_options
from stream.cli.history import place_in

if TYPE_CHECKING:
    from stream.lab.feed import Tally

INTERRUPTED = 130
LINE_SECONDS = 10.0
"""Between two lines of progress where there is no terminal."""
SHOWN_LARGE = 20


@click.command("feed")
@click.argument("path", metavar="FILE")
@format_options
@click.option(
    "--speed",
    type=FiniteRange(0, 1e9),
    default=1.0,
    show_default=True,
    help="Times the file's own pace; 0: as fast as it goes.",
)
@click.option("--broker", metavar="HOST:PORT", help="Kafka; else the setting broker (OVERDRAW_BROKER).")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@settings_options
def command(
    path: str,
    reading: Reading,
    speed: float,
    broker: str | None,
    as_json: bool,
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Play recorded calls (a file, - for standard input, or kafka:TOPIC) into the source topic, keyed by key_id.

    Records go as they are, the elements of an array one by one, but without unknown fields, full addresses and user
    agents; those of another format as the calls that they tell of. What has no readable key goes too, without one: the
    worker makes it a dead letter. Ctrl-C stops, and waits until what was sent is confirmed.

    \b
    Example:
      overdraw feed calls.jsonl.gz --speed 0
      overdraw feed litellm.jsonl --format litellm --speed 0
      overdraw feed usage.csv --map key_id=account --map time=created --speed 60

    Exit: 0 all is in, 1 a record is too large for the topic, 2 an unreadable file, 3 no broker or topic, 130 stopped.
    """
    from stream.lab.feed import Feed
    from stream.lab.files import InputError
    from stream.lab.produce import ProduceError

    settings = settings_from(assignments, config, broker=broker)
    begin = time.monotonic()
    interrupted = False
    feed = Feed(settings, speed, too_large=_Large(path).tell)
    try:
        reading.check(settings)
        with feed, _interruptible(), _progress(path, feed.tally) as alive:
            try:
                for chunk in reading.chunks(path, settings, stored=True):
                    feed.play(chunk, alive)
            except KeyboardInterrupt:
                interrupted = True
                click.echo("stopping: waiting for the broker's confirmation", err=True)
    except InputError as error:
        _report(feed.tally, time.monotonic() - begin, as_json, interrupted)
        raise BadInput(str(error)) from error
    except ProduceError as error:
        if feed.tally.records:
            _report(feed.tally, time.monotonic() - begin, as_json, interrupted)
        raise Unreachable(str(error)) from error
    _report(feed.tally, time.monotonic() - begin, as_json, interrupted)
    if interrupted:
        raise click.exceptions.Exit(INTERRUPTED)
    if feed.tally.too_large:
        raise click.exceptions.Exit(FOUND)


class _Large:
    """Tells of the first records that the topic does not take."""

    def __init__(self, path: str) -> None:
        self._path, self._told = path, 0

    def tell(self, number: int, length: int) -> None:
        self._told += 1
        if self._told <= SHOWN_LARGE:
            place = place_in(self._path, number)
            text = f"{place}: {length:,} bytes are more than the topic takes: split it, or raise its max.message.bytes"
            click.echo(text, err=True)
        elif self._told == SHOWN_LARGE + 1:
            click.echo("further ones that are too large are only counted", err=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(path: str, tally: Tally) -> Iterator[Any]:
    """A counter on a terminal, a line now and then elsewhere; yields what is to be called often."""
    if not sys.stderr.isatty():
        last = time.monotonic()

        def line() -> None:
            nonlocal last
            if time.monotonic() - last >= LINE_SECONDS:
                last = time.monotonic()
                click.echo(f"{tally.events:,} events sent{_position(tally)}", err=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), TimeElapsedColumn(), TextColumn("{task.fields[state]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(path.rsplit("/", 1)[-1], total=None, state="")
        yield lambda: bar.update(task, state=f"{tally.events:,} events sent{_position(tally)}")


def _position(tally: Tally) -> str:
    return f", at {rfc3339(tally.reached)}" if tally.reached > 0 else ""


def _report(tally: Tally, seconds: float, as_json: bool, interrupted: bool) -> None:
    if as_json:
        facts = {
            "records": tally.records,
            "events": tally.sent,
            "without_key": tally.without_key,
            "too_large": tally.too_large,
            "reached": rfc3339(tally.reached) if tally.reached > 0 else None,
            "interrupted": interrupted,
            "seconds": round(seconds, 3),
        }
        click.echo(json.dumps(facts))
        return
    rate = f", {tally.sent / seconds:,.0f} a second" if seconds > 0 else ""
    click.echo(f"{tally.sent:,} events confirmed{_position(tally)} ({seconds:.1f} s{rate})")
    if tally.without_key:
        click.echo(f"  {tally.without_key:,} without a readable key: the worker makes them dead letters")
    if tally.too_large:
        click.echo(f"  {tally.too_large:,} too large for the topic: not sent")
