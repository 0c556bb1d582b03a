"""Alerts to tell of, a service on loopback that answers as a test says, and what each service's documentation asks."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from stream.alerts import (
    Alert,
    Baseline,
    ChannelScore,
    DataQuality,
    Entity,
    Links,
    Member,
    Members,
    Window,
    alert_id_of,
    fingerprint_of,
)
from stream.notify.config import NotifyConfig, Secrets, secrets_of
from stream.notify.service import Notifier
from stream.notify.services import notifier_of

T0 = 1_772_323_200.0
KEY = "0123456789abcdef0123456789abcdef"
SIGNING = "signing-secret-of-the-tests"
EVIL = '<!channel> *b* _i_ `c` ~s~ <http://evil|x> & "q" \n\x1b[31m\u202e$(rm) {{.}} ' + "x" * 300


def made_alert(
    key: str = "key-17", status: str = "opened", severity: str = "high", at: float = T0, **changes: Any
) -> Alert:
    entity = changes.pop("entity", Entity(type="key", id=key))
    started = changes.pop("started_at", T0 - 600)
    values: dict[str, Any] = {
        "alert_id": alert_id_of(entity, started),
        "fingerprint": fingerprint_of(entity),
        "sequence": 0 if status == "opened" else 1,
        "status": status,
        "severity": severity,
        "severity_reason": "two million tokens above the baseline",
        "kind": "surge",
        "entity": entity,
        "started_at": started,
        "detected_at": at,
        "updated_at": at,
        "resolved_at": at if status == "resolved" else None,
        "window": Window(start=at - 600, end=at, horizon_seconds=600),
        "observed": 105_180,
        "expected": 2_319,
        "upper": 9_000,
        "ratio": 45.3,
        "z": 5.1,
        "score": 0.999,
        "false_alarm_probability": 0.001,
        "excess_tokens": 2_100_000,
        "excess_output_tokens": 900_000,
        "excess_per_hour": 630_000,
        "excess_cost_usd": 12.5,
        "channels": [ChannelScore(name="surge", z=5.1), ChannelScore(name="jump", z=3.2)],
        "baseline": Baseline(age_seconds=86_400, active_days=21, maturity=0.9, learning=0.15),
        "data_quality": DataQuality(missing_usage=0.2, late=0, duplicates=0, lag_seconds=1),
        "summary": f"key {entity.id} uses 45.3 × its expected tokens",
        "suggested_action": "Ask the owner of the key.",
        "links": Links(dashboard=f"https://grafana/d/overdraw-key?var-key={key[:3]}", runbook="https://wiki/surge"),
        "config_digest": "0123456789abcdef",
    }
    return Alert(**{**values, **changes})


ALERTS = {
    "an opened one": made_alert(),
    "an update": made_alert(status="updated", severity="critical"),
    "a resolved one": made_alert(status="resolved"),
    "a resolved one by a clock that is fast": made_alert(status="resolved", at=T0 + 200, started_at=T0 + 100),
    "ids that carry markup": made_alert(key=EVIL[:256], summary=EVIL, severity_reason=EVIL, suggested_action=EVIL),
    "ids that carry markup, resolved": made_alert(key=EVIL[:256], status="resolved", summary=EVIL),
    "nothing was expected": made_alert(ratio=None, expected=0.0, excess_cost_usd=None, false_alarm_probability=0.0),
    "a blind detector": made_alert(
        kind="feed", entity=Entity(type="partition", id="3"), severity="warning", channels=[]
    ),
    "a group": made_alert(
        kind="campaign",
        entity=Entity(type="network", id="192.0.2.0/24"),
        members=Members(count=900, top=[Member(key_id=EVIL[:256], z=3.0, excess_tokens=1.0)] * 20),
        baseline=None,
    ),
    "a backlog": made_alert(historical=True, severity="warning"),
    "links that are none": made_alert(links=Links(dashboard="javascript:alert(1)", runbook="https://a:b@wiki/x")),
    "info": made_alert(severity="info", links=Links()),
}


class Service:
    """An HTTP server that keeps what it is sent and answers as told: a status, headers and body, or something worse."""

    def __init__(self) -> None:
        self.requests: list[tuple[web.BaseRequest, bytes]] = []
        self.script: list[Any] = []
        """Answers to the next requests, in turn: a callable, or (status, headers, body); then `usual`."""
        self.usual: Any = (200, {}, b"ok")
        self.written = 0
        self.url = ""

    async def start(self) -> Service:
        self._server = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._server.setup()
        site = web.TCPSite(self._server, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._server.addresses[0][1]}"
        return self

    async def stop(self) -> None:
        await self._server.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append((request, await request.read()))
        answer = self.script.pop(0) if self.script else self.usual
        if callable(answer):
            return await answer(request)
        status, headers, body = answer
        return web.Response(status=status, headers=headers, body=body)

    async def hang(self, _: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async def disconnect(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def endless(self, request: web.BaseRequest) -> web.StreamResponse:
        """A gigabyte, if somebody reads it."""
        response = web.StreamResponse(status=500, headers={"Content-Encoding": "gzip"})
        await response.prepare(request)
        for _ in range(1 << 14):
            await response.write(b"\0" * (1 << 16))
            self.written += 1 << 16
        return response

    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, body in self.requests]


def config_of(url: str, **more: Any) -> NotifyConfig:
    """A file with one notifier of each type, all at this address."""
    common = {"timeout_seconds": 5, **more}
    return NotifyConfig.model_validate(
        {
            "notifiers": {
                "am": {"type": "alertmanager", "url": url, "labels": {"team": "llm"}, **common},
                "pd": {"type": "pagerduty", "url": f"{url}/v2/enqueue", "routing_key_env": "PD_KEY", **common},
                "chat": {"type": "slack", "url_env": "SLACK_URL", **common},
                "bus": {"type": "webhook", "url": f"{url}/hook", "secret_env": "SIGNING", **common},
            },
            "owners": {"acme": ["key-17", "acme-*"]},
        }
    )


def alone(**more: Any) -> NotifyConfig:
    """A file with a Slack and nothing else: it has to be the pager as well."""
    return NotifyConfig.model_validate({"notifiers": {"chat": {"type": "slack", "url_env": "SLACK_URL", **more}}})


def environ_of(url: str) -> dict[str, str]:
    return {"PD_KEY": KEY, "SLACK_URL": f"{url}/services/T000/B000/{KEY}", "SIGNING": SIGNING}


def made(url: str, name: str, **more: Any) -> tuple[Notifier, Secrets]:
    config = config_of(url, **more)
    secrets = secrets_of(config, name, environ_of(url))
    return notifier_of(config, name, secrets), secrets


# ---------------------------------------------------------------------- what the documentation asks


def is_moment(text: str) -> datetime:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", text), text
    return datetime.fromisoformat(text)


def is_url(text: str) -> None:
    parts = urlsplit(text)
    assert parts.scheme in ("http", "https"), text
    assert parts.netloc
    assert "@" not in parts.netloc


def check_alertmanager(request: web.BaseRequest, body: bytes) -> None:
    assert (request.path, request.content_type) == ("/api/v2/alerts", "application/json")
    for alert in json.loads(body):
        assert set(alert) <= {"labels", "annotations", "startsAt", "endsAt", "generatorURL"}
        for name, text in {**alert["labels"], **alert["annotations"]}.items():
            assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name)
            assert isinstance(text, str)
            assert text, "an empty label is no label, an empty annotation says nothing"
            assert "\x1b" not in text
        assert alert["labels"]["alertname"]
        assert not {"severity", "kind"} & set(alert["labels"]), "they may change, and then it would be another alert"
        assert is_moment(alert["startsAt"]) <= is_moment(alert["endsAt"])
        for name in ("dashboard_url", "runbook_url"):
            if name in alert["annotations"]:
                is_url(alert["annotations"][name])


def check_pagerduty(request: web.BaseRequest, body: bytes) -> None:
    assert (request.path, request.content_type) == ("/v2/enqueue", "application/json")
    assert len(body) < 512_000
    event = json.loads(body)
    assert set(event) <= {"routing_key", "event_action", "dedup_key", "payload", "client", "client_url", "links"}
    assert event["routing_key"] == KEY
    assert event["event_action"] in {"trigger", "resolve"}
    assert 0 < len(event["dedup_key"]) <= 255
    if event["event_action"] == "trigger":
        payload = event["payload"]
        assert set(payload) <= {
            "summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details",
        }  # fmt: skip
        assert 0 < len(payload["summary"]) <= 1024
        assert payload["source"]
        assert payload["severity"] in {"critical", "error", "warning", "info"}
        is_moment(payload["timestamp"])
        for link in event.get("links", []):
            assert set(link) == {"href", "text"}
            is_url(link["href"])


def check_slack(request: web.BaseRequest, body: bytes) -> None:
    assert request.path.startswith("/services/")
    assert request.content_type == "application/json"
    message = json.loads(body)
    assert 0 < len(message["text"]) <= 3000
    assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", message["text"])
    assert 0 < len(message["blocks"]) <= 50
    for block in message["blocks"]:
        texts = [block["text"]] if "text" in block else []
        if block["type"] == "header":
            assert block["text"]["type"] == "plain_text"
            assert len(block["text"]["text"]) <= 150
        else:
            assert block["type"] == "section"
            fields = block.get("fields", [])
            assert texts or fields
            assert len(fields) <= 10
            assert all(len(field["text"]) <= 2000 for field in fields)
            texts += fields
        for text in texts:
            assert 0 < len(text["text"]) <= 3000
            assert not re.search(r"&(?!amp;|lt;|gt;)", re.sub(r"<[^>]*>", "", text["text"]))
            if text["type"] == "plain_text":
                assert text["emoji"] is False
                assert not re.search(r"[<>]", text["text"])
            else:
                links = re.findall(r"<([^|>]*)\|[A-Za-z]+>", text["text"])
                assert not re.search(r"[<>]", re.sub(r"<[^|>]*\|[A-Za-z]+>", "", text["text"]))
                for link in links:
                    is_url(link)


def check_webhook(request: web.BaseRequest, body: bytes) -> None:
    assert request.path == "/hook"
    assert request.content_type == "application/cloudevents+json"
    event = json.loads(body)
    assert {"specversion", "id", "source", "type"} <= set(event)
    assert event["specversion"] == "1.0"
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", name) for name in event)
    assert all(event[name] for name in ("id", "source", "type"))
    is_moment(event["time"])
    if event["type"] != "overdraw.digest":
        Alert.model_validate(event["data"])


CHECKS: dict[str, Callable[[web.BaseRequest, bytes], None]] = {
    "am": check_alertmanager,
    "pd": check_pagerduty,
    "chat": check_slack,
    "bus": check_webhook,
}
