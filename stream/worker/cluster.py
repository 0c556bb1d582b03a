"""A Kafka cluster as `topics` and `check` see it: one connection, plain values, one error when it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.transaction import AddOffsetsToTxnRequest

from stream.alerts import printable
from stream.security import client_options
from stream.settings import Settings
from stream.worker.protocol import FeaturesRequest, TopicsRequest, release_of, rights_of
from stream.worker.refusal import refusal

ANSWER_SECONDS = 15.0
COORDINATOR_SECONDS = 15.0
"""A fresh cluster makes its internal topics when the first coordinator is asked for."""
POLL_SECONDS = 0.1
GROUP, TRANSACTION = 0, 1
NO_PRODUCER = -1
NO_GROUP_RIGHT, NO_TRANSACTION_RIGHT = 30, 53
NO_RIGHT = (29, NO_GROUP_RIGHT, 31, NO_TRANSACTION_RIGHT)
"""Kafka's error codes for a topic, a group, the cluster and a transactional id that we may not use."""

Answer = TypeVar("Answer")


class BrokerUnreachable(ConnectionError):
    """No broker answers, or not as it should; the message says what to do (the command line: exit 3)."""


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What the cluster says of one topic; `error` is Kafka's error code, 0 where all is well."""

    name: str
    error: int
    partitions: int
    leaderless: tuple[int, ...]
    rights: frozenset[str] | None


class Cluster:
    """An open connection; see `cluster`. Every question raises BrokerUnreachable when it finds no answer."""

    def __init__(self, admin: Any, settings: Settings) -> None:
        self._admin = admin
        self._settings = settings
        self._broker = settings.broker

    async def _ask(self, question: Awaitable[Answer]) -> Answer:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await question
        except (errors.KafkaConnectionError, errors.NodeNotReadyError, errors.RequestTimedOutError, TimeoutError) as e:
            known = sorted((str(b.host), int(b.port)) for b in self._admin._client.cluster.brokers())
            if known and (said := await refusal(self._settings, known)) is not None:
                raise BrokerUnreachable(said) from e
            named = ", ".join(f"{printable(host)}:{port}" for host, port in known)
            raise BrokerUnreachable(
                f"Kafka at {self._broker} names itself {named or 'nothing'}, and that does not answer from here: check "
                "the broker's advertised.listeners, name resolution and firewalls"
            ) from e
        except OSError as e:
            raise BrokerUnreachable(f"the connection to Kafka at {self._broker} broke off: {e}: try again") from e

    async def release(self) -> str | None:
        """The Kafka release that the cluster works as; None where it does not say."""
        try:
            return release_of(await self._ask(self._admin._send_request(FeaturesRequest())))
        except NotImplementedError:  # aiokafka: the broker knows only older versions of this request
            return None

    async def brokers(self) -> int:
        """How many brokers there are."""
        return len((await self._ask(self._admin.describe_cluster()))["brokers"])

    async def topics(self, names: Sequence[str]) -> dict[str, TopicFacts]:
        """Facts of these topics, with our rights where the cluster tells them."""
        try:
            answer = await self._ask(self._admin._send_request(TopicsRequest(list(names))))
        except NotImplementedError:
            found, rights = await self._ask(self._admin.describe_topics(list(names))), None
        else:
            found = answer.to_object()["topics"]
            rights = {topic["topic"]: rights_of(topic["rights"]) for topic in found}
        return {
            topic["topic"]: TopicFacts(
                topic["topic"],
                topic["error_code"],
                len(topic["partitions"]),
                tuple(p["partition"] for p in topic["partitions"] if p["leader"] < 0),
                None if not rights or (mine := rights[topic["topic"]]) is None else frozenset(mine),
            )
            for topic in found
        }

    async def topic_settings(self, names: Sequence[str]) -> dict[str, tuple[int, dict[str, str]]]:
        """Kafka's error code and the configuration of each topic."""
        wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        answers = await self._ask(self._admin.describe_configs(wanted))
        return {
            name: (error, {entry[0]: entry[1] for entry in entries})
            for answer in answers
            for error, _, _, name, entries in answer.resources
        }

    async def create(
        self, name: str, partitions: int, replication: int, configuration: Mapping[str, str]
    ) -> tuple[int, str]:
        """Create a topic; Kafka's error code (0: made) and its words."""
        new = NewTopic(name, partitions, replication, topic_configs=dict(configuration))
        answer = await self._ask(self._admin.create_topics([new]))
        _, code, words = answer.topic_errors[0]
        return code, words or errors.for_code(code).__name__

    async def coordinator_error(self, kind: int, name: str) -> int:
        """0 when the group (or the transactional id) has a coordinator that we may use; else Kafka's error code."""
        deadline = monotonic() + COORDINATOR_SECONDS
        while True:
            try:
                await self._ask(self._admin.find_coordinator(name, kind))
                return 0
            except errors.BrokerResponseError as error:
                if error.errno in NO_RIGHT or monotonic() > deadline:
                    return int(error.errno)
            await asyncio.sleep(POLL_SECONDS)

    async def denial(self, transactional_id: str, group: str) -> int:
        """Kafka's error code if we may not write with this id, or not read for this group; 0 if we may do both.

        Asks to take the group into the transaction of a producer that does not exist. That fails and changes nothing,
        but first the broker looks at the rights, for which it has no question of their own.
        """
        try:
            node = await self._ask(self._admin.find_coordinator(transactional_id, TRANSACTION))
            request = AddOffsetsToTxnRequest(transactional_id, NO_PRODUCER, NO_PRODUCER, group)
            answer = await self._ask(self._admin._send_request(request, node))
        except errors.BrokerResponseError as error:
            return int(error.errno) if error.errno in NO_RIGHT else 0
        return int(answer.error_code) if answer.error_code in NO_RIGHT else 0


@asynccontextmanager
async def cluster(settings: Settings) -> AsyncIterator[Cluster]:
    """Connect to the cluster of the settings; raises BrokerUnreachable, and SettingsError on an unusable file."""
    admin = AIOKafkaAdminClient(
        **client_options(settings), client_id="overdraw-admin", request_timeout_ms=int(ANSWER_SECONDS * 1000)
    )
    try:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await admin.start()
        except (errors.KafkaError, OSError, TimeoutError, ValueError) as error:  # ValueError: a wrong SCRAM signature
            raise BrokerUnreachable(
                await refusal(settings)
                or f"no Kafka answers at {settings.broker}: start it, or name another one with OVERDRAW_BROKER "
                "(`overdraw broker` runs one on this machine)"
            ) from error
        yield Cluster(admin, settings)
    finally:
        await admin.close()
