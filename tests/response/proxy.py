"""A LiteLLM proxy as its documentation describes it, on loopback, and alerts to respond to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "notify"))

from aiohttp import web
from services import T0, Service, made_alert

from stream.response.config import ResponseConfig

MASTER = "sk-master-0123456789"
__all__ = ["MASTER", "T0", "Proxy", "config_of", "made_alert"]


class Proxy(Service):
    """Keys by their hash, with what was asked of them; answers that are scripted come first."""

    def __init__(self, *keys: str) -> None:
        super().__init__()
        self.desks: list[Any] = []
        """What has to be closed before it."""
        self.keys: dict[str, dict[str, Any]] = {
            key: {"tpm_limit": None, "rpm_limit": None, "blocked": None} for key in keys
        }
        self.usual = self._answer

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        body = self.requests[-1][1]
        if request.headers.get("Authorization") != f"Bearer {MASTER}":
            return web.json_response({"error": {"message": f"not the master key, {MASTER}"}}, status=401)
        if request.method == "GET":
            assert request.path == "/key/info"
            assert set(request.query) == {"key"}
            key = request.query["key"]
            if key not in self.keys:
                return web.json_response({"detail": {"message": "No key found, passed in: " + key}}, status=404)
            return web.json_response({"key": key, "info": {"models": [], "spend": 1.5, **self.keys[key]}})
        assert request.content_type == "application/json"
        said = json.loads(body)
        key = said.pop("key")
        if key not in self.keys:
            return web.json_response({"error": {"message": "Key not found.", "code": "404"}}, status=404)
        if request.path == "/key/update":
            assert said
            assert set(said) <= {"tpm_limit", "rpm_limit"}
            assert all(value is None or (isinstance(value, int) and value > 0) for value in said.values())
            self.keys[key] |= said
        else:
            assert request.path in ("/key/block", "/key/unblock"), request.path
            assert said == {}
            self.keys[key]["blocked"] = request.path == "/key/block"
        return web.json_response({"key": key, **self.keys[key]})

    def asked(self) -> list[str]:
        """What was asked, without what was only looked at."""
        return [request.path for request, _ in self.requests if request.method == "POST"]


def config_of(url: str = "http://127.0.0.1:1", **more: Any) -> ResponseConfig:
    """To be applied at a LiteLLM proxy."""
    gateways = {"proxy": {"type": "litellm", "url": url, "key_env": "LITELLM_KEY", "timeout_seconds": 0.5}}
    return ResponseConfig.model_validate({"mode": "apply", "gateways": gateways, **more})
