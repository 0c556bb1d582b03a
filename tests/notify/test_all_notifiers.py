"""The contract of every notifier: what it sends is what the service documents, and what it hears it takes rightly."""

from __future__ import annotations

import hmac
import json
import re
from hashlib import sha256
from typing import Any

import pytest
from pydantic import SecretStr
from services import ALERTS, CHECKS, EVIL, KEY, SIGNING, T0, Service, made, made_alert

from stream.notify.client import MAX_ANSWER_BYTES, Answer, Client
from stream.notify.config import secrets_of
from stream.notify.digest import Digest, Gathered
from stream.notify.message import Message
from stream.notify.secrets import hidden
from stream.notify.service import Request
from stream.notify.services import NOTIFIERS

NAMES = sorted(CHECKS)


def message(alert: Any = None) -> Message:
    return Message(alert or made_alert(), "/overdraw/overdraw/0", "acme", "http://127.0.0.1:9093")


def some_digest(opened: int = 3, resolved: int = 0) -> Digest:
    gathered = Gathered()
    for number in range(opened):
        gathered.add(made_alert(key=f"{EVIL[:200]}{number}", summary=EVIL), T0)
    for _ in range(resolved):
        gathered.add(made_alert(status="resolved"), T0, known=True)
    return gathered.digest("overdraw", [2, 5], opened - resolved, T0)


async def sent(service: Service, name: str, request: Request, **more: Any) -> Answer:
    notifier, secrets = made(service.url, name, **more)
    client = Client(
        notifier, timeout_seconds=more.get("timeout_seconds", 5.0), proxy=None, secrets=list(secrets.values())
    )
    try:
        return await client(request)
    finally:
        await client.close()


def alert_request(service: Service, name: str, alert: Any = None) -> Request:
    return made(service.url, name)[0].alert(message(alert), T0)


def test_every_notifier_is_in_the_suite() -> None:
    assert {made("http://127.0.0.1:1", name)[0].type for name in NAMES} == set(NOTIFIERS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ALERTS)
async def test_what_is_sent_is_what_the_service_documents(service: Service, name: str, what: str) -> None:
    answer = await sent(service, name, alert_request(service, name, ALERTS[what]))
    assert answer.verdict == "delivered"
    ((request, body),) = service.requests
    assert request.method == "POST"
    CHECKS[name](request, body)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("opened", "resolved"), [(3, 0), (3, 3), (0, 3)])
async def test_a_digest_is_what_the_service_documents(service: Service, name: str, opened: int, resolved: int) -> None:
    request = made(service.url, name)[0].digest(some_digest(opened, resolved), T0)
    assert (await sent(service, name, request)).verdict == "delivered"
    CHECKS[name](*service.requests[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_end_of_an_incident_has_the_identity_of_its_beginning(name: str) -> None:
    def identity(alert: Any) -> Any:
        body = json.loads(made("http://127.0.0.1:1", name)[0].alert(message(alert), T0).body)
        if name == "am":
            return body[0]["labels"]
        return body["dedup_key"] if name == "pd" else body["subject"] if name == "bus" else None

    opened, worse = made_alert(severity="warning"), made_alert(status="updated", severity="critical", kind="drift")
    assert identity(opened) == identity(worse) == identity(made_alert(status="resolved", kind="drift"))
    if name != "chat":
        assert identity(opened) != identity(made_alert(key="another"))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "chat"])
def test_a_repeat_is_known_as_one_by_those_that_dedupe(name: str) -> None:
    notifier = made("http://127.0.0.1:1", name)[0]
    assert notifier.dedupes
    first, second = (json.loads(notifier.alert(message(), T0 + late).body) for late in (0, 60))
    if name == "am":
        for body in (first, second):
            del body[0]["endsAt"]  # how long it holds is counted from the attempt
    assert first == second


