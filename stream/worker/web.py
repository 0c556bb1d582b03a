"""The worker's HTTP server: health, metrics, and what the shards know. Read-only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from stream import __version__
from stream.alerts import Alert, rfc3339
from stream.core.campaign import HOUR
from stream.core.groupview import GroupView
from stream.core.state import StateError
from stream.core.view import KeyView
from stream.partition import partition_of
from stream.settings import Settings
from stream.worker.control.word import Word
from stream.worker.intake_watch import IntakeWatch
from stream.worker.keeper_watch import KeeperWatch
from stream.worker.live_metrics import open_of, top_keys
from stream.worker.monitor import Monitor
from stream.worker.page import render
from stream.worker.server import Server, json_answer
from stream.worker.shards import Shards

MAX_TOP = 1000
DEFAULT_TOP = 20


def key_json(view: KeyView) -> dict[str, Any]:
    """A key as JSON says it: exact lifetime sums, times in RFC 3339, rates of the last closed bucket."""
    return {**asdict(view), "first_seen": rfc3339(view.first_seen), "last_seen": rfc3339(view.last_seen)}


def group_json(view: GroupView) -> dict[str, Any]:
    """A group as JSON says it: rates and the excess are of about a day."""
    return {**asdict(view), "first_seen": rfc3339(view.first_seen), "last_seen": rfc3339(view.last_seen)}


class Web(Server):
    """The worker's server."""

    def __init__(
        self,
        settings: Settings,
        shards: Shards,
        monitor: Monitor,
        registry: CollectorRegistry,
        *,
        die: Callable[[int, str], None],
        word: Word | None = None,
    ) -> None:
        super().__init__(settings, registry, unready=monitor.unready, die=die)
        self._word = word
        self._shards = shards
        self._monitor = monitor
        self._started = time.time()

    def application(self) -> web.Application:
        """The routes, with the guard before them."""
        app = super().application()
        app.router.add_get("/", self._page)
        app.router.add_get("/api/alerts", self._alerts)
        app.router.add_get("/api/keys", self._keys)
        app.router.add_get("/api/keys/{key_id:.+}", self._key)
        app.router.add_get("/api/groups", self._groups)
        return app

    def status(self) -> dict[str, Any]:
        """What `/api/status` says."""
        reasons = self._monitor.unready()
        shards = [shard for _, shard in sorted(self._shards.live.items())]
        return {
            "version": __version__,
            "app_id": self._settings.app_id,
            "instance_id": self._settings.instance_id,
            "started": rfc3339(round(self._started)),
            "ready": not reasons,
            "reasons": reasons,
            "outage": self._monitor.outage.active,
            "assigned": None if self._shards.assigned is None else sorted(self._shards.assigned),
            "recovering": [
                {
                    "partition": partition,
                    "share": round(state.share, 3),
                    "offsets": state.end - state.begin,
                    "records": state.records,
                    "bytes": state.bytes,
                }
                for partition, state in sorted(self._shards.reading.items())
            ],
            "partitions": [
                {
                    "partition": shard.partition,
                    "live": shard.live,
                    "applied": shard.core.applied,
                    "committed": shard.committed,
                    "lag": self._monitor.lag(shard.partition),
                    "watermark": _moment(shard.core.watermark),
                    "newest": _moment(shard.core.newest),
                    "keys": len(shard.core),
                    "open_incidents": len(shard.open),
                    "heard": shard.heard[1] if shard.heard is not None else None,
                    "recovery_seconds": round(shard.recovery_seconds, 3),
                }
                for shard in shards
            ],
            **({"groups": _keeping(self._monitor.keeping)} if self._monitor.keeping is not None else {}),
            **({"control": _control(self._word)} if self._word is not None else {}),
            **({"intake": _intake(self._monitor.intake)} if self._monitor.intake is not None else {}),
        }

    async def _alerts(self, _: web.Request) -> web.Response:
        alerts = _by_start(open_of(self._shards, self._monitor))
        return json_answer({"alerts": [alert.model_dump(mode="json") for alert in alerts]})

    async def _keys(self, request: web.Request) -> web.Response:
        count = _top(request)
        if count is None:
            return _bad_top()
        return json_answer({"keys": [key_json(view) for view in top_keys(self._shards, count)]})

    async def _groups(self, request: web.Request) -> web.Response:
        count = _top(request)
        if count is None:
            return _bad_top()
        watch = self._monitor.keeping
        keeper = watch.keepers.keeper if watch is not None else None
        if keeper is None:
            text = "this worker does not keep the groups: ask the one that does (`groups` in its /api/status)"
            return json_answer({"error": text}, status=404)
        async with keeper.turn:  # while an hour is being closed nobody may look
            views = keeper.core.top(count)
        return json_answer(
            {
                "groups": [group_json(view) for view in views],
                "campaigns": [alert.model_dump(mode="json") for alert in _by_start(keeper.open.values())],
            }
        )

    async def _key(self, request: web.Request) -> web.Response:
        key_id = request.match_info["key_id"]
        try:
            partition = partition_of(key_id, self._settings.partitions)
        except UnicodeEncodeError:
            return json_answer({"error": "the key id is not UTF-8"}, status=400)
        shard = self._shards.live.get(partition)
        if shard is None:
            text = f"the key belongs to partition {partition}, which this worker does not hold: ask the one that does"
            return json_answer({"error": text, "partition": partition}, status=404)
        try:
            view = shard.core.key(key_id)
        except StateError as error:  # it ends the worker as soon as the key is needed; a question does not
            return json_answer({"error": str(error), "partition": partition}, status=500)
        if view is None:
            return json_answer({"error": "the key was never seen", "partition": partition}, status=404)
        return json_answer({**key_json(view), "partition": partition})

    async def _page(self, _: web.Request) -> web.Response:
        alerts = open_of(self._shards, self._monitor)
        text = render(self.status(), alerts, top_keys(self._shards, DEFAULT_TOP))
        return web.Response(text=text, content_type="text/html", charset="utf-8")


