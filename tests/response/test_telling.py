"""What the responder blocks by itself is told once, and its end, whatever fails or is killed in between."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from proxy import T0, config_of, made_alert

from stream.control import Block, Unblock
from stream.response.board import Ban, Board
from stream.worker.responder.orders import take
from stream.worker.responder.telling import PAUSE_SECONDS, Telling

NOW = T0 + 100
HOUR = 3600.0


class Topic:
    """A control topic that is read back when it is told so, and a board whose responses are applied at once."""

    def __init__(self, **config: Any) -> None:
        self.board = Board(config_of(**{"approved": ["block"], **config}))
        self.said: list[Block | Unblock] = []
        self.told: dict[str, Block] = {}
        self.fails = False
        self.tell = Telling(self.write)

    async def write(self, message: Block | Unblock) -> None:
        if self.fails:
            raise KafkaConnectionError("away")
        self.said.append(message)

    def read(self) -> None:
        self.told = {}
        for message in self.said:
            take(message, {}, {}, self.told)

    def apply(self, now: float) -> None:
        for _ in range(2):
            for response in list(self.board.due(now)):
                self.board.keep(response)
        for response in self.board.ready(now):
            until = now + (response.for_seconds or 0.0) if response.alert_id is not None else response.until
            self.board.keep(response.after("apply", now, "overdraw", "at proxy", applied_at=now, until=until))

    def end(self, now: float) -> None:
        for response in self.board.ending():
            self.board.keep(response.after("end", now, "overdraw", "as it was before"))

    async def turn(self, now: float = NOW) -> list[str]:
        before = len(self.said)
        await self.tell(self.board.blocks(), self.told, now)
        return [f"{message.kind} {message.key_id}" for message in self.said[before:]]


async def test_a_block_is_told_once_and_so_is_its_end() -> None:
    topic = Topic()
    topic.board.take(made_alert(severity="critical"), T0)
    topic.apply(NOW)
    assert await topic.turn() == ["block key-17"]
    assert await topic.turn() == [], "it has not been read back yet"
    topic.read()
    assert await topic.turn() == []
    (block,) = topic.said
    (response,) = topic.board.responses.values()
    assert isinstance(block, Block)
    assert (block.response_id, block.until, block.by) == (response.response_id, NOW + 2 * HOUR, "overdraw")
    assert response.alert_id is not None
    assert response.alert_id in block.why
    topic.board.take(made_alert(severity="critical", status="resolved"), T0)
    topic.apply(NOW + 60)
    assert await topic.turn(NOW + 60) == ["unblock key-17"], "it is let go of at the gateways"
    topic.end(NOW + 61)
    assert await topic.turn(NOW + 61) == []
    topic.read()
    assert (topic.told, await topic.turn(NOW + 62)) == ({}, [])


async def test_what_ends_by_itself_needs_no_word() -> None:
    topic = Topic()
    topic.board.take(made_alert(severity="critical"), T0)
    topic.apply(NOW)
    await topic.turn()
    topic.read()
    topic.apply(NOW + 2 * HOUR)
    assert topic.board.blocks() == {}
    assert await topic.turn(NOW + 2 * HOUR) == []


@pytest.mark.parametrize("read", [False, True])
async def test_whoever_takes_over_goes_by_what_the_topic_says(read: bool) -> None:
    topic = Topic()
    topic.board.take(made_alert(severity="critical"), T0)
    topic.apply(NOW)
    await topic.turn()
    if read:
        topic.read()
    topic.tell = Telling(topic.write)
    assert await topic.turn() == ([] if read else ["block key-17"]), "twice does no harm"


async def test_while_kafka_is_away_nothing_is_lost_and_it_is_not_asked_all_the_time() -> None:
    topic = Topic()
    topic.board.take(made_alert(severity="critical"), T0)
    topic.apply(NOW)
    topic.fails = True
    assert await topic.turn() == []
    topic.fails = False
    assert await topic.turn(NOW + PAUSE_SECONDS - 1) == []
    assert await topic.turn(NOW + PAUSE_SECONDS) == ["block key-17"]


async def test_rehearsals_throttles_and_what_operators_have_blocked_are_not_told() -> None:
    rehearsed = Topic(mode="dry-run")
    rehearsed.board.take(made_alert(severity="critical"), T0)
    rehearsed.apply(NOW)
    assert [response.state for response in rehearsed.board.responses.values()] == ["active"]
    assert await rehearsed.turn() == []
    topic = Topic(approved=["throttle", "block"])
    topic.board.take(made_alert(severity="high"), T0)
    topic.board.ban(Ban("key-18", "w1", True, T0, "ada", "leaked"))
    topic.apply(NOW)
    assert sorted(response.action for response in topic.board.active()) == ["block", "throttle"]
    assert await topic.turn() == []


async def test_a_response_that_is_approved_again_is_told_again() -> None:
    topic = Topic()
    topic.board.take(made_alert(severity="critical"), T0)
    topic.apply(NOW)
    await topic.turn()
    (response,) = topic.board.responses.values()
    ended = response.after("undo", NOW + 60, "ada", "a new secret").after("end", NOW + 60, "overdraw", "as it was")
    topic.board.keep(ended)
    assert await topic.turn(NOW + 60) == ["unblock key-17"]
    again = ended.after("approve", NOW + 90, "ada", "it goes on", until=None)
    topic.board.keep(again.after("apply", NOW + 91, "overdraw", "at proxy", until=NOW + 3 * HOUR))
    assert await topic.turn(NOW + 91) == ["block key-17"]
    topic.read()
    assert await topic.turn(NOW + 92) == []
    assert len({message.id for message in topic.said}) == 3
