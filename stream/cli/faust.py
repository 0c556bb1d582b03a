"""`overdraw faust`: Faust's own command line on our app."""

from __future__ import annotations

import click

from stream.cli.common import settings_from, settings_options


@click.command(
    "faust",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    help="""Faust's own command line, on the detector's app.

\b
  overdraw faust agents
  overdraw faust worker --loglevel debug
  overdraw faust -- --help

Settings come from the environment, overdraw.toml, and from --set and --config before Faust's words.""",
)
@settings_options
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...], assignments: tuple[str, ...], config: str | None) -> None:
    """Pass everything on; a worker's topics are checked first."""
    settings = settings_from(assignments, config)
    from stream.cli.kafka import prepare, run_faust
    from stream.worker.ending import Exit

    ending = Exit()
    if "worker" in arguments:
        ending.hear()
        prepare(settings, create=False)
    run_faust(settings, ending, list(arguments))
