"""The embedded Kafka as a whole: it serves, it keeps what it was given, it goes when it should."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream.broker import BrokerError, EmbeddedKafka
from stream.embedded.classcache import class_cache
from stream.embedded.jars import KAFKA_VERSION, pinned_jars
from stream.embedded.java import find_java
from stream.embedded.server import free_port, serves
from stream.settings import load_settings

HOME = Path(load_settings().data_dir) / f"kafka-{KAFKA_VERSION}"


async def create_topic(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()


async def send(bootstrap: str, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed") as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        async with asyncio.timeout(20):
            return [(await consumer.getone()).value for _ in range(count)]


def gone(pid: int) -> bool:
    """True once a process is dead, whether or not somebody has collected it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


@contextmanager
def broker_command(*options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "stream", "broker", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def test_a_transaction_is_read_whole_and_a_group_is_served(kafka: EmbeddedKafka, fresh_name: str) -> None:
    await create_topic(kafka.bootstrap, fresh_name)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=fresh_name) as producer:
        async with producer.transaction():
            await producer.send(fresh_name, b"one")
            await producer.send(fresh_name, b"two")
        await producer.begin_transaction()
        await producer.send_and_wait(fresh_name, b"never")
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send(fresh_name, b"three")
    consumer = AIOKafkaConsumer(
        fresh_name,
        bootstrap_servers=kafka.bootstrap,
        group_id=fresh_name,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    async with consumer, asyncio.timeout(20):
        assert [(await consumer.getone()).value for _ in range(3)] == [b"one", b"two", b"three"]


async def test_a_topic_is_never_made_by_mere_use(kafka: EmbeddedKafka, fresh_name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.describe_topics([fresh_name])
        assert fresh_name not in await admin.list_topics()
    finally:
        await admin.close()


def test_data_port_and_cluster_survive_stop_kill_and_a_new_owner(tmp_path: Path) -> None:
    topic, folder = "kept", tmp_path / "data"
    with EmbeddedKafka(folder) as broker:
        where, cluster = broker.bootstrap, broker.cluster_id
        asyncio.run(create_topic(where, topic))
        asyncio.run(send(where, topic, b"before"))
        broker.stop()
        assert broker.pid is None
        broker.start()
        assert broker.bootstrap == where
        asyncio.run(send(where, topic, b"after the stop"))
        broker.kill()
        assert broker.pid is None
        assert "signal 9" in str(broker.death())
        broker.start()
        assert (broker.bootstrap, broker.cluster_id) == (where, cluster)
        asyncio.run(send(where, topic, b"after the kill"))
    with EmbeddedKafka(folder) as broker:
        assert broker.cluster_id == cluster
        kept = asyncio.run(read(broker.bootstrap, topic, 3))
    assert kept == [b"before", b"after the stop", b"after the kill"]


def test_a_temporary_folder_goes_with_its_broker() -> None:
    broker = EmbeddedKafka()
    with pytest.raises(BrokerError, match="start\\(\\) it first"):
        _ = broker.bootstrap
    with broker:
        folder, pid = broker.data_dir, broker.pid
        assert folder.is_dir()
        assert pid is not None
    assert not folder.exists()
    assert gone(pid)


def test_it_listens_on_loopback_only(kafka: EmbeddedKafka) -> None:
    inodes = {
        os.readlink(entry.path).removeprefix("socket:[").removesuffix("]")
        for entry in os.scandir(f"/proc/{kafka.pid}/fd")
        if os.readlink(entry.path).startswith("socket:[")
    }
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{kafka.pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in inodes:
                listening.append(columns[1].split(":")[0])
    assert len(listening) == 2, "the broker's and the controller's listener"
    assert set(listening) <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_a_folder_has_one_owner_at_a_time(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path / "data"), pytest.raises(BrokerError, match="in use by another embedded Kafka"):
        EmbeddedKafka(tmp_path / "data").start()


def test_a_damaged_folder_is_named_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with EmbeddedKafka(folder):
        pass
    meta = folder / "log" / "meta.properties"
    whole = meta.read_text()
    meta.write_text("version=1\n")
    with pytest.raises(BrokerError, match=r"is damaged \(no cluster.id .*move it away and start with a new one"):
        EmbeddedKafka(folder).start()
    meta.write_text(whole.replace("node.id=1", "node.id=7"))
    with pytest.raises(BrokerError, match=r"(?s)died at its start .*seems damaged: move it away"):
        EmbeddedKafka(folder).start()
    meta.write_text(whole)
    with EmbeddedKafka(folder) as broker:
        assert serves(int(broker.bootstrap.rpartition(":")[2]))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda good: b"no class cache at all", id="garbage"),
        pytest.param(lambda good: good[: len(good) // 2], id="cut short"),
        pytest.param(lambda good: good[:8192] + bytes(b ^ 0xFF for b in good[8192:]), id="flipped"),
        pytest.param(lambda good: b"", id="none could be made"),
    ],
)
def test_no_class_cache_can_break_a_start(
    kafka: EmbeddedKafka, tmp_path: Path, content: Callable[[bytes], bytes]
) -> None:
    java = find_java()
    jars = [HOME / "jars" / jar.name for jar in pinned_jars(KAFKA_VERSION)]
    good = class_cache(HOME, java, jars).read_bytes()
    assert good, "this machine made no class cache"
    home = tmp_path / HOME.name
    home.mkdir()
    (home / "jars").symlink_to(HOME / "jars")
    class_cache(home, java, [home / "jars" / jar.name for jar in jars]).write_bytes(content(good))
    with EmbeddedKafka(cache_dir=tmp_path) as broker:
        asyncio.run(create_topic(broker.bootstrap, "works"))


def test_a_taken_port_is_named(kafka: EmbeddedKafka) -> None:
    taken = int(kafka.bootstrap.rpartition(":")[2])
    with pytest.raises(BrokerError, match=f"port {taken} on 127.0.0.1 is taken"):
        EmbeddedKafka(port=taken).start()


def test_an_unknown_property_value_ends_the_start_with_kafkas_own_words(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"num\.io\.threads"):
        EmbeddedKafka(tmp_path / "data", extra_properties={"num.io.threads": "many"}).start()


def test_the_broker_dies_with_an_owner_that_is_killed_and_the_folder_can_be_taken_at_once(tmp_path: Path) -> None:
    program = (
        "import sys, time; from stream.broker import EmbeddedKafka\n"
        "kafka = EmbeddedKafka(*sys.argv[1:]).start()\n"
        "print(kafka.pid, kafka.data_dir, flush=True)\n"
        "time.sleep(300)\n"
    )
    for folder in ([], [str(tmp_path / "data")]):
        owner = subprocess.Popen([sys.executable, "-c", program, *folder], stdout=subprocess.PIPE, text=True)
        assert owner.stdout is not None
        try:
            pid, data = owner.stdout.readline().split()
        finally:
            owner.kill()
            owner.communicate()
        if folder:
            with EmbeddedKafka(data) as broker:
                assert broker.pid != int(pid)
        else:
            eventually(lambda path=data: not Path(path).exists())
        eventually(lambda number=pid: gone(int(number)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_ready_and_stops_with_0(number: signal.Signals, tmp_path: Path) -> None:
    with broker_command("--port", "0", "--data", str(tmp_path / "data")) as process:
        assert process.stdout is not None
        word, where = process.stdout.readline().split()
        assert word == "ready"
        host, _, port = where.rpartition(":")
        assert host == "127.0.0.1"
        assert serves(int(port))
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
        assert (process.returncode, output) == (0, "")
        assert f"export OVERDRAW_BROKER={where}" in errors
        assert "Traceback" not in errors
    assert not serves(int(port))
    assert (tmp_path / "data" / "log" / "meta.properties").is_file()


def test_the_command_prints_json_and_ends_with_3_when_the_broker_dies() -> None:
    port = free_port()
    with broker_command("--port", str(port), "--json") as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        assert facts["ready"] == f"127.0.0.1:{port}"
        assert facts["kafka"] == KAFKA_VERSION
        os.kill(facts["pid"], signal.SIGKILL)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 3
        assert "ended with signal 9" in errors
        assert "Traceback" not in errors
        assert not Path(facts["data"]).exists()


def test_the_command_ends_with_3_on_a_taken_port() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with broker_command("--port", str(port)) as process:
            output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (3, "")
    assert f"port {port} on 127.0.0.1 is taken: stop what listens there, or choose another one with --port" in errors


def test_ctrl_c_before_it_is_ready_ends_it_cleanly(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    home = tmp_path / HOME.name
    home.mkdir()
    shutil.copytree(HOME / "jars", home / "jars", copy_function=os.link)
    environment = {**os.environ, "OVERDRAW_DATA_DIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "stream", "broker", "--port", "0"], stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stderr is not None
    try:
        assert "preparing quick starts" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0
    assert "stopped before it was ready" in errors
    assert "Traceback" not in errors
