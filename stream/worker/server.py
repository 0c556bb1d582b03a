"""An HTTP server of ours: a token before every answer, health, metrics. Read-only."""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from stream.settings import Settings, SettingsError

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Asked by supervisors that have no token; they tell nothing but the process's own state."""
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


class Server:
    """The server; `die(code, message)` ends the process where the port cannot be had. `setting` names the port's."""

    def __init__(
        self,
        settings: Settings,
        registry: CollectorRegistry,
        *,
        unready: Callable[[], list[str]],
        die: Callable[[int, str], None],
        setting: str = "web_port",
    ) -> None:
        self.port = 0
        """The port that it listens on, once it is started."""
        self._settings = settings
        self._registry = registry
        self._unready = unready
        self._die = die
        self._setting = setting
        self._runner: web.AppRunner | None = None
        self._guarded = settings.web_token is not None

    def application(self) -> web.Application:
        """The routes, with the guard before them."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/api/status", self._status)
        return app

    def status(self) -> dict[str, Any]:
        """What `/api/status` says."""
        raise NotImplementedError

    async def start(self) -> None:
        """Listen; the port is logged, for it may be any free one."""
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        host, port = self._settings.web_host, getattr(self._settings, self._setting)
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            self._die(
                EXIT_BAD_INPUT, f"cannot listen on {host}:{port} ({error.strerror}): set {self._setting}, 0 for any"
            )
            return
        self.port = self._runner.addresses[0][1]
        log.info("HTTP on http://%s:%d", f"[{host}]" if ":" in host else host, self.port)

    async def stop(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._guarded and request.path not in OPEN_PATHS and not self._is_known(request):
            response: web.StreamResponse = json_answer({"error": "send Authorization: Bearer <web_token>"}, status=401)
            response.headers["WWW-Authenticate"] = 'Bearer realm="overdraw"'
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = json_answer({"error": error.reason}, status=error.status)
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

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def _healthz(self, _: web.Request) -> web.Response:
        return json_answer({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        reasons = self._unready()
        return json_answer({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def _status(self, _: web.Request) -> web.Response:
        return json_answer(self.status())


def json_answer(content: Any, status: int = 200) -> web.Response:
    """An answer in JSON."""
    return web.Response(text=json.dumps(content), status=status, content_type="application/json")
