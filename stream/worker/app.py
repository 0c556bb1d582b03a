"""`build_app`: the Faust app with its topics, the shards, the intake, the monitor, the metrics and the HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import faust
from faust.app.base import BootStrategy
from prometheus_client import CollectorRegistry

from stream import collector
from stream.core.shard import Shard
from stream.partition import partition_of
from stream.security import faust_options
from stream.settings import Settings
from stream.worker import logs
from stream.worker.agents import Intake, add_agent
from stream.worker.control.word import Word
from stream.worker.ending import Exit
from stream.worker.group import FaustGroup
from stream.worker.keepers import Keepers
from stream.worker.live_metrics import LiveCollector
from stream.worker.metrics import Metrics
from stream.worker.monitor import Monitor
from stream.worker.partitions import Partitions
from stream.worker.process import NoTables, worker_class
from stream.worker.records import use_light_records
from stream.worker.repartition import Intakes
from stream.worker.server import check_web
from stream.worker.shards import Shards
from stream.worker.tools import Tools
from stream.worker.transport import install
from stream.worker.unpacking import bound_unpacking
from stream.worker.web import Web

REBALANCE_SECONDS = 30.0
REQUEST_SECONDS = 40.0
HEARTBEAT_SECONDS = 2.0
BUFFERED_CHUNKS = 16
FETCH_BYTES = 1 << 20
BEAT_SECONDS = 1.0

log = logging.getLogger(__name__)


class _Boot(BootStrategy):
    """Without Faust's web server: it binds to all interfaces, and its command line switches it on."""

    enable_web = False


class DetectorApp(faust.App):
    """A Faust app that runs the detector beside its own services; made by `build_app`."""

    logger = logging.getLogger("faust.app")
    BootStrategy = _Boot
    detector: Detector

    def _create_directories(self) -> None:
        """None: all state is in Kafka."""

    async def on_first_start(self) -> None:
        """HTTP and the watchdog come first: they tell why the rest does not."""
        await super().on_first_start()
        await self.detector.start()

    async def on_stop(self) -> None:
        """Write and close everything while the consumer still lives, then let Faust stop."""
        await self.detector.stop()
        await super().on_stop()


class Detector:
    """Everything of a worker that is not Faust's: its parts, and their start and stop."""

    def __init__(
        self, app: Any, settings: Settings, core: Callable[[int], Shard], ending: Exit, *, rebuild: bool = False
    ) -> None:
        self.settings = settings
        self.ending = ending
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.group = FaustGroup(app, settings.source_topic)
        tools = Tools(
            settings,
            self.group,
            self.metrics,
            core=core,
            die=ending.die,
            lose=ending.lose,
            heartbeat_seconds=app.conf.broker_heartbeat_interval,
            rebuild=rebuild,
        )
        self.shards = Shards(tools)
        intake = settings.intake_topic
        self.intakes = Intakes(tools, intake, FaustGroup(app, intake)) if intake is not None else None
        self.keepers = Keepers(tools, FaustGroup(app, settings.group_evidence_topic))
        self.monitor = Monitor(tools, self.shards, intakes=self.intakes, keepers=self.keepers)
        self.word = Word(settings, self.shards)
        self.registry.register(LiveCollector(self.shards, self.monitor, settings))
        self.web = Web(settings, self.shards, self.monitor, self.registry, die=ending.die, word=self.word)
        self._tasks: list[asyncio.Task[None]] = []
        self._stop: asyncio.Task[None] | None = None

    @property
    def held(self) -> dict[str, Partitions[Any]]:
        """The partitions in this worker's hands, by topic."""
        held: dict[str, Partitions[Any]] = {
            self.settings.source_topic: self.shards,
            self.settings.group_evidence_topic: self.keepers,
        }
        if self.intakes is not None and self.settings.intake_topic is not None:
            held[self.settings.intake_topic] = self.intakes
        return held

    async def start(self) -> None:
        """Start what runs beside the agents."""
        collector.calm()
        await self.web.start()
        runs = (held.run for held in self.held.values())
        self._tasks = [
            asyncio.create_task(self._guard(work)) for work in (*runs, self.monitor.run, self.word.run, self._beat)
        ]

    async def _guard(self, work: Callable[[], Any]) -> None:
        """The flushes and the watchdog must not end unseen."""
        try:
            await work()
        except Exception as error:
            log.critical("%s failed", work.__qualname__, exc_info=error)
            self.ending.at_once(1)

    async def _beat(self) -> None:
        """Show that the loop turns; see `Exit`."""
        while True:
            self.ending.beat()
            logs.LIKEWISE.tell()
            await asyncio.sleep(BEAT_SECONDS)

    async def stop(self) -> None:
        """Flush, close and leave, within the limit that `Exit` sets; whoever calls again waits for the same stop."""
        self.ending.arm()
        if self._stop is None:
            self._stop = asyncio.create_task(self._close())
        await asyncio.shield(self._stop)

    async def _close(self) -> None:
        written = all(await asyncio.gather(*(held.close() for held in self.held.values())))
        await self.shards.leave()
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.web.stop()
        self.ending.closed()
        log.info("stopped: %s", "all that was applied is written" if written else "the rest is read again next time")


