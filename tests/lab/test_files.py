"""Files as records: any line, any damage, bounded memory."""

from __future__ import annotations

import gzip
import io
import random
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.gateways.overdraw import parse
from stream.gateways.quick import MAX_RECORD_BYTES
from stream.lab import files
from stream.lab.files import CHUNK_RECORDS, InputError, format_of, read_chunks

DATA = Path(__file__).parents[2].parent / "shared" / "data"
LINES = [b'{"event_id":"%d","time":1700000000,"key_id":"k"}' % i for i in range(20_000)]
PLAIN = b"\n".join(LINES) + b"\n"


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def read_lines(path: Path | str, *given, **options) -> Iterator[tuple[int, bytes]]:
    """The chunks' records, one by one."""
    for chunk in read_chunks(path, *given, **options):
        yield from chunk


def until_error(path: Path | str, **options) -> tuple[list[tuple[int, bytes]], str]:
    found = []
    try:
        found.extend(read_lines(path, **options))  # keeps what came before the error
    except InputError as error:
        return found, str(error)
    return found, ""


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "no-name"])
@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:])]
)
def test_records_are_numbered_whatever_the_name_and_the_packing(write, name, pack) -> None:
    assert list(read_lines(write(name, pack(PLAIN)))) == list(enumerate(LINES, 1))


def test_chunks_are_no_longer_than_said(write) -> None:
    sizes = [len(chunk) for chunk in read_chunks(write("a.jsonl", b"{}\n" * 100_000))]
    assert sum(sizes) == 100_000
    assert max(sizes) <= CHUNK_RECORDS
    table = b"time,key_id\n" + b"1,k\n" * 12_000
    assert [len(chunk) for chunk in read_chunks(write("a.csv", table))] == [5000, 5000, 2000]


def test_blank_lines_count_as_nothing_and_keep_their_number(write) -> None:
    found = list(read_lines(write("a", b"\n{}\n  \n\r\n{}\r\n\t\n[]")))
    assert found == [(2, b"{}"), (5, b"{}\r"), (7, b"[]")]


def test_a_byte_order_mark_is_taken_off(write) -> None:
    for data in (b"\xef\xbb\xbf{}\n{}", gzip.compress(b"\xef\xbb\xbf{}\n{}")):
        assert list(read_lines(write("a", data))) == [(1, b"{}"), (2, b"{}")]
    assert [n for n, _ in read_lines(write("a.csv", b"\xef\xbb\xbftime,key_id\n1,k"))] == [2]


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b"{}", b"{", b"\xef\xbb"])
def test_a_tiny_file_is_a_file(write, data) -> None:
    expected = [(1, data)] if data.strip() and data != b"\xef\xbb\xbf" else []
    assert list(read_lines(write("a", data))) == expected


def test_an_overlong_line_is_cut_just_above_the_limit_and_its_neighbours_count(write) -> None:
    exact = b'{"x":"' + b"y" * (MAX_RECORD_BYTES - 8) + b'"}'
    data = b"\n".join(
        [LINES[0], b"y" * (MAX_RECORD_BYTES * 3), LINES[1], exact, b"z" * (MAX_RECORD_BYTES + 1), LINES[2]]
    )
    for name, packed in (("a", data), ("b", gzip.compress(data, 1))):
        found = list(read_lines(write(name, packed)))
        assert [(n, len(line)) for n, line in found] == [
            (1, len(LINES[0])),
            (2, MAX_RECORD_BYTES + 1),
            (3, len(LINES[1])),
            (4, MAX_RECORD_BYTES),
            (5, MAX_RECORD_BYTES + 1),
            (6, len(LINES[2])),
        ]
        calls, rejects = parse([(n, line, 2e9) for n, line in found])
        assert [n for n, _, _ in calls] == [1, 3, 6]
        assert [(r.position, r.reason) for r in rejects] == [(2, "too_large"), (4, "missing_field"), (5, "too_large")]


def test_an_overlong_row_of_a_csv_is_too_large_and_its_neighbours_count(write) -> None:
    long = b"b" * (MAX_RECORD_BYTES * 2)
    data = b"time,key_id\n1700000000,a\n1700000000,%s\n1700000000,c\n" % long
    calls, rejects = parse([(n, line, 2e9) for n, line in read_lines(write("a.csv", data))])
    assert [n for n, _, _ in calls] == [2, 4]
    assert [(r.position, r.reason) for r in rejects] == [(3, "too_large")]


def test_memory_does_not_grow_with_the_line(write) -> None:
    path = write("bomb.gz", gzip.compress(b"{}\n" + b"x" * (200 << 20) + b"\n{}\n", 1))
    tracemalloc.start()
    try:
        assert [n for n, _ in read_lines(path)] == [1, 2, 3]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * MAX_RECORD_BYTES


