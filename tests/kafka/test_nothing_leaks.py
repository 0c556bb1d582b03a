"""Raw markers in prompts, addresses, headers, ids and secrets of what gateways send: nothing that a real worker writes,
logs, shows or is asked to report holds one of them."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from stream.lab.chaos.topics import records_of
from stream.settings import Settings, load_settings
from tests.kafka.test_intake import make_topics, pour
from tests.kafka.workers import (
    HOUR,
    START,
    Start,
    Worker,
    all_passed,
    applied_to_the_end,
    eventually,
    feed,
    overdraw,
    traffic,
)

PARTITIONS = 2
PSEUDONYM_KEY = "SECRET-marker-of-pseudonyms"
MARKERS = ("PROMPT-marker", "SECRET-marker", "UA-marker", "ID-marker", "203.0.113.77", "198.51.100.200")
PAGES = ("/", "/metrics", "/healthz", "/readyz", "/api/status", "/api/alerts", "/api/keys?top=50", "/api/groups?top=50")
MESSAGES = [{"role": "user", "content": "PROMPT-marker"}]
HEADERS = {"authorization": "Bearer SECRET-marker", "x-forwarded-for": "198.51.100.200", "user-agent": "UA-marker/1"}


def payload(value: bytes) -> dict[str, Any]:
    """What a LiteLLM proxy says of a call, prompts, headers and addresses and all."""
    call = json.loads(value)
    return {
        "id": f"chatcmpl-{call['event_id']}",
        "litellm_call_id": f"call-{call['event_id']}",
        "call_type": "acompletion",
        "status": "success",
        "startTime": call["time"] - 1.0,
        "endTime": call["time"],
        "model": "m-large",
        "metadata": {
            "user_api_key_hash": f"ID-marker-{call['key_id']}",
            "user_api_key_org_id": "ID-marker-org",
            "user_api_key_alias": "SECRET-marker",
            "requester_ip_address": "203.0.113.77",
            "user_agent": "UA-marker/1",
            "requester_metadata": {"headers": HEADERS},
            "prompt_management_metadata": {"prompt_variables": {"name": "PROMPT-marker"}},
        },
        "prompt_tokens": call["input_tokens"],
        "completion_tokens": call["output_tokens"],
        "end_user": "ID-marker-user",
        "messages": MESSAGES,
        "response": {"choices": [{"message": MESSAGES[0]}]},
        "request_tags": ["PROMPT-marker"],
        "model_parameters": {"tools": MESSAGES, "api_key": "sk-SECRET-marker"},
    }


def broken(good: dict[str, Any]) -> list[bytes]:
    """What is refused, for its form, its key, its counts, its length or its time."""
    nobody = {**good["metadata"], "user_api_key_hash": None}
    wrong: list[dict[str, Any]] = [
        {"metadata": nobody}, {"prompt_tokens": -1}, {"endTime": "PROMPT-marker"}, {"model": MESSAGES},
        {"startTime": MESSAGES, "endTime": MESSAGES}, {"end_user": "PROMPT-marker " * 1000}, {"metadata": MESSAGES},
    ]  # fmt: skip
    whole = json.dumps(good).encode()
    return [json.dumps(good | change).encode() for change in wrong] + [whole[:-20], b"PROMPT-marker SECRET-marker"]


RAW = {
    "event_id": "raw", "time": START + 240 * HOUR, "key_id": "key-raw", "client_ip": "203.0.113.77",
    "user_agent": "UA-marker/1", "prompt_fingerprint": "PROMPT-marker", "prompt": "PROMPT-marker",
    "messages": MESSAGES, "headers": HEADERS,
}  # fmt: skip
"""What a gateway writes into the source itself, with more than it should; and the same refused for several reasons."""
REFUSED: list[dict[str, Any]] = [
    {"event_id": {"prompt": "PROMPT-marker"}}, {"time": MESSAGES}, {"org_id": ["PROMPT-marker"]}, {"input_tokens": -1},
    {"user_id": "PROMPT-marker " * 1000}, {"calls": "PROMPT-marker" * 10}, {"client_ip": {"is": "203.0.113.77"}},
]  # fmt: skip


ONE_PARTITION = ("group_evidence_topic", "group_state_topic", "control_topic")


async def written(settings: Settings) -> dict[str, bytes]:
    """All keys, values and headers of our topics but the two that gateways write."""
    names = ("alert_topic", "dead_letter_topic", "state_topic", "group_evidence_topic", "group_state_topic")
    found = {}
    for name in (*names, "control_topic"):
        topic = getattr(settings, name)
        one = settings.model_copy(update={"partitions": 1}) if name in ONE_PARTITION else settings
        records = await records_of(one, topic)
        parts = [bytes(part or b"") for record in records for part in (record.key, record.value)]
        found[name] = b"\n".join([*parts, *(repr(record.headers).encode() for record in records)])
    return found


def shown(worker: Worker, paths: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for path in paths:
        with urlopen(f"{worker.url}{path}", timeout=10) as answer:
            found[path] = answer.read().decode()
    return found


def reported(settings: Settings, alert: dict[str, Any], records: list[bytes], folder: Path) -> dict[str, str]:
    """What people are given: exports, evidence, explanations, bills, states, a look at the topics, a replay's page."""
    calls, page = folder / "records.jsonl", folder / "found.html"
    calls.write_bytes(b"\n".join(records))
    commands: dict[str, list[str]] = {
        **{f"export {form}": ["alerts", "export", "--format", form] for form in ("ocsf", "jsonl", "csv")},
        "evidence": ["evidence", alert["alert_id"], "-o", str(folder / "case")],
        "explain": ["explain", alert["alert_id"]],
        "ledger": ["ledger", "--by", "incident", "--format", "csv"],
        "state": ["state", "dump", "--json"],
        "tail": ["alerts", "tail", "--from-beginning", "--for", "2"],
        "check": ["check", "--live", "--json"],
        "replay": ["replay", str(calls), "--format", "litellm", "--json", "--report", str(page)],
    }
    found = {}
    for name, words in commands.items():
        done = overdraw(settings, *words)
        assert done.returncode in ((0, 1) if name == "check" else (0,)), (name, done.stderr, done.stdout[-500:])
        found[name] = done.stdout + done.stderr
    files = sorted(path for path in (folder / "case").rglob("*") if path.is_file())
    assert len(files) > 4
    assert "<html" in page.read_text("utf-8")
    files.append(page)
    return found | {path.name: path.read_text("utf-8", errors="replace") for path in files}


