"""The control topic's words on their way to shards: what machines say does not push out what people have said."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from stream.control import MESSAGE, Message
from stream.settings import Settings
from stream.worker.control import word
from stream.worker.control.topic import Said
from stream.worker.control.word import Word

AT = 1_772_323_200.0


def said(offset: int, kind: str, key_id: str, **content: object) -> Said:
    about = {"kind": kind, "id": f"r{offset}", "at": AT, "by": "ann", "why": "so", "key_id": key_id, **content}
    return Said(offset, AT, MESSAGE.validate_python(about), None)


async def told_to_a_new_shard(*batch: Said) -> list[Message | None]:
    heard: list[Said] = []
    shard: Any = SimpleNamespace(
        rebuild=None, heard=None, live=True, turn=asyncio.Lock(), instruct=lambda new, _: heard.extend(new)
    )
    shards: Any = SimpleNamespace(live={0: shard})
    listener = Word(Settings(), shards)
    listener._begin("t")
    listener._hear(batch, True)
    await listener.hand_on()
    return [one.message for one in heard]


async def test_what_machines_say_does_not_push_out_what_people_have_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word, "MAX_SUBJECTS", 2)
    monkeypatch.setattr(word, "MAX_RESPONDED", 3)
    people = [said(0, "block", "a"), said(1, "block", "b")]
    machines = [said(2 + n, "unblock", f"key-{n}", response_id="0" * 16) for n in range(5)]
    assert await told_to_a_new_shard(*people, *machines) == [one.message for one in (*people, *machines[2:])]


async def test_words_of_both_come_in_their_order() -> None:
    machine = {"response_id": "0" * 16}
    batch = [said(0, "block", "a", **machine), said(1, "block", "a"), said(2, "unblock", "a", **machine)]
    assert await told_to_a_new_shard(*batch) == [batch[1].message, batch[2].message]
