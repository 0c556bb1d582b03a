"""What the commands that talk to Kafka share: one line for a broker that is not there, and Faust's command line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import click

from stream.alerts import printable
from stream.cli.common import BadInput, Unreachable

if TYPE_CHECKING:
    from stream.settings import Settings
    from stream.worker.ending import Exit
    from stream.worker.topics import Problem


async def no_broker(settings: Settings) -> Unreachable:
    """The one line for a broker that does not answer, or does not take us."""
    from stream.worker.refusal import refusal

    return Unreachable(
        await refusal(settings)
        or f"no Kafka broker answers at {settings.broker}: start it (`overdraw broker`), or set broker "
        "(OVERDRAW_BROKER)"
    )


@asynccontextmanager
async def reachable(settings: Settings, right: str = "Read") -> AsyncIterator[None]:
    """Turn Kafka's failures within the block into one line and exit 3; raises Unreachable. `right`: what it takes."""
    from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAuthorizationFailedError

    from stream.worker.topics import grant

    try:
        with quiet():
            yield
    except KafkaConnectionError as error:
        raise await no_broker(settings) from error
    except TopicAuthorizationFailedError as error:
        topic = printable(error.args[0])
        raise Unreachable(
            f"{topic}: we lack the right {right}: {grant(settings, [right], f'--topic {topic}')}"
        ) from error
    except (KafkaError, TimeoutError) as error:
        text = printable(f"{type(error).__name__}: {error}", 200)
        raise Unreachable(f"the broker at {settings.broker} refused: {text}") from error


async def partitions_of(settings: Settings, topic: str) -> int:
    """How many partitions a topic has. Raises KafkaError, and BadInput if there is no such topic."""
    from aiokafka import AIOKafkaConsumer

    from stream.security import client_options

    consumer: Any = AIOKafkaConsumer(**client_options(settings))
    try:
        await consumer.start()
        known = await consumer._client.fetch_all_metadata()
        partitions = known.partitions_for_topic(topic)
    finally:
        await consumer.stop()
    if not partitions:
        raise BadInput(f"there is no topic {topic} at {settings.broker}: run `overdraw topics create`")
    return len(partitions)


def prepare(settings: Settings, *, create: bool, rebuild: bool = False) -> None:
    """See that a worker can start: its HTTP server may be open to others, its topics and rights are as they must be.

    So are the states that there are, unless a `rebuild` is to see to them. Raises SettingsError, Unreachable,
    or BadInput with every problem and its remedy.
    """
    from stream.worker.cluster import cluster
    from stream.worker.fitting import misfit
    from stream.worker.rights import app_problems
    from stream.worker.server import check_web
    from stream.worker.topics import BrokerUnreachable, TopicError, create_topics, topic_problems

    async def look() -> list[Problem]:
        made = await create_topics(settings) if create else []
        for name in made:
            click.echo(f"created topic {name}", err=True)
        async with cluster(settings) as kafka:
            problems = await topic_problems(kafka, settings, rebuild=rebuild) + await app_problems(kafka, settings)
        if not problems and not rebuild and (why := await misfit(settings)) is not None:
            raise BadInput(why)
        return problems

    check_web(settings)
    with quiet():
        try:
            problems = asyncio.run(look())
        except BrokerUnreachable as error:
            raise Unreachable(str(error)) from error
        except TopicError as error:
            raise BadInput(str(error)) from error
    if problems:
        missing = any(problem.code == "missing_topic" for problem in problems)
        hint = ", or start with `overdraw worker --create-topics`" if missing else ""
        raise BadInput("; ".join(map(str, problems)) + hint)


@contextmanager
def quiet() -> Iterator[None]:
    """Without aiokafka's own lines: its errors are ours to tell."""
    logger = logging.getLogger("aiokafka")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def run_faust(settings: Settings, ending: Exit, arguments: Sequence[str], *, rebuild: bool = False) -> None:
    """Run Faust's command line on our app, which ends by `ending`; ends the process. `rebuild`: see `build_app`."""
    from faust.cli.faust import cli

    from stream.worker.app import build_app

    cli.main(
        args=list(arguments),
        app=build_app(settings, ending=ending, rebuild=rebuild),
        prog_name="overdraw faust",
        standalone_mode=False,
    )