async def test_no_marker_is_in_topics_pages_metrics_logs_or_reports(
    settings: Settings, start: Start, tmp_path: Path
) -> None:
    secret = tmp_path / "pseudonym.key"
    secret.write_text(PSEUDONYM_KEY)
    changes = {
        "partitions": PARTITIONS, "bucket_seconds": HOUR, "allowed_lateness_seconds": 6 * 3600.0,
        "min_excess_tokens": 1000.0, "flush_seconds": 0.2, "session_timeout_seconds": 6.0, "log_level": "debug",
        "intake_topic": f"{settings.app_id}-raw", "intake_format": "litellm", "pseudonym_key_file": str(secret),
    }  # fmt: skip
    ours = load_settings({**settings.model_dump(exclude={"web_token", "pseudonym_key"}), **changes}, environ={})
    values = [json.dumps(payload(value)).encode() for _, value in traffic(keys=6)]
    bad = broken(payload(traffic()[-1][1]))
    await make_topics(ours, PARTITIONS)
    worker = start(ours)
    await pour(ours, values + bad, PARTITIONS, 0, random.Random(1))
    await all_passed(ours, [worker], PARTITIONS)
    raw = [RAW] + [RAW | {"event_id": f"raw-{number}"} | change for number, change in enumerate(REFUSED)]
    await feed(ours, [("key-raw", json.dumps(record).encode()) for record in raw])
    await applied_to_the_end(ours, [worker])
    alert = await asyncio.to_thread(
        eventually, lambda: next(iter((worker.get("/api/alerts") or {}).get("alerts", ())), None), 60, "an alert"
    )
    assert worker.get("/api/keys/key-raw")["calls"] == 1

    found: dict[str, str] = {name: value.decode("utf-8", "replace") for name, value in (await written(ours)).items()}
    letters = [json.loads(record.value) for record in await records_of(ours, ours.dead_letter_topic)]
    assert len(letters) >= len(REFUSED) + 5, "the rest of the intake's are calls without what was wrong with them"
    found |= shown(worker, (*PAGES, f"/api/keys/{alert['entity']['id']}", "/api/keys/key-raw"))
    found |= await asyncio.to_thread(reported, ours, alert, values + bad, tmp_path)
    assert worker.end()[0] == 0
    found["log"] = worker.said()
    assert all(found[name] for name in ("alert_topic", "dead_letter_topic", "state_topic", "/metrics", "log"))
    leaks = {(name, marker) for name, text in found.items() for marker in MARKERS if marker in text}
    assert leaks == set()
    source = b"".join(bytes(record.value or b"") for record in await records_of(ours, ours.source_topic))
    by_the_intake = source.decode().replace(json.dumps(RAW), "")
    for record in raw:
        by_the_intake = by_the_intake.replace(json.dumps(record), "")
    assert not [marker for marker in MARKERS if marker in by_the_intake]
