"""`overdraw responder`: do about incidents what the response file lets it do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from stream.cli.common import BadInput, settings_from, settings_options

if TYPE_CHECKING:
    from stream.response.config import ResponseConfig
    from stream.settings import Settings


def response_config(settings: Settings) -> ResponseConfig:
    """The response file of these settings; raises BadInput."""
    from stream.response.config import ResponseFileError, read_response_file

    if settings.response_file is None:
        raise BadInput("there is no response file: name it with response_file (OVERDRAW_RESPONSE_FILE); see the README")
    try:
        return read_response_file(settings.response_file)
    except ResponseFileError as error:
        raise BadInput(str(error)) from None


@click.command(
    "responder",
    help="""Recommend actions, and take those that are approved of, until SIGTERM or Ctrl-C.

\b
  overdraw responder --set response_file=response.toml
  overdraw response list              # what it recommends, and what came of it

Without `mode = "apply"` in the file it only rehearses: everything is written to response_topic, and no gateway is told
anything. Several processes may run: one is at work, the others stand by.

Exit: 0 stopped, 1 the stop hung, 2 wrong settings, response file or topics, 3 no broker, 75 stuck (start it again).""",
)
@settings_options
def command(assignments: tuple[str, ...], config: str | None) -> None:
    """Check, then run."""
    from stream.worker.ending import Exit

    ending = Exit()
    ending.hear()
    settings = settings_from(assignments, config)
    from stream.cli.kafka import partitions_of, reachable
    from stream.response.config import ResponseFileError, keys_of
    from stream.worker.cluster import cluster
    from stream.worker.logs import set_up
    from stream.worker.responder.service import serve
    from stream.worker.server import check_web
    from stream.worker.topics import BrokerUnreachable, responder_needs, topic_problems

    chosen = response_config(settings)
    try:
        keys = keys_of(chosen)
    except ResponseFileError as error:
        raise BadInput(str(error)) from None
    check_web(settings)

    async def look() -> int:
        async with reachable(settings):
            count = await partitions_of(settings, settings.alert_topic)
            try:
                async with cluster(settings) as kafka:
                    needed = responder_needs(settings, applies=chosen.mode == "apply")
                    problems = await topic_problems(kafka, settings, wanted=needed)
            except BrokerUnreachable as error:
                raise BadInput(str(error)) from error
        if problems:
            raise BadInput("; ".join(map(str, problems)))
        return count

    count = asyncio.run(look())
    set_up(settings)
    asyncio.run(serve(settings, chosen, keys, count, ending))
    ending.at_once(ending.code)