def _top(request: web.Request) -> int | None:
    """How many are asked for; None if that is no number within the limits."""
    text = request.query.get("top", str(DEFAULT_TOP))
    return int(text) if text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_TOP else None


def _by_start(alerts: Iterable[Alert]) -> list[Alert]:
    return sorted(alerts, key=lambda alert: (alert.started_at, alert.alert_id))


def _bad_top() -> web.Response:
    return json_answer({"error": f"top must be a number from 1 to {MAX_TOP}"}, status=400)


def _keeping(watch: KeeperWatch) -> dict[str, Any] | None:
    """The keeper of the groups; None if another worker has it."""
    keeper = watch.keepers.live.get(0)
    if keeper is None:
        return None
    return {
        "live": keeper.live,
        "committed": keeper.committed,
        "lag": watch.lag(),
        "closed": _moment(keeper.core.next_hour * HOUR),
        "groups": keeper.tracked,
        "open_campaigns": len(keeper.open),
        "waits_for": [] if keeper.busy else sorted(keeper.core.behind()),
        "recovery_seconds": round(keeper.recovery_seconds, 3),
    }


def _control(word: Word) -> dict[str, Any]:
    return {"offset": word.topic.offset, "trouble": word.topic.trouble}


def _intake(watch: IntakeWatch) -> list[dict[str, Any]]:
    return [
        {
            "partition": held.partition,
            "live": held.live,
            "committed": held.committed,
            "lag": watch.lag(held.partition),
            "newest": _moment(held.front),
            "waiting": held.waiting,
            "recovery_seconds": round(held.recovery_seconds, 3),
        }
        for _, held in sorted(watch.intakes.live.items())
    ]


def _moment(seconds: float) -> str | None:
    return rfc3339(seconds) if seconds > 0 else None
