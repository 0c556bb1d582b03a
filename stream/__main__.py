"""`overdraw`: the command line's front door."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from contextlib import suppress

import click

from stream import __version__, native
from stream.settings import SettingsError

COMMANDS = {
    "demo": "stream.cli.demo",
    "worker": "stream.cli.worker",
    "faust": "stream.cli.faust",
    "replay": "stream.cli.replay",
    "score": "stream.cli.score",
    "simulate": "stream.cli.simulate",
    "evaluate": "stream.cli.evaluate",
    "calibrate": "stream.cli.calibrate",
    "bench": "stream.cli.bench",
    "chaos": "stream.cli.chaos",
    "alerts": "stream.cli.alerts",
    "ledger": "stream.cli.ledger",
    "maintenance": "stream.cli.maintenance",
    "allow": "stream.cli.allow",
    "block": "stream.cli.block:block",
    "unblock": "stream.cli.block:unblock",
    "control": "stream.cli.control",
    "notifier": "stream.cli.notifier",
    "notify": "stream.cli.notify",
    "responder": "stream.cli.responder",
    "response": "stream.cli.response",
    "explain": "stream.cli.explain",
    "evidence": "stream.cli.evidence",
    "broker": "stream.cli.broker",
    "feed": "stream.cli.feed",
    "state": "stream.cli.state",
    "topics": "stream.cli.topics",
    "check": "stream.cli.check",
    "pseudonym": "stream.cli.pseudonym",
    "schema": "stream.cli.schema",
}
"""Command to the module that holds it, as `command` or under the name behind the colon; loaded only when it is called,
for a quick start."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a write fails by if there is no room, or no disk any more."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute or "command")
        return command


def _tell_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"overdraw, version {__version__}, core: {native.core()}")
        ctx.exit()


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Find the keys that drain an LLM API: online baselines over a Kafka stream of API calls."""


def main() -> None:
    """Run the command line; exit 0 done, 1 found what it was asked to fail on, 2 bad usage or input, 3 no service."""
    # numpy's linear algebra, of which nothing here is large, starts a thread for each core, which spin at first
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.stdout is None:  # it was closed: what is written goes nowhere, and no file gets its number
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone: nobody is left to tell
        code = 0
        _drop_output()
    except OSError as error:
        if error.errno not in FULL:
            raise
        click.echo(f"Error: cannot write the output: {error.strerror}", err=True)
        code = 2
        _drop_output()
    sys.exit(code)


def _run() -> str | int | None:
    """Do what the arguments say; returns the exit code."""
    try:
        # without its standalone mode click hands an Exit's code back instead of ending
        code: str | int | None = cli.main(standalone_mode=False)
    except click.Abort:
        click.echo("stopped", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SettingsError as error:
        click.echo(f"Error: {error}", err=True)
        return 2
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # click makes an exit of it, with the code for a finding
            raise stop.__context__ from None
        return stop.code
    return code


def _drop_output() -> None:
    """Let what could not be written go, or Python tries it again at its end, and complains."""
    with suppress(OSError, ValueError):  # there may be no file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
