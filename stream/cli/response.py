"""`overdraw response`: what the responder recommends and does, and the word of an operator about it."""

from __future__ import annotations

import asyncio
import getpass
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import click

from stream.alerts import printable, printable_json, rfc3339
from stream.cli.common import BadInput, settings_from, settings_options

if TYPE_CHECKING:
    from stream.response.record import Response
    from stream.settings import Settings

POLL_MS = 500
MAX_WHY = 300
Verb = Literal["approve", "decline", "undo"]


@click.group(
    "response",
    help="""Read and steer what `overdraw responder` does.

\b
  overdraw response list
  overdraw response approve 3f1c0a9b5d7e2f46 --why 'the owner does not answer'""",
)
def command() -> None:
    """Hold the subcommands."""


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Also what is over.")
@click.option("--json", "as_json", is_flag=True, help="One response a line, as JSON.")
@settings_options
def list_responses(everything: bool, as_json: bool, assignments: tuple[str, ...], config: str | None) -> None:
    """List responses, newest last: what is proposed, approved, active or ending.

    \b
      overdraw response list
      overdraw response list --all --json
    """
    responses = asyncio.run(_read(settings_from(assignments, config)))
    shown = [one for one in sorted(responses.values(), key=lambda one: one.created_at) if everything or one.open]
    for response in shown:
        click.echo(printable_json(response.model_dump_json()) if as_json else line_of(response))
    if not shown and not as_json:
        click.echo("nothing is recommended or active" + ("" if everything else ": --all shows what is over"), err=True)


@command.command("show")
@click.argument("response_id")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@settings_options
def show(response_id: str, as_json: bool, assignments: tuple[str, ...], config: str | None) -> None:
    """Show one response with every step: when, by whom, and why.

    \b
      overdraw response show 3f1c0a9b5d7e2f46
    """
    response = _find(asyncio.run(_read(settings_from(assignments, config))), response_id)
    if as_json:
        click.echo(printable_json(response.model_dump_json()))
        return
    click.echo(line_of(response))
    if response.alert_id is not None:
        click.echo(f"  alert: overdraw explain {printable(response.alert_id)}")
    for step in response.steps:
        click.echo(f"  {rfc3339(step.at)} {step.state:<9} by {printable(step.by)}: {printable(step.why, MAX_WHY)}")
    if response.trouble:
        click.echo(f"  not yet: {printable(response.trouble, 400)}")


def _verb(verb: Verb, summary: str) -> None:
    def run(response_id: str, why: str, by: str | None, assignments: tuple[str, ...], config: str | None) -> None:
        asyncio.run(_say(settings_from(assignments, config), verb, response_id, why, by or _whoami()))

    run.__doc__ = f"""{summary}

    \b
      overdraw response {verb} 3f1c0a9b5d7e2f46 --why 'ticket 4711'
    """
    options: list[Callable[[Any], Any]] = [
        click.argument("response_id"),
        click.option("--why", required=True, help="The reason, for the audit."),
        click.option("--by", help="Who says so. Default: the user of this machine."),
        settings_options,
    ]
    made: Any = run
    for option in reversed(options):
        made = option(made)
    command.command(verb)(made)


_verb("approve", "Let the responder do it; what is over or was declined begins again.")
_verb("decline", "Do not do it: for what is proposed or approved.")
_verb("undo", "Take it back now, before its time is over.")


def line_of(response: Response) -> str:
    """One line: its id, its state, what it is, until when, and the incident."""
    until = f" until {rfc3339(response.until)}" if response.until is not None and response.open else ""
    rehearsal = " (rehearsal)" if response.dry_run else ""
    cause = f"{response.kind} {response.severity}" if response.kind is not None else "an operator's block"
    return f"{response.response_id} {response.state:<9} {response.what}{until}{rehearsal}: {cause}"


def _whoami() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # a container's user has no name
        raise BadInput("this machine does not know your name: say --by") from error


def _find(responses: dict[str, Response], response_id: str) -> Response:
    if response_id not in responses:
        raise BadInput(f"there is no response {printable(response_id)}: `overdraw response list --all` lists them")
    return responses[response_id]


async def _read(settings: Settings) -> dict[str, Response]:
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from pydantic import ValidationError

    from stream.cli.kafka import partitions_of, reachable
    from stream.response.board import Board
    from stream.response.config import ResponseConfig
    from stream.security import client_options
    from stream.worker.responder.log import take_record

    board = Board(ResponseConfig())
    async with reachable(settings):
        await partitions_of(settings, settings.response_topic)
        consumer: Any = AIOKafkaConsumer(
            **client_options(settings), isolation_level="read_committed", enable_auto_commit=False,
            auto_offset_reset="earliest",
        )  # fmt: skip
        try:
            await consumer.start()
            place = TopicPartition(settings.response_topic, 0)
            consumer.assign([place])
            end = (await consumer.end_offsets([place]))[place]
            await consumer.seek_to_beginning(place)
            while await consumer.position(place) < end:
                for batch in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                    for record in batch:
                        try:
                            take_record(board, record.key or b"", record.value)
                        except ValidationError:
                            click.echo(f"offset {record.offset} is no record of this version: passed over", err=True)
        finally:
            await consumer.stop()
    return board.responses


async def _say(settings: Settings, verb: Verb, response_id: str, why: str, by: str) -> None:
    from aiokafka import AIOKafkaProducer
    from pydantic import ValidationError

    from stream.cli.kafka import reachable
    from stream.response.record import TRANSITIONS, Word
    from stream.security import client_options
    from stream.worker.responder.log import word_key

    response = _find(await _read(settings), response_id)
    if (response.state, verb) not in TRANSITIONS or (verb == "approve" and response.action == "review"):
        hint = "a review is for people" if response.action == "review" else f"it is {response.state}"
        raise BadInput(f"there is nothing to {verb}: {hint}; `overdraw response show {response_id}` has its steps")
    try:
        word = Word(word=verb, word_id=uuid.uuid4().hex, response_id=response_id, at=time.time(), by=by, why=why)
    except ValidationError as error:
        name = error.errors()[0]["loc"][0]
        raise BadInput(f"--{name}: {error.errors()[0]['msg']}") from None
    async with reachable(settings):
        producer: Any = AIOKafkaProducer(**client_options(settings), acks="all", enable_idempotence=True)
        await producer.start()
        try:
            await producer.send_and_wait(
                settings.response_topic, word.model_dump_json().encode(), key=word_key(response_id), partition=0
            )
        finally:
            await producer.stop()
    rehearsal = ": a rehearsal, which tells no gateway anything" if response.dry_run and verb == "approve" else ""
    click.echo(f"said: {verb} {response.what}{rehearsal}; `overdraw response show {response_id}` tells what came of it")
