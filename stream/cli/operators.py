"""What the commands share by which operators speak: who, when and why; times; and the topic that they write to."""

from __future__ import annotations

import asyncio
import getpass
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic import ValidationError

from stream.alerts import Alert, printable, printable_json, rfc3339
from stream.cli.common import BadInput, settings_from, settings_options
from stream.control import (
    KINDS,
    MESSAGE,
    Allow,
    Block,
    Maintenance,
    Message,
    Mute,
    Scope,
    Unblock,
    Unmute,
    moment_of,
    write_message,
)
from stream.standing import Held, Standing

if TYPE_CHECKING:
    from stream.settings import Settings
    from stream.worker.control.topic import Said

Command = TypeVar("Command", bound=Callable[..., Any])
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
WITHDRAWN = "taken back"
ID_LENGTH = 12
SEEN_SECONDS = 3.0
"""For looking a key up on the state topic once all is said: some 100,000 records are read in a second."""


def speech_options(command: Command, *, why: str | None = None) -> Command:
    """Add `--why`, `--by`, `--json` and the settings' options; `why` is the reason where none is given."""
    command = settings_options(command)
    command = click.option("--json", "as_json", is_flag=True, help="Print the message as it was written, as JSON.")(
        command
    )
    command = click.option("--by", metavar="NAME", help="Who says it. Default: the name of the user.")(command)
    # a default of None would be one: click takes it for a reason that was given
    given: dict[str, Any] = {"required": True} if why is None else {"default": why}
    return click.option("--why", metavar="TEXT", help="The reason, for whoever looks later.", **given)(command)


def undo_options(command: Command) -> Command:
    """The same for what takes something back, which needs no reason."""
    return speech_options(command, why=WITHDRAWN)


def time_options(command: Command) -> Command:
    """Add `--for` and `--until`."""
    command = click.option("--until", metavar="TIME", help="Until then, such as 2026-03-01T12:00:00Z.")(command)
    return click.option("--for", "length", metavar="LENGTH", help="For so long, such as 90m, 4h or 2d.")(command)


