"""What the commands share: settings from flags, and the documented exit codes."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

import click

from stream.settings import Settings, SettingsError, load_settings

FOUND = 1
BAD_INPUT = 2
UNREACHABLE = 3

Command = TypeVar("Command", bound=Callable[..., Any])
Result = TypeVar("Result")


class BadInput(click.ClickException):
    """Bad usage or input: exit 2; the message says what to do."""

    exit_code = BAD_INPUT


class Unreachable(click.ClickException):
    """A broker or another service cannot be reached, or lacks what we need: exit 3."""

    exit_code = UNREACHABLE


class FiniteRange(click.FloatRange):
    """A number within bounds: nan, which no comparison finds outside of them, and inf are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number that can be worked with: say a finite one.", param, ctx)
        return number


def settings_options(command: Command) -> Command:
    """Add `--set NAME=VALUE` and `--config FILE`."""
    command = click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="NAME=VALUE",
        help="A setting, such as bucket_seconds=60; see `overdraw schema settings`.",
    )(command)
    return click.option(
        "--config", type=click.Path(dir_okay=False), help="Configuration file instead of ./overdraw.toml."
    )(command)


def pairs(assignments: Iterable[str], option: str = "--set") -> dict[str, str]:
    """`NAME=VALUE` texts as a dict; raises BadInput on one that has no `=`.

    >>> pairs(["bucket_seconds=60"])
    {'bucket_seconds': '60'}
    """
    values = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise BadInput(f"{option} {text!r}: write it as NAME=VALUE")
        values[name.strip()] = value.strip()
    return values


def moment_of(text: str, option: str) -> float:
    """Epoch seconds of a time that an option was given; raises BadInput."""
    from pydantic_core import PydanticCustomError

    from stream.events import epoch_seconds

    try:
        return epoch_seconds(float(text) if text.replace(".", "", 1).isdigit() else text)
    except PydanticCustomError as error:
        raise BadInput(f"{option} {text}: {error.message()}") from error


def settings_from(assignments: Iterable[str], config: str | None = None, **flags: object) -> Settings:
    """Settings with `--set` and further flags (None: not given) on top of environment and file.

    Raises SettingsError, also on a priors file or a mapping file that cannot be used.
    """
    chosen: dict[str, object] = dict(pairs(assignments))
    chosen.update({name: value for name, value in flags.items() if value is not None})
    settings = load_settings(chosen, config=config)
    if settings.priors_text is not None:
        from stream.core.priors import priors_of

        priors_of(settings)
    if settings.mapping_text is not None or settings.intake_key_from or settings.intake_org_from:
        from stream.gateways import parser_of
        from stream.gateways.errors import InputError

        try:
            parser_of(settings)
        except InputError as error:
            raise SettingsError(f"intake_format={settings.intake_format}: {error}") from None
    return settings


async def until_stopped(work: Coroutine[Any, Any, Result]) -> Result:
    """Do some work that SIGINT and SIGTERM end in good order; raises asyncio.CancelledError when they did."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await task


def run_stoppable(work: Coroutine[Any, Any, Result]) -> Result:
    """Run some work to its end; SIGINT and SIGTERM end it in good order, and then click.Abort is raised."""
    try:
        return asyncio.run(until_stopped(work))
    except asyncio.CancelledError:
        raise click.Abort from None
