"""A real LiteLLM proxy with our callback, a model server that does nothing, a Kafka with TLS and rights, a worker."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from stream.embedded.server import free_port
from stream.lab.chaos.topics import records_of
from stream.settings import load_settings
from tests.kafka.secured import PASSWORDS, Secured, in_force, listed, secured_kafka
from tests.kafka.workers import Worker, environment, eventually, overdraw
from tests.proxy.parts import KEYS, LITELLM, Model, Proxy

pytestmark = pytest.mark.litellm
LEAKED, QUIET = KEYS
CACHE = load_settings().data_dir
HISTORY_DAYS = 21
MARKERS = ("PROMPT-marker", "SECRET-marker", *(PASSWORDS[user] for user in ("overdraw", "gateway")))
PAGES = ("/", "/metrics", "/api/status", "/api/alerts", "/api/keys?top=50", "/api/keys/key-leaked")


def history(path: Path, now: float) -> None:
    """Three weeks of some keys that do little, up to a quarter of an hour ago."""
    rng = random.Random(7)
    rows = []
    for key in (*KEYS.values(), *(f"key-{number}" for number in range(4))):
        at = now - HISTORY_DAYS * 86_400
        while at < now - 900:
            at += rng.expovariate(1 / 600)
            tokens = {"input_tokens": int(rng.lognormvariate(8, 0.6)), "output_tokens": int(rng.lognormvariate(7, 0.6))}
            rows.append(
                {"event_id": f"{key}-{at}", "time": at, "key_id": key, "org_id": "acme", "status": 200} | tokens
            )
    rows.sort(key=lambda row: row["time"])
    path.write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture(scope="module", autouse=True)
def _proxy() -> None:
    if not LITELLM.exists():
        pytest.fail("there is no LiteLLM proxy: run `make test-litellm`, which installs it")


@pytest.fixture
def secured(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Secured]:
    """A Kafka that speaks TLS, asks for passwords, and gives worker and gateway the rights of the page for it."""
    monkeypatch.setenv("OVERDRAW_DATA_DIR", CACHE)
    with secured_kafka(tmp_path_factory.mktemp("secured"), Path(CACHE)) as made:
        made.grant([rule for user in ("overdraw", "gateway") for rule in listed(user)])
        in_force(made.settings())
        yield made


async def test_calls_through_a_proxy_are_events_in_a_secured_kafka_and_a_leaked_key_raises_an_alert(
    secured: Secured, tmp_path: Path
) -> None:
    # a burst of seconds is judged when its bucket closes: not after five minutes
    buckets = {"bucket_seconds": 60, "allowed_lateness_seconds": 5, "min_excess_tokens": 100_000}
    settings, gateway = secured.settings(**buckets), secured.settings("gateway", **buckets)
    assert settings.kafka_security_protocol == gateway.kafka_security_protocol == "SASL_SSL"
    history(tmp_path / "history.jsonl", time.time())
    fed = overdraw(gateway, "feed", str(tmp_path / "history.jsonl"), "--speed", "0")
    assert fed.returncode == 0, fed.stderr
    worker = Worker(settings, tmp_path)
    port = free_port()
    with Model() as model:
        chosen = {name: value for name, value in environment(gateway).items() if name.startswith("OVERDRAW_")}
        proxy = Proxy(tmp_path, port, model.url, ["stream.litellm.handler"], **chosen)
        try:
            worker.wait_ready()
            proxy.wait_ready()

            def known(key: str) -> dict[str, Any]:
                return worker.get(f"/api/keys/{key}") or {}

            before = eventually(lambda: known("key-quiet"), what="history").get("calls", 0)
            assert proxy.call(QUIET, max_tokens=7) == 200
            assert proxy.call(QUIET, max_tokens=7, stream=True) == 200
            assert proxy.call(QUIET, model="refuses") == 429
            assert proxy.call("sk-nobody") != 200
            eventually(lambda: known("key-quiet").get("calls") == before + 3, 60, f"three calls\n{proxy.said()}")

            for _ in range(80):
                assert proxy.call(LEAKED, max_tokens=60_000) == 200
            alert = eventually(
                lambda: next((a for a in (worker.get("/api/alerts") or {}).get("alerts", ())), None), 180, "an alert"
            )
            shown = [text_of(f"{worker.url}{path}") for path in PAGES]
        finally:
            proxy.end()
            worker.process.terminate()
            worker.process.wait(20)
    assert (alert["entity"], alert["status"]) == ({"type": "key", "id": "key-leaked"}, "opened")
    assert alert["kind"] in ("surge", "shape"), "eighty calls alike, each to its limit"
    assert not alert["historical"]

    written = []
    admin = secured.settings(listener="PLAINTEXT")
    for topic in (settings.source_topic, settings.dead_letter_topic, settings.alert_topic, settings.state_topic):
        found = await records_of(admin, topic)
        written += [bytes(part or b"") for record in found for part in (record.key, record.value)]
    everything = b"\n".join(written).decode("utf-8", "replace") + worker.said() + "".join(shown)
    for marker in MARKERS:
        assert marker not in everything
    calls = [json.loads(value) for value in written if b'"m-large"' in value and b'"user_id"' in value]
    streamed = [call for call in calls if call["key_id"] == "key-quiet" and call["output_tokens"] == 7]
    assert len(streamed) == 2, "a streamed answer has its usage too"
    assert {call["client_ip"] for call in calls} == {"127.0.0.0/24"}
    assert {call["org_id"] for call in calls} == {"acme"}
    assert {call["gateway"] for call in calls} == {socket.gethostname()}


async def test_a_proxy_that_may_not_write_answers_as_ever_and_says_so(secured: Secured, tmp_path: Path) -> None:
    chosen = {
        name: value for name, value in environment(secured.settings("stranger")).items() if name.startswith("OVERDRAW_")
    }
    with Model() as model:
        proxy = Proxy(tmp_path, free_port(), model.url, ["stream.litellm.handler"], **chosen).wait_ready()
        try:
            assert [proxy.call(QUIET, max_tokens=7) for _ in range(5)] == [200] * 5
            # once a minute it says why calls are missing: this may be the second reason, after a broker that was slow
            right = f"grant its user the right Write on {secured.settings().source_topic}"
            eventually(lambda: right in proxy.said(), 180, "a word about it")
        finally:
            proxy.end()
    assert PASSWORDS["stranger"] not in proxy.said()


def text_of(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


async def test_a_proxy_without_a_broker_answers_as_ever(tmp_path: Path) -> None:
    with Model() as model:
        chosen = {"OVERDRAW_BROKER": f"127.0.0.1:{free_port()}"}
        proxy = Proxy(tmp_path, free_port(), model.url, ["stream.litellm.handler"], **chosen).wait_ready()
        try:
            assert [proxy.call(QUIET, max_tokens=7) for _ in range(20)] == [200] * 20
            eventually(lambda: "has no broker" in proxy.said(), 180, "a word about it")
        finally:
            proxy.end()
    assert "Traceback" not in proxy.said()


def test_wrong_settings_stop_the_proxy_with_a_word(tmp_path: Path) -> None:
    with Model() as model:
        proxy = Proxy(
            tmp_path, free_port(), model.url, ["stream.litellm.handler"], OVERDRAW_BROKER="nowhere"
        )  # fmt: skip
        try:
            eventually(lambda: proxy.process.poll() is not None, 180, "the end")
        finally:
            proxy.end()
    assert "must be host:port" in proxy.said()