@pytest.mark.parametrize("name", NAMES)
def test_no_control_character_and_no_bidirectional_override_leaves_us(name: str) -> None:
    body = json.loads(made("http://127.0.0.1:1", name)[0].alert(message(ALERTS["ids that carry markup"]), T0).body)
    if name == "bus":
        return  # a program gets the ids as they are, as JSON
    text = json.dumps(body, ensure_ascii=False)
    assert "\u202e" not in text
    assert "\\u001b" not in text
    assert "x" * 200 not in body.get("dedup_key", "") if name == "pd" else True


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("script", "verdict", "words"),
    [
        ((500, {}, b"boom"), "retry", "500 Internal Server Error: boom"),
        ((503, {"Retry-After": "7"}, b""), "retry", "503"),
        ((429, {"Retry-After": "7"}, b"slow down"), "retry", "429"),
        ((400, {}, b"invalid_blocks"), "rejected", "invalid_blocks"),
        ((413, {}, b""), "rejected", "413"),
        ((405, {}, b"POST?"), "refused", "405"),
        ((406, {}, b""), "refused", "406"),
        ((401, {}, b"who?"), "refused", "401"),
        ((403, {}, b""), "refused", "403"),
        ((404, {}, b"no_service"), "refused", "no_service"),
        ((302, {"Location": "/elsewhere"}, b""), "refused", "302"),
        ((499, {}, b"\xff\x1b[31m"), "refused", "\\x1b"),
    ],
)
async def test_answers_are_told_apart(service: Service, name: str, script: Any, verdict: str, words: str) -> None:
    service.script = [script]
    answer = await sent(service, name, alert_request(service, name))
    assert answer.verdict == verdict
    assert words in answer.words
    assert "\x1b" not in answer.words
    assert answer.failed == (script[0] >= 500)
    assert answer.retry_after == (7.0 if "Retry-After" in script[1] else None)
    assert len(service.requests) == 1, "a redirect is not followed"


@pytest.mark.parametrize("name", NAMES)
async def test_a_service_that_hangs_or_hangs_up_is_tried_again(service: Service, name: str) -> None:
    service.script = [service.hang, service.disconnect]
    slow = await sent(service, name, alert_request(service, name), timeout_seconds=0.2)
    gone = await sent(service, name, alert_request(service, name))
    assert (slow.verdict, gone.verdict) == ("retry", "retry")
    assert "no answer within 0.2 s" in slow.words


@pytest.mark.parametrize("name", NAMES)
async def test_nobody_there_is_tried_again(service: Service, name: str) -> None:
    request = alert_request(service, name)
    await service.stop()
    answer = await sent(service, name, request)
    assert answer.verdict == "retry"
    await service.start()


@pytest.mark.parametrize("name", NAMES)
async def test_of_an_endless_answer_a_little_is_read(service: Service, name: str) -> None:
    service.script = [service.endless]
    answer = await sent(service, name, alert_request(service, name))
    assert answer.verdict == "retry"
    assert len(answer.words) <= 300
    assert service.written < 64 << 20, "buffers on the way, and not the gigabyte"
    assert MAX_ANSWER_BYTES < 1 << 20


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_secret_that_comes_back_is_not_shown(service: Service, name: str, status: int) -> None:
    echo = f"bad key {KEY} or {SIGNING} at {service.url}/services/T000/B000/{KEY}".encode()
    service.script = [(status, {}, echo)]
    answer = await sent(service, name, alert_request(service, name))
    _, secrets = made(service.url, name)
    for secret in secrets.values():
        assert secret.get_secret_value() not in answer.words


@pytest.mark.parametrize(
    "echo",
    [
        "Cannot POST /services/T000/B000/{key}",
        r'{{"path":"\/services\/T000\/B000\/{key}"}}',
        "%2Fservices%2FT000%2FB000%2F{key}",
        "there is no {key} here",
        "Cannot POST /services/T000/B000/{key}?token=pass%2Fword%7e1+2&a=1",
        "a token of pass/word~1 2 is wrong",
        r"a token of pass\u002fword~1+2 is wrong",
        "a token of PASS%2fWORD~1%202 is wrong",
        "a token of pass&#x2F;word~1+2 is wrong",
    ],
)
async def test_no_part_of_a_secret_address_that_comes_back_is_shown(service: Service, echo: str) -> None:
    notifier, _ = made(service.url, "chat")
    address = SecretStr(f"{service.url}/services/T000/B000/{KEY}?token=pass%2Fword%7E1+2")
    client = Client(notifier, timeout_seconds=5, proxy=None, secrets=[address])
    service.script = [(404, {}, echo.format(key=KEY).encode())]
    words = (await client(alert_request(service, "chat"))).words
    await client.close()
    assert "***" in words
    assert not re.search(f"{KEY}|T000|pass|word", words, re.IGNORECASE), words


def test_of_an_address_no_short_word_is_hidden() -> None:
    text = "no hooks here, a=1"
    assert hidden(text, [SecretStr("https://example.org/hooks/0123456789?a=1")]) == text
    assert hidden(text, [SecretStr("https://example.org/"), SecretStr("abc")]) == text
    assert hidden(text, []) == text


@pytest.mark.parametrize("name", NAMES)
def test_a_request_shows_no_secret(name: str) -> None:
    request = made("http://127.0.0.1:1", name)[0].alert(message(), T0)
    shown = repr(request)
    assert KEY not in shown
    assert SIGNING not in shown


