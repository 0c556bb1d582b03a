"""Which partition a key belongs to: Kafka's own default partitioner."""

from __future__ import annotations

from functools import lru_cache

from aiokafka.partitioner import murmur2


@lru_cache(maxsize=100_000)
def partition_of(key_id: str, partitions: int) -> int:
    """The partition of a record keyed by `key_id` in UTF-8, as the Java client and aiokafka choose it.

    >>> partition_of("key-1", 8) == partition_of("key-1", 8) < 8
    True
    """
    return int((murmur2(key_bytes(key_id)) & 0x7FFF_FFFF) % partitions)


def key_bytes(key_id: str) -> bytes:
    """The Kafka key of a key id. Half a surrogate pair is no text, and still must not stop anything.

    >>> key_bytes("ключ").decode(), len(key_bytes(chr(0xD800)))
    ('ключ', 3)
    """
    return key_id.encode("utf-8", "surrogatepass")
