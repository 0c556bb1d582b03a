"""Why a broker does not take us, as far as a server can tell that is no Kafka; the rest is in tests/kafka."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import NodeNotReadyError

from stream.settings import Settings, load_settings
from stream.worker.cluster import BrokerUnreachable, Cluster, cluster
from stream.worker.refusal import refusal
from tests.certificates import Authority, Pair


@asynccontextmanager
async def listening(pair: Pair | None) -> AsyncIterator[int]:
    """The port of a server that hangs up at the first word; with a certificate it speaks TLS."""
    context = None
    if pair is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pair.both)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def made(port: int, **values: Any) -> Settings:
    environ = {f"OVERDRAW_{name.upper()}": str(value) for name, value in values.items()}
    return load_settings({"broker": f"127.0.0.1:{port}"}, environ=environ)


@pytest.mark.parametrize(
    ("hosts", "days", "trusted", "words"),
    [
        (["127.0.0.1"], 30, "theirs", ["an authority that is none of those in", "theirs.crt", "with kafka_ca_file"]),
        (["127.0.0.1"], 30, "", ["an authority that is none of those of the system", "with kafka_ca_file"]),
        (["kafka.example"], 30, "ours", ["for another name (", "127.0.0.1", "subjectAltName"]),
        (["127.0.0.1"], -2, "ours", ["out of date (certificate has expired)", "have it renewed"]),
    ],
)
async def test_a_certificate_that_is_not_accepted_is_named_with_what_to_do(
    tmp_path: Path, hosts: list[str], days: int, trusted: str, words: list[str]
) -> None:
    authorities = {name: Authority(tmp_path, name) for name in ("ours", "theirs")}
    pair = authorities["ours"].issue("broker", *hosts, days=days)
    async with listening(pair) as port:
        settings = made(port, kafka_security_protocol="SSL", kafka_ca_file=authorities[trusted].cert if trusted else "")
        said = await refusal(settings) or ""
        assert said.startswith(f"Kafka at 127.0.0.1:{port} has a certificate ")
        assert all(word in said for word in words), said
        assert "\n" not in said
        assert said.count(": ") == 1, "what is wrong, and then what to do"
        with pytest.raises(BrokerUnreachable) as caught:
            async with cluster(settings):
                pass
    assert str(caught.value) == said


async def test_a_broker_that_names_itself_otherwise_than_its_certificate_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")

    async def fails() -> None:
        raise NodeNotReadyError("no connection")

    async with listening(authority.issue("broker", "kafka.example")) as port:
        settings = made(9093, kafka_security_protocol="SSL", kafka_ca_file=authority.cert)
        brokers = [SimpleNamespace(host="127.0.0.1", port=port)]
        admin = SimpleNamespace(_client=SimpleNamespace(cluster=SimpleNamespace(brokers=lambda: brokers)))
        with pytest.raises(BrokerUnreachable, match=f"127.0.0.1:{port} has a certificate for another name"):
            await Cluster(admin, settings)._ask(fails())


async def test_a_port_for_tls_is_told_from_one_that_does_not_answer(tmp_path: Path) -> None:
    pair = Authority(tmp_path, "ours").issue("broker", "127.0.0.1")
    async with listening(pair) as port:
        said = await refusal(made(port)) or ""
    assert f"Kafka at 127.0.0.1:{port} speaks TLS on this port, and kafka_security_protocol is PLAINTEXT: set" in said
    async with listening(None) as port:
        assert await refusal(made(port)) is None, "a server that is no Kafka tells nothing"
        assert await refusal(made(port, kafka_security_protocol="SSL")) is None
    assert await refusal(made(port)) is None, "nobody listens any more"


async def test_the_first_broker_that_answers_tells(tmp_path: Path) -> None:
    pair = Authority(tmp_path, "ours").issue("broker", "127.0.0.1")
    async with listening(pair) as port:
        said = await refusal(load_settings({"broker": f"127.0.0.1:1,127.0.0.1:{port}"}, environ={}))
        assert f"127.0.0.1:{port} speaks TLS" in str(said)
        said = await refusal(load_settings({"broker": "127.0.0.1:1"}, environ={}), [("127.0.0.1", port)])
        assert f"127.0.0.1:{port} speaks TLS" in str(said)