async def test_slack_says_ok_or_it_has_not_taken_it(service: Service) -> None:
    service.script = [(200, {}, b"<html>a proxy's own page</html>")]
    assert (await sent(service, "chat", alert_request(service, "chat"))).verdict != "delivered"


@pytest.mark.parametrize(
    ("name", "body", "verdict"),
    [
        ("pd", b"Invalid routing key", "refused"),
        ("pd", b'{"status":"invalid event","errors":["Length of \'routing_key\' is incorrect"]}', "refused"),
        ("pd", b'{"status":"invalid event","errors":["\'payload.summary\' is missing or blank"]}', "rejected"),
        ("chat", b"no_team", "refused"),
        ("chat", b"invalid_payload", "rejected"),
        ("bus", b"no routing key", "rejected"),
    ],
)
async def test_a_wrong_key_is_no_wrong_message(service: Service, name: str, body: bytes, verdict: str) -> None:
    service.script = [(400, {}, body)]
    assert (await sent(service, name, alert_request(service, name))).verdict == verdict


def test_alertmanager_is_told_of_an_end_that_lies_ahead_while_firing_and_behind_when_over() -> None:
    notifier = made("http://127.0.0.1:1", "am")[0]
    (firing,) = json.loads(notifier.alert(message(), T0).body)
    (over,) = json.loads(notifier.alert(message(made_alert(status="resolved")), T0).body)
    assert firing["endsAt"] == "2026-03-01T00:15:00Z"
    assert over["endsAt"] == "2026-03-01T00:00:00Z"
    assert firing["labels"] == over["labels"]
    assert firing["labels"]["team"] == "llm"
    assert firing["annotations"]["severity"] == "high"
    batch = json.loads(notifier.firing([message(), message(made_alert(key="b"))], T0 + 60).body)
    assert [alert["labels"]["entity"] for alert in batch] == ["key-17", "b"]
    assert batch[0]["endsAt"] == "2026-03-01T00:16:00Z"


def test_pagerduty_triggers_and_resolves_by_the_fingerprint() -> None:
    notifier = made("http://127.0.0.1:1", "pd")[0]
    opened = json.loads(notifier.alert(message(), T0).body)
    over = json.loads(notifier.alert(message(made_alert(status="resolved")), T0).body)
    assert opened["dedup_key"] == over["dedup_key"] == made_alert().fingerprint
    assert (opened["event_action"], over["event_action"]) == ("trigger", "resolve")
    assert opened["payload"]["severity"] == "error"
    details = opened["payload"]["custom_details"]
    assert details["Look"] == f"overdraw explain {made_alert().alert_id}"
    assert details["Block for 2h"] == f"overdraw block --for 2h --why 'alert {made_alert().alert_id}' key-17"
    assert details["Undo"] == f"overdraw unblock --why 'alert {made_alert().alert_id}' key-17"
    assert {link["text"] for link in opened["links"]} == {"Dashboard", "Runbook", "Silence"}


async def test_a_webhooks_signature_can_be_checked(service: Service) -> None:
    await sent(service, "bus", alert_request(service, "bus"))
    request, body = service.requests[0]
    parts = dict(part.split("=", 1) for part in request.headers["Overdraw-Signature"].split(","))
    expected = hmac.new(SIGNING.encode(), parts["t"].encode() + b"." + body, sha256).hexdigest()
    assert hmac.compare_digest(parts["v1"], expected)
    assert int(parts["t"]) == int(T0)
    event = json.loads(body)
    assert event["id"] == f"{made_alert().alert_id}:0"
    assert event["type"] == "overdraw.alert.opened"
    assert event["data"]["excess_tokens"] == 2_100_000


@pytest.mark.parametrize(("name", "header"), [("am", "bearer_token"), ("bus", "bearer_token")])
async def test_a_bearer_token_is_sent_and_never_shown(service: Service, name: str, header: str) -> None:
    from services import config_of, environ_of

    from stream.notify.services import notifier_of

    config = config_of(service.url)
    with_token = config.notifiers[name].model_copy(update={f"{header}_env": "TOKEN"})
    config = config.model_copy(update={"notifiers": {name: with_token}})
    secrets = secrets_of(config, name, environ_of(service.url) | {"TOKEN": "t0k3n-of-somebody"})
    notifier = notifier_of(config, name, secrets)
    client = Client(notifier, timeout_seconds=5, proxy=None, secrets=list(secrets.values()))
    service.script = [(401, {}, b"t0k3n-of-somebody is wrong")]
    answer = await client(notifier.alert(message(), T0))
    await client.close()
    assert service.requests[0][0].headers["Authorization"] == "Bearer t0k3n-of-somebody"
    assert answer.words == "401 Unauthorized: *** is wrong"