def seconds_of(length: str) -> float:
    """A length of time such as 90m, in seconds; raises BadInput.

    >>> seconds_of("90m"), seconds_of("1.5h")
    (5400.0, 5400.0)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", length.strip())
    if found is None or float(found[1]) <= 0:
        raise BadInput(f"{printable(length)!r} is no length of time: write one such as 90m, 4h or 2d")
    return float(found[1]) * UNITS[found[2]]


def time_of(text: str) -> float:
    """Epoch seconds of a time with a zone; raises BadInput."""
    try:
        moment = moment_of(text)
    except ValueError as error:
        raise BadInput(
            f"{printable(text)!r}: {printable(str(error))}: write a time such as 2026-03-01T12:00Z"
        ) from None
    assert isinstance(moment, float)
    return moment


def end_of(length: str | None, until: str | None, now: float) -> float | None:
    """When something ends: `--for` or `--until`, None without either. Raises BadInput on both, or on a wrong one."""
    if length is not None and until is not None:
        raise BadInput("--for and --until both say when it ends: leave one out")
    if length is not None:
        return now + seconds_of(length)
    return None if until is None else time_of(until)


def scope_of(key: str | None, org: str | None, pattern: str | None, everything: bool = False) -> Scope:
    """The one scope that was given; raises BadInput unless it is exactly one."""
    given = [(kind, value) for kind, value in (("key", key), ("org", org), ("pattern", pattern)) if value is not None]
    if len(given) + everything != 1:
        raise BadInput(
            "say whom it is about, once: with --key, --org, --pattern, or --all where there is such an option"
        )
    if everything:
        return Scope(type="all")
    (kind, value), *_ = given
    if kind != "pattern" and any(sign in value for sign in "*?["):
        click.echo(f"note: this is the one {kind} {printable(value)}; --pattern means each key that fits", err=True)
    return _valid(lambda: Scope.model_validate({"type": kind, "id": value}))


Made = TypeVar("Made")


def _valid(make: Callable[[], Made]) -> Made:
    try:
        return make()
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in problem["loc"] if part not in KINDS)
        text = problem["msg"].removeprefix("Value error, ")
        raise BadInput(printable(f"{place}: {text}" if place else text, 300)) from None


def message_of(kind: str, by: str | None, why: str, now: float, **content: Any) -> Message:
    """A message of ours, with a new id; raises BadInput on what the schema does not allow."""
    said = {"kind": kind, "id": uuid.uuid4().hex[:ID_LENGTH], "at": now, "by": by or _user(), "why": why, **content}
    return _valid(lambda: MESSAGE.validate_python(said))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        raise BadInput("the user has no name here: say who you are, with --by") from None


def say(settings: Settings, message: Message, as_json: bool, words: str) -> None:
    """Write a message and say so: `words`, or the message itself; then note if nothing was ever seen of its key.

    Raises Unreachable, BadInput without a topic.
    """

    async def speak() -> None:
        from stream.cli.kafka import partitions_of, reachable
        from stream.worker.control.topic import write

        async with reachable(settings, right="Write"):
            await partitions_of(settings, settings.control_topic)
            await write(settings, message, write_message(message))

    asyncio.run(speak())
    if as_json:
        click.echo(printable_json(write_message(message).decode()))
    else:
        click.echo(f"{words} (said by {printable(message.by)}, id {message.id})")
    _note_unseen(settings, message)


def _note_unseen(settings: Settings, message: Message) -> None:
    """Note on standard error if nothing was seen of the key that a message names: it may be a slip of the hand.

    No more than a note, and after the message: a key may be blocked before its first call, and at once.
    """
    key_id = _key_named_by(message)
    if key_id is None or (seen := asyncio.run(_seen(settings, key_id))):
        return
    topic, shown = settings.state_topic, f"key {printable(key_id)}"
    if seen is None:
        text = (
            f"{shown} was not looked up, for {topic} cannot be read here (which takes the right Read), or not within "
            f"{SEEN_SECONDS:.0f} s: see that the id is right"
        )
    else:
        slip = "shows what is blocked" if isinstance(message, Unblock) else "shows what holds, to take this back"
        text = f"nothing was seen of {shown} so far, by {topic}: if the id is a slip, `overdraw control list` {slip}"
    click.echo(f"note: {text}", err=True)


def _key_named_by(message: Message) -> str | None:
    """The one key that somebody has typed the id of; feedback takes it from an alert that there was."""
    if isinstance(message, Block | Unblock):
        return message.key_id
    if isinstance(message, Mute) and message.entity.type == "key":
        return message.entity.id
    if isinstance(message, Maintenance | Allow) and message.scope.type == "key":
        return message.scope.id
    return None


async def _seen(settings: Settings, key_id: str) -> bool | None:
    """Whether the state topic holds anything of a key; None if it does not tell in time."""
    from aiokafka.errors import KafkaError

    from stream.cli.kafka import partitions_of, quiet
    from stream.worker.lookup import was_seen

    with quiet():
        try:
            async with asyncio.timeout(SEEN_SECONDS):
                return await was_seen(settings, key_id, await partitions_of(settings, settings.state_topic))
        except (KafkaError, OSError, BadInput):
            return None


def hear(settings: Settings) -> list[Said]:
    """All that the control topic holds. Raises Unreachable, BadInput without a topic."""

    async def listen() -> list[Said]:
        from stream.cli.kafka import partitions_of, reachable
        from stream.worker.control.topic import read_all

        async with reachable(settings):
            await partitions_of(settings, settings.control_topic)
            return await read_all(settings)

    return asyncio.run(listen())


def standing(settings: Settings) -> Standing:
    """What was said and not taken back."""
    return Standing(said.message for said in hear(settings) if said.message is not None)


def alert_id_of_text(text: str) -> str:
    """An alert id as somebody gave it; raises BadInput on what is none."""
    wanted = text.strip().lower()
    if re.fullmatch(r"[0-9a-f]{32}", wanted) is None:
        raise BadInput(f"{printable(text)!r} is no alert_id: it has 32 hexadecimal digits, see `overdraw alerts list`")
    return wanted


def alert_of(settings: Settings, alert_id: str) -> Alert:
    """The last alert of an incident; raises BadInput if there is none, Unreachable."""
    return steps_of(settings, alert_id)[-1]


def steps_of(settings: Settings, alert_id: str) -> list[Alert]:
    """All alerts of an incident, in their order; raises BadInput if there is none, Unreachable."""
    wanted = alert_id_of_text(alert_id)

    async def look() -> list[Alert]:
        from stream.cli.kafka import partitions_of, reachable
        from stream.worker.lookup import alerts_about

        async with reachable(settings):
            partitions = await partitions_of(settings, settings.alert_topic)
            return await alerts_about(settings, wanted, partitions)

    found = [alert for alert in asyncio.run(look()) if alert.alert_id == wanted]
    if not found:
        raise BadInput(f"{settings.alert_topic} holds no alert {wanted}: see `overdraw alerts list --all`")
    return sorted(found, key=lambda alert: alert.sequence)


def require_held(settings: Settings, message: Unmute, words: str) -> None:
    """Raise BadInput unless there is something to take back: who mistypes an id would else take it for done."""
    if all(held.subject != message.subject for held in standing(settings).at(message.at)):
        raise BadInput(f"{words}: `overdraw control list` shows what holds")


def until_words(until: float | None) -> str:
    """When something ends, for people."""
    return "until it is taken back" if until is None else f"until {rfc3339(until)}"


def show_held(held: Iterable[Held], as_json: bool, nothing: str) -> None:
    """Print what holds, one line each."""
    from stream.worker.control.topic import line_of_message

    some = False
    for message in held:
        some = True
        if as_json:
            click.echo(printable_json(write_message(message).decode()))
        else:
            click.echo(
                f"{message.id:<{ID_LENGTH}} {message.kind:<11} {line_of_message(message)}  "
                f"by {printable(message.by)} at {rfc3339(message.at)}: {printable(message.why, 500)}"
            )
    if not some and not as_json:
        click.echo(nothing)


def remove_rule(kind: type[Maintenance | Allow], rule_id: str, noun: str, options: dict[str, Any]) -> None:
    """Take a rule back; raises BadInput if there is none of this kind and id."""
    settings = settings_from(options["assignments"], options["config"])
    now = time.time()
    rule = standing(settings).rule(rule_id, now)
    if not isinstance(rule, kind):
        raise BadInput(
            f"there is no {noun} {printable(rule_id)!r} in force: `overdraw control list` shows what holds, with its id"
        )
    message = message_of("remove", options["by"], options["why"], now, rule=rule_id)
    say(settings, message, options["as_json"], f"{noun} {rule_id} about {rule.scope} is taken back")


def shown(said: Said) -> str:
    """One line of the trail: when, who, what, why; or why it is no message."""
    from stream.worker.control.topic import line_of_message

    message = said.message
    if message is None:
        return f"{rfc3339(said.at)} offset {said.offset}: not followed: {printable(str(said.what), 300)}"
    return (
        f"{rfc3339(message.at)} {printable(message.by)}: {message.kind} {line_of_message(message)} "
        f"[{message.id}]: {printable(message.why, 500)}"
    )


def shown_json(said: Said) -> str:
    """The same for programs."""
    content: dict[str, Any] = {"offset": said.offset, "written_at": rfc3339(said.at)}
    if said.message is not None:
        content["message"] = json.loads(write_message(said.message))
    else:
        content |= {"message": None, "reason": getattr(said.what, "reason", None), "error": str(said.what)}
    return json.dumps(content)
