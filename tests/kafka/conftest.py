"""One real Kafka for all tests in this folder (in each process of them), and names that no other test uses."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stream.broker import EmbeddedKafka
from stream.settings import Settings, load_settings
from tests.kafka.workers import Start, Worker

HERE = Path(__file__).parent
CACHE = load_settings().data_dir
FLUSH_SECONDS = 2.0
"""Of workers on a broker that is hurt: right after the feeding it finds something unwritten."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("kafka")


@pytest.fixture(scope="session")
def kafka() -> Iterator[EmbeddedKafka]:
    """The broker of this process's session: leave it running; a test that stops or kills one makes its own."""
    with EmbeddedKafka(cache_dir=CACHE) as broker:
        yield broker


@pytest.fixture
def fresh_name() -> str:
    """A name for topics, groups and transactions that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def settings(kafka: EmbeddedKafka, fresh_name: str) -> Settings:
    """Settings on the session's broker with topics of this test's own (not created yet) and two partitions."""
    return load_settings(
        {
            "broker": kafka.bootstrap,
            "app_id": fresh_name,
            "source_topic": f"{fresh_name}-calls",
            "alert_topic": f"{fresh_name}-alerts",
            "dead_letter_topic": f"{fresh_name}-dead",
            "state_topic": f"{fresh_name}-state",
            "group_evidence_topic": f"{fresh_name}-evidence",
            "group_state_topic": f"{fresh_name}-groups",
            "control_topic": f"{fresh_name}-control",
            "partitions": 2,
            "web_port": 0,
        },
        environ={},
    )


@pytest.fixture
def fragile(settings: Settings) -> Iterator[tuple[EmbeddedKafka, Settings]]:
    """A broker of this test's own, to be hurt, and settings on it."""
    with EmbeddedKafka(cache_dir=CACHE) as broker:
        changes = {"broker": broker.bootstrap, "session_timeout_seconds": 6.0, "flush_seconds": FLUSH_SECONDS}
        yield broker, settings.model_copy(update=changes)


@pytest.fixture(autouse=True)
def _shared_jars(monkeypatch: pytest.MonkeyPatch) -> None:
    """One download for all tests and the commands that they run, wherever the developer keeps it."""
    monkeypatch.setenv("OVERDRAW_DATA_DIR", CACHE)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts workers, and kills those that still run at the end; see `Worker` for what may be said."""
    with ExitStack() as held:

        def run(settings: Settings, *arguments: str, instance: str = "worker-0", before: str = "") -> Worker:
            worker = Worker(settings, tmp_path, instance, *arguments, before=before)
            held.callback(worker.kill)
            return worker

        yield run
