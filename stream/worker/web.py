"""The worker's HTTP server: health, metrics, and what the shards know. Read-only."""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from stream import __version__
from stream.alerts import rfc3339
from stream.core.state import StateError
from stream.core.view import KeyView
from stream.partition import partition_of
from stream.settings import Settings, SettingsError
from stream.worker.intake_watch import IntakeWatch
from stream.worker.live_metrics import top_keys
from stream.worker.monitor import Monitor
from stream.worker.page import render
from stream.worker.shards import Shards

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Asked by supervisors that have no token; they tell nothing but the worker's own state."""
MAX_TOP = 1000
DEFAULT_TOP = 20
EXIT_BAD_INPUT = 2
STOP_SECONDS = 0.5
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that binds to this address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("")
    (True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_web(settings: Settings) -> None:
    """Refuse to be open to others without a token; raises SettingsError."""
    if not is_loopback(settings.web_host) and settings.web_token is None:
        raise SettingsError(
            f"web_host {settings.web_host!r} is reachable from other machines: set web_token (OVERDRAW_WEB_TOKEN), or "
            "set web_host to 127.0.0.1"
        )


def key_json(view: KeyView) -> dict[str, Any]:
    """A key as JSON says it: exact lifetime sums, times in RFC 3339, rates of the last closed bucket."""
    return {**asdict(view), "first_seen": rfc3339(view.first_seen), "last_seen": rfc3339(view.last_seen)}


class Web:
    """The server; `die(code, message)` ends the process where the port cannot be had."""

    def __init__(
        self,
        settings: Settings,
        shards: Shards,
        monitor: Monitor,
        registry: CollectorRegistry,
        *,
        die: Callable[[int, str], None],
    ) -> None:
        self.port = 0
        """The port that it listens on, once it is started."""
        self._settings = settings
        self._shards = shards
        self._monitor = monitor
        self._registry = registry
        self._die = die
        self._runner: web.AppRunner | None = None
        self._started = time.time()
        self._guarded = settings.web_token is not None

    def application(self) -> web.Application:
        """The routes, with the guard before them."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._page)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/api/status", self._status)
        app.router.add_get("/api/alerts", self._alerts)
        app.router.add_get("/api/keys", self._keys)
        app.router.add_get("/api/keys/{key_id:.+}", self._key)
        return app

    async def start(self) -> None:
        """Listen; the port is logged, for it may be any free one."""
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        host, port = self._settings.web_host, self._settings.web_port
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            self._die(EXIT_BAD_INPUT, f"cannot listen on {host}:{port} ({error.strerror}): set web_port, 0 for any")
            return
        self.port = self._runner.addresses[0][1]
        log.info("HTTP on http://%s:%d", f"[{host}]" if ":" in host else host, self.port)

    async def stop(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    # ------------------------------------------------------------------ before every answer

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._guarded and request.path not in OPEN_PATHS and not self._is_known(request):
            response: web.StreamResponse = _json({"error": "send Authorization: Bearer <web_token>"}, status=401)
            response.headers["WWW-Authenticate"] = 'Bearer realm="overdraw"'
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = _json({"error": error.reason}, status=error.status)
                if "Allow" in error.headers:
                    response.headers["Allow"] = error.headers["Allow"]
        response.headers.update(HEADERS)
        return response

    def _is_known(self, request: web.Request) -> bool:
        token = self._settings.web_token
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        expected = token.get_secret_value().encode() if token is not None else b""
        same = hmac.compare_digest(sent.strip().encode("utf-8", "surrogateescape"), expected)
        return token is not None and scheme.lower() == "bearer" and same

    # ------------------------------------------------------------------ answers

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def _healthz(self, _: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        reasons = self._monitor.unready()
        return _json({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

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
                    "recovery_seconds": round(shard.recovery_seconds, 3),
                }
                for shard in shards
            ],
            **({"intake": _intake(self._monitor.intake)} if self._monitor.intake is not None else {}),
        }

    async def _status(self, _: web.Request) -> web.Response:
        return _json(self.status())

    async def _alerts(self, _: web.Request) -> web.Response:
        alerts = [alert for shard in self._shards.live.values() for alert in shard.open.values()]
        alerts.sort(key=lambda alert: (alert.started_at, alert.alert_id))
        return _json({"alerts": [alert.model_dump(mode="json") for alert in alerts]})

    async def _keys(self, request: web.Request) -> web.Response:
        text = request.query.get("top", str(DEFAULT_TOP))
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_TOP:
            return _json({"error": f"top must be a number from 1 to {MAX_TOP}"}, status=400)
        return _json({"keys": [key_json(view) for view in top_keys(self._shards, int(text))]})

    async def _key(self, request: web.Request) -> web.Response:
        key_id = request.match_info["key_id"]
        try:
            partition = partition_of(key_id, self._settings.partitions)
        except UnicodeEncodeError:
            return _json({"error": "the key id is not UTF-8"}, status=400)
        shard = self._shards.live.get(partition)
        if shard is None:
            text = f"the key belongs to partition {partition}, which this worker does not hold: ask the one that does"
            return _json({"error": text, "partition": partition}, status=404)
        try:
            view = shard.core.key(key_id)
        except StateError as error:  # it ends the worker as soon as the key is needed; a question does not
            return _json({"error": str(error), "partition": partition}, status=500)
        if view is None:
            return _json({"error": "the key was never seen", "partition": partition}, status=404)
        return _json({**key_json(view), "partition": partition})

    async def _page(self, _: web.Request) -> web.Response:
        alerts = [alert for shard in self._shards.live.values() for alert in shard.open.values()]
        text = render(self.status(), alerts, top_keys(self._shards, DEFAULT_TOP))
        return web.Response(text=text, content_type="text/html", charset="utf-8")


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


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(content), status=status, content_type="application/json")
