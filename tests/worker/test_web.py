from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout
from prometheus_client import CollectorRegistry

from stream.core.state import StateError
from stream.settings import SettingsError
from stream.worker.live_metrics import LiveCollector
from stream.worker.metrics import Metrics
from stream.worker.monitor import Monitor
from stream.worker.server import check_web
from stream.worker.web import Web
from tests.worker.fakes import T0, Bench, call, make_settings

EVIL = 'k"><script>alert(1)</script>\x1b[31m'


class Served(Bench):
    """A bench with its HTTP server on a free port."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(partitions=2, web_port=0, **changes)
        registry = CollectorRegistry()
        object.__setattr__(self.tools, "observer", Metrics(registry))
        object.__setattr__(self.tools, "core", self._core)
        self.monitor = Monitor(self.tools, self.shards)
        registry.register(LiveCollector(self.shards, self.monitor, self.settings))
        self.web = Web(self.settings, self.shards, self.monitor, registry, die=self.tools.die)

    def _core(self, partition: int) -> Any:
        from stream.core.shard import Shard
        from stream.partition import partition_of

        return Shard(partition, self.settings, partition_of=lambda key_id: partition_of(key_id, 2))

    async def get(self, path: str, **options: Any) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.web.port}{path}"
        async with ClientSession(timeout=ClientTimeout(5)) as session, session.get(url, **options) as answer:
            return answer.status, await answer.text()

    async def json(self, path: str, **options: Any) -> tuple[int, Any]:
        status, text = await self.get(path, **options)
        return status, json.loads(text)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    bench = Served()
    await bench.web.start()
    yield bench
    await bench.web.stop()


def key_on(partition: int) -> str:
    from stream.partition import partition_of

    return next(f"key {i}/ü" for i in range(99) if partition_of(f"key {i}/ü", 2) == partition)


async def test_health_is_the_process_and_readiness_says_why_not(served: Served) -> None:
    assert await served.json("/healthz") == (200, {"status": "ok"})
    status, answer = await served.json("/readyz")
    assert status == 503
    assert "no partitions are assigned yet" in answer["reasons"][0]
    await served.assign(0, 1)
    assert await served.json("/readyz") == (200, {"ready": True, "reasons": []})


async def test_a_keys_lifetime_sums_are_exact(served: Served) -> None:
    await served.assign(0, 1)
    key_id = key_on(0)
    await served.take(served.kafka.feed([call(f"e{i}", T0 + i, key_id, tokens=7) for i in range(10)]))
    from urllib.parse import quote

    from yarl import URL

    status, view = await served.json("/api/keys/none")
    assert status == 404
    url = URL(f"http://127.0.0.1:{served.web.port}/api/keys/{quote(key_id, safe='')}", encoded=True)
    async with ClientSession() as session, session.get(url) as answer:
        view = await answer.json()
    assert view["key_id"] == key_id
    assert (view["calls"], view["input_tokens"], view["output_tokens"]) == (10, 70, 10)
    assert (view["first_seen"], view["last_seen"]) == ("2026-03-01T00:00:00Z", "2026-03-01T00:00:09Z")
    assert {"tokens_per_second", "expected_tokens_per_second", "upper_tokens_per_second", "score"} <= set(view)


async def test_a_key_of_a_partition_that_is_held_elsewhere_names_the_partition(served: Served) -> None:
    await served.assign(0)
    status, answer = await served.json(f"/api/keys/{key_on(1).replace('/', '%2F')}")
    assert status == 404
    assert answer["partition"] == 1
    assert "does not hold" in answer["error"]


async def test_a_question_for_a_damaged_key_is_answered_with_what_is_wrong(served: Served) -> None:
    await served.assign(0, 1)

    def key(_: str) -> None:
        raise StateError("a key's model is damaged")

    for shard in served.shards.live.values():
        shard.core.key = key  # type: ignore[method-assign,assignment]
    status, answer = await served.json("/api/keys/k")
    assert (status, answer["error"]) == (500, "a key's model is damaged")


async def test_the_busiest_keys_come_in_order_and_no_more_than_asked(served: Served) -> None:
    await served.assign(0, 1)
    names = [f"k{i}" for i in range(20)]
    from stream.partition import partition_of

    for partition in (0, 1):
        mine = [name for name in names if partition_of(name, 2) == partition]
        values = [call(name, T0, name, tokens=100 * (1 + int(name[1:]))) for name in mine]
        await served.take(served.kafka.feed([*values, call("z", T0 + 75, mine[0])], partition, T0 + 75))
    _, answer = await served.json("/api/keys?top=3")
    assert [view["key_id"] for view in answer["keys"]] == ["k19", "k18", "k17"]


@pytest.mark.parametrize("top", ["0", "-1", "many", "1001", "²", ""])
async def test_a_wrong_number_of_keys_says_what_to_send(served: Served, top: str) -> None:
    status, answer = await served.json(f"/api/keys?top={top}")
    assert status == 400
    assert "number from 1 to 1000" in answer["error"]


async def test_status_tells_of_every_partition(served: Served) -> None:
    await served.assign(0, 1)
    _, status = await served.json("/api/status")
    assert [row["partition"] for row in status["partitions"]] == [0, 1]
    assert status["assigned"] == [0, 1]
    assert status["ready"] is True


async def test_open_incidents_are_alerts_in_the_schema(served: Served) -> None:
    from stream.alerts import Alert
    from stream.worker.feed import lost

    await served.assign(0)
    served.shards.live[0].find("gap", lost(3))
    await served.flush()
    _, answer = await served.json("/api/alerts")
    assert [Alert.model_validate(alert).kind for alert in answer["alerts"]] == ["feed"]


async def test_the_page_escapes_what_it_shows(served: Served) -> None:
    from stream.partition import partition_of

    await served.assign(0, 1)
    home = partition_of(EVIL, 2)
    await served.take(served.kafka.feed([call("a", T0, EVIL), call("b", T0 + 75, EVIL)], home, T0 + 75))
    status, text = await served.get("/")
    assert status == 200
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "\x1b" not in text


async def test_what_is_not_there_or_not_allowed_is_json_too(served: Served) -> None:
    assert (await served.json("/nothing"))[0] == 404
    url = f"http://127.0.0.1:{served.web.port}/api/status"
    async with ClientSession() as session, session.post(url) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET,HEAD"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_metrics_are_in_prometheus_text(served: Served) -> None:
    status, text = await served.get("/metrics")
    assert status == 200
    assert "# TYPE overdraw_events_total counter" in text


def test_a_server_that_others_can_reach_needs_a_token() -> None:
    with pytest.raises(SettingsError, match="set web_token"):
        check_web(make_settings(web_host="0.0.0.0"))
    with pytest.raises(SettingsError, match="set web_token"):
        check_web(make_settings(web_host="::"))
    check_web(make_settings(web_host="0.0.0.0", web_token="t"))
    check_web(make_settings(web_host="::1"))


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
async def test_a_token_that_is_set_is_demanded_on_everything_but_health(host: str) -> None:
    bench = Served(web_host=host, web_token="s3cret-ü")
    await bench.web.start()
    try:
        for path in ("/", "/metrics", "/api/status", "/api/alerts", "/api/keys", "/api/keys/k", "/nothing"):
            assert (await bench.get(path))[0] == 401, path
            for wrong in ("Bearer wrong", "Basic s3cret", "Bearer", "Bearer ", "s3cret-ü"):
                assert (await bench.get(path, headers={"Authorization": wrong}))[0] == 401, (path, wrong)
        assert (await bench.get("/metrics", headers={"Authorization": "Bearer s3cret-ü"}))[0] == 200
        assert (await bench.get("/healthz"))[0] == 200
        assert (await bench.get("/readyz"))[0] == 503
    finally:
        await bench.web.stop()


async def test_a_taken_port_ends_the_process_with_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bench = Served()
        object.__setattr__(
            bench.web, "_settings", bench.settings.model_copy(update={"web_port": taken.getsockname()[1]})
        )
        await bench.web.start()
        await bench.web.stop()
    assert [code for code, _ in bench.deaths] == [2]
    assert "set web_port, 0 for any" in bench.deaths[0][1]