def build_app(
    settings: Settings,
    *,
    core: Callable[[int], Shard] | None = None,
    ending: Exit | None = None,
    rebuild: bool = False,
) -> DetectorApp:
    """The worker's Faust app; its `detector` holds the parts.

    core: makes the shard of a partition; None: the real one
    ending: how the process ends; tests hand in one that does not
    rebuild: learn states again that cannot be used, instead of refusing them

    Raises SettingsError if the HTTP server would be open to others without a token, or if a password or certificate
    cannot be read.
    """
    check_web(settings)
    bound_unpacking()
    use_light_records()
    ending = ending or Exit()
    members: dict[str, Any] = {}
    if settings.instance_id is not None:
        members["consumer_group_instance_id"] = settings.instance_id
    app = DetectorApp(
        settings.app_id,
        **faust_options(settings),
        store="memory://",
        topic_partitions=settings.partitions,
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        autodiscover=False,
        processing_guarantee="at_least_once",
        broker_session_timeout=settings.session_timeout_seconds,
        broker_heartbeat_interval=min(HEARTBEAT_SECONDS, settings.session_timeout_seconds / 3),
        broker_rebalance_timeout=REBALANCE_SECONDS,
        broker_request_timeout=max(REQUEST_SECONDS, settings.session_timeout_seconds + 10),
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=FETCH_BYTES,
        stream_wait_empty=False,
        stream_recovery_delay=0,
        stream_buffer_maxsize=BUFFERED_CHUNKS,
        TableManager=NoTables,
        table_standby_replicas=1,  # there are no tables: this only selects Faust's sticky assignor
        worker_redirect_stdouts=False,
        Worker=worker_class(settings, ending),
        **members,
    )

    def real_core(partition: int) -> Shard:
        return Shard(partition, settings, partition_of=lambda key_id: partition_of(key_id, settings.partitions))

    detector = app.detector = Detector(app, settings, core or real_core, ending, rebuild=rebuild)
    topics = install(app, detector.held)
    add_agent(app, "detect", topics[settings.source_topic], Intake(detector.shards).take)
    add_agent(app, "keep", topics[settings.group_evidence_topic], detector.keepers.take)
    if detector.intakes is not None and settings.intake_topic is not None:
        add_agent(app, "repartition", topics[settings.intake_topic], detector.intakes.take)

    async def on_assigned(_: Any, assigned: Any, **__: Any) -> None:
        for topic, held in detector.held.items():
            held.on_assigned(tp.partition for tp in assigned if tp.topic == topic)

    async def on_revoked(_: Any, revoked: Any, **__: Any) -> None:
        await asyncio.gather(*(held.on_revoked() for held in detector.held.values()))

    app.on_partitions_assigned.connect(on_assigned)
    app.on_partitions_revoked.connect(on_revoked)
    return app
