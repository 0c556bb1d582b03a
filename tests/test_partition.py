"""Keys go to the partition that Kafka's own clients would choose."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner, murmur2
from hypothesis import given
from hypothesis import strategies as st

from stream.partition import key_bytes, partition_of

JAVA = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""What Kafka's Java client makes of them: the vectors of its own test (UtilsTest.testMurmur2)."""


@pytest.mark.parametrize(("key", "hashed"), JAVA.items())
def test_the_hash_is_the_java_clients(key: str, hashed: int) -> None:
    assert murmur2(key.encode()) == hashed % 2**32
    for partitions in (1, 2, 7, 8, 4096):
        assert partition_of(key, partitions) == (hashed & 0x7FFFFFFF) % partitions


@given(st.text(st.characters()), st.integers(1, 4096))
def test_every_key_goes_where_aiokafka_would_send_it(key: str, partitions: int) -> None:
    everywhere = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key_bytes(key), everywhere, everywhere)


def test_half_a_surrogate_pair_has_a_partition_too() -> None:
    assert partition_of("key-\ud800", 8) in range(8)


def test_what_is_remembered_of_keys_is_bounded() -> None:
    assert partition_of.cache_info().maxsize == 100_000
