"""Where the intake stands in its topic: the group's offsets, which its transactions write, and what stands beside them.

An offset's metadata hold who wrote it, which topic it is about, and how far the partition is in event time.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from stream.security import client_options
from stream.settings import Settings

ANSWER_SECONDS = 10.0
PENDING_SECONDS = 10.0
"""A transaction that is over has its offsets applied within milliseconds; one that is open is aborted by the fence."""
POLL_SECONDS = 0.02
PASSING = frozenset({14, 15, 16, 88})
"""Kafka's error codes for a coordinator that is being made, loads or has moved, and for offsets of a transaction that
has not ended."""
IDENTITY_BYTES = 8


class PlaceError(RuntimeError):
    """The group's offsets cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Topic:
    """Which log it is: its name, Kafka's id of it (another one if it is made anew), and how often it was cut.

    Offsets of two different ones have nothing to do with each other.
    """

    name: str
    uuid: bytes
    cuts: int = 0

    @property
    def identity(self) -> bytes:
        """Eight bytes that tell it from others, for the origins of records."""
        text = self.name.encode() + b"\0" + self.uuid + self.cuts.to_bytes(4, "big")
        return blake2b(text, digest_size=IDENTITY_BYTES).digest()

    def cut(self) -> Topic:
        """The same topic after it lost its end: what comes now has the offsets of what is gone."""
        return replace(self, cuts=self.cuts + 1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a partition of the intake stands: everything below `offset` is in the source, or is a dead letter.

    front: event time that the partition has reached, -inf if it is not known
    """

    offset: int
    topic: Topic
    instance: str = ""
    started_ms: int = 0
    front: float = -math.inf

    @property
    def metadata(self) -> str:
        """What is committed beside the offset."""
        front = self.front if math.isfinite(self.front) else None
        return json.dumps(
            {
                "instance": self.instance,
                "started_ms": self.started_ms,
                "topic_id": self.topic.uuid.hex(),
                "cuts": self.topic.cuts,
                "front": front,
            }
        )

    @classmethod
    def of(cls, topic: str, offset: int, metadata: str | None) -> Place:
        """The inverse; what somebody else has committed tells nothing but the offset."""
        try:
            said = json.loads(metadata or "")
            front = said["front"]
            return cls(
                offset,
                Topic(topic, bytes.fromhex(said["topic_id"]), int(said["cuts"])),
                str(said["instance"]),
                int(said["started_ms"]),
                -math.inf if front is None else float(front),
            )
        except (ValueError, KeyError, TypeError):
            return cls(offset, Topic(topic, b""))


class Places:
    """Reads the places of the intake's partitions, over one connection that is made anew after a failure."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._admin: Any = None
        self._turn = asyncio.Lock()

    async def topic(self) -> Topic:
        """The topic as it is now."""
        from stream.worker.protocol import TopicIdsRequest

        try:
            answer = await self._ask(lambda admin: admin._send_request(TopicIdsRequest([self._topic])))
        except NotImplementedError:  # a Kafka before 2.8: a topic that is made anew cannot be told from the old one
            return Topic(self._topic, b"")
        (found,) = answer.to_object()["topics"]
        if found["error_code"]:
            raise PlaceError(f"{self._topic}: Kafka answers with error {found['error_code']}")
        return Topic(self._topic, found["topic_id"])

    async def read(self, partitions: Sequence[int]) -> dict[int, Place]:
        """The places of these partitions, without those of which nothing is committed.

        Waits for transactions that are about to end. Raises PlaceError or Kafka's errors.
        """
        deadline = time.monotonic() + PENDING_SECONDS
        while True:
            rows, errors = await self._ask(lambda admin: self._fetch(admin, list(partitions)))
            if not errors:
                return {
                    row["partition"]: Place.of(self._topic, row["offset"], row["metadata"])
                    for row in rows
                    if row["offset"] >= 0
                }
            if not errors <= PASSING or time.monotonic() > deadline:
                named = ", ".join(map(str, sorted(errors)))
                raise PlaceError(f"the offsets of {self._topic} cannot be read (Kafka error {named})")
            await asyncio.sleep(POLL_SECONDS)

    async def _fetch(self, admin: Any, partitions: list[int]) -> tuple[list[dict[str, Any]], set[int]]:
        """What is committed, and Kafka's error codes if there are any."""
        from aiokafka.errors import BrokerResponseError

        from stream.worker.protocol import OffsetsRequest

        group = self._settings.app_id
        try:
            coordinator = await admin.find_coordinator(group)
        except BrokerResponseError as error:
            return [], {error.errno}
        request = OffsetsRequest(group, self._topic, partitions)
        answer = (await admin._send_request(request, coordinator)).to_object()
        rows = [row for topic in answer["topics"] for row in topic["partitions"]]
        return rows, {answer["error_code"], *(row["error_code"] for row in rows)} - {0}

    async def _ask(self, question: Any) -> Any:
        """One question at a time; after a failure the next one makes a new connection."""
        async with self._turn:
            try:
                return await asyncio.wait_for(self._answer(question), ANSWER_SECONDS)
            except NotImplementedError:
                raise
            except BaseException:
                await self._drop()
                raise

    async def _answer(self, question: Any) -> Any:
        from aiokafka.admin import AIOKafkaAdminClient

        if self._admin is None:
            admin = AIOKafkaAdminClient(**client_options(self._settings), client_id=f"{self._settings.app_id}-places")
            try:
                await admin.start()
            except BaseException:
                await admin.close()
                raise
            self._admin = admin
        return await question(self._admin)

    async def _drop(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()

    async def close(self) -> None:
        """Disconnect."""
        async with self._turn:
            await self._drop()
