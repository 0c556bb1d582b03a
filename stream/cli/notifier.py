"""`overdraw notifier`: tell people and other systems of alerts."""

from __future__ import annotations

import asyncio

import click

from stream.cli.common import settings_from, settings_options


@click.command(
    "notifier",
    help="""Send alerts to Alertmanager, PagerDuty, Slack and webhooks until SIGTERM or Ctrl-C.

\b
  overdraw notifier --set notify_file=notify.toml
  overdraw notify test NAME            # before that: does the service take a message?

Each notifier of the file reads the alert topic by itself, in the consumer group APP_ID-notifier-NAME, and commits what
was delivered: one that is down goes on where it was once it is back, and holds up nobody else. A second process shares
the partitions with the first. Its first start tells what was written within the last backlog_seconds.

Exit: 0 stopped, 1 the stop hung, 2 wrong settings, notify file or topics, 3 no broker, 75 stuck (start it again).""",
)
@settings_options
def command(assignments: tuple[str, ...], config: str | None) -> None:
    """Check, then run."""
    from stream.worker.ending import Exit

    ending = Exit()
    ending.hear()
    settings = settings_from(assignments, config)
    from stream.cli.kafka import partitions_of, reachable
    from stream.cli.notify import notify_config, secrets_by_name
    from stream.worker.logs import set_up
    from stream.worker.notifier.service import serve
    from stream.worker.server import check_web

    chosen = notify_config(settings)
    secrets = secrets_by_name(chosen, chosen.notifiers)
    check_web(settings)

    async def look() -> None:
        async with reachable(settings):
            await partitions_of(settings, settings.alert_topic)

    asyncio.run(look())
    set_up(settings)
    asyncio.run(serve(settings, chosen, secrets, ending))
    ending.at_once(ending.code)
