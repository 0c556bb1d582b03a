"""What the responder blocks by itself is told once, and its end, whatever fails or is killed in between."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from proxy import T0, config_of, made_alert

from stream.control import Block, Message, Unblock, read_message, write_message
from stream.response.board import Ban, Board
from stream.worker.responder.orders import take
from stream.worker.responder.telling import AGAIN_SECONDS, Telling

NOW = T0 + 100.1234567
HOUR = 3600.0


class Topic:
    """A control topic that is read back when it is told so, and a board whose responses are applied at once."""

    def __init__(self, **config: Any) -> None:
        self.board = Board(config_of(**{"approved": ["block"], **config}))
        self.said: list[Block | Unblock] = []
        self.told: dict[str, Block] | None = {}
        self.now = NOW
        self.fails = False
        self.start()

    def start(self) -> None:
        self.tell = Telling(self.board, lambda: self.told, self.write, lambda: self.now)

    async def write(self, message: Message) -> None:
        assert isinstance(message, Block | Unblock)
        if self.fails:
            raise KafkaConnectionError("away")
        self.said.append(message)

    def read(self) -> None:
        self.told = {}
        for message in self.said:
            take(read_message(write_message(message)), {}, {}, self.told)

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
        before, self.now = len(self.said), now
        await self.tell.tell()
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
    assert (block.response_id, block.by) == (response.response_id, "overdraw")
    assert block.until == pytest.approx(NOW + 2 * HOUR, abs=0.001)
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
    topic.start()
    assert await topic.turn() == ([] if read else ["block key-17"]), "twice does no harm"


async def test_what_could_not_be_told_comes_next_time() -> None:
    topic = Topic()
    topic.board.take(made_alert(severity="critical"), T0)
    topic.apply(NOW)
    topic.fails = True
    with pytest.raises(KafkaConnectionError):
        await topic.turn()
    topic.fails = False
    assert await topic.turn() == ["block key-17"]


async def test_nothing_is_told_before_it_is_known_what_was() -> None:
    topic = Topic()
    topic.board.take(made_alert(severity="critical"), T0)
    topic.apply(NOW)
    topic.told = None
    assert await topic.turn() == []


async def test_a_word_that_does_not_come_back_is_told_again_but_not_all_the_time() -> None:
    topic = Topic()
    topic.board.take(made_alert(severity="critical"), T0)
    topic.apply(NOW)
    told = [await topic.turn(NOW + second) for second in range(int(3 * AGAIN_SECONDS))]
    assert [second for second, words in enumerate(told) if words] == [0, AGAIN_SECONDS, 2 * AGAIN_SECONDS]
    topic.read()
    assert await topic.turn(NOW + 4 * AGAIN_SECONDS) == []


async def test_a_word_of_somebody_who_no_longer_knows_better_is_taken_back_again() -> None:
    """A responder that was stopped for a while and goes on tells of a block that has ended since."""
    topic = Topic()
    topic.board.take(made_alert(severity="critical"), T0)
    topic.apply(NOW)
    await topic.turn()
    topic.read()
    topic.board.take(made_alert(severity="critical", status="resolved"), T0)
    topic.apply(NOW + 60)
    assert await topic.turn(NOW + 60) == ["unblock key-17"]
    topic.said.append(topic.said[0])
    topic.read()
    assert await topic.turn(NOW + 61) == [], "this one may have come before that"
    assert await topic.turn(NOW + 60 + AGAIN_SECONDS) == ["unblock key-17"]
    topic.read()
    assert await topic.turn(NOW + 400) == []


async def test_what_another_responder_has_told_is_not_taken_back() -> None:
    topic = Topic(mode="dry-run")
    said = {"at": NOW, "by": "overdraw", "why": "so", "key_id": "key-17", "response_id": "f" * 16}
    topic.told = {"key-17": Block.model_validate({"id": "b", **said})}
    assert await topic.turn() == []


async def test_of_two_words_the_one_that_lasts_longer_stays_until_ours_is_over() -> None:
    topic = Topic()
    topic.board.take(made_alert(severity="critical"), T0)
    topic.apply(NOW)
    (response,) = topic.board.responses.values()
    longer = Block(
        id="b", at=NOW, by="overdraw", why="so", key_id="key-17", until=NOW + 9 * HOUR, response_id=response.response_id
    )
    topic.said.append(longer)
    topic.read()
    assert await topic.turn(NOW + 1) == []
    topic.board.take(made_alert(severity="critical", status="resolved"), T0)
    topic.apply(NOW + 60)
    assert await topic.turn(NOW + 60) == ["unblock key-17"]


async def test_an_alert_with_an_id_that_no_key_has_does_not_hold_up_the_others() -> None:
    topic = Topic()
    topic.board.take(made_alert(key="x" * 300, severity="critical"), T0)
    topic.board.take(made_alert(severity="critical"), T0)
    topic.apply(NOW)
    assert len(topic.board.blocks()) == 2
    assert await topic.turn() == ["block key-17"]


async def test_a_block_that_is_over_before_it_could_be_told_is_not_told() -> None:
    topic = Topic()
    topic.board.take(made_alert(severity="critical"), T0)
    topic.apply(NOW)
    assert await topic.turn(NOW + 2 * HOUR) == []


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
    topic.read()
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