GZ = gzip.compress(PLAIN)
DAMAGE = [
    ("cut in the middle", GZ[: len(GZ) // 2], 5_000, "ends too early"),
    ("without its checksum", GZ[:-8], 20_000, "ends too early"),
    ("cut in the checksum", GZ[:-3], 20_000, "ends too early"),
    ("only two bytes", GZ[:2], 0, "ends too early"),
    ("a wrong checksum", GZ[:-8] + bytes(8), 19_000, "damaged"),
    ("an impossible block", GZ[: len(GZ) // 2] + b"\xff" * 100 + GZ[len(GZ) // 2 + 100 :], 5_000, "damaged"),
    ("something behind it", GZ + b"junk", 20_000, "damaged"),
    ("a second member cut", GZ + GZ[: len(GZ) // 2], 25_000, "ends too early"),
]


@pytest.mark.parametrize(("data", "at_least", "words"), [row[1:] for row in DAMAGE], ids=[row[0] for row in DAMAGE])
def test_what_stands_before_the_damage_of_a_gzip_is_read_first(write, data, at_least, words) -> None:
    path = write("a.jsonl.gz", data)
    found, message = until_error(path)
    assert words in message
    assert "fetch or pack" in message
    assert message.startswith(str(path))
    assert len(found) >= at_least
    good = [line for _, line in found[:at_least]]
    assert good == (LINES + LINES)[: len(good)]


def test_rows_of_a_csv_before_the_damage_are_read_first(write) -> None:
    body = "".join(f"{random.Random(i).random()},1700000000,k\n" for i in range(7_000))
    packed = gzip.compress(f"event_id,time,key_id\n{body}".encode())
    found, message = until_error(write("a.csv.gz", packed[:-20]))
    assert "ends too early" in message
    assert 6_000 < len(found) < 7_001


def test_zeros_behind_a_member_are_padding(write) -> None:
    assert len(list(read_lines(write("a", GZ + bytes(1000) + GZ + bytes(10))))) == 40_000


def test_what_cannot_be_read_says_what_to_do(write, tmp_path, monkeypatch) -> None:
    def message(path: Path | str, **options) -> str:
        found, text = until_error(path, **options)
        assert found == []
        return text

    assert "no such file" in message(tmp_path / "none")
    assert "is a folder" in message(tmp_path)
    assert "named .gz and is not gzip" in message(write("a.gz", b""))
    assert "named .gz and is not gzip" in message(write("b.gz", b"\0\1\2\3"))
    assert "zstd" in message(write("c.zst", b"\x28\xb5\x2f\xfd..."))
    assert "Parquet" in message(write("d", b"PAR1...."))
    assert "Known are overdraw, litellm, " in message(write("e", b"{}"), format="xml")
    assert "need --format csv" in message(write("f.jsonl", b"{}"), mapping={"key_id": "x"})
    assert "Columns are a, b" in message(write("g.csv", b"a,b\n"))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(files.Path, "open", refuse)
    assert "no right" in message(tmp_path / "x")

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.Path, "open", fail)
    assert "cannot be read: Input/output error" in message(tmp_path / "x")


def test_stdin_is_read_as_it_comes(monkeypatch) -> None:
    import os

    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb", buffering=0) as sink:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(source))
        records = read_lines("-")
        threading.Thread(target=sink.write, args=(b'{"a":1}\n',)).start()
        assert next(records) == (1, b'{"a":1}')  # while the pipe is still open
        sink.write(b'{"b":2}')
        sink.close()
        assert list(records) == [(2, b'{"b":2}')]


def test_an_error_of_stdin_names_it(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(GZ[:100])))
    assert until_error("-")[1].startswith("stdin: ")


def test_the_format_follows_the_name_unless_it_is_said() -> None:
    assert [format_of(name) for name in ("a.CSV", "a.csv.gz", "a.jsonl", "-", "csv")] == ["csv", "csv"] + [
        "overdraw"
    ] * 3
    assert format_of("a.csv", "overdraw") == "overdraw"


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b"bb", b"\n", b"\n\n", b"\r\n", b" ", b"c" * 30, b"d" * 9])),
    st.integers(1, 8),  # a block is never longer than the limit
    st.integers(8, 20),
)
def test_however_the_blocks_fall_the_lines_are_the_same(parts: list[bytes], block: int, limit: int) -> None:
    data = b"".join(parts)
    blocks = [data[i : i + block] for i in range(0, len(data), block)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "MAX_RECORD_BYTES", limit)
        found = [record for chunk in files._split(iter(blocks)) for record in chunk]
    expected = list(enumerate((line[: limit + 1] for line in data.split(b"\n")), 1))
    if not expected[-1][1]:
        expected.pop()
    assert found == expected


REAL = [
    (
        "azure2023/AzureLLMInferenceTrace_conv.csv.gz",
        {"time": "TIMESTAMP", "input_tokens": "ContextTokens", "output_tokens": "GeneratedTokens"},
        {"key_id": "azure"},
        (19_366, 1, 22_361_870, 4_088_665),
    ),
    (
        "gentd26/lora_request_trace.dev.csv.gz",
        {
            "time": "gmt_create",
            "key_id": "groupId",
            "input_tokens": "prompt_length",
            "output_tokens": "num_inference_steps",
            "model": "checkpoint_model_version_id",
        },
        {"operation": "image"},
        (12_037, 2_125, 692_153, 373_792),
    ),
]


@pytest.mark.parametrize(("name", "mapping", "constants", "facts"), REAL, ids=["azure2023", "gentd26"])
def test_a_recorded_trace_is_read_without_a_reject_and_in_time_order(name, mapping, constants, facts) -> None:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs {name} in ../shared/data")
    calls, rejects = parse([(n, line, 2e9) for n, line in read_lines(path, None, mapping, constants)])
    assert rejects == []
    rows, keys, input_tokens, output_tokens = facts
    assert len(calls) == rows
    assert len({call.key_id for _, _, call in calls}) == keys
    assert len({call.event_id for _, _, call in calls}) == rows
    times = [time for _, time, _ in calls]
    assert times == sorted(times)
    for total, field in ((input_tokens, "input_tokens"), (output_tokens, "output_tokens")):
        assert sum(getattr(call, field) or 0 for _, _, call in calls) == total
