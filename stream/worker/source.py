"""Which log it is that a shard has applied: still the same, another one, or the same cut short."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stream.core.state import StateError
from stream.worker.protocol import NO_ID, TopicIdsRequest, TopicsRequest

UNKNOWN_TOPIC = 3
"""Kafka's error code for a topic that is not there."""

Fate = Literal["same", "anew", "cut"]


@dataclass(frozen=True, slots=True)
class TopicState:
    """Whether a topic is there, and its id: None where Kafka does not tell (before 2.8), or where it is not there."""

    there: bool
    id: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """The log that a shard reads: its topic's name, and its id where Kafka tells it."""

    topic: str
    id: str | None

    def pack(self) -> bytes:
        """JSON for the state topic."""
        return json.dumps({"topic": self.topic, "id": self.id}).encode()

    @classmethod
    def unpack(cls, value: bytes) -> Source:
        """The inverse of `pack`; raises StateError on anything else."""
        try:
            content = json.loads(value)
            topic, topic_id = content["topic"], content["id"]
        except (KeyError, TypeError, ValueError) as error:
            raise StateError("the source's record on the state topic is damaged") from error
        return cls(str(topic), None if topic_id is None else str(topic_id))


def fate(known: Source | None, found: Source, applied: int, end: int) -> Fate:
    """What has become of the log up to whose offset `applied` a state goes, and whose next record gets offset `end`.

    A topic's id tells one that was made anew even if it has grown beyond `applied`. Without ids only an end below it
    does, and then a topic that was made anew is likelier than one that was cut. What no offset can tell: a log that
    was cut and has grown beyond `applied` since.

    >>> fate(Source("calls", "A"), Source("calls", "A"), applied=9, end=10)
    'same'
    >>> fate(Source("calls", "A"), Source("calls", "B"), applied=9, end=500)
    'anew'
    >>> fate(Source("calls", "A"), Source("calls", "A"), applied=9, end=7)
    'cut'
    """
    if applied < 0:
        return "same"
    if known is not None and known.topic != found.topic:
        return "anew"
    if known is None or known.id is None or found.id is None:
        return "same" if applied < end else "anew"
    if known.id != found.id:
        return "anew"
    return "same" if applied < end else "cut"


async def topic_states(client: Any, names: Sequence[str]) -> dict[str, TopicState]:
    """Ask a broker, over an open aiokafka client, for these topics. Raises KafkaError or OSError without an answer."""
    node = client.get_random_node()
    if node is None:
        raise ConnectionError("no broker is known")
    try:
        answer = await client.send(node, TopicIdsRequest(list(names)))
    except NotImplementedError:  # aiokafka: the broker knows only older versions of this request
        answer = await client.send(node, TopicsRequest(list(names)))
    return {
        topic["topic"]: TopicState(
            topic["error_code"] != UNKNOWN_TOPIC,
            id_text(topic_id) if (topic_id := topic.get("topic_id", NO_ID)) != NO_ID else None,
        )
        for topic in answer.to_object()["topics"]
    }


def id_text(topic_id: bytes) -> str:
    """A topic's id as Kafka's own tools write it.

    >>> id_text(bytes(range(16)))
    'AAECAwQFBgcICQoLDA0ODw'
    """
    return urlsafe_b64encode(topic_id).rstrip(b"=").decode()
