"""Questions to a broker that aiokafka does not ask: which Kafka it is, which topic it has and whether that is still the
same, what we may do with it, and what a group has committed once no transaction is pending.
"""  # noqa: D205

from __future__ import annotations

from io import BytesIO
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    AbstractType,
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

UNKNOWN_RIGHTS = -(2**31)
"""What a broker says that was not asked, or cannot tell."""
OPERATIONS = {3: "Read", 4: "Write", 5: "Create", 7: "Alter", 8: "Describe", 10: "DescribeConfigs"}
"""Bits of the rights mask, of Kafka's AclOperation."""

RELEASES = (
    (1, "3.0"),
    (2, "3.1"),
    (3, "3.2"),
    (4, "3.3"),
    (8, "3.4"),
    (9, "3.5"),
    (12, "3.6"),
    (15, "3.7"),
    (20, "3.8"),
    (21, "3.9"),
    (22, "4.0"),
    (26, "4.1"),
    (28, "4.2"),
)
"""The first level of the feature `metadata.version` of each Kafka release."""


class _TopicsResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(("node_id", Int32), ("host", String()), ("port", Int32), ("rack", String())),
        ),
        ("cluster_id", String()),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String()),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("rights", Int32),
            ),
        ),
        ("cluster_rights", Int32),
    )


class _TopicsRequestV8(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _TopicsResponse
    SCHEMA = Schema(
        ("topics", Array(String())),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_rights", Boolean),
        ("include_topic_rights", Boolean),
    )


class TopicsRequest(Request[_TopicsRequestV8]):  # type: ignore[misc]
    """Metadata of some topics with our rights on them; creates none. Needs Kafka 2.3 or newer."""

    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:
        """The request as it goes over the wire."""
        return request_struct_class(self._topics, False, True, True)


class _FeaturesResponse(Response):  # type: ignore[misc]
    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "api_versions",
            CompactArray(("api_key", Int16), ("min_version", Int16), ("max_version", Int16), ("tags", TaggedFields)),
        ),
        ("throttle_time_ms", Int32),
        ("tags", TaggedFields),
    )


class _FeaturesRequestV3(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 18
    API_VERSION = 3
    RESPONSE_TYPE = _FeaturesResponse
    SCHEMA = Schema(
        ("client_software_name", CompactString()), ("client_software_version", CompactString()), ("tags", TaggedFields)
    )

    def parse_response_header(self, read_buffer: Any) -> Any:
        """The answer to this one request always has the old header, so that any client can read it."""
        return ResponseHeader_v0.decode(read_buffer)


class FeaturesRequest(Request[_FeaturesRequestV3]):  # type: ignore[misc]
    """What the cluster is able to do, and from which release on. Needs Kafka 2.4 or newer."""

    API_KEY = 18

    def build(self, request_struct_class: Any) -> Any:
        """The request as it goes over the wire."""
        return request_struct_class("overdraw", "0", {})


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


NO_ID = bytes(16)
"""What a broker says of a topic that has no id, or is not there."""


class _TopicIdsResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("rights", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_rights", Int32),
        ("tags", TaggedFields),
    )


class _TopicIdsRequestV10(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _TopicIdsResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("topic", CompactString()), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_rights", Boolean),
        ("include_topic_rights", Boolean),
        ("tags", TaggedFields),
    )


class TopicIdsRequest(Request[_TopicIdsRequestV10]):  # type: ignore[misc]
    """Whether some topics are there, and their ids: one that is made anew has another. Needs Kafka 2.8 or newer."""

    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:
        """The request as it goes over the wire."""
        return request_struct_class([(NO_ID, topic, {}) for topic in self._topics], False, False, False, {})


class _OffsetsResponse(Response):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", CompactString()),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString()),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class _OffsetsRequestV7(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 9
    API_VERSION = 7
    RESPONSE_TYPE = _OffsetsResponse
    SCHEMA = Schema(
        ("group_id", CompactString()),
        (
            "topics",
            CompactArray(("topic", CompactString()), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class OffsetsRequest(Request[_OffsetsRequestV7]):  # type: ignore[misc]
    """A group's offsets of one topic. Where a transaction is pending, the broker says so. Needs Kafka 2.5 or newer."""

    API_KEY = 9

    def __init__(self, group: str, topic: str, partitions: list[int]) -> None:
        self._wanted: tuple[str, list[Any]] = (group, [(topic, partitions, {})])

    def build(self, request_struct_class: Any) -> Any:
        """The request as it goes over the wire."""
        return request_struct_class(*self._wanted, True, {})


_FINALIZED_FEATURES = 2
_FEATURES = CompactArray(
    ("name", CompactString()), ("max_version", Int16), ("min_version", Int16), ("tags", TaggedFields)
)


def release_of(answer: Any) -> str | None:
    """The Kafka release that the cluster works as, such as `4.1`; None before 3.3 and with ZooKeeper."""
    packed = answer.tags.get(_FINALIZED_FEATURES)
    if not packed:
        return None
    levels = {name: level for name, level, _, _ in _FEATURES.decode(BytesIO(packed)) or []}
    level = levels.get("metadata.version", 0)
    names = [name for first, name in RELEASES if first <= level]
    return names[-1] if names else None


def rights_of(mask: int) -> set[str] | None:
    """The operations of a rights mask; None where the broker did not say."""
    if mask == UNKNOWN_RIGHTS:
        return None
    return {name for bit, name in OPERATIONS.items() if mask >> bit & 1}
