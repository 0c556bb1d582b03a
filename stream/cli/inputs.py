"""What the commands that read recorded calls share: their options, progress, and what is said of refused records."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stream import collector
from stream.cli.common import BadInput
from stream.cli.formats import Reading, format_options
from stream.cli.history import place_in

if TYPE_CHECKING:
    from stream.events import Reject
    from stream.lab.inject import Mixer, Survey
    from stream.lab.replay import Replay, Summary
    from stream.settings import Settings

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files and topics that a command was given, and how to read them."""

    paths: tuple[str, ...]
    reading: Reading

    def survey(self, settings: Settings, now: float) -> Survey:
        """What they hold, by a pass of its own; raises BadInput on what cannot be read, and on standard input."""
        from stream.lab.files import InputError
        from stream.lab.inject import Survey

        if "-" in self.paths:
            raise BadInput("--inject reads the records twice, and standard input can be read once: name files")
        survey = Survey(now)
        try:
            for path in self.paths:
                with _Progress(path) as advance:
                    for chunk in self.reading.chunks(path, settings, row_prefix="row"):
                        survey.take([value for _, value in chunk])
                        advance(len(chunk))
        except InputError as error:
            raise BadInput(str(error)) from error
        return survey

    def feed(self, replay: Replay, mixer: Mixer | None = None) -> Refusals:
        """Put all of them through the detector, to the end, and what is to be mixed in; raises BadInput on what cannot
        be read.
        """  # noqa: D205
        from stream.lab.files import InputError

        refusals = Refusals(replay.summary)
        with collector.calmed():
            try:
                for number, path in enumerate(self.paths):
                    self._feed_one(number, path, replay, mixer, refusals)
            except InputError as error:
                raise BadInput(str(error)) from error
            replay.finish()
        return refusals

    def _feed_one(self, number: int, path: str, replay: Replay, mixer: Mixer | None, refusals: Refusals) -> None:
        prefix = "row" if len(self.paths) == 1 else f"file-{number}-row"
        chunks = self.reading.chunks(path, replay.settings, row_prefix=prefix)
        before = replay.summary.read - (mixer.placed if mixer is not None else 0)
        with _Progress(path) as advance:
            for read in chunks:
                chunk = read if mixer is None else mixer.mix(read)
                replay.feed([value for _, value in chunk])
                refusals.locate(path, [line for line, _ in chunk])
                advance(len(read))
        after = replay.summary.read - (mixer.placed if mixer is not None else 0)
        refusals.files.append((_name_of(path), after - before))


def input_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Add INPUT... and how it is read (`format_options`); the command gets both as one argument, `inputs`."""

    @functools.wraps(command)
    def gathered(paths: tuple[str, ...], reading: Reading, **others: Any) -> Result:
        return command(inputs=Inputs(paths, reading), **others)

    argument = click.argument("paths", nargs=-1, required=True, metavar="INPUT...")
    return argument(format_options(gathered))


def _name_of(path: str) -> str:
    return "stdin" if path == "-" else path.rsplit("/", 1)[-1]


class Refusals:
    """Where the refused records that are shown stand: file and line, as an editor counts them."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self.files: list[tuple[str, int]] = []
        """Name and records of each file that was read to its end."""
        self._first = 0
        self._lines: list[str] = []

    def locate(self, path: str, numbers: Sequence[int]) -> None:
        """Take the refusals since the last call, which are of the chunk whose records stand on these lines."""
        for reject in self._summary.rejects[len(self._lines) :]:
            index = reject.position - self._first
            name = _name_of(path)
            # a record held back until a later one confirms its time may be of an earlier chunk
            place = f"record {reject.position + 1}"
            if 0 <= index < len(numbers):
                place = f"{name}, {place_in(path, numbers[index])}"
            self._lines.append(self._line(place, reject))
        self._first += len(numbers)

    def tell(self, events: dict[str, Any]) -> None:
        """Print them, and say so if nothing was there or could be taken at all."""
        self._lines += [self._line(f"record {r.position + 1}", r) for r in self._summary.rejects[len(self._lines) :]]
        for line in self._lines:
            click.echo(line, err=True)
        if not events["read"]:
            click.echo("nothing was read: there is no record in it", err=True)
        elif not events["accepted"]:
            hint = (
                "nothing could be taken: is it one JSON object a line (`overdraw schema event`), or a gateway's log "
                "(--format auto), or --format csv?"
            )
            click.echo(hint, err=True)

    @staticmethod
    def _line(place: str, reject: Reject) -> str:
        element = "" if reject.element is None else f", element {reject.element}"
        return f"{place}{element}: {reject.reason}: {reject.message}"


class _Progress:
    """A counter on a terminal; nothing elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Any = None

    def __enter__(self) -> Any:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress, TextColumn

            columns = (TextColumn("{task.description}"), TextColumn("{task.completed:,.0f} records"))
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            task = self._bar.add_task(self._name.rsplit("/", 1)[-1])
            return lambda count: self._bar.advance(task, count)
        return lambda count: None

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()
